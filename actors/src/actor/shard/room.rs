//! Room for newcomers, if the policy is to end who has been offline longest.
//!
//! A shard knows its own sessions only, so the registry asks all of them and takes the oldest. The search through a
//! directory is paid once for many victims: who went offline since was not offline longer. A tenant makes room among its
//! own sessions, so victims are remembered for each.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use actix::{Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::super::local::{Local, ResidentState};
use super::super::protocol::{
    ConnectRequest, EndSession, Evict, MakeRoom, OfferVictim, RoomMade, Victim, close,
};
use super::ShardActor;
use crate::model::counter::Counter;
use crate::model::ids::Timestamp;
use crate::model::quota::{Permit, QuotaPolicy, Shortage, ShortageKind};
use crate::model::refusal::Refusal;

/// How often room is made for one newcomer: who was to go may come back each time.
const ATTEMPTS_MAX: u8 = 3;

/// Victims that one search finds.
const VICTIMS_MAX: usize = 1024;

/// Newcomers of a kind for whom victims are remembered. Tenants share no victims, so that even of all kinds together
/// they are no more than a few for each session.
const KINDS_MAX: usize = 1024;

/// After a search that found nobody, so long in milliseconds there is no other one for the same limit.
const PAUSE_MILLIS: u64 = 1000;

/// The sessions that go next, by whom they make room for; first who has been offline longest.
#[derive(Debug, Default)]
pub(super) struct Victims(BTreeMap<ShortageKind, Found>);

#[derive(Debug)]
struct Found {
    victims: VecDeque<Victim>,
    /// Not before then it pays to look again.
    search_at: Timestamp,
}

impl ShardActor {
    /// A newcomer found no unit.
    pub(super) fn look_for_room(&self, request: ConnectRequest, shortage: Shortage, attempts: u8) {
        let local = self.local.borrow();
        let shared = &local.shared;
        // With more missing than one, the limit was lowered, and one session less lets nobody in.
        let evicts = shortage.units == 1
            && attempts < ATTEMPTS_MAX
            && shared.quota.policy() == QuotaPolicy::EvictLongestOffline;
        match shared.registry.get() {
            Some(registry) if evicts => registry.do_send(MakeRoom {
                request,
                shard: local.shard,
                shortage,
                attempts,
            }),
            Some(_) | None => close(&request.connection, shared.quota.refuse(&shortage)),
        }
    }

    fn victim(&mut self, shortage: &Shortage) -> Option<Victim> {
        let local = self.local.borrow();
        let now = local.shared.clock.now();
        let kind = shortage.kind();
        if self.victims.0.len() >= KINDS_MAX && !self.victims.0.contains_key(&kind) {
            self.victims.0.clear();
        }
        let found = self.victims.0.entry(kind);
        let found = found.or_insert_with(|| Found {
            victims: VecDeque::new(),
            search_at: now,
        });
        loop {
            while let Some(victim) = found.victims.front() {
                if still_fits(&local, victim, shortage) {
                    return Some(victim.clone());
                }
                found.victims.pop_front();
            }
            if now < found.search_at {
                return None;
            }
            found.victims = search(&local, shortage);
            if found.victims.is_empty() {
                found.search_at = now.plus_millis(PAUSE_MILLIS);
            }
        }
    }
}

fn still_fits(local: &Local, victim: &Victim, shortage: &Shortage) -> bool {
    let resident = local.directory.get(&victim.client_id);
    resident.is_some_and(|it| {
        it.stay.offline_since() == Some(victim.offline_since)
            && local.shared.quota.helps(&it.permit, shortage)
    })
}

fn search(local: &Local, shortage: &Shortage) -> VecDeque<Victim> {
    let mut oldest = BinaryHeap::new();
    for (client_id, resident) in &local.directory {
        let Some(offline_since) = resident.stay.offline_since() else {
            continue;
        };
        let is_younger = |youngest: &Victim| youngest.offline_since < offline_since;
        if oldest.len() == VICTIMS_MAX && oldest.peek().is_some_and(is_younger) {
            continue;
        }
        if local.shared.quota.helps(&resident.permit, shortage) {
            oldest.push(Victim {
                offline_since,
                client_id: client_id.clone(),
            });
            if oldest.len() > VICTIMS_MAX {
                oldest.pop();
            }
        }
    }
    oldest.into_sorted_vec().into()
}

impl Handler<RoomMade> for ShardActor {
    type Result = ();

    fn handle(&mut self, made: RoomMade, ctx: &mut Context<Self>) {
        let RoomMade {
            request,
            unit,
            attempts,
        } = made;
        let is_known = {
            let local = self.local.borrow();
            local.directory.contains_key(&request.connect.client_id)
        };
        if self.draining {
            close(&request.connection, Refusal::ShuttingDown);
        } else if is_known {
            // It came by another connection meanwhile, which this one is older than.
            close(&request.connection, Refusal::TakenOver);
        } else {
            self.admit(request, unit, attempts, ctx);
        }
    }
}

impl Handler<OfferVictim> for ShardActor {
    type Result = Option<Victim>;

    fn handle(&mut self, offer: OfferVictim, _: &mut Context<Self>) -> Option<Victim> {
        self.victim(&offer.0)
    }
}

impl Handler<Evict> for ShardActor {
    type Result = ResponseFuture<Option<Permit>>;

    fn handle(&mut self, evict: Evict, ctx: &mut Context<Self>) -> Self::Result {
        let Evict(victim) = evict;
        let (ended, unit) = oneshot::channel();
        {
            let mut local = self.local.borrow_mut();
            let resident = local.directory.get(&victim.client_id);
            let fits = resident.is_some_and(|resident| {
                resident.stay.offline_since() == Some(victim.offline_since)
                    && !matches!(resident.state, ResidentState::Rehydrating)
            });
            if !fits {
                return Box::pin(std::future::ready(None));
            }
            local.count(Counter::SessionEvicted);
            local.evicted.insert(victim.client_id.clone(), ended);
        }
        tracing::debug!(client_id = %victim.client_id, "session evicted to make room");
        self.end(
            EndSession {
                client_id: victim.client_id,
                refusal: Refusal::SessionQuota,
                discard: true,
            },
            ctx,
        );
        // Dropped if the client came back in the same moment and the unit is its new session's.
        Box::pin(async move { unit.await.ok() })
    }
}
