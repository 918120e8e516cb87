//! The session as a member of groups: its slot, joining, leaving, coming back; as `actor/session/groups.rs` and
//! `actor/shard/groups.rs`.

use outlive_actors::model::effect::WhichGroup;
use outlive_actors::model::group::talk::{FromMember, Leased, Place, Said};
use outlive_actors::model::ids::SessionNumber;
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::SubscriptionOptions;
use outlive_actors::model::routes::Slot;
use outlive_actors::model::snapshot::SessionSnapshot;
use outlive_actors::model::topic::Filter;

use super::{CLIENTS_MAX, NO_SLOT, shard, shard_of};
use crate::world::{Actor, Held, Residence, World};

impl World {
    // --- slots

    /// An actor of this client's session gets a slot: a new one, or the one that its last actor had.
    pub(crate) fn occupy(&mut self, client: usize, recorded: Option<SessionNumber>) {
        let again = self.rng.permille(500);
        let given = self.groups.slots.entry(client).or_default();
        *given += u32::from(!again);
        let slot = *given * CLIENTS_MAX + u32::try_from(client).unwrap();
        let there = &mut self.slots[client];
        there.place = Some(Slot(slot));
        there.number = None;
        there.recorded = recorded;
    }

    /// The actor is gone: what groups leased to it goes back.
    pub(crate) fn vacate(&mut self, client: usize) {
        let there = &mut self.slots[client];
        let member = there.number.unwrap_or(SessionNumber(0));
        there.number = None;
        there.joined.clear();
        let late: Vec<Leased> = there.leased.drain(..).collect();
        if let Some(slot) = there.place.take() {
            for leased in late {
                self.return_leases(client, slot, member, leased);
            }
        }
    }

    /// The shard hears that a session's actor died.
    pub(crate) fn bury_session(&mut self, client: usize) {
        let dead = matches!(self.residences[client], Residence::Dead);
        let Some(slot) = self.slots[client].place.filter(|_| dead) else {
            return;
        };
        let there = &self.slots[client];
        let member = there.number.unwrap_or(SessionNumber(0));
        let recorded = there.recorded;
        self.note(|| format!("client {client}'s actor is buried"));
        self.say_lost(client, member, slot);
        self.flush_shard();
        self.vacate(client);
        if Some(member) != recorded {
            // Nothing is recorded of a session that ends with its connection.
            self.leave_groups(client, member);
        }
        self.flush_shard();
        self.goes_offline(client);
        if self.gives_up_on(client) {
            self.quarantine(client);
        }
    }

    fn place(&self, client: usize) -> Place {
        Place {
            shard: shard(shard_of(client)),
            slot: self.slots[client].place.unwrap_or(NO_SLOT),
        }
    }

    // --- joining and leaving

    pub(crate) fn join(
        &mut self,
        client: usize,
        actor: &mut Actor,
        member: SessionNumber,
        filter: &Filter,
        (options, kept): (SubscriptionOptions, bool),
    ) {
        let queues = options.qos > QoS::AtMostOnce;
        let log_end = self.journal.end;
        let directory = &mut self.groups.directory;
        directory.grant(filter, member, kept, queues, log_end);
        self.groups.check_granted(filter, queues && kept, queues);
        let place = self.place(client);
        let question = self.group_changed(shard_of(client), filter, Some((member, place)));
        actor.held.extend(question.map(Held::Joined));
    }

    pub(crate) fn leave(&mut self, client: usize, member: SessionNumber, filter: &Filter) {
        self.groups.directory.leave(filter, member);
        self.groups.noted_leave(filter, self.time);
        let slot = self.place(client).slot;
        self.leave_group(client, filter, member, slot);
    }

    fn leave_group(&mut self, client: usize, filter: &Filter, member: SessionNumber, slot: Slot) {
        let to = WhichGroup::Filter(filter.clone());
        self.say_as(client, slot, to, member, Said::Left);
        self.group_changed(shard_of(client), filter, None);
    }

    pub(crate) fn tell_group(
        &mut self,
        client: usize,
        member: SessionNumber,
        to: WhichGroup,
        said: Said,
    ) {
        if matches!(said, Said::Online(_)) {
            self.slots[client].number = Some(member);
        }
        if let (WhichGroup::Group(group), Said::Settled(_, leases)) = (&to, &said) {
            for at in leases {
                self.lease_is_settled((group.number, *at));
            }
        }
        let slot = self.place(client).slot;
        self.say_as(client, slot, to, member, said);
    }

    fn say_as(
        &mut self,
        client: usize,
        slot: Slot,
        to: WhichGroup,
        member: SessionNumber,
        said: Said,
    ) {
        let here = shard_of(client);
        let place = Place {
            shard: shard(here),
            slot,
        };
        let from = FromMember {
            member,
            place,
            said,
        };
        self.say(here, to, from);
    }

    /// A session is over: it is no member any more.
    pub(crate) fn leave_groups(&mut self, client: usize, member: SessionNumber) {
        let filters = self.groups.directory.reconcile(member, &[]);
        for filter in &filters {
            self.groups.noted_leave(filter, self.time);
            self.leave_group(client, filter, member, NO_SLOT);
        }
    }

    /// A session came back from its snapshot.
    pub(crate) fn reconcile_groups(&mut self, client: usize, snapshot: &SessionSnapshot) {
        let member = snapshot.number;
        let shared: Vec<_> = snapshot.shared_subscriptions().collect();
        let filters: Vec<_> = shared.iter().map(|known| known.filter.clone()).collect();
        let directory = &mut self.groups.directory;
        for known in &shared {
            let queues = known.is_durable();
            directory.inherit_member(&known.filter, member, queues, known.from);
        }
        let left = directory.reconcile(member, &filters);
        for filter in &filters {
            self.group_changed(shard_of(client), filter, None);
        }
        for filter in &left {
            self.groups.noted_leave(filter, self.time);
            self.leave_group(client, filter, member, NO_SLOT);
        }
    }
}
