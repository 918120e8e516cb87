//! What the tests of the fold, the stores and recovery share: values, a journal in a vector, random valid journals.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::journal::{JournalObservation, JournalReader, Page, ReadError, ReadRequest, Record};
use crate::model::entry::{Attach, Change, Created, Entry, GroupChange, Step, Unsettled};
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{
    ClientId, Fence, GroupNumber, Listener, Offset, PacketId, Principal, SessionNumber, Timestamp,
};
use crate::model::message::{Message, MessageParts, QoS, Will};
use crate::model::packet::{ProtocolVersion, RetainHandling, SubscriptionOptions};
use crate::model::retained::RetainedAt;
use crate::model::snapshot::{ReplaySnapshot, SessionSnapshot, SubscriptionSnapshot};
use crate::model::topic::Filter;

pub(crate) fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap()
}

pub(crate) fn message(topic: &str, payload: &str, retain: bool, publisher: u64) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic,
        payload: payload.as_bytes(),
        properties: &[],
        qos: QoS::ExactlyOnce,
        retain,
        published_at: Timestamp(5),
        expires_at: None,
        publisher: SessionNumber(publisher),
    }))
}

pub(crate) fn will(delay_seconds: u32) -> Box<Will> {
    Box::new(Will {
        message: message("will", "gone", false, 1),
        delay_seconds,
        expiry_seconds: Some(60),
    })
}

pub(crate) fn attach(fence: u64, at: u64) -> Attach {
    Attach {
        fence: Fence(fence),
        version: ProtocolVersion::V5,
        expiry_seconds: 100,
        will: None,
        at: Timestamp(at),
    }
}

pub(crate) fn created(client_id: &str, at: u64, next: u64) -> Change {
    Change::Created(Box::new(beginning(client_id, at, next)))
}

pub(crate) fn beginning(client_id: &str, at: u64, next: u64) -> Created {
    Created {
        client_id: ClientId::from(client_id),
        owner: Principal::from("owner"),
        listener: Listener::from("127.0.0.1:1883"),
        attach: attach(1, at),
        next: Offset(next),
    }
}

pub(crate) fn subscribed(text: &str, qos: QoS, from: u64) -> Change {
    Change::Subscribed {
        filter: filter(text),
        options: SubscriptionOptions::of_qos(qos),
        from: Offset(from),
        replay: None,
    }
}

pub(crate) fn detached(at: u64, expiry_seconds: u32) -> Change {
    Change::Detached {
        at: Timestamp(at),
        expiry_seconds,
        will_due: true,
    }
}

pub(crate) fn sent(id: u16, offset: u64, qos: QoS) -> Unsettled {
    Unsettled {
        packet_id: packet_id(id),
        offset: Offset(offset),
        qos,
        retain: false,
        replay: false,
        lease: None,
        id: None,
        step: Step::Published,
    }
}

pub(crate) fn progress(next: u64, next_id: u16, unsettled: Vec<Unsettled>) -> Change {
    Change::Progress {
        next: Offset(next),
        next_packet_id: packet_id(next_id),
        unsettled,
    }
}

pub(crate) fn entry(session: u64, change: Change) -> Entry {
    Entry::Session {
        session: SessionNumber(session),
        change: Box::new(change),
    }
}

pub(crate) fn publication(topic: &str, payload: &str, retain: bool) -> Entry {
    Entry::Message {
        message: message(topic, payload, retain, 999),
        received: None,
    }
}

/// A session with every field set, every kind of step and option among them.
pub(crate) fn full_snapshot(number: u64) -> SessionSnapshot {
    let created = beginning("meter-7", 1_000, 40);
    let mut snapshot = SessionSnapshot::created(SessionNumber(number), &created, Offset(40));
    let mut done = sent(9, 300, QoS::ExactlyOnce);
    done.step = Step::Done;
    let mut released = sent(8, 200, QoS::ExactlyOnce);
    released.step = Step::Released;
    released.retain = true;
    released.replay = true;
    snapshot.version = ProtocolVersion::V311;
    snapshot.fence = Fence(7 << 32 | 3);
    snapshot.detached_at = Some(Timestamp(2_000));
    snapshot.will = Some(will(30));
    snapshot.unsettled = vec![sent(7, 100, QoS::AtLeastOnce), released, done];
    snapshot.received = vec![packet_id(1), packet_id(65_535)];
    snapshot.maybe_sent_below = Offset(500);
    snapshot.next = Offset(250);
    snapshot.next_packet_id = packet_id(10);
    snapshot.covers = Offset(600);
    snapshot.replays = vec![ReplaySnapshot {
        filter: filter("a/+/#"),
        as_of: Offset(45),
        after: Some("a/b".into()),
    }];
    for (text, qos, handling) in [
        ("a/+/#", QoS::AtLeastOnce, RetainHandling::AtSubscribe),
        ("b", QoS::AtMostOnce, RetainHandling::IfNew),
        ("$share/g/c", QoS::ExactlyOnce, RetainHandling::Never),
    ] {
        snapshot.subscriptions.push(SubscriptionSnapshot {
            filter: filter(text),
            options: SubscriptionOptions {
                qos,
                no_local: qos == QoS::AtLeastOnce,
                retain_as_published: true,
                retain_handling: handling,
                id: Some(268_435_455),
            },
            from: Offset(45),
        });
    }
    let was = SubscriptionSnapshot {
        from: Offset(40),
        ..snapshot.subscriptions[0].clone()
    };
    snapshot.past.push(was.clone(), Offset(45), false);
    let dropped = SubscriptionSnapshot {
        filter: filter("d"),
        ..was
    };
    snapshot.past.push(dropped, Offset(590), true);
    snapshot
}

/// A journal in a vector; the entry at index `n` has the offset `n`.
#[derive(Debug, Default)]
pub(crate) struct VecJournal(pub(crate) Vec<Entry>);

impl JournalReader for VecJournal {
    fn read(&self, _: &ReadRequest<'_>) -> Result<Page, ReadError> {
        Ok(Page::default())
    }

    fn read_at(&self, offsets: &[Offset]) -> Result<Vec<Option<Record>>, ReadError> {
        Ok(vec![None; offsets.len()])
    }

    fn replay(&self, from: Offset, each: &mut dyn FnMut(Offset, Entry)) -> Result<(), ReadError> {
        for (at, entry) in (0..).map(Offset).zip(&self.0) {
            if at >= from {
                each(at, entry.clone());
            }
        }
        Ok(())
    }

    fn end(&self) -> Offset {
        Offset(self.0.len() as u64)
    }

    fn parts(&self) -> Vec<Range<Offset>> {
        vec![self.start()..self.end()]
    }

    fn start(&self) -> Offset {
        Offset(0)
    }

    fn holds(&self) -> Offset {
        self.end()
    }

    fn entries_since(&self, from: Offset) -> u64 {
        self.end().0.saturating_sub(from.0)
    }

    fn observe(&self) -> JournalObservation {
        JournalObservation::default()
    }
}

/// A group with something in every field.
pub(crate) fn full_group(number: u64) -> GroupSnapshot {
    GroupSnapshot {
        unsettled: [Offset(300), Offset(400)].into(),
        taken: [Offset(501)].into(),
        ..GroupSnapshot::created(
            GroupNumber(number),
            filter("$share/g/a/+"),
            Offset(500),
            Offset(511),
        )
    }
}

/// What the journal says, folded the plain way: the oracle of everything that checkpoints.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fold {
    pub(crate) sessions: BTreeMap<SessionNumber, SessionSnapshot>,
    pub(crate) groups: BTreeMap<GroupNumber, GroupSnapshot>,
    pub(crate) retained: BTreeMap<String, RetainedAt>,
}

impl Fold {
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut fold = Self::default();
        for (at, entry) in (0..).map(Offset).zip(entries) {
            fold.apply(at, entry);
        }
        fold
    }

    fn apply(&mut self, at: Offset, entry: &Entry) {
        match entry {
            Entry::Message { message, received } => {
                if let (Some(id), Some(session)) =
                    (received, self.sessions.get_mut(&message.publisher))
                {
                    session.apply_received(at, *id);
                }
                if message.retain {
                    match RetainedAt::of(at, message) {
                        Some(at) => self.retained.insert(message.topic().to_owned(), at),
                        None => self.retained.remove(message.topic()),
                    };
                }
            }
            Entry::Session { session, change } => self.change(at, *session, change),
            Entry::Group { group, change } => self.group_change(at, *group, change),
            Entry::Liveness { .. } | Entry::HighWater(_) => {}
        }
    }

    fn group_change(&mut self, at: Offset, group: GroupNumber, change: &GroupChange) {
        if let GroupChange::Created { filter, next } = change {
            let new = GroupSnapshot::created(group, filter.clone(), *next, at);
            self.groups.insert(group, new);
        } else if *change == GroupChange::Ended {
            self.groups.remove(&group);
        } else if let Some(known) = self.groups.get_mut(&group) {
            known.apply(at, change);
        }
    }

    fn change(&mut self, at: Offset, session: SessionNumber, change: &Change) {
        if let Change::Sent(sent) = change
            && let Some(group) = sent.lease.and_then(|group| self.groups.get_mut(&group))
        {
            group.apply_sent(at, sent.offset);
        }
        if let Change::Created(created) = change {
            let new = SessionSnapshot::created(session, created, at);
            self.sessions.insert(session, new);
        } else if *change == Change::Ended {
            self.sessions.remove(&session);
        } else if let Some(known) = self.sessions.get_mut(&session) {
            known.apply(at, change);
        }
    }
}

/// Turns arbitrary numbers into a journal that a broker could have written.
pub(crate) fn valid_journal(choices: &[u32]) -> Vec<Entry> {
    let mut writer = Writer::default();
    for choice in choices {
        let entry = writer.next(*choice);
        writer.entries.push(entry);
    }
    writer.entries
}

#[derive(Default)]
struct Writer {
    entries: Vec<Entry>,
    created: u64,
    groups: u64,
    sessions: BTreeMap<u64, Client>,
}

/// As much of a session as keeps its changes valid.
#[derive(Clone, Default)]
struct Client {
    attached: bool,
    fence: u64,
    next: u64,
    next_id: u16,
    window: BTreeMap<u16, Step>,
    received: BTreeSet<u16>,
}

impl Writer {
    fn next(&mut self, choice: u32) -> Entry {
        let end = self.entries.len() as u64;
        let (kind, what) = (choice % 21, choice / 21);
        let topics = ["a", "b/c", "d"];
        let topic = topics[what as usize % 3];
        match kind {
            0 | 1 => return publication(topic, "payload", kind == 0),
            2 => return publication(topic, "", true),
            3 => {
                return Entry::Liveness {
                    at: Timestamp(end),
                    boot: None,
                };
            }
            19 | 20 => return self.group(what, end),
            _ => {}
        }
        let known = self.sessions.len();
        if known == 0 || (kind == 4 && known < 5) {
            self.created += 1;
            let client = Client {
                attached: true,
                fence: 1,
                next: end,
                next_id: 1,
                ..Client::default()
            };
            self.sessions.insert(self.created, client);
            return entry(self.created, created("client", end, end));
        }
        let (session, client) = self.sessions.iter_mut().nth(what as usize % known).unwrap();
        let session = *session;
        let Some(change) = client.next(kind, what / 7, end) else {
            self.sessions.remove(&session);
            return entry(session, Change::Ended);
        };
        if let Change::Received { packet_id } = change
            && what.is_multiple_of(2)
        {
            return Entry::Message {
                message: message(topic, "payload", what.is_multiple_of(4), session),
                received: Some(packet_id),
            };
        }
        entry(session, change)
    }
}

impl Writer {
    fn group(&mut self, what: u32, end: u64) -> Entry {
        let (kind, what) = (what % 8, u64::from(what / 8));
        let known = self.groups;
        if known == 0 || kind == 0 {
            self.groups += 1;
            let (filter, next) = (filter("$share/g/a"), Offset(end));
            return Entry::group(
                GroupNumber(self.groups),
                GroupChange::Created { filter, next },
            );
        }
        let group = GroupNumber(1 + what % known);
        let offset = Offset(what % (end + 1));
        let change = match kind {
            1 => GroupChange::Ended,
            2 | 3 => GroupChange::Taken { offset },
            _ => GroupChange::Progress {
                next: offset,
                unsettled: (0..what % 5).map(|at| Offset(at * what % end)).collect(),
            },
        };
        Entry::group(group, change)
    }
}

impl Client {
    /// `None` ends the session.
    fn next(&mut self, kind: u32, what: u32, end: u64) -> Option<Change> {
        let topics = ["a", "b/#", "+"];
        let topic = topics[what as usize % 3];
        let qos = QoS::from_level((what % 3) as u8).unwrap();
        let any = what as usize;
        Some(match kind {
            4 if what.is_multiple_of(3) => return None,
            4 => Change::WillSettled,
            5 | 6 if self.attached => {
                self.attached = false;
                detached(end, 100 + what % 5)
            }
            5..=7 => {
                self.attached = true;
                self.fence += 1;
                let mut attach = attach(self.fence, end);
                attach.will = what.is_multiple_of(2).then(|| will(what % 9));
                Change::Attached(attach)
            }
            8 => subscribed(topic, qos, end),
            9 => Change::Subscribed {
                filter: filter(topic),
                options: SubscriptionOptions::of_qos(qos),
                from: Offset(end),
                replay: Some(Offset(end)),
            },
            10 if what.is_multiple_of(2) => Change::Replayed {
                filter: filter(topic),
                after: what.is_multiple_of(4).then(|| "b".into()),
                sent: Vec::new(),
            },
            10 => Change::Dropped {
                filter: filter(topic),
                until: Offset(end),
            },
            11 => {
                let id = 1 + (what % 9) as u16;
                self.received.insert(id);
                Change::Received {
                    packet_id: packet_id(id),
                }
            }
            12 if !self.received.is_empty() => {
                let id = *self.received.iter().nth(any % self.received.len()).unwrap();
                self.received.remove(&id);
                Change::Released {
                    packet_id: packet_id(id),
                }
            }
            13 | 14 if self.window.len() < 5 => self.send(what),
            15 | 16 if !self.window.is_empty() => self.acknowledge(what),
            17 => Change::Recovered {
                at: Timestamp(end),
                maybe_sent_below: Offset(end),
            },
            _ => {
                let id = self.next_id;
                self.next_id = self.next_id % 20 + 1;
                let below = self.next;
                self.next = (self.next + u64::from(what % 6)).min(end);
                let unsettled = if self.window.contains_key(&id) {
                    Vec::new()
                } else {
                    vec![sent(id, below, QoS::AtLeastOnce)]
                };
                progress(self.next, self.next_id, unsettled)
            }
        })
    }

    fn send(&mut self, what: u32) -> Change {
        let id = self.next_id;
        self.next_id = self.next_id % 20 + 1;
        if self.window.contains_key(&id) {
            return Change::WillSettled;
        }
        self.window.insert(id, Step::Published);
        let mut record = sent(id, self.next + u64::from(what % 4), QoS::ExactlyOnce);
        record.replay = what.is_multiple_of(5);
        Change::Sent(record)
    }

    fn acknowledge(&mut self, what: u32) -> Change {
        let any = what as usize % self.window.len();
        let id = *self.window.keys().nth(any).unwrap();
        let packet_id = packet_id(id);
        let before = self.window.insert(id, Step::Released);
        if before == Some(Step::Published) && !what.is_multiple_of(4) {
            return Change::PubRec { packet_id };
        }
        self.window.remove(&id);
        Change::Settled { packet_id }
    }
}
