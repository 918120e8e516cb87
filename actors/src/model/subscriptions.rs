//! A session's subscriptions, and what one message means to all of them together.
//!
//! Overlapping subscriptions get one delivery, at the highest QoS, with all identifiers ([MQTT-3.3.4-2],
//! [MQTT-3.3.4-3]); the same for all protocol versions.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::filter_map::FilterMap;
use super::ids::{Offset, SessionNumber};
use super::message::{Message, QoS};
use super::packet::{SubscriptionIds, SubscriptionOptions};
use super::past::Past;
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

/// Above so many subscriptions a session finds those that match in an index. Below, trying each costs less than a
/// microsecond, and no memory.
const TRIED_MAX: usize = 8;

/// The subscriptions of one session, in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Subscriptions(Kept);

/// Most sessions have one subscription and sleep on it, so few take no more than their list.
#[derive(Clone, Debug)]
enum Kept {
    Few(Vec<SubscriptionSnapshot>),
    Many(Box<Indexed>),
}

/// Many subscriptions, numbered as they were made.
#[derive(Debug, Default)]
struct Indexed {
    next: u64,
    /// What the filters count for.
    bytes: usize,
    by_number: BTreeMap<u64, SubscriptionSnapshot>,
    numbers: FilterMap<u64>,
}

impl Subscriptions {
    /// Subscriptions as a snapshot holds them.
    pub fn restore(subscriptions: Vec<SubscriptionSnapshot>) -> Self {
        if subscriptions.len() <= TRIED_MAX {
            Self(Kept::Few(subscriptions))
        } else {
            Self(Kept::Many(Box::new(Indexed::of(subscriptions))))
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Few(few) => few.len(),
            Kept::Many(many) => many.by_number.len(),
        }
    }

    /// What the filters count for: their texts, and what each takes besides.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Kept::Few(few) => few.iter().map(|known| bytes_of(&known.filter)).sum(),
            Kept::Many(many) => many.bytes,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        let (few, many) = match &self.0 {
            Kept::Few(few) => (few.as_slice(), None),
            Kept::Many(many) => (&[][..], Some(many.by_number.values())),
        };
        few.iter().chain(many.into_iter().flatten())
    }

    /// The one with this filter.
    pub fn get(&self, filter: &Filter) -> Option<&SubscriptionSnapshot> {
        match &self.0 {
            Kept::Few(few) => few.iter().find(|known| known.filter == *filter),
            Kept::Many(many) => many.by_number.get(many.numbers.get(filter)?),
        }
    }

    /// Adds one or replaces the one with the same filter.
    pub fn put(&mut self, subscription: SubscriptionSnapshot) {
        match &mut self.0 {
            Kept::Few(few) => {
                let same = few
                    .iter_mut()
                    .find(|known| known.filter == subscription.filter);
                if let Some(known) = same {
                    *known = subscription;
                    return;
                }
                if few.is_empty() {
                    few.reserve_exact(1);
                }
                few.push(subscription);
                if few.len() > TRIED_MAX {
                    *self = Self::restore(std::mem::take(few));
                }
            }
            Kept::Many(many) => many.put(subscription),
        }
    }

    /// Removes the one with this filter.
    pub fn remove(&mut self, filter: &Filter) -> Option<SubscriptionSnapshot> {
        match &mut self.0 {
            Kept::Few(few) => {
                let at = few.iter().position(|known| known.filter == *filter)?;
                Some(few.remove(at))
            }
            Kept::Many(many) => {
                let number = many.numbers.remove(filter)?;
                let removed = many.by_number.remove(&number);
                many.bytes -= bytes_of(filter);
                // Half of it, so that one who comes and goes does not move all the others each time.
                if many.by_number.len() <= TRIED_MAX / 2 {
                    let left = std::mem::take(&mut many.by_number);
                    *self = Self::restore(left.into_values().collect());
                }
                removed
            }
        }
    }

    /// Takes all of them out.
    pub fn drain(&mut self) -> impl Iterator<Item = SubscriptionSnapshot> {
        let (few, many) = match std::mem::take(self).0 {
            Kept::Few(few) => (few, BTreeMap::new()),
            Kept::Many(many) => (Vec::new(), many.by_number),
        };
        few.into_iter().chain(many.into_values())
    }

    /// The session's own filters that read from the journal, with the offset from which each counts.
    pub fn durable(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.iter()
            .filter(|known| known.is_durable() && !known.filter.is_shared())
    }

    /// Shared subscriptions: what they match comes from their groups.
    pub fn shared(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.iter().filter(|known| known.filter.is_shared())
    }

    /// The filters that the journal is read for from `next` on, and from where each counts.
    pub fn read_from(&self, past: &Past, next: Offset) -> Vec<(Filter, Offset)> {
        self.durable()
            .chain(past.read_from(next))
            .map(|known| (known.filter.clone(), known.from))
            .collect()
    }

    /// What the record at `offset` means to the session `reader`: `None` if no durable subscription counts it. What decides
    /// is how the subscriptions were there, as `past` knows of those that are not in force any more.
    pub fn matching(
        &self,
        past: &Past,
        message: &Message,
        offset: Offset,
        reader: SessionNumber,
    ) -> Option<Matched> {
        let owed = self.owed(past, message, offset, reader);
        // QoS 0 alone is served by the routing pass, not from the journal.
        owed.qos
            .filter(|qos| *qos > QoS::AtMostOnce)
            .map(|qos| Matched {
                qos,
                retain: owed.retain,
                ids: owed.ids,
            })
    }

    /// The identifiers with which the record at `offset` goes to the session `reader`, whatever became of its
    /// subscriptions since.
    pub fn ids_at(
        &self,
        past: &Past,
        message: &Message,
        offset: Offset,
        reader: SessionNumber,
    ) -> SubscriptionIds {
        self.owed(past, message, offset, reader).ids
    }

    fn owed(&self, past: &Past, message: &Message, offset: Offset, reader: SessionNumber) -> Owed {
        let topic = message.topic();
        let mut owed = Owed::default();
        let mut count = |known: &SubscriptionSnapshot| {
            let own = known.options.no_local && message.publisher == reader;
            if offset >= known.from && !own {
                owed.add(message, known.options, false);
            }
        };
        match &self.0 {
            Kept::Few(few) => few
                .iter()
                .filter(|known| known.filter.matches(topic))
                .for_each(&mut count),
            Kept::Many(many) => many.for_each_match(topic, &mut count),
        }
        past.add(&mut owed, message, offset, reader);
        owed
    }
}

/// What the subscriptions in force at a record's place say about it, put together.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// The highest QoS; `None` if it is not owed.
    qos: Option<QoS>,
    retain: bool,
    ids: SubscriptionIds,
}

impl Owed {
    /// One more subscription of these options matches. One that was `dropped` owes nothing any more, but what others owe
    /// still goes with its identifier: what is sent before UNSUBSCRIBE and again behind it is the same delivery.
    pub(super) fn add(&mut self, message: &Message, options: SubscriptionOptions, dropped: bool) {
        self.ids.extend(options.id);
        if !dropped {
            self.qos = self.qos.max(Some(message.qos.min(options.qos)));
            self.retain |= message.retain && options.retain_as_published;
        }
    }
}

/// What a subscription with this filter counts for: its text, and what it may take in memory besides. Each level of a filter with
/// wildcards can be a node of its own, in the session and in the routes.
pub fn bytes_of(filter: &Filter) -> usize {
    const BESIDES: usize = 64;
    const LEVEL: usize = 320;
    let text = filter.as_str();
    let levels = match text.contains(['+', '#']) {
        true => text.split('/').count(),
        false => 0,
    };
    text.len() + BESIDES + LEVEL * levels
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self(Kept::Few(Vec::new()))
    }
}

impl Indexed {
    fn of(subscriptions: Vec<SubscriptionSnapshot>) -> Self {
        let mut many = Self::default();
        for subscription in subscriptions {
            many.put(subscription);
        }
        many
    }

    fn put(&mut self, subscription: SubscriptionSnapshot) {
        let next = &mut self.next;
        let number = *self
            .numbers
            .get_or_insert_with(&subscription.filter, || std::mem::replace(next, *next + 1));
        let bytes = bytes_of(&subscription.filter);
        if self.by_number.insert(number, subscription).is_none() {
            self.bytes += bytes;
        }
    }

    /// In the order in which they were made, which the index does not know.
    fn for_each_match(&self, topic: &str, count: impl FnMut(&SubscriptionSnapshot)) {
        let mut numbers = SmallVec::<[u64; 8]>::new();
        self.numbers
            .for_each_match(topic, |number| numbers.push(*number));
        numbers.sort_unstable();
        numbers
            .iter()
            .filter_map(|number| self.by_number.get(number))
            .for_each(count);
    }
}

impl Clone for Indexed {
    fn clone(&self) -> Self {
        Self::of(self.by_number.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Timestamp;
    use super::super::message::MessageParts;
    use super::*;

    fn subscription(n: u32, text: &str) -> SubscriptionSnapshot {
        SubscriptionSnapshot {
            filter: Filter::new(text).unwrap(),
            options: SubscriptionOptions {
                id: Some(n),
                ..SubscriptionOptions::of_qos(QoS::AtLeastOnce)
            },
            from: Offset(0),
        }
    }

    fn ids(subscriptions: &Subscriptions, topic: &str) -> Vec<u32> {
        let message = Message::new(MessageParts {
            topic,
            payload: b"",
            properties: b"",
            qos: QoS::AtLeastOnce,
            retain: false,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: SessionNumber(1),
        });
        subscriptions
            .matching(&Past::EMPTY, &message, Offset(9), SessionNumber(2))
            .map(|matched| matched.ids.to_vec())
            .unwrap_or_default()
    }

    /// Many filters of which some match `a/0`, and the last one comes twice.
    fn text(n: usize) -> String {
        match n {
            0 => "a/0".to_owned(),
            3 | 20 => "+/".repeat(n / 10) + "#",
            5 => "a/+".to_owned(),
            _ => format!("a/{}/+", n.min(40)),
        }
    }

    #[test]
    fn many_subscriptions_match_as_few_do_and_keep_their_order() {
        for count in [1, TRIED_MAX, TRIED_MAX + 1, 3 * TRIED_MAX] {
            let mut tried: Vec<SubscriptionSnapshot> = Vec::new();
            let mut all = Subscriptions::default();
            for (id, n) in (1..).zip(0..count) {
                let subscription = subscription(id, &text(n));
                match tried
                    .iter_mut()
                    .find(|known| known.filter == subscription.filter)
                {
                    Some(known) => known.clone_from(&subscription),
                    None => tried.push(subscription.clone()),
                }
                all.put(subscription);
            }
            for other in [all.clone(), Subscriptions::restore(tried.clone())] {
                assert_eq!(other.iter().cloned().collect::<Vec<_>>(), tried);
            }
            let matching = tried.iter().filter(|known| known.filter.matches("a/0"));
            let expected: Vec<_> = matching.filter_map(|known| known.options.id).collect();
            assert_eq!(ids(&all, "a/0"), expected, "of {count}");
            while let Some(known) = tried.pop() {
                let held: usize = tried.iter().map(|known| bytes_of(&known.filter)).sum();
                assert_eq!(all.bytes(), held + bytes_of(&known.filter));
                assert_eq!(all.get(&known.filter), Some(&known));
                assert_eq!(all.remove(&known.filter), Some(known.clone()));
                assert_eq!(all.remove(&known.filter), None);
                assert_eq!(all.len(), tried.len());
            }
        }
    }

    #[test]
    fn a_session_takes_memory_for_the_index_only_while_it_has_many() {
        assert_eq!(
            size_of::<Subscriptions>(),
            size_of::<Vec<SubscriptionSnapshot>>()
        );
        let mut all = Subscriptions::default();
        let filters: Vec<_> = (0..100)
            .map(|n| subscription(n, &format!("a/{n}")))
            .collect();
        filters.iter().cloned().for_each(|known| all.put(known));
        assert!(matches!(all.0, Kept::Many(_)));
        for known in &filters[1..] {
            all.remove(&known.filter);
        }
        assert!(matches!(all.0, Kept::Few(_)));
        assert_eq!(all.drain().collect::<Vec<_>>(), filters[..1]);
        assert!(all.is_empty());
    }
}
