//! Metrics as values, and their text form for Prometheus (OpenMetrics 1.0).

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Readiness;

/// Names and values of labels, all from closed sets: never a client id or a topic.
pub type Labels = &'static [(&'static str, &'static str)];

/// How a metric behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives; the name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric with one set of labels, now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// `outlive_<noun>[_<unit>][_total]`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Labels; empty if the metric has none.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A counter.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, labels: Labels, value: f64) -> Self {
        Self {
            name,
            help,
            kind: MetricKind::Counter,
            labels,
            value,
        }
    }

    /// A gauge.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, labels: Labels, value: f64) -> Self {
        Self {
            kind: MetricKind::Gauge,
            ..Self::counter(name, help, labels, value)
        }
    }

    /// `name{label="value",..}`, as a scrape shows it.
    #[must_use]
    pub fn series(&self) -> String {
        if self.labels.is_empty() {
            return self.name.to_owned();
        }
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        format!("{}{{{}}}", self.name, labels.join(","))
    }
}

/// Somebody who has numbers to show. Asked on every scrape; must not block.
pub trait MetricsSource: Send + Sync + 'static {
    /// The numbers as they are now.
    fn collect(&self) -> Vec<Sample>;
}

/// What the admin pages know by themselves.
#[must_use]
pub fn broker_samples(readiness: &Readiness) -> Vec<Sample> {
    vec![
        Sample::gauge(
            "outlive_build_info",
            "Always 1; the label is the version that runs.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        ),
        Sample::gauge(
            "outlive_ready",
            "1 if sessions are rehydrated and every port is open, else 0.",
            &[],
            f64::from(u8::from(readiness.is_ready())),
        ),
    ]
}

/// The text that Prometheus scrapes. Samples of one name need not be neighbours.
///
/// # Errors
/// Writing to a string does not fail; the encoder's signature allows for it.
pub fn exposition(samples: Vec<Sample>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(samples)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Collected(Vec<Sample>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in &self.0 {
            families.entry(sample.name).or_default().push(sample);
        }
        for (name, samples) in families {
            let Some(first) = samples.first() else {
                continue;
            };
            // The encoder puts `_total` behind the name of a counter.
            let (name, kind) = match first.kind {
                MetricKind::Counter => (
                    name.strip_suffix("_total").unwrap_or(name),
                    MetricType::Counter,
                ),
                MetricKind::Gauge => (name, MetricType::Gauge),
            };
            let mut family = encoder.encode_descriptor(name, first.help, None, kind)?;
            for sample in samples {
                if sample.labels.is_empty() {
                    number(&mut family, sample)?;
                } else {
                    number(&mut family.encode_family(&sample.labels)?, sample)?;
                }
            }
        }
        Ok(())
    }
}

fn number(encoder: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    match sample.kind {
        MetricKind::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(&sample.value, None),
        MetricKind::Gauge => encoder.encode_gauge(&sample.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_share_one_description() {
        let page = exposition(vec![
            Sample::counter("outlive_drops_total", "Drops.", &[("reason", "full")], 2.0),
            Sample::gauge("outlive_sessions", "Sessions.", &[], 7.0),
            Sample::counter(
                "outlive_drops_total",
                "Drops.",
                &[("reason", "expired")],
                3.0,
            ),
        ])
        .unwrap();
        assert_eq!(
            page,
            "# HELP outlive_drops Drops.\n# TYPE outlive_drops counter\n\
             outlive_drops_total{reason=\"full\"} 2.0\n\
             outlive_drops_total{reason=\"expired\"} 3.0\n\
             # HELP outlive_sessions Sessions.\n# TYPE outlive_sessions gauge\n\
             outlive_sessions 7.0\n# EOF\n"
        );
    }

    #[test]
    fn a_series_is_written_as_a_scrape_shows_it() {
        let labels: Labels = &[("a", "b"), ("c", "d")];
        let sample = Sample::gauge("outlive_x", "X.", labels, 0.0);
        assert_eq!(sample.series(), r#"outlive_x{a="b",c="d"}"#);
    }
}
