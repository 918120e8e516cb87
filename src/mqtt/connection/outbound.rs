//! The way out: from the session's packets to the socket.

use std::task::{Context as TaskContext, Poll};

use outlive_actors::model::message::QoS;
use outlive_actors::model::packet::Outbound;
use outlive_actors::model::refusal::Refusal;
use tokio::time::Instant;

use super::super::counters::WireCounter;
use super::super::encode::{self, Announce};
use super::{Connection, Ending, Phase, WRITE_EARLY_BYTES, around};

impl Connection {
    /// Writes until the outbox is empty or the socket full.
    pub(super) fn flush(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        loop {
            if self.is_left() {
                self.outbox.clear();
                return Ok(());
            }
            let bytes = self.outbox.unwritten(around(
                self.seat.shared(),
                self.decoder.version(),
                &self.door,
            ))?;
            if bytes.is_empty() {
                // Gives the buffer back.
                self.outbox.advance(0);
                return Ok(());
            }
            match self.stream.poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => self.wrote(written),
                Poll::Ready(Err(_)) => {
                    self.leave(Ending::Gone)?;
                    // What has come may be behind the last read of this turn.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending => {
                    self.outbox.stall(Instant::now());
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.outbox.advance(bytes);
        self.count(WireCounter::BytesOut, bytes);
    }

    /// Takes one packet of the session.
    pub(super) fn take(&mut self, packet: Outbound) -> Result<(), Ending> {
        match packet {
            Outbound::Close(refusal) => return Err(refusal.into()),
            Outbound::ConnAck {
                session_present,
                expiry_seconds,
            } => self.open(session_present, expiry_seconds)?,
            packet @ (Outbound::Publish(_)
            | Outbound::PubAck { .. }
            | Outbound::PubRec { .. }
            | Outbound::PubRel { .. }
            | Outbound::PubComp { .. }
            | Outbound::SubAck { .. }
            | Outbound::UnsubAck { .. }
            | Outbound::AwaitRoom) => {
                self.acknowledge(&packet);
                if self.is_left() {
                    return Ok(());
                }
                self.outbox.push(
                    packet,
                    around(self.seat.shared(), self.decoder.version(), &self.door),
                )?;
            }
        }
        // A large batch shall not fill the outbox of a client that reads.
        if self.outbox.encoded() >= WRITE_EARLY_BYTES {
            while let bytes = self.outbox.unwritten(around(
                self.seat.shared(),
                self.decoder.version(),
                &self.door,
            ))? && !bytes.is_empty()
                && let Ok(written @ 1..) = self.stream.try_write(bytes)
            {
                self.wrote(written);
            }
        }
        Ok(())
    }

    /// Counts the client's window down.
    pub(super) fn acknowledge(&mut self, packet: &Outbound) {
        let ends = match packet {
            Outbound::PubAck { .. } | Outbound::PubComp { .. } => true,
            Outbound::PubRec { result, .. } => result.is_err(),
            Outbound::ConnAck { .. }
            | Outbound::Publish(_)
            | Outbound::PubRel { .. }
            | Outbound::SubAck { .. }
            | Outbound::UnsubAck { .. }
            | Outbound::AwaitRoom
            | Outbound::Close(_) => false,
        };
        self.unacknowledged = self.unacknowledged.saturating_sub(u16::from(ends));
    }

    /// CONNACK with success.
    pub(super) fn open(
        &mut self,
        session_present: bool,
        expiry_seconds: u32,
    ) -> Result<(), Ending> {
        self.is_transient = expiry_seconds == 0;
        if self.attachment.is_none() {
            return Err(Refusal::Internal.into());
        }
        let Phase::Opening(opening) = &mut self.phase else {
            return Err(Refusal::Internal.into());
        };
        let config = &self.seat.shared().setup.config;
        let response_information = opening
            .wants_response_information
            .then(|| config.response_information(&self.client_id))
            .flatten();
        let changed = expiry_seconds != opening.asked_expiry_seconds;
        let announce = Announce {
            expiry_seconds: changed.then_some(expiry_seconds),
            receive_max: config.receive_max.get(),
            qos_max: Some(config.qos_max).filter(|max| *max < QoS::ExactlyOnce),
            packet_bytes_max: config.packet_bytes_max,
            topic_alias_max: config.topic_alias_max,
            assigned_client_id: opening.assigned.then_some(self.client_id.own()),
            keep_alive_seconds: opening.keep_alive_capped.then_some(self.keep_alive_seconds),
            response_information: response_information.as_deref(),
            authentication: opening
                .proven
                .as_ref()
                .map(|proven| (&*proven.method, &*proven.data)),
        };
        let (version, bytes_max) = (self.decoder.version(), self.outbox.packet_bytes_max());
        let out = self.outbox.raw();
        encode::connack(out, version, bytes_max, session_present, &announce)
            .map_err(|encode::Oversized| Refusal::PacketTooLarge)?;
        let mut proven = opening.proven.take();
        if let Some(proven) = &mut proven {
            proven.data = Vec::new();
        }
        self.phase = Phase::Open {
            proven,
            leaving: None,
        };
        self.count(WireCounter::PacketsOut, 1);
        self.count(WireCounter::Opened, 1);
        self.heard_at = Instant::now();
        Ok(())
    }
}
