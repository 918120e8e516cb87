//! The thread: what it is told and asked, in any order. Every wait is for an answer, never for time.

use std::sync::mpsc;

use super::*;
use crate::clock::ManualClock;
use crate::model::entry::Change;
use crate::model::ids::Timestamp;
use crate::model::message::QoS;
use crate::store::SnapshotStore;
use crate::store::fixtures::{
    created, detached, entry, full_snapshot, publication, subscribed, valid_journal,
};
use crate::store::memory::MemoryStore;
use crate::supervise::vitals::{Vital, Vitals};

/// A checkpointer on a store in memory that acts only when asked.
struct Bench {
    store: Arc<MemoryStore>,
    handle: CheckpointerHandle,
    floors: mpsc::Receiver<Offset>,
    gone: mpsc::Sender<Gone>,
}

impl Bench {
    fn start(store: Arc<MemoryStore>, dirty_max: usize) -> Self {
        let config = CheckpointConfig {
            interval_millis: 0,
            dirty_max,
            batches_max: 2,
        };
        let mut replica = Replica::open(Arc::clone(&store) as Arc<dyn SnapshotStore>).unwrap();
        replica.scan(&mut |_| {}).unwrap();
        let (told, floors) = mpsc::channel();
        let on_trim = Box::new(move |trim: Trim| told.send(trim.floor).unwrap());
        let clock = Arc::new(ManualClock::default());
        let (gone, forgets) = mpsc::channel();
        let gone_source = Box::new(move |_, max| forgets.try_iter().take(max).collect());
        let sign = Vitals::default().sign(Vital::Checkpointer);
        let handle =
            Checkpointer::start(replica, config, clock, sign, on_trim, gone_source).unwrap();
        Self {
            store,
            handle,
            floors,
            gone,
        }
    }

    fn send(&self, first: u64, entries: impl IntoIterator<Item = Entry>) {
        let entries = (first..).map(Offset).zip(entries).collect();
        self.handle.sink().send(entries).unwrap();
    }

    fn ask(&self, session: u64, at_least: u64) -> mpsc::Receiver<Image> {
        let (reply, answer) = mpsc::channel();
        self.handle.image(
            SessionNumber(session),
            Offset(at_least),
            Box::new(move |image| reply.send(image).unwrap()),
        );
        answer
    }

    fn checkpoint(&self) -> Result<Offset, StoreError> {
        let (reply, answer) = mpsc::channel();
        self.handle
            .checkpoint(Box::new(move |covers| reply.send(covers).unwrap()));
        answer.recv().unwrap()
    }
}

type Image = Result<Option<SessionSnapshot>, StoreError>;

#[test]
fn an_image_is_given_once_what_it_must_hold_is_applied() {
    let bench = Bench::start(Arc::default(), 100);
    let early = bench.ask(1, 2);
    bench.send(0, [entry(1, created("a", 1, 0))]);
    bench.checkpoint().unwrap();
    assert!(early.try_recv().is_err(), "answered too early");
    assert_eq!(bench.handle.observe().images_awaited, 1);
    bench.send(1, [entry(1, detached(7, 60))]);
    let image = early.recv().unwrap().unwrap().unwrap();
    assert_eq!(image.detached_at, Some(Timestamp(7)));
    assert_eq!(bench.ask(2, 2).recv().unwrap().unwrap(), None);
}

#[test]
fn an_image_of_a_sleeping_session_comes_from_the_store_and_is_not_kept() {
    let bench = Bench::start(Arc::default(), 100);
    bench.send(0, [entry(1, created("a", 1, 0))]);
    assert_eq!(bench.checkpoint().unwrap(), Offset(1));
    assert!(bench.ask(1, 1).recv().unwrap().unwrap().is_some());
    bench.checkpoint().unwrap();
    assert_eq!(bench.handle.observe().dirty_sessions, 0);
}

#[test]
fn a_checkpoint_is_made_as_soon_as_enough_is_dirty() {
    let bench = Bench::start(Arc::default(), 3);
    bench.send(0, (1..=3).map(|number| entry(number, created("a", 1, 0))));
    assert_eq!(bench.floors.recv().unwrap(), Offset(3));
    assert_eq!(bench.store.marks().unwrap().covers, Offset(3));
}

#[test]
fn the_floor_is_told_after_every_checkpoint() {
    let bench = Bench::start(Arc::default(), 100);
    bench.send(
        0,
        [
            publication("a", "x", false),
            entry(1, created("a", 1, 1)),
            entry(1, subscribed("a", QoS::AtLeastOnce, 2)),
        ],
    );
    bench.checkpoint().unwrap();
    assert_eq!(bench.floors.recv().unwrap(), Offset(2));
    bench.send(3, [entry(1, Change::Ended)]);
    bench.checkpoint().unwrap();
    assert_eq!(bench.floors.recv().unwrap(), Offset(4));
}

#[test]
fn however_many_retained_messages_are_gone_at_once_they_are_forgotten_without_another_tick() {
    let bench = Bench::start(Arc::default(), 20_000);
    let topics: Vec<_> = (0..30_000).map(|number| format!("t/{number}")).collect();
    bench.send(0, topics.iter().map(|topic| publication(topic, "x", true)));
    bench.checkpoint().unwrap();
    while bench.floors.try_recv().is_ok() {}
    for (topic, offset) in topics[1..].iter().zip(1..) {
        bench
            .gone
            .send((topic.as_str().into(), Offset(offset)))
            .unwrap();
    }
    bench.checkpoint().unwrap();
    // So many differ from the store that it is written, without being asked again.
    for _ in 0..2 {
        bench.floors.recv().unwrap();
    }
    bench.handle.stop().unwrap();
    let mut left = 0;
    bench.store.retained(&mut |_, _| left += 1).unwrap();
    assert!(left <= 10_000, "{left}");
}

#[test]
fn a_store_that_fails_loses_nothing_and_is_tried_again() {
    let bench = Bench::start(Arc::default(), 100);
    bench.store.fail_commits(2);
    bench.send(0, [entry(1, created("a", 1, 0))]);
    assert!(bench.checkpoint().is_err());
    bench.send(1, [entry(2, created("b", 1, 0))]);
    assert!(bench.checkpoint().is_err());
    assert!(bench.ask(1, 2).recv().unwrap().unwrap().is_some());
    assert_eq!(bench.checkpoint().unwrap(), Offset(2));
    assert!(bench.store.session(SessionNumber(1)).unwrap().is_some());
    assert!(bench.store.session(SessionNumber(2)).unwrap().is_some());
    bench.handle.stop().unwrap();
    let observed = bench.handle.observe();
    assert_eq!(observed.failures, 2);
    assert_eq!(observed.commits, 1);
    assert_eq!(observed.lag, 0);
    assert_eq!(observed.covers, Offset(2));
}

#[test]
fn a_session_that_cannot_be_read_holds_up_the_records_behind_it_and_loses_none() {
    let store = Arc::<MemoryStore>::default();
    let session = SessionNumber(1);
    let checkpoint = crate::store::Checkpoint {
        sessions: vec![(session, Some(full_snapshot(1)))],
        ..Default::default()
    };
    store.commit(&checkpoint).unwrap();
    let bench = Bench::start(store, 100);
    let mut whole = Vec::new();
    bench.store.damage(session, |bytes| {
        whole.clone_from(bytes);
        bytes.clear();
    });
    bench.send(
        700,
        [entry(1, Change::WillSettled), publication("b", "x", true)],
    );
    assert_eq!(bench.checkpoint().unwrap(), Offset(0));
    assert!(bench.ask(1, 0).recv().unwrap().is_err());
    bench.store.damage(session, |bytes| *bytes = whole);
    assert_eq!(bench.checkpoint().unwrap(), Offset(702));
    let image = bench.ask(1, 702).recv().unwrap().unwrap().unwrap();
    assert_eq!(image.will, None);
    assert_eq!(
        bench.store.retained_at("b").unwrap().map(|at| at.offset),
        Some(Offset(701))
    );
}

#[test]
fn a_full_queue_makes_the_appender_wait_and_loses_nothing() {
    let bench = Bench::start(Arc::default(), 7);
    let choices: Vec<u32> = (0..5_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761))
        .collect();
    let entries = valid_journal(&choices);
    for (index, entry) in entries.iter().enumerate() {
        bench.send(index as u64, [entry.clone()]);
    }
    bench.handle.stop().unwrap();
    let mut fold = crate::store::fixtures::Fold::default();
    bench
        .store
        .sessions(&mut |snapshot| {
            fold.sessions.insert(snapshot.number, snapshot);
        })
        .unwrap();
    bench
        .store
        .groups(&mut |snapshot| {
            fold.groups.insert(snapshot.number, snapshot);
        })
        .unwrap();
    bench
        .store
        .retained(&mut |topic, at| {
            fold.retained.insert(topic.to_owned(), at);
        })
        .unwrap();
    assert_eq!(fold, crate::store::fixtures::Fold::of(&entries));
}

#[test]
fn stopping_checkpoints_what_was_sent_and_answers_whoever_waits() {
    let bench = Bench::start(Arc::default(), 100);
    let waiting = bench.ask(1, 99);
    bench.send(0, [entry(1, created("a", 1, 0))]);
    bench.send(1, [entry(2, created("b", 1, 0))]);
    bench.handle.stop().unwrap();
    assert_eq!(bench.store.marks().unwrap().covers, Offset(2));
    assert!(matches!(waiting.recv().unwrap(), Err(StoreError::Stopped)));
    let late = bench.ask(1, 0).recv().unwrap();
    assert!(matches!(late, Err(StoreError::Stopped)));
    assert!(matches!(bench.checkpoint(), Err(StoreError::Stopped)));
    assert!(matches!(bench.handle.stop(), Err(StoreError::Stopped)));
    assert_eq!(bench.handle.sink().send(vec![]), Err(Stopped));
}

#[test]
fn a_last_checkpoint_that_fails_is_told() {
    let bench = Bench::start(Arc::default(), 100);
    bench.store.fail_commits(1);
    bench.send(0, [entry(1, created("a", 1, 0))]);
    assert!(matches!(
        bench.handle.stop(),
        Err(StoreError::Backend { .. })
    ));
}

#[test]
fn plain_publications_need_not_be_sent_to_be_covered() {
    let bench = Bench::start(Arc::default(), 100);
    assert!(!CheckpointSink::wants(&publication("a", "x", false)));
    assert!(CheckpointSink::wants(&publication("a", "x", true)));
    bench
        .handle
        .sink()
        .send_below(vec![(Offset(4), publication("a", "x", true))], Offset(9))
        .unwrap();
    assert_eq!(bench.ask(1, 9).recv().unwrap().unwrap(), None);
    assert_eq!(bench.checkpoint().unwrap(), Offset(9));
}
