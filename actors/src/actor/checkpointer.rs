//! The checkpointer: a thread that follows the journal and writes what it says to the store, now and then.
//!
//! Owns: the [`Replica`] and when it is committed. Does not know: what a change means, who asks for images, how the
//! journal is trimmed.
//!
//! Invariants:
//! - it sees every committed record once, in order; a full queue makes the appender wait, so memory is bounded;
//! - nobody waits for it but the appender: whoever asks for an image is called back;
//! - a store that fails loses nothing: images stay, the commit is tried again every interval, and while that goes on
//!   too long the appender waits. The journal alone is enough to recover.

mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded, unbounded};
use parking_lot::Mutex;
use thiserror::Error;
use tracing::error;

use self::worker::{Batch, Question, Request, Worker};
use crate::clock::Clock;
use crate::model::entry::Entry;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::retained::Gone;
use crate::model::snapshot::SessionSnapshot;
use crate::store::StoreError;
use crate::store::floors::Trim;
use crate::store::replica::Replica;
use crate::supervise::vitals::VitalSign;

/// What the answer to a question for an image is given to; runs on the checkpointer's thread, so it must not block.
pub type ImageReply = Box<dyn FnOnce(Result<Option<SessionSnapshot>, StoreError>) + Send>;

/// As [`ImageReply`], for a group.
pub type GroupReply = Box<dyn FnOnce(Result<Option<GroupSnapshot>, StoreError>) + Send>;

/// What is told about the journal's floor after every checkpoint; must not block, least of all on the appender, which
/// may be waiting for the checkpointer.
pub type TrimReply = Box<dyn FnMut(Trim) + Send>;

/// Gives what of the retained table is gone by a moment, otherwise than by the journal: so many at most.
pub type GoneSource = Box<dyn FnMut(Timestamp, usize) -> Vec<Gone> + Send>;

/// When a checkpoint is made.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointConfig {
    /// After so long, if anything changed; 0: only when asked, when `dirty_max` is reached and at the end.
    pub interval_millis: u64,
    /// As soon as so many sessions and retained topics differ from the store; bounds the memory for images.
    pub dirty_max: usize,
    /// Batches of the appender that may wait; above, the appender waits.
    pub batches_max: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            interval_millis: 10_000,
            dirty_max: 50_000,
            batches_max: 64,
        }
    }
}

/// Counters and gauges of the checkpointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointObservation {
    /// Every record below is in the store.
    pub covers: Offset,
    /// Entries received that are not.
    pub lag: u64,
    /// Checkpoints made.
    pub commits: u64,
    /// Failed tries to read or write the store.
    pub failures: u64,
    /// How long the last checkpoint took.
    pub last_commit_millis: u64,
    /// Sessions that differ from the store; each has an image in memory, no other has.
    pub dirty_sessions: usize,
    /// Questions for images that wait for records still under way.
    pub images_awaited: usize,
}

/// The checkpointer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the checkpointer has stopped")]
pub struct Stopped;

/// The appender's end of the queue.
#[derive(Clone, Debug)]
pub struct CheckpointSink(Sender<Batch>);

impl CheckpointSink {
    /// Hands over committed entries, in order and without gap to the last ones; waits while the queue is full.
    ///
    /// # Errors
    /// [`Stopped`]; the journal goes on without checkpoints.
    pub fn send(&self, entries: Vec<(Offset, Entry)>) -> Result<(), Stopped> {
        let end = entries.last().map_or(Offset(0), |(at, _)| at.next());
        self.send_below(entries, end)
    }

    /// As [`Self::send`], but without the entries that it does not [want](Self::wants): the committed records below
    /// `end` that are not among `entries` are taken for applied.
    ///
    /// # Errors
    /// [`Stopped`]; the journal goes on without checkpoints.
    pub fn send_below(&self, entries: Vec<(Offset, Entry)>, end: Offset) -> Result<(), Stopped> {
        self.0.send(Batch { entries, end }).map_err(|_| Stopped)
    }

    /// Whether the entry changes a checkpoint; plain publications, which are most, do not.
    pub fn wants(entry: &Entry) -> bool {
        match entry {
            Entry::Message { message, received } => message.retain || received.is_some(),
            Entry::Session { .. }
            | Entry::Group { .. }
            | Entry::Liveness { .. }
            | Entry::HighWater(_) => true,
        }
    }
}

/// Starts the checkpointer.
#[derive(Debug)]
pub struct Checkpointer;

impl Checkpointer {
    /// Starts the thread on what recovery found; `sign` tells if it dies.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        replica: Replica,
        config: CheckpointConfig,
        clock: Arc<dyn Clock>,
        sign: VitalSign,
        on_trim: TrimReply,
        gone: GoneSource,
    ) -> io::Result<CheckpointerHandle> {
        let (sink, batches) = bounded(config.batches_max);
        // As many as there are sessions being resumed, which the limits on connections bound.
        let (requests, asked) = unbounded();
        let observation = Arc::new(Mutex::new(CheckpointObservation {
            covers: replica.marks().covers,
            ..CheckpointObservation::default()
        }));
        let worker = Worker::new(
            replica,
            config,
            clock,
            on_trim,
            gone,
            (batches, asked),
            Arc::clone(&observation),
        );
        let thread = thread::Builder::new()
            .name("checkpointer".to_owned())
            .spawn(move || {
                let _sign = sign;
                worker.run();
            })?;
        Ok(CheckpointerHandle {
            sink: CheckpointSink(sink),
            requests,
            observation,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }
}

/// Talks to the checkpointer; when the last one is dropped it makes a last checkpoint and ends.
#[derive(Clone)]
pub struct CheckpointerHandle {
    sink: CheckpointSink,
    requests: Sender<Request>,
    observation: Arc<Mutex<CheckpointObservation>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl CheckpointerHandle {
    /// Where the appender hands over what it committed.
    pub fn sink(&self) -> CheckpointSink {
        self.sink.clone()
    }

    /// Gives the image of `session` to `reply` once every record below `at_least` is applied; `None` if there is no
    /// such session then. Never waits. `at_least` must be an offset that the appender has told or will tell of: one
    /// behind a committed record, the `end` of a [`CheckpointSink::send_below`], or the end of the journal when the
    /// broker started.
    pub fn image(&self, session: SessionNumber, at_least: Offset, reply: ImageReply) {
        let question = Question::Session(session, reply);
        self.ask(Request::Image { question, at_least });
    }

    /// As [`Self::image`], for a group.
    pub fn group(&self, group: GroupNumber, at_least: Offset, reply: GroupReply) {
        let question = Question::Group(group, reply);
        self.ask(Request::Image { question, at_least });
    }

    /// Makes a checkpoint of what was received so far and tells `reply` what it covers.
    pub fn checkpoint(&self, reply: Box<dyn FnOnce(Result<Offset, StoreError>) + Send>) {
        self.ask(Request::Checkpoint(reply));
    }

    /// Takes in what the appender sent, makes a last checkpoint and ends the thread; waits for it. The appender must
    /// have stopped. What asks later is answered with [`StoreError::Stopped`].
    ///
    /// # Errors
    /// [`StoreError`] if the last checkpoint failed: the next start replays the journal from the one before.
    pub fn stop(&self) -> Result<(), StoreError> {
        let (reply, answer) = bounded(1);
        self.ask(Request::Stop(reply));
        let result = answer.recv().unwrap_or(Err(StoreError::Stopped));
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            error!("the checkpointer panicked");
        }
        result
    }

    /// Lets the thread panic.
    #[cfg(feature = "testing")]
    pub(crate) fn die(&self) {
        self.checkpoint(Box::new(|_| crate::supervise::faults::Die.now()));
    }

    /// Counters and gauges.
    pub fn observe(&self) -> CheckpointObservation {
        *self.observation.lock()
    }

    fn ask(&self, request: Request) {
        if let Err(refused) = self.requests.send(request) {
            refused.into_inner().refuse();
        }
    }
}

impl fmt::Debug for CheckpointerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointerHandle")
            .field("observation", &self.observe())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
