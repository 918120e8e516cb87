//! The segments of one journal, as the writer and all readers share them.
//!
//! Owns: the list of segments, the committed end, counters. Does not know: how records are written or read.
//!
//! Invariants:
//! - segments ascend by id and by offset;
//! - the end never falls, and a record below it is in a listed segment's committed extent until it is trimmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::JournalObservation;
use super::files::Files;
use super::segment::{HEADER_BYTES, Segment};
use crate::model::ids::Offset;

/// How a journal is laid out.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// A segment that has reached this length is sealed before the next batch.
    pub segment_bytes_max: u32,
    /// Length of the preallocated file that is given up when the disk is full, so that progress can still be written;
    /// 0 for none.
    pub reserve_bytes: u64,
    /// Seeds the checksums of new segments. Unguessable in production ([`JournalOptions::default`]); fixed in tests
    /// that compare bytes.
    pub salt: u32,
}

impl Default for JournalOptions {
    /// Segments of 64 MiB, a reserve of 8 MiB, a random salt.
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new().hash_one(0u8).to_le_bytes();
        Self {
            segment_bytes_max: 64 << 20,
            reserve_bytes: 8 << 20,
            salt: u32::from_le_bytes([random[0], random[1], random[2], random[3]]),
        }
    }
}

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) files: Arc<dyn Files>,
    list: RwLock<Arc<[Arc<Segment>]>>,
    end: AtomicU64,
    dropped_end: AtomicU64,
    pub(super) records_read: AtomicU64,
    pub(super) records_matched: AtomicU64,
    pub(super) records_dropped: AtomicU64,
    pub(super) losses: AtomicU64,
    pub(super) indexes_rebuilt: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl Segments {
    pub(super) fn new(files: Arc<dyn Files>, list: Vec<Arc<Segment>>, end: Offset) -> Self {
        Self {
            files,
            list: RwLock::new(list.into()),
            end: AtomicU64::new(end.0),
            dropped_end: AtomicU64::new(0),
            records_read: AtomicU64::new(0),
            records_matched: AtomicU64::new(0),
            records_dropped: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            indexes_rebuilt: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// The segments as they are now, ascending.
    pub(super) fn list(&self) -> Arc<[Arc<Segment>]> {
        self.list.read().clone()
    }

    pub(super) fn replace(&self, list: Vec<Arc<Segment>>) {
        *self.list.write() = list.into();
    }

    pub(super) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Records below `end` are committed: their segment's extent was moved before.
    pub(super) fn set_end(&self, end: Offset) {
        self.end.store(end.0, Ordering::Release);
    }

    /// The records of a dropped segment end at `end`.
    pub(super) fn saw_dropped(&self, end: Offset) {
        self.dropped_end.fetch_max(end.0, Ordering::AcqRel);
    }

    /// Every record that was dropped lies below.
    pub(super) fn dropped_end(&self) -> Offset {
        Offset(self.dropped_end.load(Ordering::Acquire))
    }

    pub(super) fn count(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }

    pub(super) fn start(&self) -> Offset {
        let end = self.end();
        let list = self.list();
        let mut filled = list
            .iter()
            .filter(|segment| segment.extent().end > segment.header.first);
        filled.next().map_or(end, |segment| segment.header.first)
    }

    /// The offset behind the last record that is there.
    pub(super) fn holds(&self) -> Offset {
        let list = self.list();
        let mut filled = list
            .iter()
            .rev()
            .filter(|segment| segment.extent().end > segment.header.first);
        filled
            .next()
            .map_or(Offset(0), |segment| segment.extent().end)
    }

    /// How many committed entries lie at or above `from`.
    pub(super) fn entries_since(&self, from: Offset) -> u64 {
        let end = self.end();
        let list = self.list();
        let within = list.iter().map(|segment| {
            let end = segment.extent().end.min(end);
            end.0.saturating_sub(from.max(segment.header.first).0)
        });
        within.sum()
    }

    pub(super) fn observe(&self) -> JournalObservation {
        let list = self.list();
        let bytes = list
            .iter()
            .map(|segment| u64::from(segment.extent().bytes - HEADER_BYTES));
        JournalObservation {
            start: self.start(),
            end: self.end(),
            segments: list.len() as u64,
            bytes: bytes.sum(),
            records_read: self.records_read.load(Ordering::Relaxed),
            records_matched: self.records_matched.load(Ordering::Relaxed),
            records_dropped: self.records_dropped.load(Ordering::Relaxed),
            losses: self.losses.load(Ordering::Relaxed),
            indexes_rebuilt: self.indexes_rebuilt.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
