//! What was let go is no loss at the next start, and what was not is.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::files::Files as _;
use super::super::recovery::{Known, reopen};
use super::*;

fn segment(id: u64) -> String {
    format!("{id:012}.seg")
}

/// So many segments, the indexes of all but the last written, and the first offset of each.
fn segments(count: u64) -> (Journal, Vec<Offset>) {
    let mut journal = Journal::new();
    let mut firsts = Vec::new();
    while firsts.len() < usize::try_from(count).unwrap() {
        let before = journal.reader.observe().segments;
        let offset = journal.publish(&["a"])[0];
        if journal.reader.observe().segments > before {
            firsts.push(offset);
        }
    }
    while journal.writer.maintain() {}
    (journal, firsts)
}

fn names(files: &MemoryFiles, kind: &str) -> Vec<String> {
    let names = files.list().unwrap().into_iter();
    names.filter(|name| name.ends_with(kind)).collect()
}

fn missing(files: &MemoryFiles, known: Known) -> String {
    let before: Vec<_> = files.list().unwrap();
    let error = reopen(Arc::new(files.clone()), OPTIONS, known).unwrap_err();
    assert_eq!(
        files.list().unwrap(),
        before,
        "a refused journal was changed"
    );
    match error {
        ReadError::Missing { what, .. } => what,
        other @ (ReadError::Io { .. } | ReadError::Damaged { .. }) => panic!("{other}"),
    }
}

#[test]
fn what_goes_from_the_front_after_what_went_from_the_middle_is_no_loss() {
    let (mut journal, firsts) = segments(4);
    let end = journal.reader.end();
    journal.trim(end, &[firsts[0], firsts[2]]).unwrap();
    assert_eq!(names(&journal.files, "seg"), [1, 3, 4].map(segment));
    journal.trim(end, &[]).unwrap();
    assert_eq!(names(&journal.files, "seg"), [segment(4)]);
    for files in [journal.files.kill(), journal.files.crash(1)] {
        let reopened = Journal::open(files, OPTIONS, 2);
        assert_eq!(reopened.offsets(&["a"]), journal.offsets(&["a"]));
    }
}

/// As the build before the list of dropped segments left it.
#[test]
fn a_directory_with_marks_of_single_segments_starts_and_gets_a_list() {
    for (kept, marks) in [
        (vec![4], vec![2]),
        (vec![4], vec![]),
        (vec![3, 4], vec![1, 2]),
        (vec![1, 4], vec![2, 3]),
        (vec![2, 4], vec![1, 3]),
    ] {
        let (journal, firsts) = segments(4);
        let files = MemoryFiles::new();
        for id in &kept {
            let bytes = journal.files.bytes(&segment(*id)).unwrap();
            files.plant(&segment(*id), &bytes);
        }
        for id in marks {
            files.plant(&format!("{id:012}.gone"), b"");
        }
        for epoch in 2..8_u32 {
            // The power may go at any moment of the first start.
            let cut = files.kill();
            cut.cut_power_after(u64::from(epoch) * 2);
            drop(open(Arc::new(cut.clone()), OPTIONS, epoch));
            Journal::open(cut.crash(epoch.into()), OPTIONS, epoch + 1);
        }
        let reopened = Journal::open(files, OPTIONS, 2);
        assert_eq!(
            reopened.offsets(&["a"])[0],
            firsts[usize::try_from(kept[0] - 1).unwrap()]
        );
        assert!(names(&reopened.files, "gone").is_empty());
        assert_eq!(names(&reopened.files, "dropped").len(), 1);
        Journal::open(reopened.files.kill(), OPTIONS, 3);
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_no_reason_not_to_start_and_is_tried_again() {
    let (mut journal, firsts) = segments(5);
    journal.files.fail_removals(2);
    let pinned = [firsts[3]];
    assert!(journal.trim(firsts[1], &pinned).unwrap() > 0);
    assert!(names(&journal.files, "seg").contains(&segment(1)));
    assert_eq!(journal.reader.observe().failures, 2);
    let left = journal.entries();
    let mut stubborn = Journal::open(
        {
            let files = journal.files.kill();
            files.fail_removals(1);
            files
        },
        OPTIONS,
        2,
    );
    assert_eq!(stubborn.entries(), left);
    stubborn.trim(Offset(0), &[]).unwrap();
    assert!(!names(&stubborn.files, "seg").contains(&segment(1)));
    // The same journal goes on: the next trim removes what is left over and what goes now.
    let end = journal.reader.end();
    journal.trim(end, &pinned).unwrap();
    assert_eq!(names(&journal.files, "seg"), [4, 5].map(segment));
    assert_eq!(names(&journal.files, "idx").len(), 1);
    let reopened = Journal::open(journal.files.kill(), OPTIONS, 2);
    assert!(reopened.reader.read_at(&pinned).unwrap()[0].is_some());
}

#[test]
fn what_cannot_be_noted_stays() {
    let (mut journal, firsts) = segments(4);
    let before = journal.entries();
    let files = journal.files.clone();
    files.cut_power_after(0);
    assert!(journal.trim(firsts[2], &[]).is_err());
    let needs = Needs {
        covered: firsts[3],
        floor: firsts[0],
    };
    assert!(journal.trim_to_bytes(1, (needs, &[])).is_err());
    assert_eq!(journal.entries(), before);
    assert_eq!(journal.reader.observe().records_dropped, 0);
    assert_eq!(Journal::open(files.kill(), OPTIONS, 2).entries(), before);
}

#[test]
fn a_full_disk_is_won_back_by_trimming() {
    let options = JournalOptions {
        reserve_bytes: 8192,
        ..OPTIONS
    };
    let mut journal = Journal::open(MemoryFiles::new(), options, 1);
    let offsets = journal.publish(&["a"; 3000]);
    let mut pinned = Vec::new();
    // So many separate ranges that the list needs a longer file.
    for (n, pair) in offsets.chunks(40).enumerate() {
        journal.files.limit_space(Some(journal.files.used_bytes()));
        pinned.push(pair[0]);
        if n % 10 == 9 {
            journal.trim(pair[1], &pinned).unwrap();
        }
    }
    journal.files.limit_space(None);
    let left = journal.entries();
    assert!(left.len() < 3000);
    assert_eq!(
        Journal::open(journal.files.kill(), options, 2).entries(),
        left
    );
}

#[test]
fn a_missing_segment_is_noticed_wherever_it_lay() {
    for id in 1..4 {
        let (journal, _) = segments(4);
        journal.files.remove(&segment(id)).unwrap();
        let what = missing(&journal.files, Known::epoch(2));
        assert_eq!(what, format!("segment {id} is missing"));
    }
    let (mut journal, firsts) = segments(6);
    journal.trim(firsts[2], &[]).unwrap();
    for id in [3, 4] {
        journal.files.remove(&segment(id)).unwrap();
    }
    let what = missing(&journal.files, Known::epoch(2));
    assert_eq!(what, "segments 3 to 4 are missing");
}

#[test]
fn a_loss_that_is_accepted_is_counted_once_and_no_longer_missed() {
    let (mut journal, firsts) = segments(5);
    journal.trim(firsts[1], &[]).unwrap();
    for id in [2, 4] {
        journal.files.remove(&segment(id)).unwrap();
    }
    let known = Known {
        accepts_loss: true,
        ..Known::epoch(2)
    };
    let (mut writer, reader) = reopen(Arc::new(journal.files.clone()), OPTIONS, known).unwrap();
    assert_eq!(reader.observe().losses, 2);
    let left = replayed(&reader);
    assert_eq!(left[0].0, firsts[2]);
    let new = writer.append(&[message("a", b"new")]).unwrap();
    writer.sync().unwrap();
    let again = Journal::open(journal.files.kill(), OPTIONS, 3);
    assert_eq!(again.reader.observe().losses, 0);
    assert_eq!(again.entries()[..left.len()], left);
    assert_eq!(again.entries()[left.len()].0, new);
}

#[test]
fn a_journal_that_ends_before_what_the_store_knows_of_is_noticed() {
    let (journal, firsts) = segments(3);
    let end = journal.reader.end();
    let known = Known {
        covers: end,
        holds: end,
        ..Known::epoch(2)
    };
    let whole = journal.files.kill();
    reopen(Arc::new(whole), OPTIONS, known).unwrap();
    journal.files.remove(&segment(3)).unwrap();
    let expected = format!(
        "it ends at offset {}, and the store knows of records up to {}",
        firsts[2].0, end.0
    );
    assert_eq!(missing(&journal.files, known), expected);
    assert!(missing(&MemoryFiles::new(), known).starts_with("it ends at offset 0,"));
    let accepted = Known {
        accepts_loss: true,
        ..known
    };
    let (_, reader) = reopen(Arc::new(MemoryFiles::new()), OPTIONS, accepted).unwrap();
    assert_eq!(reader.observe().losses, 1);
    assert!(reader.end() > end, "no offset is used twice");
}

#[test]
fn a_store_that_is_older_than_what_was_dropped_is_noticed() {
    let (mut journal, firsts) = segments(4);
    journal.trim(firsts[2], &[]).unwrap();
    let known = |covers| Known {
        covers,
        ..Known::epoch(2)
    };
    let what = missing(&journal.files, known(firsts[1]));
    assert!(what.contains("older than the journal"), "{what}");
    let open = |covers| reopen(Arc::new(journal.files.kill()), OPTIONS, known(covers));
    open(firsts[2]).unwrap();
}

#[test]
fn a_broken_list_is_named_when_a_segment_is_missing() {
    let (mut journal, firsts) = segments(4);
    journal.trim(firsts[1], &[]).unwrap();
    let name = "000000000001.dropped";
    for at in 0..64 {
        let files = journal.files.kill();
        let mut bytes = files.bytes(name).unwrap();
        bytes[at] ^= 1;
        files.plant(name, &bytes);
        match open(Arc::new(files), OPTIONS, 2) {
            // Without its list the directory is one of the build before, and segment 1 went from the front.
            Ok(_) => assert!(at < 32, "byte {at}"),
            Err(ReadError::Damaged {
                path, at: place, ..
            }) => {
                assert_eq!((path, place), (format!("memory/{name}"), 32), "byte {at}");
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    /// Trims to a part of all offsets, keeping some.
    Trim {
        part: u8,
        pins: Vec<u8>,
    },
    /// As [`Step::Trim`], by bytes.
    TrimToBytes {
        part: u8,
        pins: Vec<u8>,
        bytes_max: u16,
    },
    FailRemovals(u8),
    FailSync,
    Maintain,
}

fn step() -> impl Strategy<Value = Step> {
    let pins = || proptest::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        4 => (1u8..30).prop_map(Step::Publish),
        4 => (any::<u8>(), pins()).prop_map(|(part, pins)| Step::Trim { part, pins }),
        1 => (any::<u8>(), pins(), 0u16..4000)
            .prop_map(|(part, pins, bytes_max)| Step::TrimToBytes { part, pins, bytes_max }),
        1 => (1u8..5).prop_map(Step::FailRemovals),
        1 => Just(Step::FailSync),
        1 => Just(Step::Maintain),
    ]
}

/// A place by its part of 256 of all.
fn place(all: &[Offset], part: u8) -> Option<Offset> {
    all.get(all.len() * usize::from(part) / 256).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn ordinary_trimming_is_never_taken_for_a_loss(
        steps in proptest::collection::vec((step(), any::<bool>(), any::<u64>()), 1..14),
    ) {
        let mut journal = Journal::new();
        let mut needed: BTreeSet<Offset> = BTreeSet::new();
        // What a reader that lags most needs of it, and whether it is all there.
        let (mut needed_from, mut is_whole) = (Offset(0), true);
        let mut epoch = 1;
        for (step, is_crash, seed) in steps {
            let all: Vec<_> = needed.iter().copied().collect();
            let pinned = |pins: &[u8]| -> Vec<Offset> {
                let pins: BTreeSet<_> = pins.iter().filter_map(|part| place(&all, *part)).collect();
                pins.into_iter().collect()
            };
            let end = journal.reader.end();
            let mut is_missed_from = None;
            match step {
                Step::Publish(count) => {
                    needed.extend(journal.publish(&vec!["a"; usize::from(count)]));
                }
                Step::Trim { part, pins } => {
                    let (floor, pinned) = (place(&all, part).unwrap_or(end), pinned(&pins));
                    journal.trim(floor, &pinned).unwrap();
                    needed_from = needed_from.max(floor);
                    needed.retain(|offset| *offset >= floor || pinned.contains(offset));
                }
                Step::TrimToBytes { part, pins, bytes_max } => {
                    let pinned = pinned(&pins);
                    let floor = place(&all, part).unwrap_or(end);
                    let needs = Needs { covered: end, floor };
                    let taken = journal.trim_to_bytes(u64::from(bytes_max), (needs, &pinned)).unwrap();
                    is_whole &= taken == Taken::default();
                    is_missed_from = (taken.records > taken.pinned).then_some(floor);
                    needed_from = needed_from.max(floor);
                    let left: BTreeSet<_> = journal.offsets(&["a"]).into_iter().collect();
                    needed.retain(|offset| left.contains(offset));
                }
                Step::FailRemovals(count) => journal.files.fail_removals(count.into()),
                Step::FailSync => {
                    journal.writer.append(&[message("a", b"failed")]).unwrap();
                    journal.files.fail_syncs(1);
                    journal.writer.sync().unwrap_err();
                }
                Step::Maintain => {
                    journal.writer.maintain();
                }
            }
            let before = journal.entries();
            let known = Known { covers: journal.reader.end(), ..Known::epoch(epoch + 1) };
            let files = if is_crash { journal.files.crash(seed) } else { journal.files.kill() };
            if seed % 3 == 0 {
                files.fail_removals(1 + u32::try_from(seed % 5).unwrap());
            }
            let (writer, reader) = reopen(Arc::new(files.clone()), OPTIONS, known).unwrap();
            journal = Journal { files, writer, reader, pinned: Vec::new() };
            epoch += 1;
            let found = journal.entries();
            prop_assert_eq!(&found, &before);
            let offsets: BTreeSet<_> = found.into_iter().map(|(offset, _)| offset).collect();
            prop_assert!(needed.is_subset(&offsets));
            prop_assert!(!is_whole || journal.holes(&["a"], needed_from) == 0);
            prop_assert!(is_missed_from.is_none_or(|from| journal.holes(&["a"], from) > 0));
            prop_assert!(names(&journal.files, "dropped").len() <= 1 + epoch as usize);
        }
        journal.files.fail_removals(0);
        journal.trim(Offset(0), &[]).unwrap();
        let segments = journal.reader.observe().segments;
        prop_assert_eq!(names(&journal.files, "seg").len() as u64, segments);
        prop_assert_eq!(names(&journal.files, "dropped").len(), 1);
    }
}
