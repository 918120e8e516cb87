//! A group in memory: the same leases, and no disk.

use super::*;

#[test]
fn a_group_in_memory_leases_again_what_came_back_and_bounds_what_waits() {
    let limits = SessionLimits {
        queue_messages_max: 3,
        ..SessionLimits::default()
    };
    let mut s = Script::with(Strategy::RoundRobin, limits);
    s.online(1, 1);
    for _ in 0..6 {
        s.input(live(QoS::AtLeastOnce));
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

#[test]
fn a_rebuilt_group_in_memory_numbers_no_lease_as_one_that_is_still_out() {
    let mut s = Script::with(Strategy::RoundRobin, SessionLimits::default());
    s.online(1, 100);
    s.online(2, 100);
    s.input(live(QoS::AtLeastOnce));
    s.input(live(QoS::AtLeastOnce));
    let (first, second) = (s.of(1), s.of(2));
    s.rebuild(&[1, 2]);
    s.recounted(1, first);
    s.input(live(QoS::AtLeastOnce));
    s.recounted(2, second);
    s.input(live(QoS::AtLeastOnce));
    assert_eq!(s.counts(), [2, 2]);
    assert_eq!(s.group.leased(), 4);
}

/// The client of a kept session holds the identifier of what was begun with QoS 2 until it is released. The window forgot it
/// with the message, a restart gave it to another record, and the client took that one for a repetition.
#[test]
fn what_is_in_memory_goes_to_no_durable_member_and_is_in_nobody_s_way() {
    let mut s = Script::with(Strategy::LeastInflight, SessionLimits::default());
    s.online(1, 1);
    s.input(live(QoS::ExactlyOnce));
    s.input(live(QoS::ExactlyOnce));
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
