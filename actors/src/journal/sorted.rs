//! The index file of a sealed segment: sorted topics -> positions, and offset -> position.
//!
//! Owns: that file's bytes (drawn in `docs/adr/0002`). Does not know: records. In memory stay only the first topic of
//! each block and a Bloom filter; the rest is read when asked for.
//!
//! Invariant: derived data. A file that is missing, torn or of another version is built again from the segment.

mod bloom;
mod write;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::bloom::Bloom;
pub(super) use self::write::write;
use super::ReadError;
use super::files::{File, Files};
use super::select::{Postings, Selector};
use crate::model::ids::Offset;

const MAGIC: [u8; 8] = *b"OUTLIVEX";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 64;
/// Written or checked at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Which segment an index belongs to, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covers {
    pub(super) segment: u64,
    pub(super) first: Offset,
    /// Bytes of the segment.
    pub(super) bytes: u32,
}

/// The open index of one sealed segment.
#[derive(Debug)]
pub(super) struct SortedIndex {
    file: Arc<dyn File>,
    path: String,
    first: Offset,
    records: u32,
    postings_at: u64,
    meta_at: u64,
    /// Checksum of all between header and meta.
    body_crc: u32,
    /// Whether it was found right, which is looked at before the first use and not at every start.
    checked: AtomicBool,
    blocks: Vec<Block>,
    bloom: Bloom,
}

#[derive(Debug)]
struct Block {
    first_topic: Box<str>,
    at: u64,
    bytes: u32,
}

impl SortedIndex {
    /// Opens an index file; `None` if it has to be built again.
    pub(super) fn open(files: &dyn Files, name: &str, covers: Covers) -> Option<Self> {
        let file = files.open(name).ok()?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).ok()?;
        let (fields, crc) = header.split_at(HEADER_BYTES - 4);
        let is_ours = fields[..8] == MAGIC
            && u32_at(fields, 8)? == VERSION
            && crc == crc32c::crc32c(fields).to_le_bytes();
        let found = Covers {
            bytes: u32_at(fields, 12)?,
            segment: u64_at(fields, 16)?,
            first: Offset(u64_at(fields, 24)?),
        };
        if !is_ours || found != covers {
            return None;
        }
        let records = u32_at(fields, 32)?;
        let (meta_at, meta_bytes) = (u64_at(fields, 40)?, u32_at(fields, 48)?);
        if meta_at.checked_add(u64::from(meta_bytes))? > file.size().ok()? {
            return None;
        }
        let mut meta = vec![0; meta_bytes as usize];
        file.read_exact_at(&mut meta, meta_at).ok()?;
        if crc32c::crc32c(&meta) != u32_at(fields, 56)? {
            return None;
        }
        let (bloom, blocks) = decode_meta(&meta)?;
        let postings_at = HEADER_BYTES as u64 + u64::from(records) * 4;
        // Nothing that it claims may reach beyond it, or memory would be taken for it.
        let is_within = |block: &Block| {
            let end = block.at.checked_add(u64::from(block.bytes));
            end.is_some_and(|end| end <= meta_at)
        };
        if records > covers.bytes || postings_at > meta_at || !blocks.iter().all(is_within) {
            return None;
        }
        Some(Self {
            file,
            path: files.path(name),
            first: covers.first,
            records,
            postings_at,
            meta_at,
            body_crc: u32_at(fields, 52)?,
            checked: AtomicBool::new(false),
            blocks,
            bloom,
        })
    }

    /// How many offsets the segment has.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// The position of the record at `offset`.
    pub(super) fn position(&self, offset: Offset) -> Result<Option<u32>, ReadError> {
        let relative = offset.0.checked_sub(self.first.0);
        let Some(relative) = relative.filter(|at| *at < u64::from(self.records)) else {
            return Ok(None);
        };
        self.check()?;
        self.number(HEADER_BYTES as u64 + relative * 4).map(Some)
    }

    /// Appends the first positions in `wanted` of a topic whose `count` positions begin at the `at`th.
    pub(super) fn postings(
        &self,
        at: u32,
        count: u32,
        wanted: Range<u32>,
        count_max: usize,
        out: &mut Vec<u32>,
    ) -> Result<(), ReadError> {
        let place = |n: u32| self.postings_at + (u64::from(at) + u64::from(n)) * 4;
        if place(count) > self.meta_at {
            return Err(self.damaged(self.postings_at));
        }
        let (mut low, mut high) = (0, count);
        // Down to a stretch that is read in one go.
        while high - low > 256 {
            let middle = low + (high - low) / 2;
            match self.number(place(middle))? < wanted.start {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let length = count_max.saturating_add((high - low) as usize);
        let stretch = length.min((count - low) as usize);
        let mut bytes = vec![0; stretch * 4];
        self.file
            .read_exact_at(&mut bytes, place(low))
            .map_err(|source| self.io(source))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let positions = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let within = positions.filter(|at| wanted.contains(at));
        out.extend(within.take(count_max));
        Ok(())
    }

    fn number(&self, at: u64) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.file
            .read_exact_at(&mut bytes, at)
            .map_err(|source| self.io(source))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn block(&self, block: &Block) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; block.bytes as usize];
        self.file
            .read_exact_at(&mut bytes, block.at)
            .map_err(|source| self.io(source))?;
        Ok(bytes)
    }

    /// Checksums what lies between header and meta, once.
    fn check(&self) -> Result<(), ReadError> {
        if !self.checked.load(Ordering::Relaxed) {
            self.verify()?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checksums what lies between header and meta.
    pub(super) fn verify(&self) -> Result<(), ReadError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut at, mut crc) = (HEADER_BYTES as u64, 0);
        while at < self.meta_at {
            let left = usize::try_from(self.meta_at - at).unwrap_or(usize::MAX);
            let chunk = &mut buffer[..left.min(CHUNK_BYTES)];
            self.file
                .read_exact_at(chunk, at)
                .map_err(|source| self.io(source))?;
            crc = crc32c::crc32c_append(crc, chunk);
            at += chunk.len() as u64;
        }
        if crc != self.body_crc {
            return Err(self.damaged(HEADER_BYTES as u64));
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, at: u64) -> ReadError {
        ReadError::Damaged {
            path: self.path.clone(),
            at,
            what: "topic index",
        }
    }

    /// Hands the topics from the block that may hold `from` on to `each`, until that says stop.
    fn walk(
        &self,
        from: &str,
        each: &mut dyn FnMut(&str, Postings<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        self.check()?;
        let after = self
            .blocks
            .partition_point(|block| &*block.first_topic <= from);
        for block in &self.blocks[after.saturating_sub(1)..] {
            let bytes = self.block(block)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Some((topic, at, count)) = take_topic(&mut rest) else {
                    return Err(self.damaged(block.at));
                };
                let postings = Postings::Sorted {
                    index: self,
                    at,
                    count,
                };
                if topic >= from && !each(topic, postings)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl SortedIndex {
    /// Hands the topic of exactly this name to `out`, if it is there.
    pub(super) fn exact(&self, topic: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
        if !self.bloom.may_contain(topic) {
            return Ok(());
        }
        self.walk(topic, &mut |found, postings| {
            if found == topic {
                out.topic(found, postings)?;
            }
            Ok(false)
        })
    }

    /// Hands all topics that begin with `prefix` to `out`, until it has enough.
    pub(super) fn range(&self, prefix: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
        self.walk(prefix, &mut |found, postings| {
            if !found.starts_with(prefix) || out.is_too_broad() {
                return Ok(false);
            }
            out.topic(found, postings)?;
            Ok(true)
        })
    }
}

fn decode_meta(meta: &[u8]) -> Option<(Bloom, Vec<Block>)> {
    let words = u32_at(meta, 0)? as usize;
    let (bloom, mut rest) = meta.get(4..)?.split_at_checked(words.checked_mul(8)?)?;
    let (words, _) = bloom.as_chunks::<8>();
    let bloom = Bloom {
        words: words.iter().map(|word| u64::from_le_bytes(*word)).collect(),
    };
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let length = u32_at(rest, 12)? as usize;
        let topic = rest.get(16..16 + length)?;
        blocks.push(Block {
            at: u64_at(rest, 0)?,
            bytes: u32_at(rest, 8)?,
            first_topic: Box::from(std::str::from_utf8(topic).ok()?),
        });
        rest = &rest[16 + length..];
    }
    (!bloom.words.is_empty()).then_some((bloom, blocks))
}

fn take_topic<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, u32, u32)> {
    let length = u32_at(rest, 0)? as usize;
    let topic = std::str::from_utf8(rest.get(4..4 + length)?).ok()?;
    let at = u32_at(rest, 4 + length)?;
    let count = u32_at(rest, 8 + length)?;
    *rest = rest.get(12 + length..)?;
    Some((topic, at, count))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
