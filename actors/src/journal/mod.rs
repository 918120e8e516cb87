//! The journal: an append-only log of publications and state changes, and its readers.
//!
//! Owns: the order of all durable facts, offsets, segments, the topic index. Does not know: sessions' meaning, actors,
//! snapshots.
//!
//! Invariants:
//! - offsets only grow; recovery goes on in a fresh epoch, so no offset is ever used twice;
//! - what `sync` confirmed survives a power cut, what it did not confirm is never half there;
//! - a reader sees a record only once it is committed (as durable as `log.durability` says).

mod batch;
mod codec;
mod dropped;
pub mod files;
mod index;
pub mod memory;
mod mend;
pub mod reader;
pub mod recovery;
mod segment;
pub mod segments;
mod select;
mod sorted;
#[cfg(test)]
mod tests;
pub mod writer;

pub use crate::model::record::{Page, Record};

use std::ops::Range;

use thiserror::Error;

use crate::model::entry::Entry;
use crate::model::ids::Offset;

use crate::model::topic::Filter;

/// The writing side; one owner, the appender.
pub trait JournalWriter: Send + std::fmt::Debug {
    /// Writes `entries` behind the last record, in order, and gives the first one's offset; the others follow without
    /// gap. Nothing of the batch is visible to readers or durable yet.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing of the batch will ever be read, and the next call may succeed.
    fn append(&mut self, entries: &[Entry]) -> Result<Offset, AppendError>;

    /// Makes all that was appended durable and visible to readers.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing appended since the last successful commit will ever be read, not even after a
    /// restart: the segment is abandoned at its last committed byte and never synced again.
    fn sync(&mut self) -> Result<(), AppendError>;

    /// Makes all that was appended visible to readers without making it durable (`log.durability` `interval` and
    /// `never`).
    fn publish(&mut self);

    /// From now on these offsets are needed wherever they lie. What is pinned twice is to be unpinned twice.
    fn pin(&mut self, offsets: &[Offset]);

    /// These, which were pinned, are no longer needed; those that were dropped meanwhile are passed over.
    fn unpin(&mut self, offsets: &[Offset]);

    /// Drops sealed segments that lie wholly below `floor` and hold no pinned offset; gives the
    /// bytes freed. A file that cannot be removed is tried again by the next call.
    ///
    /// # Errors
    /// [`AppendError`] if it cannot be noted which ones go; then all stay.
    fn trim(&mut self, floor: Offset) -> Result<u64, AppendError>;

    /// Drops sealed segments until all take at most `bytes_max`, though somebody needs them: oldest first, those with
    /// pinned offsets last, never one that no checkpoint covers. Gives how many records that somebody needed are gone;
    /// their readers go on behind them, and are [told](Page::holes).
    ///
    /// # Errors
    /// As [`JournalWriter::trim`].
    fn trim_to_bytes(&mut self, bytes_max: u64, needs: Needs) -> Result<Taken, AppendError>;

    /// Does one piece of the work that can wait (the index file of a sealed segment); whether more is left. To be called
    /// when nothing waits for the journal.
    fn maintain(&mut self) -> bool;

    /// The committed end, as [`JournalReader::end`].
    fn end(&self) -> Offset;

    /// As [`JournalReader::entries_since`].
    fn entries_since(&self, from: Offset) -> u64;
}

/// What is needed of the journal besides what is pinned, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// A replay would start here: checkpoints cover what lies below.
    pub covered: Offset,
    /// Readers need what lies at or above.
    pub floor: Offset,
}

/// What was dropped though somebody needed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records, pinned ones among them.
    pub records: u64,
    /// Pinned records.
    pub pinned: u64,
}

/// The reading side; shared by all threads that catch up.
pub trait JournalReader: Send + Sync + std::fmt::Debug {
    /// Messages (QoS 1 and 2) at or after `request.from` whose topic matches one of the filters, in offset order.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or a record is damaged.
    fn read(&self, request: &ReadRequest<'_>) -> Result<Page, ReadError>;

    /// The messages at exactly these offsets; `None` where there is none (trimmed).
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or a record is damaged.
    fn read_at(&self, offsets: &[Offset]) -> Result<Vec<Option<Record>>, ReadError>;

    /// Every committed entry from `from` on, in order, for recovery and the checkpointer; stops at the first error of
    /// `each`.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or a record is damaged.
    fn replay(&self, from: Offset, each: &mut dyn FnMut(Offset, Entry)) -> Result<(), ReadError>;

    /// The authoritative end: every committed record lies below it, every later one at or above it.
    fn end(&self) -> Offset;

    /// Between which offsets records are there, ascending.
    fn parts(&self) -> Vec<Range<Offset>>;

    /// The first offset that is still there.
    fn start(&self) -> Offset;

    /// The offset behind the last record that is there; below [`JournalReader::end`] if this epoch has none.
    fn holds(&self) -> Offset;

    /// How many committed entries lie at or above `from`: offsets have gaps.
    fn entries_since(&self, from: Offset) -> u64;

    /// What the journal holds and what its readers did.
    fn observe(&self) -> JournalObservation;
}

/// What a catching-up reader asks for.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest<'a> {
    /// Filters with the offset from which each counts.
    pub filters: &'a [(Filter, Offset)],
    /// The next offset to read.
    pub from: Offset,
    /// At most so many records.
    pub records_max: usize,
    /// Stop after so many payload bytes (at least one record is given).
    pub bytes_max: usize,
}

/// Counters and gauges of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalObservation {
    /// First offset still there.
    pub start: Offset,
    /// The committed end.
    pub end: Offset,
    /// Segment files.
    pub segments: u64,
    /// Bytes of all segment files, records only.
    pub bytes: u64,
    /// Records that catch-up reads decoded, wanted or not.
    pub records_read: u64,
    /// Records that catch-up reads handed out.
    pub records_matched: u64,
    /// Records dropped though a reader may have needed them, because the journal was too long.
    pub records_dropped: u64,
    /// Parts that were missing at the start and without which it went on: segments, and the end if the store covers more.
    pub losses: u64,
    /// Index files that were damaged and were built again.
    pub indexes_rebuilt: u64,
    /// Successful syncs.
    pub syncs: u64,
    /// Failed writes and syncs.
    pub failures: u64,
}

/// Why a batch was not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// No space is left, or the file system refuses for another lasting reason; heals when space returns.
    #[error("journal segment {path} cannot be written: {source}")]
    Write {
        /// The segment file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A sync failed; the segment is abandoned.
    #[error("journal segment {path} cannot be synced and is abandoned: {source}")]
    Sync {
        /// The segment file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why the journal cannot be opened or read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused.
    #[error("journal file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record in the middle of the journal does not match its checksum, or a file is none of ours.
    #[error(
        "journal file {path} is damaged at byte {at}: {what}; nothing was changed, restore it from a backup or move it away"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        at: u64,
        /// What was found.
        what: &'static str,
    },
    /// What must be there is not.
    #[error(
        "journal {path}: {what}; nothing was changed: restore the whole data directory from a backup, or start once with \
         --accept-loss to go on without what is gone"
    )]
    Missing {
        /// The directory.
        path: String,
        /// What is missing.
        what: String,
    },
}
