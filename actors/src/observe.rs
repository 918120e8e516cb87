//! What the actors show of themselves: copyable values, read by metrics, tests and embedders alike.
//!
//! Every shard counts in its own cells, one writer each, so that counting costs no lock and observing costs the shards
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::journal::JournalReader;
use crate::model::counter::Counter;
use crate::model::entry::Step;
use crate::model::group::Group;
use crate::model::group::directory::Standing;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{Fence, Offset, SessionNumber, Timestamp};
use crate::model::session::Session;
use crate::model::snapshot::SessionSnapshot;

/// One counted gauge of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Gauge {
    /// Sessions with a connection.
    SessionsOnline,
    /// Kept sessions without one.
    SessionsOffline,
    /// Session actors.
    SessionActors,
    /// Subscriptions of sessions that have an actor.
    Subscriptions,
    /// Replays of retained messages of sessions that have an actor.
    Replays,
    /// Sessions that are not rebuilt any more because they kept panicking.
    Quarantined,
    /// Groups, by shared subscription.
    Groups,
    /// Group actors.
    GroupActors,
    /// Members of groups that can be given records.
    GroupMembersOnline,
    /// Records that members of groups have and did not settle.
    GroupLeases,
    /// Messages of groups that wait beside their cursors.
    GroupWaiting,
    /// Durable groups that are behind the journal's live end, or wait for a member.
    GroupsBehind,
}

impl Gauge {
    /// How many gauges there are.
    pub const COUNT: usize = Self::GroupsBehind as usize + 1;
}

/// The cells of one shard.
#[derive(Debug)]
pub struct ShardCells {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicI64; Gauge::COUNT],
    restarts: AtomicU64,
}

impl Default for ShardCells {
    fn default() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicI64::new(0)),
            restarts: AtomicU64::new(0),
        }
    }
}

impl ShardCells {
    /// Counts an event that happened so many times. Only the shard's own thread writes.
    pub fn count(&self, counter: Counter, times: u32) {
        add(&self.counters[counter as usize], times);
    }

    /// Moves a gauge. Only the shard's own thread writes.
    pub fn shift(&self, gauge: Gauge, by: i64) {
        let cell = &self.gauges[gauge as usize];
        cell.store(cell.load(Ordering::Relaxed) + by, Ordering::Relaxed);
    }

    /// Counts an actor that was rebuilt after a panic.
    pub fn restarted(&self) {
        add(&self.restarts, 1);
    }

    /// A copy of the cells.
    pub fn observe(&self) -> ShardObservation {
        ShardObservation {
            counters: std::array::from_fn(|at| self.counters[at].load(Ordering::Relaxed)),
            gauges: std::array::from_fn(|at| self.gauges[at].load(Ordering::Relaxed)),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }
}

/// One writer: a plain load and store cost less than an atomic addition.
fn add(cell: &AtomicU64, more: u32) {
    cell.store(
        cell.load(Ordering::Relaxed) + u64::from(more),
        Ordering::Relaxed,
    );
}

/// What one shard, or all of them together, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardObservation {
    counters: [u64; Counter::COUNT],
    gauges: [i64; Gauge::COUNT],
    /// Actors rebuilt after a panic.
    pub restarts: u64,
}

impl Default for ShardObservation {
    fn default() -> Self {
        Self {
            counters: [0; Counter::COUNT],
            gauges: [0; Gauge::COUNT],
            restarts: 0,
        }
    }
}

impl ShardObservation {
    /// How often `counter` was counted.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Where `gauge` stands.
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges[gauge as usize]
    }

    /// What all shards together counted.
    pub fn of_all(shards: &[Arc<ShardCells>]) -> Self {
        let shards = shards.iter().map(|cells| cells.observe());
        shards.fold(Self::default(), |sum, shard| sum.plus(&shard))
    }

    /// Adds another shard's.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.counters
            .iter_mut()
            .zip(other.counters)
            .for_each(|(sum, add)| *sum += add);
        self.gauges
            .iter_mut()
            .zip(other.gauges)
            .for_each(|(sum, add)| *sum += add);
        self.restarts += other.restarts;
        self
    }
}

/// What one session shows of itself, awake or asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionObservation {
    /// Its number.
    pub number: SessionNumber,
    /// It is run by an actor; otherwise it sleeps in its snapshot.
    pub has_actor: bool,
    /// A connection is attached.
    pub attached: bool,
    /// It outlives its connection.
    pub kept: bool,
    /// The fence of its last attach.
    pub fence: Fence,
    /// When it expires; `None` while attached.
    pub expires_at: Option<Timestamp>,
    /// Its subscriptions.
    pub subscriptions: usize,
    /// Deliveries begun and not settled by the client.
    pub unsettled: usize,
    /// Inbound QoS 2 publications not yet released.
    pub received: usize,
    /// The next journal record to read (kept sessions; as last recorded if it sleeps).
    pub next: Offset,
    /// It gets records as they are committed, without reading behind.
    pub live: bool,
}

impl From<&Session> for SessionObservation {
    fn from(session: &Session) -> Self {
        Self {
            number: session.number(),
            has_actor: true,
            attached: session.is_attached(),
            kept: session.is_kept(),
            fence: session.fence(),
            expires_at: session.expires_at(),
            subscriptions: session.subscriptions().len(),
            unsettled: session.inflight().len(),
            received: session.received().count(),
            next: session.cursor().next(),
            live: session.cursor().is_live(),
        }
    }
}

impl From<&SessionSnapshot> for SessionObservation {
    fn from(snapshot: &SessionSnapshot) -> Self {
        Self {
            number: snapshot.number,
            has_actor: false,
            attached: false,
            kept: true,
            fence: snapshot.fence,
            expires_at: snapshot.expires_at(),
            subscriptions: snapshot.subscriptions.len(),
            unsettled: snapshot
                .unsettled
                .iter()
                .filter(|sent| sent.step != Step::Done)
                .count(),
            received: snapshot.received.len(),
            next: snapshot.next,
            live: false,
        }
    }
}

/// What one group shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupObservation {
    /// What the directory says.
    pub standing: Standing,
    /// It is run by an actor.
    pub has_actor: bool,
    /// Members that can be given records.
    pub members_online: usize,
    /// Records that members have and did not settle.
    pub leases: usize,
    /// Messages at hand that wait for a member: returned ones, those in memory, and those that were read.
    pub waiting: usize,
    /// The next journal record to hand out.
    pub next: Offset,
    /// Journal entries that it has yet to look at; those that match are for its members.
    pub unread_entries: u64,
    /// It gets records as they are committed, without reading behind.
    pub live: bool,
}

impl GroupObservation {
    /// Of a group with an actor.
    pub fn of(standing: Standing, group: &Group, journal: &dyn JournalReader) -> Self {
        let cursor = group.cursor();
        let behind = group.is_durable() && !cursor.is_live();
        Self {
            standing,
            has_actor: true,
            members_online: group.members_online(),
            leases: group.leased(),
            waiting: group.waiting(),
            next: cursor.next(),
            unread_entries: match behind {
                true => journal.entries_since(cursor.covered()),
                false => 0,
            },
            live: cursor.is_live(),
        }
    }

    /// Of a durable group without an actor, as last recorded.
    pub fn asleep(
        standing: Standing,
        snapshot: &GroupSnapshot,
        journal: &dyn JournalReader,
    ) -> Self {
        Self {
            waiting: snapshot.unsettled.len(),
            next: snapshot.next,
            unread_entries: journal.entries_since(snapshot.next),
            ..Self::idle(standing)
        }
    }

    /// Of a group without an actor that has nothing.
    pub fn idle(standing: Standing) -> Self {
        Self {
            standing,
            has_actor: false,
            members_online: 0,
            leases: 0,
            waiting: 0,
            next: Offset::default(),
            unread_entries: 0,
            live: false,
        }
    }
}
