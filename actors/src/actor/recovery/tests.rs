//! Who lives on after a start, and with what.

use std::collections::BTreeMap;

use super::*;
use crate::clock::ManualClock;
use crate::model::message::QoS;
use crate::store::fixtures::{
    VecJournal, attach, created, detached, entry, progress, publication, subscribed, will,
};
use crate::store::memory::MemoryStore;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// A broker that can be started again at any moment.
#[derive(Default)]
struct Broker {
    store: Arc<MemoryStore>,
    journal: VecJournal,
}

#[derive(Default)]
struct Found {
    sessions: BTreeMap<u64, SessionSummary>,
    expired: BTreeMap<u64, ExpiredSession>,
    retained: Vec<(String, u64)>,
    end: Offset,
}

impl Broker {
    fn write(&mut self, entries: impl IntoIterator<Item = Entry>) -> &mut Self {
        self.journal.0.extend(entries);
        self
    }

    /// Writes a checkpoint of all that is in the journal.
    fn checkpoint(&mut self) -> &mut Self {
        let recovered = self.recover(0, &mut |_| {}).unwrap();
        let mut replica = recovered.replica;
        replica.commit().unwrap();
        self
    }

    fn recover(
        &self,
        now: u64,
        each: &mut dyn FnMut(Survivor<'_>),
    ) -> Result<Recovered, RecoverError> {
        let store = Arc::clone(&self.store) as Arc<dyn SnapshotStore>;
        let machine = Arc::new(ManualClock::new(Timestamp(now)));
        recover(store, &self.journal, machine, each)
    }

    fn start(&self, now: u64) -> Found {
        let mut found = Found::default();
        let recovered = self
            .recover(now, &mut |survivor| match survivor {
                Survivor::Session(session) => {
                    found.sessions.insert(session.number.0, session);
                }
                Survivor::Expired(session) => {
                    found.expired.insert(session.number.0, session);
                }
                Survivor::Group { .. } => {}
                Survivor::Retained { topic, at } => {
                    found.retained.push((topic.to_owned(), at.offset.0));
                }
            })
            .unwrap();
        assert_eq!(recovered.sessions, found.sessions.len() as u64);
        assert_eq!(recovered.expired, found.expired.len() as u64);
        found.end = recovered.end;
        found
    }
}

/// A session that is attached at `at` with 100 seconds of expiry.
fn attached(number: u64, at: u64) -> Entry {
    entry(number, created("meter", at, 0))
}

fn alive(at: u64) -> Entry {
    Entry::Liveness {
        at: Timestamp(at),
        boot: None,
    }
}

#[test]
fn an_empty_data_directory_has_no_survivors() {
    let found = Broker::default().start(5);
    assert!(found.sessions.is_empty() && found.expired.is_empty() && found.retained.is_empty());
}

#[test]
fn survivors_come_from_the_store_and_from_the_tail_of_the_journal_alike() {
    for checkpoint_after in 0..=4 {
        let mut broker = Broker::default();
        let entries = [
            attached(1, 10),
            attached(2, 10),
            entry(1, subscribed("a/#", QoS::AtLeastOnce, 2)),
            entry(1, subscribed("b", QoS::AtMostOnce, 3)),
            entry(2, Change::Ended),
        ];
        broker
            .write(entries[..checkpoint_after].to_vec())
            .checkpoint();
        broker.write(entries[checkpoint_after..].to_vec());
        let found = broker.start(20);
        assert_eq!(found.sessions.keys().collect::<Vec<_>>(), [&1]);
        let session = &found.sessions[&1];
        assert_eq!(session.client_id, ClientId::from("meter"));
        assert_eq!(session.filters, [Filter::new("a/#").unwrap()]);
        assert_eq!(session.expiry_seconds, 100);
    }
}

#[test]
fn a_deadline_that_passes_while_the_broker_is_down_counts() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0), entry(1, detached(SECOND, 100))]);
    let deadline = 101 * SECOND;
    let found = broker.start(deadline - 1);
    assert_eq!(found.sessions[&1].deadline, Timestamp(deadline));
    assert!(!found.sessions[&1].was_attached);
    assert_eq!(found.sessions[&1].record, None);

    let found = broker.start(deadline);
    assert!(found.sessions.is_empty());
    let expired = &found.expired[&1];
    assert_eq!(expired.expired_at, Timestamp(deadline));
    assert_eq!(expired.record(), entry(1, Change::Ended));
    broker.write([expired.record()]);
    assert!(broker.start(deadline).expired.is_empty());
}

#[test]
fn an_attached_session_counts_as_detached_one_interval_after_the_last_stamp() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0), alive(10 * MINUTE)]);
    let ended_at = 11 * MINUTE;
    let deadline = ended_at + 100 * SECOND;
    let found = broker.start(deadline - 1);
    let session = &found.sessions[&1];
    assert!(session.was_attached);
    assert_eq!(session.deadline, Timestamp(deadline));
    let recovered = Change::Recovered {
        at: Timestamp(ended_at),
        maybe_sent_below: found.end,
    };
    assert_eq!(session.record, Some(entry(1, recovered)));
    assert!(broker.start(deadline).expired.contains_key(&1));
}

#[test]
fn the_stamp_in_a_checkpoint_counts_as_well() {
    let mut broker = Broker::default();
    broker
        .write([attached(1, 0), alive(10 * MINUTE)])
        .checkpoint();
    let deadline = 11 * MINUTE + 100 * SECOND;
    assert_eq!(
        broker.start(10 * MINUTE + 90 * SECOND).sessions[&1].deadline,
        Timestamp(deadline)
    );
}

#[test]
fn an_attach_after_the_last_stamp_counts_and_nothing_ends_in_the_future() {
    let mut broker = Broker::default();
    broker.write([alive(MINUTE), attached(1, 5 * MINUTE)]);
    let session = &broker.start(5 * MINUTE + SECOND).sessions[&1];
    let deadline = 5 * MINUTE + SECOND + 100 * SECOND;
    assert_eq!(session.deadline, Timestamp(deadline));
}

#[test]
fn a_second_crash_neither_prolongs_nor_shortens_what_the_first_start_recorded() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0)]);
    let first = broker.start(30 * SECOND);
    let session = &first.sessions[&1];
    // Dead before the record was written: the same again.
    assert_eq!(
        broker.start(30 * SECOND).sessions[&1].record,
        session.record
    );
    broker.write(session.record.clone());
    broker.write([alive(100 * SECOND)]);
    let second = broker.start(110 * SECOND);
    assert_eq!(second.sessions[&1].deadline, session.deadline);
    assert_eq!(second.sessions[&1].record, None);
    let image = broker.recover(0, &mut |_| {}).unwrap().replica;
    let image = image.image(SessionNumber(1)).unwrap().unwrap();
    assert_eq!(image.maybe_sent_below, first.end);
}

#[test]
fn a_crash_while_attached_again_moves_the_mark_of_what_may_have_been_sent() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0), publication("a", "x", false)]);
    let record = broker.start(SECOND).sessions[&1].record.clone();
    broker.write(record);
    broker.write([
        entry(1, Change::Attached(attach(2, 2 * SECOND))),
        publication("a", "y", false),
    ]);
    let found = broker.start(3 * SECOND);
    broker.write(found.sessions[&1].record.clone());
    let image = |broker: &Broker| {
        let replica = broker.recover(0, &mut |_| {}).unwrap().replica;
        replica.image(SessionNumber(1)).unwrap().unwrap()
    };
    assert_eq!(image(&broker).maybe_sent_below, Offset(5));
    // Progress past it says that all of it was dealt with.
    broker.write([entry(1, progress(5, 3, vec![]))]);
    assert_eq!(image(&broker).maybe_sent_below, Offset(0));
}

#[test]
fn wills_are_due_after_their_delay_and_at_the_latest_with_the_session() {
    for (delay, due_at) in [(0, 10), (30, 40), (500, 110)] {
        let mut broker = Broker::default();
        let mut attach = attach(2, 0);
        attach.will = Some(will(delay));
        broker.write([
            attached(1, 0),
            entry(1, Change::Attached(attach)),
            entry(1, detached(10 * SECOND, 100)),
        ]);
        let found = broker.start(11 * SECOND);
        let due_at = Timestamp(due_at * SECOND);
        assert_eq!(found.sessions[&1].will_due_at, Some(due_at));
        assert_eq!(
            broker.start(1_000 * SECOND).expired[&1].will,
            Some(will(delay))
        );
    }
}

#[test]
fn a_will_without_delay_is_due_at_the_start_after_a_crash() {
    let mut broker = Broker::default();
    let mut attach = attach(2, 0);
    attach.will = Some(will(0));
    broker.write([attached(1, 0), entry(1, Change::Attached(attach))]);
    let now = Timestamp(5 * SECOND);
    assert_eq!(broker.start(now.0).sessions[&1].will_due_at, Some(now));
}

#[test]
fn retained_topics_survive_with_their_latest_record() {
    let mut broker = Broker::default();
    broker.write([
        publication("a", "1", true),
        publication("b", "1", true),
        publication("c", "1", true),
    ]);
    broker.checkpoint();
    broker.write([publication("a", "2", true), publication("b", "", true)]);
    let mut retained = broker.start(0).retained;
    retained.sort();
    assert_eq!(retained, [("a".to_owned(), 3), ("c".to_owned(), 2)]);
}

#[test]
fn a_damaged_session_stops_the_start_and_names_it() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0), attached(2, 0)]).checkpoint();
    broker.store.damage(SessionNumber(2), |bytes| bytes[9] ^= 1);
    let commits = broker.store.commits();
    let error = broker.recover(0, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("session 2"), "{error}");
    assert_eq!(broker.store.commits(), commits, "something was written");
}

#[test]
fn a_damaged_session_that_the_tail_touches_stops_the_start_too() {
    let mut broker = Broker::default();
    broker.write([attached(1, 0)]).checkpoint();
    broker.store.damage(SessionNumber(1), |bytes| bytes[9] ^= 1);
    broker.write([entry(1, detached(5, 5)), attached(2, 0)]);
    assert!(broker.recover(0, &mut |_| {}).is_err());
}

#[test]
fn every_start_has_an_epoch_of_its_own_whatever_is_checkpointed_in_between() {
    let store = Arc::new(MemoryStore::new());
    let mut replica = Replica::open(Arc::clone(&store) as Arc<dyn SnapshotStore>).unwrap();
    assert_eq!(begin_epoch(&*store, Offset(7)).unwrap(), 1);
    // The replica was opened before the epoch began.
    replica.apply(Offset(0), &attached(1, 0)).unwrap();
    replica.commit().unwrap();
    assert_eq!(begin_epoch(&store.crash(), Offset(7)).unwrap(), 2);
    store.fail_commits(1);
    assert!(begin_epoch(&*store, Offset(7)).is_err());
    assert_eq!(store.marks().unwrap().epoch, 1);
}
