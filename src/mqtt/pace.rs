//! How many CONNECTs per second the broker takes, in all and of each tenant.
//!
//! Owns: the rates, and what of them is used up. Does not know: what a CONNECT is.

mod tenants;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use outlive_actors::model::ids::Timestamp;
use tracing::warn;

pub(super) use tenants::TenantPaces;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Milliseconds between two log lines.
const NOTE_MILLIS: u64 = 10_000;

/// What the connections that come have to keep to.
#[derive(Debug)]
pub(super) struct Paces {
    /// All of them.
    pub(super) total: Pace,
    /// Those of each tenant.
    pub(super) tenants: TenantPaces,
}

/// A rate with a second's worth of credit. Lock-free, shared by all shards.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0: no limit.
    per_second: AtomicU32,
    paid_at: AtomicU64,
    notes: Notes,
}

/// When all that was taken would have come if it had come at the rate, in nanoseconds of the wall clock, once one more
/// is taken at `now`; `None` if there is no credit for it. What it was before is in the past as soon as there is credit
/// for a whole second again.
fn paid_at(before: u64, now: Timestamp, per_second: u32) -> Option<u64> {
    let now = nanos(now);
    let next = before.max(now) + NANOS_PER_SECOND / u64::from(per_second);
    (next - now <= NANOS_PER_SECOND).then_some(next)
}

fn nanos(at: Timestamp) -> u64 {
    at.0.saturating_mul(NANOS_PER_MILLI)
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: AtomicU32::new(per_second),
            paid_at: AtomicU64::new(0),
            notes: Notes::default(),
        }
    }

    /// From now on so many per second; 0: no limit.
    pub(super) fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Whether one more may come at `now`.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return true;
        }
        let taken = self
            .paid_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                paid_at(before, now, per_second)
            });
        if taken.is_err() && self.notes.is_due(now) {
            warn!(
                connects_per_second_max = per_second,
                "connects refused: too many per second"
            );
        }
        taken.is_ok()
    }
}

/// When the last log line was written, in milliseconds.
#[derive(Debug, Default)]
struct Notes(AtomicU64);

impl Notes {
    /// Whether it is time for another one, which is written then.
    fn is_due(&self, now: Timestamp) -> bool {
        let noted_at = self.0.load(Ordering::Relaxed);
        now.0.saturating_sub(noted_at) >= NOTE_MILLIS
            && self
                .0
                .compare_exchange(noted_at, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &Pace, at: u64, asked: u32) -> usize {
        (0..asked).filter(|_| pace.take(Timestamp(at))).count()
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_the_rate() {
        let pace = Pace::new(10);
        assert_eq!(taken(&pace, 5_000, 100), 10);
        assert_eq!(taken(&pace, 5_099, 100), 0);
        assert_eq!(taken(&pace, 5_100, 100), 1);
        assert_eq!(taken(&pace, 5_500, 100), 4);
        assert_eq!(
            taken(&pace, 60_000, 100),
            10,
            "credit does not grow beyond a second"
        );
    }

    #[test]
    fn without_a_limit_all_come_and_a_limit_counts_from_when_it_is_set() {
        let pace = Pace::new(0);
        assert_eq!(taken(&pace, 1, 1_000), 1_000);
        pace.set(1);
        assert_eq!(taken(&pace, 1, 1_000), 1);
    }
}
