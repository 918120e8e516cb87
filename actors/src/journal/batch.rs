//! One batch of entries as the bytes that follow a segment's last record.
//!
//! Owns: interning of topics and the marks on a batch's first and last record. Does not know: files.

use super::codec::{self, BATCH_END, EncodeError, Kind, SYNCED_BEFORE};
use super::index::{TopicIndex, TopicNumber};
use super::segment::{Extent, Header, SEGMENT_BYTES_LIMIT};
use crate::model::entry::Entry;
use crate::model::ids::Offset;
use crate::model::message::QoS;

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Position in the segment.
    pub(super) start: u32,
    /// Whether all that lies before it is synced.
    pub(super) is_confirmed: bool,
}

/// Appends the batch to `out` and to the index; gives where it will end.
pub(super) fn encode(
    out: &mut Vec<u8>,
    index: &mut TopicIndex,
    header: &Header,
    place: Place,
    entries: &[Entry],
) -> Result<Extent, EncodeError> {
    let mut batch = Batch {
        out,
        index,
        first: header.first,
        start: place.start,
        salt: header.salt,
        opening: if place.is_confirmed { SYNCED_BEFORE } else { 0 },
    };
    if let Some((last, others)) = entries.split_last() {
        for entry in others {
            batch.entry(entry, 0)?;
        }
        batch.entry(last, BATCH_END)?;
    }
    Ok(Extent {
        bytes: batch.position()?,
        end: batch.index.end(),
    })
}

/// A batch being encoded.
struct Batch<'a> {
    out: &'a mut Vec<u8>,
    index: &'a mut TopicIndex,
    first: Offset,
    /// Where in the segment the batch begins.
    start: u32,
    salt: u32,
    /// Flags of the next record: the batch's first carries some.
    opening: u8,
}

impl Batch<'_> {
    /// Where in the segment the next record goes.
    fn position(&self) -> Result<u32, EncodeError> {
        let position = u64::from(self.start) + self.out.len() as u64;
        if position >= SEGMENT_BYTES_LIMIT {
            return Err(EncodeError);
        }
        u32::try_from(position).map_err(|_| EncodeError)
    }

    fn entry(&mut self, entry: &Entry, flags: u8) -> Result<(), EncodeError> {
        let mut topic = None;
        if let Entry::Message { message, .. } = entry {
            topic = match self.index.topic(message.topic()) {
                Some(known) => Some(known),
                None => Some(self.define(message.topic())?),
            };
        }
        let position = self.position()?;
        let start = codec::begin(self.out);
        let (kind, listed) = match (entry, topic) {
            (Entry::Message { message, received }, Some(topic)) => {
                codec::encode_message(self.out, message, *received, self.index.defined_at(topic));
                let listed = (message.qos > QoS::AtMostOnce).then_some(topic);
                (Kind::Message, listed)
            }
            _ => {
                let kind = codec::encode_state(self.out, entry)?;
                (kind.ok_or(EncodeError)?, None)
            }
        };
        self.finish(start, kind, flags)?;
        self.index.push(position, listed);
        Ok(())
    }

    fn define(&mut self, topic: &str) -> Result<TopicNumber, EncodeError> {
        let position = self.position()?;
        let start = codec::begin(self.out);
        self.out.extend_from_slice(topic.as_bytes());
        self.finish(start, Kind::Topic, 0)?;
        Ok(self.index.define(topic, position))
    }

    fn finish(&mut self, start: usize, kind: Kind, flags: u8) -> Result<(), EncodeError> {
        let relative = self.index.end().0 - self.first.0;
        let relative = u32::try_from(relative).map_err(|_| EncodeError)?;
        let flags = flags | std::mem::take(&mut self.opening);
        codec::finish(self.out, start, self.salt, relative, kind, flags)
    }
}
