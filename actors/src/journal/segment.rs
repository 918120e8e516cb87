//! One segment file: its header, its names, and what readers and writer share of it.
//!
//! Owns: the header's bytes (drawn in `docs/adr/0002`), the committed extent, the index while it is open. Does not know:
//! other segments, when to seal.
//!
//! Invariant: `extent` only covers committed records; whoever reads looks no further.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::{Mutex, RwLock};

use super::ReadError;
use super::codec::{self, Kind, Parsed, RECORD_HEADER_BYTES};
use super::files::{File, Files};
use super::index::TopicIndex;
use super::select::{Selection, Selector, TopicSource, select};
use super::sorted::{Covers, SortedIndex, u32_at, u64_at};
use crate::model::ids::Offset;
use crate::model::topic::Filter;

const MAGIC: [u8; 8] = *b"OUTLIVEJ";
const VERSION: u32 = 1;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: u32 = 64;
/// No segment is longer: positions are `u32`, and a reader may add a record's length to one.
pub(super) const SEGMENT_BYTES_LIMIT: u64 = 1 << 31;

/// So many topics are looked at under one lock.
const LOCKED_TOPICS_MAX: usize = 512;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Seeds the checksums, so that neither stale bytes of another file nor a forged payload pass for records.
    pub(super) salt: u32,
    pub(super) id: u64,
    pub(super) first: Offset,
    pub(super) epoch: u32,
    /// Where the previous segment ends; what lies behind was abandoned.
    pub(super) previous: Option<Previous>,
}

/// A segment's predecessor and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Previous {
    pub(super) id: u64,
    pub(super) bytes: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        if let Some(previous) = self.previous {
            bytes[36..40].copy_from_slice(&previous.bytes.to_le_bytes());
            bytes[40..48].copy_from_slice(&previous.id.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What is wrong with the bytes, if they are no header of this version.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES as usize]) -> Result<Self, &'static str> {
        let short = "segment header too short";
        if bytes[..8] != MAGIC {
            return Err("no segment of a journal");
        }
        if u32_at(bytes, 60).ok_or(short)? != crc32c::crc32c(&bytes[..60]) {
            return Err("segment header does not match its checksum");
        }
        if u32_at(bytes, 8).ok_or(short)? != VERSION {
            return Err("segment of a format version that is not known here");
        }
        let id = u64_at(bytes, 40).ok_or(short)?;
        let previous = Previous {
            id,
            bytes: u32_at(bytes, 36).ok_or(short)?,
        };
        Ok(Self {
            salt: u32_at(bytes, 12).ok_or(short)?,
            id: u64_at(bytes, 16).ok_or(short)?,
            first: Offset(u64_at(bytes, 24).ok_or(short)?),
            epoch: u32_at(bytes, 32).ok_or(short)?,
            previous: (id != 0).then_some(previous),
        })
    }

    /// Whether a file of header length or less is what a power cut leaves of a segment that was being created.
    pub(super) fn is_torn(bytes: &[u8]) -> bool {
        let start = bytes.len().min(MAGIC.len());
        bytes[..start] == MAGIC[..start] || bytes.iter().all(|byte| *byte == 0)
    }
}

/// What a file in the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// Records.
    Segment(u64),
    /// The sorted index of a segment.
    Index(u64),
    /// The segments that were let go, as ranges; the number grows with every new file.
    Dropped(u64),
    /// Stands for one segment that was let go between others: builds before `Dropped` made them.
    Gone(u64),
    /// The reserve.
    Reserve,
    /// The lock.
    Lock,
}

/// The name of the preallocated file that is given up when the disk is full.
pub(super) const RESERVE_NAME: &str = "reserve";

impl Name {
    /// `None` for a name that the journal never makes.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            RESERVE_NAME => return Some(Self::Reserve),
            super::files::LOCK_NAME => return Some(Self::Lock),
            _ => {}
        }
        let (digits, kind) = name.split_once('.')?;
        let id = digits.parse().ok().filter(|id| *id > 0)?;
        let parsed = match kind {
            "seg" => Self::Segment(id),
            "idx" => Self::Index(id),
            "dropped" => Self::Dropped(id),
            "gone" => Self::Gone(id),
            _ => return None,
        };
        (parsed.text() == name).then_some(parsed)
    }

    /// The segment whose file this is.
    pub(super) fn segment(self) -> Option<u64> {
        match self {
            Self::Segment(id) | Self::Index(id) => Some(id),
            Self::Dropped(_) | Self::Gone(_) | Self::Reserve | Self::Lock => None,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Segment(id) => format!("{id:012}.seg"),
            Self::Index(id) => format!("{id:012}.idx"),
            Self::Dropped(number) => format!("{number:012}.dropped"),
            Self::Gone(id) => format!("{id:012}.gone"),
            Self::Reserve => RESERVE_NAME.to_owned(),
            Self::Lock => super::files::LOCK_NAME.to_owned(),
        }
    }
}

/// A place behind a record: position and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) bytes: u32,
    pub(super) end: Offset,
}

/// One segment, shared by the writer and all readers.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) path: String,
    pub(super) file: Arc<dyn File>,
    pub(super) state: RwLock<State>,
    /// How often the index was built again.
    pub(super) mends: AtomicU32,
    /// Held while it is.
    pub(super) mending: Mutex<()>,
}

/// Where the records of a segment are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) header: &'a Header,
    pub(super) path: &'a str,
    pub(super) file: &'a dyn File,
}

impl Source<'_> {
    pub(super) fn damaged(&self, at: u32, what: &'static str) -> ReadError {
        ReadError::Damaged {
            path: self.path.to_owned(),
            at: u64::from(at),
            what,
        }
    }
}

/// What changes while a segment is open.
#[derive(Debug)]
pub(super) struct State {
    /// The committed part.
    pub(super) extent: Extent,
    pub(super) index: Index,
}

/// The two forms of a topic index.
#[derive(Debug)]
pub(super) enum Index {
    Memory(Box<TopicIndex>),
    Sorted(Arc<SortedIndex>),
}

impl Segment {
    pub(super) fn new(
        files: &dyn Files,
        header: Header,
        file: Arc<dyn File>,
        extent: Extent,
        index: Index,
    ) -> Self {
        Self {
            header,
            path: files.path(&Name::Segment(header.id).text()),
            file,
            state: RwLock::new(State { extent, index }),
            mends: AtomicU32::new(0),
            mending: Mutex::new(()),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        self.state.read().extent
    }

    /// What of the segment `request` wants, and how far it is committed.
    pub(super) fn select(
        &self,
        filters: &[(Filter, Offset)],
        from: Offset,
        count_max: usize,
    ) -> Result<(Selection, Extent), ReadError> {
        let extent = self.extent();
        let found = select(self, filters, from, count_max, extent.bytes)?;
        Ok((found, extent))
    }

    /// The sorted index, once there is one; otherwise the result of `use_open` on the one in memory.
    fn index<T>(
        &self,
        use_open: impl FnOnce(&TopicIndex) -> Result<T, ReadError>,
    ) -> Result<Asked<T>, ReadError> {
        match &self.state.read().index {
            Index::Memory(index) => use_open(index).map(Asked::Answer),
            Index::Sorted(index) => Ok(Asked::Ask(index.clone())),
        }
    }

    /// The position of the committed record at `offset`.
    pub(super) fn position(&self, offset: Offset) -> Result<Option<u32>, ReadError> {
        if offset < self.header.first || offset >= self.extent().end {
            return Ok(None);
        }
        match self.index(|index| Ok(index.position(offset)))? {
            Asked::Answer(position) => Ok(position),
            Asked::Ask(index) => index.position(offset),
        }
    }

    /// What its index file has to cover.
    pub(super) fn covers(&self) -> Covers {
        Covers {
            segment: self.header.id,
            first: self.header.first,
            bytes: self.extent().bytes,
        }
    }

    pub(super) fn damaged(&self, at: u32, what: &'static str) -> ReadError {
        self.source().damaged(at, what)
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source {
            header: &self.header,
            path: &self.path,
            file: &*self.file,
        }
    }
}

enum Asked<T> {
    Answer(T),
    Ask(Arc<SortedIndex>),
}

/// The index in memory is asked under a lock that the writer waits for, so never for long; the one on disk without any.
impl TopicSource for Segment {
    fn start(&self, from: Offset) -> Result<Option<u32>, ReadError> {
        if from > self.header.first {
            return self.position(from);
        }
        // Who comes from the segment before need not ask the index.
        let is_filled = self.extent().end > self.header.first;
        Ok(is_filled.then_some(HEADER_BYTES))
    }

    fn exact(&self, topic: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
        match self.index(|index| index.exact(topic, out))? {
            Asked::Answer(()) => Ok(()),
            Asked::Ask(index) => index.exact(topic, out),
        }
    }

    fn range(&self, prefix: &str, out: &mut Selector<'_>) -> Result<(), ReadError> {
        let mut after = None;
        loop {
            let part = self.index(|index| {
                index.range_part(prefix, after.as_deref(), LOCKED_TOPICS_MAX, out)
            })?;
            match part {
                Asked::Answer(None) => return Ok(()),
                Asked::Answer(last) => after = last,
                // Sealed meanwhile: what was found already is found again, and counts once.
                Asked::Ask(index) => return index.range(prefix, out),
            }
        }
    }
}

/// Reads records of one file through a buffer.
#[derive(Debug)]
pub(super) struct Window<'a> {
    file: &'a dyn File,
    path: &'a str,
    salt: u32,
    /// Nothing at or behind this position is looked at.
    limit: u32,
    buffer: Vec<u8>,
    start: u32,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn File, path: &'a str, salt: u32, limit: u32) -> Self {
        Self {
            file,
            path,
            salt,
            limit,
            buffer: Vec::new(),
            start: 0,
        }
    }

    pub(super) fn of(segment: &'a Segment, limit: u32) -> Self {
        Self::new(&*segment.file, &segment.path, segment.header.salt, limit)
    }

    /// The record at `at`; reads `ahead` bytes if it must read at all. Never [`Parsed::Incomplete`].
    pub(super) fn record(&mut self, at: u32, ahead: usize) -> Result<Parsed<'_>, ReadError> {
        let beyond = Parsed::Invalid("record runs beyond the end");
        let Some(header) = self.fill(at, RECORD_HEADER_BYTES, ahead)? else {
            return Ok(beyond);
        };
        let length = u32_at(header, 0).unwrap_or(u32::MAX);
        if length > codec::BODY_BYTES_MAX {
            return Ok(Parsed::Invalid("record length out of bounds"));
        }
        let size = RECORD_HEADER_BYTES + length as usize;
        let salt = self.salt;
        match self.fill(at, size, ahead)? {
            None => Ok(beyond),
            Some(bytes) => Ok(match codec::parse(bytes, salt) {
                Parsed::Incomplete => beyond,
                parsed @ (Parsed::Record(_) | Parsed::Invalid(_)) => parsed,
            }),
        }
    }

    /// `need` bytes from `at`; `None` if they would reach beyond the limit.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is read lies below the limit, a u32"
    )]
    fn fill(&mut self, at: u32, need: usize, ahead: usize) -> Result<Option<&[u8]>, ReadError> {
        let left = self.limit.saturating_sub(at) as usize;
        if need > left {
            return Ok(None);
        }
        let end = self.start + self.buffer.len() as u32;
        if at < self.start || at + need as u32 > end {
            self.buffer.resize(need.max(ahead).min(left), 0);
            self.start = at;
            let read = self
                .file
                .read_exact_at(&mut self.buffer, u64::from(at))
                .map_err(|source| io_error(self.path, source));
            if let Err(error) = read {
                self.buffer.clear();
                return Err(error);
            }
        }
        let from = (at - self.start) as usize;
        Ok(self.buffer.get(from..from + need))
    }
}

pub(super) fn io_error(path: &str, source: io::Error) -> ReadError {
    ReadError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The text of a topic definition.
pub(super) fn topic_text<'a>(record: &codec::RawRecord<'a>) -> Option<&'a str> {
    match record.kind {
        Kind::Topic => std::str::from_utf8(record.body).ok(),
        Kind::Message | Kind::Session | Kind::Group | Kind::Liveness | Kind::HighWater => None,
    }
}
