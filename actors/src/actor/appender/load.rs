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

impl Load {
    pub(super) fn add(&mut self, submission: &Submission) {
        self.entries += submission.entries.len();
        for entry in &submission.entries {
            if let Entry::Message { message, .. } = entry {
                self.bytes += message.size_bytes();
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries >= BATCH_ENTRIES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
