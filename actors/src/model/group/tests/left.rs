//! Who left finishes what it had, while its group is rebuilt and does not know of it.

use super::*;

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
