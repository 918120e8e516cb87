//! What sessions hand out: under which identifiers, with or without DUP, and how often.

use outlive_actors::model::ids::{Offset, PacketId, SessionNumber};
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::Delivery;

use super::{Arrival, Attempt, Oracle, attempt_of};
use crate::groups::lease_of;
use crate::seen::Seen;

/// What one session handed out under a packet identifier.
#[derive(Clone, Debug)]
pub(super) struct Handed {
    packet_id: PacketId,
    link: u64,
    /// How often the session had been rebuilt.
    rebuilt: u32,
    /// The identifiers of the subscriptions by which it came, ascending.
    ids: Vec<u32>,
    /// It went to the wire.
    sent: bool,
}

impl Oracle {
    /// A session is built from its snapshot, and reads on from `next`.
    pub(crate) fn rebuilt(&mut self, number: SessionNumber, next: Offset) {
        self.read_from.insert(number, next);
        *self.rebuilt.entry(number).or_default() += 1;
    }

    /// A subscription was replaced or dropped when the log ended at `end`. What was sent by the one before and is read
    /// again after a crash may match no longer, and then what follows it has other identifiers.
    pub(crate) fn subscription_changed(&mut self, number: SessionNumber, end: Offset) {
        self.changed.insert(number, end);
    }

    /// A session decided on a delivery over its connection `link`.
    pub(crate) fn handed(&mut self, number: SessionNumber, link: u64, delivery: &Delivery) {
        let attempt = attempt_of(&delivery.message);
        let Some(packet_id) = delivery.packet_id else {
            return self.handed_once(number, link, attempt);
        };
        let rebuilt = self.rebuilt.get(&number).copied().unwrap_or(0);
        let key = (number, attempt, delivery.qos);
        let before = self.handed.get(&key).cloned();
        let mut ids = delivery.subscription_ids.to_vec();
        ids.sort_unstable();
        let now = Handed {
            ids: ids.clone(),
            packet_id,
            link,
            rebuilt,
            sent: before.as_ref().is_some_and(|before| before.sent),
        };
        let other = match delivery.qos {
            QoS::ExactlyOnce => QoS::AtLeastOnce,
            QoS::AtMostOnce | QoS::AtLeastOnce => QoS::ExactlyOnce,
        };
        self.tried.insert(key);
        if self.tried.contains(&(number, attempt, other)) {
            self.requalified.insert(attempt);
        }
        self.handed.insert(key, now);
        // A retained message is replayed at another subscribe; a crash may publish a will again.
        let posted = &self.posts[self.attempts[attempt]];
        let repeats = posted.retain || posted.will;
        let Some(before) = before.filter(|_| !repeats) else {
            assert!(
                repeats || !delivery.dup || rebuilt > 0,
                "{number:?}: attempt {attempt} came with DUP and was never sent"
            );
            return;
        };
        assert!(
            link != before.link,
            "{number:?}: attempt {attempt} was sent twice on one connection"
        );
        self.tally.saw(Seen::Redelivered);
        let known = before.sent || before.rebuilt == rebuilt;
        assert!(
            delivery.dup || !known,
            "{number:?}: attempt {attempt} was sent again without DUP"
        );
        assert!(
            ids == before.ids || !known,
            "{number:?}: attempt {attempt} was sent again with {ids:?} instead of {:?}",
            before.ids
        );
        // What went to the wire the client may have, whatever died since: it knows it by its identifier.
        let read_from = self.read_from.get(&number);
        let unlike = self.changed.get(&number) > read_from;
        let may_change = before.rebuilt != rebuilt && (!before.sent || unlike);
        assert!(
            packet_id == before.packet_id || may_change,
            "{number:?}: attempt {attempt} was sent again as {packet_id:?} instead of {:?}",
            before.packet_id
        );
    }

    /// A client acknowledged a delivery, its own or a group's.
    pub(crate) fn acknowledged(
        &mut self,
        number: SessionNumber,
        packet_id: PacketId,
        delivery: Arrival,
    ) {
        let rebuilt = self.rebuilt.get(&number).copied().unwrap_or(0);
        let key = (number, packet_id, delivery);
        self.acknowledged.insert(key, rebuilt);
    }

    /// What is acknowledged is not sent again, but by a session that was rebuilt meanwhile, or as something new: another
    /// subscription's replay.
    pub(crate) fn not_acknowledged(&mut self, number: SessionNumber, delivery: &Delivery) {
        let Some(packet_id) = delivery.packet_id else {
            return;
        };
        let message = &delivery.message;
        let key = (number, packet_id, (attempt_of(message), lease_of(message)));
        let rebuilt = self.rebuilt.get(&number).copied().unwrap_or(0);
        let acknowledged = self.acknowledged.remove(&key);
        assert!(
            !delivery.dup || acknowledged != Some(rebuilt),
            "{key:?} is acknowledged and sent again"
        );
    }

    /// QoS 0: however many subscriptions match, it goes over a connection once.
    fn handed_once(&mut self, number: SessionNumber, link: u64, attempt: Attempt) {
        let posted = &self.posts[self.attempts[attempt]];
        let before = self.at_most_once.insert((number, attempt), link);
        assert!(
            posted.retain || posted.will || before.is_none_or(|before| before != link),
            "{number:?}: attempt {attempt} was sent twice with QoS 0"
        );
    }

    /// What was decided went to the wire.
    pub(crate) fn sent(&mut self, number: SessionNumber, delivery: &Delivery) {
        let key = (number, attempt_of(&delivery.message), delivery.qos);
        if let Some(handed) = self.handed.get_mut(&key) {
            handed.sent = true;
        }
    }

    /// The process died before the last attach was recorded, which nobody waits for: what was sent since then as QoS 1
    /// is sent again as if for the first time.
    pub(crate) fn attach_forgotten(&mut self, number: SessionNumber) {
        self.handed
            .retain(|(of, _, qos), _| *of != number || *qos != QoS::AtLeastOnce);
    }

    pub(crate) fn was_handed(&self, number: SessionNumber, attempt: Attempt) -> bool {
        [QoS::AtLeastOnce, QoS::ExactlyOnce]
            .iter()
            .any(|qos| self.handed.contains_key(&(number, attempt, *qos)))
    }
}
