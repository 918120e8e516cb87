//! How a group begins, is routed to and ends on its home shard, as the directory says.

use super::super::protocol::{GroupBatch, ToGroup};
use super::super::recovery::GroupSummary;
use super::Local;
use super::groups::{GroupResident, GroupState};
use crate::model::entry::{Entry, GroupChange};
use crate::model::group::Strategy;
use crate::model::group::attendance::Attendance;
use crate::model::ids::{GroupNumber, Offset};
use crate::model::message::QoS;
use crate::model::packet::SubscriptionOptions;
use crate::model::routes::Slot;
use crate::model::topic::Filter;
use crate::observe::Gauge;

impl Local {
    /// Takes over a group that survived a restart: routable, passive.
    pub fn inherit_group(&mut self, summary: GroupSummary) {
        if summary.recorded {
            let resident = self.add_group(summary.number, &summary.filter, GroupState::Passive);
            resident.durable = true;
            let plain = resident.plain.clone();
            self.hold(&plain);
        }
        self.look_at_group(&summary.filter);
    }

    /// Routes publications to a group, or to it no more.
    pub fn listen_group(&mut self, slot: Slot, plain: &Filter, on: bool, durable: bool) {
        if on {
            let options = SubscriptionOptions {
                retain_as_published: true,
                ..SubscriptionOptions::of_qos(QoS::ExactlyOnce)
            };
            let known = self
                .slot(slot)
                .is_some_and(|state| !state.filters.is_empty());
            self.listen(slot, plain, &options, durable, known);
        } else {
            self.mute(slot, plain);
        }
    }

    /// Asks the shard for an actor, which cannot be started in the middle of somebody else's turn.
    pub fn want_group_actor(&mut self, number: GroupNumber) {
        let groups = &mut self.groups;
        if !groups.due.contains(&number) {
            groups.due.push(number);
            if let Some(shard) = groups.peers.get(usize::from(self.shard.0)) {
                shard.do_send(GroupBatch::default());
            }
        }
    }

    /// Makes of a group that lives here what the directory says.
    pub(super) fn look_at_group(&mut self, filter: &Filter) {
        let standing = self.shared.groups.lock().get(filter);
        let known = self.groups.numbers.get(filter).copied();
        if let Some(known) = known
            && standing.is_none_or(|standing| standing.number != known)
        {
            self.end_group(known);
        }
        let Some(standing) = standing else { return };
        let number = standing.number;
        if !self.groups.residents.contains_key(&number) {
            self.add_group(number, filter, GroupState::Fresh(None));
        }
        self.choose_like(number, standing.strategy);
        if let Some(next) = standing.durable_from {
            self.make_durable(number, next);
        }
    }

    fn choose_like(&mut self, number: GroupNumber, strategy: Strategy) {
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut resident.strategy, strategy) != strategy
            && let GroupState::Active(slot) = resident.state
            && let Some(state) = self.slot(slot)
        {
            state.tell_group(ToGroup::Strategy(strategy));
        }
    }

    fn make_durable(&mut self, number: GroupNumber, next: Offset) {
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut resident.durable, true) {
            return;
        }
        let plain = resident.plain.clone();
        let filter = resident.filter.clone();
        let mut active = None;
        match &mut resident.state {
            GroupState::Fresh(from) => *from = Some(next),
            GroupState::Active(slot) => active = Some(*slot),
            GroupState::Passive | GroupState::Quarantined => {}
        }
        self.append(Entry::group(number, GroupChange::Created { filter, next }));
        self.hold(&plain);
        if let Some(state) = active.and_then(|slot| self.slot(slot)) {
            state.tell_group(ToGroup::Durable(next));
        }
    }

    fn add_group(
        &mut self,
        number: GroupNumber,
        filter: &Filter,
        state: GroupState,
    ) -> &mut GroupResident {
        self.cells.shift(Gauge::Groups, 1);
        self.groups.numbers.insert(filter.clone(), number);
        let plain = filter.share().map(|(_, plain)| plain);
        let resident = GroupResident {
            plain: plain.unwrap_or_else(|| filter.clone()),
            filter: filter.clone(),
            strategy: Strategy::default(),
            durable: false,
            state,
            attendance: Attendance::default(),
            panics: None,
            deaths: 0,
            deadline: None,
        };
        let residents = &mut self.groups.residents;
        residents.entry(number).insert(resident).into_mut()
    }

    /// The last member of a group that lives here is gone.
    fn end_group(&mut self, number: GroupNumber) {
        self.groups.set_deadline(number, None);
        let Some(resident) = self.groups.residents.remove(&number) else {
            return;
        };
        self.groups.numbers.remove(&resident.filter);
        self.cells.shift(Gauge::Groups, -1);
        let online = i64::try_from(resident.attendance.online().len()).unwrap_or(0);
        self.cells.shift(Gauge::GroupMembersOnline, -online);
        if resident.durable {
            self.release(&resident.plain);
            self.append(Entry::group(number, GroupChange::Ended));
        }
        if let GroupState::Active(slot) = resident.state
            && let Some(state) = self.slot(slot)
        {
            state.tell_group(ToGroup::End);
        }
        if matches!(resident.state, GroupState::Quarantined) {
            self.cells.shift(Gauge::Quarantined, -1);
        }
    }
}
