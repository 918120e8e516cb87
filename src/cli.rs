//! The command line: what to do, and which sources the configuration comes from.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;

/// An MQTT broker whose sessions outlive their connections.
#[derive(Debug, Parser)]
#[command(name = "outlive", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Start the broker (this is also what happens without a command)
    Run(Options),
    /// Check the configuration and print every value with its origin
    Check(Options),
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
        self.command.unwrap_or(Command::Run(self.options))
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
    fn set_without_a_value_is_refused() {
        assert!(Cli::try_parse_from(["outlive", "--set", "session.inflight_max"]).is_err());
    }
}
