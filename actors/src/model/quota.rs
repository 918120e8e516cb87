//! A limit with its use: counted exactly, by permits that give themselves back.
//!
//! Owns: the count, its high-water mark, the refusals, and when use is worth a warning. Does not know: what a unit is,
//! or what the peer is told when none is left.
//!
//! Invariants: `used` is the number of living permits; [`Quota::try_acquire`] never lifts it above the limit in force
//! at that moment; a lowered limit takes no permit away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How full a quota must be to raise the warning, in percent.
const RAISE_PERCENT: u128 = 80;
/// Below how much of the limit the warning is cleared, in percent.
const CLEAR_PERCENT: u128 = 75;

/// A limit and its use. Shared by `Arc` between threads; lock-free.
#[derive(Debug)]
pub struct Quota {
    /// 0 for no limit.
    limit: AtomicU64,
    used: AtomicU64,
    high_water: AtomicU64,
    refused: AtomicU64,
}

/// One unit of a [`Quota`], released when dropped.
#[derive(Debug)]
#[must_use = "the unit is released at once if the permit is dropped"]
pub struct Permit(Arc<Quota>);

impl Quota {
    /// A quota of `limit` units, all free; 0 for no limit.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            high_water: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Takes a unit; `None`, counted as a refusal, if none is left.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        // The count guards no other memory, so the orderings are relaxed; each change of it is one atomic step.
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let limit = self.limit.load(Ordering::Relaxed);
                (limit == 0 || used < limit).then_some(used + 1)
            });
        match taken {
            Ok(before) => Some(self.permit(before)),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Takes a unit even above the limit: for what is in already, such as a session that survived a restart under a
    /// limit that was lowered meanwhile.
    pub fn adopt(self: &Arc<Self>) -> Permit {
        self.permit(self.used.fetch_add(1, Ordering::Relaxed))
    }

    /// Units taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in force; 0 for none.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit; 0 for none. A limit below the use takes nothing away, it only refuses.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The most units that were ever taken at once.
    pub fn high_water(&self) -> u64 {
        self.high_water.load(Ordering::Relaxed)
    }

    /// How often a unit was asked for and refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn permit(self: &Arc<Self>, used_before: u64) -> Permit {
        self.high_water
            .fetch_max(used_before + 1, Ordering::Relaxed);
        Permit(Arc::clone(self))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a quota is so full that an operator should know, with hysteresis: raised at 80 % of the limit, cleared
/// below 75 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaAlarm {
    raised: bool,
}

/// A change of a [`QuotaAlarm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmEdge {
    /// Use has reached 80 % of the limit.
    Raised,
    /// Use has fallen below 75 % of the limit, or the limit was lifted.
    Cleared,
}

impl QuotaAlarm {
    /// Whether the warning stands.
    pub fn is_raised(self) -> bool {
        self.raised
    }

    /// Takes note of use and limit (0 for none); returns what changed.
    pub fn observe(&mut self, used: u64, limit: u64) -> Option<AlarmEdge> {
        let (used, limit) = (u128::from(used) * 100, u128::from(limit));
        let raised = match limit {
            0 => false,
            _ if self.raised => used >= limit * CLEAR_PERCENT,
            _ => used >= limit * RAISE_PERCENT,
        };
        if raised == self.raised {
            return None;
        }
        self.raised = raised;
        Some(if raised {
            AlarmEdge::Raised
        } else {
            AlarmEdge::Cleared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_a_unit_is_refused_until_one_is_released() {
        let quota = Quota::new(2);
        let first = quota.try_acquire().unwrap();
        let second = quota.try_acquire().unwrap();
        assert!(quota.try_acquire().is_none());
        drop(first);
        assert_eq!(quota.used(), 1);
        let third = quota.try_acquire();
        assert!(third.is_some());
        drop((second, third));
        assert_eq!(
            (quota.used(), quota.high_water(), quota.refused()),
            (0, 2, 1)
        );
    }

    #[test]
    fn a_lowered_limit_throws_nobody_out_and_lets_nobody_in() {
        let quota = Quota::new(3);
        let mut permits: Vec<_> = (0..3).filter_map(|_| quota.try_acquire()).collect();
        quota.set_limit(1);
        assert_eq!(quota.used(), 3);
        permits.truncate(1);
        assert!(quota.try_acquire().is_none());
        permits.clear();
        permits.extend(quota.try_acquire());
        assert_eq!((permits.len(), quota.used()), (1, 1));
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let quota = Quota::new(0);
        let permits: Vec<_> = (0..1_000).filter_map(|_| quota.try_acquire()).collect();
        assert_eq!(
            (permits.len(), quota.used(), quota.refused()),
            (1_000, 1_000, 0)
        );
    }

    #[test]
    fn what_survived_is_adopted_above_the_limit() {
        let quota = Quota::new(1);
        let survivors = [quota.adopt(), quota.adopt()];
        assert_eq!((quota.used(), quota.high_water()), (2, 2));
        assert!(quota.try_acquire().is_none());
        drop(survivors);
        assert_eq!(quota.used(), 0);
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_release_exactly_once() {
        const LIMIT: u64 = 3;
        const THREADS: usize = 8;
        const ROUNDS: u64 = 2_000;
        let quota = Quota::new(LIMIT);
        let held = AtomicU64::new(0);
        let acquired = AtomicU64::new(0);
        let start = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..ROUNDS {
                        if let Some(permit) = quota.try_acquire() {
                            assert!(held.fetch_add(1, Ordering::SeqCst) < LIMIT);
                            acquired.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                            held.fetch_sub(1, Ordering::SeqCst);
                            drop(permit);
                        }
                    }
                });
            }
        });
        assert_eq!(quota.used(), 0);
        assert!(quota.high_water() <= LIMIT);
        assert_eq!(
            acquired.into_inner() + quota.refused(),
            THREADS as u64 * ROUNDS
        );
    }

    #[test]
    fn the_alarm_is_raised_at_eighty_percent_and_cleared_below_seventy_five() {
        let mut alarm = QuotaAlarm::default();
        for (used, limit, expected) in [
            (79, 100, None),
            (80, 100, Some(AlarmEdge::Raised)),
            (100, 100, None),
            (75, 100, None),
            (74, 100, Some(AlarmEdge::Cleared)),
            (79, 100, None),
            (79, 90, Some(AlarmEdge::Raised)),
            (79, 0, Some(AlarmEdge::Cleared)),
            (u64::MAX, u64::MAX, Some(AlarmEdge::Raised)),
        ] {
            assert_eq!(alarm.observe(used, limit), expected, "{used} of {limit}");
        }
        assert!(alarm.is_raised());
    }
}
