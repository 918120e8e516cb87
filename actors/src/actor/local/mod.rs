//! What the actors of one shard share on their one thread: the directory of sessions, their slots, who reads what,
//! and what waits to leave the shard at the end of a turn.
//!
//! Never crosses threads (it lives in an `Rc`), needs no lock, and is borrowed for one turn at a time.
//!
//! Invariants:
//! - a client id has at most one entry, an entry at most one actor;
//! - an actor is woken at most once until it looks at its slot;
//! - tickets of submissions grow and are answered in order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use actix::Recipient;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::protocol::{GroupBatch, RouteBatch};
use super::shared::Shared;
use crate::model::counter::Counter;
use crate::model::effects::Effects;
use crate::model::entry::Entry;
use crate::model::ids::{ClientId, Now, Offset, ShardId, Timestamp};
use crate::model::message::Message;
use crate::model::quota::Permit;
use crate::model::routes::{ShardRoutes, Slot};
use crate::model::topic::Filter;
use crate::observe::ShardCells;

mod directory;
mod fan_out;
mod group_life;
mod group_routes;
mod groups;
mod look_ups;
mod readers;
mod slots;
mod traffic;

use directory::Released;
pub use directory::{Presence, Resident, ResidentState, Stay};
pub use fan_out::FAN_OUT_BYTES_MAX;
use fan_out::FanOut;
pub use groups::LocalGroups;
pub use groups::{GroupResident, GroupState, home_of};
use look_ups::LookUps;
pub use slots::{Occupant, SlotState, Woken};
pub use traffic::Placement;
use traffic::Retaining;

/// The shard's own state.
#[derive(Debug)]
pub struct Local {
    /// Which shard this is.
    pub shard: ShardId,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// What this shard counts.
    pub cells: Arc<ShardCells>,
    /// All sessions whose home this is.
    pub directory: HashMap<ClientId, Resident>,
    /// The groups whose home this is.
    pub groups: LocalGroups,
    /// The highest ticket that is answered.
    pub answered: u64,
    peers: Vec<Recipient<RouteBatch>>,
    routes: ShardRoutes,
    /// Holds that an actor changed in this turn and did not record yet.
    unrecorded: Vec<(Slot, Filter, bool)>,
    slots: Vec<Option<SlotState>>,
    vacant: Vec<Slot>,
    wheel: BTreeSet<(Timestamp, ClientId)>,
    outboxes: Vec<Vec<Arc<Message>>>,
    fan_out: FanOut,
    /// Sessions whose publishers wait for a backlog to shrink.
    held_back: BTreeSet<Slot>,
    entries: Vec<Entry>,
    /// Units of sessions that ended in this turn.
    released: Vec<Released>,
    /// Who waits for the unit of a session that is being evicted.
    pub evicted: HashMap<ClientId, oneshot::Sender<Permit>>,
    /// What the turn under way publishes to be retained.
    retaining: Vec<Retaining>,
    /// The turn under way waits for what others submitted.
    asked: bool,
    ticket: u64,
    waiting: VecDeque<(u64, Slot)>,
    live_end: Offset,
    pass: u64,
    look_ups: LookUps,
}

impl Local {
    /// An empty shard.
    pub fn new(shard: ShardId, shards: usize, shared: Arc<Shared>, cells: Arc<ShardCells>) -> Self {
        Self {
            shard,
            cells,
            directory: HashMap::new(),
            groups: LocalGroups::new(shards),
            answered: 0,
            peers: Vec::new(),
            routes: ShardRoutes::default(),
            unrecorded: Vec::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            wheel: BTreeSet::new(),
            held_back: BTreeSet::new(),
            outboxes: vec![Vec::new(); shards],
            fan_out: FanOut::default(),
            entries: Vec::new(),
            released: Vec::new(),
            evicted: HashMap::new(),
            retaining: Vec::new(),
            asked: false,
            ticket: 1,
            waiting: VecDeque::new(),
            live_end: shared.journal.end(),
            pass: 0,
            look_ups: LookUps::default(),
            shared,
        }
    }

    /// Gets to know all shards, by number.
    pub fn meet(&mut self, peers: Vec<Recipient<RouteBatch>>, groups: Vec<Recipient<GroupBatch>>) {
        self.peers = peers;
        self.groups.meet(groups);
    }

    /// The moment at which this shard decides.
    pub fn now(&self) -> Now {
        Now {
            time: self.shared.clock.now(),
            log_end: self.shared.journal.end(),
            live_end: self.live_end,
        }
    }

    /// Counts one event.
    pub fn count(&self, counter: Counter) {
        self.cells.count(counter, 1);
    }

    /// Counts what a turn's decisions counted.
    pub fn count_all<E>(&self, effects: &mut Effects<E>) {
        for (counter, times) in effects.drain_counts() {
            self.cells.count(counter, times);
        }
    }
}
