//! The way in: from the socket to one batch per read for the session.

use std::task::{Context as TaskContext, Poll};

use outlive_actors::actor::protocol::{INBOUND_BYTES_MAX, INBOUND_PACKETS_MAX};
use outlive_actors::model::ids::{PacketId, Timestamp};
use outlive_actors::model::message::{Message, QoS};
use outlive_actors::model::packet::{Inbound, Outbound, ProtocolVersion, Routed};
use outlive_actors::model::refusal::Refusal;
use tokio::time::Instant;

use super::super::convert::Packet;
use super::super::counters::WireCounter;
use super::super::{auth, door, encode, guard, scratch};
use super::{Connection, Ending, Phase, READS_PER_TURN, around};

/// So many bytes of a packet that goes on count as hearing of the client; fewer do not, or a packet that drips in would
/// stand for the keep-alive.
const HEARD_BYTES: usize = 1024;

/// What the frames of one read became.
struct Batch {
    packets: Vec<Inbound>,
    /// Frames, those that concern no session included.
    frames: usize,
    /// Bytes of the buffer that were used up.
    used: usize,
    /// Memory that the packets take.
    bytes: usize,
}

impl Batch {
    fn push(&mut self, packet: Inbound) {
        self.bytes += packet.held_bytes();
        self.packets.push(packet);
    }
}

impl Connection {
    /// Whether the client's packets are taken now.
    pub(super) fn may_read(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
            && u32::from(self.in_flight) < INBOUND_PACKETS_MAX
            && self.in_flight_bytes < INBOUND_BYTES_MAX
            && self.awaits_intake.is_none()
            && self.outbox.held() < self.seat.shared().setup.config.write_buffer_high_bytes
    }

    /// Reads until the socket is drained, the client has no credit, or its turn is over.
    pub(super) fn read(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        if let Some(asked) = self.awaits_intake
            && !self.seat.shared().setup.intake.is_awaited(asked)
        {
            self.awaits_intake = None;
        }
        if self.partial_is_due && self.may_read() {
            // The time in which it was not read is not the client's.
            self.heard_at = Instant::now();
            self.partial_is_due = false;
            let partial = std::mem::take(&mut self.partial);
            self.keep_rest(partial)?;
        }
        for _ in 0..READS_PER_TURN {
            // Looked at once: whoever is not read for want of room is woken when there is some.
            if !self.seat.shared().setup.intake.has_room() {
                self.await_intake(cx);
                return Ok(());
            }
            if !self.may_read() {
                return Ok(());
            }
            let read = scratch::with(|scratch| {
                let read = match self.is_left() {
                    true => self.stream.read_now(scratch),
                    false => self.stream.poll_read(cx, scratch),
                };
                match read {
                    Poll::Pending => Ok(false),
                    Poll::Ready(Ok(0)) => Err(Ending::Gone),
                    Poll::Ready(Ok(count)) => self.received(&scratch[..count]).map(|()| true),
                    Poll::Ready(Err(error)) => Err(error.into()),
                }
            });
            let is_more = read?;
            self.left(is_more)?;
            if !is_more {
                return Ok(());
            }
        }
        // The others' turn; more may be there.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Sees to it that the client is read again when there is room for the packets of all, if there is none.
    fn await_intake(&mut self, cx: &TaskContext<'_>) {
        let intake = &self.seat.shared().setup.intake;
        if !matches!(self.phase, Phase::Open { .. }) {
            return;
        }
        let asked = self.awaits_intake;
        self.awaits_intake = intake.wait(asked, cx.waker());
        match self.awaits_intake {
            // It may be read by now.
            None => cx.waker().wake_by_ref(),
            waits => self.count(WireCounter::InboundWaits, usize::from(waits != asked)),
        }
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        self.count(WireCounter::BytesIn, bytes.len());
        if self.partial.is_empty() {
            let used = self.frames(bytes)?;
            self.partial.extend_from_slice(&bytes[used..]);
            self.heard(used, 0);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        let before = partial.len();
        partial.extend_from_slice(bytes);
        let used = self.keep_rest(partial)?;
        self.heard(used, before);
        Ok(())
    }

    /// [MQTT-3.1.2-22]: what must come in time is a packet. So `used` bytes of whole ones count, and large pieces of one
    /// that goes on, of which there were `before` bytes.
    fn heard(&mut self, used: usize, before: usize) {
        if used > 0 || self.partial.len() / HEARD_BYTES > before / HEARD_BYTES {
            self.heard_at = Instant::now();
        }
    }

    /// Takes the frames of `partial` and keeps what is left; gives how many bytes were used up.
    fn keep_rest(&mut self, mut partial: Vec<u8>) -> Result<usize, Ending> {
        let used = self.frames(&partial)?;
        if used < partial.len() {
            partial.drain(..used);
            self.partial = partial;
        }
        Ok(used)
    }

    /// Sends the whole frames at the start of `buf` to the session, as far as there is credit; returns their bytes.
    fn frames(&mut self, buf: &[u8]) -> Result<usize, Ending> {
        let mut batch = Batch {
            packets: Vec::new(),
            frames: 0,
            used: 0,
            bytes: 0,
        };
        let decoded = self.decode(buf, &mut batch);
        self.count(WireCounter::PacketsIn, batch.frames);
        // What came before a bad frame was good.
        let sent = self.send(batch.packets, batch.bytes);
        decoded?;
        sent?;
        Ok(batch.used)
    }

    fn decode(&mut self, buf: &[u8], batch: &mut Batch) -> Result<(), Ending> {
        let now = self.seat.shared().setup.clock.now();
        let bytes_max = self.seat.shared().setup.config.packet_bytes_max;
        let credit = INBOUND_PACKETS_MAX.saturating_sub(self.in_flight.into()) as usize;
        let credit_bytes = INBOUND_BYTES_MAX.saturating_sub(self.in_flight_bytes) as usize;
        loop {
            let rest = &buf[batch.used..];
            let Some(frame) = guard::peek(rest, Some(self.version()), bytes_max)? else {
                return Ok(());
            };
            if batch.packets.len() >= credit || batch.bytes >= credit_bytes {
                self.partial_is_due = true;
                return Ok(());
            }
            if batch.packets.capacity() == 0 {
                // What comes together is mostly of one kind.
                let alike = rest.len() / frame.end;
                batch.packets.reserve(alike.clamp(1, credit));
            }
            self.packet(frame, rest, now, batch)?;
            batch.used += frame.end;
        }
    }

    fn packet(
        &mut self,
        frame: guard::Frame,
        rest: &[u8],
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(), Ending> {
        batch.frames += 1;
        match self.decoder.decode(frame, rest, now, self.door.tenant())? {
            Packet::Ping => {
                encode::pingresp(self.outbox.raw());
                self.count(WireCounter::PacketsOut, 1);
            }
            Packet::Auth(body) => self.authenticate(&body)?,
            Packet::Session(Inbound::Publish {
                message,
                packet_id,
                dup,
            }) => {
                self.take_credit(packet_id)?;
                match self.door.publish(&message) {
                    Ok(()) => batch.push(Inbound::Publish {
                        message,
                        packet_id,
                        dup,
                    }),
                    Err(refusal) => self.refuse_publish(&message, packet_id, refusal)?,
                }
            }
            Packet::Session(Inbound::Subscribe {
                packet_id,
                mut filters,
            }) => {
                let refused = self.door.subscribe(&mut filters);
                self.count(WireCounter::FiltersRefused, refused);
                batch.push(Inbound::Subscribe { packet_id, filters });
            }
            // An expiry of 0 cannot be made longer (5.0 section 3.14.2.2.2).
            Packet::Session(Inbound::Disconnect {
                expiry_seconds: Some(1..),
                ..
            }) if self.is_transient => return Err(Refusal::Protocol.into()),
            Packet::Session(disconnect @ Inbound::Disconnect { .. }) => {
                batch.push(disconnect);
                return Err(Ending::Disconnect);
            }
            Packet::Session(packet) => batch.push(packet),
        }
        Ok(())
    }

    /// [MQTT-3.3.4-7]: a 5.0 client keeps to the receive maximum that it was told. 3.x clients were told none.
    fn take_credit(&mut self, packet_id: Option<PacketId>) -> Result<(), Refusal> {
        if packet_id.is_none() || self.version() != ProtocolVersion::V5 {
            return Ok(());
        }
        if self.unacknowledged >= self.seat.shared().setup.config.receive_max.get() {
            return Err(Refusal::ReceiveMax);
        }
        self.unacknowledged += 1;
        Ok(())
    }

    /// AUTH: a client that an exchange let in proves again who it is (5.0 section 4.12.1); the session goes on meanwhile.
    fn authenticate(&mut self, body: &[u8]) -> Result<(), Refusal> {
        // [MQTT-4.12.0-7]
        let Phase::Open {
            proven: Some(proven),
            ..
        } = &mut self.phase
        else {
            return Err(Refusal::Protocol);
        };
        let packet = auth::decode(body)?;
        let authenticator = &*self.seat.shared().setup.authenticator;
        let (code, data) = proven.take(authenticator, packet)?;
        let bytes_max = self.outbox.packet_bytes_max();
        auth::put(self.outbox.raw(), code, &proven.method, &data, bytes_max)
            .map_err(|encode::Oversized| Refusal::PacketTooLarge)?;
        self.count(WireCounter::PacketsOut, 1);
        Ok(())
    }

    /// Answers a publication that the session never sees, or ends the connection; see [`super::super::door`].
    fn refuse_publish(
        &mut self,
        message: &Message,
        packet_id: Option<PacketId>,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        self.count(WireCounter::PublishesRefused, 1);
        if door::is_fatal(refusal, self.version(), message.qos) {
            return Err(refusal);
        }
        let Some(packet_id) = packet_id else {
            return Ok(());
        };
        let result = match self.version() {
            ProtocolVersion::V5 => Err(refusal),
            ProtocolVersion::V31 | ProtocolVersion::V311 => Ok(Routed::Matched),
        };
        let answer = match message.qos {
            QoS::AtMostOnce => return Ok(()),
            QoS::AtLeastOnce => Outbound::PubAck { packet_id, result },
            QoS::ExactlyOnce => Outbound::PubRec { packet_id, result },
        };
        self.acknowledge(&answer);
        self.outbox.push(
            answer,
            around(self.seat.shared(), self.decoder.version(), &self.door),
        )
    }
}
