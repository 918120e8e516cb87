//! What lies in the directory, before anything of it is opened for good.

use std::collections::BTreeSet;

use crate::journal::ReadError;
use crate::journal::files::Files;
use crate::journal::segment::{HEADER_BYTES, Header, Name, io_error};

/// The files of the directory by kind.
#[derive(Default)]
pub(super) struct Found {
    pub(super) segments: BTreeSet<u64>,
    indexes: BTreeSet<u64>,
    /// Segments that were dropped from between others.
    pub(super) gone: BTreeSet<u64>,
    /// Those of them whose file is still there: the removal was interrupted.
    dropped: BTreeSet<u64>,
    /// The last segment, if it is what a power cut left of its creation.
    torn: Option<u64>,
}

impl Found {
    pub(super) fn list(files: &dyn Files) -> Result<Self, ReadError> {
        let mut found = Self::default();
        let names = files
            .list()
            .map_err(|source| io_error(&files.path(""), source))?;
        for text in names {
            match Name::parse(&text) {
                Some(Name::Segment(id)) => found.segments.insert(id),
                Some(Name::Index(id)) => found.indexes.insert(id),
                Some(Name::Gone(id)) => found.gone.insert(id),
                Some(Name::Reserve | Name::Lock) => true,
                None => {
                    return Err(ReadError::Damaged {
                        path: files.path(&text),
                        at: 0,
                        what: "no file of a journal",
                    });
                }
            };
        }
        // A segment is removed once its `gone` is durable, so a removal that was begun is to be finished.
        found.dropped = &found.segments & &found.gone;
        found.segments = &found.segments - &found.gone;
        if let Some(last) = found.segments.last().copied()
            && is_torn_creation(files, last)?
        {
            found.torn = found.segments.pop_last();
        }
        let known = found.segments.union(&found.gone).copied();
        for (expected, id) in (known.clone().min().unwrap_or(0)..).zip(known) {
            if id != expected {
                return Err(ReadError::Damaged {
                    path: files.path(&Name::Segment(expected).text()),
                    at: 0,
                    what: "the segment is missing",
                });
            }
        }
        Ok(found)
    }

    /// Removes what nothing needs any more.
    pub(super) fn clean(&self, files: &dyn Files) -> Result<(), ReadError> {
        let first = self.segments.first().copied().unwrap_or(u64::MAX);
        let dropped = self.dropped.iter().copied().chain(self.torn);
        let indexes = self.indexes.difference(&self.segments).copied();
        remove(files, dropped.map(Name::Segment))?;
        remove(files, indexes.map(Name::Index))?;
        // Last: a `gone` at the front stands between nothing, as soon as its segment is gone for sure.
        let front = self.gone.iter().copied().filter(|id| *id < first);
        remove(files, front.map(Name::Gone))
    }
}

fn remove(files: &dyn Files, names: impl Iterator<Item = Name>) -> Result<(), ReadError> {
    for name in names {
        let removed = files.remove(&name.text());
        removed.map_err(|source| io_error(&files.path(&name.text()), source))?;
    }
    files
        .sync_directory()
        .map_err(|source| io_error(&files.path(""), source))
}

fn is_torn_creation(files: &dyn Files, id: u64) -> Result<bool, ReadError> {
    let name = Name::Segment(id).text();
    let failed = |source| io_error(&files.path(&name), source);
    let file = files.open(&name).map_err(failed)?;
    let size = file.size().map_err(failed)?;
    if size > u64::from(HEADER_BYTES) {
        return Ok(false);
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    let bytes = &mut bytes[..usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(bytes, 0).map_err(failed)?;
    let whole = (&*bytes)
        .try_into()
        .is_ok_and(|bytes| Header::decode(bytes).is_ok());
    Ok(!whole && Header::is_torn(bytes))
}
