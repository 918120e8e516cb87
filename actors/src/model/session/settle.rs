//! How the client settles what it was sent, and how its progress is recorded.
//!
//! An acknowledgement of nothing is ignored: it may be late. One that does not fit the delivery under its identifier breaks the
//! protocol, and ends the connection: played along with, it would keep its place in the window for ever.

use super::Session;
use super::redelivery::send_pubrel;
use crate::model::counter::Counter;
use crate::model::effect::Effect;
use crate::model::effects::Effects;
use crate::model::entry::{Change, Step, Unsettled};
use crate::model::ids::{Now, PacketId};
use crate::model::inflight::Unfit;
use crate::model::message::QoS;
use crate::model::packet::Outbound;
use crate::model::refusal::Refusal;

impl Session {
    /// PUBACK.
    pub(super) fn puback(
        &mut self,
        now: Now,
        packet_id: PacketId,
        failed: bool,
        effects: &mut Effects<Effect>,
    ) {
        let settled = (self.inflight).settle(packet_id, QoS::AtLeastOnce, Step::Published);
        self.ended(now, settled, failed, effects);
    }

    /// PUBREC: durable before PUBREL, so that the message is never sent again.
    pub(super) fn pubrec(
        &mut self,
        now: Now,
        packet_id: PacketId,
        failed: bool,
        effects: &mut Effects<Effect>,
    ) {
        if failed {
            let settled = (self.inflight).settle(packet_id, QoS::ExactlyOnce, Step::Published);
            return match settled {
                // It took the message before; its PUBCOMP settles it.
                Err(Unfit(sent)) if sent.qos == QoS::ExactlyOnce => {}
                settled => self.ended(now, settled, true, effects),
            };
        }
        let Ok(before) = self.inflight.release(packet_id) else {
            return self.unfit(now, effects);
        };
        if before == Some(Step::Published) && self.kept {
            self.persist(Change::PubRec { packet_id }, effects);
        }
        if self.inflight.is_due(packet_id) {
            // Its PUBREL has its place in the redelivery; sent now, it would be sent twice.
            return self.pump(now, effects);
        }
        send_pubrel(packet_id, before.is_some(), effects);
    }

    /// PUBCOMP.
    pub(super) fn pubcomp(&mut self, now: Now, packet_id: PacketId, effects: &mut Effects<Effect>) {
        let settled = (self.inflight).settle(packet_id, QoS::ExactlyOnce, Step::Released);
        self.ended(now, settled, false, effects);
    }

    /// An acknowledgement that ends a delivery came.
    fn ended(
        &mut self,
        now: Now,
        settled: Result<Option<Unsettled>, Unfit>,
        failed: bool,
        effects: &mut Effects<Effect>,
    ) {
        match settled {
            Ok(Some(sent)) => self.acked(now, sent, failed, effects),
            Ok(None) => {}
            Err(Unfit(_)) => self.unfit(now, effects),
        }
    }

    /// The client acknowledged a delivery with the wrong packet (3.1.1: [MQTT-4.8.0-1], 5.0: [MQTT-4.13.1-1]).
    fn unfit(&mut self, now: Now, effects: &mut Effects<Effect>) {
        effects.push(Effect::Send(Outbound::Close(Refusal::WrongAck)));
        self.closed(now, effects);
    }

    /// Records how far the client came, if that is news.
    pub(super) fn record_progress(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if let Some(progress) = self.progress(now) {
            self.record(progress, effects);
        }
        self.schedule_progress(now);
    }

    /// As [`Self::record_progress`], and what follows waits until it is durable.
    pub(super) fn persist_progress(&mut self, now: Now, effects: &mut Effects<Effect>) {
        if let Some(progress) = self.progress(now) {
            self.persist(progress, effects);
        }
        self.schedule_progress(now);
    }

    /// How far the client came, to be recorded.
    fn progress(&mut self, now: Now) -> Option<Change> {
        if !self.kept {
            return None;
        }
        self.reading.progress_at = None;
        self.reading.cursor.advance(now.live_end);
        let next = self.reading.cursor.next();
        let reads = self.subscriptions.durable().next().is_some();
        // Before the record, which lets go the same where changes are folded.
        let lets_go = (self.reading.past).let_go(next, self.inflight.iter(), reads);
        if !lets_go && self.reading.unrecorded == 0 && next == self.reading.recorded_next {
            return None;
        }
        self.reading.unrecorded = 0;
        self.reading.recorded_next = next;
        self.reading.passed_expired = false;
        Some(Change::Progress {
            next,
            next_packet_id: self.inflight.next_packet_id(),
            unsettled: self.inflight.at_least_once(),
        })
    }

    /// An attached session records progress soon after an acknowledgement, and now and then without one, so that a
    /// quiet reader does not pin what it has no interest in.
    pub(super) fn schedule_progress(&mut self, now: Now) {
        if self.kept && self.attached && self.reading.progress_at.is_none() {
            let soon = self.reading.unrecorded > 0;
            let millis = if soon {
                self.limits.progress_millis
            } else {
                self.limits.progress_idle_millis
            };
            self.reading.progress_at = Some(now.time.plus_millis(millis));
        }
    }

    fn acked(&mut self, now: Now, sent: Unsettled, failed: bool, effects: &mut Effects<Effect>) {
        effects.count(if failed {
            Counter::AckFailed
        } else {
            Counter::Acked
        });
        self.settled(now, sent, effects);
        self.pump(now, effects);
    }

    pub(super) fn settled(&mut self, now: Now, sent: Unsettled, effects: &mut Effects<Effect>) {
        if let Some(group) = sent.lease {
            self.lease_settled(group, sent, effects);
        }
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
        if sent.lease.is_none() {
            self.window_changed(now, effects);
        }
    }

    /// Progress is recorded soon: something was settled, or sent out of the order of the log, which no cursor shows.
    pub(super) fn window_changed(&mut self, now: Now, effects: &mut Effects<Effect>) {
        self.reading.unrecorded += 1;
        if self.reading.unrecorded == 1 {
            self.reading.progress_at = None;
        }
        if self.reading.unrecorded >= self.limits.progress_acks_max {
            self.record_progress(now, effects);
        } else {
            self.schedule_progress(now);
        }
    }
}
