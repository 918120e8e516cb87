//! How groups begin, are started, end and survive a crash; as `actor/local/group_life.rs`, `actor/shard/groups.rs` and
//! `system/start.rs`.

use std::sync::Arc;

use outlive_actors::actor::recovery::{GroupSummary, GroupsFound, SessionSummary};
use outlive_actors::model::effects::Effects;
use outlive_actors::model::entry::{Entry, GroupChange};
use outlive_actors::model::group::attendance::Attendance;
use outlive_actors::model::group::{Group, GroupInput, Strategy};
use outlive_actors::model::ids::{GroupNumber, Now, Timestamp};
use outlive_actors::model::limits::SharedLimits;
use outlive_actors::model::snapshot::SessionSnapshot;
use outlive_actors::model::topic::Filter;

use outlive_actors::supervise::{PANICS_MAX, Panics};

use super::actor::{GroupActor, Told};
use super::{NO_CLIENT, Resident, State, plain};
use crate::seen::Seen;
use crate::world::World;

impl World {
    /// Makes of a group what the directory says.
    pub(super) fn look_at_group(&mut self, filter: &Filter) {
        let standing = self.groups.directory.get(filter);
        let known = self.groups.numbers.get(filter).copied();
        if let Some(known) = known
            && standing.is_none_or(|standing| standing.number != known)
        {
            self.end_group(known);
        }
        let Some(standing) = standing else { return };
        let number = standing.number;
        if !self.groups.residents.contains_key(&number) {
            self.add_group(number, filter.clone(), false, State::Fresh(None));
        }
        let Some(resident) = self.groups.residents.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut resident.strategy, standing.strategy);
        if before != standing.strategy
            && let Some(actor) = self.groups.actors.get_mut(&number)
        {
            actor.tell(Told::Strategy(standing.strategy));
        }
        if let Some(next) = standing.durable_from {
            self.make_durable(number, next);
        }
    }

    fn add_group(&mut self, number: GroupNumber, filter: Filter, durable: bool, state: State) {
        self.groups.account.named(number, &filter);
        self.groups.numbers.insert(filter.clone(), number);
        let resident = Resident {
            plain: plain(&filter),
            filter,
            strategy: Strategy::default(),
            durable,
            switch: None,
            askers: Vec::new(),
            state,
            attendance: Attendance::default(),
            deaths: 0,
            panics: None,
        };
        self.groups.residents.insert(number, resident);
    }

    /// The last member of a group is gone.
    fn end_group(&mut self, number: GroupNumber) {
        let Some(resident) = self.groups.residents.remove(&number) else {
            return;
        };
        self.note(|| format!("group {number:?} is over"));
        self.answer_all(&resident.filter, resident.askers);
        self.groups.numbers.remove(&resident.filter);
        if resident.durable {
            self.entries.push(Entry::group(number, GroupChange::Ended));
        }
        if let Some(actor) = self.groups.actors.get_mut(&number) {
            actor.tell(Told::End);
        }
    }

    fn make_group(&self, number: GroupNumber, recorded: bool) -> Group {
        let resident = &self.groups.residents[&number];
        let make = if recorded { Group::asleep } else { Group::new };
        let limits = Arc::clone(&self.limits);
        make(number, resident.filter.clone(), resident.strategy, limits)
    }

    /// Starts the actors of groups whose members are there.
    pub(crate) fn start_groups(&mut self) {
        for number in std::mem::take(&mut self.groups.due) {
            let Some(resident) = self.groups.residents.get(&number) else {
                continue;
            };
            let (passive, durable_from) = match resident.state {
                State::Fresh(durable_from) => (false, durable_from),
                State::Passive => (true, None),
                State::Active | State::Quarantined => continue,
            };
            let mut group = self.make_group(number, passive);
            if let Some(next) = durable_from {
                let durable = GroupInput::Durable { next };
                group.take_in(Now::default(), durable, &mut Effects::new());
            }
            self.spawn_group(group);
        }
    }

    fn spawn_group(&mut self, mut group: Group) {
        let number = group.number();
        self.note(|| format!("group {number:?} gets an actor"));
        let mut effects = Effects::new();
        if let Some(resident) = self.groups.residents.get_mut(&number) {
            if resident.deaths > 0 {
                let online = resident.attendance.online();
                group.recount(resident.deaths, online, &mut effects);
            }
            resident.state = State::Active;
        }
        let actor = GroupActor::new(group, effects);
        self.groups.actors.insert(number, actor);
    }

    /// Groups whose actor died get another one.
    pub(crate) fn bury_groups(&mut self) {
        let actors = self.groups.actors.iter();
        let dead = actors.filter(|(_, actor)| actor.is_dead());
        let dead: Vec<_> = dead.map(|(number, _)| *number).collect();
        for number in dead {
            self.groups.actors.remove(&number);
            self.groups.listening.remove(&number);
            let Some(resident) = self.groups.residents.get_mut(&number) else {
                continue;
            };
            resident.deaths += 1;
            let panics = resident
                .panics
                .get_or_insert_with(|| Panics::none(self.time));
            if panics.count(self.time) > PANICS_MAX {
                resident.state = State::Quarantined;
                resident.attendance.take_said();
                self.note(|| format!("group {number:?} is quarantined"));
                self.saw(Seen::GroupQuarantined);
                self.answer_askers(number);
                self.flush_shard();
                continue;
            }
            let recorded = resident.reads_journal();
            if resident.switch.is_some() {
                self.saw(Seen::DiedDuringSwitch);
            }
            let group = self.make_group(number, recorded);
            self.spawn_group(group);
        }
    }

    /// The process died; `survivors` are the sessions that live on, with the moment at which each counts as detached.
    pub(crate) fn groups_survive(&mut self, survivors: &[SessionSnapshot]) {
        let mut found = GroupsFound::default();
        for snapshot in survivors {
            found.session(&summary(snapshot));
        }
        for group in self.journal.groups.values() {
            found.group(group.number, group.filter.clone(), group.next);
        }
        let mut limits = SharedLimits::clone(&self.groups.limits);
        if self.rng.permille(700) {
            // Whoever declared them wrote it down, too.
            limits.declared = self.groups.directory.declared().clone();
        }
        let (directory, groups, over) = found.settle(Arc::new(limits), self.epoch);
        self.groups.directory = directory;
        let recorded = &self.journal.groups;
        let declared = &mut self.groups.declared;
        declared.retain(|_, number| recorded.contains_key(number));
        if self.groups.is_any_switching() {
            self.saw(Seen::CrashedDuringSwitch);
        }
        self.groups.residents.clear();
        self.groups.numbers.clear();
        self.groups.due.clear();
        self.groups.actors.clear();
        self.groups.listening.clear();
        self.groups.outboxes.clear();
        self.groups.routed.clear();
        self.groups.ways.clear();
        self.groups.account.crashed();
        for number in over {
            self.entries.push(Entry::group(number, GroupChange::Ended));
        }
        for GroupSummary {
            number,
            filter,
            recorded,
        } in groups
        {
            if recorded {
                let at = self.oracle.tick();
                self.groups.account.switched(number, at);
                self.add_group(number, filter.clone(), true, State::Passive);
            }
            self.look_at_group(&filter);
        }
        self.flush_shard();
    }

    /// What a shard leaves when no session has a turn.
    pub(super) fn flush_shard(&mut self) {
        self.flush(NO_CLIENT);
    }
}

/// What recovery says of a session, as far as groups are concerned.
fn summary(snapshot: &SessionSnapshot) -> SessionSummary {
    SessionSummary {
        number: snapshot.number,
        client_id: snapshot.client_id.clone(),
        owner: snapshot.owner.clone(),
        listener: snapshot.listener.clone(),
        resumed: snapshot.was_resumed(),
        expiry_seconds: snapshot.expiry_seconds,
        deadline: Timestamp(0),
        will_due_at: None,
        filters: Vec::new(),
        shared: snapshot
            .shared_subscriptions()
            .map(|known| (known.filter.clone(), known.from, known.is_durable()))
            .collect(),
        was_attached: false,
        record: None,
    }
}
