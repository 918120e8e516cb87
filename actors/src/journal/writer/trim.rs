//! Letting go of segments: those that nobody needs, and if the journal is too long, those that somebody does.
//!
//! Invariants:
//! - the segment being written is never dropped;
//! - a successor that says where an abandoned segment ends stays as long as that one;
//! - a segment is noted as dropped, durably, before readers lose it and its file goes: recovery takes what is noted for
//!   dropped, whether the file is still there or not, and all else for lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{AppendError, Name, Needs, Offset, Segment, SegmentWriter, Taken};
use crate::journal::dropped::Ids;
use crate::journal::segments::Segments;

impl SegmentWriter {
    /// Drops sealed segments that lie wholly below `floor` and hold no pinned offset; gives the bytes freed.
    pub(super) fn drop_below(&mut self, floor: Offset) -> Result<u64, AppendError> {
        let mut freed = 0;
        self.drop_where(|segment, pins| {
            let extent = segment.extent();
            let goes = extent.end <= floor && pins == 0;
            freed += if goes { u64::from(extent.bytes) } else { 0 };
            goes
        })?;
        Ok(freed)
    }

    /// Drops sealed segments until all take `bytes_max`; gives what went of that which somebody needed.
    pub(super) fn drop_to_bytes(
        &mut self,
        bytes_max: u64,
        needs: Needs,
    ) -> Result<Taken, AppendError> {
        let mut taken = Taken::default();
        let mut result = Ok(());
        for spares_pins in [true, false] {
            let mut bytes = self.bytes();
            let mut going = taken;
            let noted = self.drop_where(|segment, pins| {
                let extent = segment.extent();
                let goes =
                    bytes > bytes_max && extent.end <= needs.covered && !(spares_pins && pins > 0);
                if goes {
                    bytes -= u64::from(extent.bytes);
                    let first = segment.header.first.max(needs.floor);
                    going.records += pins.max(extent.end.0.saturating_sub(first.0));
                    going.pinned += pins;
                }
                goes
            });
            match noted {
                Ok(()) => taken = going,
                Err(error) => result = Err(error),
            }
        }
        self.shared
            .records_dropped
            .fetch_add(taken.records, Ordering::Relaxed);
        result.map(|()| taken)
    }

    fn bytes(&self) -> u64 {
        let list = self.shared.list();
        list.iter()
            .map(|segment| u64::from(segment.extent().bytes))
            .sum()
    }

    /// Drops the sealed segments that `goes` names, oldest first; it is told how many pinned offsets each has, and not asked
    /// about those that must stay. After an error all are still there.
    fn drop_where(
        &mut self,
        mut goes: impl FnMut(&Segment, u64) -> bool,
    ) -> Result<(), AppendError> {
        let list = self.shared.list();
        let Some((active, sealed)) = list.split_last() else {
            return Ok(());
        };
        let mut kept: Vec<Arc<Segment>> = Vec::with_capacity(list.len());
        let mut dropped = Ids::default();
        let mut end = Offset(0);
        for segment in sealed {
            // The successor of an abandoned segment says where that one ends, so it stays as long.
            let is_needed = kept.last().is_some_and(|before| {
                before.header.id + 1 == segment.header.id
                    && before.file.size().ok() != Some(u64::from(before.extent().bytes))
            });
            if is_needed || !goes(segment, self.pins.of(segment.header.id)) {
                kept.push(segment.clone());
                continue;
            }
            dropped.insert(segment.header.id..=segment.header.id);
            let extent = segment.extent();
            if extent.end > segment.header.first {
                end = end.max(extent.end);
            }
        }
        if !dropped.is_empty() {
            self.note(&dropped, end)?;
            kept.push(active.clone());
            self.shared.replace(kept);
            self.unindexed
                .retain(|other| !dropped.contains(other.header.id));
            for id in dropped.ranges().flatten() {
                self.pins.forget(id);
                self.leftover.extend([Name::Segment(id), Name::Index(id)]);
            }
        }
        self.remove_leftover();
        Ok(())
    }

    /// Notes durably which segments go. A full disk has room for that in the reserve.
    fn note(&mut self, dropped: &Ids, end: Offset) -> Result<(), AppendError> {
        let files = self.shared.files.clone();
        let mut noted = self.dropped.note(&*files, dropped, end);
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        if noted.as_ref().is_err_and(is_full) && self.give_up_reserve() {
            noted = self.dropped.note(&*files, dropped, end);
        }
        noted.map_err(|error| self.write_error(&files.path("*.dropped"), error))?;
        self.shared.saw_dropped(end);
        Ok(())
    }

    /// Removes the files of what was dropped; what cannot be removed now is tried again the next time.
    fn remove_leftover(&mut self) {
        let files = self.shared.files.clone();
        let mut failed = None;
        self.leftover.retain(|name| {
            let error = match files.remove(&name.text()) {
                Ok(()) => return false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
                Err(error) => error,
            };
            Segments::count(&self.shared.failures, 1);
            failed.get_or_insert((name.text(), error));
            true
        });
        if let Some((name, error)) = failed {
            let (file, left) = (files.path(&name), self.leftover.len());
            tracing::warn!(file, left, %error, "dropped journal files cannot be removed, trying on");
        }
    }
}
