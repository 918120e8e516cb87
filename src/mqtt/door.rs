//! What a client may publish and subscribe to, as far as no session need be asked.
//!
//! Owns: the maximum QoS, the limits of levels and bytes of topics, reserved topics, the check of payloads that say they are UTF-8, and the
//! question to the authorizer; whose client it is, for all of them are about what the client says itself.
//! Does not know: how a refusal is told.
//!
//! What becomes of a refused PUBLISH: 5.0 clients get the code in PUBACK or PUBREC. Where there is no such code, in 3.x and
//! with QoS 0, it depends on why ([`is_fatal`]). What a client has no right to is acknowledged as if it had been taken and
//! dropped, which [MQTT-3.3.5-2] of 3.1.1 allows, mosquitto does, and keeps a client with one forbidden topic connected. What
//! is beyond a limit ends the connection: an acknowledgement that means nothing would hide the limit from who
//! meets it. All are counted. A QoS above the maximum always ends it: a 5.0 client was told.

use std::sync::Arc;

use outlive_actors::model::ids::{ClientId, Principal};
use outlive_actors::model::message::{Message, QoS, Will};
use outlive_actors::model::packet::{ProtocolVersion, SubscriptionOptions};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;
use outlive_actors::model::topic::Filter;

use super::config::WireConfig;
use super::properties;
use crate::auth::Authorizer;

/// The checks of one connection.
#[derive(Debug)]
pub(super) struct Door {
    topic_levels_max: u16,
    topic_bytes_max: u16,
    check_payload_format: bool,
    qos_max: QoS,
    /// `None` if all clients are alike: most brokers have no tenants and allow everything.
    client: Option<Box<Client>>,
}

/// What is different from client to client.
#[derive(Debug)]
struct Client {
    /// Whose client it is. What it says is judged without that.
    tenant: Option<Tenant>,
    /// `None` if the authorizer allows everything.
    access: Option<Access>,
}

#[derive(Debug)]
struct Access {
    authorizer: Arc<dyn Authorizer>,
    /// Its own.
    client_id: ClientId,
    principal: Principal,
}

impl Door {
    /// For one client.
    pub(super) fn new(
        config: &WireConfig,
        authorizer: &Arc<dyn Authorizer>,
        client_id: &ClientId,
        principal: &Principal,
    ) -> Self {
        let tenant = Tenant::of(client_id);
        let access = (!authorizer.allows_all()).then(|| Access {
            authorizer: Arc::clone(authorizer),
            client_id: ClientId::from(client_id.own()),
            principal: principal.clone(),
        });
        let is_different = tenant.is_some() || access.is_some();
        Self {
            topic_levels_max: config.topic_levels_max,
            topic_bytes_max: config.topic_bytes_max,
            check_payload_format: config.check_payload_format,
            qos_max: config.qos_max,
            client: is_different.then(|| Box::new(Client { tenant, access })),
        }
    }

    /// Whose client this is; `None` if it is nobody's.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.client.as_ref()?.tenant.as_ref()
    }

    fn access(&self) -> Option<&Access> {
        self.client.as_ref()?.access.as_ref()
    }

    /// Whether a message may be published.
    pub(super) fn publish(&self, message: &Message) -> Result<(), Refusal> {
        if message.qos > self.qos_max {
            return Err(Refusal::QoS);
        }
        if self.check_payload_format && !is_as_indicated(message) {
            return Err(Refusal::PayloadFormat);
        }
        self.topic(message.topic())
    }

    /// Judges the will of a CONNECT as a message that is published now. One on a topic that belongs to the broker is taken
    /// out, and `true` says so: nothing is refused but what would be published.
    pub(super) fn will(&self, will: &mut Option<Box<Will>>) -> Result<bool, Refusal> {
        let judged = will.as_ref().map(|will| self.publish(&will.message));
        match judged.unwrap_or(Ok(())) {
            Err(Refusal::TopicName) => {
                *will = None;
                Ok(true)
            }
            judged => judged.map(|()| false),
        }
    }

    fn topic(&self, topic: &str) -> Result<(), Refusal> {
        let topic = self.own(topic);
        if is_reserved(topic) {
            return Err(Refusal::TopicName);
        }
        if self.is_too_long(topic.len()) || self.is_too_deep(topic) {
            return Err(Refusal::TopicLevels);
        }
        match self.access() {
            Some(access)
                if !access
                    .authorizer
                    .may_publish(&access.client_id, &access.principal, topic) =>
            {
                Err(Refusal::NotAuthorized)
            }
            _ => Ok(()),
        }
    }

    /// Marks the filters that are refused, and lowers what is asked for to what is granted; returns how many are refused.
    pub(super) fn subscribe(
        &self,
        filters: &mut [(Filter, SubscriptionOptions, Option<Refusal>)],
    ) -> usize {
        let mut refused = 0;
        for (filter, options, refusal) in filters {
            options.qos = options.qos.min(self.qos_max);
            *refusal = self.filter(filter);
            refused += usize::from(refusal.is_some());
        }
        refused
    }

    fn filter(&self, filter: &Filter) -> Option<Refusal> {
        // Members of a group need the right to what they share, and the depth is that of what they share.
        let shared = filter.share();
        let group_bytes = shared.as_ref().map_or(0, |(name, _)| name.len());
        let filter = self.own(shared.as_ref().map_or(filter, |(_, plain)| plain).as_str());
        if self.is_too_long(group_bytes + filter.len()) || self.is_too_deep(filter) {
            return Some(Refusal::TopicFilter);
        }
        match self.access() {
            Some(access)
                if !access.authorizer.may_subscribe(
                    &access.client_id,
                    &access.principal,
                    filter,
                ) =>
            {
                Some(Refusal::NotAuthorized)
            }
            _ => None,
        }
    }

    /// A topic or filter as the client said it.
    fn own<'a>(&self, known: &'a str) -> &'a str {
        match self.tenant() {
            Some(tenant) => &known[tenant.prefix_bytes(known.as_bytes())..],
            None => known,
        }
    }

    fn is_too_long(&self, bytes: usize) -> bool {
        bytes > usize::from(self.topic_bytes_max)
    }

    fn is_too_deep(&self, text: &str) -> bool {
        let max = usize::from(self.topic_levels_max);
        // A text of n bytes has at most n + 1 levels, so most need no counting.
        text.len() >= max && text.bytes().filter(|byte| *byte == b'/').count() >= max
    }
}

/// Whether the payload is UTF-8, if the payload format indicator says so (5.0 section 3.3.2.3.2).
fn is_as_indicated(message: &Message) -> bool {
    let mut is_text = false;
    let walked = properties::walk(message.properties(), |property| {
        is_text |= property.id == properties::PAYLOAD_FORMAT && property.value == [1];
        Ok(())
    });
    walked.is_ok() && (!is_text || std::str::from_utf8(message.payload()).is_ok())
}

/// Whether a PUBLISH that is refused so ends the connection of its author.
pub(super) fn is_fatal(refusal: Refusal, version: ProtocolVersion, qos: QoS) -> bool {
    let is_told = version == ProtocolVersion::V5 && qos > QoS::AtMostOnce;
    refusal == Refusal::QoS || (refusal == Refusal::TopicLevels && !is_told)
}

/// Topics that belong to the broker. Other topics that begin with `$` are the applications' own.
fn is_reserved(topic: &str) -> bool {
    let Some(topic) = topic.strip_prefix('$') else {
        return false;
    };
    let first = topic.split('/').next();
    first == Some("share") || (first == Some("SYS") && !is_bridge_state(topic))
}

/// `$SYS/broker/connection/NAME/state`, without the `$`: where a bridge says whether it is there. Bridges of mosquitto have
/// their will on it unless they are told otherwise.
fn is_bridge_state(topic: &str) -> bool {
    topic
        .strip_prefix("SYS/broker/connection/")
        .and_then(|rest| rest.strip_suffix("/state"))
        .is_some_and(|name| !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use outlive_actors::model::ids::{SessionNumber, Timestamp};
    use outlive_actors::model::message::MessageParts;

    use super::*;
    use crate::auth::Anonymous;

    #[derive(Debug)]
    struct OnlyOwn;

    impl Authorizer for OnlyOwn {
        fn may_publish(&self, client_id: &ClientId, _: &Principal, topic: &str) -> bool {
            topic.starts_with(client_id.as_str())
        }

        fn may_subscribe(&self, client_id: &ClientId, _: &Principal, filter: &str) -> bool {
            filter.starts_with(client_id.as_str())
        }
    }

    fn door(authorizer: &Arc<dyn Authorizer>) -> Door {
        door_for(&ClientId::from("me"), authorizer)
    }

    fn door_for(client_id: &ClientId, authorizer: &Arc<dyn Authorizer>) -> Door {
        let config = WireConfig {
            topic_levels_max: 3,
            check_payload_format: true,
            ..WireConfig::default()
        };
        Door::new(&config, authorizer, client_id, &Principal::anonymous())
    }

    #[test]
    fn topics_of_the_broker_and_topics_too_deep_are_refused() {
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let door = door(&anonymous);
        assert_eq!(door.topic("a/b/c"), Ok(()));
        assert_eq!(door.topic("a/b/c/d"), Err(Refusal::TopicLevels));
        assert_eq!(door.topic("///"), Err(Refusal::TopicLevels));
        for reserved in ["$SYS", "$SYS/a", "$SYS/a/b/c/d", "$share", "$share/a"] {
            assert_eq!(door.topic(reserved), Err(Refusal::TopicName));
        }
        for own in ["$own/a", "$SYSTEM", "$shared/a", "SYS/a"] {
            assert_eq!(door.topic(own), Ok(()), "{own}");
        }
    }

    #[test]
    fn a_bridge_says_on_a_topic_of_the_broker_whether_it_is_there() {
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let mut door = door(&anonymous);
        door.topic_levels_max = 9;
        for (topic, allowed) in [
            ("$SYS/broker/connection/host.bridge/state", true),
            ("$SYS/broker/connection//state", true),
            ("$SYS/broker/connection/a/b/state", false),
            ("$SYS/broker/connection/state", false),
            ("$SYS/broker/connection/a/state/b", false),
            ("$SYS/broker/connection/a/states", false),
            ("$SYS/broker/connections/a/state", false),
            ("$SYS/broker/uptime", false),
        ] {
            let expected = allowed.then_some(()).ok_or(Refusal::TopicName);
            assert_eq!(door.topic(topic), expected, "{topic}");
        }
        let own: Arc<dyn Authorizer> = Arc::new(OnlyOwn);
        let topic = "$SYS/broker/connection/a/state";
        let judged = Door {
            topic_levels_max: 9,
            ..door_for(&ClientId::from("me"), &own)
        };
        assert_eq!(judged.topic(topic), Err(Refusal::NotAuthorized));
    }

    #[test]
    fn what_is_beyond_a_limit_is_never_acknowledged() {
        use ProtocolVersion::{V5, V31, V311};
        for version in [V31, V311, V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let told = version == V5 && qos > QoS::AtMostOnce;
                assert_eq!(is_fatal(Refusal::TopicLevels, version, qos), !told);
                assert!(is_fatal(Refusal::QoS, version, qos));
                for right in [Refusal::TopicName, Refusal::NotAuthorized] {
                    assert!(!is_fatal(right, version, qos));
                }
            }
        }
    }

    #[test]
    fn topics_and_filters_have_a_limit_in_bytes_which_the_tenant_does_not_count_for() {
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let tenant = Tenant::new("a-name-longer-than-the-limit").unwrap();
        let config = WireConfig {
            topic_bytes_max: 10,
            ..WireConfig::default()
        };
        let door_for = |id: &ClientId| Door::new(&config, &anonymous, id, &Principal::anonymous());
        let (of_nobody, of_tenant) = (
            door_for(&ClientId::from("c")),
            door_for(&tenant.client_id("c")),
        );
        for (text, fits) in [
            ("0123456789", true),
            ("01234567890", false),
            ("é2é4é6é", false),
        ] {
            let known = format!("{}{text}", tenant.prefix_of(text));
            let expected = fits.then_some(()).ok_or(Refusal::TopicLevels);
            assert_eq!(of_nobody.topic(text), expected, "{text}");
            assert_eq!(of_tenant.topic(&known), expected, "{text}");
            let refused = (!fits).then_some(Refusal::TopicFilter);
            let filter = Filter::new(text).unwrap();
            assert_eq!(of_nobody.filter(&filter), refused, "{text}");
            assert_eq!(of_tenant.filter(&tenant.filter(&filter)), refused, "{text}");
        }
        // The name of a group takes as much memory.
        let named = |name: &str| Filter::new(&format!("$share/{name}/45678")).unwrap();
        assert_eq!(of_nobody.filter(&named("01234")), None);
        assert_eq!(
            of_nobody.filter(&named("012345")),
            Some(Refusal::TopicFilter)
        );
    }

    fn message(properties: &[u8], payload: &[u8]) -> Message {
        Message::new(MessageParts {
            topic: "a",
            payload,
            properties,
            qos: QoS::AtLeastOnce,
            retain: false,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: SessionNumber(0),
        })
    }

    #[test]
    fn a_payload_that_says_it_is_text_and_is_not_is_refused_if_that_is_checked() {
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let checking = door(&anonymous);
        for (properties, payload, allowed) in [
            (&b"\x26\x00\x01k\x00\x01v\x01\x01"[..], &b"\xff"[..], false),
            (b"\x01\x01", b"text", true),
            (b"\x01\x01", b"", true),
            (b"\x01\x00", b"\xff", true),
            (b"", b"\xff", true),
        ] {
            let message = message(properties, payload);
            let expected = allowed.then_some(()).ok_or(Refusal::PayloadFormat);
            assert_eq!(checking.publish(&message), expected, "{properties:?}");
            let trusting = Door {
                check_payload_format: false,
                ..door(&anonymous)
            };
            assert_eq!(trusting.publish(&message), Ok(()));
        }
    }

    #[test]
    fn each_filter_gets_its_own_answer() {
        let own: Arc<dyn Authorizer> = Arc::new(OnlyOwn);
        let mut filters = [
            "me/#",
            "you/#",
            "$share/g/me/a/b",
            "$share/g/you",
            "me/a/b/c",
            "$share/g/me/a/b/c",
        ]
        .map(|text| {
            let options = SubscriptionOptions::of_qos(QoS::AtLeastOnce);
            (Filter::new(text).unwrap(), options, None)
        })
        .to_vec();
        assert_eq!(door(&own).subscribe(&mut filters), 4);
        let refusals: Vec<_> = filters.into_iter().map(|(_, _, refusal)| refusal).collect();
        assert_eq!(
            refusals,
            [
                None,
                Some(Refusal::NotAuthorized),
                None,
                Some(Refusal::NotAuthorized),
                Some(Refusal::TopicFilter),
                Some(Refusal::TopicFilter),
            ]
        );
        assert_eq!(door(&own).topic("you/a"), Err(Refusal::NotAuthorized));
    }

    #[test]
    fn what_a_client_of_a_tenant_says_is_judged_as_it_says_it() {
        let own: Arc<dyn Authorizer> = Arc::new(OnlyOwn);
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let tenant = Tenant::new("t").unwrap();
        let of_tenant = |authorizer| door_for(&tenant.client_id("me"), authorizer);
        for topic in [
            "me/a",
            "me/a/b",
            "me/a/b/c",
            "you/a",
            "t/me",
            "$SYS/a",
            "$share/a",
            "$own/a",
            "$SYS/broker/connection/a/state",
        ] {
            let known = format!("{}{topic}", tenant.prefix_of(topic));
            for authorizer in [&own, &anonymous] {
                let expected = door(authorizer).topic(topic);
                assert_eq!(of_tenant(authorizer).topic(&known), expected, "{topic}");
            }
        }
        for filter in [
            "me/#",
            "me/a/b/c",
            "you/+",
            "$share/g/me/a/+",
            "$share/me/you",
        ] {
            let filter = Filter::new(filter).unwrap();
            let known = tenant.filter(&filter);
            for authorizer in [&own, &anonymous] {
                let expected = door(authorizer).filter(&filter);
                assert_eq!(of_tenant(authorizer).filter(&known), expected, "{filter}");
            }
        }
    }
}
