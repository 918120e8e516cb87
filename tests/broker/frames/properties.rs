//! Every property in every packet of 5.0: alone, twice, cut, and where it does not belong.

use super::fields::{BAD_TEXT, ODD_TEXT};
use super::{Answer, PROTOCOL, Table, body};
use crate::wire::{Version, counted, packet, variable};

/// Where a block of properties stands.
const PLACES: [Place; 10] = [
    Place::Connect,
    Place::Will,
    Place::Publish,
    Place::Ack(0x40),
    Place::Ack(0x50),
    Place::Ack(0x62),
    Place::Ack(0x70),
    Place::Subscribe,
    Place::Unsubscribe,
    Place::Disconnect,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    Ack(u8),
    Subscribe,
    Unsubscribe,
    Disconnect,
}

/// Identifier, a value, and where a client may send it.
type Property = (u8, Vec<u8>, fn(Place) -> bool);

/// Table 2-4.
fn known() -> Vec<Property> {
    use Place::{Ack, Connect, Disconnect, Publish, Subscribe, Will};
    let message = |place| matches!(place, Publish | Will);
    let nowhere = |_| false;
    let connect = |place| place == Connect;
    let long = vec![0, 0, 0, 1];
    vec![
        (0x01, vec![1], message),
        (0x02, long.clone(), message),
        (0x03, counted(b"text"), message),
        (0x08, counted(b"a/b"), message),
        (0x09, counted(&[0, 0xFF]), message),
        (0x0B, vec![7], |place| matches!(place, Publish | Subscribe)),
        (0x11, vec![0; 4], |place| {
            matches!(place, Connect | Disconnect)
        }),
        (0x12, counted(b"id"), nowhere),
        (0x13, vec![0, 9], nowhere),
        (0x15, counted(b"method"), connect),
        (0x16, counted(b"data"), connect),
        (0x17, vec![1], connect),
        (0x18, long.clone(), |place| place == Will),
        (0x19, vec![1], connect),
        (0x1A, counted(b"info"), nowhere),
        (0x1C, counted(b"server"), |place| place == Disconnect),
        (0x1F, counted(b"reason"), |place| {
            matches!(place, Ack(_) | Disconnect)
        }),
        (0x21, vec![0, 9], connect),
        (0x22, vec![0, 9], connect),
        (0x23, vec![0, 9], |place| place == Publish),
        (0x24, vec![1], nowhere),
        (0x25, vec![1], nowhere),
        (0x26, [counted(b"k"), counted(b"v")].concat(), |_| true),
        (0x27, vec![0, 0, 4, 0], connect),
        (0x28, vec![1], nowhere),
        (0x29, vec![1], nowhere),
        (0x2A, vec![1], nowhere),
    ]
}

pub(super) fn table() -> Table {
    let mut table = Table::default();
    for place in PLACES {
        for (id, value, allows) in known() {
            matrix(&mut table, place, id, &value, allows(place));
        }
        for id in [
            0x00, 0x04, 0x0A, 0x0C, 0x14, 0x1B, 0x20, 0x2B, 0x3F, 0x40, 0x7F, 0x80, 0xFF,
        ] {
            let what = format!("unknown property {id:#04x}");
            add(
                &mut table,
                place,
                what,
                "2.2.2.2",
                &[id, 0, 1, 1, 1],
                malformed(place),
            );
        }
    }
    values(&mut table);
    text(&mut table);
    aliases(&mut table);
    table
}

fn matrix(table: &mut Table, place: Place, id: u8, value: &[u8], allowed: bool) {
    let one = body(&[&[id], value]);
    let (single, clause) = match (place, id, allowed) {
        (_, _, false) => (malformed(place), "2.2.2.2"),
        (Place::Connect, 0x15, _) => (Answer::Connack(0x8C), "4.12"),
        (Place::Connect, 0x16, _) => (refused(place, 0x82), "3.1.2.11.10"),
        (Place::Publish, 0x0B, _) => (PROTOCOL, "MQTT-3.3.4-6"),
        (Place::Disconnect, 0x1C, _) => (PROTOCOL, "3.14.2.2.5"),
        _ => (taken(place), "2.2.2.2"),
    };
    add(
        table,
        place,
        format!("property {id:#04x}"),
        clause,
        &one,
        single,
    );
    let twice = match (allowed, id) {
        (false, _) => malformed(place),
        (true, 0x26) => taken(place),
        (true, _) => refused(place, 0x82),
    };
    let what = format!("property {id:#04x} twice");
    add(
        table,
        place,
        what,
        "2.2.2.2",
        &[&one[..], &one].concat(),
        twice,
    );
    for cut in 1..one.len() {
        let what = format!("property {id:#04x} cut at {cut}");
        add(table, place, what, "2.2.2", &one[..cut], malformed(place));
    }
}

/// Values that are none.
fn values(table: &mut Table) {
    use Place::{Connect, Disconnect, Publish, Subscribe, Will};
    for (place, what, clause, block, code) in [
        (
            Connect,
            "receive maximum 0",
            "3.1.2.11.3",
            &b"\x21\x00\x00"[..],
            0x82,
        ),
        (
            Connect,
            "packet size 0",
            "3.1.2.11.4",
            b"\x27\x00\x00\x00\x00",
            0x82,
        ),
        (
            Connect,
            "request response 2",
            "3.1.2.11.6",
            b"\x19\x02",
            0x82,
        ),
        (
            Connect,
            "request problem 2",
            "3.1.2.11.7",
            b"\x17\xff",
            0x82,
        ),
        (
            Connect,
            "data before method",
            "4.12",
            b"\x16\x00\x01d\x15\x00\x01m",
            0x8C,
        ),
        (Will, "payload format 2", "3.1.3.2.3", b"\x01\x02", 0x82),
        (
            Will,
            "wildcard in response topic",
            "MQTT-3.3.2-14",
            b"\x08\x00\x01#",
            0x82,
        ),
        (Publish, "payload format 2", "3.3.2.3.2", b"\x01\x02", 0x82),
        (
            Publish,
            "wildcard in response topic",
            "MQTT-3.3.2-14",
            b"\x08\x00\x01+",
            0x82,
        ),
        (
            Publish,
            "empty response topic",
            "4.7.3",
            b"\x08\x00\x00",
            0x82,
        ),
        (Publish, "alias 0", "MQTT-3.3.2-8", b"\x23\x00\x00", 0x94),
        (
            Publish,
            "alias above the maximum",
            "MQTT-3.3.2-9",
            b"\x23\x00\x11",
            0x94,
        ),
        (
            Publish,
            "the largest alias",
            "MQTT-3.3.2-9",
            b"\x23\xff\xff",
            0x94,
        ),
        (Subscribe, "identifier 0", "3.8.2.1.2", b"\x0b\x00", 0x82),
        (
            Subscribe,
            "identifier of five bytes",
            "1.5.5",
            b"\x0b\xff\xff\xff\xff\x01",
            0x81,
        ),
        (
            Subscribe,
            "padded identifier",
            "MQTT-1.5.5-1",
            b"\x0b\x81\x00",
            0x81,
        ),
        (
            Disconnect,
            "expiry where there was none",
            "3.14.2.2.2",
            b"\x11\x00\x00\x00\x01",
            0x82,
        ),
    ] {
        add(
            table,
            place,
            what.to_owned(),
            clause,
            block,
            refused(place, code),
        );
    }
    for (place, what, block) in [
        (Connect, "receive maximum 1", &b"\x21\x00\x01"[..]),
        (Connect, "a small packet size", b"\x27\x00\x00\x00\x20"),
        (Connect, "the longest expiry", b"\x11\xff\xff\xff\xff"),
        (Publish, "message expiry 0", b"\x02\x00\x00\x00\x00"),
        (
            Publish,
            "the longest message expiry",
            b"\x02\xff\xff\xff\xff",
        ),
        (Publish, "empty content type", b"\x03\x00\x00"),
        (Publish, "empty correlation data", b"\x09\x00\x00"),
        (Publish, "the largest alias allowed", b"\x23\x00\x10"),
        (Publish, "an empty user property", b"\x26\x00\x00\x00\x00"),
        (Will, "message expiry 0", b"\x02\x00\x00\x00\x00"),
        (Will, "the longest delay", b"\x18\xff\xff\xff\xff"),
        (Subscribe, "the largest identifier", b"\x0b\xff\xff\xff\x7f"),
        (Subscribe, "identifier 128", b"\x0b\x80\x01"),
    ] {
        add(
            table,
            place,
            what.to_owned(),
            "2.2.2.2",
            block,
            taken(place),
        );
    }
}

fn text(table: &mut Table) {
    let rows = BAD_TEXT.iter().map(|row| (row, true));
    for ((what, text), bad) in rows.chain(ODD_TEXT.iter().map(|row| (row, false))) {
        for place in PLACES {
            let block = body(&[&[0x26], &counted(b"k"), &counted(text)]);
            let answer = if bad { malformed(place) } else { taken(place) };
            let clause = "MQTT-1.5.7-1";
            add(
                table,
                place,
                format!("{what} in a value"),
                clause,
                &block,
                answer,
            );
            let block = body(&[&[0x26], &counted(text), &counted(b"v")]);
            add(
                table,
                place,
                format!("{what} in a key"),
                clause,
                &block,
                answer,
            );
        }
        for id in [0x03, 0x08] {
            let block = body(&[&[id], &counted(text)]);
            for place in [Place::Publish, Place::Will] {
                let answer = if bad { malformed(place) } else { taken(place) };
                let what = format!("{what} in property {id:#04x}");
                add(table, place, what, "MQTT-3.3.2-13, -19", &block, answer);
            }
        }
        for place in [Place::Ack(0x40), Place::Ack(0x62), Place::Disconnect] {
            let answer = if bad { malformed(place) } else { taken(place) };
            let block = body(&[&[0x1F], &counted(text)]);
            add(
                table,
                place,
                format!("{what} in a reason"),
                "1.5.4",
                &block,
                answer,
            );
        }
    }
}

/// Aliases of one connection, one packet after the other.
fn aliases(table: &mut Table) {
    let publish = |topic: &str, alias: u16| {
        let alias = alias.to_be_bytes();
        packet(
            0x30,
            &body(&[&counted(topic.as_bytes()), &[3, 0x23], &alias]),
        )
    };
    let version = Version::V5;
    let rows = [
        (
            "an alias that was never set",
            vec![publish("", 1)],
            PROTOCOL,
        ),
        (
            "another alias",
            vec![publish("a", 1), publish("", 2)],
            PROTOCOL,
        ),
        (
            "an alias",
            vec![publish("a", 16), publish("", 16)],
            Answer::Taken,
        ),
        (
            "an alias set anew",
            vec![publish("a", 1), publish("b", 1)],
            Answer::Taken,
        ),
        (
            "an alias for a wildcard",
            vec![publish("#", 1)],
            Answer::Ends(0x90),
        ),
    ];
    for (what, packets, answer) in rows {
        table.open(version, what, "3.3.2.3.4", packets.concat(), answer);
    }
}

fn taken(place: Place) -> Answer {
    match place {
        Place::Connect | Place::Will => Answer::Connack(0),
        Place::Disconnect => Answer::Closes,
        Place::Publish | Place::Ack(_) | Place::Subscribe | Place::Unsubscribe => Answer::Taken,
    }
}

fn refused(place: Place, code: u8) -> Answer {
    match place {
        Place::Connect | Place::Will => Answer::Connack(code),
        Place::Publish
        | Place::Ack(_)
        | Place::Subscribe
        | Place::Unsubscribe
        | Place::Disconnect => Answer::Ends(code),
    }
}

fn malformed(place: Place) -> Answer {
    refused(place, 0x81)
}

/// A packet with this block, which is good otherwise.
fn add(
    table: &mut Table,
    place: Place,
    what: String,
    clause: &'static str,
    block: &[u8],
    answer: Answer,
) {
    let block = [&variable(block.len())[..], block].concat();
    let version = Version::V5;
    let what = format!("{what} in {place:?}");
    let start = |flags| body(&[&counted(b"MQTT"), &[5, flags, 0, 0]]);
    match place {
        Place::Connect => {
            let bytes = packet(0x10, &body(&[&start(2), &block, b"\x00\x08offender"]));
            table.first(version, what, clause, bytes, answer);
        }
        Place::Will => {
            let will = [&block[..], b"\x00\x01w\x00\x01p"].concat();
            let bytes = packet(0x10, &body(&[&start(6), &[0], b"\x00\x08offender", &will]));
            table.first(version, what, clause, bytes, answer);
        }
        Place::Publish => {
            let bytes = packet(0x30, &body(&[b"\x00\x01a", &block, b"payload"]));
            table.open(version, what, clause, bytes, answer);
        }
        Place::Ack(first) => {
            let bytes = packet(first, &body(&[&[0, 9, 0], &block]));
            table.open(version, what, clause, bytes, answer);
        }
        Place::Subscribe => {
            let bytes = packet(0x82, &body(&[&[0, 9], &block, b"\x00\x01a\x00"]));
            table.open(version, what, clause, bytes, answer);
        }
        Place::Unsubscribe => {
            let bytes = packet(0xA2, &body(&[&[0, 9], &block, b"\x00\x01a"]));
            table.open(version, what, clause, bytes, answer);
        }
        Place::Disconnect => {
            let bytes = packet(0xE0, &body(&[&[0], &block]));
            table.open(version, what, clause, bytes, answer);
        }
    }
}
