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

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select_biased, tick, unbounded};
use parking_lot::Mutex;
use thiserror::Error;
use tracing::{error, info};

use crate::clock::Clock;
use crate::model::entry::Entry;
use crate::model::ids::{Offset, SessionNumber, Timestamp};
use crate::model::snapshot::SessionSnapshot;
use crate::store::StoreError;
use crate::store::replica::{Replica, Trim};

/// What the answer to a question for an image is given to; runs on the checkpointer's thread, so it must not block.
pub type ImageReply = Box<dyn FnOnce(Result<Option<SessionSnapshot>, StoreError>) + Send>;

/// What is told about the journal's floor after every checkpoint; must not block, least of all on the appender, which
/// may be waiting for the checkpointer.
pub type TrimReply = Box<dyn FnMut(Trim<'_>) + Send>;

/// While the store fails, the appender waits once so many times `dirty_max` images are kept.
const DIRTY_FACTOR_MAX: usize = 4;

/// How long a failure that goes on is not logged again.
const LOG_INTERVAL_MILLIS: u64 = 60_000;

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
    /// Records received that are not.
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
pub struct CheckpointSink(Sender<Vec<(Offset, Entry)>>);

impl CheckpointSink {
    /// Hands over committed entries, in order and without gap to the last ones; waits while the queue is full.
    ///
    /// # Errors
    /// [`Stopped`]; the journal goes on without checkpoints.
    pub fn send(&self, entries: Vec<(Offset, Entry)>) -> Result<(), Stopped> {
        self.0.send(entries).map_err(|_| Stopped)
    }
}

/// Starts the checkpointer.
#[derive(Debug)]
pub struct Checkpointer;

impl Checkpointer {
    /// Starts the thread on what recovery found.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        replica: Replica,
        config: CheckpointConfig,
        clock: Arc<dyn Clock>,
        on_trim: TrimReply,
    ) -> io::Result<CheckpointerHandle> {
        let (sink, batches) = bounded(config.batches_max);
        // As many as there are sessions being resumed, which the limits on connections bound.
        let (requests, asked) = unbounded();
        let observation = Arc::new(Mutex::new(CheckpointObservation {
            covers: replica.marks().covers,
            ..CheckpointObservation::default()
        }));
        let worker = Worker {
            replica,
            config,
            clock,
            on_trim,
            batches,
            requests: asked,
            pending: VecDeque::new(),
            awaited: BTreeMap::new(),
            awaited_last: 0,
            failing: None,
            observed: *observation.lock(),
            observation: Arc::clone(&observation),
        };
        let thread = thread::Builder::new()
            .name("checkpointer".to_owned())
            .spawn(move || worker.run())?;
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
    /// such session then. Never waits. `at_least` must be an offset that a committed record has reached: one behind
    /// the last record of the session, or the end of the journal when the broker started.
    pub fn image(&self, session: SessionNumber, at_least: Offset, reply: ImageReply) {
        self.ask(Request::Image {
            session,
            at_least,
            reply,
        });
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

enum Request {
    Image {
        session: SessionNumber,
        at_least: Offset,
        reply: ImageReply,
    },
    Checkpoint(Box<dyn FnOnce(Result<Offset, StoreError>) + Send>),
    Stop(Sender<Result<(), StoreError>>),
}

impl Request {
    fn refuse(self) {
        match self {
            Self::Image { reply, .. } => reply(Err(StoreError::Stopped)),
            Self::Checkpoint(reply) => reply(Err(StoreError::Stopped)),
            // Dropping the sender is the answer.
            Self::Stop(_) => {}
        }
    }
}

/// What runs on the thread.
struct Worker {
    replica: Replica,
    config: CheckpointConfig,
    clock: Arc<dyn Clock>,
    on_trim: TrimReply,
    batches: Receiver<Vec<(Offset, Entry)>>,
    requests: Receiver<Request>,
    /// Received and not applied: empty unless the store could not be read.
    pending: VecDeque<(Offset, Entry)>,
    /// Questions for images by the offset that they wait for.
    awaited: BTreeMap<(Offset, u64), (SessionNumber, ImageReply)>,
    awaited_last: u64,
    /// When a failure that goes on was last logged.
    failing: Option<Timestamp>,
    observed: CheckpointObservation,
    observation: Arc<Mutex<CheckpointObservation>>,
}

impl Worker {
    fn run(mut self) {
        let ticks = match self.config.interval_millis {
            0 => never(),
            millis => tick(Duration::from_millis(millis)),
        };
        let nothing = never();
        let mut appender_gone = false;
        loop {
            let takes = !appender_gone && self.has_room();
            let batches = if takes { &self.batches } else { &nothing };
            // Biased to what is rare: batches alone may be ready all the time.
            select_biased! {
                recv(ticks) -> _ => self.tick(),
                recv(self.requests) -> request => match request {
                    Ok(Request::Image { session, at_least, reply }) => self.answer(session, at_least, reply),
                    Ok(Request::Checkpoint(reply)) => {
                        self.drain();
                        reply(self.commit().map(|()| self.replica.marks().covers));
                    }
                    Ok(Request::Stop(reply)) => {
                        let result = self.finish();
                        drop(reply.send(result));
                        break;
                    }
                    Err(_) => {
                        drop(self.finish());
                        break;
                    }
                },
                recv(batches) -> batch => match batch {
                    Ok(batch) => self.take(batch),
                    Err(_) => appender_gone = true,
                },
            }
            self.publish();
        }
        self.publish();
    }

    fn has_room(&self) -> bool {
        let dirty_max = self.config.dirty_max.saturating_mul(DIRTY_FACTOR_MAX);
        self.pending.is_empty() && (self.failing.is_none() || self.replica.dirty() < dirty_max)
    }

    fn take(&mut self, batch: Vec<(Offset, Entry)>) {
        self.observed.lag += batch.len() as u64;
        self.pending.extend(batch);
        self.apply_pending();
        if self.replica.dirty() >= self.config.dirty_max && self.failing.is_none() {
            drop(self.commit());
        }
    }

    /// Everything that the appender has sent, as far as the store can be read.
    fn drain(&mut self) {
        self.apply_pending();
        while self.has_room() {
            let Ok(batch) = self.batches.try_recv() else {
                return;
            };
            self.take(batch);
        }
    }

    fn apply_pending(&mut self) {
        while let Some((at, entry)) = self.pending.front() {
            if let Err(error) = self.replica.apply(*at, entry) {
                self.failed(&error);
                break;
            }
            self.pending.pop_front();
        }
        let applied = self.replica.applied();
        while let Some(first) = self.awaited.first_entry()
            && first.key().0 <= applied
        {
            let (session, reply) = first.remove();
            reply(self.replica.image(session));
        }
    }

    fn answer(&mut self, session: SessionNumber, at_least: Offset, reply: ImageReply) {
        if at_least <= self.replica.applied() {
            reply(self.replica.image(session));
        } else {
            self.awaited_last += 1;
            self.awaited
                .insert((at_least, self.awaited_last), (session, reply));
        }
    }

    fn tick(&mut self) {
        self.apply_pending();
        drop(self.commit());
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let covers = self.replica.marks().covers;
        if covers == self.replica.applied() && self.replica.dirty() == 0 {
            return Ok(());
        }
        let began = self.clock.now();
        if let Err(error) = self.replica.commit() {
            self.failed(&error);
            return Err(error);
        }
        self.observed.commits += 1;
        self.observed.last_commit_millis = self.clock.now().millis_since(began);
        self.observed.lag = self.pending.len() as u64;
        if self.pending.is_empty() && self.failing.take().is_some() {
            info!("checkpoints are written again");
        }
        if let Some(trim) = self.replica.trim() {
            (self.on_trim)(trim);
        }
        Ok(())
    }

    fn failed(&mut self, error: &StoreError) {
        self.observed.failures += 1;
        let now = self.clock.now();
        let logged = self
            .failing
            .is_some_and(|at| now.millis_since(at) < LOG_INTERVAL_MILLIS);
        if !logged {
            self.failing = Some(now);
            error!(
                %error,
                failures = self.observed.failures,
                dirty_sessions = self.replica.dirty_sessions(),
                "no checkpoint can be written, trying on"
            );
        }
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.drain();
        let result = self.commit();
        for (_, reply) in std::mem::take(&mut self.awaited).into_values() {
            reply(Err(StoreError::Stopped));
        }
        for request in self.requests.try_iter() {
            request.refuse();
        }
        result
    }

    fn publish(&mut self) {
        self.observed.covers = self.replica.marks().covers;
        self.observed.dirty_sessions = self.replica.dirty_sessions();
        self.observed.images_awaited = self.awaited.len();
        *self.observation.lock() = self.observed;
    }
}

#[cfg(test)]
mod tests;
