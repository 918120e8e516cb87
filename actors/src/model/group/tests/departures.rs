//! Members that go and come: what they leave behind is lost to nobody and repeated to nobody.

use super::*;

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
