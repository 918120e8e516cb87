//! What the client publishes: acknowledged in order, QoS 2 once.

use super::*;
use crate::model::refusal::Refusal;

fn published_by_effect(parts: MessageParts<'_>, received: Option<u16>) -> Effect {
    Effect::Publish {
        message: Arc::new(Message::new(parts)),
        received: received.map(id),
    }
}

#[test]
fn a_qos_0_publication_is_routed_and_not_answered() {
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS0), 0))
        .expect(&[published_by_effect(parts_of("a", QOS0), None)])
        .expect_counts(&[Counter::ReceivedQos0]);
}

#[test]
fn a_qos_1_publication_is_answered_after_it_is_routed() {
    // 3.1.1: [MQTT-4.3.2-2].
    // [MQTT-4.3.2-4]
    let mut s = Script::attached("meter-7");
    s.send(publish(parts("a"), 7))
        .expect(&[
            published_by_effect(parts("a"), None),
            Effect::AckPublish {
                packet_id: id(7),
                qos: QOS1,
            },
        ])
        .expect_counts(&[Counter::ReceivedQos1]);
}

#[test]
fn a_qos_1_publication_sent_again_is_published_again() {
    // 5.0: [MQTT-4.3.2-5].
    // 3.1.1: [MQTT-4.3.2-2].
    // Section 4.3.2: after PUBACK the identifier is a new publication.
    let mut s = Script::attached("meter-7");
    s.send(publish(parts("a"), 7));
    s.send(publish(parts("a"), 7));
    assert_eq!(s.published(), ["a"]);
}

#[test]
fn a_qos_2_publication_carries_its_identifier_into_the_journal() {
    // 5.0: [MQTT-4.3.3-8].
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7))
        .expect(&[
            published_by_effect(parts_of("a", QOS2), Some(7)),
            Effect::AckPublish {
                packet_id: id(7),
                qos: QOS2,
            },
        ])
        .expect_counts(&[Counter::ReceivedQos2]);
    assert_eq!(s.snapshot.as_ref().unwrap().received, [id(7)]);
}

#[test]
fn a_transient_session_keeps_its_qos_2_identifiers_to_itself() {
    let mut s = Script::transient("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    assert!(s.has(&published_by_effect(parts_of("a", QOS2), None)));
    s.send(publish(parts_of("a", QOS2), 7));
    assert!(s.published().is_empty());
}

#[test]
fn answers_leave_in_the_order_of_the_publications() {
    // 3.1.1: [MQTT-2.3.1-6]
    // 5.0: [MQTT-2.2.1-5]
    // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    let mut s = Script::attached("meter-7");
    let fence = s.session.fence();
    s.clear();
    for (packet_id, qos) in [(3, QOS1), (1, QOS2), (2, QOS1)] {
        let packet = publish(parts_of("a", qos), packet_id);
        s.apply(Input::Packet { fence, packet });
    }
    let answered = s.effects.iter().filter_map(|effect| match effect {
        Effect::AckPublish { packet_id, .. } => Some(packet_id.get()),
        _ => None,
    });
    assert_eq!(answered.collect::<Vec<_>>(), [3, 1, 2]);
}

#[test]
fn a_duplicate_before_its_release_is_answered_and_not_published() {
    // 3.1.1: [MQTT-4.3.3-2].
    // [MQTT-4.3.3-10]
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    s.send(publish(parts_of("a", QOS2), 7));
    assert!(s.published().is_empty());
    assert_eq!(s.counted(Counter::ReceivedDuplicate), 1);
    s.expect_sent(&["pubrec 7 Ok(Matched)"]);
}

#[test]
fn a_qos_1_publication_under_an_identifier_in_use_is_refused_to_5_0_clients() {
    // 5.0 section 4.13, reason code 0x91; 3.x cannot be told.
    for (version, answer) in [
        (ProtocolVersion::V5, Some("puback 7 Err(PacketIdInUse)")),
        (ProtocolVersion::V311, None),
    ] {
        let mut s = Script::new("meter-7");
        s.connect.version = version;
        s.attach();
        s.send(publish(parts_of("a", QOS2), 7));
        s.send(publish(parts("b"), 7));
        s.expect_sent(answer.as_slice());
        assert_eq!(s.published().is_empty(), answer.is_some());
        assert_eq!(
            s.counted(Counter::ReceivedMisnumbered),
            usize::from(answer.is_some())
        );
        s.send(Inbound::PubRel { packet_id: id(7) });
        s.send(publish(parts("b"), 7));
        assert_eq!(s.published(), ["b"]);
    }
}

#[test]
fn the_handshake_goes_on_though_the_message_has_expired() {
    // 5.0: [MQTT-4.3.3-13].
    let mut s = Script::attached("meter-7");
    let expired = MessageParts {
        expires_at: Some(START),
        ..parts_of("a", QOS2)
    };
    s.send(publish(expired, 7));
    assert!(s.has(&Effect::AckPublish {
        packet_id: id(7),
        qos: QOS2
    }));
    s.after_seconds(60).send(publish(expired, 7));
    s.expect_sent(&["pubrec 7 Ok(Matched)"]);
    s.send(Inbound::PubRel { packet_id: id(7) })
        .expect_sent(&["pubcomp 7 true"]);
}

#[test]
fn a_duplicate_is_known_over_the_next_connection_and_after_a_crash() {
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    s.close().attach();
    s.send(publish(parts_of("a", QOS2), 7));
    assert!(s.published().is_empty());
    s.crash().attach();
    s.send(publish(parts_of("a", QOS2), 7));
    assert!(s.published().is_empty());
}

#[test]
fn a_release_is_durable_before_pubcomp() {
    // 3.1.1: [MQTT-4.3.3-2].
    // [MQTT-4.3.3-11]
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    let number = s.session.number();
    s.send(pubrel(7)).expect(&[
        Effect::Persist(number, Change::Released { packet_id: id(7) }),
        Effect::Send(Outbound::PubComp {
            packet_id: id(7),
            known: true,
        }),
    ]);
    assert!(s.snapshot.as_ref().unwrap().received.is_empty());
}

#[test]
fn an_identifier_is_a_new_publication_after_its_release() {
    // 3.1.1: [MQTT-4.3.3-2].
    // [MQTT-4.3.3-12]
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    s.send(pubrel(7));
    s.send(publish(parts_of("b", QOS2), 7));
    assert_eq!(s.published(), ["b"]);
    s.send(pubrel(7)).crash().attach();
    s.send(publish(parts_of("c", QOS2), 7));
    assert_eq!(s.published(), ["c"]);
}

#[test]
fn a_release_of_nothing_is_answered_and_says_so() {
    let mut s = Script::attached("meter-7");
    s.send(pubrel(7)).expect_sent(&["pubcomp 7 false"]);
    assert!(s.recorded().is_empty());
}

#[test]
fn a_publication_that_could_not_be_recorded_may_come_again() {
    // 5.0: [MQTT-4.3.3-9].
    let mut s = Script::attached("meter-7");
    s.send(publish(parts_of("a", QOS2), 7));
    s.input(Input::PublishFailed {
        received: Some(id(7)),
    })
    .expect(&[]);
    s.send(publish(parts_of("a", QOS2), 7));
    assert_eq!(s.published(), ["a"]);
}

#[test]
fn exchanges_of_earlier_connections_do_not_keep_a_client_from_publishing() {
    // 5.0 section 4.9: the quota is the connection's, which counts it.
    let mut s = Script::attached("meter-7");
    for packet_id in 1..=2000 {
        if packet_id % 100 == 0 {
            s.close().attach();
        }
        s.send(publish(parts_of("a", QOS2), packet_id));
        assert_eq!(s.published(), ["a"]);
    }
    assert_eq!(s.session.received().count(), 2000);
}

#[test]
fn an_acknowledgement_of_nothing_is_ignored() {
    let mut s = Script::attached("meter-7");
    s.send(puback(7)).expect(&[]);
    s.send(pubcomp(7)).expect(&[]);
    s.send(Inbound::PubRec {
        packet_id: id(7),
        failed: true,
    })
    .expect(&[]);
    assert!(!s.has(&Effect::Send(Outbound::Close(Refusal::Protocol))));
}
