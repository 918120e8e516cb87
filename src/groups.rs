//! Declared groups: those of the configuration, and those that were declared by the API, which are kept in a file of the
//! data directory.
//!
//! Owns: that file, and the union of both. Does not know what a declaration does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outlive_actors::model::group::Strategy;
use outlive_actors::model::group::directory::is_name;
use outlive_actors::system::GroupsHandle;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Strategy as StrategyKey, declared};

/// Groups by name, and their strategy if they have one of their own.
pub type Declared = BTreeMap<Box<str>, Option<Strategy>>;

/// Groups that the API may declare.
const GROUPS_MAX: usize = 10_000;

/// Bytes of the name of a group that the API declares.
const NAME_BYTES_MAX: usize = 1_024;

/// Why a group is not declared, or stays declared.
#[derive(Debug, Error)]
pub enum DeclareError {
    /// It cannot be the name of a group.
    #[error(
        "{0:?} cannot name a group: it takes 1 to {NAME_BYTES_MAX} bytes without '/', '+' and '#'"
    )]
    Name(String),
    /// The configuration declares it.
    #[error("group {0:?} is declared in shared.groups: change it there, and send SIGHUP")]
    Configured(String),
    /// Nobody declared it.
    #[error("group {0:?} is not declared")]
    Unknown(String),
    /// There are too many.
    #[error("{GROUPS_MAX} groups are declared: no more can be")]
    TooMany,
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strategy: Option<StrategyKey>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct DeclaredFile(PathBuf);

impl DeclaredFile {
    /// `groups.json` in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("groups.json"))
    }

    /// The groups in it; none if it is not there.
    ///
    /// # Errors
    /// [`DeclareError::File`] if it cannot be read, or is not what the broker writes.
    pub fn read(&self) -> Result<Declared, DeclareError> {
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Declared::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let lines: Vec<Line> =
            serde_json::from_slice(&bytes).map_err(|error| self.failed(error.into()))?;
        Ok(lines
            .into_iter()
            .map(|line| (line.name.into(), line.strategy.map(Into::into)))
            .collect())
    }

    /// Replaces the file; durable on return.
    fn write(&self, declared: &Declared) -> Result<(), DeclareError> {
        let lines: Vec<_> = declared
            .iter()
            .map(|(name, strategy)| Line {
                name: name.to_string(),
                strategy: strategy.map(Into::into),
            })
            .collect();
        let replace = || -> io::Result<()> {
            let new = self.0.with_extension("json.new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(&lines)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.0)?;
            let dir = self.0.parent().unwrap_or(Path::new("."));
            File::open(dir)?.sync_all()
        };
        replace().map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> DeclareError {
        let path = self.0.display().to_string();
        DeclareError::File { path, source }
    }
}

/// Who declared a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `shared.groups`.
    Configuration,
    /// The API.
    Api,
}

/// The declared groups of a running broker.
#[derive(Clone, Debug)]
pub struct Declarations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: DeclaredFile,
    groups: GroupsHandle,
    declared: Mutex<DeclaredBy>,
}

/// Who declares what.
#[derive(Clone, Debug, Default)]
pub struct DeclaredBy {
    /// `shared.groups`. Where both name a group, this counts.
    pub configured: Declared,
    /// The API.
    pub added: Declared,
}

impl DeclaredBy {
    /// What is declared.
    pub fn union(&self) -> Declared {
        let mut union = self.added.clone();
        union.extend(self.configured.clone());
        union
    }
}

impl Declarations {
    /// Of a broker that was started with the union of `declared`.
    pub fn new(file: DeclaredFile, groups: GroupsHandle, declared: DeclaredBy) -> Self {
        let declared = Mutex::new(declared);
        Self(Arc::new(Inner {
            file,
            groups,
            declared,
        }))
    }

    /// The groups, to observe.
    pub fn groups(&self) -> &GroupsHandle {
        &self.0.groups
    }

    /// Every declared group, its strategy if it has one of its own, and who declared it.
    pub fn list(&self) -> Vec<(Box<str>, Option<Strategy>, Origin)> {
        let declared = self.0.declared.lock();
        let configured = &declared.configured;
        let union = declared.union().into_iter();
        union
            .map(|(name, strategy)| {
                let origin = match configured.contains_key(&name) {
                    true => Origin::Configuration,
                    false => Origin::Api,
                };
                (name, strategy, origin)
            })
            .collect()
    }

    /// Declares a group, or gives one that the API declared another strategy; durable on return. Waits for the disk.
    ///
    /// # Errors
    /// [`DeclareError`]; nothing changed.
    pub fn add(&self, name: &str, strategy: Option<Strategy>) -> Result<(), DeclareError> {
        if !is_name(name) || name.len() > NAME_BYTES_MAX {
            return Err(DeclareError::Name(name.to_owned()));
        }
        self.change(name, |added| {
            if added.len() >= GROUPS_MAX && !added.contains_key(name) {
                return Err(DeclareError::TooMany);
            }
            added.insert(name.into(), strategy);
            Ok(())
        })
    }

    /// Takes a declaration of the API back; without members the group is over. Waits for the disk.
    ///
    /// # Errors
    /// [`DeclareError`]; nothing changed.
    pub fn remove(&self, name: &str) -> Result<(), DeclareError> {
        self.change(name, |added| {
            let removed = added.remove(name);
            removed
                .map(drop)
                .ok_or_else(|| DeclareError::Unknown(name.to_owned()))
        })
    }

    fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Declared) -> Result<(), DeclareError>,
    ) -> Result<(), DeclareError> {
        let mut declared = self.0.declared.lock();
        if declared.configured.contains_key(name) {
            return Err(DeclareError::Configured(name.to_owned()));
        }
        let mut added = declared.added.clone();
        change(&mut added)?;
        self.0.file.write(&added)?;
        declared.added = added;
        self.0.groups.declare(declared.union());
        Ok(())
    }

    /// The configuration was read again.
    pub fn reconfigure(&self, configured: Declared) {
        let mut declared = self.0.declared.lock();
        declared.configured = configured;
        self.0.groups.declare(declared.union());
    }
}

/// The groups that `shared.groups` declares; what names no group was refused with the configuration.
pub fn configured(texts: &[String]) -> Declared {
    let known = texts.iter().filter_map(|text| declared(text));
    known
        .map(|(name, strategy)| (name.into(), strategy))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_again_what_it_was_told_and_nothing_else_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = DeclaredFile::new(dir.path());
        assert_eq!(file.read().unwrap(), Declared::new());
        let mut declared = Declared::new();
        for (name, strategy) in [("plain", None), ("s \"q\"", Some(Strategy::HashTopic))] {
            declared.insert(name.into(), strategy);
            file.write(&declared).unwrap();
            assert_eq!(file.read().unwrap(), declared);
        }
        fs::write(dir.path().join("groups.json"), b"[{\"name\":1}]").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("groups.json"), "{error}");
    }
}
