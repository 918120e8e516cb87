//! What groups lease to the session: sent as the window has room, settled or returned.
//!
//! A lease takes its packet identifier from the top down, as retained replays do: it is out of the order of the log. QoS 1
//! leases go back to their group when the connection ends; a QoS 2 delivery that was begun stays in the window.

use std::sync::Arc;

use super::Session;
use super::outbound::send_once;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Live, WhichGroup};
use crate::model::effects::Effects;
use crate::model::entry::Unsettled;
use crate::model::group::talk::{GroupRef, Lease, Leased, Online, Said, is_in_memory};
use crate::model::ids::{Fence, GroupNumber, Now, Offset};
use crate::model::message::{Message, QoS};
use crate::model::packet::SubscriptionOptions;
use crate::model::topic::Filter;

impl Session {
    /// A group has something for the client.
    pub(super) fn leased(&mut self, now: Now, leased: Leased, effects: &mut Effects<Effect>) {
        let Leased {
            group,
            filter,
            fence,
            what,
        } = leased;
        let known = self.subscriptions.get(&filter);
        let options = known
            .filter(|_| self.attached && fence == self.fence)
            .map(|known| known.options);
        for lease in what {
            self.take_lease(now, (group, &filter), fence, lease, options, effects);
        }
    }

    fn take_lease(
        &mut self,
        now: Now,
        (group, filter): (GroupRef, &Filter),
        fence: Fence,
        lease: Lease,
        options: Option<SubscriptionOptions>,
        effects: &mut Effects<Effect>,
    ) {
        match (lease, options) {
            (Lease::Once(message), Some(options)) => {
                send_once(delivery(message, QoS::AtMostOnce, options), effects);
            }
            (Lease::Once(_), None) => effects.count(Counter::DroppedOffline),
            // On its way since before the subscription was one that the group keeps a journal for.
            (Lease::Record { at, message }, Some(options))
                if is_in_memory(at) && self.reads_journal(options) =>
            {
                self.tell(group, returned(fence, at, message, false), effects);
            }
            (Lease::Record { at, message }, Some(options)) => {
                self.know(group, filter);
                self.lease(now, group, at, message, options, effects);
            }
            (Lease::Record { at, message }, None) => {
                self.tell(group, returned(fence, at, message, false), effects);
            }
            (Lease::Recount, Some(options)) => {
                self.know(group, filter);
                let online = self.online(filter, options);
                self.tell(group, Said::Recounted(Box::new(online)), effects);
            }
            // Its leaving is on its way to the group.
            (Lease::Recount, None) => {}
        }
    }

    fn lease(
        &mut self,
        now: Now,
        group: GroupRef,
        at: Offset,
        message: Arc<Message>,
        options: SubscriptionOptions,
        effects: &mut Effects<Effect>,
    ) {
        let fence = self.fence;
        if message.is_expired(now.time) {
            effects.count(Counter::DroppedExpired);
            return self.tell(group, Said::Settled(fence, [at].into()), effects);
        }
        let qos = message.qos.min(options.qos);
        if qos == QoS::AtMostOnce {
            send_once(delivery(message, qos, options), effects);
            return self.tell(group, Said::Settled(fence, [at].into()), effects);
        }
        if self.room_for(qos) == 0 || self.inflight.first_due().is_some() {
            if !self.pending.starved.contains(&group) {
                self.pending.starved.push(group);
            }
            return self.tell(group, returned(fence, at, message, true), effects);
        }
        let live = delivery(message, qos, options);
        let sent = self
            .inflight
            .lease(at, qos, live.retain, (group.number, options.id));
        if qos == QoS::ExactlyOnce && !is_in_memory(at) {
            // From here on it is this session's alone: durable before PUBLISH.
            if self.kept {
                self.persist(crate::model::entry::Change::Sent(sent), effects);
            } else {
                effects.push(Effect::Take(group.number, at));
            }
        }
        self.send(live, sent.packet_id, false, effects);
        if qos == QoS::ExactlyOnce {
            self.tell(group, Said::Taken(fence, at), effects);
        }
    }

    /// The client settled a lease.
    pub(super) fn lease_settled(
        &mut self,
        group: GroupNumber,
        sent: Unsettled,
        effects: &mut Effects<Effect>,
    ) {
        let mut known = self.pending.groups.iter();
        let Some((group, filter)) = known.find(|(known, _)| known.number == group) else {
            return; // leased on an earlier connection: the group has no place to free
        };
        let (group, left) = (*group, self.subscriptions.get(filter).is_none());
        let said = match sent.qos {
            QoS::ExactlyOnce => Said::Freed(self.fence),
            QoS::AtMostOnce | QoS::AtLeastOnce => Said::Settled(self.fence, [sent.offset].into()),
        };
        self.tell(group, said, effects);
        if left {
            self.forget_settled(group.number);
        }
    }

    /// The client unsubscribed: its group is remembered as long as something leased is unsettled.
    pub(super) fn forget_group(&mut self, filter: &Filter) {
        let mut known = self.pending.groups.iter();
        if let Some((group, _)) = known.find(|(_, known)| known == filter) {
            self.forget_settled(group.number);
        }
    }

    fn forget_settled(&mut self, number: GroupNumber) {
        if !self.inflight.leases().any(|(group, _)| group == number)
            && let Some(pending) = self.pending.used()
        {
            pending.groups.retain(|(known, _)| known.number != number);
            pending.starved.retain(|known| known.number != number);
            self.pending.tidy();
        }
    }

    /// Groups whose lease found no room are told that there is some.
    pub(super) fn offer_room(&mut self, effects: &mut Effects<Effect>) {
        if self.pending.starved.is_empty() || self.credit() == 0 {
            return;
        }
        for group in std::mem::take(&mut self.pending.starved) {
            // What it leases may be of the QoS that its subscription allows.
            let mut known = self.pending.groups.iter();
            let filter = known
                .find(|(known, _)| *known == group)
                .map(|(_, filter)| filter);
            let subscription = filter.and_then(|filter| self.subscriptions.get(filter));
            let qos = subscription.map_or(QoS::AtLeastOnce, |known| known.options.qos);
            match u16::try_from(self.room_for(qos)).unwrap_or(u16::MAX) {
                0 => self.pending.starved.push(group),
                room => self.tell(group, Said::Room(self.fence, room), effects),
            }
        }
    }

    /// Tells the group of a shared subscription that the client is there.
    pub(super) fn tell_online(
        &self,
        filter: Filter,
        options: SubscriptionOptions,
        effects: &mut Effects<Effect>,
    ) {
        let online = self.online(&filter, options);
        effects.push(Effect::TellGroup {
            member: self.number,
            to: WhichGroup::Filter(filter),
            said: Said::Online(Box::new(online)),
        });
    }

    fn online(&self, filter: &Filter, options: SubscriptionOptions) -> Online {
        let known = self.pending.groups.iter();
        let known = known.into_iter().find(|(_, known)| known == filter);
        let number = known.map(|(group, _)| group.number);
        let mine = || {
            let leases = self.inflight.leases();
            leases.filter(move |(group, _)| Some(*group) == number)
        };
        let holds = mine().filter(|(_, sent)| sent.qos == QoS::AtLeastOnce);
        let taken = mine().filter(|(_, sent)| sent.qos == QoS::ExactlyOnce);
        Online {
            by: number,
            fence: self.fence,
            max: self.inflight.max(),
            qos: options.qos,
            durable: self.reads_journal(options),
            taken: u16::try_from(taken.count()).unwrap_or(u16::MAX),
            holds: holds.map(|(_, sent)| sent.offset).collect(),
        }
    }

    /// Tells all groups that the client is there.
    pub(super) fn go_online(&self, effects: &mut Effects<Effect>) {
        for known in self.subscriptions.shared() {
            self.tell_online(known.filter.clone(), known.options, effects);
        }
    }

    /// The connection is gone: what was not begun with QoS 2 goes back to the groups, which are told what is not.
    pub(super) fn go_offline(&mut self, effects: &mut Effects<Effect>) {
        let groups = match self.pending.used() {
            Some(pending) => std::mem::take(&mut pending.groups),
            None => Vec::new(),
        };
        let left = groups.iter();
        let left = left.filter(|(_, filter)| self.subscriptions.get(filter).is_none());
        let left = left.map(|(group, filter)| (filter, Some(group.number)));
        let shared = self.subscriptions.shared().map(|known| {
            let group = groups.iter().find(|(_, filter)| *filter == known.filter);
            (&known.filter, group.map(|(group, _)| group.number))
        });
        for (filter, group) in left.chain(shared) {
            effects.push(Effect::TellGroup {
                member: self.number,
                to: WhichGroup::Filter(filter.clone()),
                said: self.offline(group),
            });
        }
        for _ in 0..self.inflight.give_back() {
            effects.count(Counter::DroppedSessionEnded);
        }
    }

    fn offline(&self, group: Option<GroupNumber>) -> Said {
        let keeps = self.inflight.leases();
        let keeps =
            keeps.filter(|(whose, sent)| Some(*whose) == group && sent.qos == QoS::ExactlyOnce);
        Said::Offline {
            fence: self.fence,
            keeps: keeps.map(|(_, sent)| sent.offset).collect(),
        }
    }

    fn tell(&self, group: GroupRef, said: Said, effects: &mut Effects<Effect>) {
        effects.push(Effect::TellGroup {
            member: self.number,
            to: WhichGroup::Group(group),
            said,
        });
    }

    /// Remembers whose lease it is, to say what became of it.
    fn know(&mut self, group: GroupRef, filter: &Filter) {
        if self.pending.groups.iter().any(|(known, _)| *known == group) {
            return;
        }
        let known = self.pending.groups.iter_mut();
        let known = known.into_iter().find(|(_, known)| known == filter);
        match known {
            Some((known, _)) => *known = group,
            None => self.pending.groups.push((group, filter.clone())),
        }
    }
}

fn returned(fence: Fence, at: Offset, message: Arc<Message>, full: bool) -> Said {
    Said::Returned {
        fence,
        at,
        message,
        full,
    }
}

fn delivery(message: Arc<Message>, qos: QoS, options: SubscriptionOptions) -> Live {
    Live {
        retain: message.retain && options.retain_as_published,
        message,
        qos,
        subscription_ids: options.id.into_iter().collect(),
    }
}
