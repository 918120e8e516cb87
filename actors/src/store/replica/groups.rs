//! Groups in the replica: their own records, and what their members' records say of them.

use super::{Base, Image, Replica};
use crate::model::entry::GroupChange;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset};
use crate::store::StoreError;

impl Replica {
    /// The group as of `applied`; `None` if it does not exist or ended.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn group(&self, group: GroupNumber) -> Result<Option<GroupSnapshot>, StoreError> {
        match self.groups.get(&group) {
            Some(image) => Ok(image.snapshot.as_deref().cloned()),
            None => self.store.group(group),
        }
    }

    /// Gives every group as of `applied`.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or is damaged.
    pub fn scan_groups(&self, each: &mut dyn FnMut(&GroupSnapshot)) -> Result<(), StoreError> {
        let images = &self.groups;
        self.store.groups(&mut |snapshot| {
            if !images.contains_key(&snapshot.number) {
                each(&snapshot);
            }
        })?;
        images
            .values()
            .filter_map(|image| image.snapshot.as_deref())
            .for_each(each);
        Ok(())
    }

    pub(super) fn group_change(
        &mut self,
        at: Offset,
        group: GroupNumber,
        change: &GroupChange,
    ) -> Result<(), StoreError> {
        match change {
            GroupChange::Created { filter, next } => {
                let snapshot = GroupSnapshot::created(group, filter.clone(), *next, at);
                // The number is new for ever: the store cannot know it.
                let image = Image {
                    base: Base::Absent,
                    snapshot: Some(Box::new(snapshot)),
                };
                self.groups.insert(group, image);
            }
            GroupChange::Ended => {
                if let Some(image) = self.group_mut(group)? {
                    image.snapshot = None;
                }
            }
            GroupChange::Progress { .. } | GroupChange::Taken { .. } => {
                if let Some(snapshot) = self.group_snapshot_mut(group)? {
                    snapshot.apply(at, change);
                }
            }
        }
        Ok(())
    }

    /// A member is about to send a record of the group with QoS 2.
    pub(super) fn sent(
        &mut self,
        at: Offset,
        group: GroupNumber,
        offset: Offset,
    ) -> Result<(), StoreError> {
        if let Some(snapshot) = self.group_snapshot_mut(group)? {
            snapshot.apply_sent(at, offset);
        }
        Ok(())
    }

    fn group_snapshot_mut(
        &mut self,
        group: GroupNumber,
    ) -> Result<Option<&mut GroupSnapshot>, StoreError> {
        let image = self.group_mut(group)?;
        Ok(image.and_then(|image| image.snapshot.as_deref_mut()))
    }

    fn group_mut(
        &mut self,
        group: GroupNumber,
    ) -> Result<Option<&mut Image<GroupSnapshot>>, StoreError> {
        if !self.groups.contains_key(&group) {
            let Some(snapshot) = self.store.group(group)? else {
                return Ok(None);
            };
            let base = Base::Stored {
                needed_from: Some(snapshot.needed_from()),
            };
            let snapshot = Some(Box::new(snapshot));
            self.groups.insert(group, Image { base, snapshot });
        }
        Ok(self.groups.get_mut(&group))
    }
}
