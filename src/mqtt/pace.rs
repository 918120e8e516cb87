//! How many CONNECTs per second the broker takes.
//!
//! Owns: the rate, and what of it is used up. Does not know: what a CONNECT is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use outlive_actors::model::ids::Timestamp;
use tracing::warn;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Milliseconds between two log lines.
const NOTE_MILLIS: u64 = 10_000;

/// A rate with a second's worth of credit. Lock-free, shared by all shards.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0: no limit.
    per_second: AtomicU32,
    /// When all that was taken would have come if it had come at the rate, in nanoseconds of the wall clock.
    paid_at: AtomicU64,
    /// When the last log line was written, in milliseconds.
    noted_at: AtomicU64,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: AtomicU32::new(per_second),
            paid_at: AtomicU64::new(0),
            noted_at: AtomicU64::new(0),
        }
    }

    /// From now on so many per second; 0: no limit.
    pub(super) fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Whether one more may come at `now`.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        let per_second = u64::from(self.per_second.load(Ordering::Relaxed));
        if per_second == 0 {
            return true;
        }
        let nanos = now.0.saturating_mul(NANOS_PER_MILLI);
        let taken = self
            .paid_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| {
                let next = paid_at.max(nanos) + NANOS_PER_SECOND / per_second;
                (next - nanos <= NANOS_PER_SECOND).then_some(next)
            });
        if taken.is_err() {
            self.note(now, per_second);
        }
        taken.is_ok()
    }

    fn note(&self, now: Timestamp, connects_per_second_max: u64) {
        let noted_at = self.noted_at.load(Ordering::Relaxed);
        let is_due = now.0.saturating_sub(noted_at) >= NOTE_MILLIS;
        let set = |at: &AtomicU64| {
            at.compare_exchange(noted_at, now.0, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_due && set(&self.noted_at).is_ok() {
            warn!(
                connects_per_second_max,
                "connects refused: too many per second"
            );
        }
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
