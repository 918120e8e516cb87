//! Subscriptions as they were: what a kept session is owed for a record is decided by those that were in force at the record's
//! place in the journal, never by today's.
//!
//! Invariants:
//! - one is kept only as long as a record of its range may still be sent, for the first time or again;
//! - what is let go follows from the session's changes alone, so a session and the fold of its changes keep the same.

use serde::{Deserialize, Serialize};

use super::entry::{Step, Unsettled};
use super::ids::{Offset, SessionNumber};
use super::message::{Message, QoS};
use super::snapshot::SubscriptionSnapshot;
use super::subscriptions::{Owed, bytes_of};

/// A subscription that was replaced, or dropped by UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastSubscription {
    /// As it was.
    pub was: SubscriptionSnapshot,
    /// It counts for records below this offset.
    pub until: Offset,
    /// UNSUBSCRIBE came: what it did not send is not owed any more.
    pub dropped: bool,
}

/// The past subscriptions of one session, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Past(Vec<PastSubscription>);

impl PastSubscription {
    fn counts(&self, offset: Offset) -> bool {
        (self.was.from..self.until).contains(&offset)
    }

    fn reads(&self) -> bool {
        self.was.is_durable()
    }
}

impl Past {
    /// None at all.
    pub const EMPTY: Self = Self(Vec::new());

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PastSubscription> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they count for, as the subscriptions in force do.
    pub fn bytes(&self) -> usize {
        self.iter().map(|past| bytes_of(&past.was.filter)).sum()
    }

    /// A subscription was in force up to `until`. Those of groups are not noted: their groups decide what they get.
    pub fn push(&mut self, was: SubscriptionSnapshot, until: Offset, dropped: bool) {
        if dropped {
            let same = self.0.iter_mut();
            same.filter(|past| past.was.filter == was.filter)
                .for_each(|past| past.dropped = true);
        }
        let tells = was.is_durable() || was.options.id.is_some();
        if tells && was.from < until && !was.filter.is_shared() {
            self.0.push(PastSubscription {
                was,
                until,
                dropped,
            });
        }
    }

    /// The past subscriptions that the journal is read for from `next` on.
    pub fn read_from(&self, next: Offset) -> impl Iterator<Item = &SubscriptionSnapshot> {
        let reading = self.iter();
        let reading = reading.filter(move |past| past.reads() && past.until > next);
        reading.map(|past| &past.was)
    }

    /// The first offset from `next` on of which a record may be owed.
    pub fn needed_from(&self, next: Offset) -> Option<Offset> {
        let owed = self.iter().filter(|past| past.reads() && !past.dropped);
        let owed = owed.filter(|past| past.until > next);
        owed.map(|past| past.was.from.max(next)).min()
    }

    /// Lets go what no record needs: the session has come to `next`, its window holds `window`, and `reads` says whether it
    /// reads on by a subscription in force. Gives whether there was any.
    pub fn let_go<'a>(
        &mut self,
        next: Offset,
        window: impl Iterator<Item = &'a Unsettled>,
        reads: bool,
    ) -> bool {
        if self.is_empty() {
            return false;
        }
        let reads = reads || self.read_from(next).next().is_some();
        let before = self.0.len();
        let again = window.filter(|sent| !sent.replay && sent.step == Step::Published);
        let again: Vec<Offset> = again.map(|sent| sent.offset).collect();
        self.0.retain(|past| {
            (reads && past.until > next) || again.iter().any(|offset| past.counts(*offset))
        });
        self.0.len() != before
    }

    /// Adds what the record at `offset` meant to those that were in force there.
    pub(super) fn add(
        &self,
        owed: &mut Owed,
        message: &Message,
        offset: Offset,
        reader: SessionNumber,
    ) {
        for past in self.matching(message, offset, reader) {
            owed.add(message, past.was.options, past.dropped);
        }
    }

    /// Whether UNSUBSCRIBE dropped the record at `offset`.
    pub fn dropped(&self, message: &Message, offset: Offset, reader: SessionNumber) -> bool {
        self.matching(message, offset, reader)
            .any(|past| past.dropped && past.was.options.qos.min(message.qos) > QoS::AtMostOnce)
    }

    fn matching(
        &self,
        message: &Message,
        offset: Offset,
        reader: SessionNumber,
    ) -> impl Iterator<Item = &PastSubscription> {
        self.iter().filter(move |past| {
            let own = past.was.options.no_local && message.publisher == reader;
            past.counts(offset) && !own && past.was.filter.matches(message.topic())
        })
    }
}
