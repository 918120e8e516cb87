//! Shared groups in the simulation: where they live, who runs them, what is on its way between them and their members.
//!
//! Sessions and groups live on [`SHARDS`] shards, as far as their talk goes: what one shard has for another travels in
//! batches, one per turn, in order for each pair of shards and at any speed.

mod account;
mod actor;
mod deaths;
mod declared;
mod life;
mod limits;
mod members;
mod rest;
mod routes;
mod talk;
mod twice;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use outlive_actors::actor::protocol::{Asker, GroupBatch};
use outlive_actors::model::effect::Effect;
use outlive_actors::model::group::Strategy;
use outlive_actors::model::group::attendance::Attendance;
use outlive_actors::model::group::directory::{Directory, name_of};
use outlive_actors::model::ids::{GroupNumber, Offset, ShardId};
use outlive_actors::model::limits::SharedLimits;
use outlive_actors::model::message::{Message, MessageParts};
use outlive_actors::model::packet::Outbound;
use outlive_actors::model::routes::Slot;
use outlive_actors::model::topic::Filter;
use outlive_actors::supervise::Panics;

use crate::rng::Rng;
use crate::world::Actor;
use account::Account;
use actor::GroupActor;
use limits::{AllChanges, some_limit};
use routes::{Listening, Routed, Switch, Travels};

pub(crate) use account::Key;

/// Shards of the simulated broker.
const SHARDS: usize = 3;

/// Who submits to the journal if no session does.
pub(crate) const NO_CLIENT: usize = usize::MAX;

/// For what a shard says in the name of a session that has no actor.
const NO_SLOT: Slot = Slot(u32::MAX);

/// Slots are numbered so that each tells its client.
const CLIENTS_MAX: u32 = 100;

/// Shared subscriptions that clients make: a group with two filters, a filter in two groups, a declared group.
pub(crate) const SHARES: [&str; 5] = [
    "$share/g/a/+",
    "$share/g/#",
    "$share/h/a/+",
    "$share/h/+/x",
    "$share/declared/c",
];

/// What a group's home knows of it.
#[derive(Debug)]
struct Resident {
    filter: Filter,
    plain: Filter,
    strategy: Strategy,
    durable: bool,
    /// Until it reads the journal, if it is durable.
    switch: Option<Switch>,
    /// Who waits until it is routed to.
    askers: Vec<Asker>,
    state: State,
    attendance: Attendance,
    deaths: u32,
    panics: Option<Panics>,
}

/// How a group is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh(Option<Offset>),
    Passive,
    Active,
    Quarantined,
}

/// All groups, and what is on its way.
pub(crate) struct Groups {
    limits: Arc<SharedLimits>,
    pub(crate) directory: Directory,
    residents: BTreeMap<GroupNumber, Resident>,
    numbers: BTreeMap<Filter, GroupNumber>,
    /// Groups that need an actor.
    due: BTreeSet<GroupNumber>,
    /// Actors of groups, those whose group is over and who were not told yet among them.
    actors: BTreeMap<GroupNumber, GroupActor>,
    /// Which actors their homes route to.
    listening: BTreeMap<GroupNumber, Listening>,
    spells: u64,
    /// What the turn under way has for other shards.
    outboxes: BTreeMap<(usize, usize), GroupBatch>,
    /// What the turn under way published, for other shards.
    routed: BTreeMap<(usize, usize), Vec<Routed>>,
    /// What is under way from one shard to another.
    ways: BTreeMap<(usize, usize), VecDeque<Travels>>,
    /// A way on which batches take long.
    slow: Option<(usize, usize)>,
    questions: u64,
    changes: AllChanges,
    /// Declared groups that were durable after the last step.
    declared: BTreeMap<Filter, GroupNumber>,
    /// Slots that clients' actors had so far.
    slots: BTreeMap<usize, u32>,
    pub(crate) account: Account,
}

impl Groups {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let (_, strategy) = *rng.pick(&Strategy::ALL);
        let limits = Arc::new(SharedLimits {
            groups_max: some_limit(rng, &[1, 2]),
            filters_per_group_max: some_limit(rng, &[1]),
            members_per_group_max: some_limit(rng, &[1, 2, 3]),
            changes_per_second_max: some_limit(rng, &[1, 2, 4]),
            strategy,
            declared: [("declared".into(), None)].into(),
            require_declared: false,
        });
        Self {
            directory: Directory::new(Arc::clone(&limits), 1 << 40),
            limits,
            residents: BTreeMap::new(),
            numbers: BTreeMap::new(),
            due: BTreeSet::new(),
            actors: BTreeMap::new(),
            listening: BTreeMap::new(),
            spells: 0,
            outboxes: BTreeMap::new(),
            routed: BTreeMap::new(),
            ways: BTreeMap::new(),
            slow: rng
                .permille(500)
                .then(|| (rng.index(SHARDS), rng.index(SHARDS))),
            questions: 0,
            changes: AllChanges::new(),
            declared: BTreeMap::new(),
            slots: BTreeMap::new(),
            account: Account::default(),
        }
    }

    /// Whether some group needs this topic in the journal.
    pub(crate) fn hold(&self, topic: &str) -> bool {
        let mut residents = self.residents.values();
        residents.any(|resident| resident.durable && resident.plain.matches(topic))
    }
}

/// The shard of a client's session.
fn shard_of(client: usize) -> usize {
    client % SHARDS
}

/// The shard of a group.
fn home_of(filter: &Filter) -> usize {
    name_of(filter).bytes().map(usize::from).sum::<usize>() % SHARDS
}

fn shard(number: usize) -> ShardId {
    ShardId(u8::try_from(number).unwrap())
}

/// What a shared subscription reads.
pub(crate) fn plain(filter: &Filter) -> Filter {
    filter.share().unwrap().1
}

/// The message with a mark of whose lease it is, so that whoever receives it can tell.
fn marked(message: &Message, (group, at): Key) -> Arc<Message> {
    let mut properties = message.properties()[..8].to_vec();
    properties.extend_from_slice(&group.0.to_le_bytes());
    properties.extend_from_slice(&at.0.to_le_bytes());
    Arc::new(Message::new(MessageParts {
        topic: message.topic(),
        payload: message.payload(),
        properties: &properties,
        qos: message.qos,
        retain: message.retain,
        published_at: message.published_at,
        expires_at: message.expires_at,
        publisher: message.publisher,
    }))
}

/// Marks what is sent again from the journal as the lease that its packet identifier stands for.
pub(crate) fn mark_as_in_window(actor: &Actor, effect: &mut Effect) {
    let Effect::Send(Outbound::Publish(delivery)) = effect else {
        return;
    };
    let mut window = actor.session.inflight().iter();
    let sent = window.find(|sent| Some(sent.packet_id) == delivery.packet_id);
    if let Some((group, sent)) = sent.and_then(|sent| Some((sent.lease?, sent))) {
        delivery.message = marked(&delivery.message, (group, sent.offset));
    }
}

/// The lease that brought a message, if a group did.
pub(crate) fn lease_of(message: &Message) -> Option<Key> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let mark = &message.properties()[8..];
    let (group, at) = mark.split_at_checked(8)?;
    Some((GroupNumber(number(group)), Offset(number(at))))
}
