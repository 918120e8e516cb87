//! What can happen to the file, and to the disk under it.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;
use crate::model::ids::PacketId;
use crate::store::fixtures::{full_group, full_snapshot};
use crate::store::reserve::Room;

fn checkpoint(number: u64, covers: u64) -> Checkpoint {
    Checkpoint {
        sessions: vec![(SessionNumber(number), Some(full_snapshot(number)))],
        groups: vec![(GroupNumber(number), Some(full_group(number)))],
        retained: vec![(
            format!("topic/{number}"),
            Some(read_retained((covers, 1, NEVER))),
        )],
        marks: Marks {
            covers: Offset(covers),
            ..Marks::default()
        },
    }
}

/// A closed store with some sessions.
fn filled(directory: &Path) -> PathBuf {
    let path = directory.join("sessions.redb");
    RedbStore::create(&path).unwrap();
    let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).unwrap();
    for number in 1..=20 {
        store.commit(&checkpoint(number, number)).unwrap();
    }
    path
}

fn refused(path: &Path) -> StoreError {
    RedbStore::open(path, CACHE_BYTES_DEFAULT).unwrap_err()
}

/// Damages the file, expects it to be refused as damaged and left byte for byte as it was.
fn damage_is_refused(damage: impl FnOnce(&mut Vec<u8>)) {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("sessions.redb"), "{error}");
    assert!(fs::read(&path).unwrap() == bytes, "the file was changed");
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    damage_is_refused(|bytes| *bytes = b"select * from sessions;".repeat(1000));
}

#[test]
fn an_empty_file_is_refused_and_left_as_it_is() {
    damage_is_refused(Vec::clear);
}

#[test]
fn a_file_with_a_damaged_head_is_refused_and_left_as_it_is() {
    damage_is_refused(|bytes| bytes[0] ^= 0xff);
}

#[test]
fn a_file_that_is_cut_off_is_refused_and_left_as_it_is() {
    damage_is_refused(|bytes| bytes.truncate(bytes.len() / 2));
}

#[test]
fn a_flipped_bit_in_a_session_is_refused_when_the_file_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let whole = fs::read(&path).unwrap();
    let mut value = Vec::new();
    codec::encode_session(&full_snapshot(7), &mut value).unwrap();
    let mut found = 0;
    for at in 0..whole.len() - value.len() {
        if whole[at..].starts_with(&value) {
            let mut bytes = whole.clone();
            bytes[at + 20] ^= 1;
            fs::write(&path, &bytes).unwrap();
            // Pages of older checkpoints lie about in the file; those may be damaged without harm.
            match RedbStore::open(&path, CACHE_BYTES_DEFAULT) {
                Ok(store) => {
                    let read = store.session(SessionNumber(7)).unwrap();
                    assert_eq!(read, Some(full_snapshot(7)));
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                    found += 1;
                }
            }
        }
    }
    assert_eq!(found, 1, "the live copy");
}

#[test]
fn a_value_that_does_not_match_its_checksum_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let database = Builder::new().open(&path).unwrap();
    let write = database.begin_write().unwrap();
    let mut value = Vec::new();
    codec::encode_session(&full_snapshot(7), &mut value).unwrap();
    value[20] ^= 1;
    write
        .open_table(SESSIONS)
        .unwrap()
        .insert(7, value.as_slice())
        .unwrap();
    write.commit().unwrap();
    drop(database);

    let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).unwrap();
    let error = store.session(SessionNumber(7)).unwrap_err();
    assert!(error.to_string().contains("session 7"), "{error}");
    assert!(error.to_string().contains("sessions.redb"), "{error}");
    assert!(store.sessions(&mut |_| {}).is_err());
    assert!(store.session(SessionNumber(6)).unwrap().is_some());
}

#[test]
fn a_redb_file_that_is_not_ours_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.redb");
    drop(Builder::new().create(&path).unwrap());
    assert!(matches!(refused(&path), StoreError::Damaged { .. }));
}

#[test]
fn a_file_that_is_open_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let store = RedbStore::open(&path, CACHE_BYTES_DEFAULT).unwrap();
    assert!(matches!(refused(&path), StoreError::InUse { .. }));
    drop(store);
    RedbStore::open(&path, CACHE_BYTES_DEFAULT).unwrap();
}

/// A disk that can fill up: then everything that is written takes new room, as where nothing is written in place.
#[derive(Debug, Default)]
struct Space {
    /// What is left; `None` for as much as one wants.
    free: Mutex<Option<u64>>,
    reserved: Mutex<u64>,
}

impl Space {
    fn limit(&self, free: Option<u64>) {
        *self.free.lock() = free;
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut free = self.free.lock();
        if let Some(free) = &mut *free {
            *free = free
                .checked_sub(bytes)
                .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        }
        Ok(())
    }

    fn reserved(&self) -> u64 {
        *self.reserved.lock()
    }
}

/// The reserve on it.
struct Reserved(Arc<Space>);

impl Room for Reserved {
    fn take(&self, bytes: u64) -> io::Result<()> {
        let mut reserved = self.0.reserved.lock();
        self.0.take(bytes - *reserved)?;
        *reserved = bytes;
        Ok(())
    }

    fn give_back(&self) -> io::Result<()> {
        let reserved = std::mem::take(&mut *self.0.reserved.lock());
        if let Some(free) = &mut *self.0.free.lock() {
            *free += reserved;
        }
        Ok(())
    }
}

/// A file on it.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    space: Arc<Space>,
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.space.take(data.len() as u64)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}

/// A store with 20 sessions on such a disk, of whose reserve `reserved` bytes are there.
fn on_a_disk(path: &Path, space: &Arc<Space>, reserved: u64) -> Result<RedbStore, StoreError> {
    let (file, disk) = (path.to_owned(), Arc::clone(space));
    let open = move || {
        let file: File = OpenOptions::new().read(true).write(true).open(&file)?;
        Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(Disk {
                file: FileBackend::new(file)?,
                space: Arc::clone(&disk),
            })
    };
    *space.reserved.lock() = reserved;
    let reserve = Reserve::new(Box::new(Reserved(Arc::clone(space))), reserved);
    RedbStore::with_database(path, &open.clone(), Box::new(open), reserve)
}

/// A checkpoint of 256 sessions, which takes more than half a reserve.
fn large(covers: u64) -> Checkpoint {
    let sessions = (100..356).map(|number| {
        let mut snapshot = full_snapshot(number);
        snapshot.received = (1..=5_000).filter_map(PacketId::new).collect();
        (SessionNumber(number), Some(snapshot))
    });
    Checkpoint {
        sessions: sessions.collect(),
        ..checkpoint(21, covers)
    }
}

#[test]
fn on_a_full_disk_checkpoints_go_on_within_the_reserve_and_it_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let space = Arc::default();
    let store = on_a_disk(&path, &space, 0).unwrap();
    assert_eq!(space.reserved(), RESERVE_BYTES);
    space.limit(Some(0));
    store.commit(&checkpoint(21, 21)).unwrap();
    assert_eq!(space.reserved(), RESERVE_BYTES / 2);
    assert!(store.session(SessionNumber(21)).unwrap().is_some());
    space.limit(None);
    store.commit(&checkpoint(22, 22)).unwrap();
    assert_eq!(space.reserved(), RESERVE_BYTES);
}

#[test]
fn on_a_full_disk_sessions_are_read_although_no_checkpoint_can_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let space = Arc::default();
    let store = on_a_disk(&path, &space, 0).unwrap();
    space.limit(Some(0));
    for _ in 0..5 {
        let error = store.commit(&large(21)).unwrap_err();
        assert!(matches!(error, StoreError::Backend { .. }), "{error}");
        assert_eq!(store.marks().unwrap().covers, Offset(20));
        assert!(store.session(SessionNumber(7)).unwrap().is_some());
        // Others are quick to use what was given up.
        space.limit(Some(0));
    }
    assert_eq!(space.reserved(), 0);
    assert_eq!(store.session(SessionNumber(21)).unwrap(), None);
    space.limit(None);
    store.commit(&large(21)).unwrap();
    assert_eq!(store.marks().unwrap().covers, Offset(21));
    assert!(store.session(SessionNumber(355)).unwrap().is_some());
    assert_eq!(space.reserved(), RESERVE_BYTES);
}

#[test]
fn a_store_that_was_not_closed_is_opened_on_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let space = Arc::default();
    let store = on_a_disk(&path, &space, 0).unwrap();
    space.limit(Some(0));
    drop(store.write(&checkpoint(21, 21)));
    // As after a kill: what redb would write when it is closed finds no room.
    *store.database.write() = None;
    assert!(on_a_disk(&path, &space, 0).is_err());
    let store = on_a_disk(&path, &space, RESERVE_BYTES).unwrap();
    assert!(store.session(SessionNumber(7)).unwrap().is_some());
}
