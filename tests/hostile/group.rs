//! A group to which sessions, the journal and time say anything in any order.
//!
//! Input: bytes, taken one at a time for what happens next and to whom. What sessions say need not be true: a fault of one
//! of them must not take the group down.

use std::collections::BTreeMap;
use std::sync::Arc;

use outlive_actors::model::cursor::ReadId;
use outlive_actors::model::effect::Live;
use outlive_actors::model::effects::Effects;
use outlive_actors::model::group::snapshot::GroupSnapshot;
use outlive_actors::model::group::talk::{
    FromMember, Lease, MEMORY_LEASES_FROM, Online, Place, Said, is_in_memory,
};
use outlive_actors::model::group::{Group, GroupEffect, GroupInput, Strategy};
use outlive_actors::model::ids::{
    Fence, GroupNumber, Now, Offset, SessionNumber, ShardId, Timestamp,
};
use outlive_actors::model::limits::SessionLimits;
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::record::{Page, Record};
use outlive_actors::model::routes::Slot;
use outlive_actors::model::topic::Filter;

const NUMBER: GroupNumber = GroupNumber(1);

/// Messages that a group in memory keeps.
const QUEUE_MAX: u32 = 8;

const PLACE: Place = Place {
    shard: ShardId(0),
    slot: Slot(0),
};

/// Takes the input apart.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte().unwrap_or(0)) % end.max(1)
    }

    fn qos(&mut self) -> QoS {
        QoS::from_level(u8::try_from(self.below(3)).expect("below three")).expect("a QoS")
    }
}

struct World {
    group: Group,
    limits: Arc<SessionLimits>,
    journal: BTreeMap<Offset, Arc<Message>>,
    /// Everything below it is committed.
    end: u64,
    time: u64,
    snapshot: GroupSnapshot,
    reads: Vec<(ReadId, Offset)>,
    rereads: Vec<Vec<Offset>>,
    deaths: u32,
    /// Records that were leased or said to be, ever.
    leased: usize,
}

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data.iter());
    let strategy = bytes.below(Strategy::ALL.len() as u64);
    let (_, strategy) = Strategy::ALL[usize::try_from(strategy).expect("few")];
    let limits = Arc::new(SessionLimits {
        queue_messages_max: QUEUE_MAX,
        inbox_records_max: 4,
        progress_acks_max: 3,
        ..SessionLimits::default()
    });
    let filter = Filter::new("$share/g/t").expect("a filter");
    let mut world = World {
        group: Group::new(NUMBER, filter.clone(), strategy, Arc::clone(&limits)),
        limits,
        journal: BTreeMap::new(),
        end: 10,
        time: 1_000,
        snapshot: GroupSnapshot::created(NUMBER, filter, Offset(10), Offset(9)),
        reads: Vec::new(),
        rereads: Vec::new(),
        deaths: 0,
        leased: 0,
    };
    while let Some(what) = bytes.byte() {
        world.step(what, &mut bytes);
    }
}

impl World {
    fn step(&mut self, what: u8, bytes: &mut Bytes<'_>) {
        let input = match what % 12 {
            0..=5 => GroupInput::Said(self.said(bytes)),
            6 => {
                let message = message(bytes.qos());
                match self.group.is_durable() && message.qos > QoS::AtMostOnce {
                    true => self.commit(message),
                    false => GroupInput::Live(Live {
                        qos: message.qos,
                        message,
                        retain: false,
                        subscription_ids: Default::default(),
                    }),
                }
            }
            7 => GroupInput::Durable {
                next: Offset(self.end),
            },
            8 => match self.reads.pop() {
                Some((read, from)) => GroupInput::Page {
                    read,
                    page: self.page(from, bytes),
                },
                None => GroupInput::ReadFailed,
            },
            9 => match self.rereads.pop() {
                Some(asked) => GroupInput::Reread {
                    records: asked.iter().map(|at| self.record(*at)).collect(),
                    asked,
                },
                None => GroupInput::ReadFailed,
            },
            10 => {
                self.time += bytes.below(256) * 100;
                GroupInput::Tick
            }
            _ if bytes.below(2) == 0 => {
                GroupInput::Recalled((bytes.below(4) > 0).then(|| Box::new(self.snapshot.clone())))
            }
            _ => return self.die(bytes),
        };
        self.input(input);
    }

    fn said(&mut self, bytes: &mut Bytes<'_>) -> FromMember {
        let fence = Fence(bytes.below(3));
        let member = SessionNumber(bytes.below(3));
        let at = self.offset(bytes);
        let said = match bytes.below(10) {
            0 | 1 => Said::Online(Box::new(self.online(fence, bytes))),
            2 => Said::Recounted(Box::new(self.online(fence, bytes))),
            3 => Said::Offline {
                fence,
                keeps: vec![at],
            },
            4 => Said::Lost,
            5 => Said::Left,
            6 => Said::Settled(fence, [at].into()),
            7 => {
                if !is_in_memory(at) {
                    self.snapshot.apply_sent(Offset(self.end), at);
                    self.end += 1;
                }
                Said::Taken(fence, at)
            }
            8 => Said::Returned {
                fence,
                at,
                message: message(bytes.qos()),
                full: bytes.below(2) == 0,
            },
            _ => match bytes.below(2) {
                0 => Said::Freed(fence),
                _ => Said::Room(fence, u16::from(bytes.byte().unwrap_or(0))),
            },
        };
        FromMember {
            member,
            place: PLACE,
            said,
        }
    }

    /// The group believes that it has what it says, so that may come back, too.
    fn online(&mut self, fence: Fence, bytes: &mut Bytes<'_>) -> Online {
        let online = Online {
            fence,
            max: u16::try_from(bytes.below(4)).expect("few"),
            qos: bytes.qos(),
            durable: bytes.below(2) == 1,
            by: Some(NUMBER),
            holds: (0..bytes.below(3)).map(|_| self.offset(bytes)).collect(),
            taken: u16::try_from(bytes.below(3)).expect("few"),
        };
        self.leased += online.holds.len();
        online
    }

    /// One that a lease may have.
    fn offset(&self, bytes: &mut Bytes<'_>) -> Offset {
        match bytes.below(4) {
            0 => Offset(MEMORY_LEASES_FROM.0 + bytes.below(16)),
            _ => Offset(10 + bytes.below(self.end)),
        }
    }

    fn commit(&mut self, message: Arc<Message>) -> GroupInput {
        let offset = Offset(self.end);
        self.end += 1;
        self.journal.insert(offset, Arc::clone(&message));
        GroupInput::Logged(Record { offset, message })
    }

    fn record(&self, offset: Offset) -> Option<Record> {
        let message = Arc::clone(self.journal.get(&offset)?);
        Some(Record { offset, message })
    }

    fn page(&self, from: Offset, bytes: &mut Bytes<'_>) -> Page {
        let count = usize::try_from(1 + bytes.below(4)).expect("few");
        let found = self.journal.range(from..).take(count);
        let records: Vec<_> = found.filter_map(|(at, _)| self.record(*at)).collect();
        let end = Offset(self.end);
        let full = records.len() == count;
        let last = records.last().map(|record| record.offset.next());
        Page {
            next: last.filter(|_| full).unwrap_or(end).max(from),
            records,
            end,
            holes: 0,
        }
    }

    fn die(&mut self, bytes: &mut Bytes<'_>) {
        let make = match self.group.is_durable() {
            true => Group::asleep,
            false => Group::new,
        };
        let filter = self.group.filter().clone();
        self.group = make(
            NUMBER,
            filter,
            Strategy::RoundRobin,
            Arc::clone(&self.limits),
        );
        self.deaths += 1;
        self.reads.clear();
        self.rereads.clear();
        let online = (0..bytes.below(3)).map(|member| (SessionNumber(member), Fence(1), PLACE));
        let mut effects = Effects::new();
        self.group.recount(self.deaths, online, &mut effects);
    }

    fn input(&mut self, input: GroupInput) {
        let now = Now {
            time: Timestamp(self.time),
            log_end: Offset(self.end),
            live_end: Offset(self.end),
        };
        let mut effects = Effects::new();
        self.group.handle(now, input, &mut effects);
        let reads = |effect: &&GroupEffect| {
            matches!(effect, GroupEffect::Read { .. } | GroupEffect::Reread(_))
        };
        let asked = effects.as_slice().iter().filter(reads).count();
        for effect in effects.drain() {
            match effect {
                GroupEffect::Lease { lease, .. } => {
                    assert!(!matches!(lease, Lease::Recount), "nobody died");
                    self.leased += usize::from(matches!(lease, Lease::Record { .. }));
                }
                GroupEffect::Record(change) => {
                    self.snapshot.apply(Offset(self.end), &change);
                    self.end += 1;
                }
                GroupEffect::Read { read, from, .. } => self.reads.push((read, from)),
                GroupEffect::Reread(asked) => self.rereads.push(asked),
                _ => {}
            }
        }
        let next = self.group.cursor().next();
        let unsettled = self.group.unsettled();
        assert!(unsettled.is_sorted() && unsettled.iter().all(|at| *at < next));
        if !self.group.is_durable() {
            // Those that queue, and those that came back.
            assert!(self.group.waiting() <= QUEUE_MAX as usize + self.leased);
        }
        assert!(
            asked <= 2,
            "one word is enough to read one page and one list"
        );
    }
}

fn message(qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic: "t",
        payload: b"x",
        properties: b"",
        qos,
        retain: false,
        published_at: Timestamp(0),
        expires_at: None,
        publisher: SessionNumber(9),
    }))
}
