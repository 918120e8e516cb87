//! Topic names and topic filters (MQTT 5.0 section 4.7): what is valid, and what matches.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::SHARED_BYTES;
use super::tenant;

/// A valid topic filter; may hold wildcards, may be shared (`$share/{group}/{filter}`). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Filter(Arc<str>);

impl Filter {
    /// `None` if `text` is no valid filter: empty, above 65,535 bytes, with U+0000, `#` not last or not alone in its
    /// level, `+` not alone in its level ([MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1] to [MQTT-4.7.3-3]), or shared
    /// without a group or filter ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
    pub fn new(text: &str) -> Option<Self> {
        let plain = match text.strip_prefix("$share/") {
            Some(shared) => {
                let (group, filter) = shared.split_once('/')?;
                if group.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                filter
            }
            None => text,
        };
        (is_valid(text) && wildcards_are_valid(plain)).then(|| Self(Arc::from(text)))
    }

    /// A filter of a tenant, of which [`tenant`] knows that it is valid.
    ///
    /// [`tenant`]: super::tenant
    pub(super) fn known(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Not above any filter, and none itself: where a range of filters begins.
    pub(super) fn lowest() -> Self {
        Self(Arc::default())
    }

    /// The text: as the client sent it, if it has no tenant.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The memory that its text takes, however many share it, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.0.len() + SHARED_BYTES
    }

    /// Whether this is a shared subscription.
    pub fn is_shared(&self) -> bool {
        self.0.starts_with("$share/")
    }

    /// The parts of a shared subscription: the name of its group, and the filter that its members share.
    pub fn share(&self) -> Option<(&str, Self)> {
        let (name, filter) = self.0.strip_prefix("$share/")?.split_once('/')?;
        Some((name, Self(Arc::from(filter))))
    }

    /// Whether the filter holds a wildcard; one without matches exactly the topic of the same name.
    pub fn has_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether `topic` matches. Level by level, byte by byte; a leading wildcard does not match a topic that begins
    /// with `$` ([MQTT-4.7.2-1]).
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut topic = topic.split('/');
        let mut levels = self.0.split('/');
        loop {
            match (levels.next(), topic.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(level), Some(name)) if level == name => {}
                _ => return false,
            }
        }
    }
}

/// Maps keyed by filter are asked by text; `Hash`, `Eq` and `Ord` of a filter are those of its text.
impl Borrow<str> for Filter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Filter {
    /// For people; see [`super::tenant`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tenant::OwnFilter::from(self).fmt(f)
    }
}

/// Whether `text` is a valid topic name: not empty, at most 65,535 bytes, no U+0000, no wildcards ([MQTT-3.3.2-2]).
pub fn is_topic_name(text: &str) -> bool {
    is_valid(text) && !text.contains(['+', '#'])
}

fn is_valid(text: &str) -> bool {
    !text.is_empty() && text.len() <= usize::from(u16::MAX) && !text.contains('\0')
}

fn wildcards_are_valid(filter: &str) -> bool {
    if filter.is_empty() {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let valid = match level {
            "#" => last,
            "+" => true,
            _ => !level.contains(['+', '#']),
        };
        if !valid {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, topic: &str, expected: bool) {
        assert_eq!(
            Filter::new(filter).unwrap().matches(topic),
            expected,
            "{filter} {topic}"
        );
    }

    #[test]
    fn wildcards_match_as_the_specification_says() {
        // 3.1.1: [MQTT-3.8.3-2], [MQTT-4.7.1-3].
        // [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1]
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("a/b", "a/B", false),
            ("#", "/", true),
            ("/#", "/", true),
            ("/#", "a", false),
            ("+/#", "a", true),
            ("+/+", "a", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
            ("a/#", "ab", false),
            ("a", "a/", false),
            ("a/$b/+", "a/$b/c", true),
            ("+/$b", "a/$b", true),
            ("a/+", "a/$b", true),
            ("+", "$SYS", false),
        ] {
            check(filter, topic, expected);
        }
    }

    #[test]
    fn nothing_is_normalized() {
        // 5.0: [MQTT-4.7.3-4].
        // 3.1.1: [MQTT-4.7.3-4].
        for (filter, topic) in [
            ("caf\u{e9}", "cafe\u{301}"), // composed and decomposed
            ("a/b", "a/B"),
            ("a/b", "a//b"),
            ("a/b", "a/./b"),
            ("a/b", "/a/b"),
            ("a/b", "a/b/"),
            ("a b", "a%20b"),
            (" a", "a"),
            ("\u{feff}a", "a"),
        ] {
            check(filter, topic, false);
            check(topic, filter, false);
            check(filter, filter, true);
            check(topic, topic, true);
        }
        check("+/\u{fffd}", "\u{10ffff}/\u{fffd}", true);
    }

    #[test]
    fn invalid_filters_are_refused() {
        // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        // 5.0: [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.7.3-2].
        // 3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1], [MQTT-4.7.3-2].
        for text in [
            "",
            "a#",
            "a/#/b",
            "a+",
            "a/b+/c",
            "a\0",
            "$share/g",
            "$share//a",
            "$share/g/",
            "$share/+/a",
        ] {
            assert!(Filter::new(text).is_none(), "{text:?}");
        }
        assert!(Filter::new("$share/g/a/+/#").is_some_and(|filter| filter.is_shared()));
    }

    #[test]
    fn only_filters_with_a_group_are_shared() {
        for (text, shared) in [
            ("$share/g/a", true),
            ("$share", false),
            ("$shared/g/a", false),
        ] {
            assert_eq!(Filter::new(text).unwrap().is_shared(), shared, "{text}");
        }
        assert!(Filter::new("$share/g//").is_some(), "the filter is `/`");
        assert!(Filter::new("$share/g#/a").is_none());
    }

    #[test]
    fn names_and_filters_have_at_most_65535_bytes_and_no_null() {
        // 5.0: [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3].
        // 3.1.1: [MQTT-4.7.1-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3].
        let longest = "a".repeat(65_535);
        assert!(Filter::new(&longest).is_some() && is_topic_name(&longest));
        let longer = "a".repeat(65_536);
        assert!(Filter::new(&longer).is_none() && !is_topic_name(&longer));
        for (text, valid) in [
            ("a/b", true),
            ("/", true),
            (" ", true),
            ("", false),
            ("a\0b", false),
            ("a/+", false),
            ("a+b", false),
            ("#", false),
        ] {
            assert_eq!(is_topic_name(text), valid, "{text:?}");
        }
    }

    #[test]
    fn a_filter_without_wildcards_matches_its_own_text_only() {
        let filter = Filter::new("$a/b").unwrap();
        assert!(!filter.has_wildcard());
        assert!(filter.matches("$a/b"));
        assert!(!filter.matches("$a/b/c") && !filter.matches("$a"));
    }

    #[test]
    fn a_map_keyed_by_filter_is_asked_by_text() {
        let map = std::collections::HashMap::from([(Filter::new("a/b").unwrap(), 1)]);
        assert_eq!(map.get("a/b"), Some(&1));
    }
}
