//! The index of a sealed segment as a file, and built again from the segment if that file is damaged.
//!
//! Owns: when a damaged index is noticed and what takes its place. Does not know: how an index is laid out.
//!
//! Invariant: an index is derived. Whatever is wrong with it, no reader is refused what the segment holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ReadError;
use super::files::Files;
use super::index::TopicIndex;
use super::recovery::Scan;
use super::segment::{Index, Name, Segment};
use super::segments::Segments;
use super::sorted::{self, Covers, SortedIndex};

/// Writes the index as a file and opens that. A full disk is no reason to do without: then it stays in memory.
pub(super) fn persist(
    files: &dyn Files,
    path: &str,
    covers: Covers,
    index: Box<TopicIndex>,
) -> Index {
    let name = Name::Index(covers.segment).text();
    match sorted::write(files, &name, covers, &index) {
        Ok(()) => SortedIndex::open(files, &name, covers)
            .map_or(Index::Memory(index), |index| Index::Sorted(Arc::new(index))),
        Err(error) => {
            tracing::warn!(segment = path, %error, "topic index stays in memory");
            Index::Memory(index)
        }
    }
}

/// Runs `read`, and once more if the segment's index proves to be damaged and was built again.
///
/// # Errors
/// [`ReadError`] if the disk fails or a record is damaged.
pub(super) fn with_mended<T>(
    shared: &Segments,
    segment: &Segment,
    mut read: impl FnMut() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mends = segment.mends.load(Ordering::Acquire);
    match read() {
        Err(error) => match mend(shared, segment, mends)? {
            true => read(),
            false => Err(error),
        },
        done => done,
    }
}

/// Builds the index again if its file is damaged; whether that was done since it had been mended so often.
fn mend(shared: &Segments, segment: &Segment, mends: u32) -> Result<bool, ReadError> {
    let _one = segment.mending.lock();
    if segment.mends.load(Ordering::Acquire) != mends {
        return Ok(true);
    }
    let sealed = match &segment.state.read().index {
        Index::Memory(_) => None,
        Index::Sorted(index) => Some(Arc::clone(index)),
    };
    if sealed.is_none_or(|index| index.verify().is_ok()) {
        return Ok(false);
    }
    let covers = segment.covers();
    let mut scan = Scan::new(&segment.header);
    if let Some((at, what)) = scan.run(segment.source(), covers.bytes)? {
        return Err(segment.damaged(at, what));
    }
    if scan.index.end() != segment.extent().end {
        return Err(segment.damaged(covers.bytes, "it has not as many records as its index says"));
    }
    tracing::warn!(
        segment = segment.path,
        "topic index is damaged, it is built again"
    );
    // Who still reads the old file goes on with it.
    let files = &*shared.files;
    files.remove(&Name::Index(covers.segment).text()).ok();
    let index = persist(files, &segment.path, covers, Box::new(scan.index));
    segment.state.write().index = index;
    segment.mends.fetch_add(1, Ordering::Release);
    Segments::count(&shared.indexes_rebuilt, 1);
    Ok(true)
}
