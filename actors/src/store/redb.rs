//! The snapshot store on disk: one redb file.
//!
//! Owns: the file and its tables. Does not know: how a snapshot is made, who else uses the data directory.
//!
//! Invariants:
//! - a checkpoint is one redb transaction, durable when [`RedbStore::commit`] returns;
//! - a file that is not ours or does not match its checksums is refused when it is opened, and left as it is;
//! - after an I/O error redb refuses all further work on that handle: it is dropped and the file opened again at the
//!   next call, so that a full disk heals without a restart;
//! - to open it again may take room on the disk: a checkpoint is begun only while there is a reserve for that, so that
//!   sessions can be read however full the disk is.

use std::fmt;
use std::io;
use std::path::Path;

use parking_lot::{Mutex, RwLock};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};

use super::codec::{self, CodecError};
use super::reserve::{RESERVE_BYTES, RESERVE_BYTES_MIN, Reserve, RoomFile, is_full};
use super::{Checkpoint, Marks, SnapshotStore, StoreError};
use crate::model::group::snapshot::GroupSnapshot;
use crate::model::ids::{GroupNumber, Offset, SessionNumber, Timestamp};
use crate::model::retained::RetainedAt;
use crate::model::snapshot::SessionSnapshot;

/// The page cache unless told otherwise; redb's own default is 1 GiB.
pub const CACHE_BYTES_DEFAULT: usize = 32 * 1024 * 1024;

const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");
const GROUPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("groups");
/// Offset, bytes, and expiry in milliseconds or [`NEVER`].
type RetainedValue = (u64, u32, u64);
const NEVER: u64 = u64::MAX;
const RETAINED: TableDefinition<'_, &str, RetainedValue> = TableDefinition::new("retained");
const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");
const MARKS_KEY: &str = "marks";

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// A redb file with its tables.
pub struct RedbStore {
    path: String,
    /// `None` after an I/O error, until the next call opens it again.
    database: RwLock<Option<Database>>,
    reopen: Opener,
    reserve: Mutex<Reserve>,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Makes a new, empty store at `path` and closes it.
    ///
    /// # Errors
    /// [`StoreError`] if the system refuses, or if `path` is a file that is no redb database.
    pub fn create(path: &Path) -> Result<(), StoreError> {
        let name = path.display().to_string();
        let create = || -> Result<(), Fault> {
            let database = Builder::new()
                .set_cache_size(CACHE_BYTES_DEFAULT)
                .create(path)?;
            let write = database.begin_write()?;
            write.open_table(SESSIONS)?;
            write.open_table(GROUPS)?;
            write.open_table(RETAINED)?;
            put_marks(&mut write.open_table(MARKS)?, &Marks::default())?;
            write.commit()?;
            Ok(())
        };
        create().map_err(|fault| fault.into_error(&name))
    }

    /// Opens the store at `path` and verifies the checksums of the whole file, so that damage is found here and not in
    /// the middle of the night. `cache_bytes` bounds redb's page cache. Room is reserved beside it, in a file that ends in
    /// `.reserve`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a file that is missing, foreign or damaged, [`StoreError::InUse`] if it is open
    /// elsewhere; the file is left as it is.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, StoreError> {
        let room = RoomFile(path.with_extension("reserve"));
        let bytes = room.bytes();
        let reserve = Reserve::new(Box::new(room), bytes);
        let file = path.to_owned();
        let open = || {
            Builder::new()
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(true)
                .open(path)
        };
        let reopen = move || Builder::new().set_cache_size(cache_bytes).open(&file);
        Self::with_database(path, &open, Box::new(reopen), reserve)
    }

    fn with_database(
        path: &Path,
        open: &dyn Fn() -> Result<Database, DatabaseError>,
        reopen: Opener,
        mut reserve: Reserve,
    ) -> Result<Self, StoreError> {
        let path = path.display().to_string();
        let database = open_within(&mut reserve, open);
        let database = database.map_err(|error| Fault::from(error).into_error(&path))?;
        let store = Self {
            path,
            database: RwLock::new(Some(database)),
            reopen,
            reserve: Mutex::new(reserve),
        };
        store.marks()?; // A redb file without our tables is none of ours.
        // A disk that is full now is met again, and reported, by the first checkpoint.
        store.reserve.lock().fill(RESERVE_BYTES).ok();
        Ok(store)
    }

    /// Runs `work` on the open database; closes it if `work` ends in an error that redb does not recover from.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let result = {
            let mut database = self.database.read();
            if database.is_none() {
                drop(database);
                self.ensure_open()?;
                database = self.database.read();
            }
            match database.as_ref() {
                Some(database) => work(database),
                None => Err(Fault::Redb(Box::new(redb::Error::DatabaseClosed))),
            }
        };
        result.map_err(|fault| {
            if fault.needs_reopen() {
                *self.database.write() = None;
            }
            fault.into_error(&self.path)
        })
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        let mut database = self.database.write();
        if database.is_none() {
            let opened = open_within(&mut self.reserve.lock(), &self.reopen);
            *database = Some(opened.map_err(|error| Fault::from(error).into_error(&self.path))?);
        }
        Ok(())
    }

    fn write(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut sessions = write.open_table(SESSIONS)?;
                let mut bytes = Vec::new();
                for (number, snapshot) in &checkpoint.sessions {
                    match snapshot {
                        Some(snapshot) => {
                            bytes.clear();
                            codec::encode_session(snapshot, &mut bytes)
                                .map_err(|error| damaged_session(*number, error))?;
                            sessions.insert(number.0, bytes.as_slice())?;
                        }
                        None => {
                            sessions.remove(number.0)?;
                        }
                    }
                }
                let mut groups = write.open_table(GROUPS)?;
                for (number, snapshot) in &checkpoint.groups {
                    match snapshot {
                        Some(snapshot) => {
                            bytes.clear();
                            codec::encode_group(snapshot, &mut bytes)
                                .map_err(|error| damaged_group(*number, error))?;
                            groups.insert(number.0, bytes.as_slice())?;
                        }
                        None => {
                            groups.remove(number.0)?;
                        }
                    }
                }
                let mut retained = write.open_table(RETAINED)?;
                for (topic, at) in &checkpoint.retained {
                    match at {
                        Some(at) => retained.insert(topic.as_str(), retained_value(at))?,
                        None => retained.remove(topic.as_str())?,
                    };
                }
                let mut table = write.open_table(MARKS)?;
                let epoch = read_marks(&table)?.epoch.max(checkpoint.marks.epoch);
                let marks = Marks {
                    epoch,
                    ..checkpoint.marks
                };
                put_marks(&mut table, &marks)?;
            }
            write.commit()?;
            Ok(())
        })
    }
}

/// Opens the file, if need be with the room of the reserve.
fn open_within(
    reserve: &mut Reserve,
    open: &dyn Fn() -> Result<Database, DatabaseError>,
) -> Result<Database, DatabaseError> {
    match open() {
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if is_full(&error) && reserve.give_up() > 0 =>
        {
            open()
        }
        opened => opened,
    }
}

impl SnapshotStore for RedbStore {
    fn marks(&self) -> Result<Marks, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(MARKS)?;
            read_marks(&table)
        })
    }

    fn session(&self, number: SessionNumber) -> Result<Option<SessionSnapshot>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(SESSIONS)?;
            let value = table.get(number.0)?;
            value
                .map(|bytes| read_session(number, bytes.value()))
                .transpose()
        })
    }

    fn sessions(&self, each: &mut dyn FnMut(SessionSnapshot)) -> Result<(), StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(SESSIONS)?;
            for row in table.iter()? {
                let (number, bytes) = row?;
                each(read_session(SessionNumber(number.value()), bytes.value())?);
            }
            Ok(())
        })
    }

    fn group(&self, number: GroupNumber) -> Result<Option<GroupSnapshot>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(GROUPS)?;
            let value = table.get(number.0)?;
            value
                .map(|bytes| read_group(number, bytes.value()))
                .transpose()
        })
    }

    fn groups(&self, each: &mut dyn FnMut(GroupSnapshot)) -> Result<(), StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(GROUPS)?;
            for row in table.iter()? {
                let (number, bytes) = row?;
                each(read_group(GroupNumber(number.value()), bytes.value())?);
            }
            Ok(())
        })
    }

    fn retained(&self, each: &mut dyn FnMut(&str, RetainedAt)) -> Result<(), StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(RETAINED)?;
            for row in table.iter()? {
                let (topic, at) = row?;
                each(topic.value(), read_retained(at.value()));
            }
            Ok(())
        })
    }

    fn retained_at(&self, topic: &str) -> Result<Option<RetainedAt>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(RETAINED)?;
            Ok(table.get(topic)?.map(|at| read_retained(at.value())))
        })
    }

    fn commit(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut most = RESERVE_BYTES;
        loop {
            let filled = self.reserve.lock().fill(most);
            filled.map_err(|error| Fault::from(StorageError::Io(error)).into_error(&self.path))?;
            let error = match self.write(checkpoint) {
                Err(error) if error.is_disk_full() => error,
                result => return result,
            };
            // A checkpoint may win room back, so it gets a part of the reserve; sessions are read in any case.
            let given_up = self.reserve.lock().give_up();
            self.ensure_open()?;
            if given_up <= RESERVE_BYTES_MIN {
                return Err(error);
            }
            most = given_up / 2;
        }
    }
}

fn read_retained((offset, bytes, expires_at): RetainedValue) -> RetainedAt {
    RetainedAt {
        offset: Offset(offset),
        bytes,
        expires_at: (expires_at != NEVER).then_some(Timestamp(expires_at)),
    }
}

fn retained_value(at: &RetainedAt) -> RetainedValue {
    let expires_at = at.expires_at.map_or(NEVER, |at| at.0);
    (at.offset.0, at.bytes, expires_at)
}

fn read_session(number: SessionNumber, bytes: &[u8]) -> Result<SessionSnapshot, Fault> {
    codec::decode_session(number, bytes).map_err(|error| damaged_session(number, error))
}

fn read_group(number: GroupNumber, bytes: &[u8]) -> Result<GroupSnapshot, Fault> {
    codec::decode_group(number, bytes).map_err(|error| damaged_group(number, error))
}

fn read_marks(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Marks, Fault> {
    let Some(bytes) = table.get(MARKS_KEY)? else {
        return Err(Fault::Damaged("the marks are missing".to_owned()));
    };
    codec::decode_marks(bytes.value())
        .map_err(|error| Fault::Damaged(format!("the marks: {error}")))
}

fn put_marks(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    marks: &Marks,
) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    codec::encode_marks(marks, &mut bytes)
        .map_err(|error| Fault::Damaged(format!("the marks: {error}")))?;
    table.insert(MARKS_KEY, bytes.as_slice())?;
    Ok(())
}

fn damaged_session(number: SessionNumber, error: CodecError) -> Fault {
    Fault::Damaged(format!("session {}: {error}", number.0))
}

fn damaged_group(number: GroupNumber, error: CodecError) -> Fault {
    Fault::Damaged(format!("group {}: {error}", number.0))
}

/// What went wrong inside the file, before its name is put to it.
enum Fault {
    Redb(Box<redb::Error>),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

impl Fault {
    fn needs_reopen(&self) -> bool {
        match self {
            Self::Redb(error) => matches!(
                **error,
                redb::Error::Io(_)
                    | redb::Error::Backend(_)
                    | redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
            ),
            Self::Damaged(_) => false,
        }
    }

    fn into_error(self, path: &str) -> StoreError {
        let path = path.to_owned();
        let source = match self {
            Self::Damaged(what) => return StoreError::Damaged { path, what },
            Self::Redb(source) => source,
        };
        if matches!(*source, redb::Error::DatabaseAlreadyOpen) {
            StoreError::InUse { path }
        } else if is_damage(&source) {
            let what = source.to_string();
            StoreError::Damaged { path, what }
        } else {
            StoreError::Backend { path, source }
        }
    }
}

/// A file that is missing, no database of ours, or not as redb wrote it; as opposed to a system that refuses.
fn is_damage(error: &redb::Error) -> bool {
    if let redb::Error::Io(error) = error {
        return matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
        );
    }
    matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
    )
}

#[cfg(test)]
mod tests;
