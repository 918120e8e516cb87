//! The session as a member of groups: joining, leaving, and what it says to them.

use super::SessionActor;
use super::turn::{Held, Turn};
use crate::model::counter::Counter;
use crate::model::effect::{Input, WhichGroup};
use crate::model::entry::{Entry, GroupChange};
use crate::model::group::talk::Said;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::message::QoS;
use crate::model::packet::{Inbound, SubscriptionOptions};
use crate::model::refusal::Refusal;
use crate::model::topic::Filter;

impl SessionActor {
    /// Enters the session into the directory for every shared subscription of a SUBSCRIBE, before the session decides on
    /// it: the limits count all shards together. Gives those entered; a refusal stands in the packet.
    pub(super) fn join_groups(&self, input: &mut Input, now: Timestamp) -> Vec<Filter> {
        let Input::Packet {
            fence,
            packet: Inbound::Subscribe { filters, .. },
        } = input
        else {
            return Vec::new();
        };
        if *fence != self.session.fence() || !self.session.is_attached() {
            return Vec::new();
        }
        let local = self.local.borrow();
        let mut joined = Vec::new();
        let shared = filters.iter_mut();
        let shared = shared.filter(|(filter, _, refusal)| refusal.is_none() && filter.is_shared());
        for (filter, _, refusal) in shared {
            let number = self.session.number();
            let entered = local.shared.groups.lock().join(filter, number, now);
            match entered {
                Ok(()) => joined.push(filter.clone()),
                Err(refused) => {
                    local.count(if refused == Refusal::TenantGroupQuota {
                        Counter::TenantGroupRefused
                    } else {
                        Counter::GroupRefused
                    });
                    *refusal = Some(refused);
                }
            }
        }
        joined
    }

    /// The session has decided: what it refused it did not join.
    pub(super) fn joined_groups(&self, joined: Vec<Filter>) {
        let subscriptions = self.session.subscriptions();
        for filter in joined {
            if subscriptions.get(&filter).is_none() {
                let local = self.local.borrow();
                let mut groups = local.shared.groups.lock();
                groups.leave(&filter, self.session.number());
            }
        }
    }

    /// A shared subscription is in force: what waits, waits until its group is routed to.
    pub(super) fn join(
        &mut self,
        member: SessionNumber,
        filter: &Filter,
        options: SubscriptionOptions,
        kept: bool,
        turn: &Turn<'_>,
    ) {
        let slot = self.sentinel.slot();
        let mut local = self.local.borrow_mut();
        let queues = options.qos > QoS::AtMostOnce;
        let log_end = turn.log_end();
        let mut groups = local.shared.groups.lock();
        groups.grant(filter, member, kept, queues, log_end);
        drop(groups);
        local.count_subscriptions(slot, self.session.subscriptions().len());
        let question = local.group_changed(filter, Some((member, slot)));
        drop(local);
        if let Some(question) = question {
            self.waiting.held.push_back(Held::Joined(question));
        }
    }

    /// A shared subscription is gone.
    pub(super) fn leave(&self, member: SessionNumber, filter: &Filter) {
        let slot = self.sentinel.slot();
        let mut local = self.local.borrow_mut();
        local.shared.groups.lock().leave(filter, member);
        local.count_subscriptions(slot, self.session.subscriptions().len());
        local.leave_group(filter, member, slot);
    }

    /// A QoS 2 record of a group is this session's alone: what waits, waits until that is durable.
    pub(super) fn take(&mut self, group: GroupNumber, offset: Offset) {
        let taken = GroupChange::Taken { offset };
        let ticket = self.local.borrow_mut().append(Entry::group(group, taken));
        self.barrier(ticket);
    }

    /// Says something to a group. Once it is online in one, the slot knows whom the groups' words are for.
    pub(super) fn tell_group(&self, member: SessionNumber, to: WhichGroup, said: Said) {
        let slot = self.sentinel.slot();
        let mut local = self.local.borrow_mut();
        if matches!(said, Said::Online(_))
            && let Some(state) = local.slot(slot)
        {
            state.number = member;
        }
        local.tell_group(to, member, slot, said);
    }
}
