//! An actor system with the machine that it runs on.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use outlive_actors::actor::appender::Durability;
use outlive_actors::clock::ManualClock;
use outlive_actors::journal::JournalReader as _;
use outlive_actors::journal::memory::MemoryFiles;
use outlive_actors::journal::recovery;
use outlive_actors::journal::segments::JournalOptions;
use outlive_actors::model::counter::Counter;
use outlive_actors::model::entry::Entry;
use outlive_actors::model::ids::{ClientId, Offset, Timestamp};
use outlive_actors::model::limits::{PerTenant, SessionLimits, SharedLimits};
use outlive_actors::model::quota::QuotaLimits;
use outlive_actors::model::tally::Amount;
use outlive_actors::observe::Gauge;
use outlive_actors::store::memory::MemoryStore;
use outlive_actors::system::{ActorSystem, Engine, SystemConfig, SystemObservation};

use crate::client::{Client, Setup};

/// How long a fact may take to become true. Generous: it only matters when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// After so long in milliseconds of the manual clock a detached session has no actor any more.
pub(crate) const PASSIVATE_AFTER_MILLIS: u64 = 5_000;

/// Runs a test on an actix system of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// Whether it is a publication.
pub(crate) fn is_message(entry: &Entry) -> bool {
    matches!(entry, Entry::Message { .. })
}

/// One machine: disk, clock, and the system that runs on it.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) files: MemoryFiles,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) config: SystemConfig,
    system: Option<ActorSystem>,
}

impl World {
    /// A machine with an empty disk, started.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As [`Self::start`], with a configuration of one's own.
    pub(crate) async fn start_with(change: impl FnOnce(&mut SystemConfig)) -> Self {
        let mut config = SystemConfig {
            tenancy: "off".into(),
            journal_bytes_max: 0,
            data_dir: "not looked at".into(),
            shards: 2,
            limits: SessionLimits::default(),
            shared: SharedLimits::default(),
            retained: Amount::default(),
            tenants: PerTenant::default(),
            quota: QuotaLimits::default(),
            durability: Durability::Always,
            accepts_loss: false,
            segment_bytes: 1 << 20,
            cache_bytes: 1 << 20,
            checkpoint_interval_millis: 20,
            takeover_pause_millis: 1_000,
            passivate_after_millis: PASSIVATE_AFTER_MILLIS,
        };
        change(&mut config);
        let mut world = Self {
            clock: ManualClock::new(Timestamp(1_700_000_000_000)),
            files: MemoryFiles::new(),
            store: Arc::new(MemoryStore::new()),
            config,
            system: None,
        };
        world.boot().await;
        world
    }

    /// Starts on what the disk holds.
    pub(crate) async fn boot(&mut self) {
        let engine = Engine {
            store: self.store.clone(),
            files: Arc::new(self.files.clone()),
        };
        let clock = Arc::new(self.clock.clone());
        let started = ActorSystem::start_with(self.config.clone(), clock, engine).await;
        self.system = Some(started.expect("the system starts"));
    }

    pub(crate) fn system(&self) -> &ActorSystem {
        self.system.as_ref().expect("the system runs")
    }

    pub(crate) fn observe(&self) -> SystemObservation {
        self.system().observer()()
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.observe().shards.counter(counter)
    }

    pub(crate) fn gauge(&self, gauge: Gauge) -> i64 {
        self.observe().shards.gauge(gauge)
    }

    /// What a start after a power cut would find in the journal, without the registry's stamps: those come when they
    /// please.
    pub(crate) fn recorded(&self) -> Vec<Entry> {
        let files = Arc::new(self.files.crash(0));
        let (_, journal) = recovery::open(files, JournalOptions::default(), 1).expect("in order");
        let mut entries = Vec::new();
        journal
            .replay(Offset(0), &mut |_, entry| match entry {
                Entry::Liveness { .. } | Entry::HighWater(_) => {}
                entry => entries.push(entry),
            })
            .expect("readable");
        entries
    }

    /// Waits until what the system shows of itself is as it should be.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&SystemObservation) -> bool) {
        let observe = self.system().observer();
        let fact = async {
            while !is_so(&observe()) {
                tokio::task::yield_now().await;
                actix_rt::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, fact).await.is_err() {
            panic!("never came true: {what}; {:#?}", observe());
        }
    }

    /// Waits until only `attached` sessions have an actor; turns the clock as far as that takes.
    pub(crate) async fn passivate(&self, attached: i64) {
        self.until("the others are detached", |seen| {
            seen.shards.gauge(Gauge::SessionsOnline) == attached
        })
        .await;
        self.clock.advance_millis(PASSIVATE_AFTER_MILLIS);
        self.until("the others are passive", |seen| {
            seen.shards.gauge(Gauge::SessionActors) == attached
        })
        .await;
    }

    /// A connection that asks for a session; see what comes of it with the client's methods.
    pub(crate) fn ask(&self, client_id: &str, setup: Setup) -> Client {
        Client::ask(self.system(), ClientId::from(client_id), setup)
    }

    /// A connection that is attached.
    pub(crate) async fn connect(&self, client_id: &str, setup: Setup) -> Client {
        let mut client = self.ask(client_id, setup);
        client.attached().await;
        client
    }

    /// Stops in good order.
    pub(crate) async fn stop(&mut self) {
        let system = self.system.take().expect("the system runs");
        let drained = tokio::time::timeout(PATIENCE, system.drain(2 * PATIENCE)).await;
        drained
            .expect("the drain comes to an end")
            .expect("the last checkpoint is written");
    }

    /// Stops in good order and starts again.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.boot().await;
    }

    /// Cuts the power, and starts again on what the disk kept.
    pub(crate) async fn crash(&mut self, seed: u64) {
        // Both at one moment: the store never says more than the journal, and the journal lets go of nothing that a
        // checkpoint does not hold.
        let (store, files) = loop {
            let commits = self.store.commits();
            let both = (self.store.crash(), self.files.crash(seed));
            if self.store.commits() == commits {
                break both;
            }
        };
        let dead = self.system.take().expect("the system runs");
        self.store = Arc::new(store);
        self.files = files;
        // What it still does, it does to a disk that nobody looks at.
        drop(dead.drain(Duration::ZERO).await);
        self.boot().await;
    }
}
