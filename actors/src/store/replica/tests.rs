//! Wherever the broker stops, the replica is what the journal says.

use proptest::prelude::*;

use super::*;
use crate::model::message::QoS;
use crate::store::fixtures::{
    Fold, created, detached, entry, filter, full_snapshot, message, packet_id, progress,
    publication, subscribed, valid_journal,
};
use crate::store::memory::MemoryStore;

fn open(store: &Arc<MemoryStore>) -> Replica {
    Replica::open(Arc::clone(store) as Arc<dyn SnapshotStore>).unwrap()
}

fn apply(replica: &mut Replica, entries: &[Entry], from: usize) {
    for (at, entry) in (0..).map(Offset).zip(entries).skip(from) {
        replica.apply(at, entry).unwrap();
    }
}

fn replayed(entries: &[Entry]) -> Replica {
    let mut replica = open(&Arc::default());
    apply(&mut replica, entries, 0);
    replica.scan(&mut |_| {}).unwrap();
    replica
}

fn fold_of(replica: &mut Replica) -> Fold {
    let mut fold = Fold::default();
    replica
        .scan(&mut |snapshot| {
            let known = fold.sessions.insert(snapshot.number, snapshot.clone());
            assert_eq!(known, None, "given twice");
        })
        .unwrap();
    replica
        .scan_groups(&mut |snapshot| {
            let known = fold.groups.insert(snapshot.number, snapshot.clone());
            assert_eq!(known, None, "given twice");
        })
        .unwrap();
    replica
        .retained(&mut |topic, at| {
            let known = fold.retained.insert(topic.to_owned(), at);
            assert_eq!(known, None, "given twice");
        })
        .unwrap();
    fold
}

/// The least of the journal that the stored checkpoint needs, computed the plain way.
fn needed(store: &MemoryStore) -> Offset {
    let mut floor = store.marks().unwrap().covers;
    store
        .sessions(&mut |snapshot| {
            floor = snapshot.needed_from().map_or(floor, |from| from.min(floor));
        })
        .unwrap();
    store
        .groups(&mut |snapshot| floor = floor.min(snapshot.needed_from()))
        .unwrap();
    floor
}

fn pinned(store: &MemoryStore) -> BTreeSet<Offset> {
    let mut pinned = BTreeSet::new();
    store
        .retained(&mut |_, at| {
            pinned.insert(at.offset);
        })
        .unwrap();
    pinned
}

/// What whoever trims knows of pinned records.
fn follow(told: &mut BTreeSet<Offset>, trim: &Trim) {
    told.extend(&trim.pins.pinned);
    for offset in &trim.pins.unpinned {
        assert!(told.remove(offset), "it was not pinned");
    }
}

/// What the broker does between two records.
#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Commit,
    FailedCommit,
    Crash,
    CommitThatACrashLoses,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        2 => Just(Act::Commit),
        1 => Just(Act::FailedCommit),
        1 => Just(Act::Crash),
        1 => Just(Act::CommitThatACrashLoses),
    ]
}

proptest! {
    #[test]
    fn a_checkpoint_anywhere_and_the_rest_of_the_journal_are_the_whole_journal(
        steps in prop::collection::vec((any::<u32>(), acts(), 0_usize..20), 1..150),
    ) {
        let choices: Vec<_> = steps.iter().map(|(choice, ..)| *choice).collect();
        let entries = valid_journal(&choices);
        let mut store = Arc::new(MemoryStore::new());
        let mut replica = open(&store);
        replica.scan(&mut |_| {}).unwrap();
        let mut told = BTreeSet::new();
        for (index, (_, act, early)) in steps.iter().enumerate() {
            replica.apply(Offset(index as u64), &entries[index]).unwrap();
            match act {
                Act::Nothing => {}
                Act::Commit => replica.commit().unwrap(),
                Act::FailedCommit => {
                    store.fail_commits(1);
                    replica.commit().unwrap_err();
                    store.fail_commits(0);
                }
                Act::Crash | Act::CommitThatACrashLoses => {
                    if matches!(act, Act::CommitThatACrashLoses) {
                        store.hold();
                        replica.commit().unwrap();
                    }
                    store = Arc::new(store.crash());
                    replica = open(&store);
                    told.clear();
                    // A replay may start too early.
                    let covers = usize::try_from(replica.marks().covers.0).unwrap();
                    apply(&mut replica, &entries[..=index], covers.saturating_sub(*early));
                    replica.scan(&mut |_| {}).unwrap();
                }
            }
            let trim = replica.take_trim().unwrap();
            prop_assert_eq!(trim.floor, needed(&store));
            follow(&mut told, &trim);
            prop_assert_eq!(&told, &pinned(&store));
        }
        let expected = Fold::of(&entries);
        for (number, snapshot) in &expected.sessions {
            let image = replica.image(*number).unwrap();
            prop_assert_eq!(image.as_ref(), Some(snapshot));
        }
        prop_assert_eq!(&fold_of(&mut replica), &expected);
        replica.commit().unwrap();
        prop_assert_eq!(replica.dirty(), 0);
        prop_assert_eq!(&fold_of(&mut open(&store)), &expected);
    }
}

#[test]
fn a_committed_session_leaves_memory_and_comes_back_when_touched() {
    let store = Arc::default();
    let mut replica = open(&store);
    let entries = [
        entry(1, created("a", 1, 0)),
        entry(2, created("b", 1, 0)),
        entry(2, detached(5, 60)),
    ];
    apply(&mut replica, &entries[..2], 0);
    assert_eq!(replica.dirty_sessions(), 2);
    replica.commit().unwrap();
    assert_eq!(replica.dirty_sessions(), 0);
    apply(&mut replica, &entries, 2);
    assert_eq!(replica.dirty_sessions(), 1);
    let image = replica.image(SessionNumber(2)).unwrap().unwrap();
    assert_eq!(image.detached_at, Some(Timestamp(5)));
}

#[test]
fn a_session_that_came_and_went_leaves_no_trace() {
    let store = Arc::default();
    let mut replica = open(&store);
    let entries = [
        entry(1, created("a", 1, 0)),
        entry(1, Change::Ended),
        entry(1, progress(1, 1, vec![])), // Under way when the session ended.
    ];
    apply(&mut replica, &entries, 0);
    assert_eq!(replica.image(SessionNumber(1)).unwrap(), None);
    replica.commit().unwrap();
    assert_eq!(store.session(SessionNumber(1)).unwrap(), None);
    assert_eq!(store.marks().unwrap().covers, Offset(3));
}

#[test]
fn nothing_new_makes_no_checkpoint() {
    let store = Arc::default();
    let mut replica = open(&store);
    replica.commit().unwrap();
    assert_eq!(store.commits(), 0);
    apply(&mut replica, &[publication("a", "x", false)], 0);
    replica.commit().unwrap();
    replica.commit().unwrap();
    assert_eq!(store.commits(), 1);
}

#[test]
fn a_record_whose_session_cannot_be_read_is_not_taken_for_applied() {
    let store = Arc::<MemoryStore>::default();
    let checkpoint = Checkpoint {
        sessions: vec![(SessionNumber(1), Some(full_snapshot(1)))],
        ..Checkpoint::default()
    };
    store.commit(&checkpoint).unwrap();
    let mut whole = Vec::new();
    store.damage(SessionNumber(1), |bytes| {
        whole.clone_from(bytes);
        bytes.truncate(9);
    });
    let mut replica = open(&store);
    let at = Offset(700);
    let received = Entry::Message {
        message: message("a", "x", true, 1),
        received: Some(packet_id(44)),
    };
    assert!(replica.apply(at, &received).is_err());
    assert_eq!(replica.applied(), Offset(0));
    assert_eq!(replica.dirty(), 0);

    store.damage(SessionNumber(1), |bytes| *bytes = whole);
    replica.apply(at, &received).unwrap();
    let image = replica.image(SessionNumber(1)).unwrap().unwrap();
    assert!(image.received.contains(&packet_id(44)));
}

#[test]
fn a_retained_record_stays_until_its_successor_is_in_a_checkpoint() {
    let mut replica = replayed(&[publication("a", "old", true), publication("x", "x", false)]);
    let mut told = BTreeSet::new();
    let mut pinned = |replica: &mut Replica| {
        let trim = replica.take_trim().unwrap();
        follow(&mut told, &trim);
        told.iter().map(|offset| offset.0).collect::<Vec<_>>()
    };
    assert_eq!(pinned(&mut replica), []);
    replica.commit().unwrap();
    assert_eq!(pinned(&mut replica), [0]);
    replica
        .apply(Offset(2), &publication("a", "new", true))
        .unwrap();
    assert_eq!(pinned(&mut replica), [0]);
    replica.commit().unwrap();
    assert_eq!(pinned(&mut replica), [2]);
    replica
        .apply(Offset(3), &publication("a", "", true))
        .unwrap();
    replica.commit().unwrap();
    assert_eq!(pinned(&mut replica), []);
}

#[test]
fn a_checkpoint_tells_of_the_retained_messages_that_changed_and_no_others() {
    let store = Arc::default();
    let mut replica = open(&store);
    replica.scan(&mut |_| {}).unwrap();
    let topics: Vec<_> = (0..5_000).map(|number| format!("t/{number}")).collect();
    let entries = topics.iter().map(|topic| publication(topic, "x", true));
    apply(&mut replica, &entries.collect::<Vec<_>>(), 0);
    replica.commit().unwrap();
    assert_eq!(replica.take_trim().unwrap().pins.pinned.len(), 5_000);
    replica
        .apply(Offset(5_000), &publication("t/7", "new", true))
        .unwrap();
    replica.commit().unwrap();
    let expected = Pins {
        pinned: vec![Offset(5_000)],
        unpinned: vec![Offset(7)],
    };
    assert_eq!(replica.take_trim().unwrap().pins, expected);
    // Whoever begins anew is told of all.
    let mut replica = open(&store);
    replica.scan(&mut |_| {}).unwrap();
    assert_eq!(replica.take_trim().unwrap().pins.pinned.len(), 5_000);
}

#[test]
fn a_retained_message_that_is_gone_pins_nothing_and_its_successor_does() {
    let store = Arc::new(MemoryStore::new());
    let mut replica = open(&store);
    let entries: Vec<_> = ["a", "b", "b", "c", "d"]
        .map(|topic| publication(topic, "x", true))
        .into();
    apply(&mut replica, &entries[..3], 0);
    replica.forget("a", Offset(0)).unwrap();
    replica.forget("b", Offset(1)).unwrap();
    // It is known to be gone before its record comes.
    replica.forget("c", Offset(3)).unwrap();
    apply(&mut replica, &entries, 3);
    assert_eq!(replica.forgotten.len(), 0);
    replica.commit().unwrap();
    assert_eq!(pinned(&store), BTreeSet::from([Offset(2), Offset(4)]));
    let mut replica = open(&store);
    replica.forget("b", Offset(2)).unwrap();
    replica.forget("d", Offset(0)).unwrap();
    replica.commit().unwrap();
    assert_eq!(pinned(&store), BTreeSet::from([Offset(4)]));
}

#[test]
fn a_sleeping_reader_holds_the_floor_until_it_ends() {
    let mut replica = replayed(&[
        entry(1, created("a", 1, 0)),
        entry(1, subscribed("a", QoS::AtLeastOnce, 1)),
        entry(1, detached(5, 60)),
    ]);
    replica.commit().unwrap();
    assert_eq!(replica.take_trim().unwrap().floor, Offset(1));
    replica
        .apply(Offset(3), &publication("b", "x", false))
        .unwrap();
    replica.commit().unwrap();
    assert_eq!(replica.take_trim().unwrap().floor, Offset(1));
    let unsubscribed = Change::Unsubscribed {
        filter: filter("a"),
    };
    replica.apply(Offset(4), &entry(1, unsubscribed)).unwrap();
    replica.commit().unwrap();
    assert_eq!(replica.take_trim().unwrap().floor, Offset(5));
}

#[test]
fn liveness_is_the_latest_moment_that_the_journal_speaks_of() {
    let replica = replayed(&[
        entry(1, created("a", 10, 0)),
        Entry::Liveness {
            at: Timestamp(30),
            boot: None,
        },
        entry(1, detached(20, 60)),
    ]);
    assert_eq!(replica.alive_at(), Timestamp(30));
}
