//! The bytes on the disk: they change only with the format version.

use super::*;
use crate::journal::codec;
use crate::model::entry::{Step, Unsettled};
use crate::model::ids::{BootTime, GroupNumber};
use crate::model::quota::HighWater;

const GOLDEN: &[u8] = include_bytes!("golden-v1.seg");

fn golden_entries() -> Vec<Vec<Entry>> {
    let properties = Entry::Message {
        message: Arc::new(Message::new(MessageParts {
            topic: "meters/7",
            payload: b"{\"kwh\":12}",
            properties: &[0x01, 0x01],
            qos: QoS::ExactlyOnce,
            retain: true,
            published_at: Timestamp(1_700_000_000_000),
            expires_at: Some(Timestamp(1_700_000_060_000)),
            publisher: SessionNumber(5),
        })),
        received: PacketId::new(513),
    };
    vec![
        vec![message("meters/7", b"on"), released(2), properties],
        vec![Entry::Liveness {
            at: Timestamp(1_700_000_000_001),
            boot: None,
        }],
        vec![Entry::HighWater(HighWater {
            units: 300,
            at: Timestamp(1_700_000_000_002),
        })],
        vec![message("meters/8", b"")],
    ]
}

/// The body of a stamp of the boot 0x0102..10, at its millisecond 300.
const STAMP: &str = "81d095ffbc31100f0e0d0c0b0a090807060504030201ac02";

#[test]
fn a_stamp_names_the_boot_of_the_machine() {
    let stamp = Entry::Liveness {
        at: Timestamp(1_700_000_000_001),
        boot: Some(BootTime {
            boot: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            millis: 300,
        }),
    };
    let mut body = Vec::new();
    codec::encode_state(&mut body, &stamp).unwrap();
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, STAMP);
    let mut journal = Journal::new();
    journal.commit(std::slice::from_ref(&stamp));
    assert_eq!(journal.entries()[0].1, stamp);
}

/// The body of session 5's `Dropped` of `a/+` at 300.
const DROPPED: &str = "02050f03612f2bac02";

#[test]
fn a_delivery_is_written_as_version_1_did_unless_an_identifier_is_noted() {
    let sent = |id| Unsettled {
        packet_id: PacketId::new(7).unwrap(),
        offset: Offset(300),
        qos: QoS::ExactlyOnce,
        retain: false,
        replay: true,
        lease: Some(GroupNumber(9)),
        id,
        step: Step::Published,
    };
    for (id, golden) in [
        (None, "01050707ac02020001010900"),
        (Some(3), "02050707ac0202000103090300"),
    ] {
        let entry = Entry::change(SessionNumber(5), Change::Sent(sent(id)));
        let mut body = Vec::new();
        codec::encode_state(&mut body, &entry).unwrap();
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        let mut journal = Journal::new();
        journal.commit(std::slice::from_ref(&entry));
        assert_eq!(journal.entries()[0].1, entry);
    }
}

#[test]
fn a_change_that_version_1_did_not_know_says_version_2() {
    let dropped = Entry::change(
        SessionNumber(5),
        Change::Dropped {
            filter: Filter::new("a/+").unwrap(),
            until: Offset(300),
        },
    );
    let mut body = Vec::new();
    codec::encode_state(&mut body, &dropped).unwrap();
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, DROPPED);
    let mut journal = Journal::new();
    journal.commit(std::slice::from_ref(&dropped));
    assert_eq!(journal.entries()[0].1, dropped);
}

#[test]
fn the_format_is_the_one_that_was_published() {
    let mut journal = Journal::new();
    for batch in golden_entries() {
        journal.commit(&batch);
    }
    let bytes = journal.files.bytes("000000000001.seg").unwrap();
    assert_eq!(
        bytes, GOLDEN,
        "the format changed: raise its version and keep the old file readable"
    );
}

#[test]
fn a_segment_of_format_version_1_can_be_read() {
    let files = MemoryFiles::new();
    files.plant("000000000001.seg", GOLDEN);
    let journal = Journal::open(files, OPTIONS, 2);
    let expected: Vec<_> = golden_entries().into_iter().flatten().collect();
    let found = journal.entries();
    assert_eq!(found[0].0, Offset(1 << 40));
    let found: Vec<_> = found.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(found, expected);
}
