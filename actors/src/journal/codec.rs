//! The bytes of one record.
//!
//! Owns: encoding and decoding of entries and topic definitions (drawn in `docs/adr/0002`). Does not know: files,
//! segments, who reads.
//!
//! Invariants:
//! - decoding never panics, whatever the bytes;
//! - a version that this one does not know is refused, never guessed.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::entry::{Change, Entry, GroupChange};
use crate::model::ids::{BootTime, GroupNumber, PacketId, SessionNumber, Timestamp};
use crate::model::message::{Message, MessageParts, QoS};
use crate::model::quota::HighWater;

/// Length, checksum, relative offset, kind.
pub(super) const RECORD_HEADER_BYTES: usize = 13;
/// No record's body is longer; a larger length is damage.
pub(super) const BODY_BYTES_MAX: u32 = 1 << 29;

/// On the last record of a batch: a tail that does not end in one was never confirmed.
pub(super) const BATCH_END: u8 = 0x80;
/// On the first record of a batch: all that lies before it in the segment had been synced when it was written.
pub(super) const SYNCED_BEFORE: u8 = 0x40;
const KIND_MASK: u8 = 0x3f;

/// The version of most changes.
const CHANGE_VERSION: u8 = 1;
/// The version of changes that version 1 could not express.
const CHANGE_VERSION_LATER: u8 = 2;

const QOS_MASK: u8 = 0x03;
const RETAIN: u8 = 0x04;
const EXPIRES: u8 = 0x08;
const RECEIVED: u8 = 0x10;
const PROPERTIES: u8 = 0x20;
/// For what nobody thought of.
const UNKNOWN_FLAGS: u8 = 0xc0;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A topic that later messages of the segment refer to by this record's position; has no offset of its own.
    Topic = 1,
    /// A publication.
    Message = 2,
    /// A change of a session.
    Session = 3,
    /// A liveness stamp.
    Liveness = 4,
    /// A new high-water mark of the quota.
    HighWater = 5,
    /// A change of a group.
    Group = 6,
}

/// A record whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// Offset relative to the segment's first.
    pub(super) relative: u32,
    pub(super) body: &'a [u8],
}

impl RawRecord<'_> {
    /// Bytes of the record with its header.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bodies are at most BODY_BYTES_MAX"
    )]
    pub(super) fn size(&self) -> u32 {
        (RECORD_HEADER_BYTES + self.body.len()) as u32
    }
}

/// What the bytes at a position are.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// A whole record.
    Record(RawRecord<'a>),
    /// The record goes on behind these bytes.
    Incomplete,
    /// No record.
    Invalid(&'static str),
}

/// Reads the record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8], salt: u32) -> Parsed<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
        return Parsed::Incomplete;
    };
    let [
        l0,
        l1,
        l2,
        l3,
        c0,
        c1,
        c2,
        c3,
        r0,
        r1,
        r2,
        r3,
        kind_and_flags,
    ] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let kind = match kind_and_flags & KIND_MASK {
        1 => Kind::Topic,
        2 => Kind::Message,
        3 => Kind::Session,
        4 => Kind::Liveness,
        5 => Kind::HighWater,
        6 => Kind::Group,
        _ => return Parsed::Invalid("record of an unknown kind"),
    };
    if length > BODY_BYTES_MAX {
        return Parsed::Invalid("record length out of bounds");
    }
    let Some(body) = rest.get(..length as usize) else {
        return Parsed::Incomplete;
    };
    if checksum(salt, header, body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Parsed::Invalid("record does not match its checksum");
    }
    Parsed::Record(RawRecord {
        kind,
        flags: kind_and_flags & !KIND_MASK,
        relative: u32::from_le_bytes([r0, r1, r2, r3]),
        body,
    })
}

fn checksum(salt: u32, header: &[u8; RECORD_HEADER_BYTES], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt, &header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    crc32c::crc32c_append(crc, body)
}

/// Leaves room for a record's header; gives the place for [`finish`].
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    start
}

/// Fills in the header of the record that [`begin`] opened at `start` and that ends where `out` ends.
///
/// # Errors
/// The body is longer than [`BODY_BYTES_MAX`].
pub(super) fn finish(
    out: &mut [u8],
    start: usize,
    salt: u32,
    relative: u32,
    kind: Kind,
    flags: u8,
) -> Result<(), EncodeError> {
    let Some((header, body)) = out[start..].split_first_chunk_mut::<RECORD_HEADER_BYTES>() else {
        return Err(EncodeError);
    };
    let length = u32::try_from(body.len()).map_err(|_| EncodeError)?;
    if length > BODY_BYTES_MAX {
        return Err(EncodeError);
    }
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&relative.to_le_bytes());
    header[12] = kind as u8 | flags;
    let crc = checksum(salt, header, body);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// An entry that does not fit a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodeError;

/// Appends a message's body; its topic is defined at `topic_at`.
pub(super) fn encode_message(
    out: &mut Vec<u8>,
    message: &Message,
    received: Option<PacketId>,
    topic_at: u32,
) {
    let mut flags = message.qos.level();
    flags |= if message.retain { RETAIN } else { 0 };
    flags |= message.expires_at.map_or(0, |_| EXPIRES);
    flags |= received.map_or(0, |_| RECEIVED);
    let properties = message.properties();
    flags |= if properties.is_empty() { 0 } else { PROPERTIES };
    out.push(flags);
    put_varint(out, message.published_at.0);
    if let Some(at) = message.expires_at {
        put_varint(out, at.0);
    }
    put_varint(out, message.publisher.0);
    if let Some(packet_id) = received {
        out.extend_from_slice(&packet_id.get().to_le_bytes());
    }
    put_varint(out, u64::from(topic_at));
    if !properties.is_empty() {
        put_varint(out, properties.len() as u64);
        out.extend_from_slice(properties);
    }
    out.extend_from_slice(message.payload());
}

/// Appends the body of an entry that is no message; gives its kind, or `None` for a message.
///
/// # Errors
/// The change cannot be serialized.
pub(super) fn encode_state(out: &mut Vec<u8>, entry: &Entry) -> Result<Option<Kind>, EncodeError> {
    match entry {
        Entry::Message { .. } => Ok(None),
        Entry::Session { session, change } => {
            encode_change(out, version_of(change), session.0, change.as_ref())?;
            Ok(Some(Kind::Session))
        }
        Entry::Group { group, change } => {
            encode_change(out, CHANGE_VERSION, group.0, change.as_ref())?;
            Ok(Some(Kind::Group))
        }
        Entry::Liveness { at, boot } => {
            put_varint(out, at.0);
            if let Some(boot) = boot {
                out.extend(boot.boot.to_le_bytes());
                put_varint(out, boot.millis);
            }
            Ok(Some(Kind::Liveness))
        }
        Entry::HighWater(mark) => {
            put_varint(out, mark.units);
            put_varint(out, mark.at.0);
            Ok(Some(Kind::HighWater))
        }
    }
}

/// A build that cannot read a change must refuse it by its version.
fn version_of(change: &Change) -> u8 {
    let noted = change.sent().iter().any(|sent| sent.id.is_some());
    if noted || matches!(change, Change::Dropped { .. }) {
        CHANGE_VERSION_LATER
    } else {
        CHANGE_VERSION
    }
}

fn encode_change<T: Serialize>(
    out: &mut Vec<u8>,
    version: u8,
    whose: u64,
    change: &T,
) -> Result<(), EncodeError> {
    out.push(version);
    put_varint(out, whose);
    // `to_extend` keeps what the buffer holds and gives it back.
    *out = postcard::to_extend(change, std::mem::take(out)).map_err(|_| EncodeError)?;
    Ok(())
}

/// A message's body, taken apart but not copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageBody<'a> {
    pub(super) qos: QoS,
    retain: bool,
    published_at: Timestamp,
    expires_at: Option<Timestamp>,
    publisher: SessionNumber,
    pub(super) received: Option<PacketId>,
    /// Where in the segment the topic is defined.
    pub(super) topic_at: u32,
    properties: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> MessageBody<'a> {
    /// `None` if the bytes are no message body of this version.
    pub(super) fn decode(body: &'a [u8]) -> Option<Self> {
        let mut input = body;
        let (&flags, rest) = input.split_first()?;
        input = rest;
        if flags & UNKNOWN_FLAGS != 0 {
            return None;
        }
        let qos = QoS::from_level(flags & QOS_MASK)?;
        let published_at = Timestamp(take_varint(&mut input)?);
        let expires_at = match flags & EXPIRES {
            0 => None,
            _ => Some(Timestamp(take_varint(&mut input)?)),
        };
        let publisher = SessionNumber(take_varint(&mut input)?);
        let received = match flags & RECEIVED {
            0 => None,
            _ => {
                let (number, rest) = input.split_first_chunk::<2>()?;
                input = rest;
                Some(PacketId::new(u16::from_le_bytes(*number))?)
            }
        };
        let topic_at = u32::try_from(take_varint(&mut input)?).ok()?;
        let properties_bytes = match flags & PROPERTIES {
            0 => 0,
            _ => usize::try_from(take_varint(&mut input)?).ok()?,
        };
        let (properties, payload) = input.split_at_checked(properties_bytes)?;
        Some(Self {
            qos,
            retain: flags & RETAIN != 0,
            published_at,
            expires_at,
            publisher,
            received,
            topic_at,
            properties,
            payload,
        })
    }

    /// Copies it into a message.
    pub(super) fn to_message(self, topic: &str) -> Arc<Message> {
        Arc::new(Message::new(MessageParts {
            topic,
            payload: self.payload,
            properties: self.properties,
            qos: self.qos,
            retain: self.retain,
            published_at: self.published_at,
            expires_at: self.expires_at,
            publisher: self.publisher,
        }))
    }
}

/// Decodes a record that is neither a message nor a topic; `None` if it is none of this version.
pub(super) fn decode_state(record: &RawRecord<'_>) -> Option<Entry> {
    let mut input = record.body;
    match record.kind {
        Kind::Topic | Kind::Message => None,
        Kind::Session => {
            let (number, change) = decode_change::<Change>(input)?;
            Some(Entry::change(SessionNumber(number), change))
        }
        Kind::Group => {
            let (number, change) = decode_change::<GroupChange>(input)?;
            Some(Entry::group(GroupNumber(number), change))
        }
        Kind::Liveness => {
            let at = Timestamp(take_varint(&mut input)?);
            let boot = if input.is_empty() {
                None
            } else {
                Some(take_boot_time(&mut input)?)
            };
            input.is_empty().then_some(Entry::Liveness { at, boot })
        }
        Kind::HighWater => {
            let units = take_varint(&mut input)?;
            let at = Timestamp(take_varint(&mut input)?);
            input
                .is_empty()
                .then_some(Entry::HighWater(HighWater { units, at }))
        }
    }
}

fn decode_change<T: DeserializeOwned>(mut input: &[u8]) -> Option<(u64, T)> {
    let (&version, rest) = input.split_first()?;
    if !(CHANGE_VERSION..=CHANGE_VERSION_LATER).contains(&version) {
        return None;
    }
    input = rest;
    let number = take_varint(&mut input)?;
    let (change, rest) = postcard::take_from_bytes(input).ok()?;
    rest.is_empty().then_some((number, change))
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(value as u8);
}

fn take_boot_time(input: &mut &[u8]) -> Option<BootTime> {
    let (boot, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(BootTime {
        boot: u128::from_le_bytes(*boot),
        millis: take_varint(input)?,
    })
}

fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Decodes whatever the bytes are, for tests.
#[cfg(test)]
pub(super) fn fuzz(bytes: &[u8]) {
    for kind in [
        Kind::Message,
        Kind::Session,
        Kind::Liveness,
        Kind::HighWater,
        Kind::Group,
    ] {
        let record = RawRecord {
            kind,
            flags: 0,
            relative: 0,
            body: bytes,
        };
        if kind == Kind::Message
            && let Some(body) = MessageBody::decode(bytes)
        {
            assert!(body.payload.len() <= bytes.len());
        }
        if let Some(entry) = decode_state(&record) {
            assert!(!matches!(entry, Entry::Message { .. }));
        }
    }
    if let Parsed::Record(record) = parse(bytes, 7) {
        assert!(record.size() as usize <= bytes.len());
    }
}
