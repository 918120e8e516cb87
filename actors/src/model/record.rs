//! Messages as the journal hands them out.

use std::sync::Arc;

use super::ids::{Offset, Timestamp};
use super::message::Message;

/// One message of the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place.
    pub offset: Offset,
    /// The publication.
    pub message: Arc<Message>,
}

/// A run of matching records.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Matching records in offset order.
    pub records: Vec<Record>,
    /// Where to read on: no matching record lies between `from` and `next` but those in `records`.
    pub next: Offset,
    /// The authoritative end when the page was read; `next == end` says: caught up.
    pub end: Offset,
    /// Holes between `from` and `next`: records are gone there that a reader may have needed, because the journal was too
    /// long or a part of it was lost.
    pub holes: u32,
}

/// Retained messages of a filter, in the order of their topics.
#[derive(Clone, Debug, Default)]
pub struct RetainedRecords {
    /// When they were asked for. What was received later was routed by every subscription that was in force then.
    pub asked_at: Timestamp,
    /// The records; one that was replaced since it was found may be gone.
    pub records: Vec<Option<Record>>,
    /// The topic behind which to go on; `None`: that was all.
    pub resume: Option<Box<str>>,
}
