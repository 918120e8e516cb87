//! Resume: what was sent and not settled comes again, in order, under its identifiers.

use super::*;
use crate::model::packet::RetainHandling;

/// Three records in flight: `a` at QoS 1, `b` and `c` at QoS 2; PUBREC came for `b`.
fn three_in_flight() -> Script {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts("a"))
        .log(parts_of("b", QOS2))
        .log(parts_of("c", QOS2));
    s.send(pubrec(2));
    s
}

const ALL_AGAIN: [&str; 4] = [
    "connack resumed 3600",
    "publish a q1 #1 dup",
    "pubrel 2 true",
    "publish c q2 #3 dup",
];

#[test]
fn everything_unsettled_comes_again_in_order_with_its_identifier() {
    // 5.0: [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.6.0-1].
    // 3.1.1: [MQTT-4.3.2-1], [MQTT-4.3.3-1], [MQTT-4.6.0-1].
    // [MQTT-4.4.0-1], [MQTT-3.3.1-1]
    let mut s = three_in_flight();
    s.close().attach();
    s.expect_sent(&ALL_AGAIN);
    assert_eq!(s.counted(Counter::Redelivered), 2);
    assert!(
        s.recorded()
            .iter()
            .all(|change| !matches!(change, Change::Sent(_)))
    );
}

#[test]
fn a_takeover_is_sent_everything_again_too() {
    let mut s = three_in_flight();
    s.attach().expect_sent(&ALL_AGAIN);
    s.attach().expect_sent(&ALL_AGAIN);
}

#[test]
fn a_5_0_connection_is_sent_nothing_twice_while_it_stays() {
    // [MQTT-4.4.0-1]
    let mut s = three_in_flight();
    s.close().attach();
    s.after_seconds(3000).tick().expect_sent(&[]);
    s.log(parts("d")).expect_sent(&["publish d q1 #4"]);
    s.send(puback(1)).answered().expect_sent(&[]);
}

#[test]
fn new_messages_come_after_the_old_ones() {
    let mut s = three_in_flight();
    s.close().log(parts("d")).attach();
    let mut lines = ALL_AGAIN.to_vec();
    lines.push("publish d q1 #4");
    s.expect_sent(&lines);
}

#[test]
fn nothing_new_is_sent_while_the_old_records_are_read() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close().attach_unanswered();
    let due = s.effects.clone();
    s.log(parts("b")).expect_sent(&[]);
    s.effects = due;
    s.answered().expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish b q1 #2",
    ]);
}

#[test]
fn what_was_acknowledged_does_not_come_again() {
    let mut s = three_in_flight();
    s.send(puback(1));
    s.send(pubcomp(2));
    s.close().attach();
    s.expect_sent(&["connack resumed 3600", "publish c q2 #3 dup"]);
}

#[test]
fn an_acknowledgement_before_the_redelivery_does_not_shift_the_others() {
    let mut s = three_in_flight();
    s.close().attach_unanswered();
    let due = s.effects.clone();
    s.send(puback(1)).expect_sent(&[]);
    s.effects = due;
    s.answered().expect_sent(&[
        "connack resumed 3600",
        "pubrel 2 true",
        "publish c q2 #3 dup",
    ]);
    assert_eq!(s.window(), [2, 3]);
}

#[test]
fn a_pubrec_before_the_redelivery_is_answered_in_its_place_and_once() {
    let mut s = three_in_flight();
    s.close().attach_unanswered();
    let due = s.effects.clone();
    s.send(pubrec(3)).expect_sent(&[]);
    assert_eq!(s.recorded(), [Change::PubRec { packet_id: id(3) }]);
    s.effects = due;
    s.answered().expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "pubrel 2 true",
        "pubrel 3 true",
    ]);
}

#[test]
fn redelivery_keeps_to_a_smaller_receive_maximum() {
    // [MQTT-3.3.4-9]
    let mut s = Script::attached("meter-7").deliver(&["a", "b", "c"]);
    s.close().log(parts("d"));
    s.connect.receive_max = 2;
    s.attach().expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish b q1 #2 dup",
    ]);
    s.send(puback(2))
        .answered()
        .expect_sent(&["publish c q1 #3 dup"]);
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish d q1 #4"]);
}

#[test]
fn pubrels_need_no_credit() {
    // Section 4.9: the quota is about PUBLISH
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts_of("a", QOS2)).log(parts_of("b", QOS2));
    s.send(pubrec(1));
    s.send(pubrec(2)).close();
    s.connect.receive_max = 1;
    s.attach()
        .expect_sent(&["connack resumed 3600", "pubrel 1 true", "pubrel 2 true"]);
    s.log(parts("c")).expect_sent(&["publish c q1 #3"]);
    s.log(parts("d")).expect_sent(&[]);
    s.send(pubcomp(1)).answered().expect_sent(&[]);
    s.send(pubcomp(2)).answered().expect_sent(&[]);
    s.send(puback(3))
        .answered()
        .expect_sent(&["publish d q1 #4"]);
}

#[test]
fn a_record_that_is_no_longer_there_is_settled_and_counted() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS2);
    s.log(parts("a")).log(parts_of("b", QOS2));
    s.close().trim().attach();
    s.expect_sent(&["connack resumed 3600"]);
    assert_eq!(s.counted(Counter::DroppedRetention), 2);
    let settled = Change::Settled { packet_id: id(2) };
    assert!(s.recorded().contains(&settled));
    assert!(s.window().is_empty());
    s.log(parts("c")).expect_sent(&["publish c q1 #3"]);
}

#[test]
fn a_pubrel_needs_no_record() {
    let mut s = three_in_flight();
    s.close().trim().attach();
    s.expect_sent(&["connack resumed 3600", "pubrel 2 true"]);
    assert_eq!(s.window(), [2]);
}

#[test]
fn expiry_never_applies_to_a_message_that_was_sent() {
    // 5.0: [MQTT-4.3.3-7].
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS1);
    s.log(MessageParts {
        expires_at: Some(START.plus_seconds(5)),
        ..parts("a")
    });
    s.close().after_seconds(60).attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 dup"]);
}

#[test]
fn after_a_crash_what_may_have_been_sent_does_not_expire_and_all_keep_their_identifiers() {
    // 5.0: [MQTT-3.3.2-5]
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS1);
    s.log(expiring("a", 5)).log(parts("b"));
    s.after_seconds(60).crash().attach();
    s.expect_sent(&[
        "connack resumed 3600",
        "publish a q1 #1 dup",
        "publish b q1 #2 dup",
    ]);
    s.log(expiring("c", 5)).log(parts("d"));
    s.expect_sent(&["publish d q1 #3"]);
}

#[test]
fn no_more_than_what_may_have_been_sent_is_spared_from_expiry() {
    let mut s = Script::with_limits(
        "meter-7",
        SessionLimits {
            inflight_max: 1,
            progress_acks_max: 1,
            ..SessionLimits::default()
        },
    );
    s.attach().subscribe("t", QOS1);
    for payload in ["a", "b", "c"] {
        s.log(expiring(payload, 5));
    }
    s.after_seconds(60).crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1 dup"]);
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish b q1 #2 dup"]);
    s.send(puback(2)).answered().expect_sent(&[]);
    assert_eq!(s.counted(Counter::DroppedExpired), 1);
}

#[test]
fn what_expired_unsent_does_not_shift_identifiers_after_a_crash() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS1).close();
    s.log(expiring("a", 5)).log(parts("b"));
    s.after_seconds(60).attach();
    s.expect_sent(&["connack resumed 3600", "publish b q1 #1"]);
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish b q1 #1 dup"]);
}

fn expiring(payload: &str, seconds: u32) -> MessageParts<'_> {
    MessageParts {
        expires_at: Some(START.plus_seconds(seconds)),
        ..parts(payload)
    }
}

#[test]
fn a_redelivery_has_the_qos_and_the_retain_flag_with_which_it_was_sent() {
    let mut s = Script::attached("meter-7");
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..SubscriptionOptions::of_qos(QOS2)
    };
    s.subscribe_with("t", options);
    s.log(MessageParts {
        retain: true,
        ..parts_of("a", QOS2)
    });
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::Never,
        ..SubscriptionOptions::of_qos(QOS1)
    };
    s.subscribe_with("t", options);
    s.close().attach();
    s.expect_sent(&["connack resumed 3600", "publish a q2 #1 dup retain"]);
}

#[test]
fn an_answer_to_the_connection_before_is_ignored() {
    let mut s = Script::attached("meter-7").deliver(&["a"]);
    s.close().attach_unanswered();
    let due = s.effects.clone();
    let late: Vec<_> = due
        .into_iter()
        .filter_map(|effect| s.answer(effect))
        .collect();
    s.attach_unanswered();
    let due = s.effects.clone();
    for answer in late {
        s.input(answer).expect(&[]);
    }
    s.effects = due;
    s.answered()
        .expect_sent(&["connack resumed 3600", "publish a q1 #1 dup"]);
}

#[test]
fn an_identifier_in_flight_is_not_given_twice() {
    // 3.1.1: [MQTT-2.3.1-4]
    // 5.0: [MQTT-4.3.2-1], [MQTT-4.3.3-1].
    // 3.1.1: [MQTT-4.3.2-1], [MQTT-4.3.3-1].
    // [MQTT-2.2.1-4]
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 2;
    s.attach();
    let mut s = s.deliver(&["held"]);
    for round in 0..70_000_u32 {
        s.log(parts("a")).answered();
        let sent = s.window()[1];
        assert_ne!(sent, 1, "round {round}");
        s.send(puback(sent));
        s.journal.pop_last();
    }
}
