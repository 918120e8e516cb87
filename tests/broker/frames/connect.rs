//! CONNECT: names, levels, flags, fields.

use super::fields::{BAD_TEXT, ODD_TEXT};
use super::{Answer, Table, body, no_properties};
use crate::wire::{Version, counted, packet};

pub(super) fn table() -> Table {
    let mut table = Table::default();
    protocol(&mut table);
    for version in Version::ALL {
        flags(&mut table, version);
        cut(&mut table, version);
        text(&mut table, version);
        ids(&mut table, version);
        will(&mut table, version);
        behind(&mut table, version);
    }
    table
}

/// Malformed: 5.0 is told, older versions are not.
fn malformed(version: Version) -> Answer {
    refused(version, 0x81)
}

fn refused(version: Version, code: u8) -> Answer {
    match version {
        Version::V5 => Answer::Connack(code),
        Version::V31 | Version::V311 => Answer::Closes,
    }
}

fn name_and_level(version: Version) -> Vec<u8> {
    match version {
        Version::V31 => b"\x00\x06MQIsdp\x03".to_vec(),
        Version::V311 => b"\x00\x04MQTT\x04".to_vec(),
        Version::V5 => b"\x00\x04MQTT\x05".to_vec(),
    }
}

/// A CONNECT up to its payload.
fn head(version: Version, flags: u8) -> Vec<u8> {
    let none = no_properties(version);
    body(&[&name_and_level(version), &[flags, 0, 60], none])
}

fn protocol(table: &mut Table) {
    let version = Version::V5;
    // Every level of both names ([MQTT-3.1.2-1], [MQTT-3.1.2-2]).
    for level in 0..=0xFF_u8 {
        for name in ["MQTT", "MQIsdp"] {
            let none: &[u8] = if level == 5 && name == "MQTT" {
                &[0]
            } else {
                &[]
            };
            let fields = body(&[
                &counted(name.as_bytes()),
                &[level, 2, 0, 0],
                none,
                b"\x00\x01c",
            ]);
            let answer = match (name, level) {
                // With the highest bit, a bridge.
                ("MQTT", 4 | 5 | 0x84) | ("MQIsdp", 3 | 0x83) => Answer::Connack(0),
                ("MQIsdp", _) | (_, 0..=3 | 0x80..) => Answer::Connack(1),
                _ => Answer::Connack(0x84),
            };
            let what = format!("{name} of level {level}");
            table.first(version, what, "MQTT-3.1.2-2", packet(0x10, &fields), answer);
        }
    }
    for name in [
        "",
        "M",
        "mqtt",
        "MQTTT",
        "MQISDP",
        "MQTX",
        "AMQP",
        "MQTT\0",
        "\u{feff}MQTT",
    ] {
        let fields = body(&[&counted(name.as_bytes()), &[5, 2, 0, 0, 0], b"\x00\x01c"]);
        let what = format!("protocol {name:?}");
        table.first(
            version,
            what,
            "MQTT-3.1.2-1",
            packet(0x10, &fields),
            Answer::Closes,
        );
    }
}

/// All values of the flags, with the fields that they announce.
fn flags(table: &mut Table, version: Version) {
    let v5 = version == Version::V5;
    for flags in 0..=0xFF_u8 {
        let mut fields = head(version, flags);
        fields.extend(counted(b"offender"));
        let will = flags & 0x04 != 0;
        if will {
            fields.extend_from_slice(no_properties(version));
            fields.extend(counted(b"w"));
            fields.extend(counted(b"p"));
        }
        let (user, password) = (flags & 0x80 != 0, flags & 0x40 != 0);
        if user {
            fields.extend(counted(b"u"));
        }
        if password {
            fields.extend(counted(b"p"));
        }
        let bad = flags & 0x01 != 0 // [MQTT-3.1.2-3]
            || (!will && flags & 0x38 != 0) // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
            || flags & 0x18 == 0x18 // [MQTT-3.1.2-12]
            || (!v5 && password && !user); // 3.1.1 [MQTT-3.1.2-22]
        let answer = if bad {
            malformed(version)
        } else {
            Answer::Connack(0)
        };
        let what = format!("CONNECT flags {flags:#04x}");
        table.first(
            version,
            what,
            "MQTT-3.1.2-3, -11, -12, -13",
            packet(0x10, &fields),
            answer,
        );
        // The same without the last byte, and with one too many.
        let what = format!("CONNECT flags {flags:#04x}, a byte short");
        let short = &fields[..fields.len() - 1];
        table.first(
            version,
            what,
            "3.1.3",
            packet(0x10, short),
            malformed(version),
        );
        fields.push(0);
        let what = format!("CONNECT flags {flags:#04x}, a byte more");
        table.first(
            version,
            what,
            "3.1.3",
            packet(0x10, &fields),
            malformed(version),
        );
    }
}

fn cut(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let whole = body(&[
        &head(version, 0xC6),
        b"\x00\x02id",
        none,
        b"\x00\x01w\x00\x01p\x00\x02us\x00\x02pw",
    ]);
    let name = name_and_level(version).len();
    for length in 0..whole.len() {
        // MQTT 3.1: user name and password may be missing though there are flags for them.
        let is_missing = [whole.len() - 8, whole.len() - 4].contains(&length);
        let answer = if length < name {
            Answer::Closes
        } else if version == Version::V31 && is_missing {
            Answer::Connack(0)
        } else {
            malformed(version)
        };
        let what = format!("CONNECT cut at {length}");
        table.first(version, what, "3.1", packet(0x10, &whole[..length]), answer);
    }
    for claimed in [9_u16, 0xFF, 0x7FFF, 0xFFFF] {
        let fields = body(&[&head(version, 2), &claimed.to_be_bytes(), b"offender"]);
        let what = format!("a client id of {claimed} bytes, of which there are 8");
        table.first(
            version,
            what,
            "1.5.4",
            packet(0x10, &fields),
            malformed(version),
        );
    }
    // Large, and larger than a CONNECT may be before anybody knows who it is.
    let fields = body(&[&head(version, 2), &counted(&[b'a'; 5000])]);
    let what = "a CONNECT above the limit";
    let answer = match version {
        Version::V31 | Version::V311 => Answer::Closes,
        Version::V5 => Answer::Connack(0x95),
    };
    table.first(version, what, "4.13", packet(0x10, &fields), answer);
    for length in [&[0xFF, 0xFF, 0xFF, 0x7F][..], &[0xFF; 5], &[0x80; 5]] {
        let bytes = body(&[&[0x10], length]);
        table.first(version, "a huge CONNECT", "2.1.4", bytes, Answer::Closes);
    }
}

fn text(table: &mut Table, version: Version) {
    let none = no_properties(version);
    let rows = BAD_TEXT.iter().map(|row| (row, true));
    for ((what, text), bad) in rows.chain(ODD_TEXT.iter().map(|row| (row, false))) {
        let answer = if bad {
            malformed(version)
        } else {
            Answer::Connack(0)
        };
        let text = counted(text);
        for (place, fields) in [
            ("client id", body(&[&head(version, 2), &text])),
            (
                "will topic",
                body(&[&head(version, 6), b"\x00\x01c", none, &text, b"\x00\x00"]),
            ),
            (
                "user name",
                body(&[&head(version, 0x82), b"\x00\x01c", &text]),
            ),
        ] {
            let what = format!("{what} as {place}");
            table.first(
                version,
                what,
                "MQTT-3.1.3-4, -11, -12",
                packet(0x10, &fields),
                answer,
            );
        }
        // Payload and password are bytes.
        for fields in [
            body(&[&head(version, 6), b"\x00\x01c", none, b"\x00\x01w", &text]),
            body(&[&head(version, 0xC2), b"\x00\x01c\x00\x01u", &text]),
        ] {
            let what = format!("{what} as bytes");
            table.first(
                version,
                what,
                "3.1.3",
                packet(0x10, &fields),
                Answer::Connack(0),
            );
        }
    }
}

fn ids(table: &mut Table, version: Version) {
    let id_refused = Answer::Connack(2);
    let long = "a".repeat(24);
    let longest = "a".repeat(1000);
    for (id, clean, answers) in [
        (
            "",
            true,
            [id_refused, Answer::Connack(0), Answer::Connack(0)],
        ),
        ("", false, [id_refused, id_refused, Answer::Connack(0)]),
        (&long[..23], true, [Answer::Connack(0); 3]),
        (&*long, true, [Answer::Connack(0); 3]),
        (&*longest, true, [Answer::Connack(0); 3]),
        ("a/+#$\u{e9}", true, [Answer::Connack(0); 3]),
    ] {
        let answer = match version {
            Version::V31 => answers[0],
            Version::V311 => answers[1],
            Version::V5 => answers[2],
        };
        let fields = body(&[
            &head(version, u8::from(clean) << 1),
            &counted(id.as_bytes()),
        ]);
        let what = format!("a client id of {} bytes, clean {clean}", id.len());
        table.first(
            version,
            what,
            "MQTT-3.1.3-5 to -8",
            packet(0x10, &fields),
            answer,
        );
    }
}

fn will(table: &mut Table, version: Version) {
    let none = no_properties(version);
    for topic in ["", "#", "+", "a/#", "a/+/b", "$SYS/a", "$share/g/a"] {
        for flags in [0x06, 0x26, 0x0E, 0x36] {
            let topic = counted(topic.as_bytes());
            let fields = body(&[
                &head(version, flags),
                b"\x00\x01c",
                none,
                &topic,
                b"\x00\x01p",
            ]);
            let what = format!("will {flags:#04x} to {topic:02x?}");
            // On a topic of the broker it is not published, and nobody is refused for it.
            let answer = match &topic[2..] {
                [b'$', ..] => Answer::Connack(0),
                _ => refused(version, 0x90),
            };
            table.first(
                version,
                what,
                "MQTT-3.3.2-2, 4.7.3",
                packet(0x10, &fields),
                answer,
            );
        }
    }
}

/// Bytes behind a CONNECT wait for the CONNACK and are judged then.
fn behind(table: &mut Table, version: Version) {
    let good = packet(0x10, &body(&[&head(version, 2), b"\x00\x01c"]));
    for rest in [&[0xC0, 0x00][..], &[0x00], &[0xFF; 9], &good] {
        let bytes = body(&[&good, rest]);
        table.first(
            version,
            "something behind",
            "3.1.4",
            bytes,
            Answer::Connack(0),
        );
    }
}
