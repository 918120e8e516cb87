//! What waits for a client's socket.
//!
//! Owns: the encoded bytes, the packets that are not encoded yet, and the limits of both. Does not know: sockets,
//! actors.
//!
//! Invariants:
//! - Encoded bytes never exceed `write_buffer_high_bytes` plus one packet: what comes above waits as a shared message.
//! - At the high mark QoS 0 deliveries are dropped and counted; at the maximum the connection ends.
//! - Order is that of [`Outbox::push`]; nothing overtakes.
//! - An empty outbox holds no memory.

use std::cell::RefCell;
use std::collections::VecDeque;

use outlive_actors::model::ids::Timestamp;
use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::{Delivery, Inbound, Outbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;

use super::config::WireConfig;
use super::counters::{WireCounter, WireCounters};
use super::encode;

thread_local! {
    /// Buffers that empty outboxes gave back, for the next connection that writes.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Spare buffers that a thread keeps, and how large they may be.
const SPARE_MAX: usize = 32;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// What a delivery costs besides its payload while it waits, about.
const PENDING_BYTES: usize = 64;

/// The bytes and packets that wait for one client.
#[derive(Debug)]
pub(super) struct Outbox {
    version: ProtocolVersion,
    /// The largest packet that the client takes.
    packet_bytes_max: u32,
    bytes: Vec<u8>,
    written: usize,
    pending: VecDeque<Outbound>,
    pending_bytes: usize,
    /// What the session must hear about deliveries that were dropped here.
    settled: Vec<Inbound>,
}

/// What an outbox needs of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a WireConfig,
    pub(super) counters: &'a WireCounters,
    pub(super) clock: &'a dyn outlive_actors::clock::Clock,
}

impl Surroundings<'_> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Outbox {
    /// Empty, for a client of `version` that takes packets up to `packet_bytes_max`.
    pub(super) fn new(version: ProtocolVersion, packet_bytes_max: u32) -> Self {
        Self {
            version,
            packet_bytes_max,
            bytes: Vec::new(),
            written: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            settled: Vec::new(),
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.pending.is_empty()
    }

    /// Encoded bytes that wait.
    pub(super) fn encoded(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// All bytes that wait, encoded or not.
    pub(super) fn held(&self) -> usize {
        self.encoded() + self.pending_bytes
    }

    /// Takes a packet of the session; `Err` ends the connection.
    pub(super) fn push(
        &mut self,
        packet: Outbound,
        around: Surroundings<'_>,
    ) -> Result<(), Refusal> {
        let held = self.held();
        if held < around.config.write_buffer_high_bytes && self.pending.is_empty() {
            return self.encode(&packet, around);
        }
        if let Outbound::Publish(delivery) = &packet
            && delivery.qos == QoS::AtMostOnce
        {
            around.counters.add(WireCounter::DroppedSlowReader, 1);
            return Ok(());
        }
        let bytes = pending_bytes(&packet);
        if held + bytes > around.config.write_buffer_max_bytes {
            return Err(Refusal::NotReading);
        }
        self.pending_bytes += bytes;
        self.pending.push_back(packet);
        Ok(())
    }

    /// Bytes that concern no session and have no place in its order: CONNACK, PINGRESP, DISCONNECT.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        self.borrow_spare();
        &mut self.bytes
    }

    /// What to write next; encodes what waits as there is room. `Err` ends the connection.
    pub(super) fn unwritten(&mut self, around: Surroundings<'_>) -> Result<&[u8], Refusal> {
        while self.encoded() < around.config.write_buffer_high_bytes
            && let Some(packet) = self.pending.pop_front()
        {
            self.pending_bytes -= pending_bytes(&packet);
            self.encode(&packet, around)?;
            if self.pending.is_empty() {
                self.pending = VecDeque::new();
            }
        }
        Ok(&self.bytes[self.written..])
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written < self.bytes.len() {
            // Keeps what was written long ago from adding up under a client that never catches up.
            if self.written >= SPARE_BYTES_MAX && self.written >= self.bytes.len() / 2 {
                self.bytes.drain(..self.written);
                self.written = 0;
            }
            return;
        }
        self.written = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() <= SPARE_BYTES_MAX {
            bytes.clear();
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX {
                    spare.push(bytes);
                }
            });
        }
    }

    /// Forgets what is not encoded yet: the connection ends, and the session delivers it again to the next one.
    pub(super) fn drop_pending(&mut self) {
        self.pending = VecDeque::new();
        self.pending_bytes = 0;
    }

    /// Acknowledgements in the client's place, for deliveries that it will never get. The session must have them, so
    /// that its window does not fill up.
    pub(super) fn take_settled(&mut self) -> Vec<Inbound> {
        std::mem::take(&mut self.settled)
    }

    fn borrow_spare(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
    }

    fn encode(&mut self, packet: &Outbound, around: Surroundings<'_>) -> Result<(), Refusal> {
        self.borrow_spare();
        let Outbound::Publish(delivery) = packet else {
            around.counters.add(WireCounter::PacketsOut, 1);
            return encode::outbound(&mut self.bytes, self.version, packet);
        };
        let written = encode::publish(
            &mut self.bytes,
            self.version,
            delivery,
            || around.now(),
            self.packet_bytes_max,
        );
        match written {
            Ok(()) => {
                around.counters.add(WireCounter::PacketsOut, 1);
                around.counters.add(WireCounter::PublishesOut, 1);
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
        | Outbound::Close(_) => PENDING_BYTES,
    }
}

#[cfg(test)]
mod tests;
