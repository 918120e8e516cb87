//! The command line: what to do, and which sources the configuration comes from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::auth::ITERATIONS;
use crate::config::Sources;

/// An MQTT broker whose sessions outlive their connections.
#[derive(Debug, Parser)]
#[command(name = "outlive", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: Start,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Start the broker (this is also what happens without a command)
    Run(Start),
    /// Check the configuration and print every value with its origin
    Check(Options),
    /// Print the line of a user for auth.scram_file; the password is read from standard input
    Scram(NewUser),
}

/// A user of SCRAM-SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct NewUser {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// What a guess at the password costs, and each connect of the client
    #[arg(long, value_name = "COUNT", default_value_t = ITERATIONS, value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS)..=10_000_000))]
    pub iterations: u32,
}

/// How the broker starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Start {
    /// Where the configuration comes from
    #[command(flatten)]
    pub options: Options,
    /// Start although a part of the journal is missing: what it held is gone, and counted. For one start, after reading
    /// what the start without it says
    #[arg(long)]
    pub accept_loss: bool,
}

/// Where the configuration comes from: defaults, then the file, then OUTLIVE_SECTION__KEY variables, then flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Options {
    /// Read this TOML file; every key is shown in config/outlive.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key, for instance --set session.inflight_max=20
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Listen here instead of on mqtt.listen; may be given more than once
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<String>,
    /// Keep journal and checkpoints here: storage.data_dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
}

impl Cli {
    /// The command, `run` if none was given.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.start))
    }
}

impl Options {
    /// The sources of the configuration, with `env` as the environment. `--listen` and `--data-dir` win over `--set`.
    #[must_use]
    pub fn into_sources(self, env: impl IntoIterator<Item = (String, String)>) -> Sources {
        let mut set = self.set;
        if !self.listen.is_empty() {
            set.push(("mqtt.listen".to_owned(), self.listen.join(",")));
        }
        if let Some(data_dir) = self.data_dir {
            set.push(("storage.data_dir".to_owned(), data_dir));
        }
        Sources {
            file: self.config,
            env: env.into_iter().collect(),
            set,
        }
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.starts_with('#') || text.contains(['\n', '\r']) {
        return Err("a name is one line and does not begin with #");
    }
    Ok(text.to_owned())
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or("not of the form section.key=value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(arguments: &[&str]) -> Command {
        Cli::try_parse_from(arguments).unwrap().into_command()
    }

    #[test]
    fn no_command_is_run() {
        let with = command(&["outlive", "run", "--listen", "127.0.0.1:1"]);
        assert_eq!(command(&["outlive", "--listen", "127.0.0.1:1"]), with);
    }

    #[test]
    fn only_a_start_accepts_a_loss() {
        let Command::Run(start) = command(&["outlive", "--accept-loss"]) else {
            unreachable!("no command is run");
        };
        assert!(start.accept_loss);
        assert!(Cli::try_parse_from(["outlive", "check", "--accept-loss"]).is_err());
    }

    #[test]
    fn dedicated_flags_win_over_set() {
        let Command::Check(options) = command(&[
            "outlive",
            "check",
            "--data-dir",
            "/b",
            "--set",
            "storage.data_dir=/a",
        ]) else {
            unreachable!("check was asked for");
        };
        let sources = options.into_sources([]);
        assert_eq!(sources.set.last().unwrap().1, "/b");
    }

    #[test]
    fn a_name_that_its_file_could_not_hold_is_refused() {
        for name in ["", "#a", "a\nb"] {
            assert!(
                Cli::try_parse_from(["outlive", "scram", name]).is_err(),
                "{name:?}"
            );
        }
        let weak = ["outlive", "scram", "a", "--iterations", "1"];
        assert!(Cli::try_parse_from(weak).is_err());
    }

    #[test]
    fn set_without_a_value_is_refused() {
        assert!(Cli::try_parse_from(["outlive", "--set", "session.inflight_max"]).is_err());
    }
}
