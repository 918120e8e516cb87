//! What the actors of one shard share on their one thread: the directory of sessions, their slots, who reads what,
//! and what waits to leave the shard at the end of a turn.
//!
//! Never crosses threads (it lives in an `Rc`), needs no lock, and is borrowed for one turn at a time.
//!
//! Invariants:
//! - a client id has at most one entry, an entry at most one actor;
//! - a session is woken at most once until it looks at its slot;
//! - tickets of submissions grow and are answered in order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use actix::Recipient;
use hashbrown::HashMap;

use super::protocol::{Committed, ConnectRequest, RouteBatch, Submission, ToConnection, ToSession};
use super::recovery::SessionSummary;
use super::shared::Shared;
use crate::model::counter::Counter;
use crate::model::effect::Live;
use crate::model::entry::Entry;
use crate::model::ids::{ClientId, Now, Offset, PacketId, SessionNumber, ShardId, Timestamp};
use crate::model::message::{Message, QoS};
use crate::model::packet::SubscriptionOptions;
use crate::model::quota::Permit;
use crate::model::record::Record;
use crate::model::routes::{RouteEdge, ShardRoutes, Slot};
use crate::model::session::Session;
use crate::model::topic::Filter;
use crate::observe::{Gauge, ShardCells};

/// What a shard knows of one client id.
#[derive(Debug)]
pub struct Resident {
    /// The session's number; 0 before its first attach.
    pub number: SessionNumber,
    /// Its unit of the quota.
    pub permit: Permit,
    /// When something is due: expiry, will, progress, passivation.
    pub deadline: Option<Timestamp>,
    /// How it is run.
    pub state: ResidentState,
    /// Whether it has a connection.
    pub presence: Presence,
    /// Panics of its actor, and since when they are counted.
    pub panics: (u32, Timestamp),
}

/// Whether a session has a connection, for the gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is no session yet, or no more.
    Vacant,
    /// A connection is attached.
    Online,
    /// The session waits for its client.
    Offline,
}

impl Presence {
    /// A session's.
    pub fn of(session: &Session) -> Self {
        match (session.is_begun(), session.is_attached()) {
            (false, _) => Self::Vacant,
            (true, true) => Self::Online,
            (true, false) => Self::Offline,
        }
    }

    fn gauge(self) -> Option<Gauge> {
        match self {
            Self::Vacant => None,
            Self::Online => Some(Gauge::SessionsOnline),
            Self::Offline => Some(Gauge::SessionsOffline),
        }
    }
}

/// How a session is run.
#[derive(Debug)]
pub enum ResidentState {
    /// By an actor.
    Active(Slot),
    /// By nobody: its snapshot lies in the store.
    Passive,
    /// Its snapshot is being read; the connection that asked last waits.
    Rehydrating(Option<Box<ConnectRequest>>),
    /// By nobody any more: its actor kept panicking.
    Quarantined,
}

/// What waits for one session actor.
#[derive(Debug)]
pub struct SlotState {
    /// The actor.
    pub session: Recipient<ToSession>,
    /// Whose it is.
    pub client_id: ClientId,
    /// The session's number, for no-local.
    pub number: SessionNumber,
    /// Its connection, for the day the actor dies.
    pub connection: Option<Recipient<ToConnection>>,
    /// Attaches under way to it.
    pub attaching: u32,
    /// What it reads while attached.
    filters: Vec<Filter>,
    live: Vec<Live>,
    records: Vec<Record>,
    failed: Vec<u64>,
    last_ticket: u64,
    woken: bool,
    /// The last publication that was put into `live` or will come from the journal, to find overlaps.
    pass: u64,
    pass_is_logged: bool,
}

/// What a session finds in its slot.
#[derive(Debug, Default)]
pub struct Woken {
    /// Publications from the routing pass.
    pub live: Vec<Live>,
    /// Committed records.
    pub records: Vec<Record>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// A subscription matched.
    pub matched: bool,
    /// The ticket to wait for, if it went to the journal.
    pub ticket: Option<u64>,
}

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
    /// The highest ticket that is answered.
    pub answered: u64,
    peers: Vec<Recipient<RouteBatch>>,
    routes: ShardRoutes,
    slots: Vec<Option<SlotState>>,
    vacant: Vec<Slot>,
    wheel: BTreeSet<(Timestamp, ClientId)>,
    outboxes: Vec<Vec<Arc<Message>>>,
    entries: Vec<Entry>,
    ticket: u64,
    waiting: VecDeque<(u64, Slot)>,
    live_end: Offset,
    pass: u64,
}

impl Local {
    /// An empty shard.
    pub fn new(shard: ShardId, shards: usize, shared: Arc<Shared>, cells: Arc<ShardCells>) -> Self {
        Self {
            shard,
            cells,
            directory: HashMap::new(),
            answered: 0,
            peers: Vec::new(),
            routes: ShardRoutes::default(),
            slots: Vec::new(),
            vacant: Vec::new(),
            wheel: BTreeSet::new(),
            outboxes: vec![Vec::new(); shards],
            entries: Vec::new(),
            ticket: 1,
            waiting: VecDeque::new(),
            live_end: shared.journal.end(),
            pass: 0,
            shared,
        }
    }

    /// Gets to know all shards, by number.
    pub fn meet(&mut self, peers: Vec<Recipient<RouteBatch>>) {
        self.peers = peers;
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
        self.cells.count(counter);
    }

    // --- slots

    /// Gives an actor a slot.
    pub fn occupy(&mut self, client_id: ClientId, session: Recipient<ToSession>) -> Slot {
        let state = SlotState {
            session,
            client_id,
            number: SessionNumber(0),
            connection: None,
            attaching: 0,
            filters: Vec::new(),
            live: Vec::new(),
            records: Vec::new(),
            failed: Vec::new(),
            last_ticket: 0,
            woken: false,
            pass: 0,
            pass_is_logged: false,
        };
        self.cells.shift(Gauge::SessionActors, 1);
        match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot.0 as usize] = Some(state);
                slot
            }
            None => {
                let slot = Slot(
                    u32::try_from(self.slots.len())
                        .expect("fewer than 2^32 session actors fit in memory"),
                );
                self.slots.push(Some(state));
                slot
            }
        }
    }

    /// Frees a slot. Its readers must be gone.
    pub fn vacate(&mut self, slot: Slot) -> Option<SlotState> {
        let state = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.vacant.push(slot);
        self.cells.shift(Gauge::SessionActors, -1);
        Some(state)
    }

    /// A slot's state.
    pub fn slot(&mut self, slot: Slot) -> Option<&mut SlotState> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Slots that are in use.
    pub fn occupied(&self) -> impl Iterator<Item = &SlotState> {
        self.slots.iter().flatten()
    }

    /// Takes what waits for a session.
    pub fn take(&mut self, slot: Slot) -> Woken {
        let Some(state) = self.slot(slot) else {
            return Woken::default();
        };
        state.woken = false;
        Woken {
            live: std::mem::take(&mut state.live),
            records: std::mem::take(&mut state.records),
        }
    }

    /// Whether everything that the session of this slot recorded is answered and nothing waits for it.
    pub fn is_quiet(&mut self, slot: Slot) -> bool {
        let answered = self.answered;
        let open = !self.entries.is_empty();
        self.slot(slot).is_some_and(|state| {
            !open
                && state.last_ticket <= answered
                && state.attaching == 0
                && state.live.is_empty()
                && state.records.is_empty()
        })
    }

    /// Whether nobody is attached and everything recorded is answered.
    pub fn is_drained(&self) -> bool {
        let attached = self
            .occupied()
            .any(|state| state.connection.is_some() || state.attaching > 0);
        !attached && self.entries.is_empty() && self.waiting.is_empty()
    }

    // --- deadlines

    /// Says when something is due for a client id.
    pub fn set_deadline(&mut self, client_id: &ClientId, deadline: Option<Timestamp>) {
        let Some(resident) = self.directory.get_mut(client_id) else {
            return;
        };
        if resident.deadline == deadline {
            return;
        }
        if let Some(before) = std::mem::replace(&mut resident.deadline, deadline) {
            self.wheel.remove(&(before, client_id.clone()));
        }
        if let Some(at) = deadline {
            self.wheel.insert((at, client_id.clone()));
        }
    }

    /// The client ids for which something is due, at most `max`; their deadlines are forgotten.
    pub fn due(&mut self, now: Timestamp, max: usize) -> Vec<ClientId> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some((at, _)) = self.wheel.first()
            && *at <= now
            && let Some((_, client_id)) = self.wheel.pop_first()
        {
            if let Some(resident) = self.directory.get_mut(&client_id) {
                resident.deadline = None;
            }
            due.push(client_id);
        }
        due
    }

    // --- directory

    /// A client id gets an entry and holds `permit`.
    pub fn admit(
        &mut self,
        client_id: ClientId,
        permit: Permit,
        state: ResidentState,
        presence: Presence,
    ) {
        if let Some(gauge) = presence.gauge() {
            self.cells.shift(gauge, 1);
        }
        let number = SessionNumber(0);
        let panics = (0, Timestamp(0));
        self.directory.insert(
            client_id,
            Resident {
                number,
                permit,
                deadline: None,
                state,
                presence,
                panics,
            },
        );
    }

    /// Takes over a session that survived a restart: routable, passive.
    pub fn inherit(&mut self, summary: SessionSummary) {
        let permit = self.shared.quota.adopt();
        let client_id = summary.client_id;
        self.admit(
            client_id.clone(),
            permit,
            ResidentState::Passive,
            Presence::Offline,
        );
        if let Some(resident) = self.directory.get_mut(&client_id) {
            resident.number = summary.number;
        }
        let deadline = summary
            .will_due_at
            .into_iter()
            .fold(summary.deadline, Ord::min);
        self.set_deadline(&client_id, Some(deadline));
        for filter in &summary.filters {
            self.hold(filter);
        }
        if let Some(record) = summary.record {
            self.append(record);
        }
    }

    /// Forgets a client id; its permit is free.
    pub fn remove(&mut self, client_id: &ClientId) {
        self.set_deadline(client_id, None);
        self.set_presence(client_id, Presence::Vacant);
        self.directory.remove(client_id);
    }

    /// Says whether a session has a connection.
    pub fn set_presence(&mut self, client_id: &ClientId, presence: Presence) {
        let Some(resident) = self.directory.get_mut(client_id) else {
            return;
        };
        let before = std::mem::replace(&mut resident.presence, presence);
        if let Some(gauge) = before.gauge() {
            self.cells.shift(gauge, -1);
        }
        if let Some(gauge) = presence.gauge() {
            self.cells.shift(gauge, 1);
        }
    }

    /// A session's actor stopped, its session lives on in its snapshot.
    pub fn passivated(&mut self, client_id: &ClientId, deadline: Option<Timestamp>) {
        self.count(Counter::SessionPassivated);
        self.set_deadline(client_id, deadline);
        if let Some(resident) = self.directory.get_mut(client_id) {
            resident.state = ResidentState::Passive;
        }
    }

    // --- readers

    /// An attached session reads a filter; `replaces` the options with which it did before.
    pub fn listen(
        &mut self,
        slot: Slot,
        filter: &Filter,
        options: &SubscriptionOptions,
        durable: bool,
        replaces: bool,
    ) {
        let edge = self.routes.subscribe(slot, filter, options, durable);
        self.publish_edge(filter, edge);
        if !replaces && let Some(state) = self.slot(slot) {
            state.filters.push(filter.clone());
        }
    }

    /// A session does not read a filter any more.
    pub fn mute(&mut self, slot: Slot, filter: &Filter) {
        let edge = self.routes.unsubscribe(slot, filter);
        self.publish_edge(filter, edge);
        if let Some(state) = self.slot(slot)
            && let Some(at) = state.filters.iter().position(|known| known == filter)
        {
            state.filters.swap_remove(at);
        }
    }

    /// A session reads nothing any more: it is detached, or its actor died.
    pub fn mute_all(&mut self, slot: Slot) {
        let filters = self
            .slot(slot)
            .map(|state| std::mem::take(&mut state.filters))
            .unwrap_or_default();
        for filter in filters {
            let edge = self.routes.unsubscribe(slot, &filter);
            self.publish_edge(&filter, edge);
        }
    }

    /// A durable subscription exists, attached or not.
    pub fn hold(&mut self, filter: &Filter) {
        let edge = self.routes.hold(filter);
        self.publish_edge(filter, edge);
    }

    /// A durable subscription is gone.
    pub fn release(&mut self, filter: &Filter) {
        let edge = self.routes.release(filter);
        self.publish_edge(filter, edge);
    }

    fn publish_edge(&self, filter: &Filter, edge: Option<RouteEdge>) {
        if let Some(edge) = edge {
            self.shared.routes.apply(filter, self.shard, edge);
        }
    }

    // --- publications

    /// Routes a publication to everybody who reads it live, and to the journal if a durable reader matches, it is
    /// retained or it carries an inbound QoS 2 identifier to remember.
    pub fn publish(&mut self, message: &Arc<Message>, received: Option<PacketId>) -> Placement {
        let matched = self.shared.routes.lookup(message.topic());
        for shard in matched.online.iter() {
            if shard == self.shard {
                self.deliver(message);
            } else {
                self.outboxes[usize::from(shard.0)].push(Arc::clone(message));
            }
        }
        let durable = message.qos > QoS::AtMostOnce && !matched.durable.is_empty();
        let entry = if durable || message.retain {
            Some(Entry::Message {
                message: Arc::clone(message),
                received,
            })
        } else {
            received.map(|packet_id| Entry::received(message.publisher, packet_id))
        };
        Placement {
            matched: !(matched.online.is_empty() && matched.durable.is_empty()),
            ticket: entry.map(|entry| self.append(entry)),
        }
    }

    /// Puts a publication into the slots of this shard's live readers, and wakes them.
    pub fn deliver(&mut self, message: &Arc<Message>) {
        self.pass += 1;
        let pass = self.pass;
        let slots = &mut self.slots;
        self.routes
            .for_each_reader(message.topic(), |slot, options, durable| {
                let Some(state) = slots.get_mut(slot.0 as usize).and_then(Option::as_mut) else {
                    return;
                };
                if options.no_local && state.number == message.publisher {
                    return;
                }
                state.offer(message, options, durable, pass);
            });
    }

    /// The records of the retained messages that a filter matches, in topic order.
    pub fn retained(&self, filter: &Filter) -> Vec<Offset> {
        let retained = self.shared.retained.read();
        retained
            .matching(filter, None, usize::MAX)
            .into_iter()
            .map(|(_, offset)| offset)
            .collect()
    }

    /// Whether the publications of a ticket were refused by the journal.
    pub fn take_failed(&mut self, slot: Slot, ticket: u64) -> bool {
        let Some(state) = self.slot(slot) else {
            return false;
        };
        let at = state.failed.iter().position(|failed| *failed == ticket);
        at.map(|at| state.failed.swap_remove(at)).is_some()
    }

    /// Appends an entry; gives the ticket under which the whole turn is answered.
    pub fn append(&mut self, entry: Entry) -> u64 {
        self.entries.push(entry);
        self.ticket
    }

    /// Sends what is left for the journal though no session waits for the answer.
    pub fn flush_unanswered(&mut self) {
        self.flush(Slot(u32::MAX));
    }

    /// Ends a turn of `slot`: sends what it left for the journal and other shards, one message each.
    pub fn flush(&mut self, slot: Slot) {
        for (shard, outbox) in self.outboxes.iter_mut().enumerate() {
            if !outbox.is_empty()
                && let Some(peer) = self.peers.get(shard)
            {
                peer.do_send(RouteBatch {
                    messages: std::mem::take(outbox),
                });
            }
        }
        if self.entries.is_empty() {
            return;
        }
        let ticket = self.ticket;
        self.ticket += 1;
        let entries = std::mem::take(&mut self.entries);
        if let Some(state) = self.slot(slot) {
            state.last_ticket = ticket;
        }
        self.waiting.push_back((ticket, slot));
        self.shared.appender.submit(Submission {
            shard: self.shard,
            ticket,
            entries,
        });
    }

    /// Takes the appender's answer: records go to their readers, whoever waits for a ticket is woken.
    pub fn committed(&mut self, committed: &Committed) {
        for record in committed.records.iter() {
            self.pass += 1;
            let pass = self.pass;
            let slots = &mut self.slots;
            self.routes
                .for_each_reader(record.message.topic(), |slot, options, durable| {
                    if durable
                        && options.qos > QoS::AtMostOnce
                        && let Some(state) = slots.get_mut(slot.0 as usize).and_then(Option::as_mut)
                        && state.pass != pass
                    {
                        state.pass = pass;
                        state.records.push(record.clone());
                        state.wake();
                    }
                });
        }
        self.live_end = self.live_end.max(committed.end);
        self.answered = self.answered.max(committed.ticket);
        for ticket in &committed.failed {
            let slot = self
                .waiting
                .iter()
                .find(|(waiting, _)| waiting == ticket)
                .map(|(_, slot)| *slot);
            if let Some(state) = slot.and_then(|slot| self.slot(slot)) {
                state.failed.push(*ticket);
                state.wake();
            }
        }
        while let Some((ticket, slot)) = self.waiting.front().copied()
            && ticket <= self.answered
        {
            self.waiting.pop_front();
            if let Some(state) = self.slot(slot) {
                state.wake();
            }
        }
    }
}

impl SlotState {
    fn wake(&mut self) {
        if !self.woken {
            self.woken = true;
            self.session.do_send(ToSession::Wake);
        }
    }

    /// One delivery per publication, at the highest QoS, with all identifiers; none if the journal will bring it.
    fn offer(
        &mut self,
        message: &Arc<Message>,
        options: &SubscriptionOptions,
        durable: bool,
        pass: u64,
    ) {
        let qos = message.qos.min(options.qos);
        let seen = self.pass == pass;
        if durable && qos > QoS::AtMostOnce {
            if seen && !self.pass_is_logged {
                self.live.pop();
            }
            self.pass = pass;
            self.pass_is_logged = true;
            return;
        }
        if seen {
            if !self.pass_is_logged
                && let Some(live) = self.live.last_mut()
            {
                live.qos = live.qos.max(qos);
                live.retain |= options.retain_as_published && message.retain;
                live.subscription_ids.extend(options.id);
            }
            return;
        }
        self.pass = pass;
        self.pass_is_logged = false;
        self.live.push(Live {
            message: Arc::clone(message),
            qos,
            retain: options.retain_as_published && message.retain,
            subscription_ids: options.id.into_iter().collect(),
        });
        self.wake();
    }
}
