//! A simulated MQTT client: keeps its side of the session, repeats what was not acknowledged, de-duplicates QoS 2.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use outlive_actors::model::ids::{ClientId, Listener, PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS, Will};
use outlive_actors::model::packet::{
    Connect, Inbound, ProtocolVersion, RetainHandling, SubscriptionOptions,
};
use outlive_actors::model::topic::Filter;

use crate::groups::{Key, SHARES};
use crate::oracle::{Attempt, Holding, Oracle, Post, Posted};
use crate::rng::Rng;

const TOPICS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y", "c"];
const FILTERS: [&str; 9] = ["a/x", "a/y", "b/x", "b/y", "c", "a/+", "+/x", "#", "a/#"];
/// Publications under way at most.
const OUTGOING_MAX: usize = 6;
/// The longest expiry that the simulated broker grants.
pub(crate) const EXPIRY_SECONDS_MAX: u32 = 90;

/// A publication that the client repeats until the broker has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet_id: PacketId,
    pub(crate) post: Post,
    pub(crate) released: bool,
}

/// One client.
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) id: ClientId,
    /// Asks for a session that outlives its connection.
    pub(crate) keeps: bool,
    /// How many of its publications are to be retained.
    pub(crate) retains_permille: u64,
    /// Acknowledges on the next connection what it received on the last one.
    pub(crate) acks_late: bool,
    pub(crate) acks_void: bool,
    pub(crate) link: Option<u64>,
    pub(crate) version: ProtocolVersion,
    /// CONNACK came.
    pub(crate) connected: bool,
    pub(crate) clean: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) receive_max: u16,
    /// PUBLISH of QoS 1 and 2 on this connection that it did not yet settle.
    pub(crate) unsettled: u16,
    /// QoS 2 exchanges of its own subscriptions, over all connections, that it did not yet settle.
    pub(crate) exchanges: BTreeSet<PacketId>,
    /// How many of them the broker opens towards a 3.x client.
    pub(crate) exchanges_max: usize,
    pub(crate) next_id: u16,
    pub(crate) outgoing: VecDeque<Outgoing>,
    pub(crate) incoming: BTreeMap<PacketId, Attempt>,
    pub(crate) acks: VecDeque<Inbound>,
    /// SUBSCRIBE and UNSUBSCRIBE under way, and when they were sent.
    pub(crate) subscribing: BTreeMap<PacketId, (u64, Vec<Filter>)>,
    pub(crate) unsubscribing: BTreeMap<PacketId, (u64, Vec<Filter>)>,
    pub(crate) holding: Holding,
    /// What came from groups and was not looked at yet.
    pub(crate) leases: Vec<(Key, QoS)>,
    /// The last delivery under each packet identifier.
    pub(crate) under: BTreeMap<PacketId, Attempt>,
    /// How many deliveries it refuses, how many it acknowledges with the wrong packet, and by what it decides.
    pub(crate) refuses_permille: u64,
    pub(crate) confuses_permille: u64,
    pub(crate) whims: Rng,
    /// How many of its subscriptions are shared.
    shares_permille: u64,
    /// A kept session must be there if the client is back before this moment.
    pub(crate) safe_until: Option<Timestamp>,
    /// A crash forgot the last attach, which nobody waits for, or an operator ended the session: it may be gone from this
    /// moment on. The last link before that.
    pub(crate) unsafe_from: Option<(Timestamp, u64)>,
    /// The number under which the broker knows the publisher, for no-local.
    pub(crate) number: SessionNumber,
}

impl Client {
    pub(crate) fn new(index: usize, rng: &mut Rng) -> Self {
        let mut client = Self {
            index,
            id: ClientId::from(format!("client-{index}").as_str()),
            keeps: index < 2 || rng.permille(500),
            retains_permille: *rng.pick(&[30, 80, 400]),
            acks_late: rng.permille(300),
            acks_void: false,
            link: None,
            version: ProtocolVersion::V5,
            connected: false,
            clean: false,
            expiry_seconds: 0,
            receive_max: u16::MAX,
            unsettled: 0,
            exchanges: BTreeSet::new(),
            exchanges_max: usize::MAX,
            next_id: 0,
            outgoing: VecDeque::new(),
            incoming: BTreeMap::new(),
            acks: VecDeque::new(),
            subscribing: BTreeMap::new(),
            unsubscribing: BTreeMap::new(),
            holding: Holding::default(),
            leases: Vec::new(),
            under: BTreeMap::new(),
            refuses_permille: *rng.pick(&[0, 100, 400]),
            confuses_permille: 0,
            whims: Rng::new(rng.next()),
            shares_permille: *rng.pick(&[0, 300, 600, 900]),
            safe_until: None,
            unsafe_from: None,
            number: SessionNumber(0),
        };
        client.confuses_permille = *client.whims.pick(&[0, 0, 0, 20]);
        client
    }

    /// CONNECT. `calm` asks for what was there before, nothing else.
    pub(crate) fn connect(&mut self, rng: &mut Rng, oracle: &mut Oracle, calm: bool) -> Connect {
        self.version = if rng.permille(500) {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V311
        };
        self.connected = false;
        self.unsettled = 0;
        let v5 = self.version == ProtocolVersion::V5;
        self.clean = self.clean || (!calm && rng.permille(60));
        self.receive_max = if v5 && rng.permille(500) {
            rng.small(1, 6)
        } else {
            u16::MAX
        };
        self.expiry_seconds = match (self.keeps, v5) {
            (true, true) if calm => EXPIRY_SECONDS_MAX,
            (true, true) => u32::from(rng.small(5, 90)),
            (true, false) if self.clean => 0,
            (true, false) => u32::MAX,
            (false, _) => 0,
        };
        if !self.keeps && !v5 {
            self.clean = true;
        }
        if self.clean {
            self.start_over();
        }
        let will = (!calm && rng.permille(250)).then(|| self.will(rng, oracle));
        Connect {
            client_id: self.id.clone(),
            principal: "someone".into(),
            listener: Listener::from(if rng.permille(500) { "north" } else { "south" }),
            version: self.version,
            clean_start: self.clean,
            expiry_seconds: self.expiry_seconds,
            receive_max: self.receive_max,
            will,
        }
    }

    pub(crate) fn will(&self, rng: &mut Rng, oracle: &mut Oracle) -> Box<Will> {
        let mut posted = self.posted(rng, oracle.tick());
        posted.will = true;
        let post = oracle.post(posted);
        let delay = rng.small(0, 20);
        let v5 = self.version == ProtocolVersion::V5;
        Box::new(Will {
            message: self.message(oracle, post, None, false),
            delay_seconds: if v5 { delay.into() } else { 0 },
            expiry_seconds: None,
        })
    }

    pub(crate) fn posted(&self, rng: &mut Rng, sent_at: u64) -> Posted {
        Posted {
            publisher: self.index,
            topic: (*rng.pick(&TOPICS)).to_owned(),
            qos: *rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
            retain: rng.permille(self.retains_permille),
            will: false,
            sent_at,
            expires_at: None,
            acked_at: None,
            refused: false,
            logged: 0,
            routed: 0,
        }
    }

    pub(crate) fn message(
        &self,
        oracle: &mut Oracle,
        post: Post,
        expires_at: Option<Timestamp>,
        clears: bool,
    ) -> Arc<Message> {
        let attempt = oracle.attempt(post, expires_at) as u64;
        let posted = &oracle.posts[post];
        Arc::new(Message::new(MessageParts {
            topic: &posted.topic,
            payload: if clears { b"" } else { b"payload" },
            properties: &attempt.to_le_bytes(),
            qos: posted.qos,
            retain: posted.retain,
            published_at: Timestamp(0),
            expires_at,
            publisher: self.number,
        }))
    }

    /// The connection is gone as far as the client is concerned.
    pub(crate) fn lost(&mut self, now: Timestamp) {
        self.link = None;
        let until = now.plus_seconds(self.expiry_seconds.min(EXPIRY_SECONDS_MAX));
        if self.connected && self.keeps {
            self.safe_until = Some(until);
        } else if let Some(known) = &mut self.safe_until {
            *known = until.min(*known); // the broker may have seen the CONNECT
        }
        self.connected = false;
    }

    /// From now on nothing is owed: the client gave its session up.
    pub(crate) fn abandon(&mut self) {
        self.holding.abandon();
        self.safe_until = None;
    }

    /// The client forgets its side of the session.
    pub(crate) fn start_over(&mut self) {
        self.abandon();
        self.outgoing.clear();
        self.incoming.clear();
        self.exchanges.clear();
        self.acks.clear();
    }

    /// A late acknowledgement would be for an identifier that a crash may have given to another record.
    pub(crate) fn forget_acks(&mut self) {
        self.acks_void = true;
    }

    pub(crate) fn identifier(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 50 + 1;
            let packet_id = PacketId::new(self.next_id).unwrap();
            let busy = self.outgoing.iter().any(|out| out.packet_id == packet_id)
                || self.subscribing.contains_key(&packet_id)
                || self.unsubscribing.contains_key(&packet_id);
            if !busy {
                return packet_id;
            }
        }
    }

    pub(crate) fn publish(
        &mut self,
        rng: &mut Rng,
        oracle: &mut Oracle,
        now: Timestamp,
    ) -> Option<Inbound> {
        if self.outgoing.len() >= OUTGOING_MAX {
            return None;
        }
        let posted = self.posted(rng, oracle.tick());
        let (qos, clears) = (posted.qos, posted.retain && rng.permille(300));
        let expires_at = rng
            .permille(100)
            .then(|| now.plus_millis(rng.between(1, 30_000)));
        let post = oracle.post(posted);
        let message = self.message(oracle, post, expires_at, clears);
        let packet_id = (qos > QoS::AtMostOnce).then(|| self.identifier());
        if let Some(packet_id) = packet_id {
            self.outgoing.push_back(Outgoing {
                packet_id,
                post,
                released: false,
            });
        }
        Some(Inbound::Publish {
            message,
            packet_id,
            dup: false,
        })
    }

    pub(crate) fn subscribe(&mut self, rng: &mut Rng, oracle: &mut Oracle) -> Inbound {
        let packet_id = self.identifier();
        let v5 = self.version == ProtocolVersion::V5;
        oracle.tick();
        let mut filters: Vec<(Filter, SubscriptionOptions, _)> = Vec::new();
        for _ in 0..rng.between(1, 2) {
            let filter = self.some_filter(rng);
            if filters.iter().any(|(known, _, _)| *known == filter) {
                continue;
            }
            let qos = *rng.pick(&[
                QoS::AtMostOnce,
                QoS::AtLeastOnce,
                QoS::AtLeastOnce,
                QoS::ExactlyOnce,
                QoS::ExactlyOnce,
            ]);
            let mut options = SubscriptionOptions::of_qos(qos);
            if filter.is_shared() {
                options.id = v5.then(|| identifier(rng));
            } else if v5 {
                options.id = rng.permille(500).then(|| identifier(rng));
                options.no_local = rng.permille(100);
                options.retain_as_published = rng.permille(500);
                options.retain_handling = *rng.pick(&[
                    RetainHandling::AtSubscribe,
                    RetainHandling::IfNew,
                    RetainHandling::Never,
                ]);
            }
            oracle.asked(&mut self.holding, &filter, options);
            filters.push((filter, options, None));
        }
        let asked = filters.iter().map(|(filter, _, _)| filter.clone());
        self.subscribing
            .insert(packet_id, (oracle.clock, asked.collect()));
        Inbound::Subscribe { packet_id, filters }
    }

    fn some_filter(&self, rng: &mut Rng) -> Filter {
        let filter = if rng.permille(self.shares_permille) {
            rng.pick::<&str>(&SHARES)
        } else {
            rng.pick::<&str>(&FILTERS)
        };
        Filter::new(filter).unwrap()
    }

    pub(crate) fn unsubscribe(&mut self, rng: &mut Rng, oracle: &mut Oracle) -> Inbound {
        let packet_id = self.identifier();
        let filter = self.some_filter(rng);
        oracle.dropped(&mut self.holding, &filter);
        self.unsubscribing
            .insert(packet_id, (oracle.clock, vec![filter.clone()]));
        Inbound::Unsubscribe {
            packet_id,
            filters: vec![filter],
        }
    }

    pub(crate) fn disconnect(&mut self, rng: &mut Rng, now: Timestamp, calm: bool) -> Inbound {
        let v5 = self.version == ProtocolVersion::V5;
        let changes = !calm && v5 && self.keeps && rng.permille(300);
        let expiry_seconds = changes.then(|| u32::from(rng.small(0, 60)));
        if let Some(seconds) = expiry_seconds {
            self.expiry_seconds = self.expiry_seconds.min(seconds);
        }
        self.lost(now);
        if self.expiry_seconds == 0 {
            self.abandon();
        }
        Inbound::Disconnect {
            with_will: !calm && v5 && rng.permille(300),
            expiry_seconds,
        }
    }

    /// The oldest acknowledgement that is due.
    pub(crate) fn acknowledge(&mut self) -> Option<Inbound> {
        let ack = self.acks.pop_front()?;
        let refusal = matches!(ack, Inbound::PubRec { failed: true, .. });
        if refusal || matches!(ack, Inbound::PubAck { .. } | Inbound::PubComp { .. }) {
            self.unsettled = self.unsettled.saturating_sub(1);
        }
        if let Inbound::PubComp { packet_id }
        | Inbound::PubRec {
            packet_id,
            failed: true,
        } = ack
        {
            self.exchanges.remove(&packet_id);
        }
        Some(ack)
    }

    pub(crate) fn owes_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.connected && self.acks.is_empty() && self.outgoing.is_empty()
    }
}

/// A subscription identifier.
fn identifier(rng: &mut Rng) -> u32 {
    rng.small(1, 9).into()
}
