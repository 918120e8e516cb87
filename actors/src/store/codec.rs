//! How values lie in the store: one version byte, a CRC-32C, then the value in postcard.
//!
//! Owns: the value format. Does not know: files, tables.
//!
//! Invariants:
//! - the checksum covers the key, the version and the body: a value under another key is as damaged as a flipped bit;
//! - a change of the shape of [`SessionSnapshot`], [`GroupSnapshot`] or of what they hold is a new [`SESSION_VERSION`]; every version ever written
//!   has a golden test.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Marks;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::quota::HighWater;
use crate::model::snapshot::SessionSnapshot;

/// The version of sessions that is written. Version 1 ended before the past subscriptions.
pub const SESSION_VERSION: u8 = 2;

/// The version of groups that is written.
pub const GROUP_VERSION: u8 = 1;

/// The version of marks that is written. Version 1 did not say how far the journal reached.
const MARKS_VERSION: u8 = 2;

/// An empty list of past subscriptions: what version 1 of a session lacks at its end.
const NO_PAST: &[u8] = &[0];

const HEADER_BYTES: usize = 5;

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Shorter than any value.
    #[error("it is cut off at {bytes} bytes")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// Written by a newer outlive, or no version at all.
    #[error("it has version {found}, which this outlive does not read")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, but the body is no such value.
    #[error("its body is no valid value")]
    Body,
}

/// Appends a session's value to `out`.
///
/// # Errors
/// [`CodecError::Body`] if the snapshot cannot be expressed, which no snapshot is known to cause.
pub fn encode_session(snapshot: &SessionSnapshot, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode(
        &snapshot.number.0.to_le_bytes(),
        SESSION_VERSION,
        snapshot,
        out,
    )
}

/// Reads a session's value.
///
/// # Errors
/// [`CodecError`]; a snapshot of another session under this number is a checksum or body error.
pub fn decode_session(number: SessionNumber, bytes: &[u8]) -> Result<SessionSnapshot, CodecError> {
    let key = number.0.to_le_bytes();
    let snapshot: SessionSnapshot = match bytes.first() {
        Some(1) => decode_with(&key, 1, bytes, NO_PAST),
        Some(_) | None => decode(&key, SESSION_VERSION, bytes),
    }?;
    if snapshot.number == number {
        Ok(snapshot)
    } else {
        Err(CodecError::Body)
    }
}

/// Appends a group's value to `out`.
///
/// # Errors
/// [`CodecError::Body`] if the snapshot cannot be expressed, which no snapshot is known to cause.
pub fn encode_group(snapshot: &GroupSnapshot, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode(&group_key(snapshot.number), GROUP_VERSION, snapshot, out)
}

/// Reads a group's value.
///
/// # Errors
/// [`CodecError`]; a snapshot of another group under this number is a checksum or body error.
pub fn decode_group(number: GroupNumber, bytes: &[u8]) -> Result<GroupSnapshot, CodecError> {
    let snapshot: GroupSnapshot = decode(&group_key(number), GROUP_VERSION, bytes)?;
    if snapshot.number == number {
        Ok(snapshot)
    } else {
        Err(CodecError::Body)
    }
}

/// A group's value under a session's number is none.
fn group_key(number: GroupNumber) -> [u8; 9] {
    let mut key = [b'g'; 9];
    key[1..].copy_from_slice(&number.0.to_le_bytes());
    key
}

/// Appends the marks' value to `out`.
///
/// # Errors
/// [`CodecError::Body`], which no marks are known to cause.
pub fn encode_marks(marks: &Marks, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode(b"marks", MARKS_VERSION, marks, out)
}

/// Reads the marks' value.
///
/// # Errors
/// [`CodecError`].
pub fn decode_marks(bytes: &[u8]) -> Result<Marks, CodecError> {
    match bytes.first() {
        Some(1) => decode::<MarksV1>(b"marks", 1, bytes).map(Marks::from),
        Some(_) | None => decode(b"marks", MARKS_VERSION, bytes),
    }
}

/// The marks of version 1.
#[derive(Deserialize)]
struct MarksV1 {
    covers: Offset,
    epoch: u32,
    alive_at: Timestamp,
    high_water: HighWater,
}

impl From<MarksV1> for Marks {
    fn from(marks: MarksV1) -> Self {
        let covers = marks.covers;
        Self {
            covers,
            epoch: marks.epoch,
            alive_at: marks.alive_at,
            high_water: marks.high_water,
            stamp: None,
            // At the begin of a boot epoch it is not known where the one before ended.
            holds: if covers.is_first_of_epoch() {
                Offset(0)
            } else {
                covers
            },
        }
    }
}

fn encode<T: Serialize>(
    key: &[u8],
    version: u8,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[version, 0, 0, 0, 0]);
    // postcard writes by value into the vector and gives it back.
    *out = postcard::to_extend(value, std::mem::take(out)).map_err(|_| CodecError::Body)?;
    let crc = checksum(key, version, &out[start + HEADER_BYTES..]);
    out[start + 1..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn decode<T: DeserializeOwned>(key: &[u8], version: u8, bytes: &[u8]) -> Result<T, CodecError> {
    decode_with(key, version, bytes, &[])
}

/// As [`decode`], for a value that goes on with `rest`, which its version did not write.
fn decode_with<T: DeserializeOwned>(
    key: &[u8],
    version: u8,
    bytes: &[u8],
    rest: &[u8],
) -> Result<T, CodecError> {
    let Some((&[found, a, b, c, d], body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CodecError::Short { bytes: bytes.len() });
    };
    if found != version {
        return Err(CodecError::Version { found });
    }
    if checksum(key, version, body) != u32::from_le_bytes([a, b, c, d]) {
        return Err(CodecError::Checksum);
    }
    let whole = [body, rest].concat();
    match postcard::take_from_bytes(&whole) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(CodecError::Body),
    }
}

fn checksum(key: &[u8], version: u8, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &[version]);
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests;
