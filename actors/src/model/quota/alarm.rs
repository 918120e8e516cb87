//! When a quota is so full that an operator should know.

/// How full a quota must be to raise the warning, in percent.
const RAISE_PERCENT: u128 = 80;
/// Below how much of the limit the warning is cleared, in percent.
const CLEAR_PERCENT: u128 = 75;

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
