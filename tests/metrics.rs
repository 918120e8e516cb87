//! `docs/metrics.md` against the code: every metric is on the page, and nothing else is. A source of samples that is
//! not in `every_sample` is not checked: add it there. `UPDATE_DOCS=1 cargo test --test metrics` writes the table anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use outlive::admin::{
    ActorMetrics, MetricKind, MetricsSource, Readiness, Sample, WireMetrics, broker_samples,
};
use outlive_actors::actor::protocol::Intake;
use outlive_actors::system::SystemObservation;

/// What one broker would show.
fn every_sample() -> Vec<Sample> {
    let mut samples = broker_samples(&Readiness::default());
    samples.extend(ActorMetrics::new(SystemObservation::default).collect());
    samples.extend(WireMetrics::new(Arc::default(), Arc::new(Intake::new(0))).collect());
    samples
}

/// The table of `docs/metrics.md` for these samples.
fn table(samples: &[Sample]) -> String {
    let mut families: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        families.entry(sample.name).or_default().push(sample);
    }
    let mut table =
        String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for (name, samples) in families {
        let kind = match samples[0].kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        let labels = labels(&samples);
        table.push_str(&format!(
            "| `{name}` | {kind} | {labels} | {} |\n",
            samples[0].help
        ));
    }
    table
}

fn labels(samples: &[&Sample]) -> String {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in samples.iter().flat_map(|sample| sample.labels) {
        values.entry(name).or_default().insert(value);
    }
    let labels = values.into_iter().map(|(name, values)| {
        // The version changes with every release.
        if name == "version" {
            return "`version`".to_owned();
        }
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        format!("`{name}`: {}", values.join(", "))
    });
    labels.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (prose, there) = page.split_at(page.find("| metric |").unwrap_or(page.len()));
    let wanted = table(&every_sample());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{prose}{wanted}")).unwrap();
        return;
    }
    assert_eq!(there, wanted, "run UPDATE_DOCS=1 cargo test --test metrics");
}

#[test]
fn every_metric_that_the_prose_names_exists() {
    let page = include_str!("../docs/metrics.md");
    let samples = every_sample();
    for word in page.split(|c: char| !c.is_alphanumeric() && c != '_') {
        let is_metric = word.starts_with("outlive_");
        assert!(
            !is_metric || samples.iter().any(|sample| sample.name == word),
            "{word}"
        );
    }
}

#[test]
fn names_follow_the_convention() {
    for sample in every_sample() {
        let name = sample.name;
        assert!(name.starts_with("outlive_"), "{name}");
        assert!(
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
            "{name}"
        );
        let is_counter = sample.kind == MetricKind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        assert!(sample.help.ends_with('.'), "{name}: {}", sample.help);
    }
}

#[test]
fn one_name_has_one_kind_one_help_and_no_series_twice() {
    let samples = every_sample();
    let mut seen = BTreeSet::new();
    for sample in &samples {
        assert!(seen.insert(sample.series()), "{} twice", sample.series());
        let first = samples
            .iter()
            .find(|other| other.name == sample.name)
            .unwrap();
        assert_eq!(
            (first.kind, first.help),
            (sample.kind, sample.help),
            "{}",
            sample.name
        );
    }
}
