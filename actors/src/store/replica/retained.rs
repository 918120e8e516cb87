//! Retained messages in the replica: the table of the store and what changed in it.

use super::Replica;
use crate::model::ids::Offset;
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

    /// Lets go of the retained message of `topic` if it is the one at `offset`, whose record may still be to come.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read; then nothing changed.
    pub fn forget(&mut self, topic: &str, offset: Offset) -> Result<(), StoreError> {
        if offset >= self.applied {
            self.forgotten.insert(offset);
            return Ok(());
        }
        let known = match self.retained.get(topic) {
            Some(image) => image.now,
            None => self.store.retained_at(topic)?,
        };
        if known.is_some_and(|known| known.offset == offset) {
            self.set_retained(topic, None)?;
        }
        Ok(())
    }

    pub(super) fn set_retained(
        &mut self,
        topic: &str,
        now: Option<RetainedAt>,
    ) -> Result<(), StoreError> {
        match self.retained.get_mut(topic) {
            Some(image) => image.now = now,
            None => {
                let stored = self.store.retained_at(topic)?;
                let image = RetainedImage { stored, now };
                self.retained.insert(topic.to_owned(), image);
            }
        }
        Ok(())
    }
}
