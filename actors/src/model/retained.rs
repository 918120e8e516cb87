//! Which topics have a retained message, and where in the journal it lies.
//!
//! Owns: topic -> offset, in the byte order of topics, what all of it takes and what each tenant's does, and whether there
//! is room for more. Does not know: the messages themselves; an offset named here pins its record in the journal. When one expires: the checkpointer
//! says so.
//!
//! A filter is answered by a walk through the sorted topics that leaps over what cannot match: from each topic it
//! computes the smallest later text that could, and seeks there (`walk`). A literal prefix is thus a range, and `+`
//! costs one leap per name at its level, not per topic below it.

mod walk;

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use self::walk::{Verdict, Walk};
use super::ids::{Offset, Timestamp};
use super::limits::{PerTenant, TenantLimits};
use super::message::Message;
use super::refusal::Refusal;
use super::tally::{Amount, Reached, Tally};
use super::topic::Filter;

/// So many steps forward are cheaper than a search from the root of the tree.
const STEPS_BEFORE_SEEK: usize = 4;

type Entry<'a> = (&'a Box<str>, &'a Held);

/// A retained message: where it lies, and what must be known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedAt {
    /// Its record.
    pub offset: Offset,
    /// Bytes of topic, properties and payload.
    pub bytes: u32,
    /// When it expires; `None` never.
    pub expires_at: Option<Timestamp>,
}

impl RetainedAt {
    /// What a record sets its topic to: `None` clears it.
    pub fn of(offset: Offset, message: &Message) -> Option<Self> {
        (!message.payload().is_empty()).then(|| Self {
            offset,
            bytes: size(message),
            expires_at: message.expires_at,
        })
    }
}

fn size(message: &Message) -> u32 {
    u32::try_from(message.size_bytes()).unwrap_or(u32::MAX)
}

/// What is kept in memory of a retained message.
#[derive(Clone, Copy, Debug)]
struct Held {
    offset: Offset,
    bytes: u32,
}

/// The retained messages of all topics.
#[derive(Default)]
pub struct Retained {
    topics: BTreeMap<Box<str>, Held>,
    tally: Tally,
    expired: u64,
    limit: Amount,
    tenants: Arc<PerTenant<TenantLimits>>,
}

/// A part of the answer to a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedPage {
    /// Matching topics in order, and where their messages lie.
    pub found: Vec<(Box<str>, Offset)>,
    /// Where the next page goes on (its `after`); `None` if this is the last one.
    pub resume: Option<Box<str>>,
}

impl Retained {
    /// No retained messages, and no limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on there may be so many and so large ones in all; the configuration's section `retained`. What is retained
    /// stays.
    pub fn limit(&mut self, limit: Amount) {
        self.limit = limit;
    }

    /// From now on tenants may have so much. What is retained stays.
    pub fn limit_tenants(&mut self, tenants: Arc<PerTenant<TenantLimits>>) {
        self.tenants = tenants;
    }

    /// How many topics have a retained message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic has a retained message.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many there are, and the bytes of their topics, properties and payloads, in all and of each tenant. The name of a
    /// tenant is part of its topics.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many messages expired while they were retained.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Where the retained message of `topic` lies.
    pub fn get(&self, topic: &str) -> Option<Offset> {
        self.topics.get(topic).map(|held| held.offset)
    }

    /// Sets the retained message of `topic`.
    pub fn set(&mut self, topic: &str, at: RetainedAt) {
        let RetainedAt { offset, bytes, .. } = at;
        let held = Held { offset, bytes };
        // A topic that is known keeps its key.
        let before = match self.topics.get_mut(topic) {
            Some(known) => Some(std::mem::replace(known, held)),
            None => self.topics.insert(Box::from(topic), held),
        };
        let before = before.map(|held| held.bytes.into());
        self.tally.replace(topic, before, Some(bytes.into()));
    }

    /// Drops the retained message of `topic`.
    pub fn clear(&mut self, topic: &str) {
        if let Some(held) = self.topics.remove(topic) {
            self.tally.replace(topic, Some(held.bytes.into()), None);
        }
    }

    /// Drops the retained message of `topic` if it is still the one at `offset`, which expired.
    pub fn expire(&mut self, topic: &str, offset: Offset) {
        if self.get(topic) == Some(offset) {
            self.clear(topic);
            self.expired += 1;
        }
    }

    /// Whether the message may be retained. What is under way to the journal does not count yet. At a limit a message
    /// may take the place of another one, in bytes if it is not larger.
    ///
    /// # Errors
    /// Which limit is reached: that of the tenant ([`Refusal::TenantRetainedQuota`]), or that of all.
    pub fn room_for(&self, message: &Message) -> Result<(), Refusal> {
        let topic = message.topic();
        let before = self.topics.get(topic).map(|held| held.bytes.into());
        let after = size(message).into();
        let of_tenant = |tenant: &str| self.tenants.of(tenant).retained;
        let room = (self.tally).room(topic, before, after, self.limit, of_tenant);
        room.map_err(|reached| match reached {
            Reached::Tenant => Refusal::TenantRetainedQuota,
            Reached::Total => Refusal::RetainedQuota,
        })
    }

    /// All topics in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Offset)> {
        self.topics
            .iter()
            .map(|(topic, held)| (&**topic, held.offset))
    }

    /// The first `max` topics after `after` that match `filter`, in order, however many topics must be looked at.
    pub fn matching(
        &self,
        filter: &Filter,
        after: Option<&str>,
        max: usize,
    ) -> Vec<(Box<str>, Offset)> {
        self.page(filter, after, max, usize::MAX).found
    }

    /// The next topics after `after` that match `filter`, in order: at most `found_max`, and no more than
    /// `visited_max` topics are looked at (both at least 1), so that a filter that matches little, such as `+/+/x`,
    /// cannot hold up the caller. Topics set or cleared between two pages are seen or not seen, the others exactly once.
    pub fn page(
        &self,
        filter: &Filter,
        after: Option<&str>,
        found_max: usize,
        visited_max: usize,
    ) -> RetainedPage {
        let mut walk = Walk::new(filter.as_str());
        let mut range = match after {
            Some(after) if after >= walk.target() => self.from(Bound::Excluded(after)),
            _ => self.from(Bound::Included(walk.target())),
        };
        let mut found = Vec::new();
        let mut visited = 0;
        let mut next = range.next();
        while let Some((topic, held)) = next {
            visited += 1;
            let upcoming = match walk.judge(topic) {
                Verdict::Match => {
                    found.push((topic.clone(), held.offset));
                    range.next()
                }
                Verdict::Step => range.next(),
                Verdict::Leap => self.leap(&mut range, walk.target()),
                Verdict::End => None,
            };
            if upcoming.is_some() && (found.len() >= found_max || visited >= visited_max) {
                return RetainedPage {
                    found,
                    resume: Some(topic.clone()),
                };
            }
            next = upcoming;
        }
        RetainedPage {
            found,
            resume: None,
        }
    }

    fn from(&self, start: Bound<&str>) -> Range<'_, Box<str>, Held> {
        self.topics.range::<str, _>((start, Bound::Unbounded))
    }

    /// The first topic at or after `target`, which lies ahead of `range`.
    fn leap<'a>(
        &'a self,
        range: &mut Range<'a, Box<str>, Held>,
        target: &str,
    ) -> Option<Entry<'a>> {
        for _ in 0..STEPS_BEFORE_SEEK {
            match range.next() {
                Some((topic, _)) if **topic < *target => {}
                reached => return reached,
            }
        }
        *range = self.from(Bound::Included(target));
        range.next()
    }
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("topics", &self.len())
            .field("bytes", &self.tally.all().bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ids::SessionNumber;
    use super::super::message::{MessageParts, QoS};
    use super::super::tenant::Tenant;
    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn at(offset: u64) -> RetainedAt {
        RetainedAt {
            offset: Offset(offset),
            bytes: 10,
            expires_at: None,
        }
    }

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::new();
        for (topic, offset) in topics.iter().zip(0..) {
            retained.set(topic, at(offset));
        }
        retained
    }

    fn topics_of(found: &[(Box<str>, Offset)]) -> Vec<&str> {
        found.iter().map(|(topic, _)| &**topic).collect()
    }

    /// Names around `/` in byte order (`-`, `.`, `0`) and prefixes of each other.
    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "a", "a-", "a.b", "a0", "aa", "b", "$s", "é", "!"])
    }

    fn topics() -> impl Strategy<Value = String> {
        prop::collection::vec(level(), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("empty", |topic| !topic.is_empty())
    }

    fn filters() -> impl Strategy<Value = Filter> {
        let level = prop_oneof![2 => level(), 1 => Just("+")];
        (prop::collection::vec(level, 0..5), any::<bool>()).prop_filter_map(
            "empty",
            |(mut levels, hash)| {
                if hash {
                    levels.push("#");
                }
                Filter::new(&levels.join("/"))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn pages_together_are_what_a_linear_scan_finds(
            topics in prop::collection::btree_map(topics(), any::<u64>().prop_map(Offset), 0..60),
            filter in filters(),
            found_max in 1..5_usize,
            visited_max in 1..9_usize,
        ) {
            let mut retained = Retained::new();
            for (topic, offset) in &topics {
                retained.set(topic, at(offset.0));
            }
            let expected: Vec<(Box<str>, Offset)> = topics
                .iter()
                .filter(|(topic, _)| filter.matches(topic))
                .map(|(topic, offset)| (Box::from(topic.as_str()), *offset))
                .collect();
            prop_assert_eq!(&retained.matching(&filter, None, usize::MAX), &expected);
            let mut found = Vec::new();
            let mut after: Option<Box<str>> = None;
            loop {
                let page = retained.page(&filter, after.as_deref(), found_max, visited_max);
                prop_assert!(page.found.len() <= found_max);
                found.extend(page.found);
                match page.resume {
                    Some(resume) => {
                        prop_assert!(after.is_none_or(|after| after < resume), "a page makes headway");
                        after = Some(resume);
                    }
                    None => break,
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn the_counts_follow_what_is_set_and_cleared(
            steps in prop::collection::vec((topics(), any::<bool>(), any::<u32>()), 0..60),
        ) {
            let mut retained = Retained::new();
            let mut model = BTreeMap::new();
            for (topic, set, bytes) in steps {
                if set {
                    retained.set(&topic, RetainedAt { bytes, ..at(u64::from(bytes)) });
                    model.insert(topic, bytes);
                } else {
                    retained.clear(&topic);
                    model.remove(&topic);
                }
                prop_assert_eq!(retained.len(), model.len());
                let bytes = model.values().copied().map(u64::from).sum();
                let expected = Amount { count: model.len() as u64, bytes };
                prop_assert_eq!(retained.tally().all(), expected);
            }
            let all: Vec<_> = model
                .iter()
                .map(|(topic, bytes)| (topic.as_str(), Offset(u64::from(*bytes))))
                .collect();
            prop_assert_eq!(retained.iter().collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn a_leading_wildcard_passes_over_topics_of_the_broker() {
        let retained = retained(&["!", "$SYS/a", "$SYS/b", "a/a"]);
        let all = retained.matching(&filter("#"), None, 9);
        assert_eq!(topics_of(&all), ["!", "a/a"]);
        let system = retained.matching(&filter("$SYS/+"), None, 9);
        assert_eq!(topics_of(&system), ["$SYS/a", "$SYS/b"]);
        let level = retained.matching(&filter("+/a"), None, 9);
        assert_eq!(topics_of(&level), ["a/a"]);
    }

    #[test]
    fn a_replay_goes_on_after_the_last_topic_even_if_that_was_cleared() {
        let mut retained = retained(&["a", "a/1", "a/2", "a/3", "b"]);
        let first = retained.matching(&filter("a/#"), None, 2);
        assert_eq!(topics_of(&first), ["a", "a/1"]);
        retained.clear("a/1");
        let second = retained.matching(&filter("a/#"), Some("a/1"), 2);
        assert_eq!(topics_of(&second), ["a/2", "a/3"]);
        assert!(retained.matching(&filter("a/#"), Some("a/3"), 2).is_empty());
    }

    fn message(topic: &str, payload_bytes: usize) -> Message {
        Message::new(MessageParts {
            topic,
            payload: &vec![b'x'; payload_bytes],
            properties: b"",
            qos: QoS::AtLeastOnce,
            retain: true,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: SessionNumber(1),
        })
    }

    #[test]
    fn at_a_limit_what_is_retained_may_be_replaced_but_nothing_more_comes_in() {
        let mut retained = retained(&["a", "b"]);
        let mut has_room = |topic, payload_bytes, (count, bytes)| {
            retained.limit = Amount { count, bytes };
            let room = retained.room_for(&message(topic, payload_bytes));
            assert!(matches!(room, Ok(()) | Err(Refusal::RetainedQuota)));
            room.is_ok()
        };
        assert!(!has_room("c", 1, (2, 0)));
        assert!(has_room("c", 1, (3, 0)));
        assert!(has_room("c", 1, (0, 0)));
        assert!(has_room("a", 1000, (2, 0)));
        // "b" takes 10 bytes.
        assert!(has_room("c", 0, (0, 21)));
        assert!(!has_room("c", 1, (0, 21)));
        assert!(has_room("b", 10, (0, 21)));
        assert!(!has_room("b", 11, (0, 21)));
        // A limit that was lowered does not keep a message from becoming smaller.
        assert!(has_room("b", 8, (0, 5)));
        retained.clear("a");
        assert_eq!(
            retained.room_for(&message("c", 1)),
            Err(Refusal::RetainedQuota)
        );
        retained.limit = Amount::of(2);
        assert_eq!(retained.room_for(&message("c", 1)), Ok(()));
    }

    #[test]
    fn a_tenant_at_its_limit_is_refused_and_nobody_else() {
        let mut retained = Retained::new();
        retained.limit(Amount::of(4));
        let at_most = |count, bytes| TenantLimits {
            retained: Amount { count, bytes },
            ..TenantLimits::default()
        };
        retained.limit_tenants(Arc::new(PerTenant {
            each: at_most(2, 0),
            named: [("b".into(), at_most(0, 9))].into(),
        }));
        let known = |tenant: &str, own: &str| {
            let tenant = Tenant::new(tenant).unwrap();
            format!("{}{own}", tenant.prefix_of(own))
        };
        let fill = |retained: &mut Retained, topic: &str| {
            let room = retained.room_for(&message(topic, 1));
            if room.is_ok() {
                let at = RetainedAt::of(Offset(1), &message(topic, 1));
                retained.set(topic, at.unwrap());
            }
            room
        };
        let [a, other, third] = ["x", "$x", "y"].map(|own| known("a", own));
        assert_eq!(fill(&mut retained, &a), Ok(()));
        assert_eq!(fill(&mut retained, &other), Ok(()));
        assert_eq!(
            fill(&mut retained, &third),
            Err(Refusal::TenantRetainedQuota)
        );
        assert_eq!(fill(&mut retained, &a), Ok(()), "replaced");
        // "b␀/x" and a byte are 5 bytes.
        assert_eq!(fill(&mut retained, &known("b", "x")), Ok(()));
        assert_eq!(
            fill(&mut retained, &known("b", "y")),
            Err(Refusal::TenantRetainedQuota)
        );
        assert_eq!(fill(&mut retained, &known("c", "x")), Ok(()));
        assert_eq!(
            fill(&mut retained, &known("c", "y")),
            Err(Refusal::RetainedQuota)
        );
        assert_eq!(
            fill(&mut retained, &third),
            Err(Refusal::TenantRetainedQuota),
            "the narrower one"
        );
        retained.clear(&other);
        retained.expire(&known("c", "x"), Offset(1));
        assert_eq!(fill(&mut retained, &third), Ok(()));
        let of_tenants: Vec<_> = retained.tally().tenants().collect();
        let has = |count, bytes| Amount { count, bytes };
        assert_eq!(of_tenants, [("a", has(2, 10)), ("b", has(1, 5))]);
    }

    #[test]
    fn only_the_message_that_expired_goes() {
        let mut retained = retained(&["a", "b"]);
        retained.set("b", at(7));
        retained.expire("a", Offset(0));
        retained.expire("b", Offset(1));
        assert_eq!(retained.iter().collect::<Vec<_>>(), [("b", Offset(7))]);
        assert_eq!((retained.expired(), retained.tally().all().bytes), (1, 10));
    }

    #[test]
    fn a_wildcard_lookup_looks_at_few_of_many_topics() {
        let mut retained = Retained::new();
        for site in 0..100 {
            for device in 0..100 {
                retained.set(
                    &format!("site/{site:02}/device/{device:02}"),
                    at(site * 100 + device),
                );
            }
        }
        for (text, found, visited) in [
            ("site/50/device/50", 1, 2),
            ("site/50/#", 100, 101),
            // Per site: its first topic, the match, and the one after it.
            ("site/+/device/50", 100, 300),
            ("site/+/nothing", 0, 200),
            ("other/#", 0, 1),
        ] {
            let page = retained.page(&filter(text), None, usize::MAX, visited);
            assert_eq!(
                (page.found.len(), page.resume.is_none()),
                (found, true),
                "{text}"
            );
        }
    }
}
