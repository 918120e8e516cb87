//! The only table from [`Refusal`] to reason codes of MQTT 5.0 and return codes of 3.x.

use outlive_actors::model::packet::Routed;
use outlive_actors::model::refusal::Refusal;

/// Success in every packet of every version.
pub(super) const SUCCESS: u8 = 0x00;
/// PUBACK and PUBREC of 5.0: the message was taken, nobody subscribes to it.
pub(super) const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
/// UNSUBACK of 5.0: there was no such subscription.
pub(super) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
/// PUBREL and PUBCOMP of 5.0: the packet identifier is not in use.
pub(super) const PACKET_ID_NOT_FOUND: u8 = 0x92;
/// SUBACK of 3.1.1: no subscription. MQTT 3.1 has no such code; see [`super::encode`].
pub(super) const SUBACK_FAILURE_V311: u8 = 0x80;

/// The reason code of a CONNACK of 5.0 (section 3.2.2.2).
pub(super) fn connack_v5(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Malformed => 0x81,
        Refusal::Protocol
        | Refusal::PacketIdInUse
        | Refusal::WrongAck
        | Refusal::ReceiveMax
        | Refusal::TopicAlias
        | Refusal::TopicFilter
        | Refusal::KeepAlive => 0x82,
        Refusal::Version => 0x84,
        Refusal::ClientId => 0x85,
        Refusal::Credentials => 0x86,
        Refusal::NotAuthorized | Refusal::NoTenant | Refusal::GroupNotDeclared => 0x87,
        Refusal::JournalUnavailable | Refusal::TakenOver | Refusal::ShuttingDown => 0x88,
        Refusal::Busy | Refusal::NotReading => 0x89,
        Refusal::Administrative => 0x8A,
        Refusal::AuthMethod => 0x8C,
        Refusal::TopicName | Refusal::TopicLevels => 0x90,
        Refusal::PacketTooLarge => 0x95,
        Refusal::SessionQuota
        | Refusal::PrincipalQuota
        | Refusal::ListenerQuota
        | Refusal::TakeoverRate
        | Refusal::SubscriptionQuota
        | Refusal::SharedQuota
        | Refusal::TenantGroupQuota
        | Refusal::RetainedQuota
        | Refusal::TenantRetainedQuota => 0x97,
        Refusal::ConnectRate | Refusal::TenantConnectRate => 0x9F,
        Refusal::PayloadFormat => 0x99,
        Refusal::QoS => 0x9B,
        Refusal::Internal => 0x80,
    }
}

/// The return code of a CONNACK of 3.1 and 3.1.1 (section 3.2.2.3); `None`: the connection closes without an answer,
/// as these versions demand after malformed packets.
pub(super) fn connack_v3(refusal: Refusal) -> Option<u8> {
    match refusal {
        Refusal::Version => Some(0x01),
        Refusal::ClientId => Some(0x02),
        Refusal::SessionQuota
        | Refusal::PrincipalQuota
        | Refusal::ListenerQuota
        | Refusal::ConnectRate
        | Refusal::TenantConnectRate
        | Refusal::TakeoverRate
        | Refusal::SubscriptionQuota
        | Refusal::SharedQuota
        | Refusal::TenantGroupQuota
        | Refusal::RetainedQuota
        | Refusal::TenantRetainedQuota
        | Refusal::JournalUnavailable
        | Refusal::ShuttingDown
        | Refusal::TakenOver
        | Refusal::Busy
        | Refusal::Internal => Some(0x03),
        Refusal::Credentials => Some(0x04),
        Refusal::NotAuthorized
        | Refusal::NoTenant
        | Refusal::GroupNotDeclared
        | Refusal::AuthMethod
        | Refusal::Administrative => Some(0x05),
        Refusal::Malformed
        | Refusal::Protocol
        | Refusal::PayloadFormat
        | Refusal::QoS
        | Refusal::PacketIdInUse
        | Refusal::WrongAck
        | Refusal::ReceiveMax
        | Refusal::PacketTooLarge
        | Refusal::TopicAlias
        | Refusal::TopicName
        | Refusal::TopicLevels
        | Refusal::TopicFilter
        | Refusal::KeepAlive
        | Refusal::NotReading => None,
    }
}

/// The reason code of a DISCONNECT of 5.0 (section 3.14.2.1).
pub(super) fn disconnect_v5(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Malformed => 0x81,
        Refusal::Protocol
        | Refusal::Version
        | Refusal::ClientId
        | Refusal::PacketIdInUse
        | Refusal::WrongAck => 0x82,
        Refusal::Credentials
        | Refusal::NotAuthorized
        | Refusal::NoTenant
        | Refusal::GroupNotDeclared => 0x87,
        Refusal::Busy | Refusal::NotReading => 0x89,
        Refusal::ShuttingDown => 0x8B,
        Refusal::AuthMethod => 0x8C,
        Refusal::KeepAlive => 0x8D,
        Refusal::TakenOver => 0x8E,
        Refusal::TopicFilter => 0x8F,
        Refusal::TopicName | Refusal::TopicLevels => 0x90,
        Refusal::ReceiveMax => 0x93,
        Refusal::TopicAlias => 0x94,
        Refusal::PacketTooLarge => 0x95,
        Refusal::SessionQuota
        | Refusal::PrincipalQuota
        | Refusal::ListenerQuota
        | Refusal::TakeoverRate
        | Refusal::SubscriptionQuota
        | Refusal::SharedQuota
        | Refusal::TenantGroupQuota
        | Refusal::RetainedQuota
        | Refusal::TenantRetainedQuota
        | Refusal::JournalUnavailable => 0x97,
        Refusal::ConnectRate | Refusal::TenantConnectRate => 0x9F,
        Refusal::Administrative => 0x98,
        Refusal::PayloadFormat => 0x99,
        Refusal::QoS => 0x9B,
        Refusal::Internal => 0x80,
    }
}

/// The reason code in a SUBACK of 5.0 (section 3.9.3).
pub(super) fn suback_v5(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Credentials
        | Refusal::NotAuthorized
        | Refusal::NoTenant
        | Refusal::GroupNotDeclared
        | Refusal::Administrative => 0x87,
        Refusal::TopicName | Refusal::TopicLevels | Refusal::TopicFilter => 0x8F,
        Refusal::SessionQuota
        | Refusal::PrincipalQuota
        | Refusal::ListenerQuota
        | Refusal::ConnectRate
        | Refusal::TenantConnectRate
        | Refusal::TakeoverRate
        | Refusal::SubscriptionQuota
        | Refusal::SharedQuota
        | Refusal::TenantGroupQuota
        | Refusal::RetainedQuota
        | Refusal::TenantRetainedQuota
        | Refusal::JournalUnavailable => 0x97,
        Refusal::PacketIdInUse => 0x91,
        Refusal::Malformed
        | Refusal::PayloadFormat
        | Refusal::QoS
        | Refusal::Protocol
        | Refusal::WrongAck
        | Refusal::Version
        | Refusal::ClientId
        | Refusal::AuthMethod
        | Refusal::ReceiveMax
        | Refusal::PacketTooLarge
        | Refusal::TopicAlias
        | Refusal::TakenOver
        | Refusal::KeepAlive
        | Refusal::NotReading
        | Refusal::ShuttingDown
        | Refusal::Busy
        | Refusal::Internal => 0x80,
    }
}

/// The reason code in a PUBACK or PUBREC of 5.0 (sections 3.4.2.1 and 3.5.2.1).
pub(super) fn puback_v5(result: Result<Routed, Refusal>) -> u8 {
    match result {
        Ok(Routed::Matched | Routed::NotRetained(_)) => SUCCESS,
        Ok(Routed::NoSubscribers) => NO_MATCHING_SUBSCRIBERS,
        Err(
            Refusal::Credentials
            | Refusal::NotAuthorized
            | Refusal::NoTenant
            | Refusal::GroupNotDeclared
            | Refusal::Administrative,
        ) => 0x87,
        Err(
            Refusal::TopicName | Refusal::TopicLevels | Refusal::TopicFilter | Refusal::TopicAlias,
        ) => 0x90,
        Err(Refusal::PacketIdInUse) => 0x91,
        Err(Refusal::PayloadFormat) => 0x99,
        Err(
            Refusal::SessionQuota
            | Refusal::PrincipalQuota
            | Refusal::ListenerQuota
            | Refusal::ConnectRate
            | Refusal::TenantConnectRate
            | Refusal::TakeoverRate
            | Refusal::SubscriptionQuota
            | Refusal::SharedQuota
            | Refusal::TenantGroupQuota
            | Refusal::RetainedQuota
            | Refusal::TenantRetainedQuota
            | Refusal::JournalUnavailable
            | Refusal::ReceiveMax
            | Refusal::Busy,
        ) => 0x97,
        Err(
            Refusal::Malformed
            | Refusal::QoS
            | Refusal::Protocol
            | Refusal::WrongAck
            | Refusal::Version
            | Refusal::ClientId
            | Refusal::AuthMethod
            | Refusal::PacketTooLarge
            | Refusal::TakenOver
            | Refusal::KeepAlive
            | Refusal::NotReading
            | Refusal::ShuttingDown
            | Refusal::Internal,
        ) => 0x80,
    }
}

#[cfg(test)]
mod tests {
    use ntex_mqtt::v5::codec::{
        ConnectAckReason, DisconnectReasonCode, PublishAckReason, SubscribeAckReason,
    };

    use super::*;
    use crate::mqtt::counters::REFUSALS;

    #[test]
    fn every_code_is_one_that_its_packet_allows() {
        // 5.0: [MQTT-3.1.3-8] [MQTT-3.2.2-8] [MQTT-3.14.2-1]
        // 5.0: [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.9.3-2].
        for refusal in REFUSALS {
            assert!(
                ConnectAckReason::try_from(connack_v5(refusal)).is_ok(),
                "CONNACK {refusal:?}"
            );
            assert!(
                DisconnectReasonCode::try_from(disconnect_v5(refusal)).is_ok(),
                "DISCONNECT {refusal:?}"
            );
            assert!(
                SubscribeAckReason::try_from(suback_v5(refusal)).is_ok(),
                "SUBACK {refusal:?}"
            );
            assert!(
                PublishAckReason::try_from(puback_v5(Err(refusal))).is_ok(),
                "PUBACK {refusal:?}"
            );
            assert!(connack_v3(refusal).is_none_or(|code| (1..=5).contains(&code)));
        }
    }

    #[test]
    fn the_codes_that_operators_look_for_stay_what_they_are() {
        assert_eq!(connack_v5(Refusal::SessionQuota), 0x97);
        assert_eq!(connack_v3(Refusal::SessionQuota), Some(3));
        for refusal in [
            Refusal::PrincipalQuota,
            Refusal::ListenerQuota,
            Refusal::TakeoverRate,
        ] {
            assert_eq!((connack_v5(refusal), connack_v3(refusal)), (0x97, Some(3)));
        }
        for refusal in [Refusal::ConnectRate, Refusal::TenantConnectRate] {
            assert_eq!((connack_v5(refusal), connack_v3(refusal)), (0x9F, Some(3)));
        }
        assert_eq!(connack_v5(Refusal::NotAuthorized), 0x87);
        assert_eq!(connack_v3(Refusal::NotAuthorized), Some(5));
        assert_eq!(connack_v5(Refusal::NoTenant), 0x87);
        assert_eq!(connack_v3(Refusal::NoTenant), Some(5));
        assert_eq!(connack_v3(Refusal::Credentials), Some(4));
        assert_eq!(disconnect_v5(Refusal::TakenOver), 0x8E);
        assert_eq!(disconnect_v5(Refusal::KeepAlive), 0x8D);
        assert_eq!(disconnect_v5(Refusal::WrongAck), 0x82);
        assert_eq!(disconnect_v5(Refusal::JournalUnavailable), 0x97);
        assert_eq!(suback_v5(Refusal::SharedQuota), 0x97);
        assert_eq!(suback_v5(Refusal::TenantGroupQuota), 0x97);
        let not_retained = Routed::NotRetained(Refusal::TenantRetainedQuota);
        assert_eq!(puback_v5(Ok(not_retained)), 0x00, "it is delivered");
        assert_eq!(suback_v5(Refusal::SubscriptionQuota), 0x97);
        assert_eq!(puback_v5(Ok(Routed::NoSubscribers)), 0x10);
        assert_eq!(puback_v5(Err(Refusal::JournalUnavailable)), 0x97);
    }
}
