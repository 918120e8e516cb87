//! Listening sockets and the accept loop of each shard.
//!
//! Owns: the socket options, the limits on connections that have not authenticated and on those that have, what happens
//! when `accept` fails. Does not know: what clients say.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outlive_actors::model::ids::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener as Acceptor;
use tracing::{error, warn};

use super::counters::WireCounter;
use super::handshake::Origin;
use super::transport::Stream;
use super::{Shared, handshake};

/// The first pause after a failed `accept`, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Opens a listening socket for [`serve`](super::serve). The system may cut `backlog`; 4096 or more lets a fleet
/// reconnect at once. Small segments are not delayed: writes are batched already.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, backlog: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by what is accepted, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::from(backlog))?;
    Ok(socket.into())
}

/// Accepts on `shard`'s thread from now on.
pub(super) fn start(shared: &Arc<Shared>, shard: usize, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let name = Listener::from(listener.local_addr()?.to_string().as_str());
    let arbiter = &shared.setup.shards[shard].arbiter;
    let shared = Arc::clone(shared);
    let started = arbiter.spawn_fn(move || match Acceptor::from_std(listener) {
        Ok(acceptor) => {
            actix_rt::spawn(accept(shared, shard, acceptor, name));
        }
        Err(error) => error!(shard, %error, "cannot accept on this shard"),
    });
    if started {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "the shard's thread is gone",
        ))
    }
}

/// Accepts until the server stops. tokio asks the system until it would block, then waits.
async fn accept(shared: Arc<Shared>, shard: usize, acceptor: Acceptor, name: Listener) {
    let mut stopping = shared.stopping.clone();
    let mut pause = PAUSE_FIRST;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = PAUSE_FIRST;
                shared.setup.counters.add(WireCounter::Accepted, 1);
                let Some(permit) = Permit::take(&shared) else {
                    shared.setup.counters.add(WireCounter::AcceptRefused, 1);
                    continue;
                };
                let origin = Origin {
                    peer,
                    listener: name.clone(),
                };
                actix_rt::spawn(handshake::run(permit, shard, Stream::Tcp(socket), origin));
            }
            Err(error) => {
                shared.setup.counters.add(WireCounter::AcceptErrors, 1);
                if !is_of_one_connection(&error) {
                    // Out of descriptors or memory: asking again at once would spin.
                    warn!(shard, %error, "cannot accept");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Whether only the connection that was to be accepted is concerned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// One connection that has not authenticated yet.
#[derive(Debug)]
pub(super) struct Permit(Arc<Shared>);

impl Permit {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.unauthenticated.fetch_add(1, Ordering::Relaxed);
        let permit = Self(Arc::clone(shared));
        (before < shared.setup.config.unauthenticated_max).then_some(permit)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

/// One connection that has authenticated; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Shared>);

impl Seat {
    /// `None`: all are taken.
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Self(Arc::clone(shared));
        let connections_max = shared.setup.config.connections_max;
        (connections_max == 0 || before < connections_max).then_some(seat)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.unauthenticated.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets shall not wait for the acknowledgement of those before.
    #[test]
    fn an_accepted_socket_inherits_the_listener_s_options() {
        let listener = bind(([127, 0, 0, 1], 0).into(), 16).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(!client.nodelay().unwrap(), "nobody else set it");
    }
}
