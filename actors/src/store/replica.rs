//! The checkpointer's copy of all kept sessions and durable groups: the journal folded onto the store.
//!
//! Owns: images of the sessions and groups touched since the last checkpoint, what changed in the retained table, and what of the
//! journal is still needed. Does not know: threads, when to commit.
//!
//! Invariants:
//! - an image is the stored snapshot with every change up to `applied` folded in; nothing else makes a snapshot;
//! - a record below `applied` changes nothing, so a replay may start too early;
//! - memory is kept for what was touched only: nothing per session that sleeps (see [`FloorCounts`]), nor per retained
//!   message;
//! - what failed changed nothing: [`Replica::apply`] and [`Replica::commit`] may be called again with the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::sync::Arc;

mod groups;
mod retained;

use self::retained::RetainedImage;
use super::floors::{FloorCounts, Pins, Trim};
use super::{Checkpoint, Marks, SnapshotStore, StoreError};
use crate::model::entry::{Change, Entry};
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset, PacketId, SessionNumber, Stamp, Timestamp};
use crate::model::quota::HighWater;
use crate::model::retained::RetainedAt;
use crate::model::snapshot::SessionSnapshot;

/// The store and what the journal says beyond it.
pub struct Replica {
    store: Arc<dyn SnapshotStore>,
    /// As of the last checkpoint.
    marks: Marks,
    images: BTreeMap<SessionNumber, Image<SessionSnapshot>>,
    groups: BTreeMap<GroupNumber, Image<GroupSnapshot>>,
    retained: BTreeMap<String, RetainedImage>,
    applied: Offset,
    alive_at: Timestamp,
    stamp: Option<Stamp>,
    high_water: HighWater,
    /// The journal reached up to here.
    holds: Offset,
    /// What stored sessions and groups need; `None` before the first [`Replica::scan`].
    floors: Option<FloorCounts>,
    /// How the records that the stored retained table names changed since the last [`Replica::take_trim`].
    pins: Pins,
    /// Records to come whose retained messages are gone already.
    forgotten: BTreeSet<Offset>,
}

/// A session or group that was touched since the last checkpoint.
struct Image<T> {
    /// What the store holds of it.
    base: Base,
    /// `None` when it ended.
    snapshot: Option<Box<T>>,
}

/// What a checkpoint writes of one session or group.
type Written<N, T> = Vec<(N, Option<T>)>;

/// Takes the images out, as a checkpoint writes them, and what the store held of each. What came and went since the last
/// checkpoint leaves no trace.
fn take_images<N: Ord, T>(images: &mut BTreeMap<N, Image<T>>) -> (Written<N, T>, Vec<Base>) {
    mem::take(images)
        .into_iter()
        .filter(|(_, image)| image.snapshot.is_some() || matches!(image.base, Base::Stored { .. }))
        .map(|(number, image)| {
            let snapshot = image.snapshot.map(|snapshot| *snapshot);
            ((number, snapshot), image.base)
        })
        .unzip()
}

/// The opposite of [`take_images`].
fn put_back<N: Ord, T>(written: Written<N, T>, bases: Vec<Base>) -> BTreeMap<N, Image<T>> {
    written
        .into_iter()
        .zip(bases)
        .map(|((number, snapshot), base)| {
            let snapshot = snapshot.map(Box::new);
            (number, Image { base, snapshot })
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Base {
    Absent,
    Stored { needed_from: Option<Offset> },
}

impl Replica {
    /// A replica that stands where the last checkpoint of `store` stands.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn open(store: Arc<dyn SnapshotStore>) -> Result<Self, StoreError> {
        let marks = store.marks()?;
        let mut pins = Pins::default();
        store.retained(&mut |_, at| pins.pinned.push(at.offset))?;
        Ok(Self {
            store,
            marks,
            images: BTreeMap::new(),
            groups: BTreeMap::new(),
            retained: BTreeMap::new(),
            applied: marks.covers,
            alive_at: marks.alive_at,
            stamp: marks.stamp,
            high_water: marks.high_water,
            holds: marks.holds,
            floors: None,
            pins,
            forgotten: BTreeSet::new(),
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

    /// The last liveness stamp, if it says which boot of the machine it was.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The most sessions that ever were there at once, as the journal says.
    pub fn high_water(&self) -> HighWater {
        self.high_water
    }

    /// Sessions that differ from the store.
    pub fn dirty_sessions(&self) -> usize {
        self.images.len()
    }

    /// Sessions, groups and retained topics that differ from the store.
    pub fn dirty(&self) -> usize {
        self.images.len() + self.groups.len() + self.retained.len()
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
                    let is_gone = self.forgotten.contains(&at);
                    let now = RetainedAt::of(at, message).filter(|_| !is_gone);
                    self.set_retained(message.topic(), now)?;
                    self.forgotten.remove(&at);
                }
            }
            Entry::Session { session, change } => self.change(at, *session, change)?,
            Entry::Group { group, change } => self.group_change(at, *group, change)?,
            Entry::Liveness { at: alive_at, boot } => {
                self.saw_alive(*alive_at);
                self.stamp = boot.map(|boot| Stamp {
                    at: *alive_at,
                    boot,
                });
            }
            Entry::HighWater(mark) => self.high_water = *mark,
        }
        self.applied = at.next();
        self.holds = at.next();
        Ok(())
    }

    /// No record lies between `applied` and `end`, the end of what was committed.
    pub fn advance(&mut self, end: Offset) {
        self.applied = self.applied.max(end);
        self.holds = self.holds.max(end);
    }

    /// The journal was replayed: it goes on at `end`, and what it holds ends at `holds`.
    pub fn begin(&mut self, end: Offset, holds: Offset) {
        self.applied = self.applied.max(end);
        self.holds = holds;
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

    /// Gives every session as of `applied`, one at a time, and learns what the stored ones and the
    /// stored groups need of the journal.
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
        self.store
            .groups(&mut |snapshot| floors.add(snapshot.needed_from()))?;
        self.floors = Some(floors);
        images
            .values()
            .filter_map(|image| image.snapshot.as_deref())
            .for_each(each);
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
            stamp: self.stamp,
            epoch: self.marks.epoch,
            high_water: self.high_water,
            holds: self.holds,
        };
        if marks == self.marks && self.dirty() == 0 {
            return Ok(());
        }
        let (sessions, bases) = take_images(&mut self.images);
        let (groups, group_bases) = take_images(&mut self.groups);
        let retained = self.retained.iter();
        let checkpoint = Checkpoint {
            sessions,
            groups,
            retained: retained
                .map(|(topic, image)| (topic.clone(), image.now))
                .collect(),
            marks,
        };
        match self.store.commit(&checkpoint) {
            Ok(()) => {
                self.committed(&checkpoint, &bases, &group_bases);
                Ok(())
            }
            Err(error) => {
                self.images = put_back(checkpoint.sessions, bases);
                self.groups = put_back(checkpoint.groups, group_bases);
                Err(error)
            }
        }
    }

    /// What of the journal is needed, as of the last checkpoint; `None` before the first [`Replica::scan`]. Of retained
    /// messages it says only what changed since this was last called, at first that all are there.
    pub fn take_trim(&mut self) -> Option<Trim> {
        let covers = self.marks.covers;
        let sessions = self.floors.as_ref()?.min();
        Some(Trim {
            covers,
            floor: sessions.map_or(covers, |floor| floor.min(covers)),
            pins: mem::take(&mut self.pins),
        })
    }

    fn committed(&mut self, checkpoint: &Checkpoint, bases: &[Base], group_bases: &[Base]) {
        self.marks = checkpoint.marks;
        if let Some(floors) = &mut self.floors {
            let sessions = checkpoint.sessions.iter();
            let sessions = sessions.filter_map(|(_, snapshot)| snapshot.as_ref()?.needed_from());
            let groups = checkpoint.groups.iter();
            let groups = groups.filter_map(|(_, snapshot)| Some(snapshot.as_ref()?.needed_from()));
            sessions.chain(groups).for_each(|offset| floors.add(offset));
            for base in bases.iter().chain(group_bases) {
                if let Base::Stored {
                    needed_from: Some(offset),
                } = base
                {
                    floors.remove(*offset);
                }
            }
        }
        for image in mem::take(&mut self.retained).into_values() {
            let [before, after] = [image.stored, image.now].map(|at| at.map(|at| at.offset));
            if before != after {
                self.pins.unpinned.extend(before);
                self.pins.pinned.extend(after);
            }
        }
    }

    fn change(
        &mut self,
        at: Offset,
        session: SessionNumber,
        change: &Change,
    ) -> Result<(), StoreError> {
        match change {
            Change::Created(created) => {
                let snapshot = SessionSnapshot::created(session, created, at);
                self.saw_alive(created.attach.at);
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
            | Change::Dropped { .. }
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
        if let Change::Sent(sent) = change
            && let Some(group) = sent.lease
        {
            self.sent(at, group, sent.offset)?;
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

    fn image_mut(
        &mut self,
        session: SessionNumber,
    ) -> Result<Option<&mut Image<SessionSnapshot>>, StoreError> {
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
