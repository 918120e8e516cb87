use std::sync::Arc;

use ntex_bytes::BytesMut;
use ntex_codec::Decoder as _;
use ntex_mqtt::{v3::codec as v3, v5::codec as v5};
use outlive_actors::model::ids::SessionNumber;
use outlive_actors::model::message::{Message, MessageParts};
use outlive_actors::model::packet::ProtocolVersion::{V5, V31, V311};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn delivery(qos: QoS, properties: &[u8], expires_at: Option<Timestamp>) -> Delivery {
    Delivery {
        message: Arc::new(Message::new(MessageParts {
            topic: "a/b",
            payload: b"pay",
            properties,
            qos,
            retain: false,
            published_at: NOW,
            expires_at,
            publisher: SessionNumber(1),
        })),
        packet_id: PacketId::new(0x1234).filter(|_| qos != QoS::AtMostOnce),
        qos,
        dup: false,
        retain: false,
        paced: false,
        subscription_ids: [].into_iter().collect(),
    }
}

fn written(version: ProtocolVersion, delivery: &Delivery) -> Vec<u8> {
    let mut out = Vec::new();
    let topic = delivery.message.topic_bytes();
    publish(&mut out, version, delivery, topic, || NOW, None).unwrap();
    out
}

/// What a client with these terms is sent.
fn said(terms: &mut Terms, delivery: &Delivery) -> Vec<u8> {
    let mut out = Vec::new();
    let topic = delivery.message.topic_bytes();
    publish(&mut out, V5, delivery, topic, || NOW, Some(terms)).unwrap();
    out
}

fn answer(version: ProtocolVersion, packet: &Outbound) -> Vec<u8> {
    let mut out = Vec::new();
    outbound(&mut out, version, packet, None).unwrap();
    out
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

#[test]
fn publications_are_written_byte_by_byte_as_the_specification_says() {
    // 3.1.1: [MQTT-2.3.1-5]
    // 5.0: [MQTT-2.2.1-2] [MQTT-2.2.2-1]
    let mut retained = delivery(QoS::ExactlyOnce, b"", None);
    (retained.dup, retained.retain) = (true, true);
    let mut full = delivery(QoS::AtLeastOnce, b"\x01\x01", Some(NOW.plus_seconds(5)));
    full.subscription_ids = [1, 200].into_iter().collect();
    for (version, delivery, expected) in [
        (
            V311,
            &delivery(QoS::AtMostOnce, b"", None),
            &b"\x30\x08\x00\x03a/bpay"[..],
        ),
        (
            V31,
            &delivery(QoS::AtLeastOnce, b"", None),
            b"\x32\x0a\x00\x03a/b\x12\x34pay",
        ),
        (V311, &retained, b"\x3d\x0a\x00\x03a/b\x12\x34pay"),
        (
            V5,
            &delivery(QoS::AtMostOnce, b"", None),
            b"\x30\x09\x00\x03a/b\x00pay",
        ),
        (
            V5,
            &full,
            b"\x32\x17\x00\x03a/b\x12\x34\x0c\x02\x00\x00\x00\x05\x0b\x01\x0b\xc8\x01\x01\x01pay",
        ),
        // 3.x knows neither properties nor expiry.
        (V311, &full, b"\x32\x0a\x00\x03a/b\x12\x34pay"),
    ] {
        assert_eq!(written(version, delivery), expected, "{version:?}");
    }
}

#[test]
fn the_expiry_that_is_left_is_rounded_up_and_never_below_zero() {
    // 5.0: [MQTT-3.3.2-6].
    for (millis_left, seconds) in [(5000, 5), (4999, 5), (1, 1), (0, 0)] {
        let delivery = delivery(QoS::AtMostOnce, b"", Some(Timestamp(NOW.0 + millis_left)));
        let bytes = written(V5, &delivery);
        assert_eq!(bytes[9..13], u32::to_be_bytes(seconds), "{millis_left}");
    }
    let late = written(V5, &delivery(QoS::AtMostOnce, b"", Some(Timestamp(0))));
    assert_eq!(late[9..13], [0; 4]);
}

#[test]
fn a_publication_above_what_the_client_takes_is_not_written() {
    let delivery = delivery(QoS::AtMostOnce, b"", None);
    let mut out = Vec::new();
    let mut publish = |bytes_max| {
        let mut terms = Terms::new(bytes_max, true, 0);
        let topic = delivery.message.topic_bytes();
        publish(&mut out, V5, &delivery, topic, || NOW, Some(&mut terms))
    };
    assert_eq!(publish(10), Err(Oversized)); // [MQTT-3.1.2-24]
    assert_eq!(publish(11), Ok(()));
    assert_eq!(out.len(), 11);
}

fn to(topic: &str, qos: QoS) -> Delivery {
    let mut to = delivery(qos, b"", None);
    to.message = Arc::new(Message::new(MessageParts {
        topic,
        payload: b"x",
        properties: b"",
        qos,
        retain: false,
        published_at: NOW,
        expires_at: None,
        publisher: SessionNumber(1),
    }));
    to
}

#[test]
fn a_topic_is_said_once_and_then_by_its_alias_if_the_client_allows_it() {
    // 5.0: [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]
    let mut terms = Terms::new(u32::MAX, true, 1);
    let once = |qos| to("long/1", qos);
    assert_eq!(
        said(&mut terms, &once(QoS::AtMostOnce)),
        b"\x30\x0d\x00\x06long/1\x03\x23\x00\x01x"
    );
    assert_eq!(
        said(&mut terms, &once(QoS::AtLeastOnce)),
        b"\x32\x09\x00\x00\x12\x34\x03\x23\x00\x01x"
    );
    // The one alias is given away, and a short topic needs none.
    for (topic, expected) in [
        ("long/2", &b"\x30\x0a\x00\x06long/2\x00x"[..]),
        ("a/b", b"\x30\x07\x00\x03a/b\x00x"),
    ] {
        assert_eq!(said(&mut terms, &to(topic, QoS::AtMostOnce)), expected);
    }
    let mut forbidden = Terms::new(u32::MAX, false, 0);
    for _ in 0..2 {
        assert_eq!(
            said(&mut forbidden, &once(QoS::AtMostOnce)),
            b"\x30\x0a\x00\x06long/1\x00x"
        );
    }
}

#[test]
fn an_alias_that_would_make_a_packet_too_large_is_not_set() {
    let mut terms = Terms::new(12, true, 1);
    let message = to("long/1", QoS::AtMostOnce);
    let plain = b"\x30\x0a\x00\x06long/1\x00x";
    assert_eq!(said(&mut terms, &message), plain);
    assert_eq!(
        said(&mut terms, &message),
        plain,
        "nor does it count as set"
    );
    terms.packet_bytes_max = 15;
    assert_eq!(said(&mut terms, &message).len(), 15);
    assert_eq!(said(&mut terms, &message).len(), 9);
}

#[test]
fn a_refusal_says_why_where_the_client_wants_to_know_and_takes_the_bytes() {
    // 5.0: [MQTT-3.4.2-2], [MQTT-3.5.2-2], [MQTT-3.9.2-1], [MQTT-3.1.2-24], [MQTT-3.1.2-29]
    let refused = Err(Refusal::NotAuthorized);
    let results = [Ok(QoS::AtMostOnce), refused.map(|()| QoS::AtMostOnce)];
    for (packet, in_words, without) in [
        (
            puback(refused.map(|()| Routed::Matched)),
            &b"\x40\x15\x00\x07\x87\x11\x1f\x00\x0enot authorized"[..],
            &b"\x40\x03\x00\x07\x87"[..],
        ),
        (
            pubrec(refused.map(|()| Routed::Matched)),
            b"\x50\x15\x00\x07\x87\x11\x1f\x00\x0enot authorized",
            b"\x50\x03\x00\x07\x87",
        ),
        (
            pubrec(Ok(Routed::NotRetained(Refusal::RetainedQuota))),
            b"\x50\x3a\x00\x07\x00\x36\x1f\x00\x33not retained: retained messages reached their limit",
            b"\x50\x02\x00\x07",
        ),
        (
            suback(&results),
            b"\x90\x16\x00\x07\x11\x1f\x00\x0enot authorized\x00\x87",
            b"\x90\x05\x00\x07\x00\x00\x87",
        ),
    ] {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        for (bytes_max, reasons, expected) in [
            (u32::MAX, true, Ok(in_words)),
            (u32::MAX, false, Ok(without)),
            (length(in_words), true, Ok(in_words)),
            (length(in_words) - 1, true, Ok(without)),
            (length(without), true, Ok(without)),
            (length(without) - 1, true, Err(Unsent::Oversized)),
        ] {
            let mut out = b"before".to_vec();
            let terms = Terms::new(bytes_max, reasons, 0);
            let written = outbound(&mut out, V5, &packet, Some(&terms));
            assert_eq!(written.map(|()| &out[6..]), expected, "{packet:?}");
            assert!(written.is_ok() || out == b"before");
        }
    }
}

fn puback(result: Result<Routed, Refusal>) -> Outbound {
    let packet_id = id(7);
    Outbound::PubAck { packet_id, result }
}

fn pubrec(result: Result<Routed, Refusal>) -> Outbound {
    let packet_id = id(7);
    Outbound::PubRec { packet_id, result }
}

fn pubrel(known: bool) -> Outbound {
    let packet_id = id(7);
    Outbound::PubRel { packet_id, known }
}

fn pubcomp(known: bool) -> Outbound {
    let packet_id = id(7);
    Outbound::PubComp { packet_id, known }
}

fn suback(results: &[Result<QoS, Refusal>]) -> Outbound {
    Outbound::SubAck {
        packet_id: id(7),
        results: results.to_vec(),
    }
}

const FULL: &[u8] = b"\x50\x2a\x00\x07\x97\x26\x1f\x00\x23the journal cannot take the message";
const MIXED: &[u8] =
    b"\x90\x2d\x00\x07\x28\x1f\x00\x25limit of shared subscriptions reached\x02\x97";

#[test]
fn answers_are_written_byte_by_byte_as_the_specification_says() {
    // 3.1.1: [MQTT-2.2.2-1]
    // 5.0: [MQTT-2.1.3-1]
    // 5.0: [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.11.3-2].
    // 3.1.1: [MQTT-3.9.3-2].
    let full = Err(Refusal::JournalUnavailable);
    let mixed = suback(&[Ok(QoS::ExactlyOnce), Err(Refusal::SharedQuota)]);
    let unsuback = Outbound::UnsubAck {
        packet_id: id(7),
        existed: vec![true, false],
    };
    for (version, packet, expected) in [
        (
            V311,
            puback(Ok(Routed::NoSubscribers)),
            &b"\x40\x02\x00\x07"[..],
        ),
        (
            V5,
            puback(Ok(Routed::NoSubscribers)),
            b"\x40\x03\x00\x07\x10",
        ),
        (V5, puback(Ok(Routed::Matched)), b"\x40\x02\x00\x07"),
        (V5, pubrec(full), FULL),
        (V311, pubrel(false), b"\x62\x02\x00\x07"),
        (V5, pubrel(false), b"\x62\x03\x00\x07\x92"),
        (V5, pubcomp(true), b"\x70\x02\x00\x07"),
        (V5, pubcomp(false), b"\x70\x03\x00\x07\x92"),
        (V311, mixed.clone(), b"\x90\x04\x00\x07\x02\x80"),
        (V5, mixed, MIXED),
        (V31, unsuback.clone(), b"\xb0\x02\x00\x07"),
        (V5, unsuback, b"\xb0\x05\x00\x07\x00\x00\x11"),
    ] {
        assert_eq!(answer(version, &packet), expected, "{version:?} {packet:?}");
    }
}

#[test]
fn what_a_version_cannot_say_ends_the_connection() {
    // MQTT 3.1: no failure in SUBACK.
    // 3.1.1: [MQTT-4.8.0-2]
    let refused = Err(Refusal::JournalUnavailable);
    let mut out = Vec::new();
    for (version, packet, refusal) in [
        (V311, puback(refused), Refusal::JournalUnavailable),
        (V31, pubrec(refused), Refusal::JournalUnavailable),
        (
            V31,
            suback(&[Ok(QoS::AtMostOnce), Err(Refusal::NotAuthorized)]),
            Refusal::NotAuthorized,
        ),
    ] {
        let unsayable = Err(Unsent::Unsayable(refusal));
        assert_eq!(outbound(&mut out, version, &packet, None), unsayable);
    }
    assert!(out.is_empty());
}

#[test]
fn connacks_announce_what_is_in_force() {
    // 5.0: [MQTT-3.2.2-1]
    let mut out = Vec::new();
    let announce = Announce {
        expiry_seconds: Some(60),
        receive_max: 10,
        qos_max: Some(QoS::AtLeastOnce),
        packet_bytes_max: 1024,
        topic_alias_max: 4,
        assigned_client_id: Some("x"),
        keep_alive_seconds: Some(30),
        response_information: Some("r/x"),
        authentication: Some(("m", b"d")),
    };
    connack(&mut out, V31, u32::MAX, true, &announce).unwrap();
    assert_eq!(out, b"\x20\x02\x00\x00");
    out.clear();
    connack(&mut out, V311, u32::MAX, true, &announce).unwrap();
    assert_eq!(out, b"\x20\x02\x01\x00");
    out.clear();
    connack(&mut out, V5, u32::MAX, true, &announce).unwrap();
    let Ok(Some(v5::Decoded::Packet(v5::Packet::ConnectAck(read), _))) =
        v5::Codec::new().decode(&mut BytesMut::copy_from_slice(&out))
    else {
        panic!("no CONNACK: {out:02x?}");
    };
    assert!(read.session_present);
    assert_eq!(read.session_expiry_interval_secs, Some(60));
    assert_eq!(read.receive_max.get(), 10);
    assert_eq!(read.max_packet_size, Some(1024));
    assert_eq!(read.topic_alias_max, 4);
    assert_eq!(read.assigned_client_id.as_deref(), Some("x"));
    assert_eq!(read.server_keepalive_sec, Some(30));
    assert_eq!(read.response_info.as_deref(), Some("r/x"));
    assert_eq!(read.auth_method.as_deref(), Some("m"));
    assert_eq!(read.auth_data.as_deref(), Some(&b"d"[..]));
    assert!(read.shared_subscription_available);
    assert!(read.wildcard_subscription_available && read.subscription_identifiers_available);
}

#[test]
fn refusals_before_and_after_connack_say_why_as_far_as_the_version_can() {
    let mut out = Vec::new();
    connack_refused(&mut out, V5, 1000, Refusal::SessionQuota);
    connack_refused(&mut out, V311, 1000, Refusal::SessionQuota);
    connack_refused(&mut out, V311, 1000, Refusal::Malformed);
    disconnect(&mut out, V5, 1000, Refusal::TakenOver);
    disconnect(&mut out, V311, 1000, Refusal::TakenOver);
    pingresp(&mut out);
    assert_eq!(
        out,
        b"\x20\x1b\x00\x97\x18\x1f\x00\x15session quota reached\x20\x02\x00\x03\
          \xe0\x17\x8e\x15\x1f\x00\x12session taken over\xd0\x00"
    );
}

/// 5.0: [MQTT-3.1.2-24], [MQTT-3.2.2-19], [MQTT-3.14.2-3]
#[test]
fn neither_connack_nor_disconnect_exceeds_what_the_client_takes() {
    let announce = Announce {
        receive_max: u16::MAX,
        assigned_client_id: Some("an-id-of-some-length"),
        ..Announce::default()
    };
    for bytes_max in 1..60 {
        let mut outs = [const { Vec::new() }; 3];
        connack(&mut outs[0], V5, bytes_max, false, &announce).ok();
        connack_refused(&mut outs[1], V5, bytes_max, Refusal::Busy);
        disconnect(&mut outs[2], V5, bytes_max, Refusal::Busy);
        for (out, least) in outs.iter().zip([33, 5, 4]) {
            assert!(out.len() <= bytes_max as usize, "{out:02x?}");
            // It is written as soon as it can be, without words if need be.
            assert_eq!(!out.is_empty(), bytes_max >= least, "at {bytes_max}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        topic in "[a-z/]{1,300}",
        payload in prop::collection::vec(any::<u8>(), 0..300),
        level in 0_u8..3,
        number in 1_u16..,
        flags in any::<(bool, bool)>(),
        ids in prop::collection::vec(1_u32..268_435_456, 0..3),
        seconds in prop::option::of(1_u32..100_000),
    ) {
        let qos = QoS::from_level(level).unwrap();
        let delivery = Delivery {
            message: Arc::new(Message::new(MessageParts {
                topic: &topic,
                payload: &payload,
                properties: b"\x03\x00\x01t\x26\x00\x01k\x00\x01v",
                qos,
                retain: flags.0,
                published_at: NOW,
                expires_at: seconds.map(|seconds| NOW.plus_seconds(seconds)),
                publisher: SessionNumber(1),
            })),
            packet_id: PacketId::new(number).filter(|_| level > 0),
            qos,
            dup: flags.1 && level > 0,
            retain: flags.0,
            paced: false,
            subscription_ids: ids.iter().copied().collect(),
        };
        let Ok(Some(v3::Decoded::Publish(read, body, _))) =
            v3::Codec::new().decode(&mut BytesMut::copy_from_slice(written(V311, &delivery)))
        else {
            panic!("no PUBLISH of 3.1.1");
        };
        prop_assert_eq!(&*read.topic, &*topic);
        prop_assert_eq!(&body[..], &payload[..]);
        prop_assert_eq!(read.packet_id, delivery.packet_id.map(|id| id.0));
        prop_assert_eq!((u8::from(read.qos), read.dup, read.retain), (level, delivery.dup, flags.0));

        let Ok(Some(v5::Decoded::Publish(read, body, _))) =
            v5::Codec::new().decode(&mut BytesMut::copy_from_slice(written(V5, &delivery)))
        else {
            panic!("no PUBLISH of 5.0");
        };
        prop_assert_eq!(&*read.topic, &*topic);
        prop_assert_eq!(&body[..], &payload[..]);
        let properties = read.properties;
        prop_assert_eq!(properties.message_expiry_interval.map(|left| left.get()), seconds);
        prop_assert_eq!(properties.content_type.as_deref(), Some("t"));
        prop_assert_eq!(properties.user_properties.len(), 1);
        let read_ids: Vec<u32> = properties.subscription_ids.iter().map(|id| id.get()).collect();
        prop_assert_eq!(read_ids, ids);
    }
}
