//! Letting go of segments: those that nobody needs, and if the journal is too long, those that somebody does.
//!
//! Invariants:
//! - the segment being written is never dropped;
//! - a successor that says where an abandoned segment ends stays as long as that one;
//! - a segment dropped between others leaves a mark, so that recovery does not take it for lost.

use std::io;
use std::sync::atomic::Ordering;

use super::{AppendError, Name, Needs, Offset, Segment, SegmentWriter};

impl SegmentWriter {
    /// Drops sealed segments that lie wholly below `floor` and hold no pinned offset; gives the bytes freed.
    pub(super) fn drop_below(
        &mut self,
        floor: Offset,
        pinned: &[Offset],
    ) -> Result<u64, AppendError> {
        let mut freed = 0;
        self.drop_where(|segment| {
            let extent = segment.extent();
            let goes = extent.end <= floor && pins(segment, pinned) == 0;
            freed += if goes { u64::from(extent.bytes) } else { 0 };
            goes
        })?;
        Ok(freed)
    }

    /// Drops sealed segments until all take `bytes_max`; gives how many records went that somebody needed.
    pub(super) fn drop_to_bytes(
        &mut self,
        bytes_max: u64,
        needs: &Needs<'_>,
    ) -> Result<u64, AppendError> {
        let mut dropped = 0;
        let mut result = Ok(());
        for spares_pins in [true, false] {
            let mut bytes = self.bytes();
            result = result.and(self.drop_where(|segment| {
                let extent = segment.extent();
                let pins = pins(segment, needs.pinned);
                let goes =
                    bytes > bytes_max && extent.end <= needs.covered && !(spares_pins && pins > 0);
                if goes {
                    bytes -= u64::from(extent.bytes);
                    let first = segment.header.first.max(needs.floor);
                    dropped += pins.max(extent.end.0.saturating_sub(first.0));
                }
                goes
            }));
        }
        self.shared
            .records_dropped
            .fetch_add(dropped, Ordering::Relaxed);
        result.map(|()| dropped)
    }

    fn bytes(&self) -> u64 {
        let list = self.shared.list();
        list.iter()
            .map(|segment| u64::from(segment.extent().bytes))
            .sum()
    }

    /// Drops the sealed segments that `goes` names, oldest first. It is not asked about those that must stay.
    fn drop_where(&mut self, mut goes: impl FnMut(&Segment) -> bool) -> Result<(), AppendError> {
        let list = self.shared.list();
        let Some((_, sealed)) = list.split_last() else {
            return Ok(());
        };
        let mut kept: Option<&Segment> = None;
        for segment in sealed {
            // The successor of an abandoned segment says where that one ends, so it stays as long.
            let is_needed = kept.is_some_and(|before| {
                before.header.id + 1 == segment.header.id
                    && before.file.size().ok() != Some(u64::from(before.extent().bytes))
            });
            if is_needed || !goes(segment) {
                kept = Some(segment);
                continue;
            }
            self.drop_segment(segment, kept.is_some())?;
        }
        Ok(())
    }

    fn remove(&self, name: Name) -> Result<(), AppendError> {
        let files = &*self.shared.files;
        let removed = files.remove(&name.text());
        removed
            .or_else(|error| match error.kind() == io::ErrorKind::NotFound {
                true => Ok(()),
                false => Err(error),
            })
            .and_then(|()| files.sync_directory())
            .map_err(|error| self.write_error(&files.path(&name.text()), error))
    }

    /// Drops one segment; `between` others it leaves a mark, so that recovery does not take it for lost.
    fn drop_segment(&mut self, segment: &Segment, between: bool) -> Result<(), AppendError> {
        let files = self.shared.files.clone();
        let id = segment.header.id;
        let mark = Name::Gone(id).text();
        if between {
            files
                .create(&mark)
                .and_then(|_| files.sync_directory())
                .map_err(|error| self.write_error(&files.path(&mark), error))?;
        }
        let list = self.shared.list();
        let kept = list.iter().filter(|other| other.header.id != id);
        self.shared.replace(kept.cloned().collect());
        self.unindexed.retain(|other| other.header.id != id);
        self.remove(Name::Segment(id))?;
        self.remove(Name::Index(id))
    }
}

/// How many of the `pinned` offsets a segment holds.
fn pins(segment: &Segment, pinned: &[Offset]) -> u64 {
    let below = |end: Offset| pinned.partition_point(|pin| *pin < end);
    (below(segment.extent().end) - below(segment.header.first)) as u64
}
