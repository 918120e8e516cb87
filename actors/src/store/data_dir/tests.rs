//! One owner, one format, nothing made anew over something old.

use super::*;
use crate::store::SnapshotStore;
use crate::store::redb::CACHE_BYTES_DEFAULT;

fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn made(path: &Path) {
    let mut directory = DataDir::lock(path).unwrap();
    directory.open_store(CACHE_BYTES_DEFAULT).unwrap();
}

#[test]
fn a_second_owner_is_told_who_has_the_directory() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("data");
    let first = DataDir::lock(&path).unwrap();
    let before = files(&path);
    let error = DataDir::lock(&path).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "data directory {} is in use by process {}",
            path.display(),
            std::process::id()
        )
    );
    assert_eq!(files(&path), before);
    drop(first);
    DataDir::lock(&path).unwrap();
}

/// Not a test of its own: the other process of the next test.
#[test]
fn the_other_process_tries_the_directory_that_it_is_given() {
    let Some(path) = std::env::var_os("OUTLIVE_TEST_DATA_DIR") else {
        return;
    };
    match DataDir::lock(Path::new(&path)) {
        Ok(_) => println!("it was free"),
        Err(error) => println!("{error}"),
    }
}

#[test]
fn another_process_is_refused_while_the_directory_is_held() {
    let temporary = tempfile::tempdir().unwrap();
    let ask = || {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--exact"])
            .arg("store::data_dir::tests::the_other_process_tries_the_directory_that_it_is_given")
            .env("OUTLIVE_TEST_DATA_DIR", temporary.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let held = DataDir::lock(temporary.path()).unwrap();
    let answer = ask();
    let expected = format!("is in use by process {}", std::process::id());
    assert!(answer.contains(&expected), "{answer}");
    drop(held);
    let answer = ask();
    assert!(answer.contains("it was free"), "{answer}");
}

#[test]
fn a_store_is_made_once_and_found_again() {
    let temporary = tempfile::tempdir().unwrap();
    made(temporary.path());
    let mut again = DataDir::lock(temporary.path()).unwrap();
    let store = again.open_store(CACHE_BYTES_DEFAULT).unwrap();
    assert_eq!(store.marks().unwrap(), crate::store::Marks::default());
    assert_eq!(again.journal_path(), temporary.path().join("journal"));
}

#[test]
fn another_format_is_refused_and_left_as_it_is() {
    let temporary = tempfile::tempdir().unwrap();
    made(temporary.path());
    for mark in ["outlive data directory, format 2\n", "something else", ""] {
        fs::write(temporary.path().join("VERSION"), mark).unwrap();
        let before = files(temporary.path());
        let error = DataDir::lock(temporary.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Format { .. }), "{error}");
        assert_eq!(files(temporary.path()), before);
    }
}

#[test]
fn a_store_that_is_missing_from_a_used_directory_is_not_made_anew() {
    let temporary = tempfile::tempdir().unwrap();
    made(temporary.path());
    fs::remove_file(temporary.path().join("sessions.redb")).unwrap();
    let mut directory = DataDir::lock(temporary.path()).unwrap();
    let error = directory.open_store(CACHE_BYTES_DEFAULT).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(!temporary.path().join("sessions.redb").exists());
}

#[test]
fn a_first_start_that_was_cut_short_is_made_again() {
    let temporary = tempfile::tempdir().unwrap();
    // Cut while the store was made.
    fs::write(temporary.path().join("sessions.redb.new"), b"half").unwrap();
    made(temporary.path());
    // Cut between the store and the mark.
    fs::remove_file(temporary.path().join("VERSION")).unwrap();
    made(temporary.path());
    assert!(temporary.path().join("VERSION").exists());
}

#[test]
fn a_directory_keeps_to_the_tenancy_of_its_first_whole_start() {
    let temporary = tempfile::tempdir().unwrap();
    let start = |tenancy: &str| {
        let mut directory = DataDir::lock(temporary.path()).unwrap();
        directory.keep_tenancy(tenancy)?;
        directory.open_store(CACHE_BYTES_DEFAULT).unwrap();
        Ok::<_, DataDirError>(())
    };
    // Cut before the directory was made.
    let cut_short = DataDir::lock(temporary.path()).unwrap();
    cut_short.keep_tenancy("listener").unwrap();
    drop(cut_short);
    start("principal up to \"/\"").unwrap();
    let before = files(temporary.path());
    for other in [
        TENANCY_OFF,
        "listener",
        "principal",
        "principal up to \"-\"",
    ] {
        let error = start(other).unwrap_err().to_string();
        let said = format!(
            "made with tenancy principal up to \"/\", and this start wants tenancy {other}"
        );
        assert!(error.contains(&said), "{error}");
    }
    assert_eq!(files(temporary.path()), before);
    start("principal up to \"/\"").unwrap();
    // Made before there were tenants.
    fs::remove_file(temporary.path().join("TENANCY")).unwrap();
    assert!(matches!(
        start("listener"),
        Err(DataDirError::Tenancy { .. })
    ));
    start(TENANCY_OFF).unwrap();
}
