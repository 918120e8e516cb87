//! How a group begins and ends on its home shard, as the directory says.

use super::super::protocol::{GroupBatch, ToGroup};
use super::super::recovery::GroupSummary;
use super::Local;
use super::groups::{GroupResident, GroupState};
use crate::model::entry::{Entry, GroupChange};
use crate::model::group::Strategy;
use crate::model::group::attendance::Attendance;
use crate::model::ids::GroupNumber;
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
            switch: None,
            askers: Vec::new(),
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
        let Some(mut resident) = self.groups.residents.remove(&number) else {
            return;
        };
        self.answer_all(std::mem::take(&mut resident.askers));
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
