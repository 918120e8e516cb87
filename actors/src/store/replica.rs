//! The checkpointer's copy of all kept sessions: the journal folded onto the store.
//!
//! Owns: images of the sessions touched since the last checkpoint, what changed in the retained table, and what of the
//! journal is still needed. Does not know: threads, when to commit.
//!
//! Invariants:
//! - an image is the stored snapshot with every change up to `applied` folded in; nothing else makes a snapshot;
//! - a record below `applied` changes nothing, so a replay may start too early;
//! - memory is kept for touched sessions only: nothing per session that sleeps (see [`FloorCounts`]), 8 to 16 bytes
//!   per retained message;
//! - what failed changed nothing: [`Replica::apply`] and [`Replica::commit`] may be called again with the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::Arc;

use super::floors::{FloorCounts, Trim};
use super::{Checkpoint, Marks, SnapshotStore, StoreError};
use crate::model::entry::{Change, Entry};
use crate::model::ids::{Offset, PacketId, SessionNumber, Timestamp};
use crate::model::message::Message;
use crate::model::quota::HighWater;
use crate::model::snapshot::SessionSnapshot;

/// The store and what the journal says beyond it.
pub struct Replica {
    store: Arc<dyn SnapshotStore>,
    /// As of the last checkpoint.
    marks: Marks,
    images: BTreeMap<SessionNumber, Image>,
    retained: BTreeMap<String, RetainedImage>,
    applied: Offset,
    alive_at: Timestamp,
    high_water: HighWater,
    /// What stored sessions need; `None` before the first [`Replica::scan`].
    floors: Option<FloorCounts>,
    /// The records that the stored retained table names.
    pinned: BTreeSet<Offset>,
}

/// A session that was touched since the last checkpoint.
struct Image {
    /// What the store holds of it.
    base: Base,
    /// `None` when it ended.
    snapshot: Option<Box<SessionSnapshot>>,
}

#[derive(Clone, Copy)]
enum Base {
    Absent,
    Stored { needed_from: Option<Offset> },
}

/// A retained topic that was touched since the last checkpoint.
struct RetainedImage {
    stored: Option<Offset>,
    now: Option<Offset>,
}

impl Replica {
    /// A replica that stands where the last checkpoint of `store` stands.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn open(store: Arc<dyn SnapshotStore>) -> Result<Self, StoreError> {
        let marks = store.marks()?;
        let mut pinned = BTreeSet::new();
        store.retained(&mut |_, offset| {
            pinned.insert(offset);
        })?;
        Ok(Self {
            store,
            marks,
            images: BTreeMap::new(),
            retained: BTreeMap::new(),
            applied: marks.covers,
            alive_at: marks.alive_at,
            high_water: marks.high_water,
            floors: None,
            pinned,
        })
    }

    /// The marks of the last checkpoint.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Every record below is applied.
    pub fn applied(&self) -> Offset {
        self.applied
    }

    /// The latest moment at which the journal says that the broker was alive.
    pub fn alive_at(&self) -> Timestamp {
        self.alive_at
    }

    /// The most sessions that ever were there at once, as the journal says.
    pub fn high_water(&self) -> HighWater {
        self.high_water
    }

    /// Sessions that differ from the store.
    pub fn dirty_sessions(&self) -> usize {
        self.images.len()
    }

    /// Sessions and retained topics that differ from the store.
    pub fn dirty(&self) -> usize {
        self.images.len() + self.retained.len()
    }

    /// Applies the committed record at `at`.
    ///
    /// # Errors
    /// [`StoreError`] if the base image cannot be read; then nothing changed and the record is still to be applied.
    pub fn apply(&mut self, at: Offset, entry: &Entry) -> Result<(), StoreError> {
        if at < self.applied {
            return Ok(());
        }
        match entry {
            Entry::Message { message, received } => {
                if let Some(packet_id) = received {
                    self.receive(at, message.publisher, *packet_id)?;
                }
                if message.retain {
                    self.retain(at, message)?;
                }
            }
            Entry::Session { session, change } => self.change(at, *session, change)?,
            Entry::Liveness { at: alive_at } => self.saw_alive(*alive_at),
            Entry::HighWater(mark) => self.high_water = *mark,
        }
        self.applied = at.next();
        Ok(())
    }

    /// No record lies between `applied` and `end`: the journal's end after a replay.
    pub fn advance(&mut self, end: Offset) {
        self.applied = self.applied.max(end);
    }

    /// The session as of `applied`; `None` if it does not exist or ended.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn image(&self, session: SessionNumber) -> Result<Option<SessionSnapshot>, StoreError> {
        match self.images.get(&session) {
            Some(image) => Ok(image.snapshot.as_deref().cloned()),
            None => self.store.session(session),
        }
    }

    /// Gives every session as of `applied`, one at a time, and learns what the stored ones need of the journal.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn scan(&mut self, each: &mut dyn FnMut(&SessionSnapshot)) -> Result<(), StoreError> {
        let mut floors = FloorCounts::default();
        let images = &self.images;
        self.store.sessions(&mut |snapshot| {
            if let Some(offset) = snapshot.needed_from() {
                floors.add(offset);
            }
            if !images.contains_key(&snapshot.number) {
                each(&snapshot);
            }
        })?;
        self.floors = Some(floors);
        images
            .values()
            .filter_map(|image| image.snapshot.as_deref())
            .for_each(each);
        Ok(())
    }

    /// Gives every retained topic as of `applied`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn retained(&self, each: &mut dyn FnMut(&str, Offset)) -> Result<(), StoreError> {
        self.store.retained(&mut |topic, offset| {
            if !self.retained.contains_key(topic) {
                each(topic, offset);
            }
        })?;
        for (topic, image) in &self.retained {
            if let Some(offset) = image.now {
                each(topic, offset);
            }
        }
        Ok(())
    }

    /// Writes a checkpoint of all that changed and forgets the images. Does nothing if nothing changed.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails; then all that changed is kept for the next try.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let marks = Marks {
            covers: self.applied,
            alive_at: self.alive_at,
            epoch: self.marks.epoch,
            high_water: self.high_water,
        };
        if marks == self.marks && self.dirty() == 0 {
            return Ok(());
        }
        let mut bases = Vec::with_capacity(self.images.len());
        let mut checkpoint = Checkpoint {
            sessions: Vec::with_capacity(self.images.len()),
            retained: Vec::with_capacity(self.retained.len()),
            marks,
        };
        for (session, image) in mem::take(&mut self.images) {
            // What came and went since the last checkpoint leaves no trace.
            if image.snapshot.is_some() || matches!(image.base, Base::Stored { .. }) {
                checkpoint
                    .sessions
                    .push((session, image.snapshot.map(|snapshot| *snapshot)));
                bases.push(image.base);
            }
        }
        for (topic, image) in &self.retained {
            checkpoint.retained.push((topic.clone(), image.now));
        }
        match self.store.commit(&checkpoint) {
            Ok(()) => {
                self.committed(&checkpoint, &bases);
                Ok(())
            }
            Err(error) => {
                self.images = checkpoint
                    .sessions
                    .into_iter()
                    .zip(bases)
                    .map(|((session, snapshot), base)| {
                        let snapshot = snapshot.map(Box::new);
                        (session, Image { base, snapshot })
                    })
                    .collect();
                Err(error)
            }
        }
    }

    /// What of the journal is needed; `None` before the first [`Replica::scan`].
    pub fn trim(&self) -> Option<Trim<'_>> {
        let covers = self.marks.covers;
        let sessions = self.floors.as_ref()?.min();
        Some(Trim {
            covers,
            floor: sessions.map_or(covers, |floor| floor.min(covers)),
            pinned: &self.pinned,
        })
    }

    fn committed(&mut self, checkpoint: &Checkpoint, bases: &[Base]) {
        self.marks = checkpoint.marks;
        if let Some(floors) = &mut self.floors {
            for ((_, snapshot), base) in checkpoint.sessions.iter().zip(bases) {
                if let Some(offset) = snapshot.as_ref().and_then(SessionSnapshot::needed_from) {
                    floors.add(offset);
                }
                if let Base::Stored {
                    needed_from: Some(offset),
                } = base
                {
                    floors.remove(*offset);
                }
            }
        }
        for image in mem::take(&mut self.retained).into_values() {
            if let Some(offset) = image.stored {
                self.pinned.remove(&offset);
            }
            self.pinned.extend(image.now);
        }
    }

    fn change(
        &mut self,
        at: Offset,
        session: SessionNumber,
        change: &Change,
    ) -> Result<(), StoreError> {
        match change {
            Change::Created {
                client_id,
                owner,
                listener,
                attach,
                next,
            } => {
                let snapshot = SessionSnapshot::created(
                    session,
                    client_id.clone(),
                    owner.clone(),
                    listener.clone(),
                    attach.clone(),
                    *next,
                    at,
                );
                self.saw_alive(attach.at);
                // The number is new for ever: the store cannot know it.
                let image = Image {
                    base: Base::Absent,
                    snapshot: Some(Box::new(snapshot)),
                };
                self.images.insert(session, image);
                return Ok(());
            }
            Change::Ended => {
                if let Some(image) = self.image_mut(session)? {
                    image.snapshot = None;
                }
                return Ok(());
            }
            Change::Attached(_)
            | Change::Detached { .. }
            | Change::Subscribed { .. }
            | Change::Unsubscribed { .. }
            | Change::Received { .. }
            | Change::Released { .. }
            | Change::Sent(_)
            | Change::Replayed { .. }
            | Change::PubRec { .. }
            | Change::Settled { .. }
            | Change::Progress { .. }
            | Change::WillSettled
            | Change::Recovered { .. } => {}
        }
        if let Some(snapshot) = self.snapshot_mut(session)? {
            snapshot.apply(at, change);
        }
        if let Change::Attached(attach) = change {
            self.saw_alive(attach.at);
        }
        if let Change::Detached { at, .. } = change {
            self.saw_alive(*at);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        at: Offset,
        session: SessionNumber,
        packet_id: PacketId,
    ) -> Result<(), StoreError> {
        if let Some(snapshot) = self.snapshot_mut(session)? {
            snapshot.apply_received(at, packet_id);
        }
        Ok(())
    }

    fn retain(&mut self, at: Offset, message: &Message) -> Result<(), StoreError> {
        let now = (!message.payload().is_empty()).then_some(at);
        match self.retained.get_mut(message.topic()) {
            Some(image) => image.now = now,
            None => {
                let topic = message.topic().to_owned();
                let stored = self.store.retained_at(&topic)?;
                self.retained.insert(topic, RetainedImage { stored, now });
            }
        }
        Ok(())
    }

    fn saw_alive(&mut self, at: Timestamp) {
        self.alive_at = self.alive_at.max(at);
    }

    /// `None` for a session that is not or no longer there: its last records may follow its end.
    fn snapshot_mut(
        &mut self,
        session: SessionNumber,
    ) -> Result<Option<&mut SessionSnapshot>, StoreError> {
        let image = self.image_mut(session)?;
        Ok(image.and_then(|image| image.snapshot.as_deref_mut()))
    }

    fn image_mut(&mut self, session: SessionNumber) -> Result<Option<&mut Image>, StoreError> {
        if !self.images.contains_key(&session) {
            let Some(snapshot) = self.store.session(session)? else {
                return Ok(None);
            };
            let base = Base::Stored {
                needed_from: snapshot.needed_from(),
            };
            let snapshot = Some(Box::new(snapshot));
            self.images.insert(session, Image { base, snapshot });
        }
        Ok(self.images.get_mut(&session))
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("marks", &self.marks)
            .field("applied", &self.applied)
            .field("dirty_sessions", &self.images.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
