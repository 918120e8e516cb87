//! What the client is sent: live messages, records of the journal, retained messages, redeliveries; and how the client
//! settles them.

use super::{Replay, Session};
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Live};
use crate::model::entry::{Change, Step, Unsettled};
use crate::model::ids::{Now, Offset, PacketId};
use crate::model::limits::{Overflow, SessionLimits};
use crate::model::message::QoS;
use crate::model::packet::{Delivery, Outbound, SubscriptionIds, SubscriptionOptions};
use crate::model::record::Record;
use crate::model::refusal::Refusal;

/// Retained messages that one read brings at most.
const REPLAY_READ_MAX: usize = 64;

impl Session {
    /// A publication from the routing pass.
    pub(super) fn live(&mut self, now: Now, live: Live, effects: &mut Vec<Effect>) {
        if !self.attached {
            effects.push(Effect::Count(Counter::DroppedOffline));
        } else if live.message.is_expired(now.time) {
            effects.push(Effect::Count(Counter::DroppedExpired));
        } else if live.qos == QoS::AtMostOnce {
            send_live(live, None, effects);
        } else if self.queue.is_empty() && self.inflight.credit() > 0 {
            self.send_from_memory(live, effects);
        } else {
            self.enqueue(now, live, effects);
        }
    }

    /// A committed record that concerns the session.
    pub(super) fn logged(&mut self, now: Now, record: Record, effects: &mut Vec<Effect>) {
        if self.attached {
            if self
                .cursor
                .committed(record, self.limits.inbox_records_max as usize)
            {
                effects.push(Effect::Count(Counter::InboxOverflowed));
            }
            self.pump(now, effects);
        }
    }

    /// Sends what credit allows, and asks for more.
    pub(super) fn pump(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.attached || self.redelivering {
            return;
        }
        if self.kept {
            self.pump_journal(now, effects);
        } else {
            self.pump_queue(now, effects);
        }
        self.pump_replays(effects);
    }

    /// The unsettled records are read: send them again, in order, under their identifiers.
    pub(super) fn redeliver(
        &mut self,
        now: Now,
        records: &[Option<Record>],
        effects: &mut Vec<Effect>,
    ) {
        if !std::mem::take(&mut self.redelivering) {
            return;
        }
        let mut records = records.iter();
        let sent: Vec<Unsettled> = self.inflight.iter().copied().collect();
        for sent in sent {
            if sent.step == Step::Released {
                effects.push(Effect::Send(Outbound::PubRel {
                    packet_id: sent.packet_id,
                    known: true,
                }));
                continue;
            }
            match records.next() {
                Some(Some(record)) => {
                    effects.push(Effect::Count(Counter::Redelivered));
                    self.send_record(record, sent, true, effects);
                }
                _ => {
                    effects.push(Effect::Count(Counter::DroppedRetention));
                    self.inflight.settle(sent.packet_id, sent.qos, None);
                    self.settled(now, sent, effects);
                }
            }
        }
        self.pump(now, effects);
    }

    /// Retained messages of a new subscription were found.
    pub(super) fn retained_found(
        &mut self,
        now: Now,
        options: SubscriptionOptions,
        offsets: Vec<Offset>,
        effects: &mut Vec<Effect>,
    ) {
        if self.attached && !offsets.is_empty() {
            self.replays.push_back(Replay {
                options,
                offsets: offsets.into(),
            });
            self.pump(now, effects);
        }
    }

    /// Retained messages of the first replay were read.
    pub(super) fn replay(
        &mut self,
        now: Now,
        records: Vec<Option<Record>>,
        effects: &mut Vec<Effect>,
    ) {
        if !std::mem::take(&mut self.replaying) {
            return;
        }
        let Some(Replay {
            options,
            mut offsets,
        }) = self.replays.pop_front()
        else {
            return;
        };
        for record in records {
            let Some(at) = offsets.pop_front() else { break };
            let Some(record) = record.filter(|record| !record.message.is_expired(now.time)) else {
                continue; // replaced, cleared or expired since it was found
            };
            let qos = record.message.qos.min(options.qos);
            if qos == QoS::AtMostOnce {
                let subscription_ids = options.id.into_iter().collect();
                let live = Live {
                    message: record.message,
                    qos,
                    retain: true,
                    subscription_ids,
                };
                send_live(live, None, effects);
            } else if self.inflight.credit() == 0 {
                offsets.push_front(at);
                break;
            } else {
                let sent = self.inflight.send(record.offset, qos, true, true);
                let ids = options.id.into_iter().collect();
                self.begin_delivery(&record, sent, false, ids, effects);
            }
        }
        if !offsets.is_empty() {
            self.replays.push_front(Replay { options, offsets });
        }
        self.pump(now, effects);
    }

    /// PUBACK.
    pub(super) fn puback(
        &mut self,
        now: Now,
        packet_id: PacketId,
        failed: bool,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(sent) = self.inflight.settle(packet_id, QoS::AtLeastOnce, None) {
            self.acked(now, sent, failed, effects);
        }
    }

    /// PUBREC: durable before PUBREL, so that the message is never sent again.
    pub(super) fn pubrec(
        &mut self,
        now: Now,
        packet_id: PacketId,
        failed: bool,
        effects: &mut Vec<Effect>,
    ) {
        if failed {
            if let Some(sent) =
                self.inflight
                    .settle(packet_id, QoS::ExactlyOnce, Some(Step::Published))
            {
                self.acked(now, sent, true, effects);
            }
            return;
        }
        let before = self.inflight.release(packet_id);
        if before == Some(Step::Published) && self.kept {
            self.persist(Change::PubRec { packet_id }, effects);
        }
        effects.push(Effect::Send(Outbound::PubRel {
            packet_id,
            known: before.is_some(),
        }));
    }

    /// PUBCOMP.
    pub(super) fn pubcomp(&mut self, now: Now, packet_id: PacketId, effects: &mut Vec<Effect>) {
        if let Some(sent) = self
            .inflight
            .settle(packet_id, QoS::ExactlyOnce, Some(Step::Released))
        {
            self.acked(now, sent, false, effects);
        }
    }

    /// Records how far the client came, if that is news.
    pub(super) fn record_progress(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.progress_at = None;
        if !self.kept {
            return;
        }
        self.cursor.advance(now.live_end);
        let next = self.cursor.next();
        if self.unrecorded > 0 || next != self.recorded_next {
            self.unrecorded = 0;
            self.recorded_next = next;
            let next_packet_id = self.inflight.next_packet_id();
            let unsettled = self.inflight.at_least_once();
            self.record(
                Change::Progress {
                    next,
                    next_packet_id,
                    unsettled,
                },
                effects,
            );
        }
        self.schedule_progress(now);
    }

    /// An attached session records progress soon after an acknowledgement, and now and then without one, so that a
    /// quiet reader does not pin what it has no interest in.
    pub(super) fn schedule_progress(&mut self, now: Now) {
        if self.kept && self.attached && self.progress_at.is_none() {
            let soon = self.unrecorded > 0;
            let millis = if soon {
                self.limits.progress_millis
            } else {
                self.limits.progress_idle_millis
            };
            self.progress_at = Some(now.time.plus_millis(millis));
        }
    }

    fn acked(&mut self, now: Now, sent: Unsettled, failed: bool, effects: &mut Vec<Effect>) {
        effects.push(Effect::Count(if failed {
            Counter::AckFailed
        } else {
            Counter::Acked
        }));
        self.settled(now, sent, effects);
        self.pump(now, effects);
    }

    fn settled(&mut self, now: Now, sent: Unsettled, effects: &mut Vec<Effect>) {
        if !self.kept {
            return;
        }
        if sent.qos == QoS::ExactlyOnce {
            self.record(
                Change::Settled {
                    packet_id: sent.packet_id,
                },
                effects,
            );
        }
        self.unrecorded += 1;
        if self.unrecorded == 1 {
            self.progress_at = None;
        }
        if self.unrecorded >= self.limits.progress_acks_max {
            self.record_progress(now, effects);
        } else {
            self.schedule_progress(now);
        }
    }

    fn pump_journal(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.inflight.credit() > 0 {
            let Some(record) = self.cursor.pop() else {
                break;
            };
            self.send_from_journal(now, &record, effects);
        }
        let inbox_max = self.limits.inbox_records_max;
        if self.subscriptions.durable().next().is_some()
            && let Some(from) = self.cursor.wants_read(inbox_max as usize)
        {
            let read = self.cursor.begin_read();
            effects.push(Effect::Read {
                read,
                from,
                records_max: inbox_max,
            });
        }
    }

    fn pump_queue(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.inflight.credit() > 0 {
            let Some(live) = self.queue.pop_front() else {
                break;
            };
            self.queue_bytes -= live.message.size_bytes() as u64;
            if live.message.is_expired(now.time) {
                effects.push(Effect::Count(Counter::DroppedExpired));
            } else {
                self.send_from_memory(live, effects);
            }
        }
    }

    fn pump_replays(&mut self, effects: &mut Vec<Effect>) {
        let credit = self.inflight.credit();
        if self.replaying || credit == 0 {
            return;
        }
        if let Some(replay) = self.replays.front() {
            self.replaying = true;
            let offsets = replay
                .offsets
                .iter()
                .take(credit.min(REPLAY_READ_MAX))
                .copied()
                .collect();
            effects.push(Effect::ReadRetained(offsets));
        }
    }

    fn send_from_journal(&mut self, now: Now, record: &Record, effects: &mut Vec<Effect>) {
        if !self.already_sent.is_empty()
            && let Some(at) = self
                .already_sent
                .iter()
                .position(|(offset, _)| *offset == record.offset)
        {
            let (_, packet_id) = self.already_sent.swap_remove(at);
            self.inflight.count_past(packet_id);
            return;
        }
        let Some(matched) =
            self.subscriptions
                .matching(&record.message, record.offset, self.number)
        else {
            return;
        };
        if record.message.is_expired(now.time) {
            effects.push(Effect::Count(Counter::DroppedExpired));
            return;
        }
        let sent = self
            .inflight
            .send(record.offset, matched.qos, matched.retain, false);
        let dup = record.offset < self.maybe_sent_below;
        self.begin_delivery(record, sent, dup, matched.ids, effects);
    }

    fn begin_delivery(
        &mut self,
        record: &Record,
        sent: Unsettled,
        dup: bool,
        subscription_ids: SubscriptionIds,
        effects: &mut Vec<Effect>,
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
        send(live, Some(sent.packet_id), dup, effects);
    }

    /// Sends a record whose subscriptions must be looked up again.
    fn send_record(&self, record: &Record, sent: Unsettled, dup: bool, effects: &mut Vec<Effect>) {
        let matched = self
            .subscriptions
            .matching(&record.message, Offset(u64::MAX), self.number);
        let subscription_ids = matched.map(|matched| matched.ids).unwrap_or_default();
        let live = Live {
            message: record.message.clone(),
            qos: sent.qos,
            retain: sent.retain,
            subscription_ids,
        };
        send(live, Some(sent.packet_id), dup, effects);
    }

    /// A transient session's delivery: the window holds the identifier, nobody will read the record again.
    fn send_from_memory(&mut self, live: Live, effects: &mut Vec<Effect>) {
        let sent = self
            .inflight
            .send(Offset::default(), live.qos, live.retain, false);
        send_live(live, Some(sent.packet_id), effects);
    }

    fn enqueue(&mut self, now: Now, live: Live, effects: &mut Vec<Effect>) {
        let bytes = live.message.size_bytes() as u64;
        while self.queue_is_full(bytes) {
            effects.push(Effect::Count(Counter::DroppedQueueFull));
            match self.limits.overflow {
                Overflow::DropNew => return,
                Overflow::ExpireSession => {
                    effects.push(Effect::Send(Outbound::Close(Refusal::NotReading)));
                    return self.closed(now, effects);
                }
                Overflow::DropOldest => match self.queue.pop_front() {
                    Some(oldest) => self.queue_bytes -= oldest.message.size_bytes() as u64,
                    None => return, // larger than the whole queue may be
                },
            }
        }
        self.queue_bytes += bytes;
        self.queue.push_back(live);
    }

    fn queue_is_full(&self, bytes: u64) -> bool {
        let SessionLimits {
            queue_messages_max,
            queue_bytes_max,
            ..
        } = *self.limits;
        let messages = queue_messages_max > 0 && self.queue.len() >= queue_messages_max as usize;
        messages || (queue_bytes_max > 0 && self.queue_bytes + bytes > queue_bytes_max)
    }
}

fn send_live(live: Live, packet_id: Option<PacketId>, effects: &mut Vec<Effect>) {
    send(live, packet_id, false, effects);
}

fn send(live: Live, packet_id: Option<PacketId>, dup: bool, effects: &mut Vec<Effect>) {
    effects.push(Effect::Count(match live.qos {
        QoS::AtMostOnce => Counter::DeliveredQos0,
        QoS::AtLeastOnce => Counter::DeliveredQos1,
        QoS::ExactlyOnce => Counter::DeliveredQos2,
    }));
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
    })));
}
