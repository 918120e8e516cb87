//! Resume: what the client was sent and had not acknowledged is sent again, in order, under its identifiers.

use super::Session;
use super::outbound::send;
use crate::model::counter::Counter;
use crate::model::effect::{Effect, Live};
use crate::model::entry::{Step, Unsettled};
use crate::model::ids::{Now, Offset};
use crate::model::packet::Outbound;
use crate::model::record::Record;

impl Session {
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
}
