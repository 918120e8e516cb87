//! The actor system as a value: start it, hand it connections, observe it, drain it. Two of them in one process do not
//! know of each other.
//!
//! Owns: the order of start and stop. Start: lock the data directory, open journal and store, recover, build the routes
//! of every session that survived, and only then be ready for connections. Stop: in reverse.

#[cfg(feature = "testing")]
mod faults;
mod groups;
mod quota;
mod start;
mod tenants;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Recipient};
use actix_rt::{Arbiter, ArbiterHandle};
use thiserror::Error;

use crate::actor::appender::{AppenderObservation, Durability};
use crate::actor::checkpointer::CheckpointObservation;
use crate::actor::protocol::{ConnectRequest, Drain, EndSession, ObserveSession};
use crate::actor::recovery::RecoverError;
use crate::actor::registry::RegistryActor;
use crate::actor::shard::ShardActor;
use crate::actor::shared::Shared;
use crate::clock::Clock;
use crate::journal::files::{DiskFiles, Files};
use crate::journal::{JournalObservation, ReadError};
use crate::model::ids::{ClientId, SHARDS_MAX};
use crate::model::limits::{PerTenant, SessionLimits, SharedLimits, TenantLimits};
use crate::model::quota::{QuotaLimits, QuotaObservation};
use crate::model::refusal::Refusal;
use crate::model::tally::Amount;
use crate::observe::{SessionObservation, ShardCells, ShardObservation};
use crate::store::data_dir::{DataDir, DataDirError, TENANCY_OFF};
use crate::store::{SnapshotStore, StoreError};
use crate::supervise::vitals::Vitals;

pub use groups::GroupsHandle;
use groups::GroupsShard;
pub use quota::QuotaHandle;
pub use tenants::{TenantUse, TenantsHandle};

/// Threads on which one shard reads from the disk.
const READERS_PER_SHARD: usize = 4;

/// What the system is built from.
#[derive(Clone, Debug)]
pub struct SystemConfig {
    /// Where journal and checkpoints lie; one process owns it.
    pub data_dir: PathBuf,
    /// What names the tenants of clients, as the program puts it; "off" if there are none. A data directory keeps to what
    /// it was made with.
    pub tenancy: Box<str>,
    /// Shards, 1 to 64: one thread each.
    pub shards: u8,
    /// Limits per session.
    pub limits: SessionLimits,
    /// Limits and strategies of shared subscriptions.
    pub shared: SharedLimits,
    /// What may be retained in all: messages, and bytes of topics, properties and payloads.
    pub retained: Amount,
    /// What each tenant may have.
    pub tenants: PerTenant<TenantLimits>,
    /// How many sessions there may be, online and offline, in all and of whom.
    pub quota: QuotaLimits,
    /// When an acknowledgement may be sent.
    pub durability: Durability,
    /// Whether it starts although a part of the journal is missing, which is counted. Without [`Durability::Always`] it
    /// does in any case.
    pub accepts_loss: bool,
    /// A journal segment of this length in bytes is sealed.
    pub segment_bytes: u32,
    /// The most bytes of journal segments that are kept for sessions that lag; 0 = none.
    pub journal_bytes_max: u64,
    /// Bytes that the snapshot store caches.
    pub cache_bytes: usize,
    /// Time in milliseconds between two checkpoints.
    pub checkpoint_interval_millis: u64,
    /// How long a takeover waits when there were 20 of a session in a row, in milliseconds; 0: never.
    pub takeover_pause_millis: u64,
    /// Time in milliseconds that a detached session keeps its actor.
    pub passivate_after_millis: u64,
}

impl SystemConfig {
    /// One shard, no limit on sessions, acknowledgements after the sync; otherwise what the broker has by default.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            tenancy: TENANCY_OFF.into(),
            shards: 1,
            limits: SessionLimits::default(),
            shared: SharedLimits::default(),
            retained: Amount::default(),
            tenants: PerTenant::default(),
            quota: QuotaLimits::default(),
            durability: Durability::Always,
            accepts_loss: false,
            segment_bytes: 64 << 20,
            journal_bytes_max: 0,
            cache_bytes: 32 << 20,
            checkpoint_interval_millis: 5_000,
            takeover_pause_millis: 1_000,
            passivate_after_millis: 60_000,
        }
    }
}

/// Why the system does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The snapshot store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// Recovery.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The system refused a thread or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A shard thread died while it started.
    #[error("shard {0} did not start")]
    Shard(u8),
}

/// What the system shows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemObservation {
    /// All shards together.
    pub shards: ShardObservation,
    /// The journal.
    pub journal: JournalObservation,
    /// The appender.
    pub appender: AppenderObservation,
    /// The checkpointer.
    pub checkpoint: CheckpointObservation,
    /// The quota of sessions.
    pub quota: QuotaObservation,
    /// Groups by name.
    pub group_names: u64,
    /// Member sessions of groups, once for each shared subscription.
    pub group_members: u64,
    /// Retained messages.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Messages that expired while they were retained.
    pub retained_expired: u64,
    /// Sessions that expired while the broker was down, as its start found.
    pub expired_while_down: u64,
    /// The broker's time less what the wall clock shows, in milliseconds.
    pub clock_ahead_millis: i64,
    /// Retained messages whose records are gone.
    pub retained_lost: u64,
    /// Bytes of publications on their way from shard to shard.
    pub route_backlog_bytes: u64,
    /// Filters with a reader, attached or durable.
    pub route_filters: u64,
}

/// What journal and checkpoints are written to.
#[derive(Clone)]
pub struct Engine {
    /// Checkpoints.
    pub store: Arc<dyn SnapshotStore>,
    /// The journal's files.
    pub files: Arc<dyn Files>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// One shard as the outside sees it.
#[derive(Debug)]
struct ShardHandle {
    arbiter: Arbiter,
    address: Addr<ShardActor>,
    cells: Arc<ShardCells>,
}

/// The running actors.
#[derive(Debug)]
pub struct ActorSystem {
    shards: Vec<ShardHandle>,
    shared: Arc<Shared>,
    registry: Addr<RegistryActor>,
    vitals: Vitals,
    /// Whether clients have tenants.
    tenancy: bool,
    /// Held until the end: one process owns the directory. None if the engine was given.
    _data_dir: Option<DataDir>,
}

impl ActorSystem {
    /// Starts everything; resolves when every session that survived is routable. Must be called inside an actix system.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use outlive_actors::clock::SystemClock;
    /// use outlive_actors::system::{ActorSystem, SystemConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let directory = tempfile::tempdir()?;
    /// actix_rt::System::new().block_on(async {
    ///     let config = SystemConfig::new(directory.path());
    ///     let system = ActorSystem::start(config, Arc::new(SystemClock::new())).await?;
    ///     let observe = system.observer();
    ///     assert_eq!(observe().quota.used, 0);
    ///     system.drain(Duration::from_secs(10)).await?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartError`]; a damaged or foreign file is named and left as it is.
    pub async fn start(config: SystemConfig, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut data_dir = DataDir::lock(&config.data_dir)?;
        data_dir.keep_tenancy(&config.tenancy)?;
        let store: Arc<dyn SnapshotStore> = Arc::new(data_dir.open_store(config.cache_bytes)?);
        let files = DiskFiles::open(&data_dir.journal_path()).map_err(|source| StartError::Io {
            what: "journal directory",
            source,
        })?;
        let engine = Engine {
            store,
            files: Arc::new(files),
        };
        start::start(config, clock, engine, Some(data_dir)).await
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The shard that a client id's session lives on.
    pub fn home(&self, client_id: &ClientId) -> usize {
        home(
            client_id,
            u8::try_from(self.shards.len()).unwrap_or(SHARDS_MAX),
        )
    }

    /// A function that tells a client id's home; for listeners, which outlive a borrow.
    pub fn homes(&self) -> Arc<dyn Fn(&ClientId) -> usize + Send + Sync> {
        let shards = u8::try_from(self.shards.len()).unwrap_or(SHARDS_MAX);
        Arc::new(move |client_id| home(client_id, shards))
    }

    /// The thread of a shard, to run connections on.
    pub fn arbiter(&self, shard: usize) -> ArbiterHandle {
        self.shards[shard].arbiter.handle()
    }

    /// Where a shard takes connects.
    pub fn connects(&self, shard: usize) -> Recipient<ConnectRequest> {
        self.shards[shard].address.clone().recipient()
    }

    /// Ends a client's connection, or with `discard` its session, asleep or not. Gives whether there was one to end.
    pub async fn end_session(&self, client_id: ClientId, refusal: Refusal, discard: bool) -> bool {
        let shard = &self.shards[self.home(&client_id)];
        shard
            .address
            .send(EndSession {
                client_id,
                refusal,
                discard,
            })
            .await
            .unwrap_or(false)
    }

    /// What a client's session shows of itself, awake or asleep; `None` if there is none.
    pub async fn observe_session(&self, client_id: ClientId) -> Option<SessionObservation> {
        let shard = &self.shards[self.home(&client_id)];
        let observe = ObserveSession { client_id };
        shard.address.send(observe).await.ok().flatten()
    }

    /// The groups of shared subscriptions, to observe and to declare.
    pub fn groups(&self) -> GroupsHandle {
        GroupsHandle {
            shared: Arc::clone(&self.shared),
            shards: (self.shards.iter())
                .map(|shard| GroupsShard {
                    batches: shard.address.clone().recipient(),
                    observers: shard.address.clone().recipient(),
                })
                .collect(),
        }
    }

    /// Tells when a part has died without which clients would wait for ever. Nothing ends by itself then: end the process, or
    /// [drain](Self::drain), which does what can still be done, and start anew.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// The broker's time, by which all that it records is reckoned.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock)
    }

    /// The quota, to observe and to change.
    pub fn quota(&self) -> QuotaHandle {
        QuotaHandle {
            quota: Arc::clone(&self.shared.quota),
            sets: self.registry.clone().recipient(),
            changes: self.registry.clone().recipient(),
            shards: self
                .shards
                .iter()
                .map(|shard| shard.address.clone().recipient())
                .collect(),
        }
    }

    /// The tenants, to observe and to limit.
    pub fn tenants(&self) -> TenantsHandle {
        TenantsHandle {
            shared: Arc::clone(&self.shared),
            tenancy: self.tenancy,
        }
    }

    /// A function that observes the system; for metrics, which outlive a borrow.
    pub fn observer(&self) -> impl Fn() -> SystemObservation + Send + Sync + 'static {
        let cells: Vec<_> = self
            .shards
            .iter()
            .map(|shard| Arc::clone(&shard.cells))
            .collect();
        let shared = Arc::clone(&self.shared);
        move || {
            let (group_names, group_members) = {
                let groups = shared.groups.lock();
                (groups.tally().all().count, groups.members() as u64)
            };
            let retained = shared.retained.read();
            let there = retained.tally().all();
            let (expired, lost) = (retained.expired(), retained.lost());
            drop(retained);
            SystemObservation {
                group_names,
                group_members,
                shards: ShardObservation::of_all(&cells),
                journal: shared.journal.observe(),
                appender: shared.appender.observe(),
                checkpoint: shared.checkpointer.observe(),
                quota: shared.quota.observe(),
                retained: there.count,
                retained_bytes: there.bytes,
                retained_expired: expired,
                expired_while_down: shared.expired_while_down,
                clock_ahead_millis: shared.clock.ahead_millis(),
                retained_lost: lost,
                route_backlog_bytes: shared.backlog_bytes(),
                route_filters: shared.routes.filters() as u64,
            }
        }
    }

    /// Closes every connection ("server shutting down"), lets every session record where it is, commits, makes a last
    /// checkpoint and stops all threads. Connections that do not end within `timeout` are left to their fate: what they
    /// were promised is in the journal.
    ///
    /// # Errors
    /// [`StoreError`] if the last checkpoint failed; nothing is lost, the next start replays more.
    pub async fn drain(self, timeout: Duration) -> Result<(), StoreError> {
        self.registry.do_send(Drain);
        let drains: Vec<_> = self
            .shards
            .iter()
            .map(|shard| shard.address.send(Drain))
            .collect();
        let drained = tokio::time::timeout(timeout, async {
            for drain in drains {
                // A shard that is gone has nothing left to drain.
                drain.await.ok();
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                timeout_millis = u64::try_from(timeout.as_millis()).unwrap_or(0),
                "drain timed out"
            );
        }
        let shared = Arc::clone(&self.shared);
        let stopped = tokio::task::spawn_blocking(move || {
            shared.appender.stop();
            shared.checkpointer.stop()
        });
        let result = stopped.await.unwrap_or(Err(StoreError::Stopped));
        for shard in self.shards {
            shard.arbiter.stop();
            if shard.arbiter.join().is_err() {
                tracing::error!("shard thread panicked");
            }
        }
        result
    }
}

/// `hash(client id) % shards`.
fn home(client_id: &ClientId, shards: u8) -> usize {
    let mut hasher = DefaultHasher::new();
    client_id.hash(&mut hasher);
    usize::try_from(hasher.finish() % u64::from(shards)).unwrap_or(0)
}
