//! The registry actor: looks after the quota and stamps the broker's liveness; off the data path.
//!
//! Permits are taken where a session begins, by one atomic step ([`Quota::try_acquire`]), so that the count is exact and
//! no connect waits for another thread. The registry owns the limit, the warnings and the stamp.

mod crowd;

use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt as _, WrapFuture as _};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};

use self::crowd::Crowd;
use super::appender::AppenderHandle;
use super::protocol::{
    ChangeQuota, Drain, Evict, MakeRoom, OfferVictim, RoomMade, SetQuota, Submission, Victim, close,
};
use crate::clock::Clock;
use crate::model::entry::Entry;
use crate::model::ids::ShardId;
use crate::model::quota::{
    AlarmEdge, ChangeError, HighWater, Quota, QuotaLimits, ReservesDiffer, Shortage,
};
use crate::supervise::vitals::VitalSign;

/// How often the quota is looked at.
const QUOTA_INTERVAL: Duration = Duration::from_secs(1);

/// How often the broker records that it is alive: what was attached at a crash counts as detached at the last stamp.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(30);

/// How long one session may take to end.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(5);

/// What the registry asks of a shard.
#[derive(Clone, Debug)]
pub struct ShardSide {
    /// Names who could go.
    pub offers: Recipient<OfferVictim>,
    /// Ends a session.
    pub evicts: Recipient<Evict>,
    /// Takes a newcomer back.
    pub admits: Recipient<RoomMade>,
}

/// Runs the registry.
#[derive(Debug)]
pub struct RegistryActor {
    quota: Arc<Quota>,
    /// The mark that is in the journal.
    high_water: HighWater,
    appender: AppenderHandle,
    clock: Arc<dyn Clock>,
    shards: Vec<ShardSide>,
    /// Newcomers for whom room must be made.
    crowd: Crowd<MakeRoom>,
    /// The sender of submissions that nobody waits for.
    shard: ShardId,
    ticket: u64,
    /// Tells if the registry dies.
    _sign: VitalSign,
}

impl RegistryActor {
    /// A registry over `quota` and the sessions of `shards`; its stamps are submitted under the number `shard`, which no shard
    /// has. `recorded` is the high-water mark that the journal knows.
    pub fn new(
        quota: Arc<Quota>,
        appender: AppenderHandle,
        clock: Arc<dyn Clock>,
        shards: Vec<ShardSide>,
        shard: ShardId,
        recorded: HighWater,
        sign: VitalSign,
    ) -> Self {
        Self {
            quota,
            high_water: recorded,
            appender,
            clock,
            shards,
            crowd: Crowd::new(),
            shard,
            ticket: 0,
            _sign: sign,
        }
    }

    fn watch(&mut self) {
        let seen = self.quota.observe();
        let (used, limit) = (seen.used, seen.limit);
        if seen.high_water.units > self.high_water.units {
            self.high_water = seen.high_water;
            self.submit(Entry::HighWater(seen.high_water));
        }
        match self.quota.watch() {
            Some(AlarmEdge::Raised) => tracing::warn!(used, limit, "session quota is at 80 %"),
            Some(AlarmEdge::Cleared) => {
                tracing::info!(used, limit, "session quota is below 75 % again")
            }
            None => {}
        }
    }

    /// Makes room for a newcomer whose turn it is.
    fn make_room(&self, asked: MakeRoom, ctx: &mut Context<Self>) {
        let shards = self.shards.clone();
        let evicting = async move {
            if let Some((shard, victim)) = oldest(&shards, &asked.shortage).await {
                let evicted = shards[shard].evicts.send(Evict(victim));
                // If it did not end in time, the newcomer asks again, and is refused if there is no unit.
                let evicted = tokio::time::timeout(EVICTION_TIMEOUT, evicted).await;
                let unit = evicted.ok().and_then(Result::ok).flatten();
                return (asked, unit, false);
            }
            (asked, None, true)
        };
        ctx.spawn(
            evicting
                .into_actor(self)
                .map(|(asked, unit, is_last), registry, ctx| {
                    let attempts = if is_last { u8::MAX } else { asked.attempts + 1 };
                    if let Some(shard) = registry.shards.get(usize::from(asked.shard.0)) {
                        shard.admits.do_send(RoomMade {
                            request: asked.request,
                            unit,
                            attempts,
                        });
                    }
                    if let Some(next) = registry.crowd.next(&asked.shortage.tenant) {
                        registry.make_room(next, ctx);
                    }
                }),
        );
    }

    fn stamp(&mut self) {
        let (at, boot) = (self.clock.now(), self.clock.boot());
        self.submit(Entry::Liveness { at, boot });
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

/// Whose client has been away longest, over all shards.
async fn oldest(shards: &[ShardSide], shortage: &Shortage) -> Option<(usize, Victim)> {
    let mut oldest: Option<(usize, Victim)> = None;
    for (number, shard) in shards.iter().enumerate() {
        let offer = OfferVictim(shortage.clone());
        let Ok(Some(victim)) = shard.offers.send(offer).await else {
            continue;
        };
        if oldest.as_ref().is_none_or(|(_, known)| victim < *known) {
            oldest = Some((number, victim));
        }
    }
    oldest
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.stamp();
        ctx.run_interval(QUOTA_INTERVAL, |registry, _| registry.watch());
        ctx.run_interval(LIVENESS_INTERVAL, |registry, _| registry.stamp());
    }
}

impl Handler<MakeRoom> for RegistryActor {
    type Result = ();

    fn handle(&mut self, asked: MakeRoom, ctx: &mut Self::Context) {
        let tenant = asked.shortage.tenant.clone();
        match self.crowd.enter(&tenant, asked) {
            Ok(None) => {}
            Ok(Some(asked)) => self.make_room(asked, ctx),
            Err(asked) => close(
                &asked.request.connection,
                self.quota.refuse(&asked.shortage),
            ),
        }
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

impl Handler<ChangeQuota> for RegistryActor {
    type Result = Result<QuotaLimits, ChangeError>;

    fn handle(&mut self, change: ChangeQuota, _: &mut Self::Context) -> Self::Result {
        let limits = self.quota.change_limits(change.0)?;
        self.watch();
        Ok(limits)
    }
}

impl Handler<Drain> for RegistryActor {
    type Result = ();

    /// Its intervals would keep it alive for ever on the thread of whoever started the system.
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.watch();
        ctx.stop();
    }
}

#[cfg(feature = "testing")]
impl Handler<crate::supervise::faults::Die> for RegistryActor {
    type Result = ();

    fn handle(&mut self, die: crate::supervise::faults::Die, _: &mut Self::Context) {
        die.now();
    }
}
