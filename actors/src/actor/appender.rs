//! The appender: the one thread that writes the journal, and answers who waits for it.
//!
//! Owns: the group commit. Whatever waits when it looks becomes one batch: one write, one sync, one answer per shard. So
//! latency is low when it is quiet and batches grow under load.
//!
//! Invariants:
//! - entries are written in the order in which their shard submitted them;
//! - nothing is answered before it is as durable as `log.durability` says and visible to readers;
//! - who wants a committed record is asked after it is visible: a reader that registers its route before it reads the
//!   end finds every record either in what it reads or in what it is handed;
//! - while the disk refuses, publications are refused, state changes wait: what a session decided is never undone.

mod load;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, unbounded};
use parking_lot::Mutex;

use self::load::Load;
use super::protocol::{Committed, Submission};
use crate::journal::{AppendError, JournalWriter};
use crate::model::entry::Entry;
use crate::model::ids::{Offset, ShardSet};
use crate::model::message::{Message, QoS};
use crate::model::record::Record;

/// How long the appender waits before it tries a disk again that refused.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

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
}

#[derive(Debug, Default)]
struct Cells {
    submitted: AtomicU64,
    committed: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
enum Command {
    Append(Submission),
    Trim { floor: Offset, pinned: Vec<Offset> },
    Stop(Sender<()>),
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
    /// One per shard, by number.
    pub answers: Vec<Answer>,
    /// Who wants a message.
    pub targets: Targets,
    /// Where all of it goes first.
    pub sink: CommitSink,
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
            .fetch_add(submission.entries.len() as u64, Ordering::Relaxed);
        // After the stop nobody waits for an answer any more.
        self.commands.send(Command::Append(submission)).ok();
    }

    /// Lets go of what nobody needs: sealed segments below `floor` without a pinned offset.
    pub fn trim(&self, floor: Offset, pinned: Vec<Offset>) {
        self.commands.send(Command::Trim { floor, pinned }).ok();
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

    /// What the appender counted.
    pub fn observe(&self) -> AppenderObservation {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (committed, refused) = (read(&self.cells.committed), read(&self.cells.refused));
        AppenderObservation {
            waiting: read(&self.cells.submitted).saturating_sub(committed + refused),
            committed,
            batches: read(&self.cells.batches),
            refused,
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
        let worker = Worker {
            commands: self.commands,
            cells: Arc::clone(&self.handle.cells),
            parts,
            stuck: Vec::new(),
            due: never(),
            unsynced: false,
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("appender".into())
            .spawn(move || worker.run())?;
        *self.handle.thread.lock() = Some(thread);
        Ok(())
    }
}

fn is_message(entry: &Entry) -> bool {
    matches!(entry, Entry::Message { .. })
}

struct Worker {
    commands: Receiver<Command>,
    cells: Arc<Cells>,
    parts: AppenderParts,
    /// Submissions that hold state changes and wait for the disk to come back.
    stuck: Vec<Submission>,
    /// Says when to sync (`interval`) or to try the disk again.
    due: Receiver<Instant>,
    /// Something was written and not synced (`interval`).
    unsynced: bool,
    failing: bool,
}

impl Worker {
    fn run(mut self) {
        loop {
            let mut batch = std::mem::take(&mut self.stuck);
            let mut stop = None;
            match self.wait() {
                Some(Command::Append(submission)) => batch.push(submission),
                Some(Command::Trim { floor, pinned }) => self.trim(floor, &pinned),
                Some(Command::Stop(done)) => stop = Some(done),
                None => {}
            }
            let mut load = Load::default();
            batch.iter().for_each(|submission| load.add(submission));
            while stop.is_none() && !load.is_full() {
                match self.commands.try_recv() {
                    Ok(Command::Append(submission)) => {
                        load.add(&submission);
                        batch.push(submission);
                    }
                    Ok(Command::Trim { floor, pinned }) => self.trim(floor, &pinned),
                    Ok(Command::Stop(done)) => stop = Some(done),
                    Err(_) => break,
                }
            }
            if !batch.is_empty() {
                self.commit(batch);
            }
            if let Some(done) = stop {
                self.sync_rest();
                done.send(()).ok();
                return;
            }
            // Whoever waits was answered: now is the time for what nobody waits for.
            while !self.failing && self.commands.is_empty() && self.parts.writer.maintain() {}
        }
    }

    /// The next command; `None` when it is time to sync or to try the disk again.
    fn wait(&mut self) -> Option<Command> {
        select! {
            recv(self.commands) -> command => {
                Some(command.unwrap_or_else(|_| Command::Stop(bounded(1).0)))
            }
            recv(self.due) -> _ => {
                self.due = never();
                if self.unsynced {
                    self.sync_rest();
                }
                None
            }
        }
    }

    fn commit(&mut self, mut batch: Vec<Submission>) {
        let mut entries = Vec::with_capacity(
            batch
                .iter()
                .map(|submission| submission.entries.len())
                .sum(),
        );
        let mut lengths = Vec::with_capacity(batch.len());
        for submission in &mut batch {
            lengths.push(submission.entries.len());
            entries.append(&mut submission.entries);
        }
        let has_message = entries.iter().any(is_message);
        match self.write(&entries) {
            Ok(first) => {
                // That state gets through says nothing: there is room kept for it.
                if has_message && std::mem::take(&mut self.failing) {
                    tracing::info!("journal takes entries again");
                }
                self.answer(&batch, entries, first);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "journal refuses entries, acknowledgements stop");
                }
                let mut entries = entries.into_iter();
                for (submission, length) in batch.iter_mut().zip(lengths) {
                    submission.entries.extend(entries.by_ref().take(length));
                }
                self.refuse(batch);
                self.due = after(RETRY_INTERVAL);
                if has_message {
                    self.commit_state();
                }
            }
        }
    }

    /// Commits what waits only because a publication was in its batch: the journal keeps room for state when it has none
    /// for messages. Behind a message that cannot be refused its shard waits, so that the order stays.
    fn commit_state(&mut self) {
        let mut behind = ShardSet::default();
        let (state, stuck) = std::mem::take(&mut self.stuck)
            .into_iter()
            .partition(|submission| {
                if submission.entries.iter().any(is_message) {
                    behind.insert(submission.shard);
                }
                !behind.contains(submission.shard)
            });
        self.stuck = stuck;
        let state: Vec<Submission> = state;
        if !state.is_empty() {
            self.commit(state);
        }
    }

    fn write(&mut self, entries: &[Entry]) -> Result<Offset, AppendError> {
        let first = self.parts.writer.append(entries)?;
        match self.parts.durability {
            Durability::Always => self.parts.writer.sync()?,
            Durability::Interval { millis } => {
                self.parts.writer.publish();
                // From the first unsynced batch on, however busy it is.
                if !std::mem::replace(&mut self.unsynced, true) {
                    self.due = after(Duration::from_millis(millis));
                }
            }
            Durability::Never => self.parts.writer.publish(),
        }
        Ok(first)
    }

    fn answer(&mut self, batch: &[Submission], entries: Vec<Entry>, first: Offset) {
        let mut answers: Vec<Option<(Committed, Vec<Record>)>> =
            vec![None; self.parts.answers.len()];
        let end = Offset(first.0 + entries.len() as u64);
        for submission in batch {
            if let Some(answer) = answers.get_mut(usize::from(submission.shard.0)) {
                let (committed, _) = answer.get_or_insert_default();
                committed.ticket = submission.ticket;
            }
        }
        let placed: Vec<_> = (first.0..).map(Offset).zip(entries).collect();
        for (offset, entry) in &placed {
            // Whoever takes QoS 0 was served when it was published; it is here for the retained table only.
            let Entry::Message { message, .. } = entry else {
                continue;
            };
            if message.qos == QoS::AtMostOnce {
                continue;
            }
            for shard in (self.parts.targets)(message).iter() {
                if let Some(answer) = answers.get_mut(usize::from(shard.0)) {
                    let (_, records) = answer.get_or_insert_default();
                    records.push(Record {
                        offset: *offset,
                        message: Arc::clone(message),
                    });
                }
            }
        }
        self.cells
            .committed
            .fetch_add(placed.len() as u64, Ordering::Relaxed);
        self.cells.batches.fetch_add(1, Ordering::Relaxed);
        (self.parts.sink)(placed);
        for (answer, send) in answers.into_iter().zip(&self.parts.answers) {
            if let Some((mut committed, records)) = answer {
                committed.end = end;
                committed.records = records.into();
                send(committed);
            }
        }
    }

    /// Publications are refused at once, so that their publishers know; whoever changed its state waits.
    fn refuse(&mut self, batch: Vec<Submission>) {
        let mut failed: Vec<Vec<u64>> = vec![Vec::new(); self.parts.answers.len()];
        for submission in batch {
            let refusable = submission
                .entries
                .iter()
                .all(|entry| matches!(entry, Entry::Message { received: None, .. }));
            if refusable && let Some(failed) = failed.get_mut(usize::from(submission.shard.0)) {
                self.cells
                    .refused
                    .fetch_add(submission.entries.len() as u64, Ordering::Relaxed);
                failed.push(submission.ticket);
            } else {
                self.stuck.push(submission);
            }
        }
        for (failed, send) in failed.into_iter().zip(&self.parts.answers) {
            if !failed.is_empty() {
                send(Committed {
                    failed,
                    ..Committed::default()
                });
            }
        }
    }

    fn sync_rest(&mut self) {
        if let Err(error) = self.parts.writer.sync() {
            self.failing = true;
            self.due = after(RETRY_INTERVAL);
            tracing::error!(%error, "journal cannot be synced");
        } else {
            self.unsynced = false;
        }
    }

    fn trim(&mut self, floor: Offset, pinned: &[Offset]) {
        match self.parts.writer.trim(floor, pinned) {
            Ok(0) => {}
            Ok(bytes) => tracing::debug!(bytes, floor = floor.0, "journal trimmed"),
            Err(error) => tracing::warn!(%error, "journal segment cannot be removed"),
        }
    }
}
