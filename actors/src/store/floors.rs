//! What of the journal is still needed, without keeping anything per session.
//!
//! Owns: a counted, ordered set of offsets whose memory is bounded. Does not know: sessions, the store.
//!
//! Invariants:
//! - [`FloorCounts::min`] is never above the smallest offset in the set;
//! - at most [`BUCKETS_MAX`] buckets, about 20 bytes each (1.3 MB), however many sessions there are: offsets are exact
//!   while few distinct ones exist and are rounded down to ever larger powers of two above that. Rounding down only
//!   trims later.

use std::collections::BTreeMap;

use crate::model::ids::Offset;

/// What of the journal is still needed, as of the last checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trim {
    /// A replay would start here, whoever needs what.
    pub covers: Offset,
    /// Records at or above are needed: by a session, or because a replay would start here.
    pub floor: Offset,
    /// How the records changed that are needed wherever they lie: retained messages.
    pub pins: Pins,
}

/// What changed of a set of offsets, which may have many more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// These came.
    pub pinned: Vec<Offset>,
    /// These went; some of them may be among those that came.
    pub unpinned: Vec<Offset>,
}

/// The most buckets that are kept; above, neighbours are merged.
pub const BUCKETS_MAX: usize = 65_536;

/// A counted set of offsets with a cheap lower bound.
#[derive(Clone, Debug, Default)]
pub struct FloorCounts {
    shift: u32,
    counts: BTreeMap<u64, u32>,
}

impl FloorCounts {
    /// Counts one more of `offset`.
    pub fn add(&mut self, offset: Offset) {
        let count = self.counts.entry(offset.0 >> self.shift).or_default();
        *count = count.saturating_add(1);
        while self.counts.len() > BUCKETS_MAX {
            self.merge();
        }
    }

    /// Counts one less of `offset`, which was added.
    pub fn remove(&mut self, offset: Offset) {
        let bucket = offset.0 >> self.shift;
        if let Some(count) = self.counts.get_mut(&bucket) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&bucket);
            }
        }
    }

    /// An offset at or below the smallest one in the set; `None` if it is empty.
    pub fn min(&self) -> Option<Offset> {
        let (bucket, _) = self.counts.first_key_value()?;
        Some(Offset(bucket << self.shift))
    }

    fn merge(&mut self) {
        self.shift += 1;
        for (bucket, count) in std::mem::take(&mut self.counts) {
            let merged = self.counts.entry(bucket >> 1).or_default();
            *merged = merged.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_exact_while_few_offsets_are_counted() {
        let mut floors = FloorCounts::default();
        for offset in [7, 9, 7] {
            floors.add(Offset(offset));
        }
        assert_eq!(floors.min(), Some(Offset(7)));
        floors.remove(Offset(7));
        assert_eq!(floors.min(), Some(Offset(7)));
        floors.remove(Offset(7));
        assert_eq!(floors.min(), Some(Offset(9)));
        floors.remove(Offset(9));
        assert_eq!(floors.min(), None);
    }

    #[test]
    fn many_distinct_offsets_are_rounded_down_and_still_counted_off() {
        let mut floors = FloorCounts::default();
        let offsets = || (0..300_000).map(|n| Offset(1_000 + n * 3));
        offsets().for_each(|offset| floors.add(offset));
        assert!(floors.counts.len() <= BUCKETS_MAX);
        assert!(
            floors
                .min()
                .is_some_and(|min| min <= Offset(1_000) && min >= Offset(900))
        );
        offsets()
            .take(299_999)
            .for_each(|offset| floors.remove(offset));
        let last = Offset(1_000 + 299_999 * 3);
        assert!(
            floors
                .min()
                .is_some_and(|min| min <= last && min.0 > last.0 - 100)
        );
        floors.remove(last);
        assert_eq!(floors.min(), None);
    }
}
