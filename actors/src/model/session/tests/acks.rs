//! Acknowledgements that fit nothing, and those that do not fit what they name.

use super::*;
use crate::model::refusal::Refusal;

/// An attached session whose client has `a` under identifier 1, with this QoS.
fn delivered(qos: QoS) -> Script {
    let mut s = Script::attached("meter-7");
    s.subscribe("t", qos).log(parts_of("a", qos));
    assert_eq!(s.window(), [1]);
    s
}

fn refused(packet_id: u16) -> Inbound {
    Inbound::PubRec {
        packet_id: id(packet_id),
        failed: true,
    }
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection_and_settles_nothing() {
    // 3.1.1: [MQTT-4.8.0-1].
    // 5.0: [MQTT-4.13.1-1].
    for version in [
        ProtocolVersion::V31,
        ProtocolVersion::V311,
        ProtocolVersion::V5,
    ] {
        let wrong = [
            (QOS1, pubrec(1)),
            (QOS1, refused(1)),
            (QOS1, pubcomp(1)),
            (QOS2, puback(1)),
            (QOS2, pubcomp(1)),
        ];
        for (qos, ack) in wrong {
            let mut s = delivered(qos);
            s.connect.version = version;
            s.close().attach();
            s.send(ack.clone()).expect_sent(&["close WrongAck"]);
            assert!(s.has(&Effect::DropConnection), "{ack:?}");
            assert!(!s.session.is_attached());
            // It is sent again to the next connection.
            s.attach();
            assert_eq!(s.window(), [1], "{ack:?}");
        }
    }
}

#[test]
fn a_client_that_has_released_may_not_go_back() {
    let mut s = delivered(QOS2);
    s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    s.send(puback(1)).expect_sent(&["close WrongAck"]);
    s.attach()
        .expect_sent(&["connack resumed 3600", "pubrel 1 true"]);
    s.send(pubcomp(1));
    assert!(s.window().is_empty());
}

#[test]
fn pubrec_may_come_twice() {
    // A client that was sent PUBLISH again answers that one, too.
    let mut s = delivered(QOS2);
    for _ in 0..2 {
        s.send(pubrec(1)).expect_sent(&["pubrel 1 true"]);
    }
    // It took the message, so what it says now changes nothing.
    s.send(refused(1)).expect_sent(&[]);
    s.send(pubcomp(1));
    assert!(s.window().is_empty());
}

#[test]
fn an_acknowledgement_of_what_was_settled_is_ignored() {
    let mut s = delivered(QOS1);
    s.send(puback(1));
    for late in [puback(1), pubcomp(1), refused(1)] {
        s.send(late).expect(&[]);
    }
    let mut s = delivered(QOS2);
    s.send(pubrec(1));
    s.send(pubcomp(1));
    for late in [puback(1), pubcomp(1), refused(1)] {
        s.send(late).expect(&[]);
    }
    s.send(pubrec(1)).expect_sent(&["pubrel 1 false"]);
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_publishes_the_will() {
    let mut s = Script::new("meter-7");
    s.connect.will = will("gone", 0);
    s.attach();
    s.subscribe("t", QOS1).log(parts("a"));
    s.send(pubrec(1));
    assert_eq!(s.published(), ["gone"]);
}

#[test]
fn what_comes_late_for_an_earlier_connection_counts_if_it_fits() {
    for (qos, fits, does_not) in [(QOS1, puback(1), pubrec(1)), (QOS2, pubrec(1), puback(1))] {
        let mut s = delivered(qos);
        s.close().attach_unanswered();
        assert!(s.session.inflight().is_due(id(1)));
        s.send(fits);
        assert!(!s.has(&Effect::Send(Outbound::Close(Refusal::WrongAck))));
        let mut s = delivered(qos);
        s.close().attach_unanswered();
        s.send(does_not).expect_sent(&["close WrongAck"]);
    }
}
