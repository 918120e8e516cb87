//! Retained messages in the replica: the table of the store and what changed in it.

use std::mem;

use super::Replica;
use crate::model::ids::{Offset, Timestamp};
use crate::model::retained::RetainedAt;
use crate::store::StoreError;

/// A retained topic that was touched since the last checkpoint.
pub(super) struct RetainedImage {
    pub(super) stored: Option<RetainedAt>,
    pub(super) now: Option<RetainedAt>,
}

impl Replica {
    /// Gives every retained topic as of `applied`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn retained(&self, each: &mut dyn FnMut(&str, RetainedAt)) -> Result<(), StoreError> {
        self.store.retained(&mut |topic, at| {
            if !self.retained.contains_key(topic) {
                each(topic, at);
            }
        })?;
        for (topic, image) in &self.retained {
            if let Some(at) = image.now {
                each(topic, at);
            }
        }
        Ok(())
    }

    /// Lets go of retained messages that expired by `now`, `max` at most, and gives them to `each`.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read; the rest is still to be done.
    pub fn expire(
        &mut self,
        now: Timestamp,
        max: usize,
        each: &mut dyn FnMut(&str, Offset),
    ) -> Result<(), StoreError> {
        let due = ..=(now, Offset(u64::MAX));
        let due = self.expiries.range(due).take(max);
        let due: Vec<_> = due.map(|(at, topic)| (at.1, topic.clone())).collect();
        for (offset, topic) in due {
            self.set_retained(&topic, None)?;
            each(&topic, offset);
        }
        Ok(())
    }

    pub(super) fn set_retained(
        &mut self,
        topic: &str,
        now: Option<RetainedAt>,
    ) -> Result<(), StoreError> {
        let before = match self.retained.get_mut(topic) {
            Some(image) => mem::replace(&mut image.now, now),
            None => {
                let stored = self.store.retained_at(topic)?;
                let image = RetainedImage { stored, now };
                self.retained.insert(topic.to_owned(), image);
                stored
            }
        };
        let expiry = |at: RetainedAt| Some((at.expires_at?, at.offset));
        if let Some(known) = before.and_then(expiry) {
            self.expiries.remove(&known);
        }
        if let Some(new) = now.and_then(expiry) {
            self.expiries.insert(new, topic.into());
        }
        Ok(())
    }
}
