//! What one run of a workload against one broker gave.

use hdrhistogram::Histogram;

use crate::failure::Failure;

/// Nanoseconds from publish to delivery, or from connect to CONNACK.
pub(crate) type Latency = Histogram<u64>;

/// An empty histogram.
pub(crate) fn latency() -> Latency {
    Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("bounds are in order")
}

/// Messages that did not arrive as promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Never arrived.
    pub(crate) lost: u64,
    /// Arrived again.
    pub(crate) doubled: u64,
    /// Arrived after a later one of the same publisher and topic.
    pub(crate) reordered: u64,
    /// Arrived and was never sent, or unreadable.
    pub(crate) foreign: u64,
}

impl Faults {
    /// None at all.
    pub(crate) fn none(self) -> bool {
        self == Self::default()
    }
}

/// A further figure of a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// What was measured in one run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What `count` counts.
    pub(crate) unit: &'static str,
    /// Deliveries, or connects, in the measured window.
    pub(crate) count: u64,
    /// Length of the window.
    pub(crate) seconds: f64,
    /// CPU time of the broker in the window.
    pub(crate) cpu_seconds: f64,
    /// From publish to delivery.
    pub(crate) latency: Option<Latency>,
    /// Resident memory of the broker at the end of the window.
    pub(crate) rss_bytes: u64,
    /// What else there is to say.
    pub(crate) extras: Vec<Extra>,
    /// What went wrong.
    pub(crate) faults: Faults,
}

impl Outcome {
    /// Deliveries (or connects) per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds.max(1e-9)
    }

    /// CPU seconds of the broker per million.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu_seconds * 1e6 / (self.count.max(1) as f64)
    }
}

/// One workload against one broker, all rounds.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Name of the workload.
    pub(crate) workload: &'static str,
    /// Name of the broker.
    pub(crate) broker: String,
    /// The round with the median cost, or the first failure.
    pub(crate) result: Result<Outcome, Failure>,
    /// CPU seconds per million of every round that could be measured.
    pub(crate) costs: Vec<f64>,
}

impl Measured {
    /// Keeps the median round; a failed or faulty round stands for all.
    pub(crate) fn from_rounds(
        workload: &'static str,
        broker: &str,
        rounds: Vec<Result<Outcome, Failure>>,
    ) -> Self {
        let mut sound = Vec::new();
        let mut bad = None;
        for round in rounds {
            match round {
                Ok(outcome) if outcome.faults.none() => sound.push(outcome),
                other => bad = Some(other),
            }
        }
        sound.sort_by(|one, other| one.cost().total_cmp(&other.cost()));
        let costs = sound.iter().map(Outcome::cost).collect();
        let result = match bad {
            Some(bad) => bad,
            None => Ok(sound.swap_remove(sound.len() / 2)),
        };
        Self {
            workload,
            broker: broker.to_owned(),
            result,
            costs,
        }
    }

    /// Measured, and every message accounted for.
    pub(crate) fn sound(&self) -> bool {
        matches!(&self.result, Ok(outcome) if outcome.faults.none())
    }
}
