//! Retained messages at subscribe.

use super::*;
use crate::model::packet::RetainHandling;

/// A retained message of somebody else.
fn kept<'a>(topic: &'a str, payload: &'a str) -> MessageParts<'a> {
    MessageParts {
        retain: true,
        ..parts_to(topic, payload)
    }
}

fn subscribe_packet(text: &str, qos: QoS) -> Inbound {
    Inbound::Subscribe {
        packet_id: id(9),
        filters: vec![(filter(text), SubscriptionOptions::of_qos(qos), None)],
    }
}

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling,
        ..SubscriptionOptions::of_qos(QOS1)
    }
}

/// Attached with a window of `receive_max`.
fn with_window(receive_max: u16) -> Script {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = receive_max;
    s.attach();
    s
}

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
    for (qos, expected) in [
        (QOS0, ["suback 0", "publish r q0 retain [2]"]),
        (QOS1, ["suback 1", "publish r q1 #65534 retain [2]"]),
    ] {
        let mut s = Script::attached("meter-7");
        let with_id = |number| SubscriptionOptions {
            id: Some(number),
            ..SubscriptionOptions::of_qos(qos)
        };
        s.retain(parts("r")).subscribe_with("t", with_id(1));
        s.subscribe_with("+", with_id(2)).expect_sent(&expected);
    }
}

#[test]
fn retained_messages_are_paced_by_credit() {
    // [MQTT-3.3.4-9]
    let mut s = with_window(2);
    s.retain(kept("t/1", "a"))
        .retain(kept("t/2", "b"))
        .retain(kept("t/3", "c"));
    s.subscribe("t/#", QOS1).expect_sent(&[
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
    let mut s = with_window(2);
    s.retain(kept("t/1", "a")).retain(kept("t/2", "b"));
    s.subscribe("live", QOS1);
    s.send(subscribe_packet("t/#", QOS1));
    let due = s.effects.clone();
    s.log(parts_to("live", "x"))
        .expect_sent(&["publish x q1 #1"]);
    s.effects = due;
    s.answered()
        .expect_sent(&["suback 1", "publish a q1 #65535 retain"]);
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish b q1 #65534 retain"]);
}

#[test]
fn more_retained_messages_than_one_page_brings_all_come_once() {
    let topics: Vec<_> = (0..1000).map(|number| format!("t/{number:03}")).collect();
    for attach in [Script::attached, Script::transient] {
        let mut s = attach("meter-7");
        for topic in &topics {
            s.retain(kept(topic, topic));
        }
        s.subscribe("t/+", QOS0);
        let lines: Vec<_> = s.sent().iter().skip(1).map(line).collect();
        let expected: Vec<_> = topics
            .iter()
            .map(|topic| format!("publish {topic} q0 retain"))
            .collect();
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_replay_without_a_window_waits_for_room_in_the_connection() {
    let limits = SessionLimits {
        send_ahead_bytes: 100 * 70,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.attach();
    let topics: Vec<_> = (0..1000).map(|number| format!("t/{number:03}")).collect();
    for topic in &topics {
        s.retain(kept(topic, "r"));
    }
    s.send(subscribe_packet("t/+", QOS0));
    let mut sent = 0;
    while sent < topics.len() {
        let asked = s.effects.clone();
        let page: Vec<_> = asked
            .into_iter()
            .filter(|effect| matches!(effect, Effect::ReadRetained { .. }))
            .filter_map(|effect| s.answer(effect))
            .collect();
        let [page] = page.try_into().expect("one page at a time");
        s.input(page);
        let count = s.sent().len();
        assert_eq!(count, 100, "of 70 bytes each, with what a delivery takes");
        sent += count;
        assert!(s.has(&Effect::Send(Outbound::AwaitRoom)));
        assert!(
            !s.effects
                .iter()
                .any(|it| matches!(it, Effect::ReadRetained { .. }))
        );
        s.send(Inbound::Room);
    }
    s.expect(&[]);
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
        ..kept("t/1", "old")
    });
    s.retain(kept("t/2", "gone")).retain(kept("t/3", "r"));
    let gone = s.retained.get("t/2").unwrap();
    s.journal.remove(&gone);
    s.subscribe("t/#", QOS0)
        .expect_sent(&["suback 0", "publish r q0 retain"]);
}

#[test]
fn no_local_holds_for_retained_messages() {
    // [MQTT-3.8.3-3]
    let mut s = Script::attached("meter-7");
    s.retain(MessageParts {
        publisher: s.session.number(),
        ..kept("t/1", "own")
    });
    s.retain(kept("t/2", "other"));
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::of_qos(QOS0)
    };
    s.subscribe_with("t/#", options)
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
fn the_rest_of_a_replay_survives_a_disconnect_and_a_crash() {
    let mut s = with_window(1);
    for topic in ["t/1", "t/2", "t/3"] {
        s.retain(kept(topic, topic));
    }
    s.subscribe("t/+", QOS2);
    s.close()
        .attach()
        .expect_sent(&["connack resumed 3600", "publish t/1 q1 #65535 dup retain"]);
    s.send(puback(65535))
        .answered()
        .expect_sent(&["publish t/2 q1 #65534 retain"]);
    s.after_seconds(2).tick();
    s.crash()
        .attach()
        .expect_sent(&["connack resumed 3600", "publish t/2 q1 #65534 dup retain"]);
    s.send(puback(65534)).answered();
    let [last] = s.window().try_into().expect("t/3 is on its way");
    s.expect_sent(&[&format!("publish t/3 q1 #{last} retain")]);
    s.send(puback(last)).answered().expect_sent(&[]);
    assert_eq!(s.session.replays().count(), 0);
    s.close()
        .crash()
        .attach()
        .expect_sent(&["connack resumed 3600"]);
}

#[test]
fn what_a_replay_sends_with_qos_2_is_one_record_with_its_progress() {
    let mut s = with_window(2);
    for topic in ["t/1", "t/2", "t/3"] {
        s.retain(MessageParts {
            qos: QOS2,
            ..kept(topic, topic)
        });
    }
    s.subscribe("t/+", QOS2);
    let persisted = s.effects.iter().filter_map(|effect| match effect {
        Effect::Persist(_, Change::Replayed { after, sent, .. }) => Some((after.clone(), sent)),
        _ => None,
    });
    let [(after, sent)] = persisted.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((after.as_deref(), sent.len()), (Some("t/2"), 2));
}

#[test]
fn a_replay_does_not_bring_what_was_replaced_behind_its_successor() {
    // Section 4.6: per topic in order
    let mut s = with_window(1);
    s.retain(parts("old")).subscribe("other", QOS1);
    s.log(parts_to("other", "x"));
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.log(kept("t", "new"));
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish new q1 #2"]);
    s.send(puback(2)).answered().expect_sent(&[]);
}

#[test]
fn a_page_under_way_does_not_bring_what_was_replaced_meanwhile() {
    for attach in [Script::attached, Script::transient] {
        let mut s = attach("meter-7");
        s.retain(kept("t/1", "old")).retain(kept("t/2", "r"));
        s.send(subscribe_packet("t/+", QOS1));
        let asked = s.effects.clone();
        let page: Vec<_> = asked.into_iter().filter_map(|it| s.answer(it)).collect();
        if s.session.is_kept() {
            s.log(kept("t/1", "new"));
        } else {
            s.live(kept("t/1", "new"));
        }
        for input in page {
            s.apply(input);
        }
        s.answered()
            .expect_sent(&["publish new q1 #1", "publish r q1 #65535 retain"]);
    }
}

#[test]
fn what_is_published_since_the_subscription_does_not_come_twice() {
    for attach in [Script::attached, Script::transient] {
        let mut s = attach("meter-7");
        s.connect.receive_max = 1;
        s.attach();
        s.retain(kept("t/1", "a")).retain(kept("t/3", "c"));
        s.subscribe("t/+", QOS1)
            .expect_sent(&["suback 1", "publish a q1 #65535 retain"]);
        s.after_seconds(1);
        for topic in ["t/2", "t/3"] {
            let since = MessageParts {
                published_at: s.time,
                ..kept(topic, topic)
            };
            s.log(since);
            if !s.session.is_kept() {
                s.live(since);
            }
        }
        s.send(puback(65535)).answered();
        s.expect_sent(&["publish t/2 q1 #1"]);
        s.send(puback(1)).answered();
        s.expect_sent(&["publish t/3 q1 #2"]);
        s.send(puback(2)).answered().expect_sent(&[]);
        assert_eq!(s.session.replays().count(), 0);
    }
}

#[test]
fn what_was_published_before_and_is_routed_late_comes_once() {
    let mut s = Script::transient("meter-7");
    s.subscribe("t", QOS0);
    s.send(subscribe_packet("t/+", QOS0));
    let asked = s.effects.clone();
    let late = kept("t/1", "r");
    s.live(late).expect_sent(&["publish r q1 #1"]);
    s.retain(late);
    s.effects = asked;
    s.answered().expect_sent(&["suback 0"]);
}

#[test]
fn a_retained_message_of_the_backlog_comes_in_its_place_and_then_as_retained() {
    // [MQTT-3.8.4-3]
    let mut s = Script::attached("meter-7");
    s.connect.receive_max = 1;
    s.subscribe("t", QOS1).close();
    s.log(parts("a")).log(kept("t", "b"));
    s.attach()
        .expect_sent(&["connack resumed 3600", "publish a q1 #1"]);
    s.subscribe("t", QOS1).expect_sent(&["suback 1"]);
    s.send(puback(1)).answered();
    s.expect_sent(&["publish b q1 #2"]);
    s.send(puback(2)).answered();
    s.expect_sent(&["publish b q1 #65535 retain"]);
    assert_eq!(s.session.replays().count(), 0);
}

#[test]
fn a_replay_does_not_wait_for_what_nobody_reads_any_more() {
    let waiting = || {
        let mut s = Script::attached("meter-7");
        s.subscribe("a/#", QOS1).close();
        s.log(kept("a/1", "r"));
        // The read of the backlog is under way.
        let under_way = s.attach_unanswered().effects.clone();
        s.subscribe("a/1", QOS0).expect_sent(&["suback 0"]);
        assert_eq!(s.session.replays().count(), 1);
        (s, under_way)
    };
    let retained = "publish r q0 retain";
    let (mut s, _) = waiting();
    s.unsubscribe(&["a/#"]).answered();
    s.expect_sent(&["unsuback [true]", retained]);
    assert_eq!(s.session.replays().count(), 0);

    // What was owed before is owed still, and comes first.
    let (mut s, under_way) = waiting();
    s.subscribe("a/#", QOS0);
    for effect in under_way {
        if let Some(page) = s.answer(effect) {
            s.apply(page);
        }
    }
    s.answered();
    s.expect_sent(&["suback 0", "publish r q1 #1", retained, retained]);
    assert_eq!(s.session.replays().count(), 0);
}

#[test]
fn subscribing_again_starts_a_replay_over_as_retain_handling_says() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    for (retain_handling, next) in [
        (RetainHandling::AtSubscribe, "publish t/1 q1 #65534 retain"),
        (RetainHandling::IfNew, "publish t/2 q1 #65534 retain"),
        (RetainHandling::Never, "publish t/2 q1 #65534 retain"),
    ] {
        let mut s = with_window(1);
        s.retain(kept("t/1", "t/1")).retain(kept("t/2", "t/2"));
        s.subscribe_with("t/+", handling(RetainHandling::IfNew))
            .expect_sent(&["suback 1", "publish t/1 q1 #65535 retain"]);
        s.subscribe_with("t/+", handling(retain_handling))
            .expect_sent(&["suback 1"]);
        s.send(puback(65535)).answered().expect_sent(&[next]);
    }
}

#[test]
fn an_existing_subscription_gets_no_retained_messages_unless_it_asks_each_time() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r"));
    let new = "publish r q1 #65535 retain";
    s.subscribe_with("t", handling(RetainHandling::Never))
        .expect_sent(&["suback 1"]);
    s.subscribe_with("t", handling(RetainHandling::IfNew))
        .expect_sent(&["suback 1"]);
    s.subscribe_with("t", handling(RetainHandling::AtSubscribe))
        .expect_sent(&["suback 1", new]);
}

#[test]
fn unsubscribing_ends_the_replay() {
    let mut s = with_window(1);
    s.retain(kept("t/1", "a")).retain(kept("t/2", "b"));
    s.subscribe("t/+", QOS1);
    s.unsubscribe(&["t/+"]);
    s.send(puback(65535)).answered().expect_sent(&[]);
    assert_eq!(s.session.replays().count(), 0);
    s.close()
        .crash()
        .attach()
        .expect_sent(&["connack resumed 3600"]);
}

#[test]
fn a_page_for_a_subscription_that_is_gone_or_made_anew_is_not_sent() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r")).retain(parts_to("u", "other"));
    s.send(subscribe_packet("t", QOS0));
    let asked = s.effects.clone();
    let page: Vec<_> = asked.into_iter().filter_map(|it| s.answer(it)).collect();
    s.unsubscribe(&["t"]);
    s.send(subscribe_packet("u", QOS0))
        .expect_sent(&["suback 0"]);
    s.clear();
    for input in page {
        s.apply(input);
    }
    s.answered().expect_sent(&["publish other q0 retain"]);
}

#[test]
fn an_answer_for_a_connection_that_is_gone_is_not_sent() {
    let mut s = Script::attached("meter-7");
    s.retain(parts("r"));
    s.send(subscribe_packet("t", QOS0));
    let found = s.effects.clone();
    let answers: Vec<_> = found
        .into_iter()
        .filter_map(|effect| s.answer(effect))
        .collect();
    s.attach()
        .expect_sent(&["connack resumed 3600", "publish r q0 retain"]);
    for answer in answers {
        s.input(answer).answered().expect_sent(&[]);
    }
}
