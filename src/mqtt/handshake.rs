//! From an accepted socket to an authenticated CONNECT on its way to the home shard.
//!
//! Owns: the connect timeout, answers to a CONNECT that never reaches a session, assigned client ids. Does not know:
//! sessions.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outlive_actors::model::ids::{ClientId, Listener, Principal};
use outlive_actors::model::packet::{Connect, ProtocolVersion};
use outlive_actors::model::refusal::Refusal;
use outlive_actors::model::tenant::Tenant;
use tracing::debug;

use super::auth::Proven;
use super::connect::{self, ConnectPacket, Refused};
use super::connection::{self, Newcomer};
use super::counters::WireCounter;
use super::door::Door;
use super::listener::{Permit, Seat};
use super::pace::Taken;
use super::transport::Stream;
use super::{Shared, encode, guard, scratch};
use crate::auth::Credentials;
use exchange::Applicant;

mod exchange;

/// How long a client that was refused may take to close, so that the answer reaches it.
const LINGER: Duration = Duration::from_secs(1);

/// Where a connection comes from.
#[derive(Debug)]
pub(super) struct Origin {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// The listener that accepted it.
    pub(super) listener: Listener,
}

/// Why a handshake ended.
#[derive(Debug)]
enum Failure {
    /// The peer is gone; there is nobody to answer.
    Gone,
    /// Refused, after an answer if there is one, of at most so many bytes.
    Refused(Refused, u32),
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Reads the CONNECT, answers it if it is refused, and hands the connection over if it is not.
pub(super) async fn run(permit: Permit, shard: usize, mut stream: Stream, origin: Origin) {
    let peer = origin.peer;
    let shared = Arc::clone(permit.shared());
    let counters = &shared.setup.counters;
    let timeout = Duration::from_millis(shared.setup.config.connect_timeout_millis);
    let mut stopping = shared.stopping.clone();
    let asked = tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => return,
        asked = tokio::time::timeout(timeout, ask(&shared, &mut stream, &origin)) => asked,
    };
    match asked {
        Ok(Ok((client, rest))) => {
            drop(permit);
            hand_over(&shared, shard, stream, client, rest);
        }
        Ok(Err(Failure::Gone)) => counters.add(WireCounter::ConnectMissing, 1),
        Err(_) => {
            counters.add(WireCounter::ConnectTimeouts, 1);
            counters.add(WireCounter::ConnectMissing, 1);
        }
        Ok(Err(Failure::Refused(refused, bytes_max))) => {
            debug!(%peer, refusal = %refused.refusal, "connect refused");
            counters.refused(refused.refusal);
            if let Some(version) = refused.answer {
                let mut answer = Vec::new();
                encode::connack_refused(&mut answer, version, bytes_max, refused.refusal);
                // A client that does not take the answer goes without.
                drop(tokio::time::timeout(LINGER, farewell(stream, &answer)).await);
            }
        }
    }
}

/// A client that may go to its session, and what it sent behind its CONNECT.
type Admitted = (Client, Vec<u8>);

/// An authenticated client.
struct Client {
    packet: ConnectPacket,
    client_id: ClientId,
    assigned: bool,
    principal: Principal,
    /// The client is who it says by an exchange.
    proven: Option<Proven>,
    listener: Listener,
    seat: Seat,
}

async fn ask(
    shared: &Arc<Shared>,
    stream: &mut Stream,
    origin: &Origin,
) -> Result<Admitted, Failure> {
    let (mut packet, mut rest) = read_connect(shared, stream).await?;
    let (version, bytes_max) = (packet.version, packet.terms.packet_bytes_max);
    let refuse = |refusal| Failure::Refused(Refused::to(version, refusal), bytes_max);
    let taken = pace(shared, origin).map_err(refuse)?;
    let proven = match packet.auth.take() {
        None => None,
        Some(asked) => {
            let mut applicant = Applicant {
                shared,
                stream,
                rest: &mut rest,
                bytes_max,
            };
            Some(applicant.prove(asked).await?)
        }
    };
    let client = authenticate(shared, packet, proven, origin, taken)
        .await
        .map_err(refuse)?;
    Ok((client, rest))
}

/// Whether one more may come now, before anybody is asked who it is. A tenant that is known already by the listener uses
/// up nothing of the rate of all while it is above its own.
fn pace(shared: &Shared, origin: &Origin) -> Result<Taken, Refusal> {
    pace_of(shared, shared.setup.tenancy.of_listener(&origin.listener))?;
    let taken = shared.paces.total.take(shared.setup.clock.now());
    taken.ok_or(Refusal::ConnectRate)
}

/// Whether one more may come now of this tenant.
fn pace_of(shared: &Shared, tenant: Option<Tenant>) -> Result<(), Refusal> {
    let now = shared.setup.clock.now();
    let taken = tenant.is_none_or(|tenant| shared.paces.tenants.take(&tenant, now));
    taken.then_some(()).ok_or(Refusal::TenantConnectRate)
}

/// Reads until the CONNECT is whole.
async fn read_connect(
    shared: &Shared,
    stream: &mut Stream,
) -> Result<(ConnectPacket, Vec<u8>), Failure> {
    let setup = &shared.setup;
    let bytes_max = setup
        .config
        .connect_bytes_max
        .min(setup.config.packet_bytes_max);
    let mut buf = Vec::new();
    loop {
        let count = read_more(stream, &mut buf).await?;
        if count == 0 {
            return Err(Failure::Gone);
        }
        setup.counters.add(WireCounter::BytesIn, count);
        let frame = guard::peek(&buf, None, bytes_max).map_err(|refusal| {
            // Whose CONNECT is too large may have said already what it understands; others are no clients.
            let too_large = refusal == Refusal::PacketTooLarge;
            let answer = too_large.then(|| guard::announced(&buf)).flatten();
            Failure::Refused(Refused { refusal, answer }, u32::MAX)
        })?;
        if let Some(frame) = frame {
            setup.counters.add(WireCounter::PacketsIn, 1);
            let packet = connect::decode(&setup.config, frame, &buf, setup.clock.now())
                .map_err(|refused| Failure::Refused(refused, u32::MAX))?;
            buf.drain(..frame.end);
            return Ok((packet, buf));
        }
    }
}

async fn read_more(stream: &mut Stream, buf: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| {
        scratch::with(|scratch| {
            stream.poll_read(cx, scratch).map_ok(|count| {
                buf.extend_from_slice(&scratch[..count]);
                count
            })
        })
    })
    .await
}

async fn authenticate(
    shared: &Arc<Shared>,
    mut packet: ConnectPacket,
    proven: Option<Proven>,
    origin: &Origin,
    taken: Taken,
) -> Result<Client, Refusal> {
    let setup = &shared.setup;
    let assigned = packet.client_id.is_empty();
    let client_id = if assigned {
        random_client_id()?
    } else {
        ClientId::from(&*packet.client_id)
    };
    let seat = Seat::take(shared).ok_or(Refusal::Busy)?;
    let principal = match &proven {
        Some(proven) => proven.principal.clone(),
        None => {
            let credentials = Credentials {
                client_id: &client_id,
                user_name: packet.user_name.as_deref(),
                password: packet.password.as_deref(),
                peer: origin.peer,
            };
            setup.authenticator.authenticate(credentials).await?
        }
    };
    let tenant = setup.tenancy.tenant(&principal, &origin.listener)?;
    if setup.tenancy.of_listener(&origin.listener).is_none() {
        pace_of(shared, tenant.clone()).inspect_err(|_| {
            // An exchange costs little. An authenticator may not, and is asked no more often than the rate of all allows.
            if proven.is_some() {
                shared.paces.total.give_back(taken, setup.clock.now());
            }
        })?;
    }
    let client_id = packet.know(client_id, tenant.as_ref());
    if packet.will.is_some() {
        let door = Door::new(&setup.config, &setup.authorizer, &client_id, &principal);
        if door.will(&mut packet.will)? {
            setup.counters.add(WireCounter::WillsRefused, 1);
            debug!(%client_id, "will on a topic of the broker: it will not be published");
        }
    }
    Ok(Client {
        packet,
        client_id,
        assigned,
        principal,
        proven,
        listener: origin.listener.clone(),
        seat,
    })
}

/// Nobody shall guess an id that the broker assigned: a session belongs to whoever names it.
fn random_client_id() -> Result<ClientId, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::Internal)?;
    let text = format!("outlive-{:032x}", u128::from_be_bytes(bytes));
    Ok(ClientId::from(text.as_str()))
}

/// Starts the connection on its home shard.
fn hand_over(shared: &Arc<Shared>, here: usize, stream: Stream, client: Client, rest: Vec<u8>) {
    let setup = &shared.setup;
    let home = (setup.home)(&client.client_id) % setup.shards.len();
    let newcomer = newcomer(shared, client, rest);
    if home == here {
        connection::start(shared, home, stream, newcomer);
        return;
    }
    let Ok(detached) = stream.detach() else {
        setup.counters.add(WireCounter::ConnectMissing, 1);
        return;
    };
    let there = Arc::clone(shared);
    let moved = setup.shards[home]
        .arbiter
        .spawn_fn(move || match detached.attach() {
            Ok(stream) => connection::start(&there, home, stream, newcomer),
            Err(error) => {
                there.setup.counters.refused(Refusal::Internal);
                debug!(%error, "socket lost between shards");
            }
        });
    if !moved {
        setup.counters.refused(Refusal::ShuttingDown);
    }
}

fn newcomer(shared: &Shared, client: Client, mut rest: Vec<u8>) -> Newcomer {
    let packet = client.packet;
    rest.shrink_to_fit(); // most have sent nothing yet: an idle connection holds no buffer
    let keep_alive = capped_keep_alive(
        packet.version,
        packet.keep_alive_seconds,
        shared.setup.config.keep_alive_seconds_max,
    );
    Newcomer {
        seat: client.seat,
        is_bridge: packet.is_bridge,
        terms: packet.terms.stated(shared.setup.config.topic_alias_max),
        wants_response_information: packet.wants_response_information,
        keep_alive_seconds: keep_alive,
        keep_alive_capped: keep_alive != packet.keep_alive_seconds,
        assigned: client.assigned,
        proven: client.proven.map(Box::new),
        rest,
        connect: Connect {
            client_id: client.client_id,
            principal: client.principal,
            listener: client.listener,
            version: packet.version,
            clean_start: packet.clean_start,
            expiry_seconds: packet.expiry_seconds,
            receive_max: packet.receive_max,
            will: packet.will,
        },
    }
}

/// The keep-alive in force; 0: none. Only 5.0 clients can be told another one than they asked for.
fn capped_keep_alive(version: ProtocolVersion, asked: u16, cap: u16) -> u16 {
    match NonZeroU16::new(cap) {
        Some(cap) if version == ProtocolVersion::V5 && (asked == 0 || asked > cap.get()) => {
            cap.get()
        }
        _ => asked,
    }
}

/// Writes `answer`, then waits for the client to close: closing with unread bytes would reset the connection, and the
/// client might never see the answer.
async fn farewell(mut stream: Stream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    poll_fn(|cx| stream.poll_shutdown(cx)).await?;
    poll_fn(|cx| {
        loop {
            let read = scratch::with(|scratch| stream.poll_read(cx, scratch));
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_can_be_told_gets_another_keep_alive() {
        use ProtocolVersion::{V5, V31, V311};
        for (version, asked, cap, expected) in [
            (V5, 60, 0, 60),
            (V5, 0, 0, 0),
            (V5, 60, 30, 30),
            (V5, 0, 30, 30),
            (V5, 20, 30, 20),
            (V311, 60, 30, 60),
            (V31, 0, 30, 0),
        ] {
            assert_eq!(
                capped_keep_alive(version, asked, cap),
                expected,
                "{version:?} {asked} {cap}"
            );
        }
    }

    #[test]
    fn assigned_ids_differ_and_are_not_empty() {
        let (a, b) = (random_client_id().unwrap(), random_client_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), "outlive-".len() + 32);
    }
}
