//! A session's subscriptions, and what one message means to all of them together.
//!
//! Overlapping subscriptions get one delivery, at the highest QoS, with all identifiers ([MQTT-3.3.4-2],
//! [MQTT-3.3.4-3]); the same for all protocol versions.

use super::ids::{Offset, SessionNumber};
use super::message::{Message, QoS};
use super::packet::SubscriptionIds;
use super::snapshot::SubscriptionSnapshot;
use super::topic::Filter;

/// What a message means to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The QoS of the delivery.
    pub qos: QoS,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
    /// The identifiers of all matching subscriptions.
    pub ids: SubscriptionIds,
}

/// The subscriptions of one session, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions(Vec<SubscriptionSnapshot>);

impl Subscriptions {
    /// Subscriptions as a snapshot holds them.
    pub fn restore(subscriptions: Vec<SubscriptionSnapshot>) -> Self {
        Self(subscriptions)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.0.iter()
    }

    /// The one with this filter.
    pub fn get(&self, filter: &Filter) -> Option<&SubscriptionSnapshot> {
        self.0.iter().find(|known| known.filter == *filter)
    }

    /// Adds one or replaces the one with the same filter.
    pub fn put(&mut self, subscription: SubscriptionSnapshot) {
        match self
            .0
            .iter_mut()
            .find(|known| known.filter == subscription.filter)
        {
            Some(known) => *known = subscription,
            None => {
                // Most sessions have one subscription and sleep on it.
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.push(subscription);
            }
        }
    }

    /// Removes the one with this filter.
    pub fn remove(&mut self, filter: &Filter) -> Option<SubscriptionSnapshot> {
        let at = self.0.iter().position(|known| known.filter == *filter)?;
        Some(self.0.remove(at))
    }

    /// Takes all of them out.
    pub fn drain(&mut self) -> impl Iterator<Item = SubscriptionSnapshot> {
        std::mem::take(&mut self.0).into_iter()
    }

    /// Filters that read from the journal, with the offset from which each counts.
    pub fn durable(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.0
            .iter()
            .filter(|known| known.options.qos > QoS::AtMostOnce)
    }

    /// What the record at `offset` means to the session `reader`: `None` if no durable subscription counts it.
    pub fn matching(
        &self,
        message: &Message,
        offset: Offset,
        reader: SessionNumber,
    ) -> Option<Matched> {
        let topic = message.topic();
        let mut matched: Option<Matched> = None;
        for known in &self.0 {
            let own = known.options.no_local && message.publisher == reader;
            if offset < known.from || own || !known.filter.matches(topic) {
                continue;
            }
            let qos = message.qos.min(known.options.qos);
            let retain = message.retain && known.options.retain_as_published;
            match &mut matched {
                None => {
                    matched = Some(Matched {
                        qos,
                        retain,
                        ids: known.options.id.into_iter().collect(),
                    })
                }
                Some(matched) => {
                    matched.qos = matched.qos.max(qos);
                    matched.retain |= retain;
                    matched.ids.extend(known.options.id);
                }
            }
        }
        // QoS 0 alone is served by the routing pass, not from the journal.
        matched.filter(|matched| matched.qos > QoS::AtMostOnce)
    }
}
