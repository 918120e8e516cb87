//! The appender's thread: gathers batches, writes them, answers, and trims when it is told to.
//!
//! Owns: the writer, and what waits for a disk that refuses. Does not know: who submitted what, and why.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, bounded, never, select};

use super::load::{Load, message_bytes};
use super::outage::Outage;
use super::{AppenderParts, Cells, Command, Durability, Needed};
use crate::actor::protocol::{Committed, Submission};
use crate::journal::{AppendError, Needs, Taken};
use crate::model::entry::Entry;
use crate::model::ids::{Offset, ShardSet};
use crate::model::message::QoS;
use crate::model::record::Record;

/// How long the appender waits before it tries a disk again that refused.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

fn is_message(entry: &Entry) -> bool {
    matches!(entry, Entry::Message { .. })
}

pub(super) struct Worker {
    commands: Receiver<Command>,
    cells: Arc<Cells>,
    parts: AppenderParts,
    /// Submissions that hold state changes and wait for the disk to come back.
    stuck: Vec<Submission>,
    /// Says when to sync (`interval`) or to try the disk again.
    due: Receiver<Instant>,
    /// Something was written and not synced (`interval`).
    unsynced: bool,
    outage: Outage,
}

impl Worker {
    pub(super) fn new(
        commands: Receiver<Command>,
        cells: Arc<Cells>,
        parts: AppenderParts,
    ) -> Self {
        Self {
            commands,
            cells,
            parts,
            stuck: Vec::new(),
            due: never(),
            unsynced: false,
            outage: Outage::default(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let mut batch = std::mem::take(&mut self.stuck);
            let mut stop = None;
            match self.wait() {
                Some(Command::Append(submission)) => batch.push(submission),
                Some(Command::Trim(needed)) => self.trim(&needed),
                Some(Command::Stop(done)) => stop = Some(done),
                #[cfg(feature = "testing")]
                Some(Command::Die) => crate::supervise::faults::Die.now(),
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
                    Ok(Command::Trim(needed)) => self.trim(&needed),
                    Ok(Command::Stop(done)) => stop = Some(done),
                    #[cfg(feature = "testing")]
                    Ok(Command::Die) => crate::supervise::faults::Die.now(),
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
            while !self.outage.lasts() && self.commands.is_empty() && self.parts.writer.maintain() {
            }
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
        if entries.is_empty() {
            let end = self.parts.writer.end();
            return self.answer(&batch, entries, end);
        }
        let bytes = message_bytes(&entries);
        match self.write(&entries) {
            Ok(first) => {
                // That state gets through says nothing: there is room kept for it.
                if has_message && self.outage.wrote(bytes) {
                    self.cells.failing.store(false, Ordering::Relaxed);
                    tracing::info!("journal takes entries again");
                }
                self.answer(&batch, entries, first);
            }
            Err(error) => {
                if self.failed(bytes) {
                    tracing::error!(%error, "journal refuses entries, acknowledgements stop");
                }
                let mut entries = entries.into_iter();
                for (submission, length) in batch.iter_mut().zip(lengths) {
                    submission.entries.extend(entries.by_ref().take(length));
                }
                self.refuse(batch);
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
                let is_question = submission.entries.is_empty() && !behind.is_empty();
                if is_question || submission.entries.iter().any(is_message) {
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
        let count = placed.len() as u64;
        if count > 0 {
            self.cells.batches.fetch_add(1, Ordering::Relaxed);
            (self.parts.sink)(placed);
        }
        self.cells.committed.fetch_add(count, Ordering::SeqCst);
        for (answer, send) in answers.into_iter().zip(&self.parts.answers) {
            if let Some((mut committed, records)) = answer {
                committed.end = end;
                committed.records = records.into();
                send(committed);
            }
        }
    }

    /// A batch of so many message bytes failed; whether that is news.
    fn failed(&mut self, bytes: usize) -> bool {
        self.due = after(RETRY_INTERVAL);
        self.cells.failing.store(true, Ordering::Relaxed);
        self.outage.failed(bytes)
    }

    /// Publications are refused at once, so that their publishers know; whoever changed its state waits.
    fn refuse(&mut self, batch: Vec<Submission>) {
        let mut failed: Vec<Vec<u64>> = vec![Vec::new(); self.parts.answers.len()];
        for submission in batch {
            // A question waits for what is stuck in front of it.
            let is_question = submission.entries.is_empty();
            let mut entries = submission.entries.iter();
            let refusable = !is_question
                && entries.all(|entry| matches!(entry, Entry::Message { received: None, .. }));
            if refusable && let Some(failed) = failed.get_mut(usize::from(submission.shard.0)) {
                self.cells
                    .refused
                    .fetch_add(submission.entries.len() as u64, Ordering::SeqCst);
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
        match self.parts.writer.sync() {
            Ok(()) => self.unsynced = false,
            Err(error) => {
                if self.failed(0) {
                    tracing::error!(%error, "journal cannot be synced");
                }
            }
        }
    }

    fn trim(&mut self, needed: &Needed) {
        let Needed { covered, floor, .. } = *needed;
        self.parts.writer.pin(&needed.pinned);
        self.parts.writer.unpin(&needed.unpinned);
        match self.parts.writer.trim(floor) {
            Ok(0) => {}
            Ok(bytes) => tracing::debug!(bytes, floor = floor.0, "journal trimmed"),
            Err(error) => tracing::warn!(%error, "journal segment cannot be removed"),
        }
        let bytes_max = self.parts.bytes_max;
        if bytes_max == 0 {
            return;
        }
        let needs = Needs { covered, floor };
        match self.parts.writer.trim_to_bytes(bytes_max, needs) {
            Ok(Taken { records: 0, .. }) => {}
            Ok(Taken { records, pinned }) => {
                if pinned > 0 {
                    (self.parts.loss)();
                }
                let lag = self.parts.writer.entries_since(floor);
                tracing::warn!(
                    records,
                    retained = pinned,
                    lag,
                    bytes_max,
                    "journal too long, sessions that lag lose their oldest records"
                );
            }
            Err(error) => tracing::warn!(%error, "journal segment cannot be removed"),
        }
    }
}
