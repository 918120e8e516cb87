//! What must be true: an account of everything published and received, kept apart from the broker's own state.
//!
//! Every publication by an application is a *post*; every time a client puts it on the wire is an *attempt*, so that
//! an attempt is one record of the journal at most. A violation panics; the runner prints the run's story.
//!
//! Here: posts, attempts, and what became of them at the broker. `holding` is what a client knows of its
//! subscriptions, `handed` what sessions hand out, `receipts` what applications get and what they must have got.

mod handed;
mod holding;
mod receipts;

use std::collections::{BTreeMap, BTreeSet};

use outlive_actors::model::ids::{Offset, PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, QoS};

use self::handed::Handed;
pub(crate) use self::holding::Holding;
use crate::groups::Key;
use crate::seen::Tally;

/// A post's number.
pub(crate) type Post = usize;
/// An attempt's number.
pub(crate) type Attempt = usize;
/// An attempt, and the lease that brought it if a group did.
pub(crate) type Arrival = (Attempt, Option<Key>);

/// One publication by an application.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) publisher: usize,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) will: bool,
    /// When it was first sent.
    pub(crate) sent_at: u64,
    /// The earliest moment at which an attempt of it expires.
    pub(crate) expires_at: Option<Timestamp>,
    /// When its publisher first heard that the broker has it.
    pub(crate) acked_at: Option<u64>,
    /// The journal refused an attempt: its publisher repeats it out of order.
    pub(crate) refused: bool,
    /// Attempts of it that are in the journal.
    pub(crate) logged: u32,
    /// How often it was handed to routing.
    pub(crate) routed: u32,
}

/// The account.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Counts events; orders what the account compares.
    pub(crate) clock: u64,
    pub(crate) posts: Vec<Posted>,
    attempts: Vec<Post>,
    /// When an attempt was routed, and when it was routed or committed last.
    settled: BTreeMap<Attempt, (u64, u64)>,
    /// When an attempt was committed, and when as a retained message it was replaced or cleared.
    committed: BTreeMap<Attempt, u64>,
    replaced: BTreeMap<Attempt, u64>,
    retained: BTreeMap<String, Attempt>,
    handed: BTreeMap<(SessionNumber, Attempt, QoS), Handed>,
    /// The connection over which an attempt went to a session with QoS 0.
    at_most_once: BTreeMap<(SessionNumber, Attempt), u64>,
    rebuilt: BTreeMap<SessionNumber, u32>,
    /// From where a session that was rebuilt reads on.
    read_from: BTreeMap<SessionNumber, Offset>,
    /// Where the log ended when a session last replaced or dropped a subscription.
    changed: BTreeMap<SessionNumber, Offset>,
    /// Sent with one QoS, and after a crash, since the subscription had changed meanwhile, with another: then it comes
    /// behind what was already in the window.
    requalified: BTreeSet<Attempt>,
    tried: BTreeSet<(SessionNumber, Attempt, QoS)>,
    /// What clients acknowledged, and how often its session had been rebuilt by then.
    acknowledged: BTreeMap<(SessionNumber, PacketId, Arrival), u32>,
    pub(crate) tally: Tally,
}

/// The attempt that a message is.
pub(crate) fn attempt_of(message: &Message) -> Attempt {
    let bytes: [u8; 8] = message.properties()[..8].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(bytes)).unwrap()
}

impl Oracle {
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn post(&mut self, posted: Posted) -> Post {
        self.posts.push(posted);
        self.posts.len() - 1
    }

    pub(crate) fn attempt(&mut self, post: Post, expires_at: Option<Timestamp>) -> Attempt {
        let known = &mut self.posts[post].expires_at;
        *known = match (*known, expires_at) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.attempts.push(post);
        self.attempts.len() - 1
    }

    pub(crate) fn post_of(&self, message: &Message) -> Post {
        self.post_of_attempt(attempt_of(message))
    }

    pub(crate) fn post_of_attempt(&self, attempt: Attempt) -> Post {
        self.attempts[attempt]
    }

    fn settle(&mut self, message: &Message) {
        let at = self.tick();
        self.settled
            .entry(attempt_of(message))
            .and_modify(|(_, last)| *last = at)
            .or_insert((at, at));
    }

    pub(crate) fn routed(&mut self, message: &Message) {
        self.settle(message);
        let post = self.post_of(message);
        self.posts[post].routed += 1;
    }

    /// When an attempt was routed, or read from the journal for the first time.
    pub(crate) fn routed_at(&self, attempt: Attempt) -> Option<u64> {
        self.settled.get(&attempt).map(|(routed, _)| *routed)
    }

    /// An attempt is in the journal: a QoS 2 post at most once.
    pub(crate) fn committed(&mut self, message: &Message) {
        self.settle(message);
        let (post, attempt) = (self.post_of(message), attempt_of(message));
        // A crash may publish a will again.
        self.committed.entry(attempt).or_insert(self.clock);
        if message.retain {
            let topic = message.topic().to_owned();
            let before = self.retained.insert(topic, attempt);
            self.replaced.extend(before.map(|it| (it, self.clock)));
            self.replaced.remove(&attempt);
        }
        let posted = &mut self.posts[post];
        posted.logged += 1;
        assert!(
            posted.will || posted.qos != QoS::ExactlyOnce || posted.logged == 1,
            "QoS 2 post {post} is in the journal twice"
        );
    }
}
