//! The golden bytes of every version, and what damage looks like.

use super::*;
use crate::model::ids::{BootTime, Offset, Stamp, Timestamp};
use crate::model::past::Past;
use crate::model::quota::HighWater;
use crate::store::fixtures::{full_group, full_snapshot};

/// [`full_snapshot`] number 7 as version 1 wrote it.
const SESSION_V1: &str = "\
    01d49fc84107076d657465722d37056f776e65720e3132372e302e302e313a31383833e80701648380808070e80701d00f01\
    0477696c6c0004676f6e6502000500011e013c0305612f2b2f230101010001ffffff7f2d01620000010101ffffff7f2d0a24\
    73686172652f672f630200010201ffffff7f2d0105612f2b2f232d0103612f62fa010a030764010000000008c80102010100\
    0109ac0202000000020201ffff03f403d804";

/// [`full_snapshot`] number 7 as version 2 wrote it.
const SESSION_V2: &str = "\
    0291e7e6e907076d657465722d37056f776e65720e3132372e302e302e313a31383833e80701648380808070e80701d00f01\
    0477696c6c0004676f6e6502000500011e013c0305612f2b2f230101010001ffffff7f2d01620000010101ffffff7f2d0a24\
    73686172652f672f630200010201ffffff7f2d0105612f2b2f232d0103612f62fa010a030764010000000008c80102010100\
    0109ac0202000000020201ffff03f403d8040205612f2b2f230101010001ffffff7f282d0001640101010001ffffff7f28ce\
    0401";

/// [`full_group`] number 7 as version 1 wrote it.
const GROUP_V1: &str = "01220ab3bf070c2473686172652f672f612f2bf40302ac02900301f5038004";

/// The marks {covers: 1000, epoch: 3, alive_at: 123456789, high_water: {300, 123456788}} as version 1 wrote them.
const MARKS_V1: &str = "01c6d66585e80703959aef3aac02949aef3a";

/// The same with {holds: 990, stamp: {123456787, {0x123456789abcdef0, 40000}}} as version 2 wrote them.
const MARKS_V2: &str = "0229c13e1ae80703959aef3aac02949aef3ade0701939aef3af0bdf3d589cf959a12c0b802";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn encoded() -> Vec<u8> {
    let mut out = Vec::new();
    encode_session(&full_snapshot(7), &mut out).unwrap();
    out
}

fn marks() -> Marks {
    Marks {
        covers: Offset(1000),
        epoch: 3,
        alive_at: Timestamp(123_456_789),
        high_water: HighWater {
            units: 300,
            at: Timestamp(123_456_788),
        },
        holds: Offset(990),
        stamp: Some(Stamp {
            at: Timestamp(123_456_787),
            boot: BootTime {
                boot: 0x1234_5678_9abc_def0,
                millis: 40_000,
            },
        }),
    }
}

#[test]
fn version_2_of_a_session_is_written_and_read_as_ever() {
    assert_eq!(hex(&encoded()), SESSION_V2);
    let read = decode_session(SessionNumber(7), &bytes(SESSION_V2));
    assert_eq!(read, Ok(full_snapshot(7)));
}

#[test]
fn version_1_of_a_session_is_read_and_knew_nothing_of_past_subscriptions() {
    let read = decode_session(SessionNumber(7), &bytes(SESSION_V1));
    let without = SessionSnapshot {
        past: Past::EMPTY,
        ..full_snapshot(7)
    };
    assert_eq!(read, Ok(without));
}

#[test]
fn version_1_of_a_group_is_written_and_read_as_ever() {
    let mut out = Vec::new();
    encode_group(&full_group(7), &mut out).unwrap();
    assert_eq!(hex(&out), GROUP_V1);
    let read = decode_group(GroupNumber(7), &bytes(GROUP_V1));
    assert_eq!(read, Ok(full_group(7)));
    assert_eq!(
        decode_session(SessionNumber(7), &bytes(GROUP_V1)),
        Err(CodecError::Checksum),
        "a group is no session of the same number"
    );
}

#[test]
fn version_2_of_the_marks_is_written_and_read_as_ever() {
    let mut out = Vec::new();
    encode_marks(&marks(), &mut out).unwrap();
    assert_eq!(hex(&out), MARKS_V2);
    assert_eq!(decode_marks(&bytes(MARKS_V2)), Ok(marks()));
}

#[test]
fn version_1_of_the_marks_is_read_and_the_journal_reached_what_they_cover() {
    let read = decode_marks(&bytes(MARKS_V1));
    assert_eq!(
        read,
        Ok(Marks {
            holds: Offset(1000),
            stamp: None,
            ..marks()
        })
    );
}

#[test]
fn what_is_appended_does_not_disturb_what_is_there() {
    let mut out = vec![1, 2, 3];
    encode_session(&full_snapshot(7), &mut out).unwrap();
    assert_eq!(out[..3], [1, 2, 3]);
    assert_eq!(out[3..], encoded());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let whole = encoded();
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let expected = match at / 8 {
            0 => CodecError::Version { found: flipped[0] },
            _ => CodecError::Checksum,
        };
        assert_eq!(decode_session(SessionNumber(7), &flipped), Err(expected));
    }
}

#[test]
fn a_value_that_is_cut_off_or_too_long_is_noticed() {
    let whole = encoded();
    for end in 0..whole.len() {
        assert!(decode_session(SessionNumber(7), &whole[..end]).is_err());
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(decode_session(SessionNumber(7), &longer).is_err());
}

#[test]
fn a_value_under_another_key_is_noticed() {
    assert_eq!(
        decode_session(SessionNumber(8), &encoded()),
        Err(CodecError::Checksum)
    );
}

#[test]
fn a_body_with_a_right_checksum_that_is_no_value_is_noticed() {
    let body = [0xff_u8; 12];
    let crc = checksum(&7_u64.to_le_bytes(), SESSION_VERSION, &body);
    let mut value = vec![SESSION_VERSION];
    value.extend_from_slice(&crc.to_le_bytes());
    value.extend_from_slice(&body);
    assert_eq!(
        decode_session(SessionNumber(7), &value),
        Err(CodecError::Body)
    );
}
