//! The appender: the one thread that writes the journal, and answers who waits for it.
//!
//! Owns: the group commit. Whatever waits when it looks becomes one batch: one write, one sync, one answer per shard. So
//! latency is low when it is quiet and batches grow under load.
//!
//! Invariants:
//! - entries are written in the order in which their shard submitted them;
//! - a submission without entries is a question: it is answered when all that was submitted before is;
//! - nothing is answered before it is as durable as `log.durability` says and visible to readers;
//! - who wants a committed record is asked after it is visible: a reader that registers its route before it reads the
//!   end finds every record either in what it reads or in what it is handed;
//! - while the disk refuses, publications are refused, state changes wait: what a session decided is never undone.

mod load;
mod outage;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;

use self::worker::Worker;
use super::protocol::{Committed, Submission};
use crate::journal::JournalWriter;
use crate::model::entry::Entry;
use crate::model::ids::{Offset, ShardSet};
use crate::model::message::Message;
use crate::supervise::vitals::VitalSign;

/// When an acknowledgement may be sent (`log.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the sync: a power cut loses nothing that was acknowledged.
    Always,
    /// After the write; synced every so often: a power cut loses at most the last interval, a crash of the broker
    /// nothing.
    Interval {
        /// The interval in milliseconds.
        millis: u64,
    },
    /// After the write; the system decides when it is durable.
    Never,
}

/// Takes what is committed: an answer for one shard.
pub type Answer = Box<dyn Fn(Committed) + Send>;

/// Takes all that is committed, in order, before it is answered.
pub type CommitSink = Box<dyn FnMut(Vec<(Offset, Entry)>) + Send>;

/// Says which shards want a committed message at once.
pub type Targets = Box<dyn Fn(&Message) -> ShardSet + Send>;

/// Is told that records went on which the table of retained messages relies.
pub type Loss = Box<dyn FnMut() + Send>;

/// Counters and gauges of the appender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppenderObservation {
    /// Entries submitted and not answered.
    pub waiting: u64,
    /// Entries committed.
    pub committed: u64,
    /// Batches committed.
    pub batches: u64,
    /// Entries refused because the disk refused them.
    pub refused: u64,
    /// Whether the disk fails: from the first write or sync that failed until as much was written again.
    pub failing: bool,
}

#[derive(Debug, Default)]
struct Cells {
    submitted: AtomicU64,
    committed: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
    failing: AtomicBool,
}

/// What is needed of the journal, as of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// A replay would start here.
    pub covered: Offset,
    /// Sessions need what lies at or above.
    pub floor: Offset,
    /// Offsets that from now on are needed wherever they lie.
    pub pinned: Vec<Offset>,
    /// Offsets that no longer are.
    pub unpinned: Vec<Offset>,
}

#[derive(Debug)]
enum Command {
    Append(Submission),
    Trim(Needed),
    Stop(Sender<()>),
    #[cfg(feature = "testing")]
    Die,
}

/// The way to the appender; cheap to clone.
#[derive(Clone, Debug)]
pub struct AppenderHandle {
    commands: Sender<Command>,
    cells: Arc<Cells>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The appender before it runs: submissions may already be made.
#[derive(Debug)]
pub struct Appender {
    commands: Receiver<Command>,
    handle: AppenderHandle,
}

/// What the appender works with.
pub struct AppenderParts {
    /// The journal.
    pub writer: Box<dyn JournalWriter>,
    /// When to answer.
    pub durability: Durability,
    /// The most bytes of segments that a trim leaves, if checkpoints allow; 0 = none.
    pub bytes_max: u64,
    /// One per shard, by number.
    pub answers: Vec<Answer>,
    /// Who wants a message.
    pub targets: Targets,
    /// Where all of it goes first.
    pub sink: CommitSink,
    /// Tells if the thread dies.
    pub sign: VitalSign,
    /// Who must know that pinned records were dropped.
    pub loss: Loss,
}

impl std::fmt::Debug for AppenderParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppenderParts")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl AppenderHandle {
    /// Submits entries. Never waits: what is under way is bounded by what connections may have unanswered.
    pub fn submit(&self, submission: Submission) {
        self.cells
            .submitted
            .fetch_add(submission.entries.len() as u64, Ordering::SeqCst);
        // After the stop nobody waits for an answer any more.
        self.commands.send(Command::Append(submission)).ok();
    }

    /// Whether all that was submitted is answered, and what is retained of it in the table.
    pub fn is_idle(&self) -> bool {
        let read = |cell: &AtomicU64| cell.load(Ordering::SeqCst);
        // What is done is read first: what is submitted meanwhile makes it less than all.
        let done = read(&self.cells.committed) + read(&self.cells.refused);
        done >= read(&self.cells.submitted)
    }

    /// Lets go of the segments that nobody needs, and of needed ones too while the journal is longer than allowed.
    pub fn trim(&self, needed: Needed) {
        self.commands.send(Command::Trim(needed)).ok();
    }

    /// Commits what was submitted and ends the thread; waits for it.
    pub fn stop(&self) {
        let (done, stopped) = bounded(1);
        if self.commands.send(Command::Stop(done)).is_ok() {
            stopped.recv().ok();
        }
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("appender panicked");
        }
    }

    /// Lets the thread panic.
    #[cfg(feature = "testing")]
    pub(crate) fn die(&self) {
        self.commands.send(Command::Die).ok();
    }

    /// What the appender counted.
    pub fn observe(&self) -> AppenderObservation {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (committed, refused) = (read(&self.cells.committed), read(&self.cells.refused));
        AppenderObservation {
            waiting: read(&self.cells.submitted).saturating_sub(committed + refused),
            committed,
            batches: read(&self.cells.batches),
            refused,
            failing: self.cells.failing.load(Ordering::Relaxed),
        }
    }
}

impl Appender {
    /// An appender that does not run yet, and the way to it.
    pub fn new() -> (Self, AppenderHandle) {
        let (sender, commands) = unbounded();
        let handle = AppenderHandle {
            commands: sender,
            cells: Arc::default(),
            thread: Arc::default(),
        };
        (
            Self {
                commands,
                handle: handle.clone(),
            },
            handle,
        )
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self, parts: AppenderParts) -> io::Result<()> {
        let worker = Worker::new(self.commands, Arc::clone(&self.handle.cells), parts);
        let thread = std::thread::Builder::new()
            .name("appender".into())
            .spawn(move || worker.run())?;
        *self.handle.thread.lock() = Some(thread);
        Ok(())
    }
}
