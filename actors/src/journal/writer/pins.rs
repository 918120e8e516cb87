//! How many records of each segment are needed wherever they lie.
//!
//! Owns: the counts. Does not know: which records they are, or who needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Offset, Segment};

/// Counts of pinned offsets, by the id of the segment that has them; segments without one are not there.
#[derive(Debug, Default)]
pub(super) struct Pins(BTreeMap<u64, u64>);

impl Pins {
    /// Counts more of these.
    pub(super) fn add(&mut self, list: &[Arc<Segment>], offsets: &[Offset]) {
        for offset in offsets {
            if let Some(id) = segment_of(list, *offset) {
                *self.0.entry(id).or_default() += 1;
            }
        }
    }

    /// Counts less of these; what is no longer there does not count any more.
    pub(super) fn remove(&mut self, list: &[Arc<Segment>], offsets: &[Offset]) {
        for offset in offsets {
            let Some(id) = segment_of(list, *offset) else {
                continue;
            };
            if let Some(count) = self.0.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&id);
                }
            }
        }
    }

    /// How many a segment has.
    pub(super) fn of(&self, id: u64) -> u64 {
        self.0.get(&id).copied().unwrap_or(0)
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, id: u64) {
        self.0.remove(&id);
    }
}

/// Which segment has the record at `offset`.
fn segment_of(list: &[Arc<Segment>], offset: Offset) -> Option<u64> {
    let behind = list.partition_point(|segment| segment.header.first <= offset);
    let segment = list.get(behind.checked_sub(1)?)?;
    (offset < segment.extent().end).then_some(segment.header.id)
}
