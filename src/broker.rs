//! The broker: starts everything in order, runs until it is told to stop, drains in reverse.
//!
//! Start: lock the data directory, recover, build the routes of what survived, and only then open the ports. Stop: close
//! the ports, tell every client, let every session record where it is, make a last checkpoint.

mod run;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use outlive_actors::actor::appender::Durability;
use outlive_actors::actor::protocol::Intake;
use outlive_actors::clock::SystemClock;
use outlive_actors::model::limits::{Overflow, SessionLimits, SharedLimits};
use outlive_actors::model::tally::Amount;
use outlive_actors::store::StoreError;
use outlive_actors::supervise::vitals::Vital;
use outlive_actors::system::{ActorSystem, StartError, SystemConfig};
use thiserror::Error;

pub use self::run::{Again, Signals, run};
use crate::admin::{
    self, ActorMetrics, Admin, Api, Guard, MetricsSource, QuotaApi, Readiness, WireMetrics,
};
use crate::auth::{Anonymous, Authenticator, Scram, Tenancy, Users, UsersError};
use crate::config::{
    Config, Durability as DurabilityKey, MqttConfig, Overflow as OverflowKey, Reloaded,
    SharedConfig,
};
use crate::groups::{self, Declarations, DeclareError, Declared, DeclaredBy, DeclaredFile};
use crate::mqtt::{self, Server, Setup, ShardHandle, WireConfig, WireCounters};
use crate::quota::{Recorder, UsageFiles};

/// How many connections may wait in the system until they are accepted: a fleet that comes back at once.
const BACKLOG: u16 = 8192;

/// Why the broker does not start, or did not stop in good order.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The actors.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A port cannot be opened.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The users cannot be read.
    #[error("auth.scram_file: {0}")]
    Users(#[from] UsersError),
    /// The groups that the API declared cannot be read.
    #[error("declared groups: {0}; repair the file, or remove it to forget them")]
    Groups(#[from] DeclareError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// A part panicked without which clients would wait for ever; nothing acknowledged is lost, the next start recovers.
    #[error("the {0} died, and nothing goes on without it; start the broker again")]
    Died(Vital),
    /// The last checkpoint failed; nothing acknowledged is lost, the next start replays more of the journal.
    #[error("the last checkpoint failed: {0}")]
    Checkpoint(#[from] StoreError),
}

/// A running broker. Must be started and stopped inside one actix system.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    system: ActorSystem,
    server: Server,
    recorder: Recorder,
    groups: Declarations,
    readiness: Arc<Readiness>,
    admin: Option<actix_web::dev::ServerHandle>,
    drain_timeout: Duration,
}

impl Broker {
    /// Starts the broker, with `accepts_loss` although a part of the journal is missing; resolves when it takes
    /// connections.
    ///
    /// # Errors
    /// [`BrokerError`]; what was opened is closed again.
    pub async fn start(config: Config, accepts_loss: bool) -> Result<Self, BrokerError> {
        raise_open_files();
        let readiness = Arc::new(Readiness::default());
        let counters = Arc::new(WireCounters::new());
        let intake = Arc::new(Intake::new(config.mqtt.inbound_bytes_max));
        // Bound first: an address in use is found before anything is recovered. Nobody is accepted yet.
        let listeners = listen(&config)?;
        let authenticator = authenticator(&config)?;
        let admin_listener = config
            .admin
            .listen
            .map(|address| bind("admin.listen", address))
            .transpose()?;
        let (system, groups) = start_actors(&config, accepts_loss).await?;
        let clock = system.clock();
        readiness.rehydrated();
        let usage = UsageFiles::new(&config.storage.data_dir, config.quota.usage_bytes_max);
        let usage = Arc::new(usage);
        let admin = admin_listener
            .map(|listener| {
                let sources: Vec<Arc<dyn MetricsSource>> = vec![
                    Arc::new(ActorMetrics::new(system.observer())),
                    Arc::new(WireMetrics::new(Arc::clone(&counters), Arc::clone(&intake))),
                ];
                let admin = Admin {
                    readiness: Arc::clone(&readiness),
                    sources,
                    api: api(&config, &system, &usage, &groups),
                };
                start_admin(listener, admin)
            })
            .transpose()?;
        let interval_seconds = config.quota.usage_interval_seconds;
        let recorder = Recorder::start(system.quota(), usage, clock.clone(), interval_seconds);
        let shards = (0..system.shards())
            .map(|shard| ShardHandle {
                arbiter: system.arbiter(shard),
                connects: system.connects(shard),
            })
            .collect();
        let setup = Setup {
            shards,
            home: system.homes(),
            config: Arc::new(WireConfig::from(&config.mqtt)),
            authenticator,
            authorizer: Arc::new(Anonymous),
            tenancy: Tenancy::from(&config.tenancy),
            tenants_connects_per_second_max: config.tenancy.connect_rates(),
            intake,
            counters,
            clock,
        };
        let server = mqtt::serve(listeners, setup).map_err(|source| BrokerError::Listen {
            key: "mqtt.listen",
            address: String::new(),
            source,
        })?;
        readiness.listening();
        tracing::info!(addresses = ?server.addresses(), "listening");
        let drain_timeout = Duration::from_millis(u64::from(config.runtime.drain_timeout_millis));
        Ok(Self {
            config,
            system,
            server,
            recorder,
            groups,
            readiness,
            admin,
            drain_timeout,
        })
    }

    /// The actors, to observe or to command.
    pub fn system(&self) -> &ActorSystem {
        &self.system
    }

    /// Where clients can connect.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        self.server.addresses()
    }

    /// Puts a new configuration in force as far as that is possible while the broker runs; gives what became of it.
    pub async fn reload(&mut self, new: &Config) -> Reloaded {
        let reloaded = self.config.reloaded(new);
        let config = &reloaded.config;
        self.server.set_connects_per_second_max(
            config.mqtt.connects_per_second_max,
            config.tenancy.connect_rates(),
        );
        // Also what the API changed meanwhile: the configuration is what counts.
        if let Err(error) = self.system.quota().set((&config.quota).into()).await {
            tracing::error!(%error, "quota not changed");
        }
        self.system.tenants().limit((&config.tenancy).into());
        self.groups
            .reconfigure(groups::configured(&config.shared.groups));
        self.config.clone_from(config);
        reloaded
    }

    /// Closes the ports, tells every client that the broker shuts down, lets every session record where it is.
    ///
    /// # Errors
    /// [`BrokerError::Checkpoint`].
    pub async fn stop(self) -> Result<(), BrokerError> {
        self.readiness.draining();
        self.server.stop_accepting();
        self.recorder.stop().await;
        let result = self.system.drain(self.drain_timeout).await;
        if let Some(admin) = self.admin {
            admin.stop(false).await;
        }
        tracing::info!("stopped");
        Ok(result?)
    }
}

/// Every connection is an open file: the soft limit is raised to the hard one.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "open files allowed"),
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}

fn authenticator(config: &Config) -> Result<Arc<dyn Authenticator>, UsersError> {
    let file = &config.auth.scram_file;
    if file.as_os_str().is_empty() {
        return Ok(Arc::new(Anonymous));
    }
    let users = Users::load(file)?;
    Ok(Arc::new(Scram::new(users, config.auth.allow_anonymous)))
}

fn listen(config: &Config) -> Result<Vec<TcpListener>, BrokerError> {
    let default = MqttConfig::default().listen;
    let mut listeners = Vec::new();
    for address in &config.mqtt.listen {
        match bind("mqtt.listen", *address) {
            // Nobody asked for it: a machine without IPv6 has no such address.
            Err(BrokerError::Listen { source, .. })
                if config.mqtt.listen == default
                    && address.is_ipv6()
                    && source.kind() != std::io::ErrorKind::AddrInUse =>
            {
                tracing::warn!(%address, %source, "not listened on");
            }
            bound => listeners.push(bound?),
        }
    }
    Ok(listeners)
}

fn bind(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, BrokerError> {
    mqtt::bind(address, BACKLOG).map_err(|source| BrokerError::Listen {
        key,
        address: address.to_string(),
        source,
    })
}

/// The actors, and which groups are declared among them.
async fn start_actors(
    config: &Config,
    accepts_loss: bool,
) -> Result<(ActorSystem, Declarations), BrokerError> {
    let file = DeclaredFile::new(&config.storage.data_dir);
    let declared = DeclaredBy {
        configured: groups::configured(&config.shared.groups),
        added: file.read()?,
    };
    let system_config = SystemConfig {
        accepts_loss,
        ..system_config(config, declared.union())
    };
    let system = ActorSystem::start(system_config, Arc::new(SystemClock::new())).await?;
    let groups = Declarations::new(file, system.groups(), declared);
    Ok((system, groups))
}

fn api(
    config: &Config,
    system: &ActorSystem,
    usage: &Arc<UsageFiles>,
    groups: &Declarations,
) -> Option<Api> {
    let address = config.admin.listen?;
    Some(Api {
        guard: Guard::new(address, &config.admin.token),
        quota: QuotaApi {
            quota: system.quota(),
            usage: Arc::clone(usage),
        },
        groups: groups.clone(),
        tenants: system.tenants(),
    })
}

fn start_admin(
    listener: TcpListener,
    admin: Admin,
) -> Result<actix_web::dev::ServerHandle, BrokerError> {
    let address = listener
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let failed = |source| BrokerError::Listen {
        key: "admin.listen",
        address,
        source,
    };
    let server = admin::start(listener, admin).map_err(failed)?;
    let handle = server.handle();
    actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "admin pages ended");
        }
    });
    Ok(handle)
}

fn system_config(config: &Config, declared: Declared) -> SystemConfig {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let shards = match config.runtime.shards {
        0 => u8::try_from(cores).unwrap_or(u8::MAX),
        shards => u8::try_from(shards).unwrap_or(u8::MAX),
    };
    SystemConfig {
        data_dir: config.storage.data_dir.clone(),
        tenancy: Tenancy::from(&config.tenancy).to_string().into(),
        shards,
        limits: SessionLimits {
            expiry_seconds_max: config.session.expiry_seconds_max,
            inflight_max: config.session.inflight_max,
            send_ahead_bytes: config.mqtt.write_buffer_high_bytes,
            exactly_once_v3_max: config.session.inflight_qos2_v3_max,
            subscriptions_max: config.session.subscriptions_max,
            subscriptions_bytes_max: config.session.subscriptions_bytes_max,
            queue_messages_max: config.session.queue_messages_max,
            queue_bytes_max: config.session.queue_bytes_max,
            overflow: match config.session.overflow {
                OverflowKey::DropOldest => Overflow::DropOldest,
                OverflowKey::DropNew => Overflow::DropNew,
                OverflowKey::ExpireSession => Overflow::ExpireSession,
            },
            ..SessionLimits::default()
        },
        shared: shared_limits(&config.shared, declared),
        retained: Amount {
            count: config.retained.messages_max,
            bytes: config.retained.bytes_max,
        },
        tenants: (&config.tenancy).into(),
        quota: (&config.quota).into(),
        durability: match config.log.durability {
            DurabilityKey::Always => Durability::Always,
            DurabilityKey::Interval => Durability::Interval {
                millis: u64::from(config.log.interval_millis),
            },
            DurabilityKey::Never => Durability::Never,
        },
        accepts_loss: false,
        segment_bytes: u32::try_from(config.log.segment_bytes).unwrap_or(u32::MAX),
        journal_bytes_max: config.log.bytes_max,
        cache_bytes: usize::try_from(config.storage.cache_bytes).unwrap_or(usize::MAX),
        checkpoint_interval_millis: u64::from(config.storage.checkpoint_interval_millis),
        takeover_pause_millis: u64::from(config.session.takeover_pause_millis),
        passivate_after_millis: u64::from(config.session.passivate_after_seconds) * 1000,
    }
}

fn shared_limits(config: &SharedConfig, declared: Declared) -> SharedLimits {
    SharedLimits {
        groups_max: config.groups_max,
        filters_per_group_max: config.filters_per_group_max,
        members_per_group_max: config.members_per_group_max,
        changes_per_second_max: config.changes_per_second_max,
        strategy: config.strategy.into(),
        declared,
        require_declared: config.require_declared_groups,
    }
}
