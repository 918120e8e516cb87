//! Which segments the journal let go: their ids as ranges, in one file.
//!
//! Owns: that file's bytes (drawn in `docs/adr/0002`). Does not know: why a segment goes.
//!
//! Invariants:
//! - a segment is removed only once its id is durable here; an id that is neither here nor in the directory is lost;
//! - a file counts once its header is there, which is written last; what several files say counts together, so one takes
//!   the place of another without a moment in which something is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::ReadError;
use super::files::{File, Files};
use super::segment::{Name, io_error};
use super::sorted::{u32_at, u64_at};
use crate::model::ids::Offset;

const MAGIC: [u8; 8] = *b"OUTLIVED";
const VERSION: u32 = 1;
/// The header and every record are so long, so none of them lies in two sectors.
const RECORD_BYTES: usize = 32;
/// Where the checksum of a header or a record is.
const CRC_AT: usize = RECORD_BYTES - 4;
/// A new file has room for this much at least: then a trim needs no space for a long time.
const FILE_BYTES_MIN: u64 = 4096;
/// A longer file is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A set of ids, kept as the ranges that it consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids(BTreeMap<u64, u64>);

impl Ids {
    pub(super) fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut first, mut last) = range.into_inner();
        // Ranges that overlap the new one or touch it become one with it.
        while let Some((before, end)) = self.0.range(..=last.saturating_add(1)).next_back()
            && end.saturating_add(1) >= first
        {
            (first, last) = (first.min(*before), last.max(*end));
            let before = *before;
            self.0.remove(&before);
        }
        self.0.insert(first, last);
    }

    pub(super) fn add(&mut self, other: &Self) {
        other.ranges().for_each(|range| self.insert(range));
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        let before = self.0.range(..=id).next_back();
        before.is_some_and(|(_, last)| *last >= id)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(_, last)| *last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, ascending; between two of them lies at least one id.
    pub(super) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.0.iter().map(|(first, last)| *first..=*last)
    }
}

impl FromIterator<u64> for Ids {
    fn from_iter<T: IntoIterator<Item = u64>>(ids: T) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id..=id);
        }
        set
    }
}

/// What was let go, and the file that says so.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) ids: Ids,
    /// The offset behind the last record that was let go, as far as it is known.
    pub(super) end: Offset,
    /// Where a record of the file is broken, if one is: what it said is unknown.
    pub(super) broken: Option<(String, u64)>,
    file: Option<Open>,
    /// Whether another file counts as well: then the next note writes one that takes the place of both.
    is_split: bool,
    /// The number of the newest file, counted or not.
    generation: u64,
}

/// The file that takes the next records.
#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    name: Name,
    /// Where the next record goes.
    at: u64,
    bytes: u64,
}

impl Dropped {
    /// Reads what the files of these generations say.
    ///
    /// # Errors
    /// [`ReadError`] if one cannot be read, is of another version or too long.
    pub(super) fn read(files: &dyn Files, generations: &BTreeSet<u64>) -> Result<Self, ReadError> {
        let mut dropped = Self {
            generation: generations.last().copied().unwrap_or(0),
            ..Self::default()
        };
        for generation in generations.iter().copied() {
            dropped.read_file(files, Name::Dropped(generation))?;
        }
        Ok(dropped)
    }

    fn read_file(&mut self, files: &dyn Files, name: Name) -> Result<(), ReadError> {
        let path = files.path(&name.text());
        let failed = |source| io_error(&path, source);
        let damaged = |what| ReadError::Damaged {
            path: path.clone(),
            at: 0,
            what,
        };
        let file = files.open(&name.text()).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        if size > FILE_BYTES_MAX {
            return Err(damaged("list of dropped segments too long"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let (chunks, _) = bytes.as_chunks::<RECORD_BYTES>();
        let Some((header, records)) = chunks.split_first() else {
            return Ok(()); // Its creation was cut short.
        };
        if !is_whole(header) || header[..8] != MAGIC {
            if header.iter().any(|byte| *byte != 0) {
                self.broken = Some((path, 0));
            }
            return Ok(());
        }
        if u32_at(header, 8) != Some(VERSION) {
            return Err(damaged(
                "list of dropped segments of a format version that is not known here",
            ));
        }
        let mut at = RECORD_BYTES as u64;
        for (place, record) in (1u64..).zip(records) {
            if record.iter().all(|byte| *byte == 0) {
                continue;
            }
            let place = place * RECORD_BYTES as u64;
            at = place + RECORD_BYTES as u64;
            match decode(record) {
                Some((range, end)) => {
                    self.ids.insert(range);
                    self.end = self.end.max(end);
                }
                // The last ones may be torn: then nothing of what they say was done.
                None => self.broken = Some((path.clone(), place)),
            }
        }
        self.is_split |= self.file.is_some();
        self.file = Some(Open {
            file,
            name,
            at,
            bytes: size,
        });
        Ok(())
    }

    /// Whether there is a file: then it knows of every segment that was let go, from the first one on.
    pub(super) fn is_complete(&self) -> bool {
        self.file.is_some()
    }

    /// Whether exactly one file counts.
    pub(super) fn is_settled(&self) -> bool {
        self.is_complete() && !self.is_split
    }

    /// Whether a file of this generation is the one that takes the next records.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        let current = self.file.as_ref().map(|open| open.name);
        current == Some(Name::Dropped(generation))
    }

    /// Notes durably that these segments go, whose records end below `end`.
    ///
    /// # Errors
    /// What the system says; then they stay.
    pub(super) fn note(&mut self, files: &dyn Files, ids: &Ids, end: Offset) -> io::Result<()> {
        let records = encode_all(ids, end);
        let length = records.len() as u64;
        match &mut self.file {
            Some(open) if !self.is_split && open.at + length <= open.bytes => {
                open.file.write_all_at(&records, open.at)?;
                open.file.sync()?;
                open.at += length;
                self.ids.add(ids);
                self.end = self.end.max(end);
                Ok(())
            }
            Some(_) | None => {
                let mut all = self.ids.clone();
                all.add(ids);
                self.write_anew(files, all, self.end.max(end))
            }
        }
    }

    /// Writes a new file with all ranges, which takes the place of the one before.
    fn write_anew(&mut self, files: &dyn Files, ids: Ids, end: Offset) -> io::Result<()> {
        let records = encode_all(&ids, end);
        // A name is used once: what a failed attempt left behind is never taken for this one.
        self.generation += 1;
        let name = Name::Dropped(self.generation);
        let needed = 2 * (records.len() + RECORD_BYTES) as u64;
        let bytes = needed.next_multiple_of(FILE_BYTES_MIN);
        let made = files.reserve(&name.text(), bytes).and_then(|()| {
            let file = files.open(&name.text())?;
            file.write_all_at(&records, RECORD_BYTES as u64)?;
            file.sync()?;
            file.write_all_at(&header(), 0)?;
            file.sync()?;
            files.sync_directory()?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                files.remove(&name.text()).ok();
                return Err(error);
            }
        };
        let at = (RECORD_BYTES + records.len()) as u64;
        let before = self.file.replace(Open {
            file,
            name,
            at,
            bytes,
        });
        (self.ids, self.end, self.is_split) = (ids, end, false);
        if let Some(before) = before {
            // It says nothing that the new one does not: the next start tries again.
            files.remove(&before.name.text()).ok();
        }
        Ok(())
    }
}

fn sealed(mut bytes: [u8; RECORD_BYTES]) -> [u8; RECORD_BYTES] {
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn is_whole(bytes: &[u8; RECORD_BYTES]) -> bool {
    u32_at(bytes, CRC_AT) == Some(crc32c::crc32c(&bytes[..CRC_AT]))
}

fn header() -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    sealed(bytes)
}

fn encode_all(ids: &Ids, end: Offset) -> Vec<u8> {
    let mut records = Vec::new();
    for range in ids.ranges() {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&range.start().to_le_bytes());
        bytes[8..16].copy_from_slice(&range.end().to_le_bytes());
        bytes[16..24].copy_from_slice(&end.0.to_le_bytes());
        records.extend_from_slice(&sealed(bytes));
    }
    records
}

fn decode(record: &[u8; RECORD_BYTES]) -> Option<(RangeInclusive<u64>, Offset)> {
    let (first, last) = (u64_at(record, 0)?, u64_at(record, 8)?);
    let is_valid = is_whole(record) && first > 0 && first <= last;
    is_valid.then_some((first..=last, Offset(u64_at(record, 16)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::memory::MemoryFiles;

    proptest! {
        #[test]
        fn ranges_say_what_a_set_says(spans in proptest::collection::vec((1u64..60, 0u64..6), 0..20)) {
            let mut ids = Ids::default();
            let mut expected = BTreeSet::new();
            for (first, more) in spans {
                ids.insert(first..=first + more);
                expected.extend(first..=first + more);
            }
            for id in 0..80 {
                prop_assert_eq!(ids.contains(id), expected.contains(&id));
            }
            prop_assert_eq!(ids.last(), expected.last().copied());
            let ranges: Vec<_> = ids.ranges().collect();
            prop_assert!(ranges.windows(2).all(|pair| *pair[0].end() + 1 < *pair[1].start()));
        }
    }

    fn generations(files: &MemoryFiles) -> BTreeSet<u64> {
        let names = files.list().unwrap();
        let generation = |name: &String| match Name::parse(name) {
            Some(Name::Dropped(generation)) => Some(generation),
            Some(_) | None => None,
        };
        names.iter().filter_map(generation).collect()
    }

    #[test]
    fn the_format_is_the_one_that_was_published() {
        let files = MemoryFiles::new();
        let mut dropped = Dropped::default();
        let note = |dropped: &mut Dropped, ids: &[u64], end| {
            let ids = ids.iter().copied().collect();
            dropped.note(&files, &ids, Offset(end)).unwrap();
        };
        note(&mut dropped, &[1, 2, 3], 700);
        note(&mut dropped, &[5], 1 << 40);
        let bytes = files.bytes("000000000001.dropped").unwrap();
        let golden = "\
            4f55544c4956454401000000000000000000000000000000000000007de7e4fc\
            01000000000000000300000000000000bc0200000000000000000000f5e2868e\
            05000000000000000500000000000000000000000001000000000000ee881d54";
        let hex: String = bytes[..96]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(bytes.len(), 4096);
        assert!(bytes[96..].iter().all(|byte| *byte == 0));
        assert_eq!(
            hex, golden,
            "the format changed: raise its version and keep the old one readable"
        );
        let read = Dropped::read(&files, &BTreeSet::from([1])).unwrap();
        assert_eq!((read.ids, read.end), (dropped.ids, Offset(1 << 40)));
    }

    #[test]
    fn what_was_noted_survives_every_crash_and_one_file_is_left() {
        for seed in 0..200 {
            let mut files = MemoryFiles::new();
            let mut dropped = Dropped::default();
            let mut noted = Ids::default();
            for id in (1..600).step_by(2) {
                let one: Ids = [id].into_iter().collect();
                let cut = seed % 7 == id % 7;
                if cut {
                    files.cut_power_after(seed % 9);
                }
                if dropped.note(&files, &one, Offset(id)).is_ok() {
                    noted.add(&one);
                }
                if cut {
                    files = files.crash(seed ^ id);
                    dropped = Dropped::read(&files, &generations(&files)).unwrap();
                    let is_there = |range: RangeInclusive<u64>| {
                        range.into_iter().all(|id| dropped.ids.contains(id))
                    };
                    assert!(noted.ranges().all(is_there), "seed {seed}, id {id}");
                }
            }
            assert!(generations(&files).len() <= 2 + 300 / 7, "seed {seed}");
        }
    }
}
