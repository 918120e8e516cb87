//! What a kept session's client is sent from the journal, and how it settles it.

use super::*;

/// Attached with this receive maximum, subscribed to `t` with QoS 2.
fn with_credit(receive_max: u16) -> Script {
    let mut s = Script::new("meter-7");
    s.connect.receive_max = receive_max;
    s.attach().subscribe("t", QOS2);
    s
}

fn options(qos: QoS, id: u32) -> SubscriptionOptions {
    SubscriptionOptions {
        id: Some(id),
        ..SubscriptionOptions::of_qos(qos)
    }
}

#[test]
fn no_more_is_in_flight_than_the_client_takes() {
    // 5.0: [MQTT-4.3.2-2], [MQTT-4.9.0-1], [MQTT-4.9.0-2].
    // 3.1.1: [MQTT-4.3.2-1].
    // [MQTT-3.3.4-9]
    let mut s = with_credit(2);
    s.log(parts("a")).expect_sent(&["publish a q1 #1"]);
    s.log(parts("b")).expect_sent(&["publish b q1 #2"]);
    s.log(parts("c")).expect_sent(&[]);
    s.log(parts("d")).expect_sent(&[]);
    s.send(puback(2)).expect_sent(&["publish c q1 #3"]);
    s.send(puback(1)).expect_sent(&["publish d q1 #4"]);
}

#[test]
fn no_more_is_in_flight_than_the_broker_allows() {
    let limits = SessionLimits {
        inflight_max: 1,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.attach();
    let mut s = s.deliver(&["a"]);
    s.log(parts("b")).expect_sent(&[]);
    s.send(puback(1)).expect_sent(&["publish b q1 #2"]);
}

#[test]
fn pubrec_gives_no_credit_and_pubcomp_does() {
    let mut s = with_credit(1);
    s.log(parts_of("a", QOS2)).log(parts("b"));
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.send(pubcomp(1)).expect_sent(&["publish b q1 #2"]);
}

#[test]
fn a_second_acknowledgement_gives_no_second_credit() {
    let mut s = with_credit(1);
    s.log(parts("a")).log(parts("b")).log(parts("c"));
    s.send(puback(1)).expect_sent(&["publish b q1 #2"]);
    s.send(puback(1)).expect(&[]);
}

#[test]
fn a_qos_2_record_is_in_the_durable_window_before_it_is_sent() {
    // [MQTT-4.3.3-1]
    let mut s = with_credit(9);
    let offset = Offset(s.end);
    s.log(parts_of("a", QOS2));
    let sent = s
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.unsettled.first().copied())
        .unwrap();
    assert_eq!(
        (sent.packet_id, sent.offset, sent.qos),
        (id(1), offset, QOS2)
    );
    let persist = Effect::Persist(s.session.number(), Change::Sent(sent));
    assert!(s.position(&persist) < s.position(&Effect::Send(s.sent()[0].clone())));
}

#[test]
fn pubrec_is_durable_before_pubrel() {
    // 3.1.1: [MQTT-4.3.3-1].
    // [MQTT-4.3.3-4]
    let mut s = with_credit(9);
    s.log(parts_of("a", QOS2));
    let number = s.session.number();
    s.send(pubrec(1)).expect(&[
        Effect::Persist(number, Change::PubRec { packet_id: id(1) }),
        Effect::Send(Outbound::PubRel {
            packet_id: id(1),
            known: true,
        }),
    ]);
}

#[test]
fn pubcomp_settles_a_qos_2_record() {
    let mut s = with_credit(9);
    s.log(parts_of("a", QOS2)).send(pubrec(1));
    let number = s.session.number();
    s.send(pubcomp(1))
        .expect(&[Effect::Record(number, Change::Settled { packet_id: id(1) })])
        .expect_counts(&[Counter::Acked]);
    assert!(s.window().is_empty());
}

#[test]
fn a_pubrec_for_nothing_is_answered_and_says_so() {
    let mut s = with_credit(9);
    s.send(pubrec(7)).expect_sent(&["pubrel 7 false"]);
    assert!(s.recorded().is_empty());
}

#[test]
fn a_second_pubrec_is_answered_and_not_recorded_again() {
    let mut s = with_credit(9);
    s.log(parts_of("a", QOS2)).send(pubrec(1));
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    assert!(s.recorded().is_empty());
}

#[test]
fn a_message_that_the_client_refuses_is_settled_and_counted() {
    // [MQTT-4.4.0-2]
    let mut s = with_credit(9);
    s.log(parts("a")).log(parts_of("b", QOS2));
    s.send(Inbound::PubAck {
        packet_id: id(1),
        failed: true,
    });
    assert_eq!(s.counted(Counter::AckFailed), 1);
    s.send(Inbound::PubRec {
        packet_id: id(2),
        failed: true,
    })
    .expect_sent(&[]);
    assert_eq!(s.counted(Counter::AckFailed), 1);
    s.close().attach();
    s.expect_sent(&["connack resumed 3600"]);
}

#[test]
fn a_delivery_has_the_lower_of_both_qos() {
    // 5.0: [MQTT-4.3.3-2].
    // 3.1.1: [MQTT-3.8.4-6].
    // [MQTT-3.8.4-8]
    for (published, granted, delivered) in [
        (QOS1, QOS1, "publish a q1 #1"),
        (QOS2, QOS1, "publish a q1 #1"),
        (QOS1, QOS2, "publish a q1 #1"),
        (QOS2, QOS2, "publish a q2 #1"),
    ] {
        let mut s = Script::attached("meter-7");
        s.subscribe("t", granted);
        s.log(parts_of("a", published)).expect_sent(&[delivered]);
    }
}

#[test]
fn a_message_that_expired_while_it_waited_is_dropped_and_takes_no_identifier() {
    // [MQTT-3.3.2-5]
    let mut s = with_credit(1);
    s.log(parts("a"));
    s.log(MessageParts {
        expires_at: Some(START.plus_seconds(5)),
        ..parts("b")
    });
    s.log(parts("c")).after_seconds(5).send(puback(1));
    s.expect_sent(&["publish c q1 #2"]);
    assert_eq!(s.counted(Counter::DroppedExpired), 1);
}

#[test]
fn a_message_that_expired_while_the_client_was_away_is_dropped() {
    let mut s = with_credit(9);
    s.close();
    s.log(MessageParts {
        expires_at: Some(START.plus_seconds(5)),
        ..parts("a")
    });
    s.after_seconds(5).attach();
    s.expect_sent(&["connack resumed 3600"]);
    assert_eq!(s.counted(Counter::DroppedExpired), 1);
}

#[test]
fn overlapping_subscriptions_get_one_delivery_with_all_identifiers() {
    // [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]
    let mut s = Script::attached("meter-7");
    s.subscribe_with("t", options(QOS1, 1));
    s.subscribe_with("+", options(QOS2, 2));
    s.subscribe("#", QOS0);
    s.log(parts_of("a", QOS2))
        .expect_sent(&["publish a q2 #1 [1, 2]"]);
}

#[test]
fn an_overlapping_subscription_does_not_count_what_came_before_it() {
    let mut s = Script::attached("meter-7");
    s.subscribe_with("t", options(QOS1, 1)).close();
    s.log(parts_of("a", QOS2)).attach_unanswered();
    s.subscribe_with("+", options(QOS2, 2));
    s.expect_sent(&["suback 2", "publish a q1 #1 [1]"]);
    s.log(parts_of("b", QOS2))
        .expect_sent(&["publish b q2 #2 [1, 2]"]);
}

#[test]
fn no_local_withholds_what_the_session_published_itself() {
    // [MQTT-3.8.3-3]
    let mut s = Script::attached("meter-7");
    let no_local = SubscriptionOptions {
        no_local: true,
        ..options(QOS1, 1)
    };
    s.subscribe_with("t", no_local);
    let own = MessageParts {
        publisher: s.session.number(),
        ..parts("own")
    };
    s.log(own).expect_sent(&[]);
    s.log(parts("other"))
        .expect_sent(&["publish other q1 #1 [1]"]);
    s.subscribe_with("+", options(QOS1, 2));
    s.log(own).expect_sent(&["publish own q1 #2 [2]"]);
}

#[test]
fn the_retain_flag_is_kept_only_as_published_and_only_if_asked_for() {
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    for (as_published, retain, line) in [
        (false, true, "publish a q1 #1"),
        (true, true, "publish a q1 #1 retain"),
        (true, false, "publish a q1 #1"),
    ] {
        let mut s = Script::attached("meter-7");
        let options = SubscriptionOptions {
            retain_as_published: as_published,
            ..SubscriptionOptions::of_qos(QOS1)
        };
        s.subscribe_with("t", options);
        s.log(MessageParts {
            retain,
            ..parts("a")
        })
        .expect_sent(&[line]);
    }
}

#[test]
fn a_qos_0_message_passes_a_full_window() {
    // 5.0: [MQTT-3.3.1-2], [MQTT-4.3.1-1].
    // 3.1.1: [MQTT-3.3.1-2], [MQTT-4.3.1-1].
    let mut s = with_credit(1);
    s.log(parts("a")).log(parts("b"));
    s.live(parts_of("c", QOS0))
        .expect(&[Effect::Send(Outbound::Publish(Delivery {
            message: Arc::new(Message::new(parts_of("c", QOS0))),
            packet_id: None,
            qos: QOS0,
            dup: false,
            retain: false,
            subscription_ids: [].into_iter().collect(),
            paced: false,
        }))])
        .expect_counts(&[Counter::DeliveredQos0]);
}

#[test]
fn a_full_window_delays_nothing_but_publications() {
    // 5.0: [MQTT-3.3.4-10], [MQTT-4.9.0-3].
    let mut s = with_credit(1);
    s.log(parts_of("a", QOS2)).log(parts("b"));
    s.subscribe("u", QOS1).expect_sent(&["suback 1"]);
    s.unsubscribe(&["u"]).expect_sent(&["unsuback [true]"]);
    s.send(publish(parts("own"), 7));
    assert!(s.has(&Effect::AckPublish {
        packet_id: id(7),
        qos: QOS1
    }));
    s.send(Inbound::PubRel { packet_id: id(9) })
        .expect_sent(&["pubcomp 9 false"]);
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
}

#[test]
fn pubrels_leave_in_the_order_of_the_pubrecs() {
    // 5.0: [MQTT-4.6.0-4].
    // 3.1.1: [MQTT-4.6.0-4].
    let mut s = with_credit(9);
    for payload in ["a", "b", "c"] {
        s.log(parts_of(payload, QOS2));
    }
    let fence = s.session.fence();
    s.clear();
    for packet_id in [2, 3, 1] {
        s.apply(Input::Packet {
            fence,
            packet: pubrec(packet_id),
        });
    }
    s.expect_sent(&["pubrel 2 true", "pubrel 3 true", "pubrel 1 true"]);
}

#[test]
fn a_qos_0_message_is_not_kept_for_who_is_away() {
    let mut s = with_credit(9);
    s.close();
    s.live(parts_of("a", QOS0))
        .expect(&[])
        .expect_counts(&[Counter::DroppedOffline]);
    s.attach().expect_sent(&["connack resumed 3600"]);
}

#[test]
fn an_expired_qos_0_message_is_not_sent() {
    let mut s = with_credit(9);
    s.live(MessageParts {
        expires_at: Some(START),
        ..parts_of("a", QOS0)
    })
    .expect(&[])
    .expect_counts(&[Counter::DroppedExpired]);
}

#[test]
fn a_resume_brings_everything_unconsumed_in_order_then_live_messages() {
    let mut s = with_credit(2);
    s.close();
    for payload in ["a", "b", "c"] {
        s.log(parts(payload));
    }
    s.attach();
    s.expect_sent(&["connack resumed 3600", "publish a q1 #1", "publish b q1 #2"]);
    s.log(parts("d")).expect_sent(&[]);
    s.send(puback(1))
        .answered()
        .expect_sent(&["publish c q1 #3"]);
    s.send(puback(2))
        .answered()
        .expect_sent(&["publish d q1 #4"]);
}

#[test]
fn a_reader_that_falls_out_of_the_live_end_misses_and_doubles_nothing() {
    let limits = SessionLimits {
        inbox_records_max: 2,
        ..SessionLimits::default()
    };
    let mut s = Script::with_limits("meter-7", limits);
    s.connect.receive_max = 1;
    s.attach();
    let mut s = s.deliver(&["a", "b", "c"]);
    s.log(parts("d"))
        .expect(&[])
        .expect_counts(&[Counter::InboxOverflowed]);
    s.log(parts("e")).expect(&[]);
    for (packet_id, next) in [(1, "b"), (2, "c"), (3, "d"), (4, "e")] {
        let line = format!("publish {next} q1 #{}", packet_id + 1);
        s.send(puback(packet_id)).answered().expect_sent(&[&line]);
    }
    s.send(puback(5)).answered().expect_sent(&[]);
    s.log(parts("f")).expect_sent(&["publish f q1 #6"]);
}

#[test]
fn a_session_without_durable_subscriptions_reads_nothing() {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", QOS0);
    let reads = |effect: &Effect| matches!(effect, Effect::Read { .. });
    assert!(!s.effects.iter().any(reads));
    s.close().attach();
    assert!(!s.effects.iter().any(reads));
}
