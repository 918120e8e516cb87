//! The simulated broker: one shard's sessions, their connections and the journal, with every delay drawn at random.
//!
//! Does what the actors do with effects (`perform.rs`) and what networks, disks and clocks do to them (`steps.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use outlive_actors::actor::local::Stay;
use outlive_actors::model::cursor::ReadId;
use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::entry::{Change, Entry};
use outlive_actors::model::fights::Fights;
use outlive_actors::model::group::talk::Leased;
use outlive_actors::model::ids::{Fence, Now, Offset, SessionNumber, Timestamp};
use outlive_actors::model::limits::{Overflow, SessionLimits};
use outlive_actors::model::message::Message;
use outlive_actors::model::packet::{Connect, Inbound, Outbound, SubscriptionOptions};
use outlive_actors::model::quota::Permit;
use outlive_actors::model::routes;
use outlive_actors::model::session::Session;
use outlive_actors::model::topic::Filter;
use outlive_actors::supervise::Panics;

use crate::client::{Client, EXPIRY_SECONDS_MAX};
use crate::clocks::Clocks;
use crate::fights::PAUSE_MILLIS;
use crate::groups::Groups;
use crate::journal::Journal;
use crate::oracle::{Oracle, attempt_of};
use crate::rng::Rng;
use crate::units::Units;
use crate::wills::Watched;

/// Whether a CONNECT is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The broker did not look at it yet.
    First,
    /// It would take a session over that is fought over.
    Waits,
    /// It waited long enough.
    Comes,
}

/// One network connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    /// The CONNECT, until the broker saw it.
    pub(crate) connect: Option<Connect>,
    pub(crate) turn: Turn,
    /// The session actor that took it, and under which fence.
    pub(crate) home: Option<(u64, Fence)>,
    pub(crate) number: SessionNumber,
    pub(crate) up: VecDeque<Inbound>,
    pub(crate) down: VecDeque<Outbound>,
    /// Nothing comes behind what is in `up`.
    pub(crate) up_ends: bool,
    /// The broker sends nothing any more.
    pub(crate) down_ends: bool,
    /// When it died, whoever noticed when.
    pub(crate) ended_at: Option<Timestamp>,
    /// The session was told that it is closed.
    pub(crate) told: bool,
}

/// What waits for the journal.
#[derive(Debug)]
pub(crate) enum Held {
    Barrier(u64),
    /// Until the group that was asked for under this number is routed to.
    Joined(u64),
    Effect(Effect),
    LookUp(LookUp),
}

/// A look-up of retained messages.
#[derive(Debug)]
pub(crate) struct LookUp {
    pub(crate) fence: Fence,
    pub(crate) asked_at: Timestamp,
    pub(crate) filter: Filter,
    pub(crate) after: Option<Box<str>>,
    pub(crate) records_max: usize,
}

/// A read of the journal.
#[derive(Debug)]
pub(crate) enum Read {
    Page {
        fence: Fence,
        read: ReadId,
        filters: Vec<(Filter, Offset)>,
        from: Offset,
        records_max: u32,
    },
    Reread(Fence, Vec<Offset>),
    Retained(LookUp),
    /// It happened; the answer is on its way.
    Answer(Input),
}

/// A session and what its actor holds.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) incarnation: u64,
    pub(crate) session: Session,
    pub(crate) link: Option<u64>,
    pub(crate) candidate: Option<u64>,
    pub(crate) fence: Fence,
    pub(crate) held: VecDeque<Held>,
    pub(crate) answers: Vec<Input>,
    pub(crate) reads: Vec<Read>,
    pub(crate) refused: bool,
    pub(crate) failed: BTreeSet<u64>,
    pub(crate) ended: bool,
    /// So many effects from now on it dies.
    pub(crate) dies_after: Option<u64>,
}

impl Actor {
    pub(crate) fn new(session: Session, incarnation: u64) -> Self {
        Self {
            incarnation,
            fence: session.fence(),
            session,
            link: None,
            candidate: None,
            held: VecDeque::new(),
            answers: Vec::new(),
            reads: Vec::new(),
            refused: false,
            failed: BTreeSet::new(),
            ended: false,
            dies_after: None,
        }
    }
}

/// How a client's session is run.
pub(crate) enum Residence {
    /// There is none.
    None,
    Active(Box<Actor>),
    /// Its snapshot is the fold.
    Passive,
    /// Its actor died; it is rebuilt once all it submitted is answered.
    Dead,
    /// Its actor died too often.
    Quarantined,
}

/// What the shard knows of one client's session.
#[derive(Default)]
pub(crate) struct Slot {
    /// What it reads while attached, and whether from the journal.
    pub(crate) readers: Vec<(Filter, SubscriptionOptions, bool)>,
    /// Live messages and records on their way, in order.
    pub(crate) queue: VecDeque<Input>,
    /// Its filters that count as durable readers.
    pub(crate) holds: BTreeSet<Filter>,
    /// The session's number, for no-local.
    pub(crate) number: Option<SessionNumber>,
    /// The last fence handed out since the process started.
    pub(crate) fence: Option<Fence>,
    /// Its unit of the quota.
    pub(crate) permit: Option<Permit>,
    /// Where its actor is, for groups; also for a while after it died.
    pub(crate) place: Option<routes::Slot>,
    /// How often its actors died lately.
    pub(crate) panics: Option<Panics>,
    /// Where its client is, as far as its actors said.
    pub(crate) stay: Option<Stay>,
    /// When it is tried again, if it is quarantined.
    pub(crate) retry_at: Option<Timestamp>,
    /// The session that a rebuild looks for.
    pub(crate) recorded: Option<SessionNumber>,
    /// What groups leased to it.
    pub(crate) leased: VecDeque<Leased>,
    /// Answers to its questions whether groups are routed to.
    pub(crate) joined: BTreeSet<u64>,
}

/// The whole.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) clocks: Clocks,
    /// The time as the broker knows it.
    pub(crate) time: Timestamp,
    pub(crate) epoch: u32,
    pub(crate) numbers: u64,
    pub(crate) incarnations: u64,
    pub(crate) limits: Arc<SessionLimits>,
    pub(crate) journal: Journal,
    pub(crate) live_end: Offset,
    pub(crate) clients: Vec<Client>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) residences: Vec<Residence>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) links_made: u64,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Option<Vec<String>>,
    /// Entries of the turn under way.
    pub(crate) entries: Vec<Entry>,
    /// The turn under way asks when all that was submitted is answered.
    pub(crate) asks: bool,
    /// The last moment at which a session can have been attached, and the longest expiry that it can have.
    pub(crate) last_held_at: Vec<(Timestamp, u32)>,
    pub(crate) wills: Vec<Watched>,
    pub(crate) units: Units,
    pub(crate) groups: Groups,
    pub(crate) fights: Fights<u64>,
    /// When each session was taken over since the process started.
    pub(crate) takeovers: Vec<Vec<Timestamp>>,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.index(3) + 3;
        let mut clients: Vec<Client> = (0..count).map(|at| Client::new(at, &mut rng)).collect();
        let limits = SessionLimits {
            expiry_seconds_max: EXPIRY_SECONDS_MAX,
            inflight_max: rng.small(1, 8),
            send_ahead_bytes: u32::from(rng.small(64, 600)),
            exactly_once_v3_max: rng.small(1, 4),
            subscriptions_max: 0,
            subscriptions_bytes_max: 0,
            queue_messages_max: 0,
            queue_bytes_max: 0,
            overflow: Overflow::DropOldest,
            inbox_records_max: u32::from(rng.small(1, 6)),
            progress_acks_max: u32::from(rng.small(1, 6)),
            progress_millis: 1000,
            progress_idle_millis: 5000,
        };
        for client in &mut clients {
            client.exchanges_max = limits.exactly_once_v3_max.into();
        }
        let clocks = Clocks::new(Timestamp(1_000_000));
        let mut journal = Journal::new();
        journal.append(clocks.stamp());
        Self {
            time: clocks.now(),
            clocks,
            epoch: 1,
            numbers: 0,
            incarnations: 0,
            limits: Arc::new(limits),
            live_end: journal.end,
            journal,
            takeovers: clients.iter().map(|_| Vec::new()).collect(),
            slots: clients.iter().map(|_| Slot::default()).collect(),
            residences: clients.iter().map(|_| Residence::None).collect(),
            last_held_at: clients.iter().map(|_| (Timestamp(0), 0)).collect(),
            units: Units::new(seed, clients.len()),
            groups: Groups::new(&mut Rng::new(seed ^ 0x6772_6f75)),
            clients,
            links: BTreeMap::new(),
            links_made: 0,
            oracle: Oracle::default(),
            trace: traced.then(Vec::new),
            entries: Vec::new(),
            asks: false,
            wills: Vec::new(),
            fights: Fights::new(PAUSE_MILLIS),
            rng,
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = format!("{:>6} {:>9} {}", self.oracle.clock, self.time.0, what());
            trace.push(line);
        }
    }

    /// What a trace says of a message: its post and attempt, so that a story can be followed.
    pub(crate) fn label(&self, message: Option<&Message>) -> String {
        message.map_or(String::new(), |message| {
            let post = self.oracle.post_of(message);
            format!(" [post {post} attempt {}]", attempt_of(message))
        })
    }

    /// The moment at which a session decides. Its live end stays below the records that are still on their way to it.
    pub(crate) fn now(&self, client: usize) -> Now {
        let on_the_way = self.slots[client]
            .queue
            .iter()
            .find_map(|input| match input {
                Input::Logged(record) => Some(record.offset),
                _ => None,
            });
        Now {
            time: self.time,
            log_end: self.journal.end,
            live_end: on_the_way.map_or(self.live_end, |offset| offset.min(self.live_end)),
        }
    }

    pub(crate) fn actor(&self, client: usize) -> Option<&Actor> {
        match &self.residences[client] {
            Residence::Active(actor) => Some(actor),
            Residence::None | Residence::Passive | Residence::Dead | Residence::Quarantined => None,
        }
    }

    /// Brings a passive session back, from the fold.
    pub(crate) fn rehydrate(&mut self, client: usize) {
        let id = &self.clients[client].id;
        let Some(snapshot) = self.journal.snapshot_of(id) else {
            return self.is_gone(client);
        };
        let mut snapshot = snapshot.clone();
        self.reconcile_groups(client, &snapshot);
        if snapshot.detached_at.is_none() {
            let stay = self.slots[client].stay;
            let offline_since = stay.and_then(|stay| stay.offline_since());
            let at = offline_since.unwrap_or(self.time);
            self.last_held_at[client].0 = at;
            let change = Change::Recovered {
                at,
                maybe_sent_below: self.journal.end,
            };
            snapshot.apply(snapshot.covers, &change);
            let entry = Entry::change(snapshot.number, change);
            self.entries.push(entry);
        }
        self.flush(client);
        self.occupy(client, Some(snapshot.number));
        let session = Session::restore(snapshot, Arc::clone(&self.limits), self.time);
        self.incarnations += 1;
        self.residences[client] =
            Residence::Active(Box::new(Actor::new(session, self.incarnations)));
    }

    /// A dead session's journal entries are all answered: what it is now is what they say.
    pub(crate) fn rebuild(&mut self, client: usize) {
        let id = &self.clients[client].id;
        let Some(snapshot) = self.journal.snapshot_of(id) else {
            return self.is_gone(client);
        };
        self.slots[client].holds = snapshot
            .durable_subscriptions()
            .map(|known| known.filter.clone())
            .collect();
        self.oracle.rebuilt(snapshot.number, snapshot.next);
        self.residences[client] = Residence::Passive;
    }

    /// There is no snapshot: the last that was recorded of the session was its end.
    fn is_gone(&mut self, client: usize) {
        if let Some(recorded) = self.slots[client].recorded {
            self.leave_groups(client, recorded);
        }
        self.flush(client);
        self.forget(client);
    }

    /// There is no session any more: nothing of it may stay.
    pub(crate) fn forget(&mut self, client: usize) {
        self.residences[client] = Residence::None;
        self.slots[client] = Slot::default();
    }

    /// What must hold after every step.
    pub(crate) fn check(&mut self) {
        self.groups.check_declared();
        self.units.check(&self.slots);
        for (client, slot) in self.slots.iter().enumerate() {
            let lives = match &self.residences[client] {
                Residence::None => false,
                Residence::Passive | Residence::Dead | Residence::Quarantined => true,
                Residence::Active(actor) => actor.session.is_begun(),
            };
            assert_eq!(
                slot.permit.is_some(),
                lives,
                "client {client}: permits and sessions differ"
            );
            let Some(actor) = self.actor(client) else {
                assert!(
                    slot.readers.is_empty(),
                    "client {client}: reads without an actor"
                );
                continue;
            };
            let session = &actor.session;
            let durable: BTreeSet<Filter> = session
                .subscriptions()
                .durable()
                .filter(|_| session.is_kept())
                .map(|known| known.filter.clone())
                .collect();
            assert_eq!(
                slot.holds, durable,
                "client {client}: durable routes differ"
            );
            let own = session.subscriptions().iter();
            let own = own.filter(|known| !known.filter.is_shared()).count();
            let attached = if session.is_attached() { own } else { 0 };
            let shared = session.subscriptions().shared();
            let shared: BTreeSet<_> = shared.map(|known| known.filter.clone()).collect();
            let joined = self.groups.directory.filters_of(session.number());
            let joined: BTreeSet<_> = joined.into_iter().collect();
            assert_eq!(joined, shared, "client {client}: groups in the directory");
            assert_eq!(
                slot.readers.len(),
                attached,
                "client {client}: live routes differ"
            );
            assert_eq!(actor.fence, session.fence(), "client {client}: fence");
            let holders = self
                .links
                .values()
                .filter(|link| {
                    link.client == client
                        && !link.down_ends
                        && link.home == Some((actor.incarnation, actor.fence))
                })
                .count();
            assert!(holders <= 1, "client {client}: two holders of the fence");
            assert!(session.is_attached() || actor.link.is_none());
        }
    }
}
