//! `outlive-compare`: starts MQTT brokers on one core, loads them from another, and reports side by side what each delivered and what it cost.
//!
//! It owns the load, the accounting of every message and the report. It knows nothing of a broker but its address and process id.
//! Invariants: the same load for every broker in one run; a lost, doubled or reordered message fails the run.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool that reports on its terminal"
)]

mod broker;
mod cli;
mod clock;
mod cycle;
mod failure;
mod net;
mod outcome;
mod packet;
mod process;
mod report;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::broker::Contender;
use crate::cli::Cli;
use crate::failure::Result;
use crate::outcome::Measured;

fn main() -> ExitCode {
    match compare(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("outlive-compare: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Runs every chosen workload against every broker; true if each of them kept its promises.
fn compare(cli: &Cli) -> Result<bool> {
    let chosen = workload::choose(&cli.workloads)?;
    if cli.list {
        for workload in workload::all() {
            println!("{:<18} {}", workload.name, workload.about);
        }
        return Ok(true);
    }
    let open_files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    if !cli.no_pin {
        process::pin_self(cli.load_core)?;
    }
    let contenders = Contender::from_cli(cli)?;
    for contender in &contenders {
        println!("{:<12} {}", contender.name(), contender.version());
    }
    println!(
        "open files   {open_files}\nload         {} s a workload, {} B payload",
        cli.seconds, cli.payload
    );
    let mut measured: Vec<Measured> = Vec::new();
    for workload in chosen {
        report::heading(workload);
        let from = measured.len();
        for contender in &contenders {
            let rounds = (0..cli.rounds.max(1))
                .map(|_| workload::run(workload, contender, cli))
                .collect();
            measured.push(Measured::from_rounds(
                workload.name,
                contender.name(),
                rounds,
            ));
        }
        report::rows(&measured[from..]);
    }
    if let Some(path) = &cli.json {
        report::write_json(path, &contenders, cli, &measured)?;
    }
    Ok(measured.iter().all(Measured::sound))
}
