//! The connection actor: it owns the socket of one authenticated client, on the thread of the client's session.
//!
//! Owns: socket, partial frames, topic aliases, outbox, keep-alive, credit. Does not know: subscriptions, windows, the
//! will; nothing in here must survive.
//!
//! One future drives it, polled whenever the actor is: it writes what the handlers left in the outbox (one write per turn),
//! then reads while the socket has something and the client has credit, one batch to the session per read.
//!
//! Invariants:
//! - Nothing is read from the client before its CONNACK is in the outbox; what it pipelined waits, in order.
//! - At most `INBOUND_PACKETS_MAX` packets are under way to the session, and `INBOUND_BYTES_MAX` bytes besides the packet
//!   that reaches it; nothing is read while those of all connections take more than `inbound_bytes_max`.
//! - `FromConnection::Closed` is sent exactly once after `Attached`, by the drop of [`Attachment`].
//! - What a client had sent before its connection broke is read before the session hears that it did.
//! - A connection whose address nobody holds any more ends: so a session or shard that fails takes it along.
//! - An idle connection holds no buffer.

use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, Recipient};
use outlive_actors::actor::protocol::{
    ConnectRequest, Credit, FromConnection, SessionAddress, ToConnection,
};
use outlive_actors::model::ids::{ClientId, Fence};
use outlive_actors::model::packet::{Connect, Inbound, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;
use tokio::time::{Instant, Sleep};

use super::Shared;
use super::auth::Proven;
use super::convert::Decoder;
use super::counters::WireCounter;
use super::door::Door;
use super::listener::Seat;
use super::outbox::{Outbox, Surroundings};
use super::terms::Terms;
use super::transport::Stream;

mod closing;
mod deadline;
mod inbound;
mod outbound;

/// Where a shard runs and whom its connections ask for a session.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// The shard's thread.
    pub arbiter: actix_rt::ArbiterHandle,
    /// The shard: takes an authenticated CONNECT.
    pub connects: Recipient<ConnectRequest>,
}

/// Full reads that one connection may do in a turn before others get theirs.
const READS_PER_TURN: usize = 4;

/// Encoded bytes at which a batch from the session is written in between.
const WRITE_EARLY_BYTES: usize = 64 * 1024;

/// How long the last bytes and the peer's close may take together, once the broker has ended a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An authenticated client that has no session yet.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) connect: Connect,
    /// The client says that it is a bridge.
    pub(super) is_bridge: bool,
    /// Its place among the connections.
    pub(super) seat: Seat,
    /// What the client may be sent, if it stated anything.
    pub(super) terms: Option<Box<Terms>>,
    /// The keep-alive in force; 0: none.
    pub(super) keep_alive_seconds: u16,
    /// It is not what the client asked for.
    pub(super) keep_alive_capped: bool,
    /// The broker assigned the client id.
    pub(super) assigned: bool,
    /// The client wants to know what response topics shall begin with.
    pub(super) wants_response_information: bool,
    /// An exchange let the client in.
    pub(super) proven: Option<Box<Proven>>,
    /// What came behind the CONNECT.
    pub(super) rest: Vec<u8>,
}

/// Starts the actor on this thread, which is that of shard `home`.
pub(super) fn start(shared: &Arc<Shared>, home: usize, stream: Stream, newcomer: Newcomer) {
    Connection::new(shared, home, stream, newcomer).start();
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The client sent DISCONNECT.
    Disconnect,
    /// End of stream or socket error.
    Gone,
    /// The broker ends it.
    Refused(Refusal),
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<std::io::Error> for Ending {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

/// Where a connection stands.
#[derive(Debug)]
enum Phase {
    /// Waits for its CONNACK.
    Opening(Box<Opening>),
    /// Carries packets.
    Open {
        /// A client that an exchange let in may begin another one.
        proven: Option<Box<Proven>>,
        /// Nothing is written any more: what the client had sent before is read, and then the connection ends.
        leaving: Option<closing::Leaving>,
    },
    /// Writes its last bytes, then waits for the peer to close.
    Closing { shut: bool },
    /// Done.
    Over,
}

/// What is needed until CONNACK only.
#[derive(Debug)]
struct Opening {
    /// Until it was sent to the shard.
    connect: Option<Connect>,
    home: usize,
    asked_expiry_seconds: u32,
    assigned: bool,
    wants_response_information: bool,
    proven: Option<Box<Proven>>,
    keep_alive_capped: bool,
}

/// The bond to a session. Its drop tells the session that the connection is gone.
#[derive(Debug)]
struct Attachment {
    fence: Fence,
    session: SessionAddress,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session
            .send(FromConnection::Closed { fence: self.fence });
    }
}

/// The connection actor.
#[derive(Debug)]
pub(super) struct Connection {
    seat: Seat,
    client_id: ClientId,
    stream: Stream,
    phase: Phase,
    attachment: Option<Attachment>,
    decoder: Decoder,
    door: Door,
    outbox: Outbox,
    /// A frame that is not whole yet, or frames for which there was no credit.
    partial: Vec<u8>,
    /// `partial` may begin with a whole frame.
    partial_is_due: bool,
    /// Packets under way to the session, and their bytes.
    in_flight: u16,
    in_flight_bytes: u32,
    /// Since when it waits for the packets of all connections to be fewer; see [`Intake::wait`].
    ///
    /// [`Intake::wait`]: outlive_actors::actor::protocol::Intake::wait
    awaits_intake: Option<NonZeroU16>,
    /// Unacknowledged QoS 1 and 2 publications of the client.
    unacknowledged: u16,
    /// 0: none.
    keep_alive_seconds: u16,
    /// When the client was last heard of, or the phase began if that was later.
    heard_at: Instant,
    /// The session ends with the connection: the expiry in force is 0.
    is_transient: bool,
    /// The shard or a session has answered the CONNECT. Until then the actor stays, so that a late
    /// `ToConnection::Attached` meets somebody who says that the connection is gone.
    answered: bool,
    /// Goes off at the earliest of the deadlines, or before.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn new(shared: &Arc<Shared>, home: usize, stream: Stream, newcomer: Newcomer) -> Self {
        let setup = &shared.setup;
        let connect = newcomer.connect;
        Self {
            seat: newcomer.seat,
            client_id: connect.client_id.clone(),
            stream,
            attachment: None,
            is_transient: true,
            decoder: Decoder::new(connect.version, setup.config.topic_alias_max)
                .of_bridge(newcomer.is_bridge),
            door: Door::new(
                &setup.config,
                &setup.authorizer,
                &connect.client_id,
                &connect.principal,
            ),
            outbox: Outbox::new(newcomer.terms),
            partial_is_due: !newcomer.rest.is_empty(),
            partial: newcomer.rest,
            in_flight: 0,
            in_flight_bytes: 0,
            awaits_intake: None,
            unacknowledged: 0,
            keep_alive_seconds: newcomer.keep_alive_seconds,
            heard_at: Instant::now(),
            answered: false,
            timer: None,
            phase: Phase::Opening(Box::new(Opening {
                home,
                asked_expiry_seconds: connect.expiry_seconds,
                assigned: newcomer.assigned,
                wants_response_information: newcomer.wants_response_information,
                proven: newcomer.proven,
                keep_alive_capped: newcomer.keep_alive_capped,
                connect: Some(connect),
            })),
        }
    }

    fn version(&self) -> ProtocolVersion {
        self.decoder.version()
    }

    fn count(&self, counter: WireCounter, more: usize) {
        self.seat.shared().setup.counters.add(counter, more);
    }

    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        match self.exchange(cx) {
            Err(ending @ Ending::Refused(Refusal::NotReading)) => {
                self.leave(ending)?;
                self.exchange(cx)
            }
            done => done,
        }
    }

    /// One turn: write, read, write what the reading brought about.
    fn exchange(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Ending> {
        self.flush(cx)?;
        self.read(cx)?;
        self.flush(cx)?;
        let settled = self.outbox.take_settled();
        self.send_settled(settled)?;
        self.watch_deadline(cx)
    }

    /// Sends to the session what it waits for.
    fn send_settled(&mut self, settled: Vec<Inbound>) -> Result<(), Ending> {
        let bytes = settled.len() * size_of::<Inbound>();
        self.send(settled, bytes)
    }

    /// Sends packets to the session, which take so many bytes.
    fn send(&mut self, packets: Vec<Inbound>, bytes: usize) -> Result<(), Ending> {
        if packets.is_empty() {
            return Ok(());
        }
        let Some(attachment) = &self.attachment else {
            return Err(Refusal::Internal.into());
        };
        // A session that failed is rebuilt, but not under this connection.
        if !attachment.session.is_alive() {
            return Err(Refusal::Internal.into());
        }
        let credit = Credit {
            packets: u32::try_from(packets.len()).unwrap_or(u32::MAX),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        let count = u16::try_from(packets.len()).unwrap_or(u16::MAX);
        self.in_flight = self.in_flight.saturating_add(count);
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(credit.bytes);
        attachment.session.send(FromConnection::Packets {
            fence: attachment.fence,
            packets,
            load: self.seat.shared().setup.intake.load(credit),
        });
        Ok(())
    }
}

fn around<'a>(shared: &'a Shared, version: ProtocolVersion, door: &'a Door) -> Surroundings<'a> {
    Surroundings {
        version,
        tenant: door.tenant(),
        config: &shared.setup.config,
        counters: &shared.setup.counters,
        clock: &*shared.setup.clock,
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Drive);
        if let Phase::Opening(opening) = &mut self.phase
            && let Some(connect) = opening.connect.take()
        {
            self.seat.shared().setup.shards[opening.home]
                .connects
                .do_send(ConnectRequest {
                    connect,
                    connection: ctx.address().recipient(),
                });
        }
    }
}

impl Handler<ToConnection> for Connection {
    type Result = ();

    /// Encodes only; [`Drive`] writes, at the end of the turn.
    fn handle(&mut self, message: ToConnection, _: &mut Self::Context) {
        self.answered = true;
        if matches!(self.phase, Phase::Closing { .. } | Phase::Over) {
            // Attached to a connection that has ended meanwhile: its drop tells the session.
            if let ToConnection::Attached { fence, session, .. } = message {
                drop(Attachment { fence, session });
            }
            return;
        }
        match message {
            ToConnection::Attached {
                fence,
                number,
                session,
            } => {
                self.decoder.publish_as(number);
                self.attachment = Some(Attachment { fence, session });
            }
            ToConnection::Packets { packets, processed } => {
                let count = u16::try_from(processed.packets).unwrap_or(u16::MAX);
                self.in_flight = self.in_flight.saturating_sub(count);
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(processed.bytes);
                for packet in packets {
                    let ending = match self.take(packet) {
                        Err(ending @ Ending::Refused(Refusal::NotReading)) => self.leave(ending),
                        taken => taken,
                    };
                    if let Err(ending) = ending {
                        return self.end(ending);
                    }
                }
                let settled = self.outbox.take_settled();
                if let Err(ending) = self.send_settled(settled) {
                    self.end(ending);
                }
            }
        }
    }
}

/// The future that drives a connection: polled whenever the actor is, after its mailbox.
#[derive(Debug)]
struct Drive;

impl ActorFuture<Connection> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        connection: &mut Connection,
        ctx: &mut Context<Connection>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        // Whoever could answer is gone: the session failed, or its shard.
        let abandoned = !ctx.connected();
        if matches!(connection.phase, Phase::Opening(_) | Phase::Open { .. }) {
            if abandoned {
                connection.end(Refusal::Internal.into());
            } else if let Err(ending) = connection.turn(cx) {
                connection.end(ending);
            }
        }
        if matches!(connection.phase, Phase::Closing { .. }) && connection.close(cx).is_err() {
            connection.phase = Phase::Over;
        }
        if !matches!(connection.phase, Phase::Over) {
            return Poll::Pending;
        }
        connection.stream = Stream::Gone;
        if !connection.answered && !abandoned {
            return Poll::Pending;
        }
        ctx.stop();
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
