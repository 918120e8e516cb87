//! Resume: what the client was sent and had not acknowledged is sent again, in order, under its identifiers, and no
//! faster than the new connection's receive maximum allows.

use super::Session;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Live};
use crate::model::effects::Effects;
use crate::model::entry::{Step, Unsettled};
use crate::model::ids::{Now, Offset, PacketId};
use crate::model::message::QoS;
use crate::model::packet::Outbound;
use crate::model::record::Record;

/// Records that one read for redelivery brings at most: a window may hold many large ones.
const REREAD_MAX: usize = 32;

impl Session {
    /// Sends again what is due and needs no record, asks for the records that the rest needs. Gives whether nothing is
    /// due any more: only then may anything new be sent.
    pub(super) fn redeliver(&mut self, effects: &mut Effects<Effect>) -> bool {
        if !self.pending.rereading.is_empty() {
            return false;
        }
        self.release_due(effects);
        let mut exactly_once = self.room_for(QoS::ExactlyOnce);
        let due: Vec<Offset> = self
            .inflight
            .due()
            .filter(|sent| sent.step == Step::Published)
            .take(self.credit().min(REREAD_MAX))
            .take_while(|sent| {
                let takes = usize::from(sent.qos == QoS::ExactlyOnce);
                let left = exactly_once.checked_sub(takes);
                exactly_once = left.unwrap_or(0);
                left.is_some()
            })
            .map(|sent| sent.offset)
            .collect();
        if !due.is_empty() {
            self.pending.rereading.clone_from(&due);
            effects.push(Effect::Reread(due));
        }
        self.inflight.first_due().is_none()
    }

    /// The records asked for are read. What the client settled meanwhile is not due any more, so the answers are
    /// matched by offset, not by count.
    pub(super) fn reread(
        &mut self,
        now: Now,
        records: Vec<Option<Record>>,
        effects: &mut Effects<Effect>,
    ) {
        let asked_for = match self.pending.used() {
            Some(pending) => std::mem::take(&mut pending.rereading),
            None => Vec::new(),
        };
        for (offset, record) in asked_for.into_iter().zip(records) {
            self.release_due(effects);
            let Some(sent) = self.inflight.first_due() else {
                break;
            };
            if sent.offset != offset {
                continue;
            }
            if self.room_for(sent.qos) == 0 {
                break; // it is read again once there is room
            }
            if let Some(record) = record {
                effects.count(Counter::Redelivered);
                self.inflight.resent();
                self.send_again(&record, sent, effects);
            } else {
                effects.count(Counter::DroppedRetention);
                self.inflight.abandon(sent.packet_id);
                self.settled(now, sent, effects);
            }
        }
        self.pump(now, effects);
    }

    /// PUBREL for the first ones due whose PUBREC came: they need no record and no credit.
    fn release_due(&mut self, effects: &mut Effects<Effect>) {
        while let Some(sent) = self.inflight.first_due()
            && sent.step != Step::Published
        {
            self.inflight.resent();
            send_pubrel(sent.packet_id, true, effects);
        }
    }

    /// Sends a record with the identifiers that it had the first time.
    fn send_again(&mut self, record: &Record, sent: Unsettled, effects: &mut Effects<Effect>) {
        let subscription_ids = if sent.replay {
            sent.id.into_iter().collect()
        } else {
            let Record { message, offset } = record;
            (self.subscriptions).ids_at(self.past(), message, *offset, self.number)
        };
        let live = Live {
            message: record.message.clone(),
            qos: sent.qos,
            retain: sent.retain,
            subscription_ids,
        };
        self.send(live, sent.packet_id, true, effects);
    }
}

pub(super) fn send_pubrel(packet_id: PacketId, known: bool, effects: &mut Effects<Effect>) {
    effects.push(Effect::Send(Outbound::PubRel { packet_id, known }));
}
