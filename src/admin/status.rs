//! The page `/status`: the same numbers as `/metrics`, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Readiness, Sample};

/// What the page says.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    ready: bool,
    missing: Vec<String>,
    /// By series: name and labels.
    metrics: BTreeMap<String, f64>,
}

impl Status {
    pub(super) fn new(readiness: &Readiness, samples: &[Sample]) -> Self {
        let missing = readiness.missing();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: missing.is_empty(),
            missing: missing.iter().map(ToString::to_string).collect(),
            metrics: samples
                .iter()
                .map(|sample| (sample.series(), sample.value))
                .collect(),
        }
    }
}
