//! Two deaths at once: while what one actor left open is still open, the one that would have told about it dies, too.

use outlive_actors::model::effect::Input;
use outlive_actors::model::group::GroupInput;
use outlive_actors::model::group::talk::Leased;
use outlive_actors::model::ids::{GroupNumber, SessionNumber};

use outlive_actors::supervise::PANICS_MAX;

use super::{CLIENTS_MAX, Groups, State};
use crate::seen::Seen;
use crate::world::World;

impl Groups {
    /// The clients whose sessions are online in a group.
    fn online(&self, number: GroupNumber) -> Vec<usize> {
        let resident = &self.residents[&number];
        let online = resident.attendance.online();
        online
            .map(|(_, _, place)| (place.slot.0 % CLIENTS_MAX) as usize)
            .collect()
    }

    pub(crate) fn lease_nothing_to(&self, member: SessionNumber) {
        for (number, actor) in &self.actors {
            let mut leases = actor.group.leases();
            let lease = leases.find(|(_, known)| *known == member);
            assert_eq!(lease, None, "{number:?} leases to {member:?}");
        }
        for (number, resident) in &self.residents {
            let online = resident.attendance.fence_of(member);
            assert_eq!(online, None, "{number:?} takes {member:?} for online");
        }
    }

    pub(crate) fn is_any_quarantined(&self) -> bool {
        let mut residents = self.residents.values();
        residents.any(|resident| resident.state == State::Quarantined)
    }

    /// Groups with an actor and members online; those that have leased something, if there are any.
    fn busy(&self) -> Vec<GroupNumber> {
        let actors = self.actors.iter();
        let live = actors.filter(|(number, actor)| {
            let resident = self.residents.get(number);
            !actor.is_dead() && resident.is_some_and(|it| it.attendance.online().len() > 0)
        });
        let (leasing, idle): (Vec<_>, Vec<_>) =
            live.partition(|(_, actor)| actor.group.leased() > 0);
        let busy = if leasing.is_empty() { idle } else { leasing };
        busy.into_iter().map(|(number, _)| *number).collect()
    }
}

impl World {
    /// Two actors that have to do with each other die, or one and the process, before anybody is buried.
    pub(crate) fn two_die(&mut self) {
        let busy = self.groups.busy();
        if busy.is_empty() {
            return;
        }
        let number = *self.rng.pick(&busy);
        let online = self.groups.online(number);
        let member = *self.rng.pick(&online);
        let others: Vec<_> = online.into_iter().filter(|it| *it != member).collect();
        match self.rng.between(0, 9) {
            0..=2 => {
                self.group_dies_now(number);
                self.session_dies_now(member);
                self.saw(Seen::GroupAndMemberDied);
            }
            3..=4 => {
                self.session_dies_now(member);
                self.group_dies_now(number);
                self.saw(Seen::GroupAndMemberDied);
            }
            5..=7 if !others.is_empty() => {
                let other = *self.rng.pick(&others);
                self.session_dies_now(member);
                self.session_dies_now(other);
                self.saw(Seen::TwoMembersDied);
            }
            8 => {
                self.group_dies_now(number);
                self.crash();
                self.saw(Seen::GroupDiedBeforeCrash);
            }
            9 => {
                self.session_dies_now(member);
                self.crash();
                self.saw(Seen::MemberDiedBeforeCrash);
            }
            _ => {}
        }
    }

    /// The actor of a group dies as often as it is rebuilt.
    pub(crate) fn group_keeps_dying(&mut self) {
        let busy = self.groups.busy();
        if busy.is_empty() {
            return;
        }
        let number = *self.rng.pick(&busy);
        for _ in 0..=PANICS_MAX {
            self.group_dies_now(number);
            self.bury_groups();
        }
    }

    /// A group's actor dies in this turn, with what the turn took in.
    fn group_dies_now(&mut self, number: GroupNumber) {
        let effects = self.rng.between(0, 3);
        if let Some(actor) = self.groups.actors.get_mut(&number) {
            actor.die_after(effects);
        }
        self.group_turn(number, Some(GroupInput::Tick));
        if let Some(actor) = self.groups.actors.get_mut(&number) {
            actor.die();
        }
    }

    /// A session's actor dies in this turn, with what groups leased to it.
    pub(crate) fn session_dies_now(&mut self, client: usize) {
        let effects = self.rng.between(0, 3);
        self.die_after(client, effects);
        let leased: Vec<Leased> = self.slots[client].leased.drain(..).collect();
        let mut inputs: Vec<_> = leased.into_iter().map(Input::Leased).collect();
        inputs.push(Input::Tick);
        self.turn_if_active(client, inputs);
        self.kill(client);
    }
}
