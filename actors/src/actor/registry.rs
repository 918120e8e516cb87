//! The registry actor: looks after the quota and stamps the broker's liveness; off the data path.
//!
//! Permits are taken where a session begins, by one atomic step ([`Quota::try_acquire`]), so that the count is exact and
//! no connect waits for another thread. The registry owns the limit, the warnings and the stamp.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};

use super::appender::AppenderHandle;
use super::protocol::{Drain, SetQuota, Submission};
use crate::clock::Clock;
use crate::model::entry::Entry;
use crate::model::ids::ShardId;
use crate::model::quota::{AlarmEdge, HighWater, Quota, QuotaAlarm, ReservesDiffer};

/// How often the quota is looked at.
const QUOTA_INTERVAL: Duration = Duration::from_secs(1);

/// How often the broker records that it is alive: what was attached at a crash counts as detached at the last stamp.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(30);

/// Runs the registry.
#[derive(Debug)]
pub struct RegistryActor {
    quota: Arc<Quota>,
    alarm: QuotaAlarm,
    /// The mark that is in the journal.
    high_water: HighWater,
    appender: AppenderHandle,
    clock: Arc<dyn Clock>,
    /// The sender of submissions that nobody waits for.
    shard: ShardId,
    ticket: u64,
}

impl RegistryActor {
    /// A registry over `quota`; its stamps are submitted under the number `shard`, which no shard
    /// has. `recorded` is the high-water mark that the journal knows.
    pub fn new(
        quota: Arc<Quota>,
        appender: AppenderHandle,
        clock: Arc<dyn Clock>,
        shard: ShardId,
        recorded: HighWater,
    ) -> Self {
        Self {
            quota,
            alarm: QuotaAlarm::default(),
            high_water: recorded,
            appender,
            clock,
            shard,
            ticket: 0,
        }
    }

    fn watch(&mut self) {
        let seen = self.quota.observe();
        let (used, limit) = (seen.used, seen.limit);
        if seen.high_water.units > self.high_water.units {
            self.high_water = seen.high_water;
            self.submit(Entry::HighWater(seen.high_water));
        }
        match self.alarm.observe(used, limit) {
            Some(AlarmEdge::Raised) => tracing::warn!(used, limit, "session quota is at 80 %"),
            Some(AlarmEdge::Cleared) => {
                tracing::info!(used, limit, "session quota is below 75 % again")
            }
            None => {}
        }
    }

    fn stamp(&mut self) {
        let at = self.clock.now();
        self.submit(Entry::Liveness { at });
    }

    fn submit(&mut self, entry: Entry) {
        self.ticket += 1;
        self.appender.submit(Submission {
            shard: self.shard,
            ticket: self.ticket,
            entries: vec![entry],
        });
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.stamp();
        ctx.run_interval(QUOTA_INTERVAL, |registry, _| registry.watch());
        ctx.run_interval(LIVENESS_INTERVAL, |registry, _| registry.stamp());
    }
}

impl Handler<SetQuota> for RegistryActor {
    type Result = Result<(), ReservesDiffer>;

    /// A limit below what is used throws nobody out.
    fn handle(&mut self, set: SetQuota, _: &mut Self::Context) -> Self::Result {
        self.quota.set_limits(set.0)?;
        self.watch();
        Ok(())
    }
}

impl Handler<Drain> for RegistryActor {
    type Result = ();

    /// Its intervals would keep it alive for ever on the thread of whoever started the system.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
