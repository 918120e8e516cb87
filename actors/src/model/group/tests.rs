//! What a group decides: who gets what, what comes back, what is recorded. A group, members and a journal turned by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::snapshot::GroupSnapshot;
use super::talk::{FromMember, Lease, Online, Place, Said};
use super::*;
use crate::model::effect::Live;
use crate::model::entry::GroupChange;
use crate::model::ids::{Fence, GroupNumber, SessionNumber, ShardId, Timestamp};
use crate::model::message::MessageParts;
use crate::model::record::Page;
use crate::model::routes::Slot;

const START: u64 = 100;

fn filter() -> Filter {
    Filter::new("$share/g/t/#").unwrap()
}

fn message(topic: &str, publisher: u64, qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(MessageParts {
        topic,
        payload: b"x",
        properties: b"",
        qos,
        retain: false,
        published_at: Timestamp(0),
        expires_at: None,
        publisher: SessionNumber(publisher),
    }))
}

/// One group and what stands in for its members' sessions and the journal.
struct Script {
    group: Group,
    journal: BTreeMap<Offset, Arc<Message>>,
    end: u64,
    time: Timestamp,
    /// The fold of what was recorded.
    snapshot: GroupSnapshot,
    /// Who has what, by the leases handed over.
    has: BTreeMap<u64, Vec<Offset>>,
    once: Vec<u64>,
    effects: Vec<GroupEffect>,
    deaths: u32,
    /// The group waits for its snapshot.
    recalling: bool,
}

impl Script {
    fn with(strategy: Strategy, limits: SessionLimits) -> Self {
        let number = GroupNumber(1);
        Self {
            group: Group::new(number, filter(), strategy, Arc::new(limits)),
            journal: BTreeMap::new(),
            end: START,
            time: Timestamp(1000),
            snapshot: GroupSnapshot::created(number, filter(), Offset(START), Offset(START - 1)),
            has: BTreeMap::new(),
            once: Vec::new(),
            effects: Vec::new(),
            deaths: 0,
            recalling: false,
        }
    }

    fn durable() -> Self {
        let mut script = Self::with(Strategy::RoundRobin, SessionLimits::default());
        script.input(GroupInput::Durable {
            next: Offset(START),
        });
        script
    }

    fn input(&mut self, input: GroupInput) {
        let now = Now {
            time: self.time,
            log_end: Offset(self.end),
            live_end: Offset(self.end),
        };
        let mut effects = Vec::new();
        self.group.handle(now, input, &mut effects);
        for effect in effects {
            self.effects.push(effect.clone());
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: GroupEffect) {
        match effect {
            GroupEffect::Lease { member, lease, .. } => match lease {
                Lease::Record { at, .. } => {
                    let twice = self.has.values().any(|has| has.contains(&at));
                    assert!(!twice, "{at:?} is leased twice at once");
                    self.has.entry(member.0).or_default().push(at);
                }
                Lease::Once(_) => self.once.push(member.0),
                Lease::Recount => {}
            },
            GroupEffect::Record(change) => {
                self.snapshot.apply(Offset(self.end), &change);
                self.end += 1;
            }
            GroupEffect::Read { read, from, .. } => {
                let records = self.journal.range(from..);
                let page = Page {
                    records: records
                        .map(|(offset, message)| Record {
                            offset: *offset,
                            message: Arc::clone(message),
                        })
                        .collect(),
                    next: Offset(self.end),
                    end: Offset(self.end),
                };
                self.input(GroupInput::Page { read, page });
            }
            GroupEffect::Reread(asked) => {
                let records = asked.iter().map(|at| {
                    self.journal.get(at).map(|message| Record {
                        offset: *at,
                        message: Arc::clone(message),
                    })
                });
                let records = records.collect();
                self.input(GroupInput::Reread { asked, records });
            }
            GroupEffect::Recall => {
                assert!(!self.recalling, "it asks again before it has an answer");
                self.recalling = true;
            }
            GroupEffect::Listen(_) | GroupEffect::Count(_) | GroupEffect::End => {}
        }
    }

    fn say(&mut self, member: u64, said: Said) {
        let place = Place {
            shard: ShardId(0),
            slot: Slot(0),
        };
        self.input(GroupInput::Said(FromMember {
            member: SessionNumber(member),
            place,
            said,
        }));
    }

    fn online(&mut self, member: u64, max: u16) {
        let online = online(member, max, QoS::ExactlyOnce, Vec::new());
        self.say(member, Said::Online(Box::new(online)));
    }

    /// The member leaves and keeps what it began with QoS 2.
    fn offline(&mut self, member: u64, keeps: &[Offset]) {
        let has = self.has.remove(&member).unwrap_or_default();
        let kept = has.into_iter().filter(|at| keeps.contains(at)).collect();
        self.has.insert(member, kept);
        let (fence, keeps) = (Fence(member), keeps.to_vec());
        self.say(member, Said::Offline { fence, keeps });
    }

    fn settle(&mut self, member: u64, at: Offset) {
        self.drop_lease(member, at);
        self.say(member, Said::Settled(Fence(member), [at].into()));
    }

    fn drop_lease(&mut self, member: u64, at: Offset) {
        let has = self.has.entry(member).or_default();
        has.retain(|known| *known != at);
    }

    fn publish(&mut self, topic: &str, publisher: u64, qos: QoS) -> Offset {
        let at = Offset(self.end);
        let message = message(topic, publisher, qos);
        self.journal.insert(at, Arc::clone(&message));
        self.end += 1;
        self.input(GroupInput::Logged(Record {
            offset: at,
            message,
        }));
        at
    }

    fn publish_many(&mut self, count: usize) -> Vec<Offset> {
        (0..count)
            .map(|_| self.publish("t/a", 9, QoS::AtLeastOnce))
            .collect()
    }

    fn of(&self, member: u64) -> Vec<Offset> {
        self.has.get(&member).cloned().unwrap_or_default()
    }

    fn counts(&self) -> Vec<usize> {
        self.has.values().map(Vec::len).collect()
    }

    fn counted(&self, counter: Counter) -> usize {
        let wanted = GroupEffect::Count(counter);
        self.effects.iter().filter(|it| **it == wanted).count()
    }

    /// Time passes, so that progress is recorded.
    fn tick(&mut self) {
        self.time = self.time.plus_millis(2000);
        self.input(GroupInput::Tick);
    }

    /// The actor dies and is rebuilt while these members are online.
    fn rebuild(&mut self, online: &[u64]) {
        let limits = Arc::new(SessionLimits::default());
        let make = if self.group.is_durable() {
            Group::asleep
        } else {
            Group::new
        };
        self.group = make(GroupNumber(1), filter(), Strategy::RoundRobin, limits);
        self.deaths += 1;
        let place = Place {
            shard: ShardId(0),
            slot: Slot(0),
        };
        let online = online
            .iter()
            .map(|member| (SessionNumber(*member), Fence(*member), place));
        let mut effects = Vec::new();
        self.group.recount(self.deaths, online, &mut effects);
        assert!(
            effects.iter().all(|effect| matches!(
                effect,
                GroupEffect::Lease {
                    lease: Lease::Recount,
                    ..
                }
            )),
            "it asks, and leases nothing"
        );
        self.input(GroupInput::Tick);
    }

    /// The member answers that it has `holds` of QoS 1.
    fn recounted(&mut self, member: u64, holds: Vec<Offset>) {
        let online = online(member, 100, QoS::ExactlyOnce, holds);
        self.say(member, Said::Recounted(Box::new(online)));
    }

    /// A member records that it begins a delivery with QoS 2.
    fn record_sent(&mut self, at: Offset) {
        self.snapshot.apply_sent(Offset(self.end), at);
        self.end += 1;
    }

    /// The journal answers what the group asked of it about its snapshot.
    fn recall(&mut self) {
        assert!(std::mem::take(&mut self.recalling), "it did not ask");
        let snapshot = Some(Box::new(self.snapshot.clone()));
        self.input(GroupInput::Recalled(snapshot));
    }
}

fn online(member: u64, max: u16, qos: QoS, holds: Vec<Offset>) -> Online {
    Online {
        fence: Fence(member),
        max,
        qos,
        durable: false,
        by: Some(GroupNumber(1)),
        holds,
        taken: 0,
    }
}

#[test]
fn equal_members_get_equal_shares() {
    for (_, strategy) in Strategy::ALL {
        let mut s = Script::with(strategy, SessionLimits::default());
        s.input(GroupInput::Durable {
            next: Offset(START),
        });
        for member in 1..=10 {
            s.online(member, 65_535);
        }
        let mut counts = BTreeMap::<u64, usize>::new();
        for number in 0..20_000 {
            let topic = format!("t/{number}");
            s.publish(&topic, number, QoS::AtLeastOnce);
            for (member, has) in std::mem::take(&mut s.has) {
                *counts.entry(member).or_default() += has.len();
            }
        }
        let counts: Vec<_> = counts.into_values().collect();
        if strategy == Strategy::Sticky {
            assert_eq!(counts, [20_000], "one has all");
            continue;
        }
        let within = match strategy {
            Strategy::RoundRobin | Strategy::LeastInflight => 0,
            // Chance, but not more than a tenth: nearly five deviations.
            Strategy::Random | Strategy::Sticky | Strategy::HashPublisher | Strategy::HashTopic => {
                200
            }
        };
        assert_eq!(counts.len(), 10, "{strategy:?}");
        assert!(
            counts.iter().all(|count| count.abs_diff(2000) <= within),
            "{strategy:?}: {counts:?}"
        );
    }
}

#[test]
fn a_hash_sends_the_same_to_the_same_as_long_as_it_has_room() {
    for (strategy, vary) in [(Strategy::HashTopic, 1), (Strategy::HashPublisher, 0)] {
        let mut s = Script::with(strategy, SessionLimits::default());
        s.input(GroupInput::Durable {
            next: Offset(START),
        });
        for member in 1..=4 {
            s.online(member, 10);
        }
        for number in 0..10 {
            let topic = if vary == 1 { "t/x" } else { "t/y" };
            s.publish(topic, if vary == 1 { number } else { 7 }, QoS::AtLeastOnce);
        }
        assert_eq!(s.counts(), [10], "{strategy:?}");
        s.publish("t/x", 7, QoS::AtLeastOnce);
        assert_eq!(s.counts().len(), 2, "who has no room is passed over");
    }
}

#[test]
fn who_has_no_room_is_passed_over_and_gets_its_share_when_there_is_some() {
    let mut s = Script::durable();
    s.online(1, 2);
    s.online(2, 100);
    s.publish_many(10);
    assert_eq!((s.of(1).len(), s.of(2).len()), (2, 8));
    let first = s.of(1)[0];
    s.settle(1, first);
    s.publish_many(2);
    assert_eq!((s.of(1).len(), s.of(2).len()), (2, 9));
}

#[test]
fn with_nobody_online_the_group_waits_and_loses_nothing() {
    let mut s = Script::durable();
    s.online(1, 100);
    let seen = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.settle(1, seen);
    s.offline(1, &[]);
    let missed = s.publish_many(3);
    assert!(s.of(1).is_empty());
    s.online(2, 100);
    assert_eq!(s.of(2), missed);
}

#[test]
fn what_a_member_left_unsettled_another_one_gets_once() {
    let mut s = Script::durable();
    s.online(1, 100);
    let all = s.publish_many(4);
    s.settle(1, all[1]);
    s.online(2, 100);
    s.offline(1, &[]);
    assert_eq!(s.of(2), [all[0], all[2], all[3]]);
    assert_eq!(s.counted(Counter::GroupReturned), 3);
    // What its old connection still says changes nothing.
    s.say(1, Said::Settled(Fence(1), [all[0]].into()));
    assert_eq!(s.group.leased(), 3);
}

#[test]
fn what_was_begun_with_qos_2_is_never_leased_again() {
    let mut s = Script::durable();
    s.online(1, 100);
    let taken = s.publish("t/a", 1, QoS::ExactlyOnce);
    let begun = s.publish("t/a", 1, QoS::ExactlyOnce);
    s.say(1, Said::Taken(Fence(1), taken));
    s.online(2, 100);
    s.offline(1, &[begun]);
    assert!(s.of(2).is_empty());
    assert_eq!(s.group.unsettled(), [begun], "until it is durable");
    s.say(1, Said::Taken(Fence(1), begun));
    assert!(s.group.unsettled().is_empty());
    s.tick();
    s.has.clear();
    s.rebuild(&[]);
    s.online(2, 100);
    s.recall();
    assert!(s.of(2).is_empty());
}

#[test]
fn a_member_whose_actor_died_keeps_what_it_began_and_nothing_else() {
    // [MQTT-4.8.2-5]
    let mut s = Script::durable();
    s.online(1, 100);
    let begun = s.publish("t/a", 1, QoS::ExactlyOnce);
    let unsent = s.publish("t/a", 1, QoS::ExactlyOnce);
    let first = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.online(2, 100);
    s.record_sent(begun);
    s.has.clear();
    s.say(1, Said::Lost);
    assert_eq!(s.of(2), [first], "what it began is not known yet");
    s.tick();
    assert_eq!(s.group.unsettled(), [begun, unsent, first]);
    s.recall();
    assert_eq!(s.of(2), [first, unsent]);
    assert_eq!(s.group.unsettled(), [unsent, first]);
}

#[test]
fn a_member_that_dies_after_it_left_strands_nothing() {
    let mut s = Script::durable();
    s.online(1, 100);
    let at = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.online(2, 100);
    s.say(1, Said::Left);
    assert!(s.of(2).is_empty(), "it finishes what it has");
    s.has.clear();
    s.say(1, Said::Lost);
    assert_eq!(s.of(2), [at]);
}

#[test]
fn a_death_while_the_snapshot_is_on_its_way_asks_for_another() {
    let mut s = Script::durable();
    for member in [1, 2, 3] {
        s.online(member, 100);
    }
    let all: Vec<_> = (0..3)
        .map(|_| s.publish("t/a", 1, QoS::ExactlyOnce))
        .collect();
    s.has.clear();
    s.say(1, Said::Lost);
    let before = s.snapshot.clone();
    s.record_sent(all[1]);
    s.say(2, Said::Lost);
    s.recalling = false;
    s.input(GroupInput::Recalled(Some(Box::new(before))));
    assert_eq!(s.of(3), [all[0]], "of the other one it says nothing");
    s.recall();
    assert_eq!(s.of(3), [all[0]], "it was begun");
}

/// Progress that was recorded in the middle of it passed those whose turn had not come: a crash would have lost them.
#[test]
fn progress_names_all_that_a_recall_gives_back() {
    let limits = SessionLimits {
        progress_acks_max: 1,
        ..SessionLimits::default()
    };
    let mut script = Script::with(Strategy::RoundRobin, limits);
    let next = Offset(START);
    script.input(GroupInput::Durable { next });
    script.online(1, 10);
    let records = [(); 3].map(|()| script.publish("t/a", 9, QoS::ExactlyOnce));
    assert_eq!(script.of(1), records);
    script.say(1, Said::Lost);
    script.effects.clear();
    script.recall();
    let mut recorded = 0;
    for effect in &script.effects {
        if let GroupEffect::Record(GroupChange::Progress { unsettled, .. }) = effect {
            assert_eq!(*unsettled, records);
            recorded += 1;
        }
    }
    assert!(recorded > 0);
}

/// What was leased to it with QoS 1 it began with QoS 2: another one got it, too.
#[test]
fn a_member_that_changed_its_qos_and_died_keeps_what_it_began() {
    let mut script = Script::durable();
    let with = |qos| Box::new(online(1, 10, qos, Vec::new()));
    script.say(1, Said::Online(with(QoS::AtLeastOnce)));
    let at = script.publish("t/a", 9, QoS::ExactlyOnce);
    script.say(1, Said::Online(with(QoS::ExactlyOnce)));
    script.record_sent(at);
    script.say(1, Said::Lost);
    script.online(2, 10);
    assert_eq!(script.of(2), []);
    script.recall();
    assert_eq!(script.of(2), []);
    assert_eq!(script.group.unsettled(), []);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_asked_for_again() {
    let mut s = Script::durable();
    s.online(1, 100);
    let at = s.publish("t/a", 1, QoS::ExactlyOnce);
    s.has.clear();
    s.rebuild(&[]);
    s.online(2, 100);
    for _ in 0..2 {
        s.recalling = false;
        s.input(GroupInput::Recalled(None));
        assert!(s.of(2).is_empty());
    }
    s.recall();
    assert_eq!(s.of(2), [at]);
    s.say(2, Said::Lost);
    s.has.clear();
    s.online(3, 100);
    s.recalling = false;
    s.input(GroupInput::Recalled(None));
    s.recall();
    assert_eq!(s.of(3), [at]);
}

#[test]
fn what_comes_back_for_want_of_room_goes_to_another_and_room_is_used_again() {
    let mut s = Script::durable();
    s.online(1, 100);
    let at = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.drop_lease(1, at);
    let message = Arc::clone(&s.journal[&at]);
    s.say(
        1,
        Said::Returned {
            fence: Fence(1),
            at,
            message,
            full: true,
        },
    );
    assert!(s.of(1).is_empty(), "it waits for room");
    s.say(1, Said::Room(Fence(1), 1));
    assert_eq!(s.of(1), [at]);
    s.publish("t/a", 1, QoS::AtLeastOnce);
    assert_eq!(s.of(1), [at], "room for one");
    s.settle(1, at);
    assert_eq!(s.of(1).len(), 1);
}

#[test]
fn a_crash_repeats_what_was_not_recorded_and_nothing_that_was() {
    let mut s = Script::durable();
    s.online(1, 100);
    let all = s.publish_many(6);
    s.settle(1, all[0]);
    s.settle(1, all[3]);
    s.tick();
    s.settle(1, all[4]);
    s.has.clear();
    s.rebuild(&[]);
    s.online(2, 100);
    s.recall();
    let again: BTreeSet<_> = s.of(2).into_iter().collect();
    let expected: BTreeSet<_> = [1, 2, 4, 5].into_iter().map(|at: usize| all[at]).collect();
    assert_eq!(again, expected, "what was settled since is QoS 1: again");
}

#[test]
fn a_rebuilt_group_leases_nothing_before_its_members_said_what_they_have() {
    let mut s = Script::durable();
    s.online(1, 100);
    s.online(2, 100);
    s.publish_many(4);
    let (first, second) = (s.of(1), s.of(2));
    s.rebuild(&[1, 2]);
    s.recounted(1, first.clone());
    assert!(!s.recalling, "the other one is awaited");
    // It was on its way before the question, and says nothing of what came after it.
    s.online(2, 100);
    assert!(!s.recalling);
    s.recounted(2, second);
    s.settle(1, first[0]);
    s.recall();
    assert_eq!(s.counts().iter().sum::<usize>(), 3, "nothing twice");
    let next = s.publish("t/a", 1, QoS::AtLeastOnce);
    assert!(s.of(1).contains(&next) || s.of(2).contains(&next));
    assert_eq!(s.group.unsettled().len(), 4);
    s.tick();
    assert_eq!(s.snapshot.unsettled.len(), 4);
}

#[test]
fn what_a_member_had_when_the_group_died_comes_back_once() {
    let mut s = Script::durable();
    s.online(1, 100);
    let all = s.publish_many(3);
    s.rebuild(&[1]);
    s.recounted(1, all.clone());
    s.recall();
    s.tick();
    // The cursor has yet to pass what the member had when the group died.
    s.offline(1, &[]);
    s.online(2, 100);
    assert_eq!(s.of(2), all);
    assert_eq!(s.group.leased(), 3);
}

/// With QoS 1 leased by an actor that died, re-subscribed with QoS 2, and then its own actor died as well: all that while
/// the cursor has yet to come by.
#[test]
fn what_is_in_doubt_ahead_of_the_cursor_is_not_leased_by_it() {
    let mut s = Script::durable();
    s.online(1, 1);
    let at = s.publish("t/a", 9, QoS::AtLeastOnce);
    s.rebuild(&[1]);
    let holds = online(1, 1, QoS::AtLeastOnce, vec![at]);
    s.say(1, Said::Recounted(Box::new(holds.clone())));
    s.recall();
    let qos = QoS::ExactlyOnce;
    s.say(1, Said::Online(Box::new(Online { qos, ..holds })));
    s.has.clear();
    s.say(1, Said::Lost);
    s.online(2, 100);
    assert!(s.of(2).is_empty(), "it may be begun");
    s.recall();
    assert_eq!(s.of(2), [at]);
    assert_eq!(s.group.leased(), 1);
}

/// The group died between leases and what became of them.
#[test]
fn what_was_begun_or_settled_while_the_group_was_rebuilt_is_never_leased_again() {
    // [MQTT-4.8.2-5]
    let mut s = Script::durable();
    s.online(1, 100);
    let begun = s.publish("t/a", 1, QoS::ExactlyOnce);
    let settled = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.rebuild(&[1]);
    s.say(1, Said::Settled(Fence(1), [settled].into()));
    s.record_sent(begun);
    s.recounted(1, Vec::new());
    s.say(1, Said::Taken(Fence(1), begun));
    s.has.clear();
    s.online(2, 100);
    s.recall();
    assert!(s.of(1).is_empty() && s.of(2).is_empty(), "leased again");
    s.tick();
    assert!(s.group.unsettled().is_empty());
    assert!(s.snapshot.unsettled.is_empty());
    let next = s.publish("t/a", 1, QoS::ExactlyOnce);
    assert_eq!([s.of(1), s.of(2)].concat(), [next]);
}

#[test]
fn what_progress_names_and_a_member_settles_meanwhile_does_not_come_back() {
    let mut script = Script::durable();
    script.online(1, 10);
    let [first, at] = [(); 2].map(|()| script.publish("t/a", 9, QoS::AtLeastOnce));
    script.settle(1, first);
    script.tick();
    assert!(script.snapshot.unsettled.contains(&at));
    script.rebuild(&[1]);
    script.settle(1, at);
    script.recounted(1, Vec::new());
    script.recall();
    assert_eq!(script.of(1), []);
    assert_eq!(script.group.unsettled(), []);
}

#[test]
fn a_rebuilt_group_in_memory_numbers_no_lease_as_one_that_is_still_out() {
    let mut s = Script::with(Strategy::RoundRobin, SessionLimits::default());
    let live = || {
        GroupInput::Live(Live {
            message: message("t/a", 1, QoS::AtLeastOnce),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: Default::default(),
        })
    };
    s.online(1, 100);
    s.online(2, 100);
    s.input(live());
    s.input(live());
    let (first, second) = (s.of(1), s.of(2));
    s.rebuild(&[1, 2]);
    s.recounted(1, first);
    s.input(live());
    s.recounted(2, second);
    s.input(live());
    assert_eq!(s.counts(), [2, 2]);
    assert_eq!(s.group.leased(), 4);
}

/// A session that subscribes again finishes what a group of the same filter leased to it that is over by now. The new one
/// took it for its own lease, which nobody would settle.
#[test]
fn a_group_claims_nothing_of_the_one_before_it() {
    let mut script = Script::durable();
    let mut online = online(1, 10, QoS::AtLeastOnce, vec![Offset(7)]);
    online.by = Some(GroupNumber(0));
    script.say(1, Said::Online(Box::new(online)));
    assert_eq!(script.group.leased(), 0);
    assert_eq!(script.group.unsettled(), []);
}

#[test]
fn a_member_that_unsubscribes_finishes_what_it_has_and_gets_nothing_new() {
    let mut s = Script::durable();
    s.online(1, 100);
    s.online(2, 100);
    s.publish_many(2);
    s.say(1, Said::Left);
    s.publish_many(4);
    assert_eq!((s.of(1).len(), s.of(2).len()), (1, 5));
    let has = s.of(1)[0];
    s.settle(1, has);
    assert_eq!(s.group.leased(), 5);
}

#[test]
fn qos_0_goes_to_one_who_is_there_and_is_dropped_without() {
    let mut s = Script::durable();
    let live = |qos| {
        GroupInput::Live(Live {
            message: message("t/a", 1, qos),
            qos,
            retain: false,
            subscription_ids: Default::default(),
        })
    };
    s.input(live(QoS::AtMostOnce));
    assert_eq!(s.counted(Counter::DroppedOffline), 1);
    s.online(1, 1);
    s.online(2, 1);
    for _ in 0..4 {
        s.input(live(QoS::AtMostOnce));
    }
    assert_eq!(s.once, [1, 2, 1, 2], "it takes no place in a window");
}

#[test]
fn a_group_in_memory_leases_again_what_came_back_and_bounds_what_waits() {
    let limits = SessionLimits {
        queue_messages_max: 3,
        ..SessionLimits::default()
    };
    let mut s = Script::with(Strategy::RoundRobin, limits);
    let live = || {
        GroupInput::Live(Live {
            message: message("t/a", 1, QoS::AtLeastOnce),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: Default::default(),
        })
    };
    s.online(1, 1);
    for _ in 0..6 {
        s.input(live());
    }
    assert_eq!(s.counted(Counter::DroppedQueueFull), 2);
    let first = s.of(1)[0];
    s.online(2, 100);
    assert_eq!(s.of(2).len(), 3);
    s.offline(1, &[]);
    assert!(s.of(2).contains(&first), "the message was kept for it");
    assert!(
        !s.effects
            .iter()
            .any(|effect| matches!(effect, GroupEffect::Record(_) | GroupEffect::Read { .. })),
        "no disk"
    );
}

/// The client of a kept session holds the identifier of what was begun with QoS 2 until it is released. The window forgot it
/// with the message, a restart gave it to another record, and the client took that one for a repetition.
#[test]
fn what_is_in_memory_goes_to_no_durable_member_and_is_in_nobody_s_way() {
    let mut s = Script::with(Strategy::LeastInflight, SessionLimits::default());
    let live = || {
        GroupInput::Live(Live {
            message: message("t/a", 1, QoS::ExactlyOnce),
            qos: QoS::ExactlyOnce,
            retain: false,
            subscription_ids: Default::default(),
        })
    };
    s.online(1, 1);
    s.input(live());
    s.input(live());
    let next = Offset(START);
    s.input(GroupInput::Durable { next });
    let mut durable = online(2, 100, QoS::ExactlyOnce, Vec::new());
    durable.durable = true;
    s.say(2, Said::Online(Box::new(durable)));
    s.publish_many(2);
    assert_eq!(s.of(2), [Offset(START), Offset(START + 1)]);
    let first = s.of(1)[0];
    s.settle(1, first);
    let second = s.of(1)[0];
    assert!(is_in_memory(second), "{second:?}");
    s.offline(1, &[]);
    assert_eq!(s.counted(Counter::DroppedOffline), 1);
    assert_eq!((s.of(2).len(), s.group.waiting()), (2, 0));
    assert_eq!(s.group.front_bytes, 0);
}

/// It left with what it had, its group's actor died, and nobody asks who left.
fn left_with(s: &mut Script, count: usize) -> Vec<Offset> {
    let qos_1 = online(1, 100, QoS::AtLeastOnce, Vec::new());
    s.say(1, Said::Online(Box::new(qos_1)));
    let had: Vec<_> = (0..count)
        .map(|_| s.publish("t/a", 9, QoS::ExactlyOnce))
        .collect();
    s.tick();
    s.say(1, Said::Left);
    s.rebuild(&[]);
    s.recall();
    s.has.clear();
    had
}

#[test]
fn what_waits_to_be_read_and_is_settled_by_who_left_with_it_nobody_else_gets() {
    let mut s = Script::durable();
    let had = left_with(&mut s, 2);
    s.settle(1, had[0]);
    assert_eq!(s.group.unsettled(), had[1..]);
    s.online(2, 100);
    assert_eq!(s.of(2), had[1..]);
}

#[test]
fn what_waits_at_hand_and_is_settled_by_who_left_with_it_nobody_else_gets() {
    let mut s = Script::durable();
    let had = left_with(&mut s, 2);
    s.online(2, 1);
    assert_eq!((s.of(2), s.group.waiting()), (vec![had[0]], 1));
    s.settle(1, had[1]);
    s.settle(2, had[0]);
    assert_eq!(s.of(2), []);
    assert_eq!(s.group.unsettled(), []);
}

#[test]
fn what_is_in_doubt_and_is_settled_by_who_left_with_it_nobody_else_gets() {
    let mut s = Script::durable();
    let had = left_with(&mut s, 1);
    s.online(2, 100);
    assert_eq!(s.of(2), had);
    s.say(2, Said::Lost);
    s.has.clear();
    s.settle(1, had[0]);
    assert_eq!(s.group.unsettled(), []);
    s.recall();
    s.online(3, 100);
    assert_eq!(s.of(3), []);
}

/// A rebuilt group whose members have no room does not read on. What one of them gives back and what the cursor brings would
/// have been two, and two members would have had it.
#[test]
fn what_comes_back_ahead_of_the_cursor_is_brought_by_it_alone() {
    let mut s = Script::durable();
    s.online(1, 1);
    let at = s.publish("t/a", 9, QoS::AtLeastOnce);
    s.rebuild(&[1]);
    let full = online(1, 1, QoS::AtLeastOnce, vec![at]);
    s.say(1, Said::Recounted(Box::new(full)));
    s.recall();
    s.drop_lease(1, at);
    let message = Arc::clone(&s.journal[&at]);
    let full = true;
    let fence = Fence(1);
    s.say(
        1,
        Said::Returned {
            fence,
            at,
            message,
            full,
        },
    );
    s.offline(1, &[]);
    let now = Now {
        time: s.time,
        log_end: Offset(s.end),
        live_end: Offset(s.end),
    };
    let said = Said::Online(Box::new(online(2, 100, QoS::AtLeastOnce, Vec::new())));
    let member = SessionNumber(2);
    let place = Place {
        shard: ShardId(0),
        slot: Slot(0),
    };
    let from = FromMember {
        member,
        place,
        said,
    };
    let mut effects = Vec::new();
    s.group.handle(now, GroupInput::Said(from), &mut effects);
    // The cursor's page arrives first.
    effects.sort_by_key(|effect| matches!(effect, GroupEffect::Reread(_)));
    for effect in effects {
        s.perform(effect);
    }
    assert_eq!(s.of(2), [at]);
}
