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

/// One that a [`Pace`] let come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    at: Timestamp,
    /// What it used up; 0: there was no limit.
    nanos: u64,
}

/// When all that was taken would have come if it had come at the rate, in nanoseconds of the broker's time, once one more
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

    /// Lets one more come at `now`; `None` if there are too many.
    pub(super) fn take(&self, now: Timestamp) -> Option<Taken> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return Some(Taken { at: now, nanos: 0 });
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
        taken.ok().map(|_| Taken {
            at: now,
            nanos: NANOS_PER_SECOND / u64::from(per_second),
        })
    }

    /// One that was taken did not come after all. What was taken a second ago or longer has come back by itself if nobody
    /// needed it, and is not given back: so no more than a second's worth ever comes on top of the rate.
    pub(super) fn give_back(&self, taken: Taken, now: Timestamp) {
        if nanos(now) >= nanos(taken.at).saturating_add(NANOS_PER_SECOND) {
            return;
        }
        self.paid_at
            .update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| {
                paid_at.saturating_sub(taken.nanos)
            });
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
        let asked = 0..asked;
        asked.filter_map(|_| pace.take(Timestamp(at))).count()
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

    #[test]
    fn what_is_given_back_another_takes_unless_it_has_come_back_by_itself() {
        let pace = Pace::new(2);
        let [first, second] = [5_000, 5_001].map(|at| pace.take(Timestamp(at)).unwrap());
        assert_eq!(taken(&pace, 5_100, 10), 0);
        pace.give_back(first, Timestamp(5_100));
        assert_eq!(taken(&pace, 5_100, 10), 1);
        assert_eq!(taken(&pace, 6_001, 10), 2);
        pace.give_back(second, Timestamp(6_001));
        assert_eq!(taken(&pace, 6_001, 10), 0);
        // However much is given back, there is credit for a second.
        let taken_at_once = [7_001, 7_001].map(|at| pace.take(Timestamp(at)).unwrap());
        for given in taken_at_once {
            pace.give_back(given, Timestamp(7_900));
        }
        assert_eq!(taken(&pace, 7_900, 10), 2);
    }

    #[test]
    fn what_came_without_a_limit_gives_nothing_back() {
        let pace = Pace::new(0);
        let free = pace.take(Timestamp(5_000)).unwrap();
        pace.set(1);
        assert_eq!(taken(&pace, 5_000, 10), 1);
        pace.give_back(free, Timestamp(5_000));
        assert_eq!(taken(&pace, 5_000, 10), 0);
    }
}
