//! How much one group commit takes.

use crate::actor::protocol::Submission;
use crate::model::entry::Entry;

/// Entries that one batch takes at most, so that an answer never waits for ever behind a flood.
const BATCH_ENTRIES_MAX: usize = 16_384;

/// A batch of this many bytes takes no further submission.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// How large a batch is.
#[derive(Default)]
pub(super) struct Load {
    entries: usize,
    bytes: usize,
}

/// What the messages among `entries` take.
pub(super) fn message_bytes(entries: &[Entry]) -> usize {
    let bytes = entries.iter().map(|entry| match entry {
        Entry::Message { message, .. } => message.size_bytes(),
        Entry::Session { .. }
        | Entry::Group { .. }
        | Entry::Liveness { .. }
        | Entry::HighWater(_) => 0,
    });
    bytes.sum()
}

impl Load {
    pub(super) fn add(&mut self, submission: &Submission) {
        self.entries += submission.entries.len();
        self.bytes += message_bytes(&submission.entries);
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
