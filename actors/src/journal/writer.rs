//! The writing side of the segments: append, commit, seal, trim.
//!
//! Owns: the segment being written, what of it is durable, the reserve; which segments go is in `trim`. Does not know: who
//! waits for what.
//!
//! Invariants:
//! - one `write` per batch; the last record of a batch says that it is the last, so a torn batch never comes back;
//! - a segment whose sync failed is never synced again: its successor, made at once, says where it ends;
//! - messages are only taken while the reserve exists, so what they leave is room for progress.

mod pins;
mod trim;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use self::pins::Pins;
use super::batch::{self, Place};
use super::codec::EncodeError;
use super::dropped::Dropped;
use super::index::TopicIndex;
use super::segment::{Extent, HEADER_BYTES, Header, Index, Name, Previous, RESERVE_NAME, Segment};
use super::segments::{JournalOptions, Segments};
use super::sorted::{self, SortedIndex};
use super::{AppendError, JournalWriter, Needs, Taken};
use crate::model::entry::Entry;
use crate::model::ids::Offset;

/// The encode buffer is given back to the allocator when a batch left it larger than this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Writes the segments of one journal.
#[derive(Debug)]
pub struct SegmentWriter {
    shared: Arc<Segments>,
    options: JournalOptions,
    epoch: u32,
    /// `None` until the first append, and while no segment can be made.
    active: Option<Arc<Segment>>,
    next_id: u64,
    /// What the next segment's header says about the one before.
    previous: Option<Previous>,
    /// Where the next record goes.
    written: Extent,
    /// What a power cut leaves.
    durable: Extent,
    buffer: Vec<u8>,
    /// Whether the reserve is there.
    reserved: bool,
    /// Sealed segments whose index is still in memory.
    unindexed: VecDeque<Arc<Segment>>,
    /// How many pinned offsets each segment has.
    pins: Pins,
    /// What was let go.
    dropped: Dropped,
    /// Files that are to be removed and could not be.
    leftover: Vec<Name>,
}

/// Where recovery lets the writer begin.
#[derive(Debug)]
pub(super) struct WriterStart {
    pub(super) epoch: u32,
    pub(super) first: Offset,
    pub(super) next_id: u64,
    pub(super) previous: Option<Previous>,
    pub(super) dropped: Dropped,
    pub(super) leftover: Vec<Name>,
}

impl SegmentWriter {
    pub(super) fn begin(
        shared: Arc<Segments>,
        options: JournalOptions,
        start: WriterStart,
    ) -> Self {
        let place = Extent {
            bytes: HEADER_BYTES,
            end: start.first,
        };
        let mut writer = Self {
            shared,
            options,
            epoch: start.epoch,
            active: None,
            next_id: start.next_id,
            previous: start.previous,
            written: place,
            durable: place,
            buffer: Vec::new(),
            reserved: false,
            unindexed: VecDeque::new(),
            pins: Pins::default(),
            dropped: start.dropped,
            leftover: start.leftover,
        };
        writer.shared.saw_dropped(writer.dropped.end);
        // A disk that is full now is met again, and reported, by the first append.
        writer.reserve().ok();
        writer
    }

    /// The boot epoch of the offsets that this writer gives.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Makes sure that the reserve is there.
    fn reserve(&mut self) -> io::Result<()> {
        if self.reserved || self.options.reserve_bytes == 0 {
            return Ok(());
        }
        let files = &*self.shared.files;
        match files.reserve(RESERVE_NAME, self.options.reserve_bytes) {
            Ok(()) => {
                self.reserved = true;
                Ok(())
            }
            Err(error) => {
                // Half a reserve helps nobody; it may not even exist.
                files.remove(RESERVE_NAME).ok();
                Err(error)
            }
        }
    }

    /// Gives the reserve up; whether there was one.
    fn give_up_reserve(&mut self) -> bool {
        let given_up = self.reserved && self.shared.files.remove(RESERVE_NAME).is_ok();
        if given_up {
            self.reserved = false;
            tracing::warn!(
                "disk full: the journal's reserve is given up for progress and trimming"
            );
        }
        given_up
    }

    fn try_append(&mut self, entries: &[Entry]) -> Result<Offset, AppendError> {
        let segment = self.segment()?;
        let before = self.written;
        let end = match self.encode(&segment, entries) {
            Ok(end) => end,
            Err(EncodeError) => {
                forget(&segment, before.bytes);
                let too_large = io::Error::new(io::ErrorKind::InvalidInput, "batch too large");
                return Err(self.write_error(&segment.path, too_large));
            }
        };
        match segment
            .file
            .write_all_at(&self.buffer, u64::from(before.bytes))
        {
            Ok(()) => {
                self.written = end;
                Ok(before.end)
            }
            Err(error) => {
                forget(&segment, before.bytes);
                if segment.file.truncate(u64::from(before.bytes)).is_err() {
                    // What cannot be cut off must not be mistaken for records later.
                    if segment.file.sync().is_ok() {
                        self.durable = before;
                    }
                    self.abandon(&segment);
                }
                Err(self.write_error(&segment.path, error))
            }
        }
    }

    /// Encodes the batch into the buffer and the index; gives where it will end.
    fn encode(&mut self, segment: &Segment, entries: &[Entry]) -> Result<Extent, EncodeError> {
        let mut state = segment.state.write();
        let Index::Memory(index) = &mut state.index else {
            return Err(EncodeError);
        };
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        let is_confirmed = self.durable == self.written;
        batch::encode(
            &mut self.buffer,
            index,
            &segment.header,
            Place {
                start: self.written.bytes,
                is_confirmed,
            },
            entries,
        )
    }

    /// The segment to write to: a new one if there is none or it is full.
    fn segment(&mut self) -> Result<Arc<Segment>, AppendError> {
        if let Some(active) = self.active.clone() {
            let is_committed = active.extent() == self.written;
            if self.written.bytes < self.options.segment_bytes_max || !is_committed {
                return Ok(active);
            }
            self.seal(&active)?;
        }
        self.begin_segment()
    }

    /// Ends a full segment: it is synced in every durability, since its successor will say how long it is.
    fn seal(&mut self, active: &Arc<Segment>) -> Result<(), AppendError> {
        if self.durable != self.written {
            self.sync()?;
        }
        self.previous = Some(Previous {
            id: active.header.id,
            bytes: self.durable.bytes,
        });
        self.unindexed.push_back(active.clone());
        self.active = None;
        // At most one segment waits for a quiet moment.
        while self.unindexed.len() > 1 && self.write_index() {}
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<Arc<Segment>, AppendError> {
        let files = self.shared.files.clone();
        let header = Header {
            salt: self.options.salt ^ crc32c::crc32c(&self.next_id.to_le_bytes()),
            id: self.next_id,
            first: self.written.end,
            epoch: self.epoch,
            previous: self.previous,
        };
        let name = Name::Segment(header.id).text();
        let made = files.create(&name).and_then(|file| {
            file.write_all_at(&header.encode(), 0)?;
            file.sync()?;
            files.sync_directory()?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // Made anew by the next attempt, under the same name, whatever is left of it.
                files.remove(&name).ok();
                return Err(self.write_error(&files.path(&name), error));
            }
        };
        let place = Extent {
            bytes: HEADER_BYTES,
            end: header.first,
        };
        let index = Index::Memory(Box::new(TopicIndex::new(header.first)));
        let segment = Arc::new(Segment::new(&*files, header, file, place, index));
        let mut list = self.shared.list().to_vec();
        list.push(segment.clone());
        self.shared.replace(list);
        self.next_id += 1;
        (self.written, self.durable) = (place, place);
        self.active = Some(segment.clone());
        Ok(segment)
    }

    /// Leaves a segment at its last durable byte, for ever, and goes on in a new one. The new one is made at once: only
    /// its header keeps what lies behind that byte from coming back after a crash.
    fn abandon(&mut self, segment: &Arc<Segment>) {
        {
            let mut state = segment.state.write();
            state.extent = self.durable;
            if let Index::Memory(index) = &mut state.index {
                index.cut(self.durable.bytes);
            }
        }
        self.previous = Some(Previous {
            id: segment.header.id,
            bytes: self.durable.bytes,
        });
        self.unindexed.push_back(segment.clone());
        self.active = None;
        // The failed batch's offsets are skipped: some of them may have been seen. The end stays where it was until there
        // is something behind it: what was never committed is nothing to wait for.
        if let Err(error) = self.begin_segment() {
            tracing::error!(%error, "no segment can be made in place of the abandoned one");
        }
    }

    /// Writes the index file of the oldest sealed segment that has none; whether it worked.
    fn write_index(&mut self) -> bool {
        let Some(segment) = self.unindexed.pop_front() else {
            return false;
        };
        let files = &*self.shared.files;
        let (name, covers) = (Name::Index(segment.header.id).text(), segment.covers());
        let written = match &segment.state.read().index {
            Index::Memory(index) => sorted::write(files, &name, covers, index),
            Index::Sorted(_) => return true,
        };
        match written.map(|()| SortedIndex::open(files, &name, covers)) {
            Ok(Some(index)) => {
                segment.state.write().index = Index::Sorted(Arc::new(index));
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(segment = segment.path, %error, "topic index stays in memory");
                // Its room is worth more than half an index.
                files.remove(&name).ok();
                self.unindexed.push_back(segment);
                false
            }
        }
    }

    fn write_error(&self, path: &str, source: io::Error) -> AppendError {
        Segments::count(&self.shared.failures, 1);
        AppendError::Write {
            path: path.to_owned(),
            source,
        }
    }
}

impl JournalWriter for SegmentWriter {
    fn append(&mut self, entries: &[Entry]) -> Result<Offset, AppendError> {
        if entries.is_empty() {
            return Ok(self.written.end);
        }
        let has_message = entries
            .iter()
            .any(|entry| matches!(entry, Entry::Message { .. }));
        if has_message && let Err(error) = self.reserve() {
            return Err(self.write_error(&self.shared.files.path(RESERVE_NAME), error));
        }
        match self.try_append(entries) {
            Err(AppendError::Write { .. }) if !has_message && self.give_up_reserve() => {
                self.try_append(entries)
            }
            result => result,
        }
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        let Some(active) = self.active.clone() else {
            return Ok(());
        };
        if self.durable != self.written {
            if let Err(source) = active.file.sync() {
                Segments::count(&self.shared.failures, 1);
                self.abandon(&active);
                return Err(AppendError::Sync {
                    path: active.path.clone(),
                    source,
                });
            }
            self.durable = self.written;
            Segments::count(&self.shared.syncs, 1);
        }
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        if let Some(active) = &self.active {
            active.state.write().extent = self.written;
            self.shared.set_end(self.written.end);
        }
    }

    fn pin(&mut self, offsets: &[Offset]) {
        self.pins.add(&self.shared.list(), offsets);
    }

    fn unpin(&mut self, offsets: &[Offset]) {
        self.pins.remove(&self.shared.list(), offsets);
    }

    fn trim(&mut self, floor: Offset) -> Result<u64, AppendError> {
        self.drop_below(floor)
    }

    fn trim_to_bytes(&mut self, bytes_max: u64, needs: Needs) -> Result<Taken, AppendError> {
        self.drop_to_bytes(bytes_max, needs)
    }

    fn maintain(&mut self) -> bool {
        self.write_index() && !self.unindexed.is_empty()
    }

    fn end(&self) -> Offset {
        self.shared.end()
    }

    fn entries_since(&self, from: Offset) -> u64 {
        self.shared.entries_since(from)
    }
}

fn forget(segment: &Segment, from: u32) {
    if let Index::Memory(index) = &mut segment.state.write().index {
        index.cut(from);
    }
}
