//! The session: what the broker keeps for one client id.
//!
//! Owns: subscriptions, cursor, outbound window, inbound QoS 2 identifiers, will, expiry, fence. Does not know: sockets,
//! protocol versions beyond their name, the journal's files, other sessions, the clock.
//!
//! Invariants (checked by [`super::invariants`]):
//! - only what carries the current fence changes anything;
//! - a kept session's durable state is the fold of the changes among its effects;
//! - two paths, fixed when the session is created: a transient one is served by the routing pass, a kept one reads
//!   QoS 1 and 2 only from the journal.

mod inbound;
mod leases;
mod lifetime;
mod outbound;
mod pace;
mod parts;
mod redelivery;
mod replay;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::counter::Counter;
use super::cursor::Cursor;
use super::effect::{Effect, Input};
use super::effects::Effects;
use super::entry::{Change, Step};
use super::ids::{ClientId, Fence, Now, Offset, PacketId, Principal, SessionNumber, Timestamp};
use super::inflight::Inflight;
use super::invariants;
use super::lazy::Lazy;
use super::limits::SessionLimits;
use super::message::{QoS, Will};
use super::packet::{Inbound, ProtocolVersion, SubscriptionOptions};
use super::past::Past;
use super::snapshot::SessionSnapshot;
use super::subscriptions::Subscriptions;
use super::topic::Filter;
use pace::Pace;
use parts::{Pending, Reading};
use replay::Replays;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// There is none: before the first attach, and after the end.
    Vacant,
    /// Its client has not come back yet.
    New,
    Resumed,
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) limits: Arc<SessionLimits>,
    pub(super) number: SessionNumber,
    pub(super) client_id: ClientId,
    pub(super) owner: Principal,
    pub(super) version: ProtocolVersion,
    pub(super) fence: Fence,
    /// Whether a connection is attached.
    pub(super) attached: bool,
    /// Whether the session outlives its connection; fixed when it is created.
    pub(super) kept: bool,
    life: Life,
    pub(super) expiry_seconds: u32,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) will: Option<Box<Will>>,
    pub(super) will_at: Option<Timestamp>,
    pub(super) subscriptions: Subscriptions,
    /// How a kept session reads the journal; unused by a transient one.
    pub(super) reading: Lazy<Reading>,
    pub(super) inflight: Inflight,
    pace: Pace,
    /// Inbound QoS 2 identifiers not yet released.
    pub(super) received: BTreeSet<PacketId>,
    /// What waits in memory for the attached client.
    pub(super) pending: Lazy<Pending>,
}

impl Session {
    /// A client id without a session, waiting for its first attach.
    pub fn vacant(client_id: ClientId, limits: Arc<SessionLimits>) -> Self {
        Self {
            inflight: Inflight::new(limits.inflight_max),
            pace: Pace::default(),
            limits,
            number: SessionNumber(0),
            client_id,
            owner: Principal::anonymous(),
            version: ProtocolVersion::V311,
            fence: Fence::default(),
            attached: false,
            kept: false,
            life: Life::Vacant,
            expiry_seconds: 0,
            expires_at: None,
            will: None,
            will_at: None,
            subscriptions: Subscriptions::default(),
            reading: Lazy::default(),
            received: BTreeSet::new(),
            pending: Lazy::default(),
        }
    }

    /// The session that a snapshot describes, detached. One that was attached when its actor died counts as detached
    /// at `now`.
    pub fn restore(snapshot: SessionSnapshot, limits: Arc<SessionLimits>, now: Timestamp) -> Self {
        let detached_at = snapshot.detached_at.unwrap_or(now);
        let next = snapshot.next;
        let life = if snapshot.was_resumed() {
            Life::Resumed
        } else {
            Life::New
        };
        let already_sent = snapshot
            .unsettled
            .iter()
            .filter(|sent| !sent.replay && sent.offset >= next)
            .map(|sent| (sent.offset, sent.packet_id))
            .collect();
        let sent = snapshot
            .unsettled
            .into_iter()
            .filter(|sent| sent.step != Step::Done)
            .collect();
        Self {
            inflight: Inflight::restore(
                limits.inflight_max,
                snapshot.next_packet_id,
                sent,
                snapshot.fence.0.wrapping_add(now.0),
            ),
            number: snapshot.number,
            owner: snapshot.owner,
            version: snapshot.version,
            fence: snapshot.fence,
            kept: true,
            life,
            expiry_seconds: snapshot.expiry_seconds,
            expires_at: Some(detached_at.plus_seconds(snapshot.expiry_seconds)),
            will_at: snapshot
                .will
                .as_ref()
                .map(|will| detached_at.plus_seconds(will.delay_seconds)),
            will: snapshot.will,
            subscriptions: Subscriptions::restore(snapshot.subscriptions),
            reading: Reading {
                maybe_sent_below: snapshot.maybe_sent_below,
                maybe_sent_max: u32::from(limits.inflight_max) + limits.progress_acks_max,
                past: snapshot.past,
                ..Reading::from(next)
            }
            .into(),
            received: snapshot.received.into_iter().collect(),
            pending: Pending {
                already_sent,
                replays: Replays::restore(snapshot.replays),
                ..Pending::default()
            }
            .into(),
            ..Self::vacant(snapshot.client_id, limits)
        }
    }

    /// Applies one input; appends what must happen next, in order, to `effects`.
    pub fn handle(&mut self, now: Now, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Attach {
                connect,
                number,
                epoch,
            } => self.attach(now, *connect, number, epoch, effects),
            Input::Packet { fence, packet } if fence == self.fence && self.attached => {
                self.packet(now, packet, effects);
            }
            Input::Closed { fence } if fence == self.fence && self.attached => {
                self.closed(now, effects)
            }
            Input::Packet { .. } | Input::Closed { .. } => effects.count(Counter::StaleFence),
            Input::Live(live) => self.live(now, live, effects),
            Input::Logged(record) => self.logged(now, record, effects),
            Input::Leased(leased) => self.leased(now, leased, effects),
            Input::Page { fence, read, page } if fence == self.fence && self.kept => {
                for _ in 0..self.reading.cursor.page(read, page) {
                    effects.count(Counter::HolePassed);
                }
                self.pump(now, effects);
            }
            Input::Reread { fence, records } if fence == self.fence => {
                self.reread(now, records, effects)
            }
            Input::Retained { fence, page } if fence == self.fence => {
                self.replay(now, page, effects)
            }
            // Answers to a connection that is gone.
            Input::Page { .. } | Input::Reread { .. } | Input::Retained { .. } => {}
            Input::PublishFailed { received } => self.publish_failed(received),
            Input::Tick => self.run_deadlines(now, effects),
            Input::End { refusal, discard } => self.end_by_operator(now, refusal, discard, effects),
        }
        self.tidy_replays();
        self.pending.tidy();
        invariants::session(self);
    }

    /// The next moment at which [`Input::Tick`] would do something; ask again after every `handle`.
    pub fn deadline(&self) -> Option<Timestamp> {
        [self.expires_at, self.will_at, self.reading.progress_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The session's number.
    pub fn number(&self) -> SessionNumber {
        self.number
    }

    /// The client id.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// The protocol version it is used with.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Whether a connection is attached.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether the session outlives its connection.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether there is a session: false before the first attach and after the end.
    pub fn is_begun(&self) -> bool {
        self.life != Life::Vacant
    }

    /// The current fence.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// The subscriptions.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Subscriptions that are not in force any more, and count for records that may still be sent.
    pub fn past(&self) -> &Past {
        &self.reading.past
    }

    /// The filters that the journal is read for, and from where each counts.
    pub fn reads(&self) -> Vec<(Filter, Offset)> {
        self.subscriptions
            .read_from(self.past(), self.reading.cursor.next())
    }

    /// The outbound window.
    pub fn inflight(&self) -> &Inflight {
        &self.inflight
    }

    /// The place in the journal.
    pub fn cursor(&self) -> &Cursor {
        &self.reading.cursor
    }

    /// Inbound QoS 2 identifiers not yet released, ascending.
    pub fn received(&self) -> impl Iterator<Item = PacketId> {
        self.received.iter().copied()
    }

    /// Whether a client ever came back to the session.
    pub fn was_resumed(&self) -> bool {
        self.life == Life::Resumed
    }

    /// How long the session outlives its connection, in seconds.
    pub fn expiry_seconds(&self) -> u32 {
        self.expiry_seconds
    }

    /// When the session expires; `None` while attached.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether a subscription with these options reads the journal, itself or through its group.
    fn reads_journal(&self, options: SubscriptionOptions) -> bool {
        self.kept && options.qos > QoS::AtMostOnce
    }

    fn persist(&self, change: Change, effects: &mut Effects<Effect>) {
        effects.push(Effect::Persist(self.number, change));
    }

    fn record(&self, change: Change, effects: &mut Effects<Effect>) {
        effects.push(Effect::Record(self.number, change));
    }

    fn packet(&mut self, now: Now, packet: Inbound, effects: &mut Effects<Effect>) {
        match packet {
            Inbound::Publish {
                message,
                packet_id,
                dup: _,
            } => self.publish(message, packet_id, effects),
            Inbound::PubRel { packet_id } => self.pubrel(packet_id, effects),
            Inbound::PubAck { packet_id, failed } => self.puback(now, packet_id, failed, effects),
            Inbound::PubRec { packet_id, failed } => self.pubrec(now, packet_id, failed, effects),
            Inbound::PubComp { packet_id } => self.pubcomp(now, packet_id, effects),
            Inbound::Subscribe { packet_id, filters } => {
                self.subscribe(now, packet_id, filters, effects)
            }
            Inbound::Room => {
                self.has_room();
                self.pump(now, effects);
            }
            Inbound::Unsubscribe { packet_id, filters } => {
                self.unsubscribe(now, packet_id, &filters, effects)
            }
            Inbound::Disconnect {
                with_will,
                expiry_seconds,
            } => {
                self.disconnect(now, with_will, expiry_seconds, effects);
            }
        }
    }
}
