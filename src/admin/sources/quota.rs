//! The numbers of the session quota.

use outlive_actors::model::quota::QuotaObservation;

use super::super::metrics::Sample;
use super::{number, plain_gauge};

/// All of them; who uses how much is no metric, for its names are no closed set.
pub(super) fn samples(quota: &QuotaObservation) -> [Sample; 9] {
    let refused = |labels, value| {
        let help = "Newcomers refused at a session quota, by the limit that was reached.";
        let name = "outlive_session_quota_refused_total";
        Sample::counter(name, help, labels, number(value))
    };
    [
        plain_gauge(
            "outlive_session_quota_limit",
            "quota.sessions_max; 0 = none.",
            quota.limit,
        ),
        plain_gauge(
            "outlive_session_quota_reserved",
            "Units of quota.reserved in all.",
            quota.reserved,
        ),
        plain_gauge(
            "outlive_session_quota_used",
            "Sessions, online and offline.",
            quota.used,
        ),
        plain_gauge(
            "outlive_session_quota_high_water",
            "The most sessions that were ever there at once, earlier starts included.",
            quota.high_water.units,
        ),
        plain_gauge(
            "outlive_session_quota_high_water_seconds",
            "When that was first so, as Unix time.",
            quota.high_water.at.0 / 1000,
        ),
        plain_gauge(
            "outlive_session_quota_warning",
            "1 from 80 % of quota.sessions_max on until use is below 75 %, else 0.",
            u64::from(quota.warning),
        ),
        refused(&[("limit", "sessions")], quota.refused.sessions),
        refused(&[("limit", "principal")], quota.refused.principal),
        refused(&[("limit", "listener")], quota.refused.listener),
    ]
}
