//! Messages that a group has in memory only: QoS 0 passes, the others wait until a member has room, within bounds.

use std::sync::Arc;

use super::talk::{Lease, is_in_memory};
use super::{Group, GroupEffect};
use crate::model::counter::Counter;
use crate::model::effect::Live;
use crate::model::effects::Effects;
use crate::model::ids::Now;
use crate::model::limits::{Overflow, SessionLimits};
use crate::model::message::{Message, QoS};

impl Group {
    pub(super) fn live(&mut self, now: Now, live: Live, effects: &mut Effects<GroupEffect>) {
        let message = live.message;
        if message.is_expired(now.time) {
            return effects.count(Counter::DroppedExpired);
        }
        if message.qos > QoS::AtMostOnce {
            return self.enqueue(message, effects);
        }
        match self.members.choose_for_once(&message) {
            Some(member) => effects.push(GroupEffect::Lease {
                member: member.number,
                fence: member.fence,
                place: member.place,
                lease: Lease::Once(message),
            }),
            None => effects.count(Counter::DroppedOffline),
        }
    }

    fn enqueue(&mut self, message: Arc<Message>, effects: &mut Effects<GroupEffect>) {
        if !self.members.take_memory() {
            return effects.count(Counter::DroppedOffline);
        }
        let bytes = message.size_bytes() as u64;
        while self.queue_is_full(bytes) {
            effects.count(Counter::DroppedQueueFull);
            let oldest = match self.limits.overflow {
                Overflow::DropOldest => self.front.first_key(),
                Overflow::DropNew | Overflow::ExpireSession => None,
            };
            let Some(dropped) = oldest.and_then(|at| self.front.remove(at)) else {
                return;
            };
            self.front_bytes -= dropped.size_bytes() as u64;
        }
        let at = self.next_memory_lease;
        self.next_memory_lease = at.next();
        self.hold(at, message);
    }

    fn queue_is_full(&self, bytes: u64) -> bool {
        let SessionLimits {
            queue_messages_max,
            queue_bytes_max,
            ..
        } = *self.limits;
        let messages = queue_messages_max > 0 && self.front.len() >= queue_messages_max as usize;
        messages || (queue_bytes_max > 0 && self.front_bytes + bytes > queue_bytes_max)
    }

    /// Nobody is there any more who may have what is in memory only.
    pub(super) fn drop_memory(&mut self, effects: &mut Effects<GroupEffect>) {
        let dropped: Vec<_> = self.front.keys().filter(|at| is_in_memory(*at)).collect();
        for at in dropped {
            self.front.remove(at);
            effects.count(Counter::DroppedOffline);
        }
        self.front_bytes = 0;
    }
}
