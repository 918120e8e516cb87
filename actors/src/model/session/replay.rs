//! Retained messages at subscribe: found at once, read and sent as the window has room.

use super::Session;
use super::outbound::send_live;
use super::parts::Replay;
use crate::model::effect::{Effect, Live};
use crate::model::ids::{Now, Offset};
use crate::model::message::{Message, QoS};
use crate::model::packet::SubscriptionOptions;
use crate::model::record::Record;

/// Retained messages that one read brings at most.
const REPLAY_READ_MAX: usize = 64;

impl Session {
    /// Retained messages of a new subscription were found.
    pub(super) fn retained_found(
        &mut self,
        now: Now,
        options: SubscriptionOptions,
        offsets: Vec<Offset>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(pending) = self.pending.used() {
            pending.searches = pending.searches.saturating_sub(1);
        }
        if !offsets.is_empty() {
            self.pending.replays.push_back(Replay {
                options,
                offsets: offsets.into(),
            });
        }
        self.forget_overtaken();
        self.pump(now, effects);
    }

    /// Retained messages of the first replay were read.
    pub(super) fn replay(
        &mut self,
        now: Now,
        records: Vec<Option<Record>>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.pending.replaying {
            return;
        }
        self.pending.replaying = false;
        let Some(Replay {
            options,
            mut offsets,
        }) = self.pending.replays.pop_front()
        else {
            return;
        };
        for record in records {
            let Some(at) = offsets.pop_front() else { break };
            let Some(record) = record.filter(|record| !record.message.is_expired(now.time)) else {
                continue; // replaced, cleared or expired since it was found
            };
            let replaced_by = self.pending.overtaken.get(record.message.topic());
            if replaced_by.is_some_and(|at| *at > record.offset) {
                continue; // the client has what replaced it
            }
            if options.no_local && record.message.publisher == self.number {
                continue; // [MQTT-3.8.3-3]
            }
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
                if self.kept && qos == QoS::AtLeastOnce {
                    self.window_changed(now, effects);
                }
            }
        }
        if !offsets.is_empty() {
            self.pending.replays.push_front(Replay { options, offsets });
        }
        self.forget_overtaken();
        self.pump(now, effects);
    }

    fn forget_overtaken(&mut self) {
        if !self.awaits_retained()
            && let Some(pending) = self.pending.used()
        {
            pending.overtaken.clear();
        }
    }

    /// Whether retained messages are being looked up or sent.
    fn awaits_retained(&self) -> bool {
        self.pending.searches > 0 || !self.pending.replays.is_empty()
    }

    /// A publication that replaces the retained message of its topic is about to be sent: a replay that found the
    /// message before must not send it behind its successor.
    pub(super) fn overtake(&mut self, message: &Message, at: Offset) {
        if message.retain && self.awaits_retained() {
            self.pending.overtaken.insert(message.topic().into(), at);
        }
    }

    pub(super) fn pump_replays(&mut self, effects: &mut Vec<Effect>) {
        let credit = self.inflight.credit();
        if self.pending.replaying || credit == 0 {
            return;
        }
        let Some(pending) = self.pending.used() else {
            return;
        };
        if let Some(replay) = pending.replays.front() {
            pending.replaying = true;
            let due = replay.offsets.iter().take(credit.min(REPLAY_READ_MAX));
            effects.push(Effect::ReadRetained(due.copied().collect()));
        }
    }
}
