//! Text, identifiers, topics, filters, options, reason codes, cut and overlong bodies.

use super::{Answer, MALFORMED, PROTOCOL, Table, body, no_properties};
use crate::wire::{Version, counted, packet, variable};

pub(super) fn table() -> Table {
    let mut table = Table::default();
    for version in Version::ALL {
        text(&mut table, version);
        identifiers(&mut table, version);
        topics(&mut table, version);
        filters(&mut table, version);
        options(&mut table, version);
        cut(&mut table, version);
    }
    reason_codes(&mut table);
    table
}

/// Text that is none ([MQTT-1.5.4-1], [MQTT-1.5.4-2]).
pub(super) const BAD_TEXT: &[(&str, &[u8])] = &[
    ("U+0000 alone", b"\x00"),
    ("U+0000 within", b"a\x00b"),
    ("U+0000 in two bytes", b"\xc0\x80"),
    ("an overlong slash", b"\xc0\xaf"),
    ("an overlong slash in three bytes", b"\xe0\x80\xaf"),
    ("an overlong slash in four bytes", b"\xf0\x80\x80\xaf"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("above U+10FFFF", b"\xf4\x90\x80\x80"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("a lone continuation", b"a\x80"),
    ("two bytes cut", b"a\xc3"),
    ("three bytes cut", b"\xe2\x82"),
    ("four bytes cut", b"\xf0\x9f\x98"),
    ("0xFE", b"\xfe"),
    ("0xFF", b"a\xff"),
    ("UTF-16", b"\xff\xfea\x00"),
    ("Latin-1", b"caf\xe9"),
];

/// Text that is unusual, and allowed: what [MQTT-1.5.4-3] demands and what a receiver may but need not refuse.
pub(super) const ODD_TEXT: &[(&str, &[u8])] = &[
    ("a byte order mark", b"\xef\xbb\xbfa"),
    ("U+FFFF", b"\xef\xbf\xbf"),
    ("U+FFFE", b"\xef\xbf\xbe"),
    ("U+FDD0", b"\xef\xb7\x90"),
    ("U+10FFFF", b"\xf4\x8f\xbf\xbf"),
    ("U+0001", b"\x01"),
    ("U+007F", b"\x7f"),
    ("U+009F", b"\xc2\x9f"),
    ("U+D7FF", b"\xed\x9f\xbf"),
    ("U+E000", b"\xee\x80\x80"),
    ("an emoji", b"\xf0\x9f\x98\x80"),
    ("a space", b" "),
];

fn text(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let rows = [(BAD_TEXT, MALFORMED), (ODD_TEXT, Answer::Taken)];
    for (what, text, answer) in rows
        .iter()
        .flat_map(|(rows, answer)| rows.iter().map(|(what, text)| (*what, *text, *answer)))
    {
        let counted = counted(text);
        for (place, bytes) in [
            ("topic", packet(0x30, &body(&[&counted, none]))),
            (
                "topic of QoS 2",
                packet(0x34, &body(&[&counted, &[0, 1], none])),
            ),
            (
                "filter",
                packet(0x82, &body(&[&[0, 1], none, &counted, &[0]])),
            ),
            (
                "second filter",
                packet(
                    0x82,
                    &body(&[&[0, 1], none, b"\x00\x01a\x00", &counted, &[0]]),
                ),
            ),
            (
                "filter to drop",
                packet(0xA2, &body(&[&[0, 1], none, &counted])),
            ),
        ] {
            let what = format!("{what} in a {place}");
            table.open(version, what, "MQTT-1.5.4-1, -2, -3", bytes, answer);
        }
    }
}

fn identifiers(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let clause = "MQTT-2.2.1-3";
    let topic = counted(b"a");
    for (what, first, rest) in [
        ("SUBSCRIBE", 0x82, body(&[none, &topic, &[0]])),
        ("UNSUBSCRIBE", 0xA2, body(&[none, &topic])),
        ("PUBACK", 0x40, Vec::new()),
        ("PUBREC", 0x50, Vec::new()),
        ("PUBREL", 0x62, Vec::new()),
        ("PUBCOMP", 0x70, Vec::new()),
    ] {
        for (id, answer) in [
            (0_u16, MALFORMED),
            (1, Answer::Taken),
            (0xFFFF, Answer::Taken),
        ] {
            let bytes = packet(first, &body(&[&id.to_be_bytes(), &rest]));
            table.open(
                version,
                format!("{what} with identifier {id}"),
                clause,
                bytes,
                answer,
            );
        }
    }
    for first in [0x32, 0x34, 0x3A, 0x3C] {
        for (id, answer) in [
            (0_u16, MALFORMED),
            (1, Answer::Taken),
            (0xFFFF, Answer::Taken),
        ] {
            let bytes = packet(first, &body(&[&topic, &id.to_be_bytes(), none]));
            let what = format!("PUBLISH {first:#x} with identifier {id}");
            table.open(version, what, clause, bytes, answer);
        }
    }
}

fn topics(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let name = Answer::Ends(0x90);
    for (topic, answer) in [
        ("#", name),
        ("+", name),
        ("a/#", name),
        ("a/+/b", name),
        ("a#", name),
        ("+a", name),
        ("$share/g/#", name),
        ("", PROTOCOL),
        // Refused, but the client stays: see the door.
        ("$SYS/broker/uptime", Answer::Taken),
        ("$share/g/a", Answer::Taken),
        ("/", Answer::Taken),
        ("//", Answer::Taken),
        (" ", Answer::Taken),
        ("$own", Answer::Taken),
        ("a/b/c", Answer::Taken),
    ] {
        for (first, id) in [
            (0x30, &[][..]),
            (0x31, &[]),
            (0x32, &[0, 7]),
            (0x34, &[0, 8]),
        ] {
            let bytes = packet(first, &body(&[&counted(topic.as_bytes()), id, none]));
            let what = format!("PUBLISH {first:#x} to {topic:?}");
            table.open(version, what, "MQTT-3.3.2-2, 4.7.3", bytes, answer);
        }
    }
    let deep = "a/".repeat(400);
    // Above the limit: refused in the acknowledgement where that can say so.
    for (first, id, told) in [
        (0x30, &[][..], false),
        (0x32, &[0, 9], version == Version::V5),
        (0x34, &[0, 10], version == Version::V5),
    ] {
        let bytes = packet(first, &body(&[&counted(deep.as_bytes()), id, none]));
        let answer = if told {
            Answer::Taken
        } else {
            Answer::Ends(0x90)
        };
        let what = format!("PUBLISH {first:#x} to a topic of 401 levels");
        table.open(version, what, "4.7.3", bytes, answer);
    }
}

fn filters(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let bad = Answer::Ends(0x8F);
    for (filter, answer) in [
        ("", bad),
        ("a#", bad),
        ("#a", bad),
        ("#/", bad),
        ("#/a", bad),
        ("a/#/b", bad),
        ("a/##", bad),
        ("+a", bad),
        ("a+", bad),
        ("a/b+/c", bad),
        ("++", bad),
        ("+#", bad),
        ("$share", Answer::Taken),
        ("$share/", bad),
        ("$share/g", bad),
        ("$share//a", bad),
        ("$share/+/a", bad),
        ("$share/#/a", bad),
        ("$share/g/", bad),
        ("$share/g/a#", bad),
        ("#", Answer::Taken),
        ("+", Answer::Taken),
        ("+/+/#", Answer::Taken),
        ("/#", Answer::Taken),
        ("/+", Answer::Taken),
        ("//", Answer::Taken),
        ("$SYS/#", Answer::Taken),
    ] {
        let text = counted(filter.as_bytes());
        let clause = "MQTT-4.7.1-1, -2, MQTT-4.7.3-1, MQTT-4.8.2-1, -2";
        let bytes = packet(0x82, &body(&[&[0, 1], none, &text, &[0]]));
        table.open(
            version,
            format!("SUBSCRIBE to {filter:?}"),
            clause,
            bytes,
            answer,
        );
        let bytes = packet(0xA2, &body(&[&[0, 1], none, &text]));
        table.open(
            version,
            format!("UNSUBSCRIBE from {filter:?}"),
            clause,
            bytes,
            answer,
        );
    }
    for first in [0x82, 0xA2] {
        let bytes = packet(first, &body(&[&[0, 1], none]));
        let clause = "MQTT-3.8.3-2, MQTT-3.10.3-2";
        table.open(
            version,
            format!("{first:#x} without a filter"),
            clause,
            bytes,
            PROTOCOL,
        );
    }
}

/// All values of the byte behind a filter.
fn options(table: &mut Table, version: Version) {
    let none = no_properties(version);
    for options in 0..=0xFF_u8 {
        let answer = match version {
            Version::V5 if options & 0xC0 != 0 => MALFORMED,
            Version::V5 if options & 3 == 3 || options & 0x30 == 0x30 => PROTOCOL,
            Version::V31 | Version::V311 if options & 0xFC != 0 || options == 3 => MALFORMED,
            _ => Answer::Taken,
        };
        let bytes = packet(0x82, &body(&[&[0, 1], none, b"\x00\x01a", &[options]]));
        let what = format!("subscription options {options:#04x}");
        table.open(version, what, "3.8.3.1, MQTT-3.8.3-5", bytes, answer);
    }
    if version == Version::V5 {
        let bytes = packet(0x82, &body(&[&[0, 1], none, &counted(b"$share/g/a"), &[4]]));
        table.open(
            version,
            "no-local on a shared filter",
            "MQTT-3.8.3-4",
            bytes,
            PROTOCOL,
        );
    }
}

/// Bodies that end early, or late.
fn cut(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let v5 = version == Version::V5;
    let fixed = 2 + none.len();
    let whole = body(&[&[0, 1], none, b"\x00\x03a/b\x01"]);
    for length in 0..whole.len() {
        let answer = if length == fixed { PROTOCOL } else { MALFORMED };
        let bytes = packet(0x82, &whole[..length]);
        table.open(
            version,
            format!("SUBSCRIBE cut at {length}"),
            "3.8",
            bytes,
            answer,
        );
    }
    let whole = body(&[&[0, 1], none, b"\x00\x03a/b"]);
    for length in 0..whole.len() {
        let answer = if length == fixed { PROTOCOL } else { MALFORMED };
        let bytes = packet(0xA2, &whole[..length]);
        table.open(
            version,
            format!("UNSUBSCRIBE cut at {length}"),
            "3.10",
            bytes,
            answer,
        );
    }
    for first in [0x30, 0x32, 0x34] {
        let id: &[u8] = if first == 0x30 { &[] } else { &[0, 1] };
        let whole = body(&[b"\x00\x03a/b", id, none]);
        for length in 0..whole.len() {
            let bytes = packet(first, &whole[..length]);
            let what = format!("PUBLISH {first:#x} cut at {length}");
            table.open(version, what, "3.3.2", bytes, MALFORMED);
        }
    }
    for claimed in [2_u16, 3, 0xFF, 0x7FFF, 0xFFFF] {
        for first in [0x30, 0x32] {
            let bytes = packet(first, &body(&[&claimed.to_be_bytes(), b"a"]));
            let what = format!("a topic of {claimed} bytes in a packet of three");
            table.open(version, what, "1.5.4", bytes, MALFORMED);
        }
        for first in [0x82, 0xA2] {
            let bytes = packet(first, &body(&[&[0, 1], none, &claimed.to_be_bytes(), b"a"]));
            let what = format!("a filter of {claimed} bytes in a packet of few");
            table.open(version, what, "1.5.4", bytes, MALFORMED);
        }
    }
    for first in [0x40, 0x50, 0x62, 0x70] {
        for (length, in_v5) in [
            (0, MALFORMED),
            (1, MALFORMED),
            (2, Answer::Taken),
            (3, Answer::Taken),
            (4, Answer::Taken),
            (5, MALFORMED),
            (9, MALFORMED),
        ] {
            let bytes = packet(first, &[0, 1, 0, 0, 0, 0, 0, 0, 0][..length]);
            let answer = match (v5, length) {
                (true, _) => in_v5,
                (false, 2) => Answer::Taken,
                (false, _) => MALFORMED,
            };
            let what = format!("{first:#x} with {length} bytes");
            table.open(version, what, "3.4.2, 3.1.1 3.4.1", bytes, answer);
        }
    }
    for (body, in_v5) in [
        (&[0][..], Answer::Closes),
        (&[0, 0], Answer::Closes),
        (&[0, 1], MALFORMED),
        (&[0, 0, 0], MALFORMED),
        (&[0, 0, 0, 0, 0], MALFORMED),
    ] {
        let answer = if v5 { in_v5 } else { MALFORMED };
        let what = format!("DISCONNECT with body {body:02x?}");
        table.open(version, what, "3.14.2", packet(0xE0, body), answer);
    }
    if v5 {
        // Property lengths that reach beyond the packet, or are padded.
        for length in [
            &[1][..],
            &[0x7F],
            &[0xFF, 0x7F],
            &[0xFF; 5],
            &[0x80, 0x00],
            &[0x80],
        ] {
            for (first, before) in [
                (0x30, &b"\x00\x01a"[..]),
                (0x32, b"\x00\x01a\x00\x01"),
                (0x40, b"\x00\x01\x00"),
                (0x50, b"\x00\x01\x00"),
                (0x62, b"\x00\x01\x00"),
                (0x70, b"\x00\x01\x00"),
                (0x82, b"\x00\x01"),
                (0xA2, b"\x00\x01"),
                (0xE0, b"\x00"),
            ] {
                let bytes = packet(first, &body(&[before, length]));
                let what = format!("{first:#x} with property length {length:02x?}");
                table.open(version, what, "2.2.2.1, MQTT-1.5.5-1", bytes, MALFORMED);
            }
        }
        assert_eq!(variable(128), [0x80, 0x01]);
    }
}

/// All reason codes in all packets of 5.0 that a client may give one in.
fn reason_codes(table: &mut Table) {
    let version = Version::V5;
    for code in 0..=0xFF_u8 {
        let of_publish = matches!(
            code,
            0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
        );
        let of_release = matches!(code, 0x00 | 0x92);
        for (first, known, clause) in [
            (0x40, of_publish, "MQTT-3.4.2-1"),
            (0x50, of_publish, "MQTT-3.5.2-1"),
            (0x62, of_release, "MQTT-3.6.2-1"),
            (0x70, of_release, "MQTT-3.7.2-1"),
        ] {
            let answer = if known { Answer::Taken } else { MALFORMED };
            let bytes = packet(first, &[0, 1, code]);
            table.open(
                version,
                format!("{first:#x} with code {code:#04x}"),
                clause,
                bytes,
                answer,
            );
        }
        let answer = match code {
            0x00 | 0x04 | 0x80..=0x83 | 0x8C | 0x90 | 0x93..=0x99 => Answer::Closes,
            // Those of the server.
            0x87 | 0x89 | 0x8B | 0x8D..=0x8F | 0x9A..=0xA2 => PROTOCOL,
            _ => MALFORMED,
        };
        let what = format!("DISCONNECT with code {code:#04x}");
        table.open(
            version,
            what,
            "3.14.2.1, 2.4",
            packet(0xE0, &[code]),
            answer,
        );
    }
}
