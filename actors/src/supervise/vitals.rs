//! Noticing that a part is gone without which everybody waits for ever.
//!
//! A session that dies is built again. The threads of journal and checkpoints, the shards and the registry cannot be,
//! while others hold what they told them: what they would have answered stays unanswered, and clients wait on connections
//! that look well. So whoever runs the system is told, and ends it; what was promised is in the journal, as in any crash.

use std::fmt;
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use crate::model::ids::ShardId;

/// A part without which the system cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// The thread that writes the journal.
    Appender,
    /// The thread that writes checkpoints.
    Checkpointer,
    /// The actor that looks after the quota and stamps that the broker is alive.
    Registry,
    /// The actor at the head of a shard.
    Shard(ShardId),
}

impl fmt::Display for Vital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appender => f.write_str("appender"),
            Self::Checkpointer => f.write_str("checkpointer"),
            Self::Registry => f.write_str("registry"),
            Self::Shard(shard) => write!(f, "shard {}", shard.0),
        }
    }
}

/// Whether all parts are alive; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// The first that died.
    dead: Arc<watch::Sender<Option<Vital>>>,
}

impl Vitals {
    /// What `part` holds as long as it runs.
    pub fn sign(&self, part: Vital) -> VitalSign {
        VitalSign {
            vitals: self.clone(),
            part,
        }
    }

    /// Resolves once a part has died, with the first that did; a stop in good order is no death.
    pub async fn death(&self) -> Vital {
        let mut dead = self.dead.subscribe();
        let first = dead.wait_for(Option::is_some).await.ok();
        match first.and_then(|part| *part) {
            Some(part) => part,
            // Not reached: the sender is ours.
            None => std::future::pending().await,
        }
    }
}

/// Tells if the part that holds it panics.
#[derive(Debug)]
pub struct VitalSign {
    vitals: Vitals,
    part: Vital,
}

impl Drop for VitalSign {
    fn drop(&mut self) {
        // A part that stops in good order drops it too, but does not unwind.
        if !thread::panicking() {
            return;
        }
        tracing::error!(part = %self.part, "a vital part panicked, the system cannot go on");
        self.vitals.dead.send_if_modified(|dead| {
            let is_first = dead.is_none();
            dead.get_or_insert(self.part);
            is_first
        });
    }
}
