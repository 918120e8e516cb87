//! A snapshot store in memory, for tests, the simulation and a broker without a data directory.
//!
//! Owns: a *live* image, which the broker sees, and a *durable* one, which a crash leaves. They differ only while
//! [`MemoryStore::hold`] delays what becomes durable. Values pass through the codec, as on disk.
//!
//! Invariant: a failed commit changes neither image.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use parking_lot::Mutex;

use super::{Checkpoint, Marks, SnapshotStore, StoreError, codec};
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, SessionNumber};
use crate::model::retained::RetainedAt;
use crate::model::snapshot::SessionSnapshot;

const PATH: &str = "in memory";

/// The double of the store on disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Image,
    durable: Image,
    /// Commits that a crash would lose, while held.
    held: Option<VecDeque<Image>>,
    failures_due: u32,
    commits: u64,
}

#[derive(Clone, Debug, Default)]
struct Image {
    sessions: BTreeMap<SessionNumber, Vec<u8>>,
    groups: BTreeMap<GroupNumber, Vec<u8>>,
    retained: BTreeMap<String, RetainedAt>,
    marks: Marks,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `commits` commits fail as on a full disk; the last checkpoint stands.
    pub fn fail_commits(&self, commits: u32) {
        self.state.lock().failures_due = commits;
    }

    /// From now on commits are seen, but a crash loses them until [`Self::release`].
    pub fn hold(&self) {
        self.state.lock().held.get_or_insert_default();
    }

    /// Makes the oldest `commits` held commits durable.
    pub fn release(&self, commits: usize) {
        let state = &mut *self.state.lock();
        let Some(held) = &mut state.held else { return };
        for _ in 0..commits {
            if let Some(image) = held.pop_front() {
                state.durable = image;
            }
        }
    }

    /// What a power cut leaves: a store with the durable image.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.state.lock();
        Self {
            state: Mutex::new(State {
                live: state.durable.clone(),
                durable: state.durable.clone(),
                held: None,
                failures_due: 0,
                commits: 0,
            }),
        }
    }

    /// Successful commits so far.
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Changes a session's bytes in place, as a failing disk does; `false` if there is no such session.
    pub fn damage(&self, number: SessionNumber, how: impl FnOnce(&mut Vec<u8>)) -> bool {
        let state = &mut *self.state.lock();
        let Some(bytes) = state.live.sessions.get_mut(&number) else {
            return false;
        };
        how(bytes);
        let damaged = bytes.clone();
        state.durable.sessions.insert(number, damaged);
        true
    }
}

fn damaged(number: SessionNumber, error: codec::CodecError) -> StoreError {
    StoreError::Damaged {
        path: PATH.to_owned(),
        what: format!("session {}: {error}", number.0),
    }
}

fn damaged_group(number: GroupNumber, error: codec::CodecError) -> StoreError {
    StoreError::Damaged {
        path: PATH.to_owned(),
        what: format!("group {}: {error}", number.0),
    }
}

impl SnapshotStore for MemoryStore {
    fn marks(&self) -> Result<Marks, StoreError> {
        Ok(self.state.lock().live.marks)
    }

    fn session(&self, number: SessionNumber) -> Result<Option<SessionSnapshot>, StoreError> {
        let state = self.state.lock();
        state
            .live
            .sessions
            .get(&number)
            .map(|bytes| {
                codec::decode_session(number, bytes).map_err(|error| damaged(number, error))
            })
            .transpose()
    }

    fn sessions(&self, each: &mut dyn FnMut(SessionSnapshot)) -> Result<(), StoreError> {
        // A copy, so that `each` may ask the store.
        let sessions = self.state.lock().live.sessions.clone();
        for (number, bytes) in &sessions {
            let snapshot = codec::decode_session(*number, bytes);
            each(snapshot.map_err(|error| damaged(*number, error))?);
        }
        Ok(())
    }

    fn group(&self, number: GroupNumber) -> Result<Option<GroupSnapshot>, StoreError> {
        let state = self.state.lock();
        let bytes = state.live.groups.get(&number);
        bytes
            .map(|bytes| {
                codec::decode_group(number, bytes).map_err(|error| damaged_group(number, error))
            })
            .transpose()
    }

    fn groups(&self, each: &mut dyn FnMut(GroupSnapshot)) -> Result<(), StoreError> {
        let groups = self.state.lock().live.groups.clone();
        for (number, bytes) in &groups {
            let snapshot = codec::decode_group(*number, bytes);
            each(snapshot.map_err(|error| damaged_group(*number, error))?);
        }
        Ok(())
    }

    fn retained(&self, each: &mut dyn FnMut(&str, RetainedAt)) -> Result<(), StoreError> {
        let retained = self.state.lock().live.retained.clone();
        for (topic, at) in &retained {
            each(topic, *at);
        }
        Ok(())
    }

    fn retained_at(&self, topic: &str) -> Result<Option<RetainedAt>, StoreError> {
        Ok(self.state.lock().live.retained.get(topic).copied())
    }

    fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        if state.failures_due > 0 {
            state.failures_due -= 1;
            return Err(StoreError::Backend {
                path: PATH.to_owned(),
                source: Box::new(io::Error::from(io::ErrorKind::StorageFull).into()),
            });
        }
        state.live.take(checkpoint)?;
        state.commits += 1;
        match &mut state.held {
            Some(held) => held.push_back(state.live.clone()),
            None => state.durable.take(checkpoint)?,
        }
        Ok(())
    }
}

impl Image {
    fn take(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut next = self.clone();
        for (number, snapshot) in &checkpoint.sessions {
            next.sessions.remove(number);
            if let Some(snapshot) = snapshot {
                let bytes = next.sessions.entry(*number).or_default();
                codec::encode_session(snapshot, bytes).map_err(|error| damaged(*number, error))?;
            }
        }
        for (number, snapshot) in &checkpoint.groups {
            next.groups.remove(number);
            if let Some(snapshot) = snapshot {
                let bytes = next.groups.entry(*number).or_default();
                codec::encode_group(snapshot, bytes)
                    .map_err(|error| damaged_group(*number, error))?;
            }
        }
        *self = next;
        for (topic, at) in &checkpoint.retained {
            match at {
                Some(at) => self.retained.insert(topic.clone(), *at),
                None => self.retained.remove(topic),
            };
        }
        let epoch = self.marks.epoch.max(checkpoint.marks.epoch);
        self.marks = Marks {
            epoch,
            ..checkpoint.marks
        };
        Ok(())
    }
}
