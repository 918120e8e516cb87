//! What the client sends: publications, releases, subscriptions.

use std::sync::Arc;

use super::Session;
use crate::model::counter::Counter;
use crate::model::effect::Effect;
use crate::model::effects::Effects;
use crate::model::entry::Change;
use crate::model::ids::{Now, Offset, PacketId};
use crate::model::message::{Message, QoS};
use crate::model::packet::{
    Outbound, ProtocolVersion, RetainHandling, Routed, SubscriptionOptions,
};
use crate::model::refusal::Refusal;
use crate::model::snapshot::SubscriptionSnapshot;
use crate::model::subscriptions::bytes_of;
use crate::model::topic::Filter;

impl Session {
    /// PUBLISH. The answer waits for the journal if a durable reader, the retained table or this session's QoS 2
    /// state needs the record.
    pub(super) fn publish(
        &mut self,
        message: Arc<Message>,
        packet_id: Option<PacketId>,
        effects: &mut Effects<Effect>,
    ) {
        let Some(packet_id) = packet_id else {
            effects.count(Counter::ReceivedQos0);
            effects.push(Effect::Publish {
                message,
                received: None,
            });
            return;
        };
        let qos = message.qos;
        // Client and broker disagree about their session. Older versions have no answer to that but to take it.
        if qos == QoS::AtLeastOnce
            && self.version == ProtocolVersion::V5
            && self.received.contains(&packet_id)
        {
            effects.count(Counter::ReceivedMisnumbered);
            effects.push(Effect::Send(Outbound::PubAck {
                packet_id,
                result: Err(Refusal::PacketIdInUse),
            }));
            return;
        }
        if qos == QoS::AtLeastOnce {
            effects.count(Counter::ReceivedQos1);
            effects.push(Effect::Publish {
                message,
                received: None,
            });
            effects.push(Effect::AckPublish { packet_id, qos });
            return;
        }
        if self.received.contains(&packet_id) {
            effects.count(Counter::ReceivedDuplicate);
            effects.push(Effect::Send(Outbound::PubRec {
                packet_id,
                result: Ok(Routed::Matched),
            }));
            return;
        }
        self.received.insert(packet_id);
        effects.count(Counter::ReceivedQos2);
        effects.push(Effect::Publish {
            message,
            received: self.kept.then_some(packet_id),
        });
        effects.push(Effect::AckPublish { packet_id, qos });
    }

    /// The journal could not take a publication: its identifier may be used again.
    pub(super) fn publish_failed(&mut self, received: Option<PacketId>) {
        if let Some(packet_id) = received {
            self.received.remove(&packet_id);
        }
    }

    /// PUBREL: the identifier is free once that is durable ([MQTT-4.3.3-12]: PUBCOMP in any case).
    pub(super) fn pubrel(&mut self, packet_id: PacketId, effects: &mut Effects<Effect>) {
        let known = self.received.remove(&packet_id);
        if known && self.kept {
            self.persist(Change::Released { packet_id }, effects);
        }
        effects.push(Effect::Send(Outbound::PubComp { packet_id, known }));
    }

    /// SUBSCRIBE: each filter is answered; retained messages follow the SUBACK.
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        packet_id: PacketId,
        filters: Vec<(Filter, SubscriptionOptions, Option<Refusal>)>,
        effects: &mut Effects<Effect>,
    ) {
        let mut results = Vec::with_capacity(filters.len());
        for (filter, options, refusal) in filters {
            if let Some(refusal) = refusal {
                results.push(Err(refusal));
                continue;
            }
            let known = self
                .subscriptions
                .get(&filter)
                .map(|known| (known.options, known.from));
            if self.is_full(now, &filter, options, known, effects) {
                effects.count(Counter::SubscriptionRefused);
                results.push(Err(Refusal::SubscriptionQuota));
                continue;
            }
            results.push(Ok(options.qos));
            self.put_subscription(now, filter, options, known, effects);
        }
        effects.push(Effect::Send(Outbound::SubAck { packet_id, results }));
        self.reconsider_replays();
        self.pump(now, effects);
    }

    /// Whether this subscription would take more than a session may have: a new one, or one whose options before must be
    /// kept for what lies behind the cursor.
    fn is_full(
        &mut self,
        now: Now,
        filter: &Filter,
        options: SubscriptionOptions,
        known: Option<(SubscriptionOptions, Offset)>,
        effects: &mut Effects<Effect>,
    ) -> bool {
        let max = self.limits.subscriptions_max as usize;
        match known {
            None if max > 0 && self.subscriptions.len() >= max => true,
            None => self.makes_no_room(now, filter, effects),
            Some((before, from)) => {
                self.kept
                    && before != options
                    && self.makes_no_room(now, filter, effects)
                    && self.may_send(from, now.log_end)
            }
        }
    }

    /// As [`Self::has_no_room`], when what no record needs any more is let go.
    fn makes_no_room(&mut self, now: Now, filter: &Filter, effects: &mut Effects<Effect>) -> bool {
        if self.has_no_room(filter) {
            self.record_progress(now, effects);
        }
        self.has_no_room(filter)
    }

    /// Whether a record of this range may still be sent, for the first time or again.
    fn may_send(&self, from: Offset, until: Offset) -> bool {
        let mut sent = self.inflight.iter();
        self.reading.cursor.next() < until
            || sent.any(|sent| !sent.replay && (from..until).contains(&sent.offset))
    }

    /// Whether one more filter would take more bytes than a session may have.
    fn has_no_room(&self, filter: &Filter) -> bool {
        let max = self.limits.subscriptions_bytes_max as usize;
        max > 0 && self.subscriptions.bytes() + self.past().bytes() + bytes_of(filter) > max
    }

    /// UNSUBSCRIBE: the unsent backlog goes, deliveries begun are finished.
    pub(super) fn unsubscribe(
        &mut self,
        now: Now,
        packet_id: PacketId,
        filters: &[Filter],
        effects: &mut Effects<Effect>,
    ) {
        // What is in the window must stay there after a crash, when a re-read would not match it any more.
        self.record_progress(now, effects);
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            self.end_replay(filter);
            let removed = self.subscriptions.remove(filter);
            existed.push(removed.is_some());
            if let Some(known) = removed {
                self.forget_group(&known.filter);
                if self.kept {
                    self.reading.past.push(known.clone(), now.log_end, true);
                }
                self.drop_subscription(known, effects);
                if self.kept {
                    self.persist(
                        Change::Dropped {
                            filter: filter.clone(),
                            until: now.log_end,
                        },
                        effects,
                    );
                }
            }
        }
        effects.push(Effect::Send(Outbound::UnsubAck { packet_id, existed }));
        self.reconsider_replays();
        self.pump(now, effects);
    }

    /// A subscription is out of force.
    pub(super) fn drop_subscription(
        &self,
        known: SubscriptionSnapshot,
        effects: &mut Effects<Effect>,
    ) {
        let durable = self.reads_journal(known.options);
        let filter = known.filter;
        effects.push(if filter.is_shared() {
            let member = self.number;
            Effect::Leave { member, filter }
        } else {
            Effect::Unsubscribe { filter, durable }
        });
    }

    fn put_subscription(
        &mut self,
        now: Now,
        filter: Filter,
        options: SubscriptionOptions,
        known: Option<(SubscriptionOptions, Offset)>,
        effects: &mut Effects<Effect>,
    ) {
        let durable = self.reads_journal(options);
        let was_durable = known.is_some_and(|(options, _)| self.reads_journal(options));
        let shared = filter.is_shared();
        // Clients that subscribe on every connect keep their position. With other options it counts from here on, and what
        // lies before is owed by those before.
        let from = match known {
            Some((before, from)) if was_durable && (shared || before == options) => from,
            _ => now.log_end,
        };
        if durable && !was_durable && !shared {
            self.reading.cursor.abandon_read();
        }
        let replay = match options.retain_handling {
            // Retained messages are for those who share with nobody (5.0 section 4.8.2).
            _ if shared => false,
            RetainHandling::AtSubscribe => true,
            RetainHandling::IfNew => known.is_none(),
            RetainHandling::Never => false,
        };
        // One that is under way is not cut short by a SUBSCRIBE that asks for none: nothing is lost by it.
        let replay = replay.then_some(now.log_end);
        if let Some(as_of) = replay {
            self.begin_replay(&filter, as_of);
        }
        effects.push(if shared {
            Effect::Join {
                member: self.number,
                filter: filter.clone(),
                options,
                kept: self.kept,
            }
        } else {
            Effect::Subscribe {
                filter: filter.clone(),
                options,
                durable,
                replaces: known.map(|_| was_durable),
            }
        });
        if self.kept {
            self.persist(
                Change::Subscribed {
                    filter: filter.clone(),
                    options,
                    from,
                    replay,
                },
                effects,
            );
        }
        if shared {
            self.tell_online(filter.clone(), options, effects);
        }
        if self.kept
            && let Some((before, _)) = known
            && before != options
            && let Some(was) = self.subscriptions.get(&filter)
        {
            self.reading.past.push(was.clone(), from, false);
        }
        self.subscriptions.put(SubscriptionSnapshot {
            filter,
            options,
            from,
        });
    }
}
