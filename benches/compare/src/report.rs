//! The table on the terminal and the file with everything.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::broker::Contender;
use crate::cli::Cli;
use crate::failure::{Result, Trying};
use crate::outcome::{Latency, Measured, Outcome};
use crate::workload::Workload;

const REFERENCE: &str = "mosquitto";

/// The name of a workload and the head of its table.
pub(crate) fn heading(workload: &Workload) {
    println!("\n{}: {}", workload.name, workload.about);
    println!(
        "  {:<12} {:>10} {:>7} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "broker", "k/s", "ratio", "cpu s/M", "less", "p50 ms", "p99 ms", "max ms", "RSS MB"
    );
}

/// A line for each broker, against mosquitto if it took part.
pub(crate) fn rows(measured: &[Measured]) {
    let reference = measured
        .iter()
        .find(|one| one.broker == REFERENCE)
        .and_then(|one| one.result.as_ref().ok());
    for one in measured {
        match &one.result {
            Ok(outcome) => row(&one.broker, outcome, reference),
            Err(failure) => println!("  {:<12} failed: {failure}", one.broker),
        }
    }
}

fn row(broker: &str, outcome: &Outcome, reference: Option<&Outcome>) {
    let ratio = |mine: f64, theirs: f64| format!("{:.2}x", mine / theirs.max(1e-9));
    let faster = reference.map_or_else(String::new, |other| ratio(outcome.rate(), other.rate()));
    let cheaper = reference.map_or_else(String::new, |other| ratio(other.cost(), outcome.cost()));
    let at = |quantile: f64| match &outcome.latency {
        Some(latency) => format!("{:.3}", milliseconds(latency.value_at_quantile(quantile))),
        None => "-".to_owned(),
    };
    println!(
        "  {broker:<12} {:>10.2} {faster:>7} {:>9.3} {cheaper:>7} {:>9} {:>9} {:>9} {:>9.1}",
        outcome.rate() / 1e3,
        outcome.cost(),
        at(0.5),
        at(0.99),
        at(1.0),
        outcome.rss_bytes as f64 / 1e6,
    );
    for extra in &outcome.extras {
        println!("  {:<12}   {:<32} {:>14.3}", "", extra.name, extra.value);
    }
    if !outcome.faults.none() {
        println!("  {:<12}   FAULTS {:?}", "", outcome.faults);
    }
}

fn milliseconds(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Writes everything measured.
pub(crate) fn write_json(
    path: &Path,
    contenders: &[Contender],
    cli: &Cli,
    measured: &[Measured],
) -> Result<()> {
    let brokers: Vec<_> = contenders
        .iter()
        .map(|one| json!({ "name": one.name(), "version": one.version() }))
        .collect();
    let report = json!({
        "brokers": brokers,
        "seconds": cli.seconds,
        "payload_bytes": cli.payload,
        "shrink": cli.shrink,
        "rounds": cli.rounds,
        "pinned": !cli.no_pin,
        "results": measured.iter().map(result).collect::<Vec<_>>(),
    });
    fs::write(path, format!("{report:#}\n")).trying(path.display().to_string())
}

fn result(one: &Measured) -> Value {
    let outcome = match &one.result {
        Ok(outcome) => outcome,
        Err(failure) => {
            return json!({ "workload": one.workload, "broker": one.broker, "failure": failure.to_string() });
        }
    };
    let extras: serde_json::Map<_, _> = outcome
        .extras
        .iter()
        .map(|extra| (extra.name.to_owned(), json!(extra.value)))
        .collect();
    json!({
        "workload": one.workload,
        "broker": one.broker,
        "unit": outcome.unit,
        "count": outcome.count,
        "seconds": outcome.seconds,
        "per_second": outcome.rate(),
        "cpu_seconds": outcome.cpu_seconds,
        "cpu_seconds_per_million": outcome.cost(),
        "cpu_seconds_per_million_of_rounds": one.costs,
        "rss_bytes": outcome.rss_bytes,
        "latency_ms": outcome.latency.as_ref().map(percentiles),
        "lost": outcome.faults.lost,
        "doubled": outcome.faults.doubled,
        "reordered": outcome.faults.reordered,
        "foreign": outcome.faults.foreign,
        "extras": extras,
    })
}

fn percentiles(latency: &Latency) -> Value {
    let at = |quantile| milliseconds(latency.value_at_quantile(quantile));
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) })
}
