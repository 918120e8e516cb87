//! How the system comes up: recovery, then the threads, each given what it needs of the others.
//!
//! Invariant: when it resolves, the routes of every session that survived are built, so that no publication misses one.

mod inheritance;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use actix::{Actor, Addr};
use actix_rt::Arbiter;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use self::inheritance::{Inheritance, bequeath, inherit};
use super::{ActorSystem, Engine, READERS_PER_SHARD, ShardHandle, StartError, SystemConfig, home};
use crate::actor::appender::{Answer, Appender, AppenderHandle, AppenderParts, Durability, Needed};
use crate::actor::checkpointer::{
    CheckpointConfig, CheckpointSink, Checkpointer, CheckpointerHandle,
};
use crate::actor::group;
use crate::actor::local::{Local, home_of};
use crate::actor::protocol::Committed;
use crate::actor::recovery::{self, GroupsFound, Survivor, begin_epoch, recover};
use crate::actor::registry::{RegistryActor, ShardSide};
use crate::actor::session;
use crate::actor::shard::{Meet, ShardActor};
use crate::actor::shared::{Shared, SharedRoutes};
use crate::clock::{BrokerClock, Clock};
use crate::journal::files::Files;
use crate::journal::reader::SegmentReader;
use crate::journal::recovery::{Known, reopen};
use crate::journal::segments::JournalOptions;
use crate::journal::writer::SegmentWriter;
use crate::journal::{JournalReader, JournalWriter};
use crate::model::entry::Entry;
use crate::model::group::directory::Directory;
use crate::model::ids::{Offset, SHARDS_MAX, ShardId};
use crate::model::limits::{PerTenant, SharedLimits, TenantLimits};
use crate::model::quota::{HighWater, Quota};
use crate::model::retained::{Retained, RetainedAt};
use crate::model::tally::Amount;
use crate::observe::ShardCells;
use crate::store::SnapshotStore;
use crate::store::data_dir::{DataDir, TENANCY_OFF};
use crate::store::replica::Replica;
use crate::supervise::vitals::{Vital, VitalSign, Vitals};

/// So many sessions that expired while the broker was down, and a tenth of all, are worth a warning.
const MANY_EXPIRED: u64 = 10;

/// What survived altogether.
struct Recovered {
    groups: Directory,
    replica: Replica,
    retained: Retained,
    inheritances: Vec<Inheritance>,
    clock: BrokerClock,
    /// Sessions that expired while the broker was down.
    expired: u64,
}

impl Recovered {
    /// Puts limits on what comes; what survived is in.
    fn limit(&mut self, retained: Amount, tenants: PerTenant<TenantLimits>) {
        let tenants = Arc::new(tenants);
        self.retained.limit(retained);
        self.retained.limit_tenants(Arc::clone(&tenants));
        self.groups.limit_tenants(tenants);
    }
}

/// The journal's writing side, and how it is written.
struct Journaling {
    writer: Box<dyn JournalWriter>,
    durability: Durability,
    bytes_max: u64,
    sign: VitalSign,
}

/// Starts everything on these files.
pub(super) async fn start(
    config: SystemConfig,
    machine: Arc<dyn Clock>,
    engine: Engine,
    data_dir: Option<DataDir>,
) -> Result<ActorSystem, StartError> {
    let Engine { store, files } = engine;
    let (writer, reader, epoch) = open_journal(&config, &*store, files)?;
    let journal: Arc<dyn JournalReader> = reader;
    let shards = config.shards.clamp(1, SHARDS_MAX);
    let shared_limits = Arc::new(config.shared.clone());
    let mut recovered = bring_back(&store, &*journal, machine, (shards, epoch), &shared_limits)?;
    recovered.limit(config.retained, config.tenants.clone());
    let clock: Arc<dyn Clock> = Arc::new(recovered.clock);
    let high_water = recovered.replica.high_water();
    let (appender, appending) = Appender::new();
    let vitals = Vitals::default();
    let retained = Arc::new(RwLock::new(recovered.retained));
    let checkpointer = start_checkpointer(
        &config,
        recovered.replica,
        (&clock, &vitals),
        &appending,
        &retained,
    )?;
    let shared = Arc::new(Shared {
        clock: Arc::clone(&clock),
        expired_while_down: recovered.expired,
        limits: Arc::new(config.limits),
        groups: Mutex::new(recovered.groups),
        routes: Arc::new(SharedRoutes::default()),
        retained,
        quota: Quota::new(config.quota.clone()),
        appender: appending,
        journal,
        checkpointer,
        epoch,
        sessions_begun: AtomicU64::new(0),
        backlogs: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        takeover_pause_millis: config.takeover_pause_millis,
        registry: OnceLock::new(),
        passivate_after_millis: config.passivate_after_millis,
        #[cfg(feature = "testing")]
        faults: Default::default(),
    });
    shared.quota.restore_high_water(high_water);
    let shards = start_shards(&shared, &vitals, recovered.inheritances).await?;
    let journaling = Journaling {
        writer: Box::new(writer),
        durability: config.durability,
        bytes_max: config.journal_bytes_max,
        sign: vitals.sign(Vital::Appender),
    };
    start_appender(appender, journaling, &shared, &shards)?;
    let registry = start_registry(&shared, &vitals, &shards, high_water);
    // Set once: the system has just been made.
    shared.registry.set(registry.clone().recipient()).ok();
    Ok(ActorSystem {
        shards,
        shared,
        registry,
        vitals,
        tenancy: *config.tenancy != *TENANCY_OFF,
        _data_dir: data_dir,
    })
}

fn start_registry(
    shared: &Shared,
    vitals: &Vitals,
    shards: &[ShardHandle],
    high_water: HighWater,
) -> Addr<RegistryActor> {
    let nobody = ShardId(SHARDS_MAX);
    let sides = shards.iter().map(|shard| ShardSide {
        offers: shard.address.clone().recipient(),
        evicts: shard.address.clone().recipient(),
        admits: shard.address.clone().recipient(),
    });
    RegistryActor::new(
        Arc::clone(&shared.quota),
        shared.appender.clone(),
        Arc::clone(&shared.clock),
        sides.collect(),
        nobody,
        high_water,
        vitals.sign(Vital::Registry),
    )
    .start()
}

/// Opens the journal for the next boot epoch, held to what the store says of it.
fn open_journal(
    config: &SystemConfig,
    store: &dyn SnapshotStore,
    files: Arc<dyn Files>,
) -> Result<(SegmentWriter, Arc<SegmentReader>, u32), StartError> {
    let options = JournalOptions {
        segment_bytes_max: config.segment_bytes,
        ..JournalOptions::default()
    };
    let marks = store.marks()?;
    let epoch = marks.epoch.saturating_add(1);
    let known = Known {
        epoch,
        covers: marks.covers,
        holds: marks.holds,
        // What a power cut may take must not keep the broker down.
        accepts_loss: config.accepts_loss || config.durability != Durability::Always,
    };
    let (writer, reader) = reopen(files, options, known)?;
    Ok((writer, reader, epoch))
}

/// Recovers, and deals out what survived to its shards.
fn bring_back(
    store: &Arc<dyn SnapshotStore>,
    journal: &dyn JournalReader,
    machine: Arc<dyn Clock>,
    (shards, epoch): (u8, u32),
    shared_limits: &Arc<SharedLimits>,
) -> Result<Recovered, StartError> {
    let mut retained = Retained::new();
    let mut inheritances: Vec<Inheritance> = Vec::new();
    inheritances.resize_with(usize::from(shards), Inheritance::default);
    let mut found = GroupsFound::default();
    let mut deal = |survivor: Survivor<'_>| match survivor {
        Survivor::Session(summary) => {
            found.session(&summary);
            let heir = &mut inheritances[home(&summary.client_id, shards)];
            heir.sessions.push(summary);
        }
        Survivor::Expired(expired) => {
            let heir = &mut inheritances[home(&expired.client_id, shards)];
            heir.expired.push(expired);
        }
        Survivor::Group {
            number,
            filter,
            next,
        } => found.group(number, filter, next),
        Survivor::Retained { topic, at } => retained.set(topic, at),
    };
    let recovered = recover(Arc::clone(store), journal, machine, &mut deal)?;
    begin_epoch(&**store, journal.holds())?;
    // A part of the journal may be missing, or have been dropped after the last checkpoint.
    let lost = retained.outside(&journal.parts());
    if !lost.is_empty() {
        tracing::warn!(
            retained = lost.len(),
            "retained messages are lost with their records"
        );
    }
    retained.lose(lost);
    let (groups, survivors, over) = found.settle(Arc::clone(shared_limits), epoch);
    for group in survivors {
        let home = home_of(&group.filter, usize::from(shards));
        inheritances[usize::from(home.0)].groups.push(group);
    }
    // Their end may be recorded by anybody.
    inheritances[0].over = over;
    warn_of_many(&recovered);
    tracing::info!(
        sessions = recovered.sessions,
        expired = recovered.expired,
        replayed = recovered.replayed,
        groups = groups.tally().all().count,
        epoch,
        "recovered"
    );
    Ok(Recovered {
        groups,
        replica: recovered.replica,
        retained,
        inheritances,
        clock: recovered.clock,
        expired: recovered.expired,
    })
}

/// Many sessions that end at once are what a wrong clock looks like, and nothing but the wall clock tells how long a machine
/// was off.
fn warn_of_many(recovered: &recovery::Recovered) {
    let of = recovered.expired + recovered.sessions;
    let many = recovered.expired >= MANY_EXPIRED && recovered.expired * 10 >= of;
    if many && !recovered.clock.goes_on() {
        tracing::warn!(
            expired = recovered.expired,
            of,
            wall_clock_millis = recovered.clock.wall().0,
            alive_at_millis = recovered.replica.alive_at().0,
            "many sessions expired while the machine was off, as its wall clock says: if that clock is wrong, they are gone for nothing; \
             have it set before the broker starts"
        );
    }
}

fn start_checkpointer(
    config: &SystemConfig,
    replica: Replica,
    (clock, vitals): (&Arc<dyn Clock>, &Vitals),
    appender: &AppenderHandle,
    retained: &Arc<RwLock<Retained>>,
) -> Result<CheckpointerHandle, StartError> {
    let checkpoints = CheckpointConfig {
        interval_millis: config.checkpoint_interval_millis,
        ..Default::default()
    };
    let trimming = appender.clone();
    let retained = Arc::clone(retained);
    Checkpointer::start(
        replica,
        checkpoints,
        Arc::clone(clock),
        vitals.sign(Vital::Checkpointer),
        Box::new(move |trim| {
            trimming.trim(Needed {
                covered: trim.covers,
                floor: trim.floor,
                pinned: trim.pins.pinned,
                unpinned: trim.pins.unpinned,
            });
        }),
        Box::new(move |now, max| {
            let mut retained = retained.write();
            retained.expire(now, max);
            retained.take_gone(max)
        }),
    )
    .map_err(|source| StartError::Io {
        what: "checkpointer thread",
        source,
    })
}

async fn start_shards(
    shared: &Arc<Shared>,
    vitals: &Vitals,
    inheritances: Vec<Inheritance>,
) -> Result<Vec<ShardHandle>, StartError> {
    let count = inheritances.len();
    let mut shards = Vec::with_capacity(count);
    let mut expired = Vec::with_capacity(count);
    for (number, mut inheritance) in (0u8..).zip(inheritances) {
        expired.push(std::mem::take(&mut inheritance.expired));
        let arbiter = Arbiter::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(READERS_PER_SHARD)
                .build()
                .expect("a runtime needs no more than an epoll descriptor")
        });
        let cells = Arc::new(ShardCells::default());
        let (started, address) = oneshot::channel();
        let sign = vitals.sign(Vital::Shard(ShardId(number)));
        let (shared, shard_cells) = (Arc::clone(shared), Arc::clone(&cells));
        arbiter.spawn_fn(move || {
            let mut local = Local::new(ShardId(number), count, shared, shard_cells);
            inherit(&mut local, inheritance);
            let local = Rc::new(RefCell::new(local));
            let address = ShardActor::new(local, session::spawn, group::spawn, sign).start();
            started.send(address).ok();
        });
        let address = address.await.map_err(|_| StartError::Shard(number))?;
        shards.push(ShardHandle {
            arbiter,
            address,
            cells,
        });
    }
    for (number, (shard, expired)) in (0u8..).zip(shards.iter().zip(expired)) {
        let addresses = || shards.iter().map(|shard| shard.address.clone());
        let meet = Meet {
            routes: addresses().map(|address| address.recipient()).collect(),
            groups: addresses().map(|address| address.recipient()).collect(),
            first: Box::new(|local| bequeath(local, expired)),
        };
        let met = shard.address.send(meet).await;
        met.map_err(|_| StartError::Shard(number))?;
    }
    Ok(shards)
}

fn start_appender(
    appender: Appender,
    journaling: Journaling,
    shared: &Arc<Shared>,
    shards: &[ShardHandle],
) -> Result<(), StartError> {
    let answers = shards
        .iter()
        .map(|shard| {
            let address = shard.address.clone();
            Box::new(move |committed: Committed| address.do_send(committed)) as Answer
        })
        .collect();
    let routes = Arc::clone(&shared.routes);
    let retained = Arc::clone(&shared.retained);
    let (losing, journal) = (Arc::clone(&shared.retained), Arc::clone(&shared.journal));
    let checkpoints = shared.checkpointer.sink();
    let parts = AppenderParts {
        writer: journaling.writer,
        durability: journaling.durability,
        bytes_max: journaling.bytes_max,
        sign: journaling.sign,
        answers,
        targets: Box::new(move |message| routes.targets(message)),
        sink: Box::new(move |mut entries: Vec<(Offset, Entry)>| {
            retain(&retained, &entries);
            let end = entries
                .last()
                .map_or(Offset::default(), |(at, _)| at.next());
            entries.retain(|(_, entry)| CheckpointSink::wants(entry));
            if checkpoints.send_below(entries, end).is_err() {
                tracing::error!("checkpointer is gone, the journal grows until the next start");
            }
        }),
        loss: Box::new(move || {
            let lost = losing.read().outside(&journal.parts());
            losing.write().lose(lost);
        }),
    };
    appender.start(parts).map_err(|source| StartError::Io {
        what: "appender thread",
        source,
    })
}

/// Keeps the table of retained messages in step with the journal.
fn retain(retained: &RwLock<Retained>, entries: &[(Offset, Entry)]) {
    for (offset, entry) in entries {
        if let Entry::Message { message, .. } = entry
            && message.retain
        {
            match RetainedAt::of(*offset, message) {
                Some(at) => retained.write().set(message.topic(), at),
                None => retained.write().clear(message.topic()),
            }
        }
    }
}
