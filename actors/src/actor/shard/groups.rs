//! The groups of a shard: their actors are started when a member is online, rebuilt when they died, and looked after.

use std::rc::Rc;
use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::super::local::{GroupResident, GroupState};
use super::super::protocol::{GroupBatch, GroupDied, ObserveGroup, RecalledImage, ToGroup};
use super::ShardActor;
use crate::model::effects::Effects;
use crate::model::group::{Group, GroupInput};
use crate::model::ids::{GroupNumber, Now, SessionNumber};
use crate::model::limits::SessionLimits;
use crate::model::routes::Slot;
use crate::model::snapshot::SessionSnapshot;
use crate::observe::{Gauge, GroupObservation};
use crate::supervise::{PANICS_MAX, Panics};

/// No session's slot: for what a shard says in the name of a session that has no actor.
const NO_SLOT: Slot = Slot(u32::MAX);

impl ShardActor {
    /// Starts the actors of groups whose members are there.
    fn start_groups(&self, ctx: &mut Context<Self>) {
        let due = self.local.borrow_mut().groups.take_due();
        for number in due {
            let mut local = self.local.borrow_mut();
            let limits = Arc::clone(&local.shared.limits);
            let Some(resident) = local.groups.get(number) else {
                continue;
            };
            let durable_from = match resident.state {
                GroupState::Fresh(durable_from) => durable_from,
                GroupState::Passive => None,
                GroupState::Active(_) | GroupState::Quarantined => continue,
            };
            let recorded = matches!(resident.state, GroupState::Passive);
            let mut group = make(number, resident, recorded, limits);
            drop(local);
            if let Some(next) = durable_from {
                let durable = GroupInput::Durable { next };
                group.take_in(Now::default(), durable, &mut Effects::new());
            }
            self.spawn_group(group, ctx);
        }
    }

    fn spawn_group(&self, group: Group, ctx: &mut Context<Self>) {
        let deaths = self
            .group_deaths
            .get_or_init(|| Rc::new(ctx.address().recipient()));
        (self.spawn_group)(group, Rc::clone(&self.local), Rc::clone(deaths));
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

    /// A session came back from its snapshot: the directory hears what it is a member of.
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
        for filter in &filters {
            local.group_changed(filter, None);
        }
        for filter in &left {
            local.leave_group(filter, member, NO_SLOT);
        }
    }

    /// A session is over: it is no member of any group any more. What they leased to it they have already: its actor said
    /// so, or its death.
    pub(super) fn leave_groups(&self, member: SessionNumber) {
        let mut local = self.local.borrow_mut();
        let filters = local.shared.groups.lock().reconcile(member, &[]);
        for filter in &filters {
            local.leave_group(filter, member, NO_SLOT);
        }
    }

    /// A group's actor panicked: its members keep what they have, the next one asks them and the journal.
    fn buried_group(&self, died: GroupDied, ctx: &mut Context<Self>) {
        let GroupDied {
            slot,
            whose: number,
        } = died;
        let mut local = self.local.borrow_mut();
        let now = local.shared.clock.now();
        local.mute_all(slot);
        local.flush_unanswered(); // what its last turn left half done
        local.vacate(slot);
        local.cells.restarted();
        let limits = Arc::clone(&local.shared.limits);
        let Some(resident) = local.groups.get(number) else {
            return;
        };
        resident.deaths += 1;
        let panics = resident
            .panics
            .get_or_insert_with(|| Box::new(Panics::none(now)))
            .count(now);
        let rebuild = panics <= PANICS_MAX;
        tracing::error!(filter = %resident.filter, panics, rebuild, "group actor panicked");
        if rebuild {
            let group = make(number, resident, resident.reads_journal(), limits);
            drop(local);
            self.spawn_group(group, ctx);
        } else {
            resident.state = GroupState::Quarantined;
            resident.attendance.take_said();
            local.cells.shift(Gauge::Quarantined, 1);
            local.answer_askers(number);
            local.flush_unanswered();
        }
    }
}

/// A group without a past, or one whose past is in the journal.
fn make(
    number: GroupNumber,
    resident: &GroupResident,
    recorded: bool,
    limits: Arc<SessionLimits>,
) -> Group {
    let make = if recorded { Group::asleep } else { Group::new };
    make(number, resident.filter.clone(), resident.strategy, limits)
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
        let shared = Arc::clone(&local.shared);
        let standing = shared.groups.lock().get(&observe.filter);
        let found = local.groups.find(&observe.filter);
        let (Some(standing), Some((number, resident))) = (standing, found) else {
            return Box::pin(std::future::ready(None));
        };
        if !resident.durable && !matches!(resident.state, GroupState::Active(_)) {
            let idle = GroupObservation::idle(standing);
            return Box::pin(std::future::ready(Some(idle)));
        }
        let (answer, observation) = oneshot::channel();
        if let GroupState::Active(slot) = resident.state {
            if let Some(state) = local.slot(slot) {
                state.tell_group(ToGroup::Observe(answer));
            }
            return Box::pin(async move { observation.await.ok() });
        }
        let journal = Arc::clone(&shared.journal);
        let reply = move |image: RecalledImage| {
            if let Ok(Some(snapshot)) = image {
                let observation = GroupObservation::asleep(standing, &snapshot, &*journal);
                // Whoever asked may have given up.
                answer.send(observation).ok();
            }
        };
        let end = shared.journal.end();
        shared.checkpointer.group(number, end, Box::new(reply));
        Box::pin(async move { observation.await.ok() })
    }
}
