//! What every store must do, run against each of them.

use super::memory::MemoryStore;
use super::redb::{CACHE_BYTES_DEFAULT, RedbStore};
use super::*;
use crate::store::fixtures::{full_group, full_snapshot};

/// Commits a checkpoint, closes the store and opens it again.
type CommitAndReopen<'a> = &'a mut dyn FnMut(&Checkpoint) -> Box<dyn SnapshotStore>;

fn on_each_store(check: impl Fn(CommitAndReopen<'_>)) {
    let memory = MemoryStore::new();
    check(&mut |checkpoint| {
        memory.commit(checkpoint).unwrap();
        Box::new(memory.crash())
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    RedbStore::create(&path).unwrap();
    check(&mut |checkpoint| {
        let open = || RedbStore::open(&path, CACHE_BYTES_DEFAULT).unwrap();
        open().commit(checkpoint).unwrap();
        Box::new(open())
    });
}

fn marks(covers: u64, epoch: u32) -> Marks {
    Marks {
        covers: Offset(covers),
        epoch,
        alive_at: Timestamp(covers + 1),
        high_water: HighWater::default(),
        holds: Offset(covers),
        stamp: None,
    }
}

fn written(number: u64) -> (SessionNumber, Option<SessionSnapshot>) {
    (SessionNumber(number), Some(full_snapshot(number)))
}

fn retained(offset: u64) -> RetainedAt {
    RetainedAt {
        offset: Offset(offset),
        bytes: 7,
        expires_at: offset.is_multiple_of(2).then_some(Timestamp(offset)),
    }
}

fn numbers(store: &dyn SnapshotStore) -> Vec<u64> {
    let mut numbers = Vec::new();
    store
        .sessions(&mut |snapshot| {
            assert_eq!(snapshot, full_snapshot(snapshot.number.0));
            numbers.push(snapshot.number.0);
        })
        .unwrap();
    numbers
}

fn group(number: u64) -> (GroupNumber, Option<GroupSnapshot>) {
    (GroupNumber(number), Some(full_group(number)))
}

fn groups(store: &dyn SnapshotStore) -> Vec<u64> {
    let mut numbers = Vec::new();
    store
        .groups(&mut |snapshot| {
            assert_eq!(snapshot, full_group(snapshot.number.0));
            numbers.push(snapshot.number.0);
        })
        .unwrap();
    numbers
}

fn topics(store: &dyn SnapshotStore) -> Vec<(String, u64)> {
    let mut topics = Vec::new();
    store
        .retained(&mut |topic, at| {
            assert_eq!(at, retained(at.offset.0));
            topics.push((topic.to_owned(), at.offset.0));
        })
        .unwrap();
    topics
}

#[test]
fn a_new_store_is_empty() {
    on_each_store(|commit| {
        let store = commit(&Checkpoint::default());
        assert_eq!(store.marks().unwrap(), Marks::default());
        assert_eq!(store.session(SessionNumber(1)).unwrap(), None);
        assert_eq!(store.retained_at("a").unwrap(), None);
        assert!(numbers(&*store).is_empty());
        assert!(topics(&*store).is_empty());
    });
}

#[test]
fn a_checkpoint_is_there_after_a_restart_and_the_next_one_changes_only_what_it_names() {
    on_each_store(|commit| {
        let store = commit(&Checkpoint {
            sessions: vec![written(3), written(1), written(2)],
            groups: vec![group(2), group(1)],
            retained: vec![
                ("a".to_owned(), Some(retained(7))),
                ("b".to_owned(), Some(retained(9))),
            ],
            marks: marks(10, 1),
        });
        assert_eq!(numbers(&*store), [1, 2, 3]);
        assert_eq!(groups(&*store), [1, 2]);
        assert_eq!(topics(&*store), [("a".into(), 7), ("b".into(), 9)]);
        assert_eq!(store.marks().unwrap(), marks(10, 1));
        drop(store);

        let store = commit(&Checkpoint {
            sessions: vec![
                written(4),
                (SessionNumber(2), None),
                (SessionNumber(9), None),
            ],
            groups: vec![(GroupNumber(1), None), (GroupNumber(9), None), group(3)],
            retained: vec![
                ("a".to_owned(), None),
                ("b".to_owned(), Some(retained(11))),
                ("never".to_owned(), None),
            ],
            marks: marks(20, 2),
        });
        assert_eq!(numbers(&*store), [1, 3, 4]);
        assert_eq!(groups(&*store), [2, 3]);
        assert_eq!(store.group(GroupNumber(2)).unwrap(), Some(full_group(2)));
        assert_eq!(store.group(GroupNumber(1)).unwrap(), None);
        assert_eq!(topics(&*store), [("b".into(), 11)]);
        assert_eq!(store.session(SessionNumber(2)).unwrap(), None);
        assert_eq!(
            store.session(SessionNumber(4)).unwrap(),
            Some(full_snapshot(4))
        );
        assert_eq!(store.retained_at("a").unwrap(), None);
        assert_eq!(store.retained_at("b").unwrap(), Some(retained(11)));
        assert_eq!(store.marks().unwrap(), marks(20, 2));
    });
}

#[test]
fn a_checkpoint_of_an_older_epoch_does_not_lower_it() {
    on_each_store(|commit| {
        let of = |marks| Checkpoint {
            marks,
            ..Checkpoint::default()
        };
        drop(commit(&of(marks(10, 5))));
        let store = commit(&of(marks(20, 4)));
        assert_eq!(store.marks().unwrap(), marks(20, 5));
    });
}

#[test]
fn a_commit_that_fails_in_memory_leaves_the_last_checkpoint() {
    let store = MemoryStore::new();
    let first = Checkpoint {
        sessions: vec![written(1)],
        marks: marks(10, 1),
        ..Checkpoint::default()
    };
    store.commit(&first).unwrap();
    store.fail_commits(1);
    let second = Checkpoint {
        sessions: vec![(SessionNumber(1), None), written(2)],
        marks: marks(20, 1),
        ..Checkpoint::default()
    };
    assert!(store.commit(&second).is_err());
    for store in [&store, &store.crash()] {
        assert_eq!(numbers(store), [1]);
        assert_eq!(store.marks().unwrap(), marks(10, 1));
    }
    store.commit(&second).unwrap();
    assert_eq!(numbers(&store.crash()), [2]);
}

#[test]
fn a_crash_in_memory_loses_what_was_held_and_keeps_what_was_released() {
    let store = MemoryStore::new();
    store.hold();
    for number in 1..=3 {
        let checkpoint = Checkpoint {
            sessions: vec![written(number)],
            ..Checkpoint::default()
        };
        store.commit(&checkpoint).unwrap();
    }
    assert_eq!(numbers(&store), [1, 2, 3]);
    store.release(2);
    assert_eq!(numbers(&store.crash()), [1, 2]);
}
