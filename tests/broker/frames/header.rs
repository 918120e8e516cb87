//! First bytes, remaining lengths, what may come when.

use super::{Answer, MALFORMED, PROTOCOL, Table, body, no_properties};
use crate::wire::{self, Publish};
use crate::wire::{Connect, Version, counted, packet, publish, subscribe};

pub(super) fn table() -> Table {
    let mut table = Table::default();
    for version in Version::ALL {
        first_bytes(&mut table, version);
        lengths(&mut table, version);
        order(&mut table, version);
    }
    table
}

/// Every first byte, with an empty body: before a CONNECT, and after it.
fn first_bytes(table: &mut Table, version: Version) {
    for first in 0..=0xFF_u8 {
        let what = format!("first byte {first:#04x}, no body");
        // [MQTT-3.1.0-1]; a CONNECT without a body names no version to answer in.
        table.first(
            version,
            what.clone(),
            "MQTT-3.1.0-1",
            packet(first, &[]),
            Answer::Closes,
        );
        let (kind, flags) = (first >> 4, first & 0x0F);
        let v5 = version == Version::V5;
        let (answer, clause) = match (kind, flags) {
            (0, _) => (MALFORMED, "2.1.2"),
            (1, 0) => (PROTOCOL, "MQTT-3.1.0-2"),
            (2 | 9 | 11 | 13, 0) => (PROTOCOL, "2.1.2"),
            // No topic, no identifier.
            (3, _) => (MALFORMED, "MQTT-3.3.2-1"),
            (4 | 5 | 7, 0) | (6 | 8 | 10, 2) => (MALFORMED, "MQTT-2.2.1-2"),
            (12, 0) => (Answer::Taken, "MQTT-3.12.4-1"),
            (14, 0) => (Answer::Closes, "MQTT-3.14.4-2"),
            (15, 0) if v5 => (PROTOCOL, "3.15"),
            _ => (MALFORMED, "MQTT-2.1.3-1"),
        };
        table.open(version, what, clause, packet(first, &[]), answer);
    }
    // Flags of packets that are good otherwise.
    for flags in 0..=0x0F_u8 {
        let topic = counted(b"a");
        let qos = flags >> 1 & 3;
        let id: &[u8] = if qos > 0 { &[0, 9] } else { &[] };
        let bytes = packet(0x30 | flags, &body(&[&topic, id, no_properties(version)]));
        let (answer, clause) = match (qos, flags & 8 != 0) {
            (3, _) => (MALFORMED, "MQTT-3.3.1-4"),
            (0, true) => (MALFORMED, "MQTT-3.3.1-2"),
            _ => (Answer::Taken, "3.3.1"),
        };
        table.open(
            version,
            format!("PUBLISH with flags {flags:#x}"),
            clause,
            bytes,
            answer,
        );
        for (kind, rest, what) in [
            (4, Vec::new(), "PUBACK"),
            (5, Vec::new(), "PUBREC"),
            (6, Vec::new(), "PUBREL"),
            (7, Vec::new(), "PUBCOMP"),
            (
                8,
                body(&[no_properties(version), &topic, &[0]]),
                "SUBSCRIBE",
            ),
            (10, body(&[no_properties(version), &topic]), "UNSUBSCRIBE"),
        ] {
            let bytes = packet(kind << 4 | flags, &body(&[&[0, 9], &rest]));
            let wanted = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
            // In 3.1 these three may be sent again with DUP.
            let again = version == Version::V31 && wanted == 2 && flags == 0x0A;
            let answer = if flags == wanted || again {
                Answer::Taken
            } else {
                MALFORMED
            };
            let what = format!("{what} with flags {flags:#x}");
            table.open(version, what, "MQTT-2.1.3-1", bytes, answer);
        }
    }
}

fn lengths(table: &mut Table, version: Version) {
    let v5 = version == Version::V5;
    let too_large = Answer::Ends(0x95);
    for first in [0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0] {
        let rows: [(&str, &[u8], Answer); 5] = [
            (
                "five bytes of length",
                &[0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                MALFORMED,
            ),
            ("five bytes of length, all open", &[0x80; 5], MALFORMED),
            ("the largest length", &[0xFF, 0xFF, 0xFF, 0x7F], too_large),
            ("a length just above the limit", &[0xFE, 0x1F], too_large),
            (
                "three bytes above the limit",
                &[0x80, 0x80, 0x01],
                too_large,
            ),
        ];
        for (what, length, answer) in rows {
            let bytes = body(&[&[first], length]);
            let what = format!("{first:#04x} with {what}");
            table.open(version, what, "2.1.4, 1.5.5, 3.1.2.11.4", bytes, answer);
        }
    }
    // As few bytes as possible is a rule of 5.0.
    let answer = if v5 { MALFORMED } else { Answer::Taken };
    for padded in [
        &[0x80, 0x00][..],
        &[0x80, 0x80, 0x00],
        &[0x80, 0x80, 0x80, 0x00],
    ] {
        let bytes = body(&[&[0xC0], padded]);
        table.open(
            version,
            "a padded length of 0",
            "MQTT-1.5.5-1",
            bytes,
            answer,
        );
    }
    let bytes = b"\x40\x82\x00\x00\x09".to_vec();
    table.open(
        version,
        "a padded length of 2",
        "MQTT-1.5.5-1",
        bytes,
        answer,
    );
    // The largest packet that fits.
    let topic = counted(b"a");
    let header = body(&[&topic, no_properties(version)]);
    let payload = vec![0; 4096 - 3 - header.len()];
    let bytes = packet(0x30, &body(&[&header, &payload]));
    assert_eq!(bytes.len(), 4096);
    table.open(
        version,
        "a packet as large as allowed",
        "3.1.2.11.4",
        bytes,
        Answer::Taken,
    );
    // A PINGREQ has no body.
    for length in 1..4 {
        let bytes = packet(0xC0, &vec![0; length]);
        table.open(version, "PINGREQ with a body", "3.12.1", bytes, MALFORMED);
    }
}

/// Good packets at a bad moment, and good ones before a bad one.
fn order(table: &mut Table, version: Version) {
    let connect = Connect::new(version, "offender").encode();
    let ping = packet(0xC0, &[]);
    let message = Publish {
        topic: "a".to_owned(),
        payload: b"x".to_vec(),
        qos: 1,
        id: 1,
        ..Publish::default()
    };
    for (what, bytes) in [
        ("PUBLISH", publish(version, &message)),
        ("SUBSCRIBE", subscribe(version, 1, "a", 0)),
        ("UNSUBSCRIBE", wire::unsubscribe(version, 1, "a")),
        ("PINGREQ", ping.clone()),
        ("DISCONNECT", packet(0xE0, &[])),
        ("AUTH", packet(0xF0, &[])),
        ("CONNACK", packet(0x20, &[0, 0])),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("zeros", vec![0; 64]),
    ] {
        let what = format!("{what} before CONNECT");
        let bytes = body(&[&bytes, &connect]);
        table.first(version, what, "MQTT-3.1.0-1", bytes, Answer::Closes);
    }
    table.open(
        version,
        "a second CONNECT",
        "MQTT-3.1.0-2",
        connect.clone(),
        PROTOCOL,
    );
    let mut other = Connect::new(version, "another").encode();
    table.open(
        version,
        "a second CONNECT, another id",
        "MQTT-3.1.0-2",
        other.clone(),
        PROTOCOL,
    );
    other.splice(0..0, ping.clone());
    table.open(
        version,
        "a ping, a second CONNECT",
        "MQTT-3.1.0-2",
        other,
        Answer::Taken,
    );
    for (what, first, answer) in [
        ("CONNACK", &b"\x20\x02\x00\x00"[..], PROTOCOL),
        ("SUBACK", b"\x90\x03\x00\x01\x00", PROTOCOL),
        ("UNSUBACK", b"\xb0\x02\x00\x01", PROTOCOL),
        ("PINGRESP", b"\xd0\x00", PROTOCOL),
    ] {
        let what = format!("{what} from a client");
        table.open(version, what, "2.1.2", first.to_vec(), answer);
    }
    // Nothing behind a DISCONNECT counts.
    let bytes = body(&[&packet(0xE0, &[]), &[0x00, 0x00]]);
    table.open(
        version,
        "garbage behind DISCONNECT",
        "MQTT-3.14.4-1",
        bytes,
        Answer::Closes,
    );
    if version == Version::V5 {
        for (what, bytes) in [
            ("AUTH with continue", &b"\xf0\x02\x18\x00"[..]),
            ("AUTH with re-authenticate", b"\xf0\x02\x19\x00"),
            ("AUTH with a method", b"\xf0\x06\x18\x04\x15\x00\x01a"),
            ("AUTH with an unknown reason", b"\xf0\x01\x77"),
        ] {
            table.open(version, what, "3.15, 4.12", bytes.to_vec(), PROTOCOL);
        }
    } else {
        for bytes in [&b"\xf0\x00"[..], b"\xf0\x02\x18\x00"] {
            table.open(
                version,
                "packet type 15",
                "3.1.1 2.2.1",
                bytes.to_vec(),
                MALFORMED,
            );
        }
    }
}
