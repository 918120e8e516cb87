//! Nanoseconds since the start of the program: the one place that asks the machine for the time.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first call.
#[expect(
    clippy::disallowed_methods,
    reason = "a load generator measures real time"
)]
pub(crate) fn nanos() -> u64 {
    let start = *START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds in this many seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds from the command line, far from the limits"
)]
pub(crate) fn from_seconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}

/// Seconds in this many nanoseconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
