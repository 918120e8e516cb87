//! Who reads what is published: look-ups in the shared routes. Those of a turn are made at once, and each is remembered for
//! as long as one topic after the other is the same: a client publishes to one topic many times.
//!
//! Invariant: between turns no more than one message is held for its topic.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::super::shared::SharedRoutes;
use crate::model::message::Message;
use crate::model::routes::{FilterNumber, Matched};

/// So many topics are looked up under one lock.
const UNDER_ONE_LOCK: usize = 64;

/// Look-ups that were made, in the order in which they will be asked for.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    /// The routes' generation before they were made.
    generation: u64,
    found: Vec<Found>,
    /// Which of `found` was asked for last.
    current: usize,
    filters: Vec<FilterNumber>,
}

/// What one look-up found.
#[derive(Debug)]
struct Found {
    /// The publication, for its topic.
    message: Arc<Message>,
    matched: Matched,
    /// Where the numbers of the filters lie.
    filters: Range<usize>,
}

impl LookUps {
    /// Finds who reads a message's topic.
    pub(super) fn find(&mut self, routes: &SharedRoutes, message: &Arc<Message>) -> Matched {
        let is_known = self.generation == routes.generation();
        let ahead = self.found.get(self.current..).unwrap_or_default();
        let at = ahead
            .iter()
            .position(|found| found.message.topic_bytes() == message.topic_bytes());
        match at.filter(|_| is_known) {
            Some(at) => self.current += at,
            None => {
                self.clear(routes);
                self.look_up(routes, &[message]);
            }
        }
        self.found[self.current].matched
    }

    /// Looks up what will be asked for in this order, unless it begins with one topic twice. Gives the numbers of the filters
    /// found.
    pub(super) fn look_ahead<'a>(
        &mut self,
        routes: &SharedRoutes,
        mut messages: impl Iterator<Item = &'a Arc<Message>>,
    ) -> &[FilterNumber] {
        let (Some(first), Some(second)) = (messages.next(), messages.next()) else {
            return &[];
        };
        if first.topic_bytes() == second.topic_bytes() {
            return &[];
        }
        self.clear(routes);
        let mut last: &[u8] = &[];
        let mut wanted: SmallVec<[&Arc<Message>; UNDER_ONE_LOCK]> = SmallVec::new();
        for message in [first, second].into_iter().chain(messages) {
            if message.topic_bytes() == last {
                continue;
            }
            last = message.topic_bytes();
            wanted.push(message);
            if wanted.len() == UNDER_ONE_LOCK {
                self.look_up(routes, &wanted);
                wanted.clear();
            }
        }
        self.look_up(routes, &wanted);
        &self.filters
    }

    /// The routes' generation when the last answer was looked up.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The numbers of the filters that match what was asked for last.
    pub(super) fn filters(&self) -> &[FilterNumber] {
        let current = self.found.get(self.current);
        current.map_or(&[], |found| &self.filters[found.filters.clone()])
    }

    /// The turn is over: only the last look-up is remembered.
    pub(super) fn end_turn(&mut self) {
        if self.found.len() > 1 {
            self.found.swap(0, self.current);
            self.found.truncate(1);
            self.current = 0;
        }
    }

    fn clear(&mut self, routes: &SharedRoutes) {
        // Read before the look-ups: a change in between makes the next one look again.
        self.generation = routes.generation();
        self.found.clear();
        self.filters.clear();
        self.current = 0;
    }

    fn look_up(&mut self, routes: &SharedRoutes, messages: &[&Arc<Message>]) {
        let first = self.found.len();
        let topics: SmallVec<[&str; UNDER_ONE_LOCK]> =
            messages.iter().map(|message| message.topic()).collect();
        self.found.extend(messages.iter().map(|message| Found {
            message: Arc::clone(message),
            matched: Matched::default(),
            filters: 0..0,
        }));
        let (found, filters) = (&mut self.found[first..], &mut self.filters);
        routes.lookup_all(&topics, |place, matched, number| {
            let found = &mut found[place];
            if found.filters.is_empty() {
                found.filters.start = filters.len();
            }
            filters.push(number);
            found.filters.end = filters.len();
            found.matched = found.matched.union(matched);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{SessionNumber, ShardId, Timestamp};
    use crate::model::message::{MessageParts, QoS};
    use crate::model::routes::RouteEdge;
    use crate::model::topic::Filter;

    fn message(topic: &str) -> Arc<Message> {
        Arc::new(Message::new(MessageParts {
            topic,
            payload: b"x",
            properties: b"",
            qos: QoS::AtLeastOnce,
            retain: false,
            published_at: Timestamp(0),
            expires_at: None,
            publisher: SessionNumber(1),
        }))
    }

    fn listen(routes: &SharedRoutes, filter: &str, shard: u8) {
        let filter = Filter::new(filter).unwrap();
        routes.change(&filter, ShardId(shard), |_| Some(RouteEdge::Online(true)));
    }

    /// What is found is what a look-up by itself finds.
    fn assert_found(look_ups: &mut LookUps, routes: &SharedRoutes, message: &Arc<Message>) {
        let mut numbers = Vec::new();
        let alone = routes.lookup(message.topic(), |number| numbers.push(number));
        assert_eq!(look_ups.find(routes, message), alone, "{message:?}");
        assert_eq!(look_ups.filters(), numbers, "{message:?}");
    }

    #[test]
    fn what_was_looked_up_together_is_what_each_finds_alone() {
        let routes = SharedRoutes::default();
        for n in 0..100_u8 {
            listen(&routes, &format!("t/{n}"), n % 3);
        }
        listen(&routes, "t/+", 3);
        listen(&routes, "t/7/#", 4);
        // More than go under one lock, some twice in a row, some without a reader.
        let topics = (0..150).map(|n| format!("t/{}", n * 7 % 110 / 2));
        let messages: Vec<_> = topics.map(|topic| message(&topic)).collect();
        let mut look_ups = LookUps::default();
        let filters = look_ups.look_ahead(&routes, messages.iter());
        assert!(filters.len() > messages.len());
        for published in &messages {
            assert_found(&mut look_ups, &routes, published);
        }
        // Not all that was expected comes, and something else does.
        look_ups.look_ahead(&routes, messages.iter());
        for published in [&messages[3], &messages[80], &message("t/7"), &messages[3]] {
            assert_found(&mut look_ups, &routes, published);
        }
    }

    #[test]
    fn who_subscribes_in_between_is_found() {
        let routes = SharedRoutes::default();
        listen(&routes, "t/+", 0);
        let messages = ["t/1", "t/2", "t/3"].map(message);
        let mut look_ups = LookUps::default();
        look_ups.look_ahead(&routes, messages.iter());
        assert_found(&mut look_ups, &routes, &messages[0]);
        listen(&routes, "t/2", 1);
        for published in &messages[1..] {
            assert_found(&mut look_ups, &routes, published);
        }
    }

    #[test]
    fn between_turns_one_message_is_held() {
        let routes = SharedRoutes::default();
        let messages = ["t/1", "t/2", "t/3"].map(message);
        let mut look_ups = LookUps::default();
        look_ups.look_ahead(&routes, messages.iter());
        look_ups.find(&routes, &messages[1]);
        look_ups.end_turn();
        assert_eq!(messages.each_ref().map(Arc::strong_count), [1, 2, 1]);
        assert_found(&mut look_ups, &routes, &messages[1]);
    }
}
