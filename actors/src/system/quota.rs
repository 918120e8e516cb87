//! The quota from outside: for whoever runs the broker.

use std::sync::Arc;

use actix::Recipient;

use crate::actor::protocol::{SetQuota, TakeCensus};
use crate::model::census::Census;
use crate::model::quota::{
    Interval, Quota, QuotaLimits, QuotaObservation, QuotaReport, ReservesDiffer,
};

/// Observes and changes the limits on sessions; usable from any thread, as long as the system runs and after.
#[derive(Clone, Debug)]
pub struct QuotaHandle {
    pub(super) quota: Arc<Quota>,
    pub(super) registry: Recipient<SetQuota>,
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

    /// Changes the limits. Nobody who is in is thrown out.
    ///
    /// # Errors
    /// [`ReservesDiffer`]: reserves come and go with a start only, their units may change.
    pub async fn set(&self, limits: QuotaLimits) -> Result<(), ReservesDiffer> {
        // A registry that is gone looks after no limit any more.
        self.registry.send(SetQuota(limits)).await.unwrap_or(Ok(()))
    }
}
