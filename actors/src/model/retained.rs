//! Which topics have a retained message, and where in the journal it lies.
//!
//! Owns: topic -> offset, in the byte order of topics. Does not know: the messages themselves; an offset named here
//! pins its record in the journal.
//!
//! A filter is answered by a walk through the sorted topics that leaps over what cannot match: from each topic it
//! computes the smallest later text that could, and seeks there (`walk`). A literal prefix is thus a range, and `+`
//! costs one leap per name at its level, not per topic below it.

mod walk;

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::fmt;
use std::ops::Bound;

use self::walk::{Verdict, Walk};
use super::ids::Offset;
use super::topic::Filter;

/// So many steps forward are cheaper than a search from the root of the tree.
const STEPS_BEFORE_SEEK: usize = 4;

type Entry<'a> = (&'a Box<str>, &'a Offset);

/// The retained messages of all topics.
#[derive(Default)]
pub struct Retained {
    topics: BTreeMap<Box<str>, Offset>,
    topic_bytes: usize,
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
    /// No retained messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many topics have a retained message.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic has a retained message.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of all topics.
    pub fn topic_bytes(&self) -> usize {
        self.topic_bytes
    }

    /// Where the retained message of `topic` lies.
    pub fn get(&self, topic: &str) -> Option<Offset> {
        self.topics.get(topic).copied()
    }

    /// Sets the retained message of `topic`; returns the offset that is no longer pinned.
    pub fn set(&mut self, topic: &str, offset: Offset) -> Option<Offset> {
        if let Some(known) = self.topics.get_mut(topic) {
            return Some(std::mem::replace(known, offset));
        }
        self.topic_bytes += topic.len();
        self.topics.insert(Box::from(topic), offset)
    }

    /// Drops the retained message of `topic`; returns the offset that is no longer pinned.
    pub fn clear(&mut self, topic: &str) -> Option<Offset> {
        let offset = self.topics.remove(topic)?;
        self.topic_bytes -= topic.len();
        Some(offset)
    }

    /// All topics in order, for a checkpoint.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Offset)> {
        self.topics
            .iter()
            .map(|(topic, offset)| (&**topic, *offset))
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
        while let Some((topic, offset)) = next {
            visited += 1;
            let upcoming = match walk.judge(topic) {
                Verdict::Match => {
                    found.push((topic.clone(), *offset));
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

    fn from(&self, start: Bound<&str>) -> Range<'_, Box<str>, Offset> {
        self.topics.range::<str, _>((start, Bound::Unbounded))
    }

    /// The first topic at or after `target`, which lies ahead of `range`.
    fn leap<'a>(
        &'a self,
        range: &mut Range<'a, Box<str>, Offset>,
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
            .field("topic_bytes", &self.topic_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::new();
        for (topic, offset) in topics.iter().zip(0..) {
            retained.set(topic, Offset(offset));
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
                retained.set(topic, *offset);
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
            steps in prop::collection::vec((topics(), any::<bool>(), any::<u64>()), 0..60),
        ) {
            let mut retained = Retained::new();
            let mut model = BTreeMap::new();
            for (topic, set, offset) in steps {
                if set {
                    prop_assert_eq!(retained.set(&topic, Offset(offset)), model.insert(topic, Offset(offset)));
                } else {
                    prop_assert_eq!(retained.clear(&topic), model.remove(&topic));
                }
                prop_assert_eq!(retained.len(), model.len());
                prop_assert_eq!(retained.topic_bytes(), model.keys().map(String::len).sum::<usize>());
            }
            let all: Vec<_> = model.iter().map(|(topic, offset)| (topic.as_str(), *offset)).collect();
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

    #[test]
    fn a_wildcard_lookup_looks_at_few_of_many_topics() {
        let mut retained = Retained::new();
        for site in 0..100 {
            for device in 0..100 {
                retained.set(
                    &format!("site/{site:02}/device/{device:02}"),
                    Offset(site * 100 + device),
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
