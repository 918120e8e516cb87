//! Why a configuration is not accepted.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Origin;

/// One thing that is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`, or what was given in its place.
    pub key: String,
    /// Where the value came from, where that is known.
    pub origin: Option<Origin>,
    /// What is wrong and what is allowed, for a person to read.
    pub reason: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            origin: None,
            reason: reason.into(),
        }
    }

    pub(super) fn from(mut self, origin: &Origin) -> Self {
        self.origin = Some(origin.clone());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why there is no configuration to start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {} is not TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// Keys or values that are not allowed.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    let mut text = String::from("the configuration is not valid:");
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}
