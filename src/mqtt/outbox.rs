//! What waits for a client's socket.
//!
//! Owns: the encoded bytes, the packets that are not encoded yet, and the limits of both. Does not know: sockets,
//! actors.
//!
//! Invariants:
//! - Encoded bytes never exceed `write_buffer_high_bytes` plus one packet: what comes above waits as a shared message.
//! - At the high mark QoS 0 deliveries are dropped and counted, if they are not paced and more than a few wait; at the maximum the connection
//!   ends.
//! - The session hears that there is room when all that it sent before lies below the high mark.
//! - Order is that of [`Outbox::push`]; nothing overtakes.
//! - An empty outbox holds no memory.

use std::cell::RefCell;
use std::collections::VecDeque;

use outlive_actors::model::ids::Timestamp;
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::{Delivery, Inbound, Outbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;

use tokio::time::Instant;

use super::config::WireConfig;
use super::counters::{WireCounter, WireCounters};
use super::encode::{self, Unsent};
use super::terms::Terms;

thread_local! {
    /// What empty outboxes gave back, for the next connection that writes.
    #[expect(clippy::vec_box, reason = "the boxes themselves go from hand to hand")]
    static SPARE: RefCell<Vec<Box<Waiting>>> = const { RefCell::new(Vec::new()) };
}

/// Spare buffers that a thread keeps, and how large they may be.
const SPARE_MAX: usize = 32;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// So many packets wait however large they are: a client that reads keeps up with a few large ones, too, and they are
/// shared.
const WAIT_ALWAYS: usize = 16;

/// What a delivery costs besides its payload while it waits, about.
const PENDING_BYTES: usize = 64;

/// The bytes and packets that wait for one client.
#[derive(Debug)]
pub(super) struct Outbox {
    /// `None` if the client stated none.
    terms: Option<Box<Terms>>,
    /// `None` if nothing waits.
    waiting: Option<Box<Waiting>>,
}

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    written: usize,
    pending: VecDeque<Outbound>,
    pending_bytes: usize,
    /// Packets encoded, and deliveries among them, that are not counted yet: the counters are everybody's.
    packets: usize,
    publishes: usize,
    /// What the session must hear: that there is room, and about deliveries that were dropped here.
    settled: Vec<Inbound>,
    /// Since when the socket takes nothing.
    stalled_at: Option<Instant>,
}

/// What an outbox needs of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) version: ProtocolVersion,
    pub(super) config: &'a WireConfig,
    pub(super) counters: &'a WireCounters,
    pub(super) clock: &'a dyn outlive_actors::clock::Clock,
    /// Whose client it is.
    pub(super) tenant: Option<&'a Tenant>,
}

impl Surroundings<'_> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A message's topic as the client knows it.
    fn own_topic<'m>(&self, message: &'m Message) -> &'m [u8] {
        let topic = message.topic_bytes();
        match self.tenant {
            Some(tenant) => &topic[tenant.prefix_bytes(topic)..],
            None => topic,
        }
    }
}

impl Outbox {
    /// Empty, for a client with these terms.
    pub(super) fn new(terms: Option<Box<Terms>>) -> Self {
        Self {
            terms,
            waiting: None,
        }
    }

    /// The largest packet that the client takes.
    pub(super) fn packet_bytes_max(&self) -> u32 {
        let terms = self.terms.as_ref();
        terms.map_or(u32::MAX, |terms| terms.packet_bytes_max)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_none_or(|waiting| waiting.bytes.is_empty() && waiting.pending.is_empty())
    }

    /// Encoded bytes that wait.
    pub(super) fn encoded(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.encoded())
    }

    /// All bytes that wait, encoded or not.
    pub(super) fn held(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.held())
    }

    /// Takes a packet of the session; `Err` ends the connection.
    pub(super) fn push(
        &mut self,
        packet: Outbound,
        around: Surroundings<'_>,
    ) -> Result<(), Refusal> {
        let Self { terms, waiting } = self;
        let waiting = waiting.get_or_insert_with(spare);
        let held = waiting.held();
        if held < around.config.write_buffer_high_bytes && waiting.pending.is_empty() {
            return waiting.encode(&packet, terms.as_deref_mut(), around);
        }
        let bytes = pending_bytes(&packet);
        let fits = held + bytes <= around.config.write_buffer_max_bytes;
        if let Outbound::Publish(delivery) = &packet
            && delivery.qos == QoS::AtMostOnce
            && !delivery.paced
            && (waiting.pending.len() >= WAIT_ALWAYS || !fits)
        {
            around.counters.add(WireCounter::DroppedSlowReader, 1);
            return Ok(());
        }
        if !fits {
            return Err(Refusal::NotReading);
        }
        waiting.pending_bytes += bytes;
        waiting.pending.push_back(packet);
        Ok(())
    }

    /// Bytes that concern no session and have no place in its order: CONNACK, PINGRESP, DISCONNECT.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.waiting().bytes
    }

    /// What to write next; encodes what waits as there is room. `Err` ends the connection.
    pub(super) fn unwritten(&mut self, around: Surroundings<'_>) -> Result<&[u8], Refusal> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(&[]);
        };
        waiting.fill(self.terms.as_deref_mut(), around)?;
        waiting.count(around.counters);
        Ok(&waiting.bytes[waiting.written..])
    }

    /// The socket takes nothing, from `now` on if that is news.
    pub(super) fn stall(&mut self, now: Instant) {
        self.waiting().stalled_at.get_or_insert(now);
    }

    /// Since when the socket takes nothing of what waits.
    pub(super) fn stalled_at(&self) -> Option<Instant> {
        self.waiting.as_ref().and_then(|waiting| waiting.stalled_at)
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, written: usize) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        waiting.stalled_at = None;
        waiting.written += written;
        if waiting.written < waiting.bytes.len() {
            // Keeps what was written long ago from adding up under a client that never catches up.
            if waiting.written >= SPARE_BYTES_MAX && waiting.written >= waiting.bytes.len() / 2 {
                waiting.bytes.drain(..waiting.written);
                waiting.written = 0;
            }
            return;
        }
        waiting.written = 0;
        waiting.bytes.clear();
        if waiting.bytes.capacity() > SPARE_BYTES_MAX {
            waiting.bytes = Vec::new();
        }
        if waiting.pending.is_empty() && waiting.settled.is_empty() {
            let spare = self.waiting.take();
            SPARE.with_borrow_mut(|spares| {
                if spares.len() < SPARE_MAX {
                    spares.extend(spare);
                }
            });
        }
    }

    /// Forgets all that waits: nobody takes it.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
    }

    /// Forgets what is not encoded yet: the connection ends, and the session delivers it again to the next one.
    pub(super) fn drop_pending(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.pending = VecDeque::new();
            waiting.pending_bytes = 0;
        }
    }

    /// What the session waits for: that there is room, and acknowledgements in the client's place for deliveries that it
    /// will never get, so that the window does not fill up.
    pub(super) fn take_settled(&mut self) -> Vec<Inbound> {
        let waiting = self.waiting.as_mut();
        waiting.map_or_else(Vec::new, |waiting| std::mem::take(&mut waiting.settled))
    }

    fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_with(spare)
    }
}

/// A buffer that another connection gave back, or a new one.
fn spare() -> Box<Waiting> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

impl Waiting {
    fn encoded(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn held(&self) -> usize {
        self.encoded() + self.pending_bytes
    }

    /// Encodes what waits as there is room.
    fn fill(
        &mut self,
        mut terms: Option<&mut Terms>,
        around: Surroundings<'_>,
    ) -> Result<(), Refusal> {
        while self.encoded() < around.config.write_buffer_high_bytes
            && let Some(packet) = self.pending.pop_front()
        {
            self.pending_bytes -= pending_bytes(&packet);
            self.encode(&packet, terms.as_deref_mut(), around)?;
            if self.pending.is_empty() {
                self.pending = VecDeque::new();
            }
        }
        Ok(())
    }

    fn count(&mut self, counters: &WireCounters) {
        counters.add(WireCounter::PacketsOut, std::mem::take(&mut self.packets));
        counters.add(
            WireCounter::PublishesOut,
            std::mem::take(&mut self.publishes),
        );
    }

    fn encode(
        &mut self,
        packet: &Outbound,
        terms: Option<&mut Terms>,
        around: Surroundings<'_>,
    ) -> Result<(), Refusal> {
        if matches!(packet, Outbound::AwaitRoom) {
            self.settled.push(Inbound::Room);
            return Ok(());
        }
        let Outbound::Publish(delivery) = packet else {
            let bytes = &mut self.bytes;
            match encode::outbound(bytes, around.version, packet, terms.as_deref()) {
                Ok(()) => self.packets += 1,
                Err(Unsent::Oversized) => around.counters.add(WireCounter::AnswersOversized, 1),
                Err(Unsent::Unsayable(refusal)) => return Err(refusal),
            }
            return Ok(());
        };
        let bytes = &mut self.bytes;
        let (version, now) = (around.version, || around.now());
        let topic = around.own_topic(&delivery.message);
        match encode::publish(bytes, version, delivery, topic, now, terms) {
            Ok(()) => {
                self.packets += 1;
                self.publishes += 1;
            }
            Err(encode::Oversized) => {
                // [MQTT-3.1.2-25]: as if it had been sent.
                around.counters.add(WireCounter::DroppedOversized, 1);
                self.settled.extend(settle(delivery));
            }
        }
        Ok(())
    }
}

fn settle(delivery: &Delivery) -> Option<Inbound> {
    let packet_id = delivery.packet_id?;
    let failed = true;
    match delivery.qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Inbound::PubAck { packet_id, failed }),
        QoS::ExactlyOnce => Some(Inbound::PubRec { packet_id, failed }),
    }
}

fn pending_bytes(packet: &Outbound) -> usize {
    match packet {
        Outbound::Publish(delivery) => PENDING_BYTES + delivery.message.size_bytes(),
        Outbound::SubAck { results, .. } => PENDING_BYTES + results.len(),
        Outbound::UnsubAck { existed, .. } => PENDING_BYTES + existed.len(),
        Outbound::ConnAck { .. }
        | Outbound::PubAck { .. }
        | Outbound::PubRec { .. }
        | Outbound::PubRel { .. }
        | Outbound::PubComp { .. }
        | Outbound::AwaitRoom
        | Outbound::Close(_) => PENDING_BYTES,
    }
}

#[cfg(test)]
mod tests;
