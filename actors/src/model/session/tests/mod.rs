//! One behaviour per test: a [`Script`] drives one session through its inputs and reads its decisions as data.

mod inbound;
mod lifetime;
mod outbound;
mod progress;
mod queue;
mod redelivery;
mod retained;
mod subscribe;
mod will;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Input, Live};
use crate::model::entry::Change;
use crate::model::ids::{
    ClientId, Fence, Now, Offset, PacketId, Principal, SessionNumber, Timestamp,
};
use crate::model::limits::SessionLimits;
use crate::model::message::{Message, MessageParts, QoS, Will};
use crate::model::packet::{
    Connect, Delivery, Inbound, Outbound, ProtocolVersion, SubscriptionOptions,
};
use crate::model::record::{Page, Record};
use crate::model::snapshot::SessionSnapshot;
use crate::model::topic::Filter;

use QoS::{AtLeastOnce as QOS1, AtMostOnce as QOS0, ExactlyOnce as QOS2};

/// When every script starts.
const START: Timestamp = Timestamp(1_000_000);
/// Where the journal of every script starts.
const JOURNAL_START: u64 = 100;

/// One session, its client, a journal and a clock that is turned by hand.
struct Script {
    session: Session,
    limits: Arc<SessionLimits>,
    /// What the next attach asks for.
    connect: Connect,
    time: Timestamp,
    epoch: u32,
    sessions: u64,
    journal: BTreeMap<Offset, Arc<Message>>,
    end: u64,
    /// Where the retained messages are.
    retained: Vec<Offset>,
    /// The fold of the changes so far.
    snapshot: Option<SessionSnapshot>,
    /// The effects of the last input, with those of its answers if it was [`Self::answered`].
    effects: Vec<Effect>,
}

impl Script {
    /// A 5.0 client with session expiry 1 h that has not connected yet.
    fn new(client_id: &str) -> Self {
        Self::with_limits(client_id, SessionLimits::default())
    }

    fn with_limits(client_id: &str, limits: SessionLimits) -> Self {
        let limits = Arc::new(limits);
        let client_id = ClientId::from(client_id);
        Self {
            session: Session::vacant(client_id.clone(), Arc::clone(&limits)),
            limits,
            connect: Connect {
                client_id,
                principal: Principal::anonymous(),
                version: ProtocolVersion::V5,
                clean_start: false,
                expiry_seconds: 3600,
                receive_max: u16::MAX,
                will: None,
            },
            time: START,
            epoch: 1,
            sessions: 0,
            journal: BTreeMap::new(),
            end: JOURNAL_START,
            retained: Vec::new(),
            snapshot: None,
            effects: Vec::new(),
        }
    }

    /// Attached, kept.
    fn attached(client_id: &str) -> Self {
        let mut script = Self::new(client_id);
        script.attach();
        script
    }

    /// Attached, without a state that outlives the connection.
    fn transient(client_id: &str) -> Self {
        let mut script = Self::new(client_id);
        script.connect.expiry_seconds = 0;
        script.attach();
        script
    }

    /// Subscribes to `t` with QoS 1 and publishes these payloads there with QoS 1.
    fn deliver(mut self, payloads: &[&'static str]) -> Self {
        self.subscribe("t", QOS1);
        for payload in payloads {
            self.log(parts(payload));
        }
        self
    }

    // ---- inputs

    /// Applies one input; its effects are the last ones from now on.
    fn input(&mut self, input: Input) -> &mut Self {
        self.effects.clear();
        self.apply(input);
        self
    }

    fn apply(&mut self, input: Input) {
        let before = self.effects.len();
        let now = self.now();
        self.session.handle(now, input, &mut self.effects);
        for effect in self.effects[before..].to_vec() {
            self.append(&effect);
        }
    }

    fn now(&self) -> Now {
        Now {
            time: self.time,
            log_end: Offset(self.end),
            live_end: Offset(self.end),
        }
    }

    /// Does for the journal what the appender does, and folds.
    fn append(&mut self, effect: &Effect) {
        let at = Offset(self.end);
        match effect {
            Effect::Persist(number, change) | Effect::Record(number, change) => {
                self.end += 1;
                if let Change::Created {
                    client_id,
                    owner,
                    attach,
                    next,
                } = change.clone()
                {
                    self.snapshot = Some(SessionSnapshot::created(
                        *number, client_id, owner, attach, next, at,
                    ));
                } else if *change == Change::Ended {
                    self.snapshot = None;
                } else if let Some(snapshot) = &mut self.snapshot {
                    snapshot.apply(at, change);
                }
            }
            Effect::Publish {
                received: Some(packet_id),
                ..
            } => {
                self.end += 1;
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.apply_received(at, *packet_id);
                }
            }
            _ => {}
        }
    }

    /// Answers the reads among the last effects from the journal, and those that follow from the answers.
    fn answered(&mut self) -> &mut Self {
        let mut at = 0;
        while at < self.effects.len() {
            let effect = self.effects[at].clone();
            at += 1;
            if let Some(answer) = self.answer(effect) {
                self.apply(answer);
            }
        }
        self
    }

    fn answer(&self, effect: Effect) -> Option<Input> {
        let fence = self.session.fence();
        match effect {
            Effect::Read {
                read,
                from,
                records_max,
            } => {
                let page = self.read(from, records_max as usize);
                Some(Input::Page { fence, read, page })
            }
            Effect::Reread(offsets) => Some(Input::Reread {
                fence,
                records: self.read_at(&offsets),
            }),
            Effect::ReadRetained(offsets) => Some(Input::Retained {
                fence,
                records: self.read_at(&offsets),
            }),
            Effect::Replay { filter, options } => Some(Input::RetainedFound {
                fence,
                options,
                offsets: self.matching_retained(&filter),
            }),
            _ => None,
        }
    }

    fn read(&self, from: Offset, records_max: usize) -> Page {
        let mut records = self
            .journal
            .range(from..)
            .filter(|(_, message)| self.reads(message));
        let page: Vec<_> = records.by_ref().take(records_max).map(record).collect();
        let end = Offset(self.end);
        Page {
            next: records.next().map_or(end, |(offset, _)| *offset),
            records: page,
            end,
        }
    }

    /// Whether a subscription reads this message from the journal.
    fn reads(&self, message: &Message) -> bool {
        let mut durable = self.session.subscriptions().durable();
        durable.any(|known| known.filter.matches(message.topic()))
    }

    fn read_at(&self, offsets: &[Offset]) -> Vec<Option<Record>> {
        offsets
            .iter()
            .map(|at| self.journal.get_key_value(at).map(record))
            .collect()
    }

    fn matching_retained(&self, filter: &Filter) -> Vec<Offset> {
        self.retained
            .iter()
            .copied()
            .filter(|at| filter.matches(self.journal[at].topic()))
            .collect()
    }

    /// Connects with [`Self::connect`] and reads what that makes due.
    fn attach(&mut self) -> &mut Self {
        self.attach_unanswered().answered()
    }

    fn attach_unanswered(&mut self) -> &mut Self {
        self.sessions += 1;
        self.input(Input::Attach {
            connect: Box::new(self.connect.clone()),
            number: SessionNumber(self.sessions),
            epoch: self.epoch,
        })
    }

    /// A packet over the connection that holds `fence`.
    fn packet(&mut self, fence: Fence, packet: Inbound) -> &mut Self {
        self.input(Input::Packet { fence, packet })
    }

    /// A packet over the attached connection.
    fn send(&mut self, packet: Inbound) -> &mut Self {
        self.packet(self.session.fence(), packet)
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) -> &mut Self {
        self.subscribe_with(filter, SubscriptionOptions::of_qos(qos))
    }

    fn subscribe_with(&mut self, filter: &str, options: SubscriptionOptions) -> &mut Self {
        self.send(Inbound::Subscribe {
            packet_id: id(9),
            filters: vec![(self::filter(filter), options, None)],
        })
        .answered()
    }

    fn unsubscribe(&mut self, filters: &[&str]) -> &mut Self {
        self.send(Inbound::Unsubscribe {
            packet_id: id(9),
            filters: filters.iter().map(|text| filter(text)).collect(),
        })
    }

    fn disconnect(&mut self) -> &mut Self {
        self.disconnect_with(false, None)
    }

    fn disconnect_with(&mut self, with_will: bool, expiry_seconds: Option<u32>) -> &mut Self {
        self.send(Inbound::Disconnect {
            with_will,
            expiry_seconds,
        })
    }

    /// The socket is gone.
    fn close(&mut self) -> &mut Self {
        self.input(Input::Closed {
            fence: self.session.fence(),
        })
    }

    /// A publication reaches the journal, and the session if that is attached and wants it.
    fn log(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let offset = Offset(self.end);
        let message = Arc::new(Message::new(parts));
        self.end += 1;
        self.journal.insert(offset, Arc::clone(&message));
        let wanted = self.session.is_kept() && self.reads(&message);
        self.effects.clear();
        if self.session.is_attached() && wanted {
            self.apply(Input::Logged(Record { offset, message }));
        }
        self
    }

    /// A publication from the routing pass.
    fn live(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let message = Arc::new(Message::new(parts));
        self.input(Input::Live(Live {
            qos: message.qos,
            message,
            retain: false,
            subscription_ids: [].into_iter().collect(),
        }))
    }

    /// A retained message is in the journal, not handed to the session.
    fn retain(&mut self, parts: MessageParts<'_>) -> &mut Self {
        let retained = MessageParts {
            retain: true,
            ..parts
        };
        self.retained.push(Offset(self.end));
        self.journal
            .insert(Offset(self.end), Arc::new(Message::new(retained)));
        self.end += 1;
        self
    }

    /// The journal loses everything it holds.
    fn trim(&mut self) -> &mut Self {
        self.journal.clear();
        self
    }

    fn after_seconds(&mut self, seconds: u32) -> &mut Self {
        self.time = self.time.plus_seconds(seconds);
        self
    }

    fn tick(&mut self) -> &mut Self {
        self.input(Input::Tick)
    }

    /// The broker dies and starts again: what is left is the fold of the changes.
    fn crash(&mut self) -> &mut Self {
        let mut snapshot = self.snapshot.clone().expect("a kept session");
        if snapshot.detached_at.is_none() {
            let recovered = Change::Recovered {
                at: self.time,
                maybe_sent_below: Offset(self.end),
            };
            snapshot.apply(Offset(self.end), &recovered);
            self.end += 1;
        }
        self.restore(snapshot)
    }

    fn restore(&mut self, snapshot: SessionSnapshot) -> &mut Self {
        self.epoch += 1;
        self.effects.clear();
        self.session = Session::restore(snapshot.clone(), Arc::clone(&self.limits), self.time);
        self.snapshot = Some(snapshot);
        self
    }

    // ---- views

    /// Exactly these effects.
    #[track_caller]
    fn expect(&mut self, effects: &[Effect]) -> &mut Self {
        assert_eq!(self.effects, effects);
        self
    }

    /// Exactly these packets to the client, as [`line`] writes them.
    #[track_caller]
    fn expect_sent(&mut self, lines: &[&str]) -> &mut Self {
        let sent: Vec<_> = self.sent().iter().map(line).collect();
        assert_eq!(sent, lines);
        self
    }

    /// The packets to the client.
    fn sent(&self) -> Vec<Outbound> {
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(packet) => Some(packet.clone()),
            _ => None,
        });
        sent.collect()
    }

    /// The changes recorded, awaited or not.
    fn recorded(&self) -> Vec<Change> {
        let recorded = self.effects.iter().filter_map(|effect| match effect {
            Effect::Persist(_, change) | Effect::Record(_, change) => Some(change.clone()),
            _ => None,
        });
        recorded.collect()
    }

    /// The payloads published, wills included.
    fn published(&self) -> Vec<String> {
        let published = self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish { message, .. } => Some(text(message)),
            _ => None,
        });
        published.collect()
    }

    fn counted(&self, counter: Counter) -> usize {
        let counts = self.effects.iter();
        counts
            .filter(|effect| **effect == Effect::Count(counter))
            .count()
    }

    fn position(&self, effect: &Effect) -> usize {
        let mut effects = self.effects.iter();
        effects
            .position(|known| known == effect)
            .unwrap_or_else(|| panic!("no {effect:?} in {:?}", self.effects))
    }

    fn has(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }

    /// The progress recorded: next offset, next identifier, unsettled identifiers.
    fn progress(&self) -> Option<(Offset, u16, Vec<u16>)> {
        self.recorded()
            .into_iter()
            .rev()
            .find_map(|change| match change {
                Change::Progress {
                    next,
                    next_packet_id,
                    unsettled,
                } => Some((
                    next,
                    next_packet_id.get(),
                    unsettled.iter().map(|sent| sent.packet_id.get()).collect(),
                )),
                _ => None,
            })
    }

    fn window(&self) -> Vec<u16> {
        let window = self.session.inflight().iter();
        window.map(|sent| sent.packet_id.get()).collect()
    }
}

fn record((offset, message): (&Offset, &Arc<Message>)) -> Record {
    Record {
        offset: *offset,
        message: Arc::clone(message),
    }
}

/// One packet as one line: what a test says about it.
fn line(packet: &Outbound) -> String {
    match packet {
        Outbound::ConnAck {
            session_present,
            expiry_seconds,
        } => {
            let state = if *session_present { "resumed" } else { "new" };
            format!("connack {state} {expiry_seconds}")
        }
        Outbound::Publish(delivery) => publish_line(delivery),
        Outbound::PubAck { packet_id, result } => format!("puback {} {result:?}", packet_id.get()),
        Outbound::PubRec { packet_id, result } => format!("pubrec {} {result:?}", packet_id.get()),
        Outbound::PubRel { packet_id, known } => format!("pubrel {} {known}", packet_id.get()),
        Outbound::PubComp { packet_id, known } => format!("pubcomp {} {known}", packet_id.get()),
        Outbound::SubAck { results, .. } => {
            let levels = results.iter().map(|result| match result {
                Ok(qos) => qos.level().to_string(),
                Err(refusal) => format!("{refusal:?}"),
            });
            format!("suback {}", levels.collect::<Vec<_>>().join(" "))
        }
        Outbound::UnsubAck { existed, .. } => format!("unsuback {existed:?}"),
        Outbound::Close(refusal) => format!("close {refusal:?}"),
    }
}

fn publish_line(delivery: &Delivery) -> String {
    let mut line = format!(
        "publish {} q{}",
        text(&delivery.message),
        delivery.qos.level()
    );
    if let Some(packet_id) = delivery.packet_id {
        line += &format!(" #{}", packet_id.get());
    }
    if delivery.dup {
        line += " dup";
    }
    if delivery.retain {
        line += " retain";
    }
    if !delivery.subscription_ids.is_empty() {
        line += &format!(" {:?}", delivery.subscription_ids.as_slice());
    }
    line
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

/// A QoS 1 publication of somebody else to topic `t`.
fn parts(payload: &str) -> MessageParts<'_> {
    MessageParts {
        topic: "t",
        payload: payload.as_bytes(),
        properties: b"",
        qos: QOS1,
        retain: false,
        published_at: START,
        expires_at: None,
        publisher: SessionNumber(1000),
    }
}

fn parts_of(payload: &str, qos: QoS) -> MessageParts<'_> {
    MessageParts {
        qos,
        ..parts(payload)
    }
}

fn parts_to<'a>(topic: &'a str, payload: &'a str) -> MessageParts<'a> {
    MessageParts {
        topic,
        ..parts(payload)
    }
}

fn will(payload: &str, delay_seconds: u32) -> Option<Box<Will>> {
    Some(Box::new(Will {
        message: Arc::new(Message::new(parts_to("will", payload))),
        delay_seconds,
        expiry_seconds: None,
    }))
}

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn publish(parts: MessageParts<'_>, packet_id: u16) -> Inbound {
    Inbound::Publish {
        message: Arc::new(Message::new(parts)),
        packet_id: PacketId::new(packet_id),
        dup: false,
    }
}

fn puback(packet_id: u16) -> Inbound {
    Inbound::PubAck {
        packet_id: id(packet_id),
        failed: false,
    }
}

fn pubrec(packet_id: u16) -> Inbound {
    Inbound::PubRec {
        packet_id: id(packet_id),
        failed: false,
    }
}

fn pubrel(packet_id: u16) -> Inbound {
    Inbound::PubRel {
        packet_id: id(packet_id),
    }
}

fn pubcomp(packet_id: u16) -> Inbound {
    Inbound::PubComp {
        packet_id: id(packet_id),
    }
}
