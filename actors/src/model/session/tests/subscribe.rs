//! SUBSCRIBE and UNSUBSCRIBE: from where a subscription counts, and what is left when it goes.

use super::*;
use crate::model::packet::RetainHandling;
use crate::model::refusal::Refusal;

fn subscribe_packet(filters: &[(&str, QoS, Option<Refusal>)]) -> Inbound {
    let filters = filters
        .iter()
        .map(|(text, qos, refusal)| (filter(text), SubscriptionOptions::of_qos(*qos), *refusal));
    Inbound::Subscribe {
        packet_id: id(9),
        filters: filters.collect(),
    }
}

fn limited(subscriptions_max: u32) -> Script {
    let limits = SessionLimits {
        subscriptions_max,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.attach();
    s
}

#[test]
fn a_subscription_is_in_force_and_durable_before_its_suback() {
    // 5.0: [MQTT-3.8.4-2].
    // 3.1.1: [MQTT-3.8.4-2].
    // [MQTT-3.8.4-1]
    let mut s = Script::attached("meter-7");
    let from = Offset(s.end);
    let number = s.session.number();
    s.send(subscribe_packet(&[("t", QOS1, None)]));
    let options = SubscriptionOptions::of_qos(QOS1);
    assert_eq!(
        s.effects[..3],
        [
            Effect::Subscribe {
                filter: filter("t"),
                options,
                durable: true,
                replaces: None,
            },
            Effect::Persist(
                number,
                Change::Subscribed {
                    filter: filter("t"),
                    options,
                    from,
                    replay: Some(from),
                }
            ),
            Effect::Send(Outbound::SubAck {
                packet_id: id(9),
                results: vec![Ok(QOS1)],
            }),
        ]
    );
    assert!(s.has(&Effect::ReadRetained {
        filter: filter("t"),
        after: None,
        records_max: 256,
    }));
}

#[test]
fn each_filter_gets_its_own_answer_in_order() {
    // 3.1.1: [MQTT-2.3.1-7]
    // 5.0: [MQTT-2.2.1-6]
    // 5.0: [MQTT-3.8.4-5], [MQTT-3.8.4-7].
    // 3.1.1: [MQTT-3.8.4-4], [MQTT-3.8.4-5].
    // [MQTT-3.8.4-6], [MQTT-3.9.3-1]
    let mut s = Script::attached("meter-7");
    s.send(subscribe_packet(&[
        ("a", QOS2, None),
        ("b", QOS1, Some(Refusal::NotAuthorized)),
        ("c", QOS0, None),
    ]))
    .expect_sent(&["suback 2 NotAuthorized 0"]);
    assert_eq!(s.session.subscriptions().len(), 2);
}

#[test]
fn the_same_filter_twice_in_one_packet_is_answered_twice_and_held_once() {
    // 5.0: [MQTT-3.8.4-5]. 3.1.1: [MQTT-3.8.4-4].
    let mut s = Script::attached("meter-7");
    s.send(subscribe_packet(&[("t", QOS1, None), ("t", QOS2, None)]))
        .answered()
        .expect_sent(&["suback 1 2"]);
    assert_eq!(s.session.subscriptions().len(), 1);
    s.log(parts_of("a", QOS2)).expect_sent(&["publish a q2 #1"]);
}

#[test]
fn a_subscription_above_the_limit_is_refused_and_counted() {
    let mut s = limited(1);
    s.send(subscribe_packet(&[("a", QOS1, None), ("b", QOS1, None)]))
        .expect_sent(&["suback 1 SubscriptionQuota"]);
    assert_eq!(s.counted(Counter::SubscriptionRefused), 1);
    assert_eq!(s.session.subscriptions().len(), 1);
}

#[test]
fn filters_are_refused_that_take_more_bytes_than_a_session_may_have() {
    const MAX: u32 = 2000;
    let limits = SessionLimits {
        subscriptions_bytes_max: MAX,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.attach();
    // Few, and then so many that they are kept otherwise.
    for filter_bytes in [600, 36] {
        let filter = |n: u32| format!("{}{n:02}", "f".repeat(filter_bytes - 2));
        let each = u32::try_from(filter_bytes).unwrap() + 64;
        let fits = MAX / each;
        let mut refused = 0;
        for n in 0..fits + 3 {
            s.subscribe(&filter(n), QOS1);
            refused += s.counted(Counter::SubscriptionRefused);
            assert!(s.session.subscriptions().bytes() <= MAX as usize);
        }
        assert_eq!(s.session.subscriptions().len(), fits as usize);
        assert_eq!(refused, 3);
        // One that is there already takes no more.
        s.subscribe(&filter(0), QOS2).expect_sent(&["suback 2"]);
        s.unsubscribe(&[&filter(0)]);
        s.subscribe(&filter(fits), QOS1).expect_sent(&["suback 1"]);
        for n in 1..=fits {
            s.unsubscribe(&[&filter(n)]);
        }
        assert_eq!(s.session.subscriptions().bytes(), 0);
    }
}

#[test]
fn a_subscription_at_the_limit_can_be_replaced() {
    let mut s = limited(1);
    s.subscribe("a", QOS1);
    s.subscribe("a", QOS2).expect_sent(&["suback 2"]);
    s.unsubscribe(&["a"]);
    s.subscribe("b", QOS1).expect_sent(&["suback 1"]);
}

#[test]
fn no_message_comes_from_before_the_subscription() {
    let mut s = Script::attached("meter-7");
    s.log(parts("a"));
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.log(parts("b")).expect_sent(&["publish b q1 #1"]);
}

#[test]
fn subscribing_again_keeps_the_position() {
    // [MQTT-3.8.4-3]
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.close().log(parts("a"));
    s.attach_unanswered();
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.close().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1"]);
}

#[test]
fn subscribing_again_loses_nothing_that_is_published_meanwhile() {
    // 5.0: [MQTT-3.8.4-4].
    // 3.1.1: [MQTT-3.8.4-3].
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.subscribe("t", QOS1);
    s.log(parts("b")).expect_sent(&["publish b q1 #2"]);
}

#[test]
fn from_qos_0_to_1_a_subscription_starts_at_the_end() {
    let mut s = Script::attached("meter-7");
    s.subscribe("other", QOS1);
    s.subscribe("t", QOS0);
    s.log(parts("a"));
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.log(parts("b")).expect_sent(&["publish b q1 #1"]);
}

#[test]
fn from_qos_0_to_1_nothing_of_the_absence_is_made_up_for() {
    let mut s = Script::attached("meter-7");
    s.subscribe("other", QOS1);
    s.subscribe("t", QOS0);
    s.close().log(parts("a")).attach_unanswered();
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.log(parts("b")).expect_sent(&["publish b q1 #1"]);
}

#[test]
fn from_qos_1_to_0_a_subscription_stops_reading_the_journal() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.send(subscribe_packet(&[("t", QOS0, None)]));
    assert!(s.has(&Effect::Subscribe {
        filter: filter("t"),
        options: SubscriptionOptions::of_qos(QOS0),
        durable: false,
        replaces: Some(true),
    }));
    s.close().log(parts("a")).attach();
    s.expect_sent(&["connack resumed 3600"]);
}

#[test]
fn a_lower_qos_applies_to_records_from_then_on() {
    // 5.0: [MQTT-3.8.4-3].
    // 3.1.1: [MQTT-3.8.4-3].
    let mut s = Script::attached("meter-7");
    s.connect.receive_max = 1;
    s.attach().subscribe("t", QOS2);
    s.log(parts_of("a", QOS2)).log(parts_of("b", QOS2));
    s.subscribe("t", QOS1);
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.log(parts_of("c", QOS2));
    s.send(pubcomp(1)).expect_sent(&["publish b q2 #2"]);
    s.send(pubrec(2)).send(pubcomp(2));
    s.expect_sent(&["publish c q1 #3"]);
}

#[test]
fn retain_handling_says_when_retained_messages_are_looked_up() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    for (retain_handling, at_first, again) in [
        (RetainHandling::AtSubscribe, true, true),
        (RetainHandling::IfNew, true, false),
        (RetainHandling::Never, false, false),
    ] {
        let mut s = Script::attached("meter-7");
        s.retain(parts("r"));
        let options = SubscriptionOptions {
            retain_handling,
            ..SubscriptionOptions::of_qos(QOS0)
        };
        for expected in [at_first, again] {
            s.subscribe_with("t", options);
            let mut lines = vec!["suback 0"];
            lines.extend(expected.then_some("publish r q0 retain"));
            s.expect_sent(&lines);
        }
    }
}

#[test]
fn a_refused_filter_gets_no_retained_messages() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r"));
    s.send(subscribe_packet(&[(
        "t",
        QOS0,
        Some(Refusal::NotAuthorized),
    )]))
    .answered()
    .expect_sent(&["suback NotAuthorized"]);
}

#[test]
fn unsubscribe_says_which_filters_existed() {
    // 3.1.1: [MQTT-2.3.1-7]
    // 5.0: [MQTT-2.2.1-6]
    // 5.0: [MQTT-3.10.4-4], [MQTT-3.10.4-5].
    // 3.1.1: [MQTT-3.10.4-4], [MQTT-3.10.4-5].
    // [MQTT-3.11.3-1], [MQTT-3.11.3-2]
    let mut s = Script::attached("meter-7").deliver(&[]);
    let (number, until) = (s.session.number(), Offset(s.end));
    s.unsubscribe(&["nothing", "t"]);
    let answer = s.effects.len() - 3;
    let expected = [
        Effect::Unsubscribe {
            filter: filter("t"),
            durable: true,
        },
        Effect::Persist(
            number,
            Change::Dropped {
                filter: filter("t"),
                until,
            },
        ),
        Effect::Send(Outbound::UnsubAck {
            packet_id: id(9),
            existed: vec![false, true],
        }),
    ];
    assert_eq!(s.effects[answer..], expected);
}

#[test]
fn only_the_very_same_filter_is_unsubscribed() {
    // 5.0: [MQTT-3.10.4-1], [MQTT-3.10.4-6].
    // 3.1.1: [MQTT-3.10.4-1], [MQTT-3.10.4-6].
    let mut s = Script::attached("meter-7");
    s.subscribe("a/+", QOS1);
    for other in ["a/b", "A/+", "a/+/", "/a/+", "a/#", "+/+", "a/"] {
        s.unsubscribe(&[other]).expect_sent(&["unsuback [false]"]);
    }
    s.log(parts_to("a/b", "x"))
        .expect_sent(&["publish x q1 #1"]);
    s.unsubscribe(&["a/+", "a/+"])
        .expect_sent(&["unsuback [true, false]"]);
    s.log(parts_to("a/b", "y")).expect_sent(&[]);
}

#[test]
fn unsubscribe_drops_the_backlog_and_finishes_what_was_begun() {
    // [MQTT-3.10.4-2], [MQTT-3.10.4-3]
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 1;
    s.attach();
    let mut s = s.deliver(&["a", "b"]);
    s.unsubscribe(&["t"]);
    s.close().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 dup"]);
    s.send(puback(1)).answered().expect_sent(&[]);
    assert!(s.window().is_empty());
}

#[test]
fn unsubscribe_records_what_is_in_flight_before_a_re_read_stops_matching_it() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.unsubscribe(&["t"]);
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 dup"]);
}

#[test]
fn subscribing_after_an_unsubscribe_starts_at_the_end() {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 1;
    s.attach();
    let mut s = s.deliver(&["a", "b"]);
    s.unsubscribe(&["t"]).log(parts("c"));
    s.subscribe("t", QOS1);
    s.send(puback(1)).answered().expect_sent(&[]);
    s.log(parts("d")).expect_sent(&["publish d q1 #2"]);
}

#[test]
fn a_read_that_does_not_know_a_new_subscription_loses_nothing_of_it() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    s.close().attach_unanswered();
    let too_early: Vec<_> = s.effects.clone();
    let too_early: Vec<_> = too_early
        .into_iter()
        .filter_map(|effect| s.answer(effect))
        .collect();
    s.send(subscribe_packet(&[("u", QOS1, None)]));
    let due = s.effects.clone();
    s.log(parts_to("u", "a")).expect_sent(&[]);
    for answer in too_early {
        s.input(answer).expect_sent(&[]);
    }
    s.effects = due;
    s.answered().expect_sent(&["suback 1", "publish a q1 #1"]);
}

#[test]
fn subscriptions_survive_a_crash_with_their_options() {
    let mut s = Script::attached("meter-7");
    let options = SubscriptionOptions {
        qos: QOS2,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::IfNew,
        id: Some(77),
    };
    s.subscribe_with("t", options);
    s.subscribe("gone", QOS1);
    s.unsubscribe(&["gone"]);
    s.crash().log(parts("a")).attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 [77]"]);
    let known: Vec<_> = s.session.subscriptions().iter().collect();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].options, options);
}
