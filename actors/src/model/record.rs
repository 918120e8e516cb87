//! Messages as the journal hands them out.

use std::sync::Arc;

use super::ids::Offset;
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
}
