//! What the client is sent: live messages and records of the journal, as far as the window has room.

use super::Session;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Live};
use crate::model::effects::Effects;
use crate::model::entry::{Change, Unsettled};
use crate::model::ids::{Now, Offset, PacketId};
use crate::model::limits::{Overflow, SessionLimits};
use crate::model::message::{Message, QoS};
use crate::model::packet::{Delivery, Outbound, SubscriptionIds};
use crate::model::record::Record;
use crate::model::refusal::Refusal;
use crate::model::subscriptions::Matched;

impl Session {
    /// A publication from the routing pass.
    pub(super) fn live(&mut self, now: Now, live: Live, effects: &mut Effects<Effect>) {
        if !self.attached {
            effects.count(Counter::DroppedOffline);
        } else if live.message.is_expired(now.time) {
            effects.count(Counter::DroppedExpired);
        } else {
            self.overtake(&live.message, None);
            self.take_live(now, live, effects);
        }
    }

    fn take_live(&mut self, now: Now, live: Live, effects: &mut Effects<Effect>) {
        if live.qos == QoS::AtMostOnce {
            send_once(live, effects);
        } else if self.pending.queue.is_empty() && self.room_for(live.qos) > 0 {
            self.send_from_memory(live, effects);
        } else {
            self.enqueue(now, live, effects);
        }
    }

    /// A committed record that concerns the session.
    pub(super) fn logged(&mut self, now: Now, record: Record, effects: &mut Effects<Effect>) {
        if self.attached && self.kept {
            if self
                .reading
                .cursor
                .committed(record, self.limits.inbox_records_max as usize)
            {
                effects.count(Counter::InboxOverflowed);
            }
            self.pump(now, effects);
        }
    }

    /// Sends what credit allows, and asks for more.
    pub(super) fn pump(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if !self.attached || !self.redeliver(effects) {
            return;
        }
        if self.kept {
            self.pump_journal(now, effects);
        } else {
            self.pump_queue(now, effects);
        }
        self.pump_replays(effects);
        self.offer_room(effects);
    }

    fn pump_journal(&mut self, now: Now, effects: &mut Effects<Effect>) {
        // It is sent with the QoS of its publication at most: nothing overtakes one that may have to wait.
        while let Some(first) = self.reading.cursor.first()
            && self.room_for(first.message.qos) > 0
        {
            // Whoever reads again after a crash must not take for sent what was passed over: the identifiers of what
            // follows would shift.
            if self.reading.passed_expired && !first.message.is_expired(now.time) {
                self.persist_progress(now, effects);
            }
            let Some(record) = self.reading.cursor.pop() else {
                break;
            };
            self.send_from_journal(now, &record, effects);
        }
        let inbox_max = self.limits.inbox_records_max;
        if self.reads_on()
            && let Some(from) = self.reading.cursor.wants_read(inbox_max as usize)
        {
            let read = self.reading.cursor.begin_read();
            effects.push(Effect::Read {
                read,
                from,
                records_max: inbox_max,
            });
        }
    }

    /// Whether there is anything that the journal is read for.
    fn reads_on(&self) -> bool {
        let next = self.reading.cursor.next();
        self.subscriptions.durable().next().is_some()
            || self.past().read_from(next).next().is_some()
    }

    /// What the record at `offset` means to the session.
    pub(super) fn matching(&self, message: &Message, offset: Offset) -> Option<Matched> {
        self.subscriptions
            .matching(self.past(), message, offset, self.number)
    }

    fn pump_queue(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if self.pending.queue.is_empty() {
            return;
        }
        while let Some(first) = self.pending.queue.front()
            && self.room_for(first.qos) > 0
            && let Some(live) = self.pending.take_queued()
        {
            if live.message.is_expired(now.time) {
                effects.count(Counter::DroppedExpired);
            } else {
                self.send_from_memory(live, effects);
            }
        }
    }

    fn send_from_journal(&mut self, now: Now, record: &Record, effects: &mut Effects<Effect>) {
        if !self.pending.already_sent.is_empty()
            && let Some(at) = self
                .pending
                .already_sent
                .iter()
                .position(|(offset, _)| *offset == record.offset)
        {
            let (_, packet_id) = self.pending.already_sent.swap_remove(at);
            self.inflight.count_past(packet_id);
            self.takes_for_sent(record.offset);
            return;
        }
        let Some(matched) = self.matching(&record.message, record.offset) else {
            if self
                .past()
                .dropped(&record.message, record.offset, self.number)
            {
                effects.count(Counter::DroppedUnsubscribed);
            }
            return;
        };
        // Message expiry is about the start of a delivery ([MQTT-3.3.2-5]), which may lie before a crash.
        let maybe_sent = self.takes_for_sent(record.offset);
        if record.message.is_expired(now.time) && !maybe_sent {
            effects.count(Counter::DroppedExpired);
            self.reading.passed_expired = true;
            return;
        }
        self.overtake(&record.message, Some(record.offset));
        let sent = self
            .inflight
            .send(record.offset, matched.qos, matched.retain, false);
        // A QoS 2 record that was sent is in the window: that is durable before PUBLISH.
        let dup = matched.qos == QoS::AtLeastOnce && record.offset < self.reading.maybe_sent_below;
        self.begin_delivery(record, sent, dup, matched.ids, effects);
    }

    /// Whether the next matching record, at `offset`, may have been sent before a crash.
    fn takes_for_sent(&mut self, offset: Offset) -> bool {
        let left = self.reading.maybe_sent_max.checked_sub(1);
        let maybe_sent = offset < self.reading.maybe_sent_below && left.is_some();
        if maybe_sent {
            self.reading.maybe_sent_max = left.unwrap_or(0);
        }
        maybe_sent
    }

    pub(super) fn begin_delivery(
        &mut self,
        record: &Record,
        sent: Unsettled,
        dup: bool,
        subscription_ids: SubscriptionIds,
        effects: &mut Effects<Effect>,
    ) {
        if sent.qos == QoS::ExactlyOnce && self.kept {
            self.persist(Change::Sent(sent), effects);
        }
        let live = Live {
            message: record.message.clone(),
            qos: sent.qos,
            retain: sent.retain,
            subscription_ids,
        };
        self.send(live, sent.packet_id, dup, effects);
    }

    /// Hands a delivery of the window to the connection.
    pub(super) fn send(
        &mut self,
        live: Live,
        packet_id: PacketId,
        dup: bool,
        effects: &mut Effects<Effect>,
    ) {
        self.hand_out(&live.message);
        send(live, Some(packet_id), dup, effects);
        self.ask_for_room(effects);
    }

    /// A transient session's delivery: the window holds the identifier, nobody will read the record again.
    fn send_from_memory(&mut self, live: Live, effects: &mut Effects<Effect>) {
        let sent = self
            .inflight
            .send(Offset::default(), live.qos, live.retain, false);
        self.send(live, sent.packet_id, false, effects);
    }

    fn enqueue(&mut self, now: Now, live: Live, effects: &mut Effects<Effect>) {
        let bytes = live.message.size_bytes() as u64;
        while self.queue_is_full(bytes) {
            effects.count(Counter::DroppedQueueFull);
            match self.limits.overflow {
                Overflow::DropNew => return,
                Overflow::ExpireSession => {
                    effects.push(Effect::Send(Outbound::Close(Refusal::NotReading)));
                    return self.closed(now, effects);
                }
                // Larger than the whole queue may be: no other message can make room.
                Overflow::DropOldest if self.never_fits(bytes) => return,
                Overflow::DropOldest => match self.pending.take_queued() {
                    Some(_) => {}
                    None => return,
                },
            }
        }
        self.pending.queue_bytes += bytes;
        self.pending.queue.push_back(live);
    }

    fn never_fits(&self, bytes: u64) -> bool {
        let max = self.limits.queue_bytes_max;
        max > 0 && bytes > max
    }

    fn queue_is_full(&self, bytes: u64) -> bool {
        let SessionLimits {
            queue_messages_max,
            queue_bytes_max,
            ..
        } = *self.limits;
        let messages =
            queue_messages_max > 0 && self.pending.queue.len() >= queue_messages_max as usize;
        messages || (queue_bytes_max > 0 && self.pending.queue_bytes + bytes > queue_bytes_max)
    }
}

/// Hands out a QoS 0 delivery, which the connection drops if it has no room.
pub(super) fn send_once(live: Live, effects: &mut Effects<Effect>) {
    send(live, None, false, effects);
}

fn send(live: Live, packet_id: Option<PacketId>, dup: bool, effects: &mut Effects<Effect>) {
    count_delivery(live.qos, effects);
    let Live {
        message,
        qos,
        retain,
        subscription_ids,
    } = live;
    effects.push(Effect::Send(Outbound::Publish(Delivery {
        message,
        packet_id,
        qos,
        dup,
        retain,
        subscription_ids,
        paced: false,
    })));
}

pub(super) fn count_delivery(qos: QoS, effects: &mut Effects<Effect>) {
    effects.count(match qos {
        QoS::AtMostOnce => Counter::DeliveredQos0,
        QoS::AtLeastOnce => Counter::DeliveredQos1,
        QoS::ExactlyOnce => Counter::DeliveredQos2,
    });
}
