use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::ProtocolVersion::{V5, V31, V311};
use proptest::prelude::*;

use super::super::guard::tests::{HOLES, VALID};
use super::*;

const NOW: Timestamp = Timestamp(1_000_000);
const BYTES_MAX: u32 = 1024;

/// Takes the frames of `bytes` as a connection does; the packets, and why it stopped early.
fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> (Vec<Packet>, usize, Option<Refusal>) {
    decode_all_of(None, decoder, bytes)
}

/// As [`decode_all`], from a client of `tenant`.
fn decode_all_of(
    tenant: Option<&Tenant>,
    decoder: &mut Decoder,
    bytes: &[u8],
) -> (Vec<Packet>, usize, Option<Refusal>) {
    let (mut packets, mut used) = (Vec::new(), 0);
    loop {
        let rest = &bytes[used..];
        let frame = match guard::peek(rest, Some(decoder.version()), BYTES_MAX) {
            Ok(Some(frame)) => frame,
            Ok(None) => return (packets, used, None),
            Err(refusal) => return (packets, used, Some(refusal)),
        };
        match decoder.decode(frame, rest, NOW, tenant) {
            Ok(packet) => packets.push(packet),
            Err(refusal) => return (packets, used, Some(refusal)),
        }
        used += frame.end;
    }
}

fn decode_one(version: ProtocolVersion, bytes: &[u8]) -> Result<Packet, Refusal> {
    let (mut packets, _, refusal) = decode_all(&mut Decoder::new(version, 4), bytes);
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(packets.remove(0)),
    }
}

fn message(version: ProtocolVersion, bytes: &[u8]) -> Arc<Message> {
    match decode_one(version, bytes) {
        Ok(Packet::Session(Inbound::Publish { message, .. })) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_hole_of_the_codec_is_open() {
    // 5.0: [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-3.3.2-2], [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.3.2-14],
    // [MQTT-3.3.4-6], [MQTT-3.4.2-1], [MQTT-3.8.3-2], [MQTT-3.8.3-4], [MQTT-3.8.3-5], [MQTT-3.10.3-2],
    // [MQTT-4.3.1-1], [MQTT-4.7.0-1].
    // 3.1.1: [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-3.3.2-2], [MQTT-3.8.3-3], [MQTT-3.10.3-2], [MQTT-4.3.1-1],
    // [MQTT-4.7.1-1].
    for (version, frame, refusal, why) in HOLES {
        match decode_one(*version, frame) {
            Err(found) => assert_eq!(found, *refusal, "{version:?} {why}"),
            Ok(packet) => panic!("{version:?} {why}: {packet:?}"),
        }
    }
}

#[test]
fn what_is_valid_passes() {
    for (version, frame) in VALID {
        decode_one(*version, frame).unwrap_or_else(|refusal| panic!("{frame:02x?} {refusal}"));
    }
}

#[test]
fn a_publication_keeps_every_part() {
    let message = message(V311, b"\x35\x08\x00\x01a\x00\x07pay");
    assert_eq!(message.topic(), "a");
    assert_eq!(message.payload(), b"pay");
    assert_eq!(message.properties(), b"");
    assert_eq!(message.qos, QoS::ExactlyOnce);
    assert!(message.retain);
    assert_eq!(message.published_at, NOW);
    assert_eq!(message.expires_at, None);
}

#[test]
fn application_properties_stay_as_they_came() {
    // User property, alias, payload format, expiry, user property, content type: the broker's own are left out.
    let block = b"\x26\x00\x01b\x00\x011\x23\x00\x01\x01\x00\x02\x00\x00\x00\x0a\x26\x00\x01a\x00\x012\x03\x00\x01t";
    let mut frame = vec![0x30, 0, 0, 1, b'a'];
    frame.push(u8::try_from(block.len()).unwrap());
    frame.extend_from_slice(block);
    frame.extend_from_slice(b"pay");
    frame[1] = u8::try_from(frame.len() - 2).unwrap();
    let message = message(V5, &frame);
    assert_eq!(
        message.properties(),
        b"\x26\x00\x01b\x00\x011\x01\x00\x26\x00\x01a\x00\x012\x03\x00\x01t"
    );
    assert_eq!(message.payload(), b"pay");
    assert_eq!(message.expires_at, Some(NOW.plus_seconds(10)));
}

#[test]
fn an_expiry_of_zero_is_legal_and_expires_at_once() {
    let message = message(V5, b"\x30\x0a\x00\x01a\x05\x02\x00\x00\x00\x00p");
    assert_eq!(message.expires_at, Some(NOW));
    assert_eq!(message.payload(), b"p");
}

#[test]
fn an_alias_stands_for_the_topic_that_was_set_last() {
    let mut decoder = Decoder::new(V5, 2);
    let set_a = b"\x30\x07\x00\x01a\x03\x23\x00\x02";
    let use_2 = b"\x30\x06\x00\x00\x03\x23\x00\x02";
    let set_b = b"\x30\x07\x00\x01b\x03\x23\x00\x02";
    let stream = [&set_a[..], use_2, set_b, use_2].concat();
    let (packets, _, refusal) = decode_all(&mut decoder, &stream);
    assert_eq!(refusal, None);
    let topics: Vec<_> = packets
        .iter()
        .map(|packet| {
            let Packet::Session(Inbound::Publish { message, .. }) = packet else {
                panic!("no PUBLISH: {packet:?}");
            };
            message.topic().to_owned()
        })
        .collect();
    assert_eq!(topics, ["a", "a", "b", "b"]);
    let (_, _, refusal) = decode_all(&mut decoder, b"\x30\x06\x00\x00\x03\x23\x00\x01");
    assert_eq!(refusal, Some(Refusal::Protocol));
}

#[test]
fn an_alias_may_be_any_up_to_the_maximum_and_is_known_to_one_connection() {
    // 5.0: [MQTT-3.3.2-12].
    for alias in 1..=4_u8 {
        let set = [b"\x30\x07\x00\x01a\x03\x23\x00", &[alias][..]].concat();
        let used = [b"\x30\x06\x00\x00\x03\x23\x00", &[alias][..]].concat();
        let mut decoder = Decoder::new(V5, 4);
        let (packets, _, refusal) = decode_all(&mut decoder, &[&set[..], &used].concat());
        assert_eq!((packets.len(), refusal), (2, None), "alias {alias}");
        assert_eq!(decode_one(V5, &used).unwrap_err(), Refusal::Protocol);
    }
}

#[test]
fn text_that_is_no_utf_8_is_malformed_wherever_it_stands() {
    // 5.0: [MQTT-3.3.2-1], [MQTT-3.3.2-13], [MQTT-3.3.2-19], [MQTT-3.8.3-1], [MQTT-3.10.3-1].
    // 3.1.1: [MQTT-3.3.2-1], [MQTT-3.8.3-1], [MQTT-3.10.3-1].
    for (version, frame, what) in [
        (V311, &b"\x30\x03\x00\x01\xff"[..], "topic"),
        (V5, b"\x30\x04\x00\x01\xff\x00", "topic"),
        (
            V5,
            b"\x30\x08\x00\x01a\x04\x08\x00\x01\xff",
            "response topic",
        ),
        (V5, b"\x30\x08\x00\x01a\x04\x03\x00\x01\xff", "content type"),
        (
            V5,
            b"\x30\x0a\x00\x01a\x06\x26\x00\x01\xff\x00\x00",
            "user property",
        ),
        (
            V5,
            b"\x40\x08\x00\x01\x10\x04\x1f\x00\x01\xff",
            "reason string",
        ),
        (V311, b"\x82\x06\x00\x01\x00\x01\xff\x00", "filter"),
        (V5, b"\x82\x07\x00\x01\x00\x00\x01\xff\x00", "filter"),
        (V311, b"\xa2\x05\x00\x01\x00\x01\xff", "filter to drop"),
        (V5, b"\xa2\x06\x00\x01\x00\x00\x01\xff", "filter to drop"),
    ] {
        let refusal = decode_one(version, frame).unwrap_err();
        assert_eq!(refusal, Refusal::Malformed, "{version:?} {what}");
        let ascii: Vec<u8> = frame
            .iter()
            .map(|byte| if *byte == 0xFF { b'x' } else { *byte })
            .collect();
        assert!(decode_one(version, &ascii).is_ok(), "{version:?} {what}");
    }
}

#[test]
fn subscription_options_arrive_in_the_words_of_the_model() {
    let Ok(Packet::Session(Inbound::Subscribe { packet_id, filters })) =
        decode_one(V5, b"\x82\x09\x00\x09\x02\x0b\x05\x00\x01a\x2d")
    else {
        panic!("no SUBSCRIBE");
    };
    assert_eq!(packet_id.get(), 9);
    let (filter, options, refusal) = &filters[0];
    assert_eq!(filter.as_str(), "a");
    assert_eq!(
        *options,
        SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Never,
            id: Some(5),
        }
    );
    assert_eq!(*refusal, None);
}

#[test]
fn codes_of_128_and_above_mean_failure() {
    for (frame, expected) in [
        (&b"\x40\x02\x00\x01"[..], false),
        (b"\x40\x03\x00\x01\x10", false),
        (b"\x40\x03\x00\x01\x87", true),
    ] {
        match decode_one(V5, frame) {
            Ok(Packet::Session(Inbound::PubAck { failed, .. })) => assert_eq!(failed, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_disconnect_says_what_becomes_of_will_and_expiry() {
    for (version, frame, will, expiry) in [
        (V311, &b"\xe0\x00"[..], false, None),
        (V5, b"\xe0\x00", false, None),
        (V5, b"\xe0\x01\x04", true, None),
        (V5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09", false, Some(9)),
    ] {
        match decode_one(version, frame) {
            Ok(Packet::Session(Inbound::Disconnect {
                with_will,
                expiry_seconds,
            })) => {
                assert_eq!((with_will, expiry_seconds), (will, expiry));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn versions() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(V31), Just(V311), Just(V5)]
}

/// Valid frames of one version with a few bytes changed.
fn nearly_valid() -> impl Strategy<Value = (ProtocolVersion, Vec<u8>)> {
    let frames = prop::collection::vec(prop::sample::select(VALID), 1..5);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (versions(), frames, changes).prop_map(|(version, frames, changes)| {
        let mut bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(_, frame)| frame.to_vec())
            .collect();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        (version, bytes)
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(version in versions(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&mut Decoder::new(version, 4), &bytes);
    }

    #[test]
    fn no_bytes_that_are_nearly_packets_make_it_panic((version, bytes) in nearly_valid()) {
        decode_all(&mut Decoder::new(version, 4), &bytes);
    }

    #[test]
    fn however_a_stream_is_cut_the_packets_are_the_same(
        (version, bytes) in nearly_valid(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let (whole, _, refusal) = decode_all(&mut Decoder::new(version, 4), &bytes);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut decoder = Decoder::new(version, 4);
        let (mut buf, mut packets, mut stopped, mut start) = (Vec::new(), Vec::new(), None, 0);
        for end in ends {
            buf.extend_from_slice(&bytes[start..end]);
            start = end;
            let (more, used, refusal) = decode_all(&mut decoder, &buf);
            packets.extend(more);
            buf.drain(..used);
            stopped = refusal;
            if stopped.is_some() {
                break;
            }
        }
        prop_assert_eq!(format!("{packets:?}"), format!("{whole:?}"));
        prop_assert_eq!(stopped, refusal);
    }
}

/// The topics and filters by which the broker knows what a client of tenant `t` sent.
fn known(version: ProtocolVersion, bytes: &[u8]) -> Vec<String> {
    let tenant = Tenant::new("t").unwrap();
    let mut decoder = Decoder::new(version, 4);
    let (packets, _, refusal) = decode_all_of(Some(&tenant), &mut decoder, bytes);
    assert_eq!(refusal, None);
    let mut known = Vec::new();
    for packet in &packets {
        if let Packet::Session(Inbound::Publish { message, .. }) = packet {
            known.push(message.topic().to_owned());
        } else if let Packet::Session(Inbound::Subscribe { filters, .. }) = packet {
            known.extend(filters.iter().map(|(of, ..)| of.as_str().to_owned()));
        } else if let Packet::Session(Inbound::Unsubscribe { filters, .. }) = packet {
            known.extend(filters.iter().map(|of| of.as_str().to_owned()));
        }
    }
    known
}

#[test]
fn topics_of_a_tenant_are_below_it() {
    for version in [V31, V311] {
        let bytes = b"\x30\x06\x00\x03a/bp\x30\x04\x00\x02$a\x32\x05\x00\x01/\x00\x07";
        assert_eq!(known(version, bytes), ["t\0/a/b", "t\0$a", "t\0//"]);
    }
    // Set as an alias, and then by it; the same again for another topic.
    let bytes = b"\x30\x07\x00\x01a\x03\x23\x00\x01\x30\x06\x00\x00\x03\x23\x00\x01\
        \x30\x08\x00\x02$a\x03\x23\x00\x01\x30\x06\x00\x00\x03\x23\x00\x01";
    assert_eq!(known(V5, bytes), ["t\0/a", "t\0/a", "t\0$a", "t\0$a"]);
}

#[test]
fn filters_and_groups_of_a_tenant_are_below_it() {
    for bytes in [
        &b"\x82\x16\x00\x01\x00\x01#\x01\x00\x0d$share/g/$a/+\x01"[..],
        b"\xa2\x14\x00\x01\x00\x01#\x00\x0d$share/g/$a/+",
    ] {
        let expected = ["t\0/#", "$share/t\0g/t\0$a/+"];
        for version in [V31, V311] {
            assert_eq!(known(version, bytes), expected);
        }
        // 5.0 has properties behind the packet identifier.
        let mut v5 = bytes.to_vec();
        v5.insert(4, 0);
        v5[1] += 1;
        assert_eq!(known(V5, &v5), expected);
    }
}

#[test]
fn the_subscriptions_of_a_3_x_bridge_bring_back_nothing_that_it_sent_and_keep_the_retain_flag() {
    let frame = b"\x82\x13\x00\x01\x00\x01#\x02\x00\x0a$share/g/a\x01";
    for is_bridge in [false, true] {
        let mut decoder = Decoder::new(V311, 4).of_bridge(is_bridge);
        let (mut packets, _, refusal) = decode_all(&mut decoder, frame);
        assert_eq!(refusal, None);
        let Some(Packet::Session(Inbound::Subscribe { filters, .. })) = packets.pop() else {
            panic!("no SUBSCRIBE");
        };
        let [(_, all, _), (_, shared, _)] = &filters[..] else {
            panic!("{filters:?}");
        };
        assert_eq!(all.qos, QoS::ExactlyOnce);
        assert_eq!(
            (all.no_local, all.retain_as_published),
            (is_bridge, is_bridge)
        );
        assert_eq!(
            (shared.no_local, shared.retain_as_published),
            (false, is_bridge)
        );
    }
}
