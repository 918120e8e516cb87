//! The data directory: one broker at a time, one format.
//!
//! Owns: the lock, the marks of format and tenancy, the names inside. Does not know: what the files hold.
//!
//! Invariants:
//! - whoever holds a [`DataDir`] is the only one that does, on this machine;
//! - the format mark is written last when a directory is made: with the mark a missing store is damage, without it a
//!   start that was cut short, and is made again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use thiserror::Error;

use super::StoreError;
use super::redb::RedbStore;
use crate::durable::make_directory;

/// The format of the directory that this version makes and reads.
pub const FORMAT: u32 = 1;

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "VERSION";
const TENANCY_FILE: &str = "TENANCY";
const STORE_FILE: &str = "sessions.redb";
const STORE_FILE_NEW: &str = "sessions.redb.new";
const JOURNAL_DIR: &str = "journal";
const FORMAT_PREFIX: &str = "outlive data directory, format ";

/// What a directory without a mark of its own was made with.
pub const TENANCY_OFF: &str = "off";

/// A locked data directory; the lock goes when it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    is_new: bool,
    /// Held for its lock.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another broker runs on it.
    #[error("data directory {path} is in use by process {process}")]
    InUse {
        /// The directory.
        path: String,
        /// The process id that the holder noted, or `unknown`.
        process: String,
    },
    /// Made by another version, or by something else.
    #[error(
        "data directory {path} has the mark {found:?}; this outlive reads format {FORMAT}; nothing was changed"
    )]
    Format {
        /// The directory.
        path: String,
        /// What the mark says.
        found: String,
    },
    /// Made with other tenants.
    #[error(
        "data directory {path} was made with tenancy {found}, and this start wants tenancy {wanted}: sessions and messages \
         would be nobody's; set tenancy as it was, or start with another data directory; nothing was changed"
    )]
    Tenancy {
        /// The directory.
        path: String,
        /// What the directory was made with.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The system refused.
    #[error("data directory {path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if need be, locks it and checks its format.
    ///
    /// # Errors
    /// [`DataDirError`]; a directory in use or of another format is left as it is.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let refused = |source| DataDirError::Io {
            path: path.display().to_string(),
            source,
        };
        make_directory(path).map_err(refused)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(refused)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse {
                    path: path.display().to_string(),
                    process: holder(&mut lock),
                });
            }
            Err(error) => return Err(refused(error.into())),
        }
        let is_new = !has_format(path)?;
        // For people and for the message above; the lock itself is the system's.
        lock.set_len(0).map_err(refused)?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            is_new,
            _lock: lock,
        })
    }

    /// Holds the directory to the tenancy that it was made with; to this one if it is new.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing was changed.
    pub fn keep_tenancy(&self, wanted: &str) -> Result<(), DataDirError> {
        let refused = |source| DataDirError::Io {
            path: self.path.display().to_string(),
            source,
        };
        if self.is_new {
            return self.write_mark(TENANCY_FILE, wanted).map_err(refused);
        }
        let found = match fs::read_to_string(self.path.join(TENANCY_FILE)) {
            Ok(found) => found.trim_end().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => TENANCY_OFF.to_owned(),
            Err(error) => return Err(refused(error)),
        };
        if found == wanted {
            return Ok(());
        }
        Err(DataDirError::Tenancy {
            path: self.path.display().to_string(),
            found,
            wanted: wanted.to_owned(),
        })
    }

    /// Where the journal's files belong.
    pub fn journal_path(&self) -> PathBuf {
        self.path.join(JOURNAL_DIR)
    }

    /// Opens the snapshot store; makes it, and marks the directory, if the directory is new.
    ///
    /// # Errors
    /// [`StoreError`]; a store that is missing or damaged in a directory that was in use is refused, never made anew.
    pub fn open_store(&mut self, cache_bytes: usize) -> Result<RedbStore, StoreError> {
        let path = self.path.join(STORE_FILE);
        if !path.exists() {
            if !self.is_new {
                return Err(StoreError::Damaged {
                    path: path.display().to_string(),
                    what: "the file is missing from a data directory that was in use".to_owned(),
                });
            }
            self.make_store(&path)?;
        }
        let store = RedbStore::open(&path, cache_bytes)?;
        if self.is_new {
            self.write_mark(FORMAT_FILE, &format!("{FORMAT_PREFIX}{FORMAT}"))
                .map_err(|error| store_io(&path, error))?;
            self.is_new = false;
        }
        Ok(store)
    }

    /// Under another name first: a crash on the way leaves no half-made store under the real one.
    fn make_store(&self, path: &Path) -> Result<(), StoreError> {
        let new = self.path.join(STORE_FILE_NEW);
        match fs::remove_file(&new) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(store_io(&new, error)),
        }
        RedbStore::create(&new)?;
        fs::rename(&new, path)
            .and_then(|()| self.sync())
            .map_err(|error| store_io(path, error))
    }

    fn write_mark(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(name))?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn store_io(path: &Path, error: io::Error) -> StoreError {
    StoreError::Backend {
        path: path.display().to_string(),
        source: Box::new(error.into()),
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

/// Whether the directory carries our mark; a mark of another format is an error.
fn has_format(path: &Path) -> Result<bool, DataDirError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path.join(FORMAT_FILE)).and_then(|file| file.take(256).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(DataDirError::Io {
                path: path.display().to_string(),
                source,
            });
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end();
    if text.strip_prefix(FORMAT_PREFIX) == Some(&FORMAT.to_string()) {
        return Ok(true);
    }
    Err(DataDirError::Format {
        path: path.display().to_string(),
        found: text.to_owned(),
    })
}

#[cfg(test)]
mod tests;
