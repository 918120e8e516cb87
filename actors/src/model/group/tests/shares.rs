//! Who gets how much: the strategies, and room.

use super::*;

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
fn what_comes_back_for_want_of_room_goes_to_another_and_room_is_used_again() {
    let mut s = Script::durable();
    s.online(1, 100);
    let at = s.publish("t/a", 1, QoS::AtLeastOnce);
    s.give_back(1, at);
    assert!(s.of(1).is_empty(), "it waits for room");
    s.say(1, Said::Room(Fence(1), 1));
    assert_eq!(s.of(1), [at]);
    s.publish("t/a", 1, QoS::AtLeastOnce);
    assert_eq!(s.of(1), [at], "room for one");
    s.settle(1, at);
    assert_eq!(s.of(1).len(), 1);
}

#[test]
fn qos_0_goes_to_one_who_is_there_and_is_dropped_without() {
    let mut s = Script::durable();
    s.input(live(QoS::AtMostOnce));
    assert_eq!(s.counted(Counter::DroppedOffline), 1);
    s.online(1, 1);
    s.online(2, 1);
    for _ in 0..4 {
        s.input(live(QoS::AtMostOnce));
    }
    assert_eq!(s.once, [1, 2, 1, 2], "it takes no place in a window");
}
