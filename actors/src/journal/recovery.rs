//! Opening a journal: what a crash left is checked, the torn tail cut, a fresh segment in a fresh epoch begun.
//!
//! Owns: the rules by which files are accepted. Does not know: appending, reading.
//!
//! Invariants:
//! - nothing is changed before every file has been found to be ours and in order;
//! - only the last segment may have a torn tail, and nothing that was confirmed is ever taken for one: a batch written
//!   after a sync says so, and such a batch behind a broken record is damage;
//! - what is presented as committed has been synced first.

mod found;
mod loss;
mod scan;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::found::Found;
pub(super) use self::scan::Scan;
use self::scan::has_confirmed_batch;
use super::ReadError;
use super::files::{File, Files};
use super::index::TopicIndex;
use super::mend;
use super::reader::SegmentReader;
use super::segment::{
    Extent, HEADER_BYTES, Header, Index, Name, Previous, SEGMENT_BYTES_LIMIT, Segment, Source,
    io_error,
};
use super::segments::{JournalOptions, Segments};
use super::sorted::{Covers, SortedIndex};
use super::writer::{SegmentWriter, WriterStart};
use crate::model::ids::Offset;

/// Read ahead while a segment is scanned.
pub(super) const SCAN_BYTES: usize = 1 << 18;
const EPOCH_MAX: u32 = (1 << (64 - Offset::EPOCH_SHIFT)) - 1;
/// A segment begins no later: its records are fewer than its bytes.
const FIRST_MAX: Offset = Offset(u64::MAX - SEGMENT_BYTES_LIMIT);

/// What is known of a journal before it is opened: what the store says.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The boot epoch of this start: at least 1, larger than at any start before.
    pub epoch: u32,
    /// Checkpoints cover what lies below; what lies at or above must be there.
    pub covers: Offset,
    /// The journal reached up to here: it must not end before.
    pub holds: Offset,
    /// Whether it is opened although a part is missing.
    pub accepts_loss: bool,
}

impl Known {
    /// Nothing but the boot epoch.
    pub fn epoch(epoch: u32) -> Self {
        Self {
            epoch,
            covers: Offset(u64::MAX),
            holds: Offset(0),
            accepts_loss: false,
        }
    }
}

/// Opens the journal in `files` for boot epoch `epoch` (at least 1, larger than at any start before), or makes one.
///
/// # Errors
/// As [`reopen`].
pub fn open(
    files: Arc<dyn Files>,
    options: JournalOptions,
    epoch: u32,
) -> Result<(SegmentWriter, Arc<SegmentReader>), ReadError> {
    reopen(files, options, Known::epoch(epoch))
}

/// Opens the journal in `files`, of which this much is known, or makes one.
///
/// # Errors
/// [`ReadError`] naming the file, if one is damaged or cannot be read, or what is missing; then nothing was changed.
pub fn reopen(
    files: Arc<dyn Files>,
    options: JournalOptions,
    known: Known,
) -> Result<(SegmentWriter, Arc<SegmentReader>), ReadError> {
    let directory = files.path("");
    let failed = |source| io_error(&directory, source);
    let mut found = Found::list(&*files)?;
    let (mut segments, damaged_indexes) = load(&*files, &found)?;
    let losses = loss::judge(&*files, &found, segments.last(), known)?;
    let (plan, next_id) = plan_epoch(known.epoch, &segments)
        .zip(found.last_id().checked_add(1))
        .ok_or_else(|| ReadError::Damaged {
            path: directory.clone(),
            at: 0,
            what: "all boot epochs or offsets are used up",
        })?;
    // From here on files are changed.
    let mut leftover = found.clean(&*files);
    for loaded in &segments {
        loaded
            .settle()
            .map_err(|source| io_error(&loaded.path, source))?;
    }
    files.sync_directory().map_err(failed)?;
    let next_id = next_id - u64::from(drop_empty_last(&*files, &found, &mut segments)?);
    // A name that is used again is no leftover.
    leftover.retain(|name| name.segment().is_none_or(|id| id < next_id));
    let previous = segments.last().map(|last| Previous {
        id: last.header.id,
        bytes: last.extent.bytes,
    });
    let list: Vec<Arc<Segment>> = segments
        .into_iter()
        .map(|loaded| loaded.into_segment(&*files))
        .map(|loaded| loaded.map(Arc::new))
        .collect::<Result<_, _>>()?;
    let shared = Arc::new(Segments::new(files, list, plan.first));
    shared.losses.store(losses, Ordering::Relaxed);
    if losses > 0 {
        // What is lost lies below what the journal reached.
        shared.saw_dropped(known.holds);
    }
    let rebuilt = &shared.indexes_rebuilt;
    rebuilt.store(damaged_indexes, Ordering::Relaxed);
    let writer = SegmentWriter::begin(
        shared.clone(),
        options,
        WriterStart {
            epoch: plan.epoch,
            first: plan.first,
            next_id,
            previous,
            dropped: found.dropped,
            leftover,
        },
    );
    Ok((writer, Arc::new(SegmentReader::new(shared))))
}

/// Removes the last segment if it is empty, since it would only add a file at every start; whether it did. The only one
/// stays: its first offset says how far the journal reached. So does one before a dropped one: it would be missed.
fn drop_empty_last(
    files: &dyn Files,
    found: &Found,
    segments: &mut Vec<Loaded>,
) -> Result<bool, ReadError> {
    let is_only = segments.len() < 2;
    let Some(empty) = segments.pop_if(|last| {
        last.extent.bytes == HEADER_BYTES && last.header.id == found.last_id() && !is_only
    }) else {
        return Ok(false);
    };
    if files
        .remove(&Name::Segment(empty.header.id).text())
        .is_err()
    {
        // It does no harm.
        segments.push(empty);
        return Ok(false);
    }
    files
        .sync_directory()
        .map_err(|source| io_error(&files.path(""), source))?;
    Ok(true)
}

struct EpochPlan {
    epoch: u32,
    first: Offset,
}

fn plan_epoch(epoch: u32, segments: &[Loaded]) -> Option<EpochPlan> {
    let last = segments.last();
    let epoch = last
        .map_or(0, |last| last.header.epoch.saturating_add(1))
        .max(epoch);
    let end = last.map_or(Offset(0), |last| last.extent.end);
    if epoch > EPOCH_MAX {
        return None;
    }
    let first = end.max(Offset(u64::from(epoch) << Offset::EPOCH_SHIFT));
    (first <= FIRST_MAX).then_some(EpochPlan { epoch, first })
}

/// A segment that was found in order.
struct Loaded {
    header: Header,
    path: String,
    file: Arc<dyn File>,
    file_bytes: u64,
    extent: Extent,
    is_last: bool,
    index: LoadedIndex,
}

enum LoadedIndex {
    Sorted(SortedIndex),
    Rebuilt(Box<TopicIndex>),
}

impl Loaded {
    /// Cuts off what does not count, and makes durable what will be presented as committed.
    fn settle(&self) -> io::Result<()> {
        let bytes = u64::from(self.extent.bytes);
        let is_longer = self.file_bytes > bytes;
        if is_longer {
            self.file.truncate(bytes)?;
        }
        match is_longer || self.is_last {
            true => self.file.sync(),
            false => Ok(()),
        }
    }

    fn into_segment(self, files: &dyn Files) -> Result<Segment, ReadError> {
        let covers = Covers {
            segment: self.header.id,
            first: self.header.first,
            bytes: self.extent.bytes,
        };
        let index = match self.index {
            LoadedIndex::Sorted(index) => Index::Sorted(Arc::new(index)),
            LoadedIndex::Rebuilt(index) => mend::persist(files, &self.path, covers, index),
        };
        Ok(Segment::new(
            files,
            self.header,
            self.file,
            self.extent,
            index,
        ))
    }
}

/// Checks all segments; gives how many index files were of no use as well.
fn load(files: &dyn Files, found: &Found) -> Result<(Vec<Loaded>, u64), ReadError> {
    let mut damaged_indexes = 0;
    let mut opened: Vec<Opened> = Vec::new();
    let mut cuts: BTreeMap<u64, u32> = BTreeMap::new();
    for id in found.segments.iter().copied() {
        let next = Opened::open(files, id)?;
        if let Some(previous) = next.header.previous {
            cuts.insert(previous.id, previous.bytes);
        }
        opened.push(next);
    }
    // A torn successor says nothing; it was not there when its predecessor was last confirmed.
    let last = found.segments.last().copied();
    let mut loaded: Vec<Loaded> = Vec::new();
    for next in opened {
        let id = next.header.id;
        let cut = cuts.get(&id).copied();
        // Its successor was dropped, which is only done if the file ends where the successor said.
        let is_end = Some(id) == last || found.missing.contains(id.saturating_add(1));
        let claim = match (is_end, cut) {
            (true, _) => None,
            (false, Some(bytes)) => Some(bytes),
            (false, None) => Some(next.claim_of_whole_file()?),
        };
        let loaded_next = next.load(files, claim)?;
        if let Some(before) = loaded.last()
            && before.extent.end > loaded_next.header.first
        {
            return Err(ReadError::Damaged {
                path: loaded_next.path,
                at: 0,
                what: "its first offset lies below the end of the segment before it",
            });
        }
        let is_rebuilt = matches!(loaded_next.index, LoadedIndex::Rebuilt(_));
        if is_rebuilt && claim.is_some() && found.indexes.contains(&id) {
            tracing::warn!(
                segment = loaded_next.path,
                "topic index is damaged, it is built again"
            );
            damaged_indexes += 1;
        }
        loaded.push(loaded_next);
    }
    Ok((loaded, damaged_indexes))
}

struct Opened {
    header: Header,
    path: String,
    file: Arc<dyn File>,
    file_bytes: u64,
}

impl Opened {
    fn open(files: &dyn Files, id: u64) -> Result<Self, ReadError> {
        let name = Name::Segment(id).text();
        let path = files.path(&name);
        let file = files
            .open(&name)
            .map_err(|source| io_error(&path, source))?;
        let file_bytes = file.size().map_err(|source| io_error(&path, source))?;
        let damaged = |what| ReadError::Damaged {
            path: path.clone(),
            at: 0,
            what,
        };
        if file_bytes < u64::from(HEADER_BYTES) {
            return Err(damaged("segment header too short"));
        }
        if file_bytes > SEGMENT_BYTES_LIMIT {
            return Err(damaged("segment too long"));
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| io_error(&path, source))?;
        let header = Header::decode(&bytes).map_err(damaged)?;
        if header.id != id {
            return Err(damaged("segment of another name"));
        }
        if header.first > FIRST_MAX {
            return Err(damaged("first offset out of bounds"));
        }
        if header.previous.is_some_and(|previous| previous.id >= id) {
            return Err(damaged("segment names one that is not before it"));
        }
        Ok(Self {
            header,
            path,
            file,
            file_bytes,
        })
    }

    fn claim_of_whole_file(&self) -> Result<u32, ReadError> {
        u32::try_from(self.file_bytes).map_err(|_| self.damaged(0, "segment too long"))
    }

    fn damaged(&self, at: u32, what: &'static str) -> ReadError {
        self.source().damaged(at, what)
    }

    fn source(&self) -> Source<'_> {
        Source {
            header: &self.header,
            path: &self.path,
            file: &*self.file,
        }
    }

    /// With a claim the segment must have exactly that many good bytes; the last one has as many as are good.
    fn load(self, files: &dyn Files, claim: Option<u32>) -> Result<Loaded, ReadError> {
        if let Some(bytes) = claim {
            if u64::from(bytes) > self.file_bytes || bytes < HEADER_BYTES {
                return Err(self.damaged(
                    self.claim_of_whole_file()?,
                    "the segment is shorter than its successor says",
                ));
            }
            let covers = Covers {
                segment: self.header.id,
                first: self.header.first,
                bytes,
            };
            let name = Name::Index(covers.segment).text();
            if let Some(index) = SortedIndex::open(files, &name, covers) {
                let end = Offset(self.header.first.0 + u64::from(index.records()));
                return Ok(self.into_loaded(
                    Extent { bytes, end },
                    false,
                    LoadedIndex::Sorted(index),
                ));
            }
        }
        let limit = match claim {
            Some(bytes) => bytes,
            None => self.claim_of_whole_file()?,
        };
        let mut scan = Scan::new(&self.header);
        let broken = scan.run(self.source(), limit)?;
        if let Some((at, what)) = broken {
            if claim.is_some() || has_confirmed_batch(self.source(), at, limit, scan.index.end())? {
                return Err(self.damaged(at, what));
            }
            if scan.good < limit {
                tracing::info!(
                    segment = self.path,
                    from = scan.good,
                    to = limit,
                    "torn tail cut"
                );
            }
        }
        scan.index.cut(scan.good);
        let extent = Extent {
            bytes: scan.good,
            end: scan.index.end(),
        };
        Ok(self.into_loaded(
            extent,
            claim.is_none(),
            LoadedIndex::Rebuilt(Box::new(scan.index)),
        ))
    }

    fn into_loaded(self, extent: Extent, is_last: bool, index: LoadedIndex) -> Loaded {
        Loaded {
            header: self.header,
            path: self.path,
            file: self.file,
            file_bytes: self.file_bytes,
            extent,
            is_last,
            index,
        }
    }
}
