//! Where the time comes from: an input, so that tests turn it by hand.
//!
//! Owns: the broker's time, by which all deadlines are reckoned that must survive a restart. It goes on through restarts within
//! one boot of the machine, whatever is done to the wall clock; only the first start of a boot looks at that
//! ([ADR 16](../../docs/adr/0016-broker-time.md)).

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::ids::{BootTime, Stamp, Timestamp};

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;

    /// The same moment by the boot of the machine. `None` if the clock does not know: then each start of the broker counts as
    /// the first one after a boot, and the broker's time follows every step of [`Self::now`].
    fn boot(&self) -> Option<BootTime> {
        None
    }

    /// What the machine's wall clock shows.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// [`Self::now`] less [`Self::wall`], in milliseconds.
    fn ahead_millis(&self) -> i64 {
        let (now, wall) = (self.now().0, self.wall().0);
        now.cast_signed().saturating_sub(wall.cast_signed())
    }
}

/// The clocks of the machine: the wall clock, which can be set, and the one that counts from its boot, which cannot.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    boot: u128,
}

impl SystemClock {
    /// The clocks of this machine.
    pub fn new() -> Self {
        // A machine that does not name its boots is a new one for each process.
        let unknown = || RandomState::new().hash_one(()).into();
        Self {
            boot: boot_id().unwrap_or_else(unknown),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(&self) -> Option<BootTime> {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        Some(BootTime {
            boot: self.boot,
            millis: seconds
                .saturating_mul(1000)
                .saturating_add(nanos / 1_000_000),
        })
    }
}

/// A number that the kernel drew when the machine began.
fn boot_id() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// The broker's time. While the broker runs it goes on with the machine's boot, and does not step when the wall clock is set.
#[derive(Clone, Debug)]
pub struct BrokerClock {
    machine: Arc<dyn Clock>,
    /// The time of the start, by the broker and by the machine's wall clock.
    started: (Timestamp, Timestamp),
    booted: Option<BootTime>,
    goes_on: bool,
}

impl BrokerClock {
    /// Goes on from `stamp` if the machine is still in the boot of it. In another boot its wall clock is all there is, but the
    /// broker was alive at `alive_at`: it is not earlier.
    pub fn resume(machine: Arc<dyn Clock>, stamp: Option<Stamp>, alive_at: Timestamp) -> Self {
        let (wall, booted) = (machine.now(), machine.boot());
        let since = stamp
            .zip(booted)
            .filter(|(stamp, now)| stamp.boot.boot == now.boot)
            .map(|(stamp, now)| (stamp.at, now.millis.saturating_sub(stamp.boot.millis)));
        let now = since.map_or(wall, |(at, millis)| plus_millis(at, millis));
        Self {
            started: (now.max(alive_at), wall),
            booted,
            goes_on: since.is_some(),
            machine,
        }
    }

    /// Whether it goes on within the boot of the machine in which the broker ran last.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }
}

impl Clock for BrokerClock {
    fn now(&self) -> Timestamp {
        let (started, wall) = self.started;
        let elapsed = match self.booted.zip(self.machine.boot()) {
            Some((then, now)) => now.millis.saturating_sub(then.millis),
            None => self.machine.now().millis_since(wall),
        };
        plus_millis(started, elapsed)
    }

    fn boot(&self) -> Option<BootTime> {
        self.machine.boot()
    }

    fn wall(&self) -> Timestamp {
        self.machine.now()
    }
}

fn plus_millis(at: Timestamp, millis: u64) -> Timestamp {
    Timestamp(at.0.saturating_add(millis))
}

/// A machine whose clock stands still until it is turned.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    wall: AtomicU64,
    boot: AtomicU64,
    since_boot: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `at`, of a machine that has just begun.
    pub fn new(at: Timestamp) -> Self {
        let clock = Self::default();
        clock.set(at);
        clock
    }

    /// Time goes by.
    pub fn advance_millis(&self, millis: u64) {
        self.0.wall.fetch_add(millis, Ordering::SeqCst);
        self.0.since_boot.fetch_add(millis, Ordering::SeqCst);
    }

    /// Somebody sets the clock; no time goes by.
    pub fn set(&self, at: Timestamp) {
        self.0.wall.store(at.0, Ordering::SeqCst);
    }

    /// The machine begins anew.
    pub fn reboot(&self) {
        self.0.boot.fetch_add(1, Ordering::SeqCst);
        self.0.since_boot.store(0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.wall.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Option<BootTime> {
        Some(BootTime {
            boot: self.0.boot.load(Ordering::SeqCst).into(),
            millis: self.0.since_boot.load(Ordering::SeqCst),
        })
    }
}

#[cfg(test)]
mod tests;
