//! What the wire shows.

use std::sync::Arc;

use outlive_actors::actor::protocol::Intake;
use outlive_actors::model::refusal::Refusal;

use super::super::metrics::{MetricsSource, Sample};
use super::number;
use crate::mqtt::{REFUSALS, WireCounter, WireCounters, WireObservation};

/// The wire: connections, packets, refusals.
#[derive(Debug)]
pub struct WireMetrics {
    counters: Arc<WireCounters>,
    intake: Arc<Intake>,
}

impl WireMetrics {
    /// What `counters` count, and what is under way in `intake`.
    pub fn new(counters: Arc<WireCounters>, intake: Arc<Intake>) -> Self {
        Self { counters, intake }
    }
}

impl MetricsSource for WireMetrics {
    fn collect(&self) -> Vec<Sample> {
        let seen: WireObservation = self.counters.observe();
        let mut samples = vec![
            Sample::gauge(
                "outlive_connections",
                "Connections that hold a session.",
                &[],
                number(seen.open()),
            ),
            Sample::gauge(
                "outlive_inbound_bytes",
                "Memory of packets of clients that were read and not dealt with; at mqtt.inbound_bytes_max no more are read.",
                &[],
                number(self.intake.bytes()),
            ),
        ];
        for counter in WireCounter::ALL {
            let (name, help) = wire_series(*counter);
            samples.push(Sample::counter(name, help, &[], number(seen.get(*counter))));
        }
        for refusal in REFUSALS {
            let labels = reason_labels(refusal);
            samples.push(Sample::counter(
                "outlive_connections_refused_total",
                "Connections refused before CONNACK, by reason.",
                labels,
                number(seen.refused(refusal)),
            ));
            samples.push(Sample::counter(
                "outlive_connections_ended_total",
                "Open connections that the broker ended, by reason.",
                labels,
                number(seen.ended(refusal)),
            ));
        }
        samples
    }
}

/// Name and help of what the wire counts.
#[expect(clippy::too_many_lines, reason = "one table")]
fn wire_series(counter: WireCounter) -> (&'static str, &'static str) {
    match counter {
        WireCounter::Accepted => ("outlive_connections_accepted_total", "Sockets accepted."),
        WireCounter::AcceptErrors => (
            "outlive_accept_errors_total",
            "`accept` failed, for example for want of file descriptors.",
        ),
        WireCounter::AcceptRefused => (
            "outlive_accept_refused_total",
            "Closed at accept: `unauthenticated_max` was reached.",
        ),
        WireCounter::ConnectMissing => (
            "outlive_connect_missing_total",
            "Closed before a whole CONNECT had come, by the client or by the connect timeout.",
        ),
        WireCounter::ConnectTimeouts => (
            "outlive_connect_timeouts_total",
            "The connect timeout passed.",
        ),
        WireCounter::Opened => (
            "outlive_connections_opened_total",
            "Connections that got a CONNACK with success.",
        ),
        WireCounter::Closed => (
            "outlive_connections_closed_total",
            "Connections that had been opened and ended, however they ended.",
        ),
        WireCounter::ClosedByClient => (
            "outlive_connections_closed_by_client_total",
            "Ended by a DISCONNECT of the client.",
        ),
        WireCounter::ClosedAbruptly => (
            "outlive_connections_closed_abruptly_total",
            "Ended without a DISCONNECT: end of stream or socket error.",
        ),
        WireCounter::BytesIn => ("outlive_bytes_in_total", "Bytes read."),
        WireCounter::BytesOut => ("outlive_bytes_out_total", "Bytes written."),
        WireCounter::PacketsIn => ("outlive_packets_in_total", "Packets read."),
        WireCounter::InboundWaits => (
            "outlive_inbound_waits_total",
            "How often a client was not read because packets of all clients under way took mqtt.inbound_bytes_max.",
        ),
        WireCounter::PacketsOut => ("outlive_packets_out_total", "Packets encoded for clients."),
        WireCounter::PublishesOut => (
            "outlive_publishes_out_total",
            "PUBLISH packets encoded for clients.",
        ),
        WireCounter::PublishesRefused => (
            "outlive_publishes_refused_total",
            "PUBLISH packets refused at the door: QoS above the maximum, topic reserved, too deep or not authorized, payload not UTF-8 though it says so.",
        ),
        WireCounter::WillsRefused => (
            "outlive_wills_refused_total",
            "Wills on topics of the broker: their clients were let in, they are not published.",
        ),
        WireCounter::FiltersRefused => (
            "outlive_filters_refused_total",
            "Filters refused at the door: too deep or not authorized.",
        ),
        WireCounter::DroppedSlowReader => (
            "outlive_deliveries_dropped_slow_reader_total",
            "QoS 0 deliveries dropped because their client does not read fast enough.",
        ),
        WireCounter::AnswersOversized => (
            "outlive_answers_oversized_total",
            "Acknowledgements not sent because they exceed their client's maximum packet size.",
        ),
        WireCounter::DroppedOversized => (
            "outlive_deliveries_dropped_oversized_total",
            "Deliveries dropped because they exceed their client's maximum packet size.",
        ),
    }
}

fn reason_labels(refusal: Refusal) -> crate::admin::Labels {
    match refusal {
        Refusal::Malformed => &[("reason", "malformed")],
        Refusal::Protocol => &[("reason", "protocol")],
        Refusal::Version => &[("reason", "version")],
        Refusal::ClientId => &[("reason", "client_id")],
        Refusal::Credentials => &[("reason", "credentials")],
        Refusal::NotAuthorized => &[("reason", "not_authorized")],
        Refusal::NoTenant => &[("reason", "no_tenant")],
        Refusal::AuthMethod => &[("reason", "auth_method")],
        Refusal::SessionQuota => &[("reason", "session_quota")],
        Refusal::PrincipalQuota => &[("reason", "principal_quota")],
        Refusal::ListenerQuota => &[("reason", "listener_quota")],
        Refusal::ConnectRate => &[("reason", "connect_rate")],
        Refusal::TenantConnectRate => &[("reason", "tenant_connect_rate")],
        Refusal::TakeoverRate => &[("reason", "takeover_rate")],
        Refusal::SubscriptionQuota => &[("reason", "subscription_quota")],
        Refusal::RetainedQuota => &[("reason", "retained_quota")],
        Refusal::TenantRetainedQuota => &[("reason", "tenant_retained_quota")],
        Refusal::JournalUnavailable => &[("reason", "journal_unavailable")],
        Refusal::PayloadFormat => &[("reason", "payload_format")],
        Refusal::QoS => &[("reason", "qos")],
        Refusal::PacketIdInUse => &[("reason", "packet_id_in_use")],
        Refusal::WrongAck => &[("reason", "wrong_ack")],
        Refusal::ReceiveMax => &[("reason", "receive_max")],
        Refusal::PacketTooLarge => &[("reason", "packet_too_large")],
        Refusal::TopicAlias => &[("reason", "topic_alias")],
        Refusal::TopicName => &[("reason", "topic_name")],
        Refusal::TopicLevels => &[("reason", "topic_levels")],
        Refusal::TopicFilter => &[("reason", "topic_filter")],
        Refusal::SharedQuota => &[("reason", "shared_quota")],
        Refusal::TenantGroupQuota => &[("reason", "tenant_group_quota")],
        Refusal::GroupNotDeclared => &[("reason", "group_not_declared")],
        Refusal::TakenOver => &[("reason", "taken_over")],
        Refusal::KeepAlive => &[("reason", "keep_alive")],
        Refusal::NotReading => &[("reason", "not_reading")],
        Refusal::ShuttingDown => &[("reason", "shutting_down")],
        Refusal::Busy => &[("reason", "busy")],
        Refusal::Administrative => &[("reason", "administrative")],
        Refusal::Internal => &[("reason", "internal")],
    }
}
