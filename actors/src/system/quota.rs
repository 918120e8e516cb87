//! The quota from outside: for whoever runs the broker.

use std::sync::Arc;

use actix::Recipient;

use crate::actor::protocol::{ChangeQuota, SetQuota, TakeCensus};
use crate::model::census::Census;
use crate::model::quota::{
    ChangeError, Interval, Quota, QuotaChange, QuotaLimits, QuotaObservation, QuotaReport,
    ReservesDiffer,
};

/// Observes and changes the limits on sessions; usable from any thread, as long as the system runs and after.
#[derive(Clone, Debug)]
pub struct QuotaHandle {
    pub(super) quota: Arc<Quota>,
    pub(super) sets: Recipient<SetQuota>,
    pub(super) changes: Recipient<ChangeQuota>,
    pub(super) shards: Vec<Recipient<TakeCensus>>,
}

impl QuotaHandle {
    /// The counts, at no cost.
    pub fn observe(&self) -> QuotaObservation {
        self.quota.observe()
    }

    /// The limits in force.
    pub fn limits(&self) -> QuotaLimits {
        self.quota.limits()
    }

    /// Who uses how much, with the `top` largest principals that have no limit of their own.
    pub fn report(&self, top: usize) -> QuotaReport {
        self.quota.report(top)
    }

    /// Counts every session, shard by shard, each at one moment.
    pub async fn census(&self) -> Census {
        let mut sum = Census::default();
        for shard in &self.shards {
            // A shard that is gone has nobody.
            sum = sum.plus(shard.send(TakeCensus).await.unwrap_or_default());
        }
        sum
    }

    /// The least and the most units since this was last called.
    pub fn end_interval(&self) -> Interval {
        self.quota.end_interval()
    }

    /// From now on the most of each principal is counted anew.
    pub fn forget_highs(&self) {
        self.quota.forget_highs();
    }

    /// Puts other limits in the place of all there are. Nobody who is in is thrown out.
    ///
    /// # Errors
    /// [`ReservesDiffer`]: reserves come and go with a start only, their units may change.
    pub async fn set(&self, limits: QuotaLimits) -> Result<(), ReservesDiffer> {
        // A registry that is gone looks after no limit any more.
        self.sets.send(SetQuota(limits)).await.unwrap_or(Ok(()))
    }

    /// Changes some limits, gives all that are in force then. Changes follow each other, none undoes what another did at the
    /// same time. Nobody who is in is thrown out.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing changed.
    pub async fn change(&self, change: QuotaChange) -> Result<QuotaLimits, ChangeError> {
        let changed = self.changes.send(ChangeQuota(change)).await;
        changed.unwrap_or(Err(ChangeError::Stopped))
    }
}
