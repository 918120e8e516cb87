//! What all shards share: routes, retained table, quota, and the handles to appender, journal and checkpointer.
//!
//! Invariant: a lock in here is held for one look-up or one change, never across a message or a wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use actix::Recipient;

use super::appender::AppenderHandle;
use super::checkpointer::CheckpointerHandle;
use super::protocol::MakeRoom;
use crate::clock::Clock;
use crate::journal::JournalReader;
use crate::model::group::directory::Directory;
use crate::model::ids::{SessionNumber, ShardId, ShardSet};
use crate::model::limits::SessionLimits;
use crate::model::message::{Message, QoS};
use crate::model::quota::Quota;
use crate::model::retained::Retained;
use crate::model::routes::{FilterNumber, Matched, RouteEdge, Routes};
use crate::model::topic::Filter;

/// Bytes on their way to one shard at which publishers of other shards get no credit back: a shard that cannot keep up
/// slows those that feed it, and its mailbox holds no more than this and what its publishers have credit for.
pub const ROUTE_BACKLOG_BYTES_MAX: u64 = 16 << 20;

/// The routes of all shards: filter -> number, shards with online readers, shards with durable readers.
#[derive(Debug, Default)]
pub struct SharedRoutes {
    routes: RwLock<Routes>,
    /// Raised by every change, so that a look-up may be remembered.
    generation: AtomicU64,
}

impl SharedRoutes {
    /// Who may want a publication to `topic`; the numbers of the filters that match go to `found`.
    pub fn lookup(&self, topic: &str, found: impl FnMut(FilterNumber)) -> Matched {
        self.routes.read().lookup(topic, found)
    }

    /// As [`Self::lookup`] for each of `topics` in turn; see [`Routes::lookup_all`].
    pub fn lookup_all(&self, topics: &[&str], found: impl FnMut(usize, Matched, FilterNumber)) {
        self.routes.read().lookup_all(topics, found);
    }

    /// Changes whenever a look-up may answer differently.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The shards that want a committed record at once: those with durable readers online.
    pub fn targets(&self, message: &Message) -> ShardSet {
        if message.qos == QoS::AtMostOnce {
            return ShardSet::default();
        }
        self.lookup(message.topic(), |_| {}).online
    }

    /// How many filters have a route.
    pub fn filters(&self) -> usize {
        self.routes.read().filters()
    }

    /// Lets `shard` change what it keeps under the number of `filter`. Only its thread may ask this for it.
    pub fn change(
        &self,
        filter: &Filter,
        shard: ShardId,
        change: impl FnOnce(FilterNumber) -> Option<RouteEdge>,
    ) {
        // Most changes are one reader more or less of many, for which nobody has to stop reading the routes.
        let known = self.routes.read().number(filter, shard);
        if let Some(number) = known {
            let Some(edge) = change(number) else { return };
            self.routes.write().apply(filter, shard, edge);
        } else if !self.routes.write().change(filter, shard, change) {
            return;
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

/// What all shards share.
#[derive(Debug)]
pub struct Shared {
    /// The broker's time.
    pub clock: Arc<dyn Clock>,
    /// Sessions that expired while the broker was down.
    pub expired_while_down: u64,
    /// Limits per session.
    pub limits: Arc<SessionLimits>,
    /// Who belongs to which group.
    pub groups: Mutex<Directory>,
    /// Who wants what.
    pub routes: Arc<SharedRoutes>,
    /// Retained messages: topic -> offset.
    pub retained: Arc<RwLock<Retained>>,
    /// Permits, one per session.
    pub quota: Arc<Quota>,
    /// The way into the journal.
    pub appender: AppenderHandle,
    /// The way out of it.
    pub journal: Arc<dyn JournalReader>,
    /// Snapshots of passive sessions.
    pub checkpointer: CheckpointerHandle,
    /// The boot epoch.
    pub epoch: u32,
    /// Counts the sessions of this boot.
    pub sessions_begun: AtomicU64,
    /// Bytes of publications on their way to each shard, by number.
    pub backlogs: Box<[AtomicU64]>,
    /// How long a takeover waits when there were too many of a session in a row, in milliseconds; 0: never.
    pub takeover_pause_millis: u64,
    /// Asked for room when a newcomer finds no unit; set once, before anybody connects.
    pub registry: OnceLock<Recipient<MakeRoom>>,
    /// How long a detached kept session keeps its actor, in milliseconds.
    pub passivate_after_millis: u64,
    /// Where tests let session actors die.
    #[cfg(feature = "testing")]
    pub faults: crate::supervise::faults::Faults,
}

impl Shared {
    /// Bytes of publications on their way from shard to shard.
    pub fn backlog_bytes(&self) -> u64 {
        let bytes = self.backlogs.iter();
        bytes.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Whether some shard cannot keep up with what the others send it.
    pub fn is_backlogged(&self) -> bool {
        self.backlogs
            .iter()
            .any(|bytes| bytes.load(Ordering::Relaxed) >= ROUTE_BACKLOG_BYTES_MAX)
    }

    /// A number that no session had or will have.
    pub fn next_session_number(&self) -> SessionNumber {
        let count = self.sessions_begun.fetch_add(1, Ordering::Relaxed);
        SessionNumber((u64::from(self.epoch) << 40) + count + 1)
    }
}
