//! The wire without sockets: bytes of a client in, the model's vocabulary out, and back. For fuzzing and its corpus.
//!
//! Owns: nothing that the product uses. Each step is the function that a real connection calls; only what a connection
//! does with a socket, an actor or a timer is left out.

use std::sync::Arc;

use outlive_actors::clock::ManualClock;
use outlive_actors::model::ids::{ClientId, Listener, Principal, SessionNumber, Timestamp};
use outlive_actors::model::packet::{Connect, Inbound, Outbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;

use super::config::WireConfig;
use super::convert::{Decoder, Packet};
use super::counters::WireCounters;
use super::door::{self, Door};
use super::encode::{self, Announce};
use super::outbox::{Outbox, Surroundings};
use super::{connect, guard};
use crate::auth::{Anonymous, Authorizer};
use crate::config::MqttConfig;

/// What a client is told and how its connection ends.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// The last bytes for it; empty where its version demands silence.
    pub answer: Vec<u8>,
}

/// A client whose CONNECT was taken.
#[derive(Debug)]
pub struct Peer {
    decoder: Decoder,
    door: Door,
    outbox: Outbox,
    config: WireConfig,
    counters: WireCounters,
    clock: ManualClock,
}

/// A CONNECT, its author, and how many bytes it took.
pub type Opened = (Box<Connect>, Box<Peer>, usize);

/// What a frame became.
#[derive(Debug)]
pub enum Taken {
    /// Something for the session.
    Session(Inbound),
    /// The connection itself answered it: PINGREQ, or a publication that the door refuses.
    Answered,
}

/// Reads the CONNECT at the start of `bytes`; `None` if it is not whole yet.
///
/// # Errors
/// [`Refused`] if the client does not get in.
pub fn open(bytes: &[u8], now: Timestamp) -> Result<Option<Opened>, Refused> {
    open_for(None, bytes, now)
}

/// As [`open`], for a client of `tenant`.
///
/// # Errors
/// As [`open`].
pub fn open_for(
    tenant: Option<&Tenant>,
    bytes: &[u8],
    now: Timestamp,
) -> Result<Option<Opened>, Refused> {
    let config = WireConfig::from(&MqttConfig::default());
    let refused = |refusal, version| {
        let mut answer = Vec::new();
        if let Some(version) = version {
            encode::connack_refused(&mut answer, version, u32::MAX, refusal);
        }
        Refused { refusal, answer }
    };
    let frame = guard::peek(bytes, None, config.connect_bytes_max)
        .map_err(|refusal| refused(refusal, None))?;
    let Some(frame) = frame else {
        return Ok(None);
    };
    let mut packet = connect::decode(&config, frame, bytes, now)
        .map_err(|known| refused(known.refusal, known.answer))?;
    let version = packet.version;
    if packet.auth.is_some() {
        return Err(refused(Refusal::AuthMethod, Some(version)));
    }
    let own = match &*packet.client_id {
        "" => ClientId::from("assigned"),
        given => ClientId::from(given),
    };
    let client_id = packet.know(own, tenant);
    let principal = Principal::anonymous();
    let authorizer: Arc<dyn Authorizer> = Arc::new(Anonymous);
    let door = Door::new(&config, &authorizer, &client_id, &principal);
    door.will(&mut packet.will)
        .map_err(|refusal| refused(refusal, Some(version)))?;
    let peer = Peer {
        decoder: Decoder::new(version, config.topic_alias_max).of_bridge(packet.is_bridge),
        door,
        outbox: Outbox::new(packet.terms.stated(config.topic_alias_max)),
        config,
        counters: WireCounters::new(),
        clock: ManualClock::new(now),
    };
    let connect = Connect {
        client_id,
        principal,
        listener: Listener::default(),
        version,
        clean_start: packet.clean_start,
        expiry_seconds: packet.expiry_seconds,
        receive_max: packet.receive_max,
        will: packet.will,
    };
    Ok(Some((Box::new(connect), Box::new(peer), frame.end)))
}

impl Peer {
    /// The version.
    pub fn version(&self) -> ProtocolVersion {
        self.decoder.version()
    }

    /// From now on publications are those of `session`.
    pub fn publish_as(&mut self, session: SessionNumber) {
        self.decoder.publish_as(session);
    }

    /// Reads the frame at the start of `bytes`, and how many bytes it took; `None` if it is not whole yet.
    ///
    /// # Errors
    /// The refusal that ends the connection.
    pub fn take(
        &mut self,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<Option<(Taken, usize)>, Refusal> {
        let version = self.version();
        let Some(frame) = guard::peek(bytes, Some(version), self.config.packet_bytes_max)? else {
            return Ok(None);
        };
        let taken = match self.decoder.decode(frame, bytes, now, self.door.tenant())? {
            // Nobody began an exchange.
            Packet::Auth(_) => return Err(Refusal::Protocol),
            Packet::Ping => {
                encode::pingresp(self.outbox.raw());
                Taken::Answered
            }
            Packet::Session(Inbound::Publish {
                message,
                packet_id,
                dup,
            }) => match self.door.publish(&message) {
                Ok(()) => Taken::Session(Inbound::Publish {
                    message,
                    packet_id,
                    dup,
                }),
                Err(refusal) if door::is_fatal(refusal, version, message.qos) => {
                    return Err(refusal);
                }
                Err(_) => Taken::Answered,
            },
            Packet::Session(Inbound::Subscribe {
                packet_id,
                mut filters,
            }) => {
                self.door.subscribe(&mut filters);
                Taken::Session(Inbound::Subscribe { packet_id, filters })
            }
            Packet::Session(packet) => Taken::Session(packet),
        };
        Ok(Some((taken, frame.end)))
    }

    /// Takes a packet of the session. What the outbox settles in the client's place comes back.
    ///
    /// # Errors
    /// The refusal that ends the connection.
    pub fn push(&mut self, packet: Outbound) -> Result<Vec<Inbound>, Refusal> {
        if let Outbound::ConnAck {
            session_present,
            expiry_seconds,
        } = packet
        {
            let announce = Announce {
                expiry_seconds: Some(expiry_seconds),
                receive_max: self.config.receive_max.get(),
                qos_max: None,
                packet_bytes_max: self.config.packet_bytes_max,
                topic_alias_max: self.config.topic_alias_max,
                assigned_client_id: None,
                keep_alive_seconds: None,
                response_information: None,
                authentication: None,
            };
            let (version, bytes_max) = (self.version(), self.outbox.packet_bytes_max());
            let out = self.outbox.raw();
            return encode::connack(out, version, bytes_max, session_present, &announce)
                .map(|()| Vec::new())
                .map_err(|encode::Oversized| Refusal::PacketTooLarge);
        }
        let around = Surroundings {
            version: self.decoder.version(),
            config: &self.config,
            counters: &self.counters,
            clock: &self.clock,
            tenant: self.door.tenant(),
        };
        self.outbox.push(packet, around)?;
        Ok(self.outbox.take_settled())
    }

    /// The last bytes of a connection that ends with `refusal`.
    pub fn end(&mut self, refusal: Refusal) {
        let (version, bytes_max) = (self.version(), self.outbox.packet_bytes_max());
        self.outbox.drop_pending();
        encode::disconnect(self.outbox.raw(), version, bytes_max, refusal);
    }

    /// Moves all that waits for the client to `out`; at most `bytes_max` bytes at a time.
    ///
    /// # Errors
    /// The refusal that ends the connection.
    pub fn drain(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        loop {
            let around = Surroundings {
                version: self.decoder.version(),
                config: &self.config,
                counters: &self.counters,
                clock: &self.clock,
                tenant: self.door.tenant(),
            };
            let bytes = self.outbox.unwritten(around)?;
            let some = &bytes[..bytes.len().min(bytes_max)];
            if some.is_empty() {
                self.outbox.advance(0);
                return Ok(());
            }
            out.extend_from_slice(some);
            let written = some.len();
            self.outbox.advance(written);
        }
    }

    /// Bytes that wait for the client.
    pub fn held(&self) -> usize {
        self.outbox.held()
    }
}
