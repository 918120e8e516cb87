//! The group's own actor dies, or the process: its members and its record tell what it had.

use super::*;

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
    s.give_back(1, at);
    s.offline(1, &[]);
    let said = Said::Online(Box::new(online(2, 100, QoS::AtLeastOnce, Vec::new())));
    let from = FromMember {
        member: SessionNumber(2),
        place: PLACE,
        said,
    };
    let mut effects = Effects::new();
    s.group
        .handle(s.now(), GroupInput::Said(from), &mut effects);
    let mut effects: Vec<_> = effects.drain().collect();
    // The cursor's page arrives first.
    effects.sort_by_key(|effect| matches!(effect, GroupEffect::Reread(_)));
    for effect in effects {
        s.perform(effect);
    }
    assert_eq!(s.of(2), [at]);
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
