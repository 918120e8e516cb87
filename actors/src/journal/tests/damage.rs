//! Damaged and foreign files are refused by name, and nothing is touched.

use super::*;

fn refused(files: &MemoryFiles) -> (String, &'static str) {
    let names: Vec<_> = files::Files::list(files).unwrap();
    let before: Vec<_> = names.iter().map(|name| files.bytes(name)).collect();
    let error = open(Arc::new(files.clone()), OPTIONS, 9).unwrap_err();
    assert_eq!(files::Files::list(files).unwrap(), names);
    let after: Vec<_> = names.iter().map(|name| files.bytes(name)).collect();
    assert_eq!(before, after, "a refused journal was changed");
    match error {
        ReadError::Damaged { path, what, .. } => (path, what),
        ReadError::Io { path, source } => panic!("{path}: {source}"),
        ReadError::Missing { path, what } => panic!("{path}: {what}"),
    }
}

/// Three segments, the indexes of the first two written.
fn three_segments() -> MemoryFiles {
    let mut journal = Journal::new();
    while journal.reader.observe().segments < 3 {
        journal.publish(&["a/b"]);
    }
    journal.publish(&["a/b", "a/c", "a/b"]);
    while journal.writer.maintain() {}
    journal.files
}

fn segment(id: u64) -> String {
    format!("{id:012}.seg")
}

fn flip(files: &MemoryFiles, name: &str, at: usize) {
    let mut bytes = files.bytes(name).unwrap();
    bytes[at] ^= 1;
    files.plant(name, &bytes);
}

#[test]
fn a_foreign_file_is_left_alone() {
    let expected = Journal::open(three_segments(), OPTIONS, 2).entries();
    for name in [
        "lost+found",
        ".nfs0001",
        "1.seg",
        "000000000001.seg.bak",
        "+00000000001.seg",
    ] {
        let files = three_segments();
        files.plant(name, b"hello");
        let journal = Journal::open(files, OPTIONS, 2);
        assert_eq!(journal.entries(), expected);
        assert_eq!(journal.files.bytes(name).unwrap(), b"hello");
    }
    let files = MemoryFiles::new();
    files.plant(&segment(1), &[b'x'; 100]);
    assert_eq!(refused(&files).1, "no segment of a journal");
    files.plant(&segment(1), b"short but not ours");
    assert_eq!(refused(&files).1, "segment header too short");
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let files = three_segments();
    let mut bytes = files.bytes(&segment(3)).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    files.plant(&segment(3), &bytes);
    assert!(refused(&files).1.contains("version"));
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    for at in 0..64 {
        let files = three_segments();
        flip(&files, &segment(2), at);
        assert_eq!(refused(&files).0, format!("memory/{}", segment(2)));
    }
}

#[test]
fn a_sealed_segment_that_is_too_short_is_damage() {
    let files = three_segments();
    let mut bytes = files.bytes(&segment(2)).unwrap();
    bytes.pop();
    files.plant(&segment(2), &bytes);
    assert!(refused(&files).1.contains("shorter"));
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_damage_for_whoever_reads_it() {
    let files = three_segments();
    flip(&files, &segment(1), 90);
    let journal = Journal::open(files.kill(), OPTIONS, 2);
    let error = journal
        .reader
        .replay(Offset(0), &mut |_, _| {})
        .unwrap_err();
    assert!(error.to_string().contains(&segment(1)), "{error}");
    // Without an index the segment is scanned at once.
    files::Files::remove(&files, "000000000001.idx").unwrap();
    assert_eq!(refused(&files).0, format!("memory/{}", segment(1)));
}

#[test]
fn a_broken_record_before_a_confirmed_batch_is_damage_not_a_torn_tail() {
    let files = three_segments();
    let length = files.bytes(&segment(3)).unwrap().len();
    // The last batch alone cannot be told from a torn one.
    let last_batch = length - 50;
    for at in 64..last_batch {
        let files = files.kill();
        flip(&files, &segment(3), at);
        assert_eq!(
            refused(&files).0,
            format!("memory/{}", segment(3)),
            "byte {at}"
        );
    }
}

#[test]
fn an_index_that_is_missing_or_damaged_is_built_again() {
    let files = three_segments();
    let whole = files.bytes("000000000001.idx").unwrap();
    let expected = Journal::open(files.kill(), OPTIONS, 2).offsets(&["a/b"]);
    for damage in ["missing", "empty", "header", "meta"] {
        let files = files.kill();
        match damage {
            "missing" => files::Files::remove(&files, "000000000001.idx").unwrap(),
            "empty" => files.plant("000000000001.idx", b""),
            "header" => flip(&files, "000000000001.idx", 30),
            _ => flip(&files, "000000000001.idx", whole.len() - 1),
        }
        let journal = Journal::open(files, OPTIONS, 2);
        assert_eq!(journal.offsets(&["a/b"]), expected, "{damage}");
        assert_eq!(
            journal.files.bytes("000000000001.idx").unwrap(),
            whole,
            "{damage}"
        );
    }
}

#[test]
fn a_damaged_index_is_built_again_and_counted() {
    let files = three_segments();
    let name = "000000000001.idx";
    let whole = files.bytes(name).unwrap();
    let expected = Journal::open(files.kill(), OPTIONS, 2).offsets(&["a/b"]);
    for at in 0..whole.len() {
        let files = files.kill();
        flip(&files, name, at);
        let journal = Journal::open(files, OPTIONS, 2);
        match at % 3 {
            0 => assert_eq!(journal.offsets(&["a/b"]), expected, "byte {at}"),
            1 => {
                let records = journal.reader.read_at(&expected).unwrap();
                assert!(records.iter().all(Option::is_some), "byte {at}");
            }
            _ => {
                let mut count = 0;
                let replay = journal.reader.replay(expected[1], &mut |_, _| count += 1);
                replay.unwrap();
                assert!(count > 0, "byte {at}");
            }
        }
        assert_eq!(journal.reader.observe().indexes_rebuilt, 1, "byte {at}");
        assert_eq!(journal.files.bytes(name).unwrap(), whole, "byte {at}");
        assert_eq!(journal.offsets(&["a/b"]), expected, "byte {at}");
    }
}

#[test]
fn an_index_that_is_damaged_while_it_is_used_is_built_again() {
    let journal = Journal::open(three_segments(), OPTIONS, 2);
    let expected = journal.offsets(&["a/b"]);
    let name = "000000000001.idx";
    let whole = journal.files.bytes(name).unwrap();
    // Every byte from the positions on is another one.
    let file = files::Files::open(&journal.files, name).unwrap();
    let wrong: Vec<_> = whole[64..].iter().map(|byte| !byte).collect();
    file.write_all_at(&wrong, 64).unwrap();
    assert_eq!(journal.offsets(&["a/b"]), expected);
    assert_eq!(journal.reader.observe().indexes_rebuilt, 1);
    assert_eq!(journal.files.bytes(name).unwrap(), whole);
}

#[test]
fn a_full_disk_keeps_a_damaged_index_from_nobody() {
    let files = three_segments();
    flip(&files, "000000000001.idx", 70);
    let journal = Journal::open(files, OPTIONS, 2);
    let expected = Journal::open(three_segments(), OPTIONS, 2).offsets(&["a/b"]);
    journal.files.limit_space(Some(0));
    assert_eq!(journal.offsets(&["a/b"]), expected);
    assert_eq!(journal.reader.observe().indexes_rebuilt, 1);
}

#[test]
fn decoding_never_panics() {
    let files = three_segments();
    let whole = files.bytes(&segment(3)).unwrap();
    let mut random = memory::Random(1);
    for _ in 0..20_000 {
        let mut bytes = whole[64..].to_vec();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        let start = random.below(bytes.len());
        codec::fuzz(&bytes[start..]);
    }
}

#[test]
fn an_interrupted_removal_is_finished_at_the_next_start() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 200]);
    while journal.writer.maintain() {}
    let left = |journal: &Journal| journal.offsets(&["a"]).len();
    for operations in 0..40 {
        let files = journal.files.kill();
        let mut cut = Journal::open(files.clone(), OPTIONS, 2);
        files.cut_power_after(operations);
        let pinned = [offsets[60], offsets[130]];
        // Whether it gets far enough to fail is up to the moment.
        drop(cut.trim(offsets[199], &pinned));
        let reopened = Journal::open(files.crash(operations), OPTIONS, 3);
        assert!(left(&reopened) <= 200 && left(&reopened) > 2);
        let records = reopened.reader.read_at(&pinned).unwrap();
        assert!(records.iter().all(Option::is_some), "after {operations}");
        let names = files::Files::list(&reopened.files).unwrap();
        let is_list = |name: &&String| name.ends_with(".dropped");
        assert_eq!(names.iter().filter(is_list).count(), 1, "{names:?}");
        let segments = names.iter().filter(|name| name.ends_with(".seg")).count();
        assert_eq!(reopened.reader.observe().segments, segments as u64);
        Journal::open(reopened.files.crash(1), OPTIONS, 4);
    }
}

/// Found by fuzzing: the empty one was removed, and missed at the start after.
#[test]
fn an_empty_last_segment_stays_if_one_behind_it_was_dropped() {
    let files = three_segments();
    let empty = segment::Header {
        salt: OPTIONS.salt,
        id: 4,
        first: Offset(1 << 41),
        epoch: 2,
        previous: None,
    };
    files.plant(&segment(4), &empty.encode());
    files.plant("000000000005.gone", b"");
    for epoch in [3, 4] {
        let journal = Journal::open(files.clone(), OPTIONS, epoch);
        assert!(!journal.entries().is_empty());
    }
}

/// Found by fuzzing: counting its records overflowed.
#[test]
fn a_segment_that_begins_at_the_last_offset_is_refused() {
    for (first, what) in [
        (u64::MAX, "first offset out of bounds"),
        (
            u64::MAX - (1 << 31),
            "all boot epochs or offsets are used up",
        ),
    ] {
        let header = segment::Header {
            salt: OPTIONS.salt,
            id: 1,
            first: Offset(first),
            epoch: 1,
            previous: None,
        };
        let mut bytes = header.encode().to_vec();
        let at = codec::begin(&mut bytes);
        bytes.push(1);
        codec::finish(
            &mut bytes,
            at,
            OPTIONS.salt,
            0,
            codec::Kind::Liveness,
            codec::BATCH_END,
        )
        .unwrap();
        let files = MemoryFiles::new();
        files.plant(&segment(1), &bytes);
        assert_eq!(refused(&files).1, what);
    }
}
