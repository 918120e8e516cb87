//! The wire: from accepted sockets to sessions and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Owns: sockets, codecs, reason codes, keep-alive, write buffers, and every limit that applies before a session is
//! concerned. Does not know: sessions, routing, journals; it talks to shards by
//! [`protocol`](outlive_actors::actor::protocol) only.
//!
//! The way in: `listener` accepts, `handshake` reads and answers the CONNECT on the accepting shard and moves the socket
//! to the home shard, where a `connection` actor owns it. `guard` sees each frame before the codec; `codec`, `convert`
//! and `connect` alone know ntex. The way out: `outbox` holds what waits, `encode` writes it within the client's `terms`,
//! `reason` has the codes.
//!
//! A client of a tenant is known behind the door by its tenant's names: `handshake` gives it such a client id and will,
//! `convert` such topics and filters, `encode` writes topics as the client knows them; `door` looks at what it says itself.

mod aliases;
mod auth;
mod codec;
mod config;
mod connect;
mod connection;
mod convert;
mod counters;
mod door;
mod encode;
mod guard;
mod handshake;
mod listener;
mod outbox;
mod pace;
mod properties;
mod reason;
mod scratch;
mod terms;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod v31;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use outlive_actors::actor::protocol::Intake;
use outlive_actors::clock::Clock;
use outlive_actors::model::ids::ClientId;
use outlive_actors::model::limits::PerTenant;
use tokio::sync::watch;

pub use config::WireConfig;
pub use connection::ShardHandle;
pub use counters::{REFUSALS, WireCounter, WireCounters, WireObservation};
pub use listener::bind;

use pace::{Pace, Paces, TenantPaces};

use crate::auth::{Authenticator, Authorizer, Tenancy};

/// Tells the home shard of a client id, as an index into [`Setup::shards`].
pub type Home = Arc<dyn Fn(&ClientId) -> usize + Send + Sync>;

/// What [`serve`] needs.
#[derive(Clone)]
pub struct Setup {
    /// The shards: where connections live, and whom they ask for a session. At least one.
    pub shards: Vec<ShardHandle>,
    /// The home shard of a client id.
    pub home: Home,
    /// The limits.
    pub config: Arc<WireConfig>,
    /// Who clients are.
    pub authenticator: Arc<dyn Authenticator>,
    /// What they may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Whose they are.
    pub tenancy: Tenancy,
    /// CONNECTs per second that each tenant may send, of those that all may; 0: no limit.
    pub tenants_connects_per_second_max: PerTenant<u32>,
    /// What the packets of all connections under way take, and may take.
    pub intake: Arc<Intake>,
    /// Where the wire counts.
    pub counters: Arc<WireCounters>,
    /// The time of the broker.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("shards", &self.shards.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What all parts of the wire share.
struct Shared {
    setup: Setup,
    /// Connections that have not authenticated yet.
    unauthenticated: AtomicUsize,
    /// Connections that have.
    connections: AtomicUsize,
    /// CONNECTs that may come.
    paces: Arc<Paces>,
    /// Turns true, or its sender goes, when no new connections are wanted.
    stopping: watch::Receiver<bool>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setup.fmt(f)
    }
}

/// The running listeners. Dropping it stops accepting, too.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    paces: Arc<Paces>,
}

impl Server {
    /// Where clients can connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on so many CONNECTs per second are taken, in all and of each tenant; 0: no limit.
    pub fn set_connects_per_second_max(&self, connects: u32, tenants: PerTenant<u32>) {
        self.paces.total.set(connects);
        self.paces.tenants.set(tenants);
    }

    /// Closes the listening sockets and every connection that has not been given to a session yet. Open connections
    /// live on until their sessions close them.
    pub fn stop_accepting(&self) {
        self.stop.send_replace(true);
    }
}

/// Starts accepting on every shard, on listeners from [`bind`]. Call it when every surviving session is routable.
///
/// # Errors
/// If a listening socket cannot be cloned or asked for its address, or there is no shard.
pub fn serve(listeners: Vec<TcpListener>, setup: Setup) -> io::Result<Server> {
    if setup.shards.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no shard to serve on",
        ));
    }
    let (stop, stopping) = watch::channel(false);
    let paces = Arc::new(Paces {
        total: Pace::new(setup.config.connects_per_second_max),
        tenants: TenantPaces::new(setup.tenants_connects_per_second_max.clone()),
    });
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<Vec<_>>>()?;
    let clones = setup
        .shards
        .iter()
        .map(|_| listeners.iter().map(TcpListener::try_clone).collect())
        .collect::<io::Result<Vec<Vec<_>>>>()?;
    let shared = Arc::new(Shared {
        setup,
        unauthenticated: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
        paces: Arc::clone(&paces),
        stopping,
    });
    // Only the shards' clones stay open, so that the ports close with the last of them.
    drop(listeners);
    for (shard, listeners) in clones.into_iter().enumerate() {
        for listener in listeners {
            listener::start(&shared, shard, listener)?;
        }
    }
    Ok(Server {
        addresses,
        stop,
        paces,
    })
}

#[cfg(test)]
mod tests;
