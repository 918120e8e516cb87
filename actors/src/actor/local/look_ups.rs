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
