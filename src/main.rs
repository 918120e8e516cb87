//! The program `outlive`: reads the command line and the configuration, then runs the broker.

use std::env;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use outlive::auth::Verifier;
use outlive::broker::Again;
use outlive::cli::{Cli, Command, NewUser, Options, Start};
use outlive::config::{Sources, load};
use outlive::{broker, telemetry};
use tikv_jemallocator::Jemalloc;

/// A broker takes and gives small pieces all day, in batches: glibc's allocator spends a seventh of its time on joining
/// and splitting them again.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Exit code of a command line or a configuration that is not accepted, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().into_command() {
        Command::Run(start) => run(start),
        Command::Check(options) => check(options),
        Command::Scram(user) => scram(&user),
    }
}

fn check(options: Options) -> ExitCode {
    match load(&sources(options)) {
        Ok(effective) => match write!(io::stdout().lock(), "{effective}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Err(error) => fail(&error, USAGE),
    }
}

fn scram(user: &NewUser) -> ExitCode {
    let mut password = String::new();
    if let Err(error) = io::stdin().lock().read_line(&mut password) {
        return fail(&error, 1);
    }
    let password = password.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return fail(&"the password is empty", USAGE);
    }
    let mut salt = [0; 16];
    if let Err(error) = getrandom::fill(&mut salt) {
        return fail(&error, 1);
    }
    let verifier = Verifier::new(password.as_bytes(), &salt, user.iterations);
    match writeln!(io::stdout().lock(), "{}:{verifier}", user.name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn run(start: Start) -> ExitCode {
    let sources = sources(start.options);
    let effective = match load(&sources) {
        Ok(effective) => effective,
        Err(error) => return fail(&error, USAGE),
    };
    let level = match telemetry::init(&effective.config.telemetry) {
        Ok(level) => level,
        Err(error) => return fail(&error, USAGE),
    };
    let again = Again {
        load: Box::new(move || Ok(load(&sources)?.config)),
        level,
    };
    match actix_rt::System::new().block_on(broker::run(effective.config, start.accept_loss, again))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn sources(options: Options) -> Sources {
    // A variable that is not Unicode cannot be one of ours.
    let env = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    options.into_sources(env)
}

/// Tells the person who started the program; log lines may not be set up yet.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Nothing is left to tell anybody with if standard error is gone.
    drop(writeln!(io::stderr().lock(), "outlive: {error}"));
    ExitCode::from(code)
}
