//! What lies in the directory, before anything of it is opened for good.

use std::collections::BTreeSet;

use crate::journal::ReadError;
use crate::journal::dropped::{Dropped, Ids};
use crate::journal::files::Files;
use crate::journal::segment::{HEADER_BYTES, Header, Name, io_error};
use crate::model::ids::Offset;

/// The files of the directory by kind.
#[derive(Default)]
pub(super) struct Found {
    pub(super) segments: BTreeSet<u64>,
    pub(super) indexes: BTreeSet<u64>,
    /// What was let go, as the files say that are there.
    pub(super) dropped: Dropped,
    /// Segments that are neither there nor let go.
    pub(super) missing: Ids,
    /// The files that say what was let go.
    generations: BTreeSet<u64>,
    /// Marks of single segments, as builds before this one made them.
    marks: BTreeSet<u64>,
    /// Segments that were let go and whose file is still there: the removal was interrupted.
    leftover: BTreeSet<u64>,
    /// The last segment, if it is what a power cut left of its creation.
    torn: Option<u64>,
}

impl Found {
    /// Looks at all names. Files that are none of the journal's are left alone.
    pub(super) fn list(files: &dyn Files) -> Result<Self, ReadError> {
        let mut found = Self::default();
        let names = files
            .list()
            .map_err(|source| io_error(&files.path(""), source))?;
        for text in names {
            match Name::parse(&text) {
                Some(Name::Segment(id)) => found.segments.insert(id),
                Some(Name::Index(id)) => found.indexes.insert(id),
                Some(Name::Dropped(generation)) => found.generations.insert(generation),
                Some(Name::Gone(id)) => found.marks.insert(id),
                Some(Name::Reserve | Name::Lock) => true,
                None => {
                    tracing::warn!(
                        file = files.path(&text),
                        "this file is none of the journal's: it is left alone"
                    );
                    true
                }
            };
        }
        found.dropped = Dropped::read(files, &found.generations)?;
        found
            .dropped
            .ids
            .add(&found.marks.iter().copied().collect());
        // A segment is removed once it is noted durably that it goes, so a removal that was begun is to be finished.
        let (leftover, kept) = std::mem::take(&mut found.segments)
            .into_iter()
            .partition(|id| found.dropped.ids.contains(*id));
        (found.leftover, found.segments) = (leftover, kept);
        if let Some(last) = found.segments.last().copied()
            && is_torn_creation(files, last)?
        {
            found.torn = found.segments.pop_last();
        }
        found.missing = found.holes();
        Ok(found)
    }

    /// The ids below the last one that is known which no file is there for and nothing was said of.
    fn holes(&self) -> Ids {
        let mut known: Ids = self.segments.iter().copied().collect();
        known.add(&self.dropped.ids);
        known.add(&self.unsaid());
        let mut holes = Ids::default();
        let mut expected = 1;
        for range in known.ranges() {
            let (first, last) = range.into_inner();
            if expected < first {
                holes.insert(expected..=first - 1);
            }
            expected = last.saturating_add(1);
        }
        holes
    }

    /// What went from the front under a build that kept no list: it said nothing of that.
    fn unsaid(&self) -> Ids {
        let first = self.segments.first().copied();
        let before = first.map_or(self.dropped.ids.last(), |first| first.checked_sub(1));
        let mut ids = Ids::default();
        if let Some(last) = before.filter(|last| *last > 0 && !self.dropped.is_complete()) {
            ids.insert(1..=last);
        }
        ids
    }

    /// The largest id that was ever used.
    pub(super) fn last_id(&self) -> u64 {
        let last = self.segments.last().copied();
        last.max(self.dropped.ids.last()).unwrap_or(0)
    }

    /// Notes in one file what was let go before there was such a file, and what is given up as lost.
    fn note(&mut self, files: &dyn Files) -> std::io::Result<()> {
        let mut news = self.unsaid();
        news.add(&self.missing);
        news.add(&self.marks.iter().copied().collect());
        // Known is known, whether it can be written down or not.
        self.dropped.ids.add(&news);
        match self.dropped.is_settled() && news.is_empty() {
            true => Ok(()),
            false => self.dropped.note(files, &news, Offset(0)),
        }
    }

    /// Removes what nothing needs any more, and gives the names of the files that cannot be removed now.
    pub(super) fn clean(&mut self, files: &dyn Files) -> Vec<Name> {
        let noted = self.note(files);
        if let Err(error) = &noted {
            // A full disk must not keep the broker down. What was known stays known: the old marks stay.
            tracing::warn!(%error, "the list of dropped segments cannot be written");
        }
        let segments = self.leftover.iter().copied().chain(self.torn);
        let indexes = self.indexes.difference(&self.segments).copied();
        let marks = self.marks.iter().copied().filter(|_| noted.is_ok());
        let generations = self.generations.iter().copied();
        let old = generations.filter(|one| noted.is_ok() && !self.dropped.is_current(*one));
        let names = segments
            .map(Name::Segment)
            .chain(indexes.map(Name::Index))
            .chain(marks.map(Name::Gone))
            .chain(old.map(Name::Dropped));
        names.filter(|name| !is_removed(files, *name)).collect()
    }
}

fn is_removed(files: &dyn Files, name: Name) -> bool {
    match files.remove(&name.text()) {
        Ok(()) => true,
        Err(error) => {
            let file = files.path(&name.text());
            tracing::warn!(file, %error, "file cannot be removed, trying on");
            false
        }
    }
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
