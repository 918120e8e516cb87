//! What a 5.0 client said in its CONNECT about what it may be sent.
//!
//! Owns: those limits, and the topic aliases that the broker has set on one connection. Does not know: bytes, sockets.
//!
//! Aliases go to the first topics that are worth one, and stay: a client that hears more topics than it allows aliases
//! gains little from a table that is always on the move, and each move would cost a longer packet.

use std::collections::HashMap;
use std::num::NonZeroU16;

use ahash::RandomState;

/// A topic of fewer bytes is shorter than the property that sets its alias.
const ALIASED_BYTES_MIN: usize = 4;

/// The terms of one connection. Most clients state none.
#[derive(Debug)]
pub(super) struct Terms {
    /// The largest packet that the client takes.
    pub(super) packet_bytes_max: u32,
    /// Acknowledgements may say why in words ([MQTT-3.1.2-29]).
    pub(super) reasons: bool,
    /// The topic aliases that the broker may set.
    pub(super) topic_alias_max: u16,
    /// Those that it has set. Topics come from other clients, so the hash is keyed.
    aliases: HashMap<Box<[u8]>, NonZeroU16, RandomState>,
}

/// How a PUBLISH says its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// In full.
    Named,
    /// In full, and from now on by this alias.
    Sets(NonZeroU16),
    /// By its alias.
    Aliased(NonZeroU16),
}

impl Terms {
    /// As CONNECT states them.
    pub(super) fn new(packet_bytes_max: u32, reasons: bool, topic_alias_max: u16) -> Self {
        Self {
            packet_bytes_max,
            reasons,
            topic_alias_max,
            aliases: HashMap::default(),
        }
    }

    /// These terms, unless they are what holds without any. The broker remembers at most `topic_alias_max` topics.
    pub(super) fn stated(mut self, topic_alias_max: u16) -> Option<Box<Self>> {
        self.topic_alias_max = self.topic_alias_max.min(topic_alias_max);
        let default = Self::default();
        let stated = self.packet_bytes_max != default.packet_bytes_max
            || self.reasons != default.reasons
            || self.topic_alias_max != default.topic_alias_max;
        stated.then(|| Box::new(self))
    }

    /// How to say `topic` in the next PUBLISH.
    pub(super) fn topic(&self, topic: &[u8]) -> Topic {
        if self.topic_alias_max == 0 || topic.len() < ALIASED_BYTES_MIN {
            return Topic::Named;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return Topic::Aliased(*alias);
        }
        let next = u16::try_from(self.aliases.len() + 1).ok();
        next.filter(|next| *next <= self.topic_alias_max)
            .and_then(NonZeroU16::new)
            .map_or(Topic::Named, Topic::Sets)
    }

    /// The PUBLISH that sets `alias` has its place before all that follow.
    pub(super) fn set(&mut self, topic: &[u8], alias: NonZeroU16) {
        self.aliases.insert(topic.into(), alias);
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self::new(u32::MAX, true, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn the_first_topics_get_the_aliases_that_client_and_broker_allow() {
        // 5.0: [MQTT-3.1.2-26], [MQTT-3.3.2-11]
        for (client, broker, expected) in [(2, 64, 2), (64, 2, 2), (0, 64, 0), (64, 0, 0)] {
            let mut terms = Terms::new(1000, true, client).stated(broker).unwrap();
            for (number, topic) in (1..).zip([b"a/long/1", b"a/long/2", b"a/long/3"]) {
                let said = terms.topic(topic);
                if number <= expected {
                    assert_eq!(said, Topic::Sets(alias(number)));
                    terms.set(topic, alias(number));
                    assert_eq!(terms.topic(topic), Topic::Aliased(alias(number)));
                } else {
                    assert_eq!(said, Topic::Named);
                }
            }
            assert_eq!(terms.topic(b"a/b"), Topic::Named, "shorter than its alias");
        }
    }

    #[test]
    fn who_states_nothing_costs_nothing() {
        assert!(Terms::default().stated(64).is_none());
        assert!(Terms::new(u32::MAX, true, 9).stated(0).is_none());
        assert!(Terms::new(u32::MAX, false, 0).stated(64).is_some());
    }
}
