//! The groups of shared subscriptions from outside: for whoever runs the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Recipient;

use crate::actor::local::home_of;
use crate::actor::protocol::{ForGroup, GroupBatch, ObserveGroup};
use crate::actor::shared::Shared;
use crate::model::group::Strategy;
use crate::model::group::directory::Standing;
use crate::model::topic::Filter;
use crate::observe::GroupObservation;

/// Observes and declares groups; usable from any thread, as long as the system runs and after.
#[derive(Clone, Debug)]
pub struct GroupsHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) shards: Vec<GroupsShard>,
}

/// A shard, as the handle knows it.
#[derive(Clone, Debug)]
pub(super) struct GroupsShard {
    pub(super) batches: Recipient<GroupBatch>,
    pub(super) observers: Recipient<ObserveGroup>,
}

impl GroupsHandle {
    /// All groups, one for each name and filter, in the order of their names; at no cost to their actors.
    pub fn list(&self) -> Vec<(Filter, Standing)> {
        let groups = self.shared.groups.lock();
        let all = groups.iter();
        all.map(|(filter, standing)| (filter.clone(), standing))
            .collect()
    }

    /// What the group behind a shared subscription shows of itself; `None` if there is none.
    pub async fn observe(&self, filter: Filter) -> Option<GroupObservation> {
        let home = self.shards.get(self.home(&filter))?;
        home.observers.send(ObserveGroup { filter }).await.ok()?
    }

    /// The declared groups, and their strategy if they have one of their own.
    pub fn declared(&self) -> BTreeMap<Box<str>, Option<Strategy>> {
        self.shared.groups.lock().declared().clone()
    }

    /// From now on only these groups are declared. From its next QoS 1 or 2 subscription on a declared group keeps what
    /// comes, also without members; one that is not declared any more and has no members is over. A start declares
    /// what [`SharedLimits::declared`] says: whoever calls this keeps what it called it with.
    ///
    /// [`SharedLimits::declared`]: crate::model::limits::SharedLimits::declared
    pub fn declare(&self, declared: BTreeMap<Box<str>, Option<Strategy>>) {
        let changed = self.shared.groups.lock().declare(declared);
        for filter in changed {
            let home = self.home(&filter);
            let asker = None;
            let mut batch = GroupBatch::default();
            batch.for_groups.push(ForGroup::Changed { filter, asker });
            if let Some(shard) = self.shards.get(home) {
                shard.batches.do_send(batch);
            }
        }
    }

    fn home(&self, filter: &Filter) -> usize {
        usize::from(home_of(filter, self.shards.len()).0)
    }
}
