//! A kept session's durable state as a plain value: what a checkpoint stores and an actor is rebuilt from.
//!
//! Invariant: a snapshot is the fold of the session's journal records up to the offset it covers. The checkpointer,
//! recovery, passivation and the supervisor all use [`SessionSnapshot::apply`]; there is no second way to get one.

use serde::{Deserialize, Serialize};

use super::entry::{Change, Created, Step, Unsettled};
use super::ids::{
    ClientId, Fence, Listener, Offset, PacketId, Principal, SessionNumber, Timestamp,
};
use super::message::{QoS, Will};
use super::packet::{ProtocolVersion, SubscriptionOptions};
use super::past::Past;
use super::topic::Filter;

/// One subscription of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionSnapshot {
    /// The filter.
    pub filter: Filter,
    /// Its options as granted.
    pub options: SubscriptionOptions,
    /// The position from which it counts.
    pub from: Offset,
}

impl SubscriptionSnapshot {
    /// Whether what it matches waits for the session, or its group, in the journal.
    pub fn is_durable(&self) -> bool {
        self.options.qos > QoS::AtMostOnce
    }
}

/// Retained messages that a subscription is still to be sent: a cursor, not a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaySnapshot {
    /// The subscription.
    pub filter: Filter,
    /// What was retained below this offset is owed; the rest comes as it is published.
    pub as_of: Offset,
    /// The last topic dealt with.
    pub after: Option<Box<str>>,
}

/// A kept session's durable state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSnapshot {
    /// The session's number.
    pub number: SessionNumber,
    /// The client id.
    pub client_id: ClientId,
    /// Who owns it.
    pub owner: Principal,
    /// Whose quota its unit counts for.
    pub listener: Listener,
    /// When it began.
    pub created_at: Timestamp,
    /// The protocol version it was last used with.
    pub version: ProtocolVersion,
    /// Expiry in seconds after the connection ends; above 0, or the session would not be kept.
    pub expiry_seconds: u32,
    /// The last fence handed out.
    pub fence: Fence,
    /// When a connection last attached.
    pub attached_at: Timestamp,
    /// When the connection ended; `None` while attached.
    pub detached_at: Option<Timestamp>,
    /// The will, while it may still be published.
    pub will: Option<Box<Will>>,
    /// Subscriptions in the order in which they were made.
    pub subscriptions: Vec<SubscriptionSnapshot>,
    /// Replays of retained messages under way, in the order in which they began.
    pub replays: Vec<ReplaySnapshot>,
    /// The next offset to read, as last recorded.
    pub next: Offset,
    /// The packet identifier that the record at `next` or after it gets.
    pub next_packet_id: PacketId,
    /// Records sent and not settled, in the order in which they were sent.
    pub unsettled: Vec<Unsettled>,
    /// Inbound QoS 2 packet identifiers not yet released.
    pub received: Vec<PacketId>,
    /// Records at or after `next` and below this offset may have been sent before a crash of the broker: QoS 1 goes out
    /// with DUP = 1. At or below `next` it says nothing.
    pub maybe_sent_below: Offset,
    /// The journal offset up to which changes are applied (exclusive).
    pub covers: Offset,
    /// Subscriptions as they were, while they count for records that may still be sent. The last field: version 1 ended
    /// before it.
    pub past: Past,
}

impl SessionSnapshot {
    /// The state after a session's first record.
    pub fn created(number: SessionNumber, created: &Created, at: Offset) -> Self {
        let attach = &created.attach;
        Self {
            number,
            client_id: created.client_id.clone(),
            owner: created.owner.clone(),
            listener: created.listener.clone(),
            created_at: attach.at,
            version: attach.version,
            expiry_seconds: attach.expiry_seconds,
            fence: attach.fence,
            attached_at: attach.at,
            detached_at: None,
            will: attach.will.clone(),
            subscriptions: Vec::new(),
            replays: Vec::new(),
            next: created.next,
            next_packet_id: PacketId(std::num::NonZeroU16::MIN),
            unsettled: Vec::new(),
            received: Vec::new(),
            maybe_sent_below: Offset::default(),
            covers: at.next(),
            past: Past::EMPTY,
        }
    }

    /// Applies the change recorded at `at`. A record below `covers` is already in and changes nothing, so a replay may
    /// start too early. `Created` and `Ended` are the caller's: they make and remove snapshots.
    pub fn apply(&mut self, at: Offset, change: &Change) {
        if at < self.covers {
            return;
        }
        self.covers = at.next();
        match change {
            Change::Created(_) | Change::Ended => {}
            Change::Attached(attach) => {
                self.version = attach.version;
                self.expiry_seconds = attach.expiry_seconds;
                self.fence = attach.fence;
                self.attached_at = attach.at;
                self.detached_at = None;
                self.will.clone_from(&attach.will);
            }
            Change::Detached {
                at,
                expiry_seconds,
                will_due,
            } => {
                self.detached_at = Some(*at);
                self.expiry_seconds = *expiry_seconds;
                if !will_due {
                    self.will = None;
                }
            }
            Change::Subscribed {
                filter,
                options,
                from,
                replay,
            } => {
                let subscription = SubscriptionSnapshot {
                    filter: filter.clone(),
                    options: *options,
                    from: *from,
                };
                self.subscribe(subscription, *replay);
            }
            Change::Unsubscribed { filter } => drop(self.unsubscribe(filter)),
            Change::Dropped { filter, until } => {
                if let Some(was) = self.unsubscribe(filter) {
                    self.past.push(was, *until, true);
                }
            }
            Change::Received { packet_id } => self.receive(*packet_id),
            Change::Released { packet_id } => self.received.retain(|known| known != packet_id),
            Change::Sent(sent) => self.send(*sent),
            Change::Replayed {
                filter,
                after,
                sent,
            } => self.replayed(filter, after.as_deref(), sent),
            Change::PubRec { packet_id } => self.step(*packet_id, Step::Released),
            Change::Settled { packet_id } => self.settle(*packet_id),
            Change::Progress {
                next,
                next_packet_id,
                unsettled,
            } => self.progress(*next, *next_packet_id, unsettled),
            Change::WillSettled => self.will = None,
            Change::Recovered {
                at,
                maybe_sent_below,
            } => {
                self.detached_at = self.detached_at.or(Some(*at));
                self.maybe_sent_below = self.maybe_sent_below.max(*maybe_sent_below);
            }
        }
    }

    /// Applies the QoS 2 identifier that a message record of this session carries.
    pub fn apply_received(&mut self, at: Offset, packet_id: PacketId) {
        if at >= self.covers {
            self.covers = at.next();
            self.receive(packet_id);
        }
    }

    /// Whether a client ever came back to the session.
    pub fn was_resumed(&self) -> bool {
        self.attached_at != self.created_at
    }

    /// When the session expires: `None` while attached.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.detached_at
            .map(|at| at.plus_seconds(self.expiry_seconds))
    }

    /// The smallest offset that this session may still read: what lies below it is settled.
    pub fn floor(&self) -> Offset {
        self.unsettled
            .iter()
            .filter(|sent| sent.step == Step::Published)
            .map(|sent| sent.offset)
            .fold(self.next, Ord::min)
    }

    /// The smallest offset whose record this session may still need, `None` if it needs none: unlike
    /// [`Self::floor`] it does not count a cursor that no durable subscription reads with, or one session without
    /// subscriptions would keep the whole journal.
    pub fn needed_from(&self) -> Option<Offset> {
        let reads_from = self
            .durable_subscriptions()
            .map(|subscription| subscription.from)
            .min()
            .map(|from| from.max(self.next));
        let reads_from = reads_from
            .into_iter()
            .chain(self.past.needed_from(self.next));
        self.unsettled
            .iter()
            .filter(|sent| sent.step == Step::Published)
            .map(|sent| sent.offset)
            .chain(reads_from)
            .min()
    }

    /// The subscriptions with a granted QoS of 1 or 2 of the session's own: what the journal is read for.
    pub fn durable_subscriptions(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.subscriptions
            .iter()
            .filter(|subscription| subscription.is_durable() && !subscription.filter.is_shared())
    }

    /// The shared subscriptions; with a granted QoS of 1 or 2 they make their group durable.
    pub fn shared_subscriptions(&self) -> impl Iterator<Item = &SubscriptionSnapshot> {
        self.subscriptions
            .iter()
            .filter(|subscription| subscription.filter.is_shared())
    }

    fn subscribe(&mut self, subscription: SubscriptionSnapshot, replay: Option<Offset>) {
        let filter = &subscription.filter;
        if let Some(as_of) = replay {
            self.end_replay(filter);
            self.replays.push(ReplaySnapshot {
                filter: filter.clone(),
                as_of,
                after: None,
            });
        }
        let mut known = self.subscriptions.iter_mut();
        match known.find(|known| known.filter == *filter) {
            Some(known) => {
                let until = subscription.from;
                let was = std::mem::replace(known, subscription);
                if was.options != known.options {
                    self.past.push(was, until, false);
                }
            }
            None => self.subscriptions.push(subscription),
        }
    }

    fn unsubscribe(&mut self, filter: &Filter) -> Option<SubscriptionSnapshot> {
        self.end_replay(filter);
        let mut known = self.subscriptions.iter();
        let at = known.position(|known| known.filter == *filter)?;
        Some(self.subscriptions.remove(at))
    }

    /// A QoS 1 record that still holds the identifier was settled, or the identifier would not be free: its settling
    /// is recorded lazily. QoS 2 records that are done stay, so that a re-read skips them.
    fn send(&mut self, sent: Unsettled) {
        self.unsettled
            .retain(|known| known.packet_id != sent.packet_id || known.qos == QoS::ExactlyOnce);
        self.unsettled.push(sent);
    }

    fn replayed(&mut self, filter: &Filter, after: Option<&str>, sent: &[Unsettled]) {
        sent.iter().for_each(|sent| self.send(*sent));
        let known = self.replays.iter_mut().find(|it| it.filter == *filter);
        match (known, after) {
            (Some(known), Some(topic)) => known.after = Some(topic.into()),
            (_, None) => self.end_replay(filter),
            (None, Some(_)) => {}
        }
    }

    fn end_replay(&mut self, filter: &Filter) {
        self.replays.retain(|known| known.filter != *filter);
    }

    fn receive(&mut self, packet_id: PacketId) {
        if !self.received.contains(&packet_id) {
            self.received.push(packet_id);
        }
    }

    /// The handshake is QoS 2's alone; the newest entry of an identifier is the live one, older ones are done.
    fn step(&mut self, packet_id: PacketId, step: Step) {
        let live = self.unsettled.iter_mut().rev().find(|sent| {
            sent.packet_id == packet_id && sent.qos == QoS::ExactlyOnce && sent.step != Step::Done
        });
        if let Some(sent) = live {
            sent.step = step;
        }
    }

    fn settle(&mut self, packet_id: PacketId) {
        self.step(packet_id, Step::Done);
        let next = self.next;
        self.unsettled
            .retain(|sent| sent.step != Step::Done || (sent.offset >= next && !sent.replay));
    }

    fn progress(&mut self, next: Offset, next_packet_id: PacketId, unsettled: &[Unsettled]) {
        self.next = next;
        self.next_packet_id = next_packet_id;
        self.unsettled.retain(|sent| {
            sent.qos == QoS::ExactlyOnce && (sent.step != Step::Done || sent.offset >= next)
        });
        self.unsettled.extend_from_slice(unsettled);
        self.unsettled.sort_by_key(|sent| sent.offset);
        if next >= self.maybe_sent_below {
            self.maybe_sent_below = Offset::default();
        }
        let reads = self.durable_subscriptions().next().is_some();
        self.past.let_go(next, self.unsettled.iter(), reads);
    }
}

#[cfg(test)]
mod tests;
