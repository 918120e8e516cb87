//! The fold: what must hold for any journal, and the rules of the windows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::entry::Entry;
use crate::store::fixtures::{
    Fold, attach, beginning, detached, filter, packet_id, progress, sent, subscribed,
    valid_journal, will,
};

fn session() -> SessionSnapshot {
    SessionSnapshot::created(SessionNumber(1), &beginning("meter-7", 10, 1), Offset(0))
}

fn fold(changes: impl IntoIterator<Item = Change>) -> SessionSnapshot {
    let mut snapshot = session();
    for (at, change) in (1..).map(Offset).zip(changes) {
        snapshot.apply(at, &change);
    }
    snapshot
}

fn replay(snapshot: &mut SessionSnapshot, entries: &[Entry], from: usize) {
    for (at, entry) in (0..).map(Offset).zip(entries).skip(from) {
        match entry {
            Entry::Session { session, change } if *session == snapshot.number => {
                snapshot.apply(at, change);
            }
            Entry::Message {
                message,
                received: Some(packet_id),
            } if message.publisher == snapshot.number => {
                snapshot.apply_received(at, *packet_id);
            }
            Entry::Message { .. }
            | Entry::Session { .. }
            | Entry::Group { .. }
            | Entry::Liveness { .. }
            | Entry::HighWater(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn a_replay_that_starts_too_early_changes_nothing(
        choices in prop::collection::vec(any::<u32>(), 1..200),
        covered in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
    ) {
        let entries = valid_journal(&choices);
        let covered = covered.index(entries.len() + 1);
        let from = from.index(covered + 1);
        let whole = Fold::of(&entries);
        for (number, mut snapshot) in Fold::of(&entries[..covered]).sessions {
            replay(&mut snapshot, &entries, from);
            if let Some(expected) = whole.sessions.get(&number) {
                prop_assert_eq!(&snapshot, expected);
            }
        }
    }

    #[test]
    fn the_window_never_holds_two_live_records_under_one_identifier(
        choices in prop::collection::vec(any::<u32>(), 1..300),
    ) {
        for snapshot in Fold::of(&valid_journal(&choices)).sessions.values() {
            let mut live = BTreeSet::new();
            for sent in &snapshot.unsettled {
                prop_assert!(
                    sent.step == Step::Done || live.insert(sent.packet_id),
                    "{:?}", snapshot.unsettled
                );
                prop_assert!(
                    sent.step != Step::Done || (sent.offset >= snapshot.next && !sent.replay)
                );
            }
        }
    }
}

fn replaying(text: &str, as_of: u64) -> Change {
    let Change::Subscribed {
        filter,
        options,
        from,
        ..
    } = subscribed(text, QoS::ExactlyOnce, as_of)
    else {
        unreachable!("it is a subscription")
    };
    Change::Subscribed {
        filter,
        options,
        from,
        replay: Some(Offset(as_of)),
    }
}

fn replayed(text: &str, after: Option<&str>, sent: Vec<Unsettled>) -> Change {
    Change::Replayed {
        filter: filter(text),
        after: after.map(Into::into),
        sent,
    }
}

/// Filter, as-of offset and last topic of each replay.
fn replays(snapshot: &SessionSnapshot) -> Vec<(&str, u64, Option<&str>)> {
    let replays = snapshot.replays.iter();
    replays
        .map(|it| (it.filter.as_str(), it.as_of.0, it.after.as_deref()))
        .collect()
}

#[test]
fn a_replay_goes_on_where_it_came_to_and_starts_over_where_it_is_asked_for_again() {
    let mut journal = vec![replaying("a", 5), replaying("b", 6)];
    journal.push(replayed("a", Some("x"), Vec::new()));
    journal.push(subscribed("a", QoS::AtMostOnce, 7));
    let snapshot = fold(journal.clone());
    assert_eq!(replays(&snapshot), [("a", 5, Some("x")), ("b", 6, None)]);
    journal.push(replaying("a", 9));
    let snapshot = fold(journal.clone());
    assert_eq!(replays(&snapshot), [("b", 6, None), ("a", 9, None)]);
    journal.push(replayed("b", None, Vec::new()));
    journal.push(Change::Unsubscribed {
        filter: filter("a"),
    });
    assert_eq!(replays(&fold(journal)), []);
}

#[test]
fn what_a_replay_sends_is_in_the_window_with_its_progress() {
    let mut record = sent(9, 3, QoS::ExactlyOnce);
    record.replay = true;
    let snapshot = fold([replaying("a", 5), replayed("a", None, vec![record])]);
    assert_eq!(
        (snapshot.unsettled.as_slice(), &*replays(&snapshot)),
        (&[record][..], &[][..])
    );
}

#[test]
fn a_subscription_made_again_keeps_its_place_and_takes_the_new_options() {
    let snapshot = fold([
        subscribed("a", QoS::AtLeastOnce, 5),
        subscribed("b", QoS::AtLeastOnce, 6),
        subscribed("a", QoS::ExactlyOnce, 5),
        Change::Unsubscribed {
            filter: filter("b"),
        },
    ]);
    assert_eq!(snapshot.subscriptions.len(), 1);
    assert_eq!(snapshot.subscriptions[0].options.qos, QoS::ExactlyOnce);
}

#[test]
fn a_settled_record_that_the_cursor_has_not_passed_is_remembered_until_it_has() {
    let settled = [
        Change::Sent(sent(3, 7, QoS::ExactlyOnce)),
        Change::PubRec {
            packet_id: packet_id(3),
        },
        Change::Settled {
            packet_id: packet_id(3),
        },
    ];
    let snapshot = fold(settled.clone());
    assert_eq!(snapshot.unsettled.len(), 1);
    assert_eq!(snapshot.unsettled[0].step, Step::Done);

    let passed = fold(settled.into_iter().chain([progress(8, 4, vec![])]));
    assert_eq!(passed.unsettled, []);
    assert_eq!(passed.next_packet_id, packet_id(4));
}

#[test]
fn progress_short_of_a_settled_record_still_remembers_it() {
    let snapshot = fold([
        Change::Sent(sent(3, 7, QoS::ExactlyOnce)),
        Change::Settled {
            packet_id: packet_id(3),
        },
        progress(7, 3, vec![]),
    ]);
    assert_eq!(snapshot.unsettled.len(), 1);
    assert_eq!(snapshot.unsettled[0].step, Step::Done);
}

#[test]
fn a_qos_2_handshake_never_settles_a_qos_1_record() {
    let snapshot = fold([
        progress(10, 5, vec![sent(3, 9, QoS::AtLeastOnce)]),
        Change::Settled {
            packet_id: packet_id(3),
        },
    ]);
    assert_eq!(snapshot.unsettled, [sent(3, 9, QoS::AtLeastOnce)]);
}

#[test]
fn a_settled_retained_replay_is_forgotten_at_once() {
    let mut replay = sent(3, 7, QoS::ExactlyOnce);
    replay.replay = true;
    let snapshot = fold([
        Change::Sent(replay),
        Change::Settled {
            packet_id: packet_id(3),
        },
    ]);
    assert_eq!(snapshot.unsettled, []);
}

#[test]
fn progress_replaces_the_qos_1_window_and_keeps_the_qos_2_window() {
    let snapshot = fold([
        progress(
            10,
            5,
            vec![sent(1, 4, QoS::AtLeastOnce), sent(3, 9, QoS::AtLeastOnce)],
        ),
        Change::Sent(sent(5, 10, QoS::ExactlyOnce)),
        progress(
            12,
            7,
            vec![sent(6, 11, QoS::AtLeastOnce), sent(3, 9, QoS::AtLeastOnce)],
        ),
    ]);
    let window: Vec<_> = snapshot
        .unsettled
        .iter()
        .map(|sent| (sent.packet_id.get(), sent.offset.0))
        .collect();
    assert_eq!(window, [(3, 9), (5, 10), (6, 11)]);
    assert_eq!(snapshot.floor(), Offset(9));
}

#[test]
fn an_identifier_used_again_proves_that_its_qos_1_record_was_settled() {
    let snapshot = fold([
        progress(10, 5, vec![sent(1, 4, QoS::AtLeastOnce)]),
        Change::Sent(sent(1, 10, QoS::ExactlyOnce)),
        Change::PubRec {
            packet_id: packet_id(1),
        },
    ]);
    assert_eq!(snapshot.unsettled.len(), 1);
    assert_eq!(snapshot.unsettled[0].offset, Offset(10));
    assert_eq!(snapshot.unsettled[0].step, Step::Released);
}

#[test]
fn an_identifier_used_again_leaves_its_settled_qos_2_record_remembered() {
    let snapshot = fold([
        Change::Sent(sent(1, 10, QoS::ExactlyOnce)),
        Change::Settled {
            packet_id: packet_id(1),
        },
        Change::Sent(sent(1, 11, QoS::ExactlyOnce)),
        Change::PubRec {
            packet_id: packet_id(1),
        },
    ]);
    let steps: Vec<_> = snapshot.unsettled.iter().map(|sent| sent.step).collect();
    assert_eq!(steps, [Step::Done, Step::Released]);
}

#[test]
fn an_inbound_identifier_is_kept_once_until_it_is_released() {
    let id = packet_id(9);
    let received = Change::Received { packet_id: id };
    assert_eq!(fold([received.clone(), received.clone()]).received, [id]);
    let mut snapshot = fold([received]);
    snapshot.apply_received(Offset(1), packet_id(8)); // Below what is covered.
    snapshot.apply_received(Offset(2), packet_id(7));
    snapshot.apply(Offset(3), &Change::Released { packet_id: id });
    assert_eq!(snapshot.received, [packet_id(7)]);
}

#[test]
fn the_expiry_runs_from_the_end_of_the_connection_and_stops_at_the_next() {
    let gone = detached(20_000, 30);
    assert_eq!(fold([gone.clone()]).expires_at(), Some(Timestamp(50_000)));
    let back = fold([gone, Change::Attached(attach(2, 30_000))]);
    assert_eq!(back.expires_at(), None);
    assert_eq!(back.expiry_seconds, 100);
}

#[test]
fn a_will_stays_while_it_is_due_and_goes_when_it_is_dropped_or_settled() {
    let mut attach = attach(2, 5);
    attach.will = Some(will(10));
    let attached = Change::Attached(attach);
    let dropped = Change::Detached {
        at: Timestamp(9),
        expiry_seconds: 100,
        will_due: false,
    };
    assert!(fold([attached.clone(), detached(9, 100)]).will.is_some());
    assert!(fold([attached.clone(), dropped]).will.is_none());
    assert!(
        fold([attached, detached(9, 100), Change::WillSettled])
            .will
            .is_none()
    );
}

#[test]
fn a_crash_detaches_an_attached_session_once_and_marks_what_may_have_been_sent() {
    let recovered = |at, below| Change::Recovered {
        at: Timestamp(at),
        maybe_sent_below: Offset(below),
    };
    let once = fold([recovered(70, 50)]);
    assert_eq!(once.detached_at, Some(Timestamp(70)));
    assert_eq!(once.maybe_sent_below, Offset(50));
    // A second crash without an attach in between moves neither.
    let twice = fold([recovered(70, 50), recovered(99, 40)]);
    assert_eq!(twice.detached_at, Some(Timestamp(70)));
    assert_eq!(twice.maybe_sent_below, Offset(50));
    // Progress short of it keeps it, progress past it makes it void.
    assert_eq!(
        fold([recovered(70, 50), progress(49, 2, vec![])]).maybe_sent_below,
        Offset(50)
    );
    assert_eq!(
        fold([recovered(70, 50), progress(50, 2, vec![])]).maybe_sent_below,
        Offset(0)
    );
}

#[test]
fn only_what_is_read_or_unsettled_keeps_the_journal() {
    assert_eq!(session().needed_from(), None);
    let qos_0 = subscribed("a", QoS::AtMostOnce, 3);
    assert_eq!(fold([qos_0.clone()]).needed_from(), None);
    let durable = fold([qos_0, subscribed("b", QoS::AtLeastOnce, 20)]);
    assert_eq!(durable.needed_from(), Some(Offset(20)));
    let ahead = fold([
        subscribed("b", QoS::AtLeastOnce, 20),
        progress(30, 1, vec![]),
    ]);
    assert_eq!(ahead.needed_from(), Some(Offset(30)));
    let unsettled = fold([
        subscribed("b", QoS::AtLeastOnce, 20),
        progress(30, 1, vec![sent(1, 25, QoS::AtLeastOnce)]),
        Change::Unsubscribed {
            filter: filter("b"),
        },
    ]);
    assert_eq!(unsettled.needed_from(), Some(Offset(25)));
}

/// A client that takes part in QoS 2 as section 4.3.3 asks of a receiver.
#[derive(Default)]
struct Receiver {
    pending: BTreeSet<u16>,
    processed: BTreeMap<u64, u32>,
}

impl Receiver {
    fn publish(&mut self, id: u16, offset: u64) {
        if self.pending.insert(id) {
            *self.processed.entry(offset).or_default() += 1;
        }
    }

    fn release(&mut self, id: u16) {
        self.pending.remove(&id);
    }
}

/// Delivers the records 1 to 6 with QoS 2 and stops after `steps` durable changes; progress is recorded now and then.
fn deliver(log: &mut Vec<Change>, client: &mut Receiver, steps: usize, progress_every: u64) {
    let end = log.len() + steps;
    let snapshot = fold(log.clone());
    let full = |log: &Vec<Change>| log.len() >= end;
    let known: BTreeSet<u64> = snapshot
        .unsettled
        .iter()
        .map(|sent| sent.offset.0)
        .collect();
    let work = snapshot.unsettled.iter().copied().chain(
        (snapshot.next.0..=6)
            .filter(|offset| !known.contains(offset))
            .map(|offset| sent(u16::try_from(offset).unwrap(), offset, QoS::ExactlyOnce)),
    );
    let mut work: Vec<_> = work.collect();
    work.sort_by_key(|sent| sent.offset);
    for record in work {
        let packet_id = record.packet_id;
        if record.step == Step::Done {
            continue;
        }
        if record.step == Step::Published {
            if !known.contains(&record.offset.0) {
                if full(log) {
                    return;
                }
                log.push(Change::Sent(record));
            }
            client.publish(packet_id.get(), record.offset.0);
            if full(log) {
                return;
            }
            log.push(Change::PubRec { packet_id });
        }
        client.release(packet_id.get());
        if full(log) {
            return;
        }
        log.push(Change::Settled { packet_id });
        if record.offset.0 % progress_every == 0 {
            if full(log) {
                return;
            }
            let next = record.offset.0 + 1;
            log.push(progress(next, u16::try_from(next).unwrap(), vec![]));
        }
    }
}

#[test]
fn a_crash_after_any_record_delivers_qos_2_exactly_once() {
    for progress_every in 1..=7 {
        for first in 0..26 {
            for second in 0..26 {
                let (mut log, mut client) = (Vec::new(), Receiver::default());
                deliver(&mut log, &mut client, first, progress_every);
                deliver(&mut log, &mut client, second, progress_every);
                deliver(&mut log, &mut client, usize::MAX / 2, progress_every);
                let expected: BTreeMap<u64, u32> = (1..=6).map(|offset| (offset, 1)).collect();
                assert_eq!(
                    client.processed, expected,
                    "progress every {progress_every}, crashes after {first} and {second}"
                );
                assert!(client.pending.is_empty());
            }
        }
    }
}
