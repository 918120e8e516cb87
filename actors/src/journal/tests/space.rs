//! A full disk stops messages, not progress, and heals.

use super::*;

const RESERVED: JournalOptions = JournalOptions {
    reserve_bytes: 4000,
    ..OPTIONS
};

#[test]
fn a_full_disk_refuses_messages_and_heals_when_space_returns() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    journal
        .files
        .limit_space(Some(journal.files.used_bytes() + 20));
    for _ in 0..3 {
        let error = journal
            .writer
            .append(&[message("a", &[0; 100])])
            .unwrap_err();
        assert!(matches!(error, AppendError::Write { .. }));
    }
    assert_eq!(journal.reader.observe().failures, 3);
    journal.files.limit_space(None);
    let second = journal.publish(&["a"])[0];
    assert_eq!(journal.offsets(&["a"]), [first, second]);
    let reopened = Journal::open(journal.files.crash(1), OPTIONS, 2);
    assert_eq!(reopened.offsets(&["a"]), [first, second]);
}

#[test]
fn the_reserve_lets_progress_and_trimming_go_on() {
    let mut journal = Journal::open(MemoryFiles::new(), RESERVED, 1);
    let offsets = journal.publish(&["a"; 30]);
    journal.files.limit_space(Some(journal.files.used_bytes()));
    let refused = |journal: &mut Journal| journal.writer.append(&[message("a", b"1")]).is_err();
    assert!(refused(&mut journal));
    for packet_id in 1..40 {
        journal.commit(&[released(packet_id)]);
    }
    // Room there is, but it is kept for progress.
    assert!(refused(&mut journal));
    journal.trim(offsets[29], &[]).unwrap();
    let mut freed = 0;
    while refused(&mut journal) {
        freed += 1000;
        journal
            .files
            .limit_space(Some(journal.files.used_bytes() + freed));
    }
    journal.writer.sync().unwrap();
    assert!(
        journal
            .files
            .bytes("reserve")
            .is_some_and(|bytes| bytes.len() == 4000)
    );
    let before = journal.entries();
    assert_eq!(
        Journal::open(journal.files.crash(5), RESERVED, 2).entries(),
        before
    );
}

#[test]
fn a_full_disk_at_start_is_no_reason_not_to_start() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    let files = journal.files.kill();
    files.limit_space(Some(files.used_bytes()));
    let mut journal = Journal::open(files, RESERVED, 2);
    assert_eq!(journal.offsets(&["a"]), [first]);
    assert!(journal.writer.append(&[message("a", b"1")]).is_err());
    journal.files.limit_space(None);
    journal.publish(&["a"]);
    assert_eq!(journal.offsets(&["a"]).len(), 2);
}

fn needs(covered: Offset, floor: Offset, pinned: &[Offset]) -> (Needs, &[Offset]) {
    (Needs { covered, floor }, pinned)
}

#[test]
fn a_journal_that_is_too_long_drops_its_oldest_records_and_readers_go_on_behind() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 60]);
    let end = journal.reader.end();
    let dropped = journal
        .trim_to_bytes(1200, needs(end, offsets[5], &[]))
        .unwrap();
    let left = journal.offsets(&["a"]);
    assert!(left.len() < 60 && offsets.ends_with(&left), "{left:?}");
    assert_eq!(journal.reader.start(), left[0]);
    let expected = Taken {
        records: left[0].0 - offsets[5].0, // below nobody needed any
        pinned: 0,
    };
    assert_eq!(dropped, expected);
    assert_eq!(journal.reader.observe().records_dropped, dropped.records);
    let page = journal.page(&["a"], offsets[7], 1);
    assert_eq!(page.records[0].offset, left[0]);
    let reopened = Journal::open(journal.files.crash(1), OPTIONS, 2);
    assert_eq!(reopened.offsets(&["a"]), left);
}

#[test]
fn a_limit_on_bytes_spares_what_no_checkpoint_covers_and_what_is_being_written() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 60]);
    let covered = offsets[30];
    journal
        .trim_to_bytes(1, needs(covered, offsets[0], &[]))
        .unwrap();
    let left = journal.offsets(&["a"]);
    assert!(left[0] > offsets[0] && left[0] <= covered);
    let end = journal.reader.end();
    journal
        .trim_to_bytes(1, needs(end, offsets[0], &[]))
        .unwrap();
    assert_eq!(journal.reader.observe().segments, 1);
    assert_eq!(journal.offsets(&["a"]).last(), offsets.last());
}

#[test]
fn a_limit_on_bytes_takes_pinned_records_last() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 60]);
    let (end, pinned) = (journal.reader.end(), [offsets[1]]);
    let is_there = |journal: &Journal| journal.reader.read_at(&pinned).unwrap()[0].is_some();
    journal
        .trim_to_bytes(1200, needs(end, end, &pinned))
        .unwrap();
    assert!(is_there(&journal));
    assert_eq!(journal.reader.observe().records_dropped, 0);
    let left = journal.entries();
    let reopened = Journal::open(journal.files.crash(1), OPTIONS, 2);
    assert_eq!(reopened.entries(), left);
    let dropped = journal.trim_to_bytes(1, needs(end, end, &pinned)).unwrap();
    assert!(!is_there(&journal));
    let expected = Taken {
        records: 1,
        pinned: 1,
    };
    assert_eq!(dropped, expected);
}

#[test]
fn a_reader_is_told_of_each_hole_that_it_steps_over_and_of_nothing_else() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 200]);
    let holes = |journal: &Journal, from| journal.holes(&["a"], from);
    assert_eq!(holes(&journal, Offset(0)), 0);
    // What nobody needs any more is no hole for whoever comes now.
    journal.trim(offsets[20], &[offsets[1]]).unwrap();
    assert_eq!(holes(&journal, offsets[20]), 0);
    let end = journal.reader.end();
    let pinned = [offsets[1], offsets[120]];
    journal
        .trim_to_bytes(1200, needs(end, offsets[20], &pinned))
        .unwrap();
    for (journal, kind) in [
        (Journal::open(journal.files.kill(), OPTIONS, 2), "reopened"),
        (journal, "as it was"),
    ] {
        let left = journal.offsets(&["a"]);
        assert!(left.contains(&offsets[120]), "{kind}");
        assert_eq!(
            holes(&journal, offsets[20]),
            2,
            "{kind}: around what is pinned"
        );
        assert_eq!(holes(&journal, offsets[120]), 1, "{kind}: behind it");
        assert_eq!(holes(&journal, offsets[199]), 0, "{kind}");
        let filters = [(Filter::new("a").unwrap(), offsets[199])];
        let later = ReadRequest {
            filters: &filters,
            from: offsets[20],
            records_max: 9,
            bytes_max: 9_999,
        };
        assert_eq!(
            journal.reader.read(&later).unwrap().holes,
            0,
            "subscribed behind"
        );
    }
}

#[test]
fn a_stored_message_of_64_bytes_takes_at_most_110_bytes_of_disk() {
    let options = JournalOptions {
        segment_bytes_max: 1 << 20,
        ..OPTIONS
    };
    let mut journal = Journal::open(MemoryFiles::new(), options, 1);
    let topics: Vec<_> = (0..1000)
        .map(|n| format!("devices/{n:06}/command"))
        .collect();
    let mut count = 0;
    while journal.reader.observe().segments < 3 {
        let batch: Vec<_> = topics
            .iter()
            .map(|topic| message(topic, &[7; 64]))
            .collect();
        journal.commit(&batch);
        count += batch.len() as u64;
    }
    while journal.writer.maintain() {}
    let bytes = journal.files.used_bytes();
    assert!(bytes <= count * 110, "{bytes} bytes for {count} messages");
}
