//! What a client does with what it gets.

use outlive_actors::model::ids::{PacketId, SessionNumber, Timestamp};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Delivery, Inbound, Outbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::topic::Filter;

use crate::client::{Client, Outgoing};
use crate::groups::lease_of;
use crate::oracle::{Holding, Oracle, attempt_of};

impl Client {
    /// Takes a packet; gives what the client answers at once.
    pub(crate) fn take(
        &mut self,
        packet: Outbound,
        number: SessionNumber,
        oracle: &mut Oracle,
        now: Timestamp,
    ) -> Vec<Inbound> {
        match packet {
            Outbound::ConnAck {
                session_present, ..
            } => return self.accepted(session_present, number, oracle, now),
            Outbound::Publish(delivery) => self.receive(&delivery, oracle),
            Outbound::PubAck { packet_id, result } => {
                self.published(packet_id, result.is_ok(), true, oracle);
            }
            Outbound::PubRec { packet_id, result } => {
                self.published(packet_id, result.is_ok(), false, oracle);
                if result.is_ok() {
                    return vec![Inbound::PubRel { packet_id }];
                }
            }
            Outbound::PubRel { packet_id, .. } => {
                self.incoming.remove(&packet_id);
                self.acks.push_back(Inbound::PubComp { packet_id });
            }
            Outbound::PubComp { packet_id, .. } => {
                self.outgoing.retain(|out| out.packet_id != packet_id);
            }
            Outbound::SubAck { packet_id, results } => {
                let (asked_at, filters) = self.subscribing.remove(&packet_id).unwrap_or_default();
                for (filter, result) in filters.into_iter().zip(results) {
                    match result {
                        Ok(_) => oracle.granted(&mut self.holding, &filter, asked_at),
                        Err(refusal) => self.not_granted(&filter, refusal),
                    }
                }
            }
            Outbound::UnsubAck { packet_id, .. } => {
                let (asked_at, filters) = self.unsubscribing.remove(&packet_id).unwrap_or_default();
                for filter in filters {
                    oracle.gone(&mut self.holding, &filter, asked_at);
                }
            }
            Outbound::AwaitRoom => return vec![Inbound::Room],
            Outbound::Close(_) => self.lost(now),
        }
        Vec::new()
    }

    /// CONNACK. A client that never saw the CONNACK of the session in between cannot know that it lost one; the
    /// protocol has no remedy, so `number` tells it.
    pub(crate) fn accepted(
        &mut self,
        present: bool,
        number: SessionNumber,
        oracle: &mut Oracle,
        now: Timestamp,
    ) -> Vec<Inbound> {
        let until = self.safe_until.take();
        let safe = until.is_some_and(|until| {
            now < self
                .unsafe_from
                .map_or(until, |(bound, _)| until.min(bound))
        });
        self.unsafe_from = self
            .unsafe_from
            .filter(|(_, last)| self.link.is_some_and(|link| link <= *last));
        assert!(
            present || !safe || self.clean,
            "{}: the session was lost in time",
            self.id
        );
        assert!(
            !present || !self.clean,
            "{}: a clean start resumed",
            self.id
        );
        self.connected = true;
        self.clean = false;
        self.subscribing.clear();
        self.unsubscribing.clear();
        let known = std::mem::replace(&mut self.number, number) == number;
        if !present || !known {
            assert!(!known, "{}: a new session has the old number", self.id);
            self.start_over();
            self.holding = Holding::default();
            return Vec::new();
        }
        if std::mem::take(&mut self.acks_void) || !self.acks_late {
            self.acks.clear();
        }
        let outgoing: Vec<Outgoing> = self.outgoing.iter().copied().collect();
        outgoing
            .into_iter()
            .map(|out| {
                let packet_id = out.packet_id;
                if out.released {
                    return Inbound::PubRel { packet_id };
                }
                let expires_at = oracle.posts[out.post].expires_at;
                Inbound::Publish {
                    message: self.message(oracle, out.post, expires_at, false),
                    packet_id: Some(packet_id),
                    dup: true,
                }
            })
            .collect()
    }

    pub(crate) fn published(
        &mut self,
        packet_id: PacketId,
        taken: bool,
        last: bool,
        oracle: &mut Oracle,
    ) {
        let Some(at) = self
            .outgoing
            .iter()
            .position(|out| out.packet_id == packet_id)
        else {
            return;
        };
        let post = self.outgoing[at].post;
        if taken {
            let now = oracle.tick();
            oracle.posts[post].acked_at.get_or_insert(now);
        }
        if last || !taken {
            self.outgoing.remove(at);
        } else {
            self.outgoing[at].released = true;
        }
    }

    /// A subscription is refused; one that was in force still is.
    fn not_granted(&mut self, filter: &Filter, refusal: Refusal) {
        assert_eq!(refusal, Refusal::SharedQuota, "{}: {filter}", self.id);
        assert!(filter.is_shared(), "{}: {filter} is refused", self.id);
        self.holding.not_granted(filter);
    }

    pub(crate) fn receive(&mut self, delivery: &Delivery, oracle: &mut Oracle) {
        let Some(packet_id) = delivery.packet_id else {
            return self.got(delivery, oracle);
        };
        self.unsettled += 1;
        // A late acknowledgement also settles, at the broker, the redelivery that crossed it.
        assert!(
            self.acks_late || self.unsettled <= self.receive_max,
            "{}: more than {} deliveries are unsettled",
            self.id,
            self.receive_max
        );
        let attempt = attempt_of(&delivery.message);
        self.under.insert(packet_id, attempt);
        if delivery.qos == QoS::AtLeastOnce {
            let failed = self.refuses();
            let ack = self.acknowledges(delivery.qos, Inbound::PubAck { packet_id, failed });
            self.acks.push_back(ack);
            return match failed {
                true => self.refused(delivery, oracle),
                false => self.got(delivery, oracle),
            };
        }
        if lease_of(&delivery.message).is_none() {
            self.exchanges.insert(packet_id);
            assert!(
                delivery.dup
                    || self.version == ProtocolVersion::V5
                    || self.exchanges.len() <= self.exchanges_max,
                "{}: more than {} exchanges are open",
                self.id,
                self.exchanges_max
            );
        }
        let known = self.incoming.get(&packet_id).copied();
        let failed = known.is_none() && self.refuses();
        let ack = self.acknowledges(delivery.qos, Inbound::PubRec { packet_id, failed });
        self.acks.push_back(ack);
        match known {
            Some(known) => {
                assert!(known == attempt, "{}: {packet_id:?} is in use", self.id);
                assert!(delivery.dup, "{}: a repeated delivery without DUP", self.id);
            }
            None if failed => self.refused(delivery, oracle),
            None => {
                self.incoming.insert(packet_id, attempt);
                self.got(delivery, oracle);
            }
        }
    }

    /// The application gets a message, of a subscription of its own or by a group.
    fn got(&mut self, delivery: &Delivery, oracle: &mut Oracle) {
        match lease_of(&delivery.message) {
            Some(lease) => self.leases.push((lease, delivery.qos)),
            None => oracle.received(self.index, &mut self.holding, delivery),
        }
    }
}
