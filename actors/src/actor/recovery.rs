//! The start after a stop or a crash: what survived, and what must be recorded about it first.
//!
//! Owns: the decision which sessions survive a start. Does not know: routes, quota, actors; the caller builds them
//! from what it is given.
//!
//! Invariants:
//! - recovery reads; it writes neither store nor journal. What it decides becomes a fact when the caller appends the
//!   entries that it is given, and is decided alike by the next start if the process dies before;
//! - sessions are given one at a time: memory is needed for those that the tail of the journal touches.
//!
//! The order of a start: [`recover`] (a damaged store is refused before anything is written), [`begin_epoch`], append
//! the entries of all [`Survivor`]s, only then liveness stamps, actors and listeners.

mod groups;

use std::sync::Arc;

use thiserror::Error;

pub use self::groups::{GroupSummary, GroupsFound};
use crate::clock::{BrokerClock, Clock};
use crate::journal::{JournalReader, ReadError};
use crate::model::entry::{Change, Entry};
use crate::model::ids::{
    ClientId, GroupNumber, Listener, Offset, Principal, SessionNumber, Timestamp,
};
use crate::model::message::Will;
use crate::model::retained::RetainedAt;
use crate::model::snapshot::SessionSnapshot;
use crate::model::topic::Filter;
use crate::store::replica::Replica;
use crate::store::{Checkpoint, SnapshotStore, StoreError};

/// The broker appends a liveness stamp at least this often. A session that was attached at a crash counts as detached
/// one interval after the last stamp: the crash came no later than that, and no session expires early.
pub const LIVENESS_INTERVAL_MILLIS: u64 = 60_000;

/// What recovery found, one at a time.
#[derive(Debug)]
pub enum Survivor<'a> {
    /// A session that lives on.
    Session(SessionSummary),
    /// A session whose deadline passed while the broker was down.
    Expired(ExpiredSession),
    /// A group, with members or without.
    Group {
        /// The group.
        number: GroupNumber,
        /// The shared subscription.
        filter: Filter,
        /// The next offset that it reads.
        next: Offset,
    },
    /// A retained topic.
    Retained {
        /// The topic name.
        topic: &'a str,
        /// Its message.
        at: RetainedAt,
    },
}

/// What must be known of a sleeping session: the rest stays in the store.
#[derive(Clone, Debug)]
pub struct SessionSummary {
    /// The session.
    pub number: SessionNumber,
    /// The client id.
    pub client_id: ClientId,
    /// Who owns it.
    pub owner: Principal,
    /// Whose quota its unit counts for.
    pub listener: Listener,
    /// Whether its client ever came back to it.
    pub resumed: bool,
    /// The expiry in seconds after the connection ended.
    pub expiry_seconds: u32,
    /// When the session expires.
    pub deadline: Timestamp,
    /// When its will is due, if it has one.
    pub will_due_at: Option<Timestamp>,
    /// Filters of its own with a granted QoS of 1 or 2: durable routes.
    pub filters: Vec<Filter>,
    /// Shared subscriptions, from where each counts, and whether with a granted QoS of 1 or 2.
    pub shared: Vec<(Filter, Offset, bool)>,
    /// A connection was attached when the broker died.
    pub was_attached: bool,
    /// What must be appended before anything else is done with the session: [`Change::Recovered`] if it was attached.
    pub record: Option<Entry>,
}

/// A session that did not outlive the time the broker was down.
#[derive(Clone, Debug)]
pub struct ExpiredSession {
    /// The session.
    pub number: SessionNumber,
    /// The client id.
    pub client_id: ClientId,
    /// When it expired.
    pub expired_at: Timestamp,
    /// The will to publish, before [`ExpiredSession::record`] is appended.
    pub will: Option<Box<Will>>,
}

impl ExpiredSession {
    /// The record that ends the session.
    pub fn record(&self) -> Entry {
        session_entry(self.number, Change::Ended)
    }
}

/// What the broker goes on with.
#[derive(Debug)]
pub struct Recovered {
    /// For the checkpointer: the store and what the journal says beyond it.
    pub replica: Replica,
    /// The journal's end.
    pub end: Offset,
    /// The broker's time.
    pub clock: BrokerClock,
    /// Journal records replayed.
    pub replayed: u64,
    /// Sessions that live on.
    pub sessions: u64,
    /// Sessions that expired.
    pub expired: u64,
}

/// Why the broker cannot start.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The store failed or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal failed or is damaged.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// Raises the boot epoch and commits it, and with it where what the journal holds ends now; must be done before a fence
/// of this start is handed out. No later checkpoint lowers the epoch.
///
/// # Errors
/// [`StoreError`] if the store fails; then the old epoch stands and the broker must not start.
pub fn begin_epoch(store: &dyn SnapshotStore, holds: Offset) -> Result<u32, StoreError> {
    let mut marks = store.marks()?;
    marks.holds = holds;
    marks.epoch = marks.epoch.saturating_add(1);
    store.commit(&Checkpoint {
        marks,
        ..Checkpoint::default()
    })?;
    Ok(marks.epoch)
}

/// Replays the journal onto the store's checkpoint and gives what survived to `each`.
///
/// # Errors
/// [`RecoverError`]; nothing was written.
pub fn recover(
    store: Arc<dyn SnapshotStore>,
    journal: &dyn JournalReader,
    machine: Arc<dyn Clock>,
    each: &mut dyn FnMut(Survivor<'_>),
) -> Result<Recovered, RecoverError> {
    let mut replica = Replica::open(store)?;
    let mut replayed = 0;
    let mut failed = None;
    journal.replay(replica.marks().covers, &mut |at, entry| {
        if failed.is_none() {
            replayed += 1;
            failed = replica.apply(at, &entry).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let end = journal.end();
    replica.begin(end, journal.holds());

    let alive_at = replica.alive_at();
    let clock = BrokerClock::resume(machine, replica.stamp(), alive_at);
    let now = clock.now();
    let (mut sessions, mut expired) = (0, 0);
    replica.scan(&mut |snapshot| {
        let survivor = judge(snapshot, alive_at, end, now);
        match &survivor {
            Survivor::Session(_) => sessions += 1,
            Survivor::Expired(_) => expired += 1,
            Survivor::Group { .. } | Survivor::Retained { .. } => {}
        }
        each(survivor);
    })?;
    replica.scan_groups(&mut |group| {
        each(Survivor::Group {
            number: group.number,
            filter: group.filter.clone(),
            next: group.next,
        });
    })?;
    replica.retained(&mut |topic, at| each(Survivor::Retained { topic, at }))?;
    Ok(Recovered {
        replica,
        end,
        clock,
        replayed,
        sessions,
        expired,
    })
}

/// Whether a session lives on at `now`.
fn judge(
    snapshot: &SessionSnapshot,
    alive_at: Timestamp,
    end: Offset,
    now: Timestamp,
) -> Survivor<'static> {
    let number = snapshot.number;
    let ended_at = detached_at(snapshot, alive_at, now);
    let deadline = ended_at.plus_seconds(snapshot.expiry_seconds);
    if deadline <= now {
        return Survivor::Expired(ExpiredSession {
            number,
            client_id: snapshot.client_id.clone(),
            expired_at: deadline,
            will: snapshot.will.clone(),
        });
    }
    let was_attached = snapshot.detached_at.is_none();
    let recovered = Change::Recovered {
        at: ended_at,
        maybe_sent_below: end,
    };
    Survivor::Session(SessionSummary {
        number,
        client_id: snapshot.client_id.clone(),
        owner: snapshot.owner.clone(),
        listener: snapshot.listener.clone(),
        resumed: snapshot.was_resumed(),
        expiry_seconds: snapshot.expiry_seconds,
        deadline,
        will_due_at: snapshot
            .will
            .as_ref()
            .map(|will| ended_at.plus_seconds(will.delay_seconds).min(deadline)),
        filters: snapshot
            .durable_subscriptions()
            .map(|subscription| subscription.filter.clone())
            .collect(),
        shared: snapshot
            .shared_subscriptions()
            .map(|known| (known.filter.clone(), known.from, known.is_durable()))
            .collect(),
        was_attached,
        record: was_attached.then(|| session_entry(number, recovered)),
    })
}

/// When the session's connection counts as ended: as recorded, or for one that was attached at the crash the latest
/// moment at which that can have been, which is in the session's favour.
fn detached_at(snapshot: &SessionSnapshot, alive_at: Timestamp, now: Timestamp) -> Timestamp {
    snapshot.detached_at.unwrap_or_else(|| {
        let last_seen = alive_at.max(snapshot.attached_at);
        Timestamp(last_seen.0.saturating_add(LIVENESS_INTERVAL_MILLIS)).min(now)
    })
}

fn session_entry(session: SessionNumber, change: Change) -> Entry {
    Entry::Session {
        session,
        change: Box::new(change),
    }
}

#[cfg(test)]
mod tests;
