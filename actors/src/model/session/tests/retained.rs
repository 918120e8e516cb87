//! Retained messages at subscribe.

use super::*;

#[test]
fn retained_messages_follow_the_suback_with_retain_set() {
    // [MQTT-3.3.1-8]
    let mut s = Script::attached("meter-7");
    s.retain(parts("r"));
    s.subscribe("t", QOS1)
        .expect_sent(&["suback 1", "publish r q1 #65535 retain"]);
}

#[test]
fn retained_messages_come_at_the_lower_qos() {
    let mut s = Script::attached("meter-7");
    s.retain(parts_of("r", QOS2));
    s.subscribe("t", QOS1)
        .expect_sent(&["suback 1", "publish r q1 #65535 retain"]);
    s.subscribe("t", QOS0)
        .expect_sent(&["suback 0", "publish r q0 retain"]);
}

#[test]
fn retained_messages_carry_the_identifier_of_their_subscription() {
    // 5.0: [MQTT-3.3.4-5].
    let mut s = Script::attached("meter-7");
    let with_id = |number| SubscriptionOptions {
        id: Some(number),
        ..SubscriptionOptions::of_qos(QOS0)
    };
    s.retain(parts("r")).subscribe_with("t", with_id(1));
    s.subscribe_with("+", with_id(2))
        .expect_sent(&["suback 0", "publish r q0 retain [2]"]);
}

#[test]
fn retained_messages_are_paced_by_credit() {
    // [MQTT-3.3.4-9]
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 2;
    s.attach();
    s.retain(parts("a")).retain(parts("b")).retain(parts("c"));
    s.subscribe("t", QOS1).expect_sent(&[
        "suback 1",
        "publish a q1 #65535 retain",
        "publish b q1 #65534 retain",
    ]);
    s.send(puback(65535))
        .answered()
        .expect_sent(&["publish c q1 #65533 retain"]);
    s.send(puback(65534)).answered().expect_sent(&[]);
}

#[test]
fn a_replay_that_loses_its_credit_to_a_live_message_goes_on_later() {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 2;
    s.attach();
    s.retain(parts("a")).retain(parts("b"));
    s.subscribe_with("live", SubscriptionOptions::of_qos(QOS1));
    let options = SubscriptionOptions::of_qos(QOS1);
    s.input(Input::RetainedFound {
        fence: s.session.fence(),
        options,
        offsets: s.retained.clone(),
    });
    let due = s.effects.clone();
    s.log(parts_to("live", "x"))
        .expect_sent(&["publish x q1 #1"]);
    s.effects = due;
    s.answered().expect_sent(&["publish a q1 #65535 retain"]);
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish b q1 #65534 retain"]);
}

#[test]
fn more_retained_messages_than_one_read_brings_all_come_once() {
    let mut s = Script::transient("meter-7");
    let payloads: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    for payload in &payloads {
        s.retain(parts(payload));
    }
    s.subscribe("t", QOS0);
    let lines: Vec<_> = s.sent().iter().skip(1).map(line).collect();
    let expected: Vec<_> = (0..200)
        .map(|number| format!("publish {number} q0 retain"))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn two_filters_are_replayed_one_after_the_other() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("a")).retain(parts_to("u", "b"));
    let filters = ["u", "t"].map(|text| (filter(text), SubscriptionOptions::of_qos(QOS0), None));
    s.send(Inbound::Subscribe {
        packet_id: id(9),
        filters: filters.to_vec(),
    })
    .answered()
    .expect_sent(&["suback 0 0", "publish b q0 retain", "publish a q0 retain"]);
}

#[test]
fn a_retained_message_that_expired_or_went_is_passed_over() {
    let mut s = Script::attached("meter-7");
    s.retain(MessageParts {
        expires_at: Some(START),
        ..parts("old")
    });
    s.retain(parts("gone")).retain(parts("r"));
    s.send(Inbound::Subscribe {
        packet_id: id(9),
        filters: vec![(filter("t"), SubscriptionOptions::of_qos(QOS0), None)],
    });
    let gone = s.retained[1];
    let found = s.effects.clone();
    s.input(Input::RetainedFound {
        fence: s.session.fence(),
        options: SubscriptionOptions::of_qos(QOS0),
        offsets: s.retained.clone(),
    });
    assert!(
        found
            .iter()
            .any(|effect| matches!(effect, Effect::Replay { .. }))
    );
    s.journal.remove(&gone);
    s.answered().expect_sent(&["publish r q0 retain"]);
}

#[test]
fn no_local_holds_for_retained_messages() {
    // [MQTT-3.8.3-3]
    let mut s = Script::attached("meter-7");
    s.retain(MessageParts {
        publisher: s.session.number(),
        ..parts("own")
    });
    s.retain(parts("other"));
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::of_qos(QOS0)
    };
    s.subscribe_with("t", options)
        .expect_sent(&["suback 0", "publish other q0 retain"]);
}

#[test]
fn a_replay_does_not_disturb_the_identifiers_of_the_log() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r")).subscribe("t", QOS1);
    s.log(parts("a")).expect_sent(&["publish a q1 #1"]);
    assert_eq!(s.window(), [65535, 1]);
}

#[test]
fn a_replayed_message_is_sent_again_with_its_identifier_and_retain() {
    // [MQTT-4.4.0-1]
    let mut s = Script::attached("meter-7");
    s.retain(parts("r")).subscribe("t", QOS1);
    let again = ["connack resumed 3600", "publish r q1 #65535 dup retain"];
    s.close().attach();
    s.expect_sent(&again);
    s.close().crash().attach();
    s.expect_sent(&again);
}

#[test]
fn a_qos_2_replay_is_exactly_once_over_a_crash() {
    // [MQTT-4.3.3-1]
    let mut s = Script::attached("meter-7");
    s.retain(parts_of("r", QOS2)).subscribe("t", QOS2);
    s.crash().attach();
    s.expect_sent(&["connack resumed 3600", "publish r q2 #65535 dup retain"]);
    s.send(pubrec(65535)).crash().attach();
    s.expect_sent(&["connack resumed 3600", "pubrel 65535 true"]);
    s.send(pubcomp(65535)).crash().attach();
    s.expect_sent(&["connack resumed 3600"]);
}

#[test]
fn a_replay_does_not_bring_what_was_replaced_behind_its_successor() {
    // Section 4.6: per topic in order
    let mut s = Script::new("meter-7");
    s.connect.receive_max = 1;
    s.attach();
    s.retain(parts("old")).subscribe("other", QOS1);
    s.log(parts_to("other", "x"));
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.log(MessageParts {
        retain: true,
        ..parts("new")
    });
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish new q1 #2"]);
    s.send(puback(2)).answered().expect_sent(&[]);
}

#[test]
fn an_answer_for_a_connection_that_is_gone_is_not_sent() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r"));
    s.send(Inbound::Subscribe {
        packet_id: id(9),
        filters: vec![(filter("t"), SubscriptionOptions::of_qos(QOS0), None)],
    });
    let found = s.effects.clone();
    let answers: Vec<_> = found
        .into_iter()
        .filter_map(|effect| s.answer(effect))
        .collect();
    s.attach();
    for answer in answers {
        s.input(answer).answered().expect_sent(&[]);
    }
}
