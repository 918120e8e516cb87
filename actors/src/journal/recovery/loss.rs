//! What is missing of a journal: known by its files, and by what the store says of it.

use super::found::Found;
use super::{Known, Loaded};
use crate::journal::ReadError;
use crate::journal::files::Files;
use crate::model::ids::Offset;

/// Gives how many parts are missing: segments, the end, and what was dropped before the store covered it.
///
/// # Errors
/// [`ReadError::Missing`] if a part is missing and no loss is accepted; [`ReadError::Damaged`] if it is not even known
/// whether it is, because the list of dropped segments is broken.
pub(super) fn judge(
    files: &dyn Files,
    found: &Found,
    last: Option<&Loaded>,
    known: Known,
) -> Result<u64, ReadError> {
    let mut parts = Vec::new();
    let mut losses = 0_u64;
    for range in found.missing.ranges() {
        let (first, last) = range.into_inner();
        losses = losses.saturating_add((last - first).saturating_add(1));
        parts.push(match first == last {
            true => format!("segment {first} is missing"),
            false => format!("segments {first} to {last} are missing"),
        });
    }
    let dropped = found.dropped.end;
    let end = last.map_or(Offset(0), |last| last.extent.end).max(dropped);
    if end < known.holds {
        let (end, holds) = (end.0, known.holds.0);
        losses = losses.saturating_add(1);
        parts.push(format!(
            "it ends at offset {end}, and the store knows of records up to {holds}"
        ));
    }
    if dropped > known.covers {
        let (dropped, covers) = (dropped.0, known.covers.0);
        losses = losses.saturating_add(1);
        parts.push(format!(
            "records up to offset {dropped} were let go, and the store covers those up to {covers} only: it is older than \
             the journal"
        ));
    }
    if losses == 0 {
        return Ok(0);
    }
    if !known.accepts_loss {
        return Err(match &found.dropped.broken {
            Some((path, at)) if !found.missing.is_empty() => ReadError::Damaged {
                path: path.clone(),
                at: *at,
                what: "list of dropped segments, and a segment is missing that it may have named",
            },
            Some(_) | None => ReadError::Missing {
                path: files.path(""),
                what: parts.join("; "),
            },
        });
    }
    for what in parts {
        tracing::error!(
            journal = files.path(""),
            what,
            "a part is lost, the start goes on without it"
        );
    }
    Ok(losses)
}
