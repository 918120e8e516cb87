//! The snapshot store: checkpoints of what the journal says, so that a restart need not replay it all.
//!
//! Owns: snapshots of kept sessions and durable groups, the retained table, marks. Does not know: actors, how a snapshot is made.

pub mod codec;
pub mod data_dir;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod floors;
pub mod memory;
pub mod redb;
pub mod replica;
mod reserve;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Stamp, Timestamp};
use crate::model::quota::HighWater;
use crate::model::retained::RetainedAt;
use crate::model::snapshot::SessionSnapshot;

/// Where checkpoints live: redb on disk, or memory.
pub trait SnapshotStore: Send + Sync {
    /// The marks of the last checkpoint; defaults for a new store.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn marks(&self) -> Result<Marks, StoreError>;

    /// One session's snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn session(&self, number: SessionNumber) -> Result<Option<SessionSnapshot>, StoreError>;

    /// Every session's snapshot, by number.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn sessions(&self, each: &mut dyn FnMut(SessionSnapshot)) -> Result<(), StoreError>;

    /// One group's snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn group(&self, number: GroupNumber) -> Result<Option<GroupSnapshot>, StoreError>;

    /// Every group's snapshot, by number.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn groups(&self, each: &mut dyn FnMut(GroupSnapshot)) -> Result<(), StoreError>;

    /// Every retained topic.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn retained(&self, each: &mut dyn FnMut(&str, RetainedAt)) -> Result<(), StoreError>;

    /// One retained topic.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    fn retained_at(&self, topic: &str) -> Result<Option<RetainedAt>, StoreError>;

    /// Writes a checkpoint, all or nothing, durable on return. An epoch below the stored one does not lower it.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails; then the last checkpoint stands.
    fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError>;
}

/// What a checkpoint changes.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Sessions to write, or to remove.
    pub sessions: Vec<(SessionNumber, Option<SessionSnapshot>)>,
    /// Groups to write, or to remove.
    pub groups: Vec<(GroupNumber, Option<GroupSnapshot>)>,
    /// Retained topics to write, or to remove.
    pub retained: Vec<(String, Option<RetainedAt>)>,
    /// The new marks.
    pub marks: Marks,
}

/// Marks that every checkpoint carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Marks {
    /// Every journal record below this offset is in the checkpoint; replay starts here.
    pub covers: Offset,
    /// The boot epoch of the last start; every start raises it and commits it before anything else.
    pub epoch: u32,
    /// The last liveness stamp below `covers`.
    pub alive_at: Timestamp,
    /// The most sessions that ever were there at once.
    pub high_water: HighWater,
    /// The journal reached up to here: what it holds must not end before. Below `covers` if that is the begin of a boot
    /// epoch, at or above it after a start.
    pub holds: Offset,
    /// The last liveness stamp below `covers` that says which boot of the machine it was.
    pub stamp: Option<Stamp>,
}

/// Why the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// redb or the system refused.
    #[error("snapshot store {path}: {source}")]
    Backend {
        /// The file.
        path: String,
        /// What redb said.
        source: Box<::redb::Error>,
    },
    /// A value that this version cannot read.
    #[error(
        "snapshot store {path}: {what}; nothing was changed, restore it from a backup or move it away"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was found.
        what: String,
    },
    /// Another process, or another broker in this one, has the file open.
    #[error("snapshot store {path} is in use by another process")]
    InUse {
        /// The file.
        path: String,
    },
    /// The checkpointer that was asked has stopped.
    #[error("the checkpointer has stopped")]
    Stopped,
}

impl StoreError {
    /// Whether the disk has no room.
    fn is_disk_full(&self) -> bool {
        match self {
            Self::Backend { source, .. } => {
                matches!(&**source, ::redb::Error::Io(error) if reserve::is_full(error))
            }
            Self::Damaged { .. } | Self::InUse { .. } | Self::Stopped => false,
        }
    }
}
