//! A member's actor dies: what it began, only the group's snapshot tells.

use super::*;

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
