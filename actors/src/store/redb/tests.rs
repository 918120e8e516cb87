//! What can happen to the file, and to the disk under it.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;
use crate::store::fixtures::{full_group, full_snapshot};

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

/// A file on a disk that can fill up.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> Result<(), io::Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }
}

#[test]
fn a_full_disk_keeps_the_last_checkpoint_and_heals_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let full = Arc::new(AtomicBool::new(false));
    let (file, disk_full) = (path.clone(), Arc::clone(&full));
    let open = move || {
        let file: File = OpenOptions::new().read(true).write(true).open(&file)?;
        Builder::new()
            .set_cache_size(1 << 20)
            .create_with_backend(Disk {
                file: FileBackend::new(file)?,
                full: Arc::clone(&disk_full),
            })
    };
    let store = RedbStore::with_database(&path, open(), Box::new(open)).unwrap();

    full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = store.commit(&checkpoint(21, 21)).unwrap_err();
        assert!(matches!(error, StoreError::Backend { .. }), "{error}");
    }
    full.store(false, Ordering::SeqCst);
    assert_eq!(store.marks().unwrap().covers, Offset(20));
    assert_eq!(store.session(SessionNumber(21)).unwrap(), None);
    store.commit(&checkpoint(21, 21)).unwrap();
    assert_eq!(store.marks().unwrap().covers, Offset(21));
    assert!(store.session(SessionNumber(21)).unwrap().is_some());
}
