//! Whole connections: bytes -> guard -> decoder -> real sessions -> encoder -> bytes, with a journal that is a list.
//!
//! The bytes are what clients send, one connection after the other: where one ends, by its own word or because it was
//! refused, the next begins at the next CONNECT. The first byte says how connections end, whether sessions sleep in
//! between, and whether clients are those of two tenants in turn. Sessions of several client ids share the list, so that they publish to each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use outlive::mqtt::testing::{self, Peer, Taken};
use outlive_actors::model::effect::{Effect, Input, Live};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::Change;
use outlive_actors::model::ids::{ClientId, Now, Offset, PacketId, SessionNumber, Timestamp};
use outlive_actors::model::limits::SessionLimits;
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::{Connect, Inbound, Outbound, Routed, SubscriptionIds};
use outlive_actors::model::record::{Page, Record, RetainedRecords};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::session::Session;
use outlive_actors::model::snapshot::SessionSnapshot;
use outlive_actors::model::tenant::Tenant;

/// Connections end without the session hearing of it: the next one takes over.
const SILENT_END: u8 = 1;
/// A kept session is written down and rebuilt between connections.
const SLEEPS: u8 = 2;
/// The client takes what it is sent, rarely.
const READS_LATE: u8 = 4;

/// Clients are those of two tenants in turn.
pub(crate) const TENANTS: u8 = 8;

/// What waits in a client's outbox may be this and one packet more.
const HELD_MAX: usize = 64 << 20;

pub(crate) fn run(data: &[u8]) {
    let Some((&ways, bytes)) = data.split_first() else {
        return;
    };
    let mut world = World::new(ways);
    let mut bytes = bytes;
    while let Some(at) = bytes.iter().position(|byte| *byte == 0x10) {
        bytes = &bytes[at..];
        let used = world.connection(bytes);
        bytes = &bytes[used.max(1)..];
    }
    world.end();
}

struct World {
    ways: u8,
    time: Timestamp,
    records: Vec<Record>,
    retained: BTreeMap<String, Offset>,
    next: u64,
    sessions: BTreeMap<ClientId, Actor>,
    created: u64,
    connections: usize,
}

struct Actor {
    session: Session,
    snapshot: Option<SessionSnapshot>,
    peer: Option<Box<Peer>>,
    /// Its connection must end.
    refusal: Option<Refusal>,
    listens: bool,
    ended: bool,
    waiting: VecDeque<Input>,
}

impl World {
    fn new(ways: u8) -> Self {
        Self {
            ways,
            time: Timestamp(1_700_000_000_000),
            records: Vec::new(),
            retained: BTreeMap::new(),
            next: 1,
            sessions: BTreeMap::new(),
            created: 0,
            connections: 0,
        }
    }

    fn has(&self, way: u8) -> bool {
        self.ways & way != 0
    }

    fn now(&self) -> Now {
        let end = Offset(self.next);
        Now {
            time: self.time,
            log_end: end,
            live_end: end,
        }
    }

    /// One connection from its CONNECT on; gives how many bytes it used.
    fn connection(&mut self, bytes: &[u8]) -> usize {
        self.time = self.time.plus_seconds(10);
        self.tick();
        let tenant = self.has(TENANTS).then(|| {
            let name = ["t", "tt"][self.connections % 2];
            Tenant::new(name).expect("a name that a tenant can have")
        });
        self.connections += 1;
        let (connect, peer, mut used) = match testing::open_for(tenant.as_ref(), bytes, self.time) {
            Ok(None) => return bytes.len(),
            Ok(Some(opened)) => opened,
            Err(_) => return 1,
        };
        let client = connect.client_id.clone();
        self.attach(*connect, peer);
        while self
            .sessions
            .get(&client)
            .is_some_and(|actor| actor.peer.is_some())
        {
            let Some(read) = self.packet(&client, &bytes[used..]) else {
                used = bytes.len();
                break;
            };
            used += read;
        }
        self.close(&client);
        used
    }

    fn attach(&mut self, connect: Connect, peer: Box<Peer>) {
        let client = connect.client_id.clone();
        self.created += 1;
        let number = SessionNumber(self.created);
        let limits = Arc::new(SessionLimits::default());
        let actor = self
            .sessions
            .entry(client.clone())
            .or_insert_with(|| Actor {
                session: Session::vacant(client.clone(), limits),
                snapshot: None,
                peer: None,
                refusal: None,
                listens: false,
                ended: false,
                waiting: VecDeque::new(),
            });
        // The one before it loses its place, if it is still there.
        actor.peer = Some(peer);
        actor.refusal = None;
        actor.waiting.push_back(Input::Attach {
            connect: Box::new(connect),
            number,
            epoch: 1,
        });
        self.settle();
    }

    /// Reads one frame; `None` if no whole one is left. A connection that is refused loses its peer.
    fn packet(&mut self, client: &ClientId, bytes: &[u8]) -> Option<usize> {
        let time = self.time;
        let actor = self.sessions.get_mut(client)?;
        let fence = actor.session.fence();
        let number = actor.session.number();
        let peer = actor.peer.as_mut()?;
        peer.publish_as(number);
        let used = match peer.take(bytes, time) {
            Ok(None) => return None,
            Ok(Some((taken, used))) => {
                if let Taken::Session(packet) = taken {
                    let leaves = matches!(packet, Inbound::Disconnect { .. });
                    actor.waiting.push_back(Input::Packet { fence, packet });
                    if leaves {
                        actor.peer = None;
                    }
                }
                used
            }
            Err(refusal) => {
                actor.refusal = Some(refusal);
                1
            }
        };
        self.settle();
        self.deliver(client);
        Some(used)
    }

    /// What waits for the client leaves; a connection that must end does.
    fn deliver(&mut self, client: &ClientId) {
        let late = self.has(READS_LATE);
        let Some(actor) = self.sessions.get_mut(client) else {
            return;
        };
        let Some(peer) = &mut actor.peer else {
            return;
        };
        assert!(peer.held() <= HELD_MAX, "{} bytes are held", peer.held());
        if let Some(refusal) = actor.refusal {
            peer.end(refusal);
        } else if late {
            return;
        }
        let mut out = Vec::new();
        // Encoding what waited may end it as well.
        let drained = peer.drain(1000, &mut out);
        if drained.is_ok() {
            super::assert_packets(peer.version(), &out);
        }
        if drained.is_err() || actor.refusal.is_some() {
            actor.peer = None;
        }
    }

    fn close(&mut self, client: &ClientId) {
        let silent = self.has(SILENT_END);
        let sleeps = self.has(SLEEPS);
        let time = self.time;
        let Some(actor) = self.sessions.get_mut(client) else {
            return;
        };
        actor.peer = None;
        actor.refusal = None;
        if silent {
            return;
        }
        let fence = actor.session.fence();
        actor.waiting.push_back(Input::Closed { fence });
        self.settle();
        let Some(actor) = self.sessions.get_mut(client) else {
            return;
        };
        if sleeps && let Some(snapshot) = &actor.snapshot {
            assert_eq!(snapshot.number, actor.session.number());
            let limits = Arc::new(SessionLimits::default());
            actor.session = Session::restore(snapshot.clone(), limits, time);
            actor.listens = false;
        }
    }

    fn tick(&mut self) {
        for actor in self.sessions.values_mut() {
            if actor.session.deadline().is_some_and(|at| at <= self.time) {
                actor.waiting.push_back(Input::Tick);
            }
        }
        self.settle();
    }

    /// Every session is over a long time later.
    fn end(&mut self) {
        for client in self.sessions.keys().cloned().collect::<Vec<_>>() {
            let silent = std::mem::replace(&mut self.ways, 0);
            self.close(&client);
            self.ways = silent;
        }
        for _ in 0..3 {
            self.time = self.time.plus_seconds(u32::MAX);
            self.tick();
        }
        let left: Vec<_> = self.sessions.keys().collect();
        assert!(left.is_empty(), "never expired: {left:?}");
    }

    /// Until nobody has anything left to decide.
    fn settle(&mut self) {
        let mut turns = 0_u32;
        while let Some((client, input)) = self
            .sessions
            .iter_mut()
            .find_map(|(client, actor)| Some((client.clone(), actor.waiting.pop_front()?)))
        {
            turns += 1;
            assert!(turns < 1_000_000, "sessions never come to rest");
            let now = self.now();
            let mut effects = Effects::new();
            if let Some(actor) = self.sessions.get_mut(&client) {
                actor.session.handle(now, input, &mut effects);
            }
            for effect in effects.drain() {
                self.perform(&client, effect);
            }
            if self.sessions.get(&client).is_some_and(|actor| actor.ended) {
                self.sessions.remove(&client);
            }
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm per effect, as the product has it"
    )]
    fn perform(&mut self, client: &ClientId, effect: Effect) {
        match effect {
            Effect::Publish { message, received } => return self.publish(&message, received),
            Effect::Persist(number, change) | Effect::Record(number, change) => {
                return self.record(client, number, &change);
            }
            _ => {}
        }
        let end = Offset(self.next);
        let retained = &self.retained;
        let records = &self.records;
        let find = |offsets: &[Offset]| -> Vec<Option<Record>> {
            let find = |at: &Offset| records.iter().find(|record| record.offset == *at).cloned();
            offsets.iter().map(find).collect()
        };
        let Some(actor) = self.sessions.get_mut(client) else {
            return;
        };
        let fence = actor.session.fence();
        match effect {
            Effect::Send(packet) => actor.send(packet),
            Effect::AckPublish { packet_id, qos } => actor.send(acknowledge(packet_id, qos)),
            Effect::RefuseConnection(refusal) => actor.refusal = Some(refusal),
            Effect::DropConnection => actor.peer = None,
            Effect::Listen(listens) => actor.listens = listens,
            Effect::Read {
                read,
                from,
                records_max,
            } => {
                let behind = records.iter().filter(|record| record.offset >= from);
                let number = actor.session.number();
                let wanted = behind.filter(|record| {
                    let (subscriptions, past) =
                        (actor.session.subscriptions(), actor.session.past());
                    subscriptions
                        .matching(past, &record.message, record.offset, number)
                        .is_some()
                });
                let found: Vec<Record> = wanted.take(records_max as usize).cloned().collect();
                let full = found.len() == records_max as usize;
                let next = found
                    .last()
                    .filter(|_| full)
                    .map_or(end, |last| last.offset.next());
                let page = Page {
                    records: found,
                    next,
                    end,
                    holes: 0,
                };
                actor.waiting.push_back(Input::Page { fence, read, page });
            }
            Effect::Reread(offsets) => actor.waiting.push_back(Input::Reread {
                fence,
                records: find(&offsets),
            }),
            Effect::ReadRetained {
                filter,
                after,
                records_max,
            } => {
                let behind = |topic: &str| after.as_deref().is_none_or(|after| topic > after);
                let mut found = retained
                    .iter()
                    .filter(|(topic, _)| behind(topic) && filter.matches(topic));
                let page: Vec<_> = found.by_ref().take(records_max).collect();
                let last = page.last().map(|(topic, _)| topic.as_str().into());
                let offsets: Vec<_> = page.iter().map(|(_, at)| **at).collect();
                let page = RetainedRecords {
                    asked_at: self.time,
                    records: find(&offsets),
                    resume: last.filter(|_| found.next().is_some()),
                };
                actor.waiting.push_back(Input::Retained { fence, page });
            }
            Effect::End => actor.ended = true,
            _ => {}
        }
    }

    fn publish(&mut self, message: &Arc<Message>, received: Option<PacketId>) {
        let mut durable = message.retain;
        let record = Record {
            offset: Offset(self.next),
            message: Arc::clone(message),
        };
        for actor in self.sessions.values_mut() {
            let number = actor.session.number();
            let kept = actor.session.is_kept();
            let mut live: Option<Live> = None;
            let mut logged = false;
            for known in actor.session.subscriptions().iter() {
                let own = known.options.no_local && number == message.publisher;
                if own || !known.filter.matches(message.topic()) {
                    continue;
                }
                let qos = message.qos.min(known.options.qos);
                let reads = kept && known.options.qos > QoS::AtMostOnce;
                durable |= reads && message.qos > QoS::AtMostOnce;
                logged |= reads && qos > QoS::AtMostOnce;
                let retain = known.options.retain_as_published && message.retain;
                let live = live.get_or_insert(Live {
                    message: Arc::clone(message),
                    qos,
                    retain,
                    subscription_ids: SubscriptionIds::new(),
                });
                live.qos = live.qos.max(qos);
                live.retain |= retain;
                live.subscription_ids.extend(known.options.id);
            }
            match live {
                Some(_) if logged => actor.waiting.push_back(Input::Logged(record.clone())),
                Some(live) if actor.listens => actor.waiting.push_back(Input::Live(live)),
                _ => {}
            }
        }
        if durable || received.is_some() {
            self.next += 1;
        }
        if durable {
            self.records.push(record);
        }
        if message.retain {
            match message.payload() {
                [] => self.retained.remove(message.topic()),
                _ => self
                    .retained
                    .insert(message.topic().to_owned(), Offset(self.next - 1)),
            };
        }
        if let Some(packet_id) = received {
            let publisher = self
                .sessions
                .values_mut()
                .find(|actor| actor.session.number() == message.publisher);
            if let Some(snapshot) = publisher.and_then(|actor| actor.snapshot.as_mut()) {
                snapshot.apply_received(Offset(self.next - 1), packet_id);
            }
        }
    }

    fn record(&mut self, client: &ClientId, number: SessionNumber, change: &Change) {
        let at = Offset(self.next);
        self.next += 1;
        let Some(actor) = self.sessions.get_mut(client) else {
            return;
        };
        match change {
            Change::Created(created) => {
                actor.snapshot = Some(SessionSnapshot::created(number, created, at));
            }
            Change::Ended => actor.snapshot = None,
            _ => {
                if let Some(snapshot) = &mut actor.snapshot {
                    snapshot.apply(at, change);
                }
            }
        }
    }
}

impl Actor {
    fn send(&mut self, packet: Outbound) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        if let Outbound::Close(refusal) = packet {
            self.refusal = Some(refusal);
            return;
        }
        if let Outbound::Publish(delivery) = &packet {
            assert_eq!(delivery.packet_id.is_some(), delivery.qos > QoS::AtMostOnce);
        }
        match peer.push(packet) {
            Ok(settled) => {
                let fence = self.session.fence();
                let settled = settled.into_iter();
                self.waiting
                    .extend(settled.map(|packet| Input::Packet { fence, packet }));
            }
            Err(refusal) => self.refusal = Some(refusal),
        }
    }
}

fn acknowledge(packet_id: PacketId, qos: QoS) -> Outbound {
    let result = Ok(Routed::Matched);
    match qos {
        QoS::ExactlyOnce => Outbound::PubRec { packet_id, result },
        _ => Outbound::PubAck { packet_id, result },
    }
}
