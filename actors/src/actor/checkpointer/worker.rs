//! What runs on the checkpointer's thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, never, select_biased, tick};
use parking_lot::Mutex;
use tracing::{error, info};

use super::{
    CheckpointConfig, CheckpointObservation, GoneSource, GroupReply, ImageReply, TrimReply,
};
use crate::clock::Clock;
use crate::model::entry::Entry;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::retained::Gone;
use crate::store::StoreError;
use crate::store::replica::Replica;

/// While the store fails, the appender waits once so many times `dirty_max` images are kept.
const DIRTY_FACTOR_MAX: usize = 4;

/// Retained messages that are forgotten at a time: so long whoever asks for an image waits.
const GONE_AT_ONCE: usize = 1_000;

/// How long a failure that goes on is not logged again.
const LOG_INTERVAL_MILLIS: u64 = 60_000;

/// Committed entries, and the offset below which every other committed record may be passed over.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<(Offset, Entry)>,
    pub(super) end: Offset,
}

/// Whose image is asked for, and who gets it.
pub(super) enum Question {
    Session(SessionNumber, ImageReply),
    Group(GroupNumber, GroupReply),
}

impl Question {
    fn answer(self, replica: &Replica) {
        match self {
            Self::Session(session, reply) => reply(replica.image(session)),
            Self::Group(group, reply) => reply(replica.group(group)),
        }
    }

    fn refuse(self) {
        match self {
            Self::Session(_, reply) => reply(Err(StoreError::Stopped)),
            Self::Group(_, reply) => reply(Err(StoreError::Stopped)),
        }
    }
}

/// What is asked of the checkpointer.
pub(super) enum Request {
    Image {
        question: Question,
        at_least: Offset,
    },
    Checkpoint(Box<dyn FnOnce(Result<Offset, StoreError>) + Send>),
    Stop(Sender<Result<(), StoreError>>),
}

impl Request {
    /// Answers that nobody will.
    pub(super) fn refuse(self) {
        match self {
            Self::Image { question, .. } => question.refuse(),
            Self::Checkpoint(reply) => reply(Err(StoreError::Stopped)),
            // Dropping the sender is the answer.
            Self::Stop(_) => {}
        }
    }
}

/// What runs on the thread.
pub(super) struct Worker {
    replica: Replica,
    config: CheckpointConfig,
    clock: Arc<dyn Clock>,
    on_trim: TrimReply,
    gone: GoneSource,
    batches: Receiver<Batch>,
    requests: Receiver<Request>,
    /// Received and not applied: empty unless the store could not be read.
    pending: VecDeque<(Offset, Entry)>,
    /// Retained messages that are gone and not forgotten yet.
    forgetting: VecDeque<Gone>,
    /// There may be more of them.
    is_more_gone: bool,
    /// The end of the last batch received.
    pending_end: Offset,
    /// Questions for images by the offset that they wait for.
    awaited: BTreeMap<(Offset, u64), Question>,
    awaited_last: u64,
    /// When a failure that goes on was last logged.
    failing: Option<Timestamp>,
    observed: CheckpointObservation,
    observation: Arc<Mutex<CheckpointObservation>>,
}

impl Worker {
    pub(super) fn new(
        replica: Replica,
        config: CheckpointConfig,
        clock: Arc<dyn Clock>,
        on_trim: TrimReply,
        gone: GoneSource,
        (batches, requests): (Receiver<Batch>, Receiver<Request>),
        observation: Arc<Mutex<CheckpointObservation>>,
    ) -> Self {
        let observed = *observation.lock();
        Self {
            replica,
            config,
            clock,
            on_trim,
            gone,
            batches,
            requests,
            pending: VecDeque::new(),
            forgetting: VecDeque::new(),
            is_more_gone: false,
            pending_end: Offset(0),
            awaited: BTreeMap::new(),
            awaited_last: 0,
            failing: None,
            observed,
            observation,
        }
    }

    /// Works until it is told to stop or all handles are gone.
    pub(super) fn run(mut self) {
        let ticks = match self.config.interval_millis {
            0 => never(),
            millis => tick(Duration::from_millis(millis)),
        };
        let nothing = never();
        let mut appender_gone = false;
        loop {
            let takes = !appender_gone && self.has_room();
            let batches = if takes { &self.batches } else { &nothing };
            let go_on = match self.is_more_gone && self.has_room() {
                true => after(Duration::ZERO),
                false => never(),
            };
            // Biased to what is rare: batches alone may be ready all the time.
            select_biased! {
                recv(ticks) -> _ => self.tick(),
                recv(self.requests) -> request => match request {
                    Ok(Request::Image { question, at_least }) => self.answer(question, at_least),
                    Ok(Request::Checkpoint(reply)) => {
                        self.drain();
                        let covers = self.commit().map(|()| self.replica.marks().covers);
                        self.publish();
                        reply(covers);
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
                recv(go_on) -> _ => {
                    self.forget();
                    self.commit_if_large();
                }
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

    fn take(&mut self, batch: Batch) {
        self.observed.lag += batch.entries.len() as u64;
        self.pending.extend(batch.entries);
        self.pending_end = batch.end;
        self.apply_pending();
        self.commit_if_large();
    }

    fn commit_if_large(&mut self) {
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
        if self.pending.is_empty() {
            self.replica.advance(self.pending_end);
        }
        let applied = self.replica.applied();
        while let Some(first) = self.awaited.first_entry()
            && first.key().0 <= applied
        {
            first.remove().answer(&self.replica);
        }
    }

    fn answer(&mut self, question: Question, at_least: Offset) {
        if at_least <= self.replica.applied() {
            question.answer(&self.replica);
        } else {
            self.awaited_last += 1;
            self.awaited.insert((at_least, self.awaited_last), question);
        }
    }

    fn tick(&mut self) {
        self.apply_pending();
        drop(self.commit());
    }

    /// Forgets retained messages that are gone, some at a time.
    fn forget(&mut self) {
        if self.forgetting.is_empty() {
            self.forgetting = (self.gone)(self.clock.now(), GONE_AT_ONCE).into();
            self.is_more_gone = self.forgetting.len() == GONE_AT_ONCE;
        }
        while let Some((topic, offset)) = self.forgetting.front() {
            if let Err(error) = self.replica.forget(topic, *offset) {
                // The next checkpoint tries again.
                self.is_more_gone = false;
                return self.failed(&error);
            }
            self.forgetting.pop_front();
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.forget();
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
        if let Some(trim) = self.replica.take_trim() {
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
        for question in std::mem::take(&mut self.awaited).into_values() {
            question.refuse();
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
