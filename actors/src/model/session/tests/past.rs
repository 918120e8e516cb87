//! What is owed for a record is decided by the subscriptions as they were where it lies.

use super::*;

fn with_id(qos: QoS, id: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        id: Some(id),
        ..SubscriptionOptions::of_qos(qos)
    }
}

/// Subscribed to `t` with these options; `a` and `b` came while the client was away, which is back with a window of one.
fn back(options: SubscriptionOptions) -> Script {
    let mut s = Script::attached("meter-7");
    s.subscribe_with("t", options);
    s.close().log(parts("a")).log(parts("b"));
    s.connect.receive_max = 1;
    s.attach();
    s
}

/// Acknowledges what comes, one by one, and expects these lines.
fn drain(s: &mut Script, lines: &[&str]) {
    for (line, id) in lines.iter().zip(1..) {
        s.send(puback(id)).answered().expect_sent(&[line]);
    }
    let last = u16::try_from(lines.len() + 1).unwrap();
    s.send(puback(last)).answered().expect_sent(&[]);
}

#[test]
fn qos_0_takes_nothing_from_the_backlog() {
    // 5.0: [MQTT-3.8.4-4]. 3.1.1: [MQTT-3.8.4-3].
    let mut s = back(SubscriptionOptions::of_qos(QOS1));
    s.subscribe("t", QOS0).expect_sent(&["suback 0"]);
    s.log(parts("c"));
    drain(&mut s, &["publish b q1 #2"]);
    s.tick().after_seconds(3600).tick();
    assert!(s.session.past().is_empty(), "nothing behind it is left");
}

#[test]
fn what_is_owed_survives_the_crash_behind_the_subscribe() {
    let mut s = back(with_id(QOS2, 1));
    s.subscribe_with("t", with_id(QOS0, 2));
    s.subscribe_with("t", with_id(QOS1, 3));
    s.log(parts("c"));
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 dup [1]"]);
    drain(
        &mut s,
        &["publish b q1 #2 dup [1]", "publish c q1 #3 dup [3]"],
    );
}

#[test]
fn a_filter_named_twice_in_one_subscribe_counts_as_named_last() {
    let mut s = back(SubscriptionOptions::of_qos(QOS1));
    s.send(Inbound::Subscribe {
        packet_id: id(9),
        filters: vec![
            (filter("t"), with_id(QOS0, 1), None),
            (filter("t"), with_id(QOS1, 2), None),
        ],
    });
    s.log(parts("c"));
    drain(&mut s, &["publish b q1 #2", "publish c q1 #3 [2]"]);
}

#[test]
fn no_local_says_nothing_about_what_lies_before_it() {
    let mut s = Script::attached("meter-7").deliver(&[]);
    let own = MessageParts {
        publisher: s.session.number(),
        ..parts("own")
    };
    s.close().log(own);
    let mut no_local = SubscriptionOptions::of_qos(QOS1);
    no_local.no_local = true;
    s.attach_unanswered();
    let due = s.effects.clone();
    s.subscribe_with("t", no_local);
    s.effects = due;
    s.answered()
        .expect_sent(&["connack resumed 3600", "publish own q1 #1"]);
    s.log(own).expect_sent(&[]);
}

#[test]
fn what_is_sent_again_has_the_identifiers_that_it_had() {
    let mut s = Script::attached("meter-7");
    s.subscribe_with("t", with_id(QOS1, 1));
    s.log(parts("a")).expect_sent(&["publish a q1 #1 [1]"]);
    s.subscribe_with("t", with_id(QOS1, 2));
    s.subscribe_with("+", with_id(QOS1, 3));
    s.log(parts("b")).expect_sent(&["publish b q1 #2 [2, 3]"]);
    let again = |state| {
        [
            state,
            "publish a q1 #1 dup [1]",
            "publish b q1 #2 dup [3, 2]",
        ]
    };
    s.unsubscribe(&["t"]);
    s.close()
        .attach()
        .expect_sent(&again("connack resumed 3600"));
    s.crash()
        .attach()
        .expect_sent(&again("connack resumed 3600"));
    s.send(puback(1)).send(puback(2));
    s.after_seconds(60).tick();
    assert!(s.session.past().is_empty(), "nothing is sent again");
}

#[test]
fn the_backlog_of_an_unsubscribe_is_counted_unless_another_subscription_has_it() {
    let mut s = back(SubscriptionOptions::of_qos(QOS1));
    s.subscribe("+", QOS1);
    s.close().log(parts_to("other", "c")).log(parts("d"));
    s.attach();
    s.unsubscribe(&["t"]);
    s.send(puback(1)).answered();
    s.expect_sent(&["publish c q1 #2"]);
    assert_eq!(s.counted(Counter::DroppedUnsubscribed), 1, "b");
    s.send(puback(2)).expect_sent(&["publish d q1 #3"]);
    assert_eq!(s.counted(Counter::DroppedUnsubscribed), 0);
}

#[test]
fn the_backlog_is_counted_when_the_only_subscription_goes_and_by_none_that_comes_later() {
    let mut s = back(SubscriptionOptions::of_qos(QOS1));
    s.subscribe_with("t", with_id(QOS1, 1));
    s.unsubscribe(&["t"]).answered();
    s.subscribe("t", QOS1);
    s.send(puback(1)).answered().expect_sent(&[]);
    assert_eq!(s.counted(Counter::DroppedUnsubscribed), 1);
    s.log(parts("c")).expect_sent(&["publish c q1 #2"]);
}

#[test]
fn who_subscribes_again_and_again_reaches_a_limit() {
    let limits = SessionLimits {
        subscriptions_bytes_max: 1024,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.connect.receive_max = 1;
    s.attach();
    s.subscribe("t", QOS1);
    s.log(parts("a")).log(parts("b"));
    let mut ids = 1..;
    let refused = ids.find(|id| {
        s.log(parts_to("other", "x"));
        s.subscribe_with("t", with_id(QOS1, *id));
        assert!(*id < 100, "there is no limit");
        s.counted(Counter::SubscriptionRefused) > 0
    });
    s.expect_sent(&["suback SubscriptionQuota"]);
    assert_eq!(
        refused,
        Some(15),
        "1024 / (64 + 1), without the one in force"
    );
    s.send(puback(1)).answered();
    s.send(puback(2)).answered();
    s.subscribe_with("t", with_id(QOS1, 100))
        .expect_sent(&["suback 1"]);
}
