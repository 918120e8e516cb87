//! Tests of the journal as a whole, over the crashable file system.

mod crash;
mod damage;
mod disk;
mod format;
mod reads;
mod space;
mod trim;

use std::sync::Arc;

use super::memory::MemoryFiles;
use super::reader::SegmentReader;
use super::recovery::open;
use super::segments::JournalOptions;
use super::writer::SegmentWriter;
use super::*;
use crate::model::entry::Change;
use crate::model::ids::{PacketId, SessionNumber, Timestamp};
use crate::model::message::{Message, MessageParts, QoS};

/// Small segments, no reserve, a fixed salt.
pub(super) const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes_max: 600,
    reserve_bytes: 0,
    salt: 7,
};

/// A journal, both sides.
pub(super) struct Journal {
    pub(super) files: MemoryFiles,
    pub(super) writer: SegmentWriter,
    pub(super) reader: Arc<SegmentReader>,
    /// What is pinned.
    pub(super) pinned: Vec<Offset>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self::open(MemoryFiles::new(), OPTIONS, 1)
    }

    pub(super) fn open(files: MemoryFiles, options: JournalOptions, epoch: u32) -> Self {
        let (writer, reader) = open(Arc::new(files.clone()), options, epoch).unwrap();
        Self {
            files,
            writer,
            reader,
            pinned: Vec::new(),
        }
    }

    /// Pins these and nothing else.
    fn pin_only(&mut self, pinned: &[Offset]) {
        self.writer.unpin(&self.pinned);
        self.writer.pin(pinned);
        self.pinned = pinned.to_vec();
    }

    pub(super) fn trim(&mut self, floor: Offset, pinned: &[Offset]) -> Result<u64, AppendError> {
        self.pin_only(pinned);
        self.writer.trim(floor)
    }

    pub(super) fn trim_to_bytes(
        &mut self,
        bytes_max: u64,
        (needs, pinned): (Needs, &[Offset]),
    ) -> Result<Taken, AppendError> {
        self.pin_only(pinned);
        self.writer.trim_to_bytes(bytes_max, needs)
    }

    pub(super) fn commit(&mut self, entries: &[Entry]) -> Offset {
        let offset = self.writer.append(entries).unwrap();
        self.writer.sync().unwrap();
        offset
    }

    /// One message per batch; gives their offsets.
    pub(super) fn publish(&mut self, topics: &[&str]) -> Vec<Offset> {
        let mut offsets = Vec::new();
        for topic in topics {
            offsets.push(self.commit(&[message(topic, b"x")]));
        }
        offsets
    }

    pub(super) fn entries(&self) -> Vec<(Offset, Entry)> {
        replayed(&self.reader)
    }

    pub(super) fn page(&self, filters: &[&str], from: Offset, records_max: usize) -> Page {
        let filters: Vec<_> = filters
            .iter()
            .map(|text| (Filter::new(text).unwrap(), Offset(0)))
            .collect();
        self.reader
            .read(&ReadRequest {
                filters: &filters,
                from,
                records_max,
                bytes_max: usize::MAX,
            })
            .unwrap()
    }

    /// How many holes whoever reads all from `from` on is told of.
    pub(super) fn holes(&self, filters: &[&str], from: Offset) -> u32 {
        let (mut holes, mut from) = (0, from);
        loop {
            let page = self.page(filters, from, 7);
            holes += page.holes;
            from = page.next;
            if from >= page.end {
                return holes;
            }
        }
    }

    pub(super) fn offsets(&self, filters: &[&str]) -> Vec<Offset> {
        let page = self.page(filters, Offset(0), usize::MAX);
        page.records.iter().map(|record| record.offset).collect()
    }
}

pub(super) fn replayed(reader: &SegmentReader) -> Vec<(Offset, Entry)> {
    let mut entries = Vec::new();
    reader
        .replay(Offset(0), &mut |offset, entry| {
            entries.push((offset, entry))
        })
        .unwrap();
    entries
}

pub(super) fn message(topic: &str, payload: &[u8]) -> Entry {
    message_of(topic, payload, QoS::AtLeastOnce)
}

pub(super) fn message_of(topic: &str, payload: &[u8], qos: QoS) -> Entry {
    Entry::Message {
        message: Arc::new(Message::new(MessageParts {
            topic,
            payload,
            properties: b"",
            qos,
            retain: false,
            published_at: Timestamp(1_700_000_000_000),
            expires_at: None,
            publisher: SessionNumber(300),
        })),
        received: None,
    }
}

pub(super) fn released(packet_id: u16) -> Entry {
    Entry::Session {
        session: SessionNumber(9),
        change: Box::new(Change::Released {
            packet_id: PacketId::new(packet_id).unwrap(),
        }),
    }
}
