//! What a client may publish and subscribe to, as far as no session need be asked.
//!
//! Owns: the topic level limit, reserved topics, shared subscriptions (not offered), and the question to the authorizer.
//! Does not know: how a refusal is told.
//!
//! What becomes of a refused PUBLISH: 5.0 clients get the code in PUBACK or PUBREC. 3.x has no code for it, and
//! [MQTT-3.3.5-2] leaves an acknowledgement as if it had been taken, which is what mosquitto does and what keeps a client
//! with one forbidden topic connected. With QoS 0 there is nothing to answer in any version. All are counted.

use std::sync::Arc;

use outlive_actors::model::ids::{ClientId, Principal};
use outlive_actors::model::packet::SubscriptionOptions;
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::Filter;

use crate::auth::Authorizer;

/// The checks of one connection.
#[derive(Debug)]
pub(super) struct Door {
    topic_levels_max: usize,
    /// `None` if the authorizer allows everything.
    access: Option<Box<Access>>,
}

#[derive(Debug)]
struct Access {
    authorizer: Arc<dyn Authorizer>,
    client_id: ClientId,
    principal: Principal,
}

impl Door {
    /// For one client.
    pub(super) fn new(
        topic_levels_max: u16,
        authorizer: &Arc<dyn Authorizer>,
        client_id: &ClientId,
        principal: &Principal,
    ) -> Self {
        let access = (!authorizer.allows_all()).then(|| {
            Box::new(Access {
                authorizer: Arc::clone(authorizer),
                client_id: client_id.clone(),
                principal: principal.clone(),
            })
        });
        Self {
            topic_levels_max: usize::from(topic_levels_max),
            access,
        }
    }

    /// Whether a message may be published to `topic`.
    pub(super) fn publish(&self, topic: &str) -> Result<(), Refusal> {
        if is_reserved(topic) || self.is_too_deep(topic) {
            return Err(Refusal::TopicName);
        }
        match &self.access {
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

    /// Marks the filters that are refused; returns how many.
    pub(super) fn subscribe(
        &self,
        filters: &mut [(Filter, SubscriptionOptions, Option<Refusal>)],
    ) -> usize {
        let mut refused = 0;
        for (filter, _, refusal) in filters {
            *refusal = self.filter(filter);
            refused += usize::from(refusal.is_some());
        }
        refused
    }

    fn filter(&self, filter: &Filter) -> Option<Refusal> {
        if filter.is_shared() {
            return Some(Refusal::SharedSubscriptions);
        }
        if self.is_too_deep(filter.as_str()) {
            return Some(Refusal::TopicFilter);
        }
        match &self.access {
            Some(access)
                if !access.authorizer.may_subscribe(
                    &access.client_id,
                    &access.principal,
                    filter.as_str(),
                ) =>
            {
                Some(Refusal::NotAuthorized)
            }
            _ => None,
        }
    }

    fn is_too_deep(&self, text: &str) -> bool {
        // A text of n bytes has at most n + 1 levels, so most need no counting.
        text.len() >= self.topic_levels_max
            && text.bytes().filter(|byte| *byte == b'/').count() >= self.topic_levels_max
    }
}

/// Topics that belong to the broker. Other topics that begin with `$` are the applications' own.
fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$') && (topic.starts_with("$SYS/") || topic.starts_with("$share/"))
}

#[cfg(test)]
mod tests {
    use outlive_actors::model::message::QoS;

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
        Door::new(
            3,
            authorizer,
            &ClientId::from("me"),
            &Principal::anonymous(),
        )
    }

    #[test]
    fn topics_of_the_broker_and_topics_too_deep_are_refused() {
        let anonymous: Arc<dyn Authorizer> = Arc::new(Anonymous);
        let door = door(&anonymous);
        assert_eq!(door.publish("a/b/c"), Ok(()));
        assert_eq!(door.publish("a/b/c/d"), Err(Refusal::TopicName));
        assert_eq!(door.publish("///"), Err(Refusal::TopicName));
        assert_eq!(door.publish("$SYS/a"), Err(Refusal::TopicName));
        assert_eq!(door.publish("$share/a"), Err(Refusal::TopicName));
        assert_eq!(door.publish("$own/a"), Ok(()));
    }

    #[test]
    fn each_filter_gets_its_own_answer() {
        let own: Arc<dyn Authorizer> = Arc::new(OnlyOwn);
        let mut filters = ["me/#", "you/#", "$share/g/me", "me/a/b/c"]
            .map(|text| {
                let options = SubscriptionOptions::of_qos(QoS::AtLeastOnce);
                (Filter::new(text).unwrap(), options, None)
            })
            .to_vec();
        assert_eq!(door(&own).subscribe(&mut filters), 3);
        let refusals: Vec<_> = filters.into_iter().map(|(_, _, refusal)| refusal).collect();
        assert_eq!(
            refusals,
            [
                None,
                Some(Refusal::NotAuthorized),
                Some(Refusal::SharedSubscriptions),
                Some(Refusal::TopicFilter),
            ]
        );
        assert_eq!(door(&own).publish("you/a"), Err(Refusal::NotAuthorized));
    }
}
