//! The groups of a shard: their actors are started when a member is online, rebuilt when they died, and looked after.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::super::local::GroupState;
use super::super::protocol::{GroupBatch, GroupDied, ObserveGroup, RehydrateGroup, ToGroup};
use super::super::shared::Shared;
use super::ShardActor;
use crate::model::effect::WhichGroup;
use crate::model::entry::Entry;
use crate::model::group::directory::name_of;
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::group::talk::Said;
use crate::model::group::{Group, GroupInput};
use crate::model::ids::{GroupNumber, Now, SessionNumber};
use crate::model::routes::Slot;
use crate::model::snapshot::SessionSnapshot;
use crate::model::topic::Filter;
use crate::observe::{Gauge, GroupObservation};
use crate::store::StoreError;
use crate::supervise::{PANICS_MAX, Panics};

/// After so long a snapshot that could not be read is asked for again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// No session's slot: for what a shard says in the name of a session that has no actor.
const NO_SLOT: Slot = Slot(u32::MAX);

impl ShardActor {
    /// Starts the actors of groups whose members are there.
    fn start_groups(&mut self, ctx: &mut Context<Self>) {
        let due = self.local.borrow_mut().groups.take_due();
        for number in due {
            let mut local = self.local.borrow_mut();
            let submitted = local.submitted();
            let shared = Arc::clone(&local.shared);
            let Some(resident) = local.groups.get(number) else {
                continue;
            };
            match resident.state {
                GroupState::Fresh(durable_from) => {
                    let filter = resident.filter.clone();
                    let mut group = Self::group(&shared, number, filter);
                    if let Some(next) = durable_from {
                        let durable = GroupInput::Durable { next };
                        group.take_in(Now::default(), durable, &mut Vec::new());
                    }
                    drop(local);
                    self.spawn_group(group, ctx);
                }
                GroupState::Passive => {
                    resident.state = GroupState::Rehydrating;
                    drop(local);
                    self.ask_for_group(number, submitted, ctx);
                }
                GroupState::Rehydrating | GroupState::Active(_) | GroupState::Quarantined => {}
            }
        }
    }

    fn group(shared: &Shared, number: GroupNumber, filter: Filter) -> Group {
        let strategy = shared.shared_limits.strategy_of(name_of(&filter));
        Group::new(number, filter, strategy, Arc::clone(&shared.limits))
    }

    fn spawn_group(&self, group: Group, ctx: &mut Context<Self>) {
        let deaths = self
            .group_deaths
            .get_or_init(|| Rc::new(ctx.address().recipient()));
        (self.spawn_group)(group, Rc::clone(&self.local), Rc::clone(deaths));
    }

    /// Asks for a group's snapshot once `ticket` is answered; it comes as [`RehydrateGroup`].
    fn ask_for_group(&mut self, group: GroupNumber, ticket: u64, ctx: &mut Context<Self>) {
        self.unanswered_groups.push((ticket, group));
        self.ask_answered_groups(ctx);
    }

    /// Asks for the snapshots of groups that lack nothing any more.
    pub(super) fn ask_answered_groups(&mut self, ctx: &mut Context<Self>) {
        if self.unanswered_groups.is_empty() {
            return;
        }
        let local = self.local.borrow();
        let end = local.shared.journal.end();
        self.unanswered_groups.retain(|(ticket, group)| {
            if !local.is_answered(*ticket) {
                return true;
            }
            let (shard, group) = (ctx.address(), *group);
            let reply = move |image| shard.do_send(RehydrateGroup { group, image });
            local.shared.checkpointer.group(group, end, Box::new(reply));
            false
        });
    }

    /// Tells groups for which something is due.
    pub(super) fn tick_groups(&self) {
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        for slot in local.groups.due_slots(now) {
            if let Some(state) = local.slot(slot) {
                state.tell_group(ToGroup::Tick);
            }
        }
    }

    /// A session came back from its snapshot: its groups hear what it is a member of, and what it has in its window.
    pub(super) fn reconcile_groups(&self, snapshot: &SessionSnapshot) {
        let member = snapshot.number;
        let shared: Vec<_> = snapshot.shared_subscriptions().collect();
        let filters: Vec<_> = shared.iter().map(|known| known.filter.clone()).collect();
        let mut local = self.local.borrow_mut();
        let left = {
            let mut groups = local.shared.groups.lock();
            for known in &shared {
                let queues = known.is_durable();
                groups.inherit_member(&known.filter, member, queues, known.from);
            }
            groups.reconcile(member, &filters)
        };
        let leases = snapshot.unsettled.iter();
        let leases = leases.filter(|sent| sent.lease.is_some());
        let keeps: Vec<_> = leases.map(|sent| sent.offset).collect();
        for filter in &filters {
            local.group_changed(filter, None);
            let keeps = keeps.clone();
            let to = WhichGroup::Filter(filter.clone());
            local.tell_group(to, member, NO_SLOT, Said::Found { keeps });
        }
        for filter in &left {
            local.leave_group(filter, member, NO_SLOT);
        }
    }

    /// A session is over, or not rebuilt any more: what its groups leased to it somebody else gets. With `forget` it is no
    /// member any more either.
    pub(super) fn leave_groups(&self, member: SessionNumber, forget: bool) {
        let mut local = self.local.borrow_mut();
        let filters = {
            let mut groups = local.shared.groups.lock();
            if forget {
                groups.reconcile(member, &[])
            } else {
                groups.filters_of(member)
            }
        };
        for filter in &filters {
            local.leave_group(filter, member, NO_SLOT);
        }
    }

    /// A group's actor panicked: its members keep what they have, it is rebuilt from the journal and asks them.
    fn buried_group(&mut self, died: GroupDied, ctx: &mut Context<Self>) {
        let GroupDied {
            slot,
            whose: number,
        } = died;
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        local.mute_all(slot);
        local.vacate(slot);
        local.cells.restarted();
        // What members recorded before they said so is in front of this: the snapshot will hold it.
        local.append(Entry::Liveness { at: now });
        local.flush_unanswered();
        let submitted = local.submitted();
        let Some(resident) = local.groups.get(number) else {
            return;
        };
        let panics = resident
            .panics
            .get_or_insert_with(|| Box::new(Panics::none(now)))
            .count(now);
        let rebuild = panics <= PANICS_MAX;
        let (durable, filter) = (resident.durable, resident.filter.clone());
        resident.state = match rebuild {
            true => GroupState::Rehydrating,
            false => GroupState::Quarantined,
        };
        if !rebuild {
            local.cells.shift(Gauge::Quarantined, 1);
        }
        tracing::error!(%filter, panics, rebuild, "group actor panicked");
        let in_memory = (rebuild && !durable).then(|| Self::group(&local.shared, number, filter));
        drop(local);
        match in_memory {
            Some(group) => self.spawn_group(group, ctx),
            None if rebuild => self.ask_for_group(number, submitted, ctx),
            None => {}
        }
    }

    fn bring_back_group(&self, rehydrated: RehydrateGroup, ctx: &mut Context<Self>) {
        let RehydrateGroup {
            group: number,
            image,
        } = rehydrated;
        let mut local = self.local.borrow_mut();
        let shared = Arc::clone(&local.shared);
        let Some(resident) = local.groups.get(number) else {
            return; // it is over
        };
        match image {
            Ok(Some(snapshot)) => {
                let strategy = shared.shared_limits.strategy_of(name_of(&snapshot.filter));
                let group = Group::restore(snapshot, strategy, Arc::clone(&shared.limits));
                drop(local);
                self.spawn_group(group, ctx);
            }
            Ok(None) => {
                tracing::error!(group = number.0, "group is not in the journal");
                resident.state = GroupState::Passive;
            }
            Err(error) => {
                tracing::error!(group = number.0, %error, "group cannot be rebuilt");
                resident.state = GroupState::Passive;
                ctx.run_later(RETRY_INTERVAL, move |shard, ctx| {
                    shard.local.borrow_mut().want_group_actor(number);
                    shard.start_groups(ctx);
                });
            }
        }
    }
}

impl Handler<GroupBatch> for ShardActor {
    type Result = ();

    fn handle(&mut self, batch: GroupBatch, ctx: &mut Self::Context) {
        let mut local = self.local.borrow_mut();
        local.group_batch(batch);
        local.flush_unanswered();
        drop(local);
        self.start_groups(ctx);
    }
}

impl Handler<RehydrateGroup> for ShardActor {
    type Result = ();

    fn handle(&mut self, rehydrated: RehydrateGroup, ctx: &mut Self::Context) {
        self.bring_back_group(rehydrated, ctx);
    }
}

impl Handler<GroupDied> for ShardActor {
    type Result = ();

    fn handle(&mut self, died: GroupDied, ctx: &mut Self::Context) {
        self.buried_group(died, ctx);
    }
}

impl Handler<ObserveGroup> for ShardActor {
    type Result = ResponseFuture<Option<GroupObservation>>;

    fn handle(&mut self, observe: ObserveGroup, _: &mut Self::Context) -> Self::Result {
        let mut local = self.local.borrow_mut();
        let standing = local.shared.groups.lock().get(&observe.filter);
        let Some((number, resident)) = local.groups.find(&observe.filter) else {
            return Box::pin(std::future::ready(None));
        };
        let members = standing.map_or(0, |standing| standing.members);
        if let GroupState::Active(slot) = resident.state {
            let (answer, observation) = oneshot::channel();
            if let Some(state) = local.slot(slot) {
                state.tell_group(ToGroup::Observe(answer));
            }
            return Box::pin(async move { observation.await.ok() });
        }
        let (answer, observation) = oneshot::channel();
        let reply = move |image: Result<Option<GroupSnapshot>, StoreError>| {
            let snapshot = image.ok().flatten();
            let observation = snapshot.map(|snapshot| GroupObservation::asleep(&snapshot, members));
            // Whoever asked may have given up.
            answer.send(observation).ok();
        };
        let shared = &local.shared;
        shared
            .checkpointer
            .group(number, shared.journal.end(), Box::new(reply));
        Box::pin(async move { observation.await.ok().flatten() })
    }
}
