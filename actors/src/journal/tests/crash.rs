//! Power cuts, torn writes and failed syncs, by seed.

use super::super::memory::Random;
use super::*;

const SEEDS: u64 = 1000;

#[test]
fn what_was_confirmed_survives_every_crash_and_nothing_else_comes_back() {
    let seeds = std::env::var("JOURNAL_SEEDS").ok();
    let seeds = seeds.and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        Model::new(seed).run();
    }
}

/// Appends, commits and crashes at random, and remembers what must be there.
struct Model {
    random: Random,
    seed: u64,
    journal: Journal,
    epoch: u32,
    /// Must be there after a crash.
    confirmed: Vec<(Offset, Entry)>,
    /// Appended since, batch by batch: a prefix of them may be there.
    open: Vec<Vec<(Offset, Entry)>>,
    /// So many of the open batches were published: sealing a segment may have made them durable on the way.
    published: usize,
    /// Must never be there.
    failed: Vec<Entry>,
    highest: Option<Offset>,
    made: u32,
    /// Records below it may be gone.
    trimmed_to: Offset,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            seed,
            journal: Journal::new(),
            epoch: 1,
            confirmed: Vec::new(),
            open: Vec::new(),
            published: 0,
            failed: Vec::new(),
            highest: None,
            made: 0,
            trimmed_to: Offset(0),
        }
    }

    fn run(&mut self) {
        for _ in 0..30 {
            match self.random.below(12) {
                0 => self.crash(),
                1 => self.kill(),
                2 => self.fail_sync(),
                3 => {
                    self.journal.writer.publish();
                    self.published = self.open.len();
                }
                4 => {
                    self.journal.writer.maintain();
                }
                5 => self.fill_disk(),
                6 => self.cut_power(),
                _ => {
                    self.append();
                    if self.random.below(3) > 0 {
                        self.sync();
                    }
                }
            }
        }
        self.crash();
    }

    fn batch(&mut self) -> Vec<Entry> {
        let count = 1 + self.random.below(4);
        (0..count)
            .map(|_| {
                self.made += 1;
                let topic = format!("t/{}", self.random.below(5));
                let mut payload = self.made.to_le_bytes().to_vec();
                payload.resize(4 + self.random.below(700), 0x55);
                match self.random.below(4) {
                    0 => Entry::Liveness {
                        at: Timestamp(u64::from(self.made)),
                        boot: None,
                    },
                    _ => message(&topic, &payload),
                }
            })
            .collect()
    }

    fn append(&mut self) {
        let batch = self.batch();
        match self.journal.writer.append(&batch) {
            Ok(first) => {
                assert!(
                    self.highest.is_none_or(|highest| first > highest),
                    "seed {}",
                    self.seed
                );
                let batch: Vec<_> = (first.0..).map(Offset).zip(batch).collect();
                self.highest = batch.last().map(|(offset, _)| *offset);
                self.open.push(batch);
            }
            Err(_) => self.failed.extend(batch),
        }
    }

    fn sync(&mut self) {
        if self.journal.writer.sync().is_ok() {
            self.confirmed.extend(self.open.drain(..).flatten());
        } else {
            let durable = self.journal.entries().len();
            while self.published > 0 && self.confirmed.len() < durable {
                self.confirmed.extend(self.open.remove(0));
                self.published -= 1;
            }
            let lost = self.open.drain(..).flatten();
            self.failed.extend(lost.map(|(_, entry)| entry));
        }
        self.published = 0;
        let found = self.journal.entries();
        assert_eq!(found, self.confirmed, "seed {}", self.seed);
    }

    fn fail_sync(&mut self) {
        self.append();
        self.journal.files.fail_syncs(1);
        self.sync();
        self.journal.files.fail_syncs(0);
    }

    fn fill_disk(&mut self) {
        let room = self.random.below(300) as u64;
        let used = self.journal.files.used_bytes();
        self.journal.files.limit_space(Some(used + room));
        self.append();
        self.append();
        self.journal.files.limit_space(None);
    }

    /// The power goes in the middle of an operation; whether it succeeded nobody was told.
    fn cut_power(&mut self) {
        let before = self.random.below(8) as u64;
        self.journal.files.cut_power_after(before);
        let batch = self.batch();
        if let Ok(first) = self.journal.writer.append(&batch) {
            self.open.push((first.0..).map(Offset).zip(batch).collect());
            if self.journal.writer.sync().is_ok() {
                self.confirmed.extend(self.open.drain(..).flatten());
            }
        }
        let floor = self.journal.writer.end();
        if self.random.below(2) == 0 {
            self.trimmed_to = floor;
            // Whether it gets far enough to fail is up to the seed.
            drop(self.journal.trim(floor, &[]));
        }
        self.crash();
    }

    fn crash(&mut self) {
        let files = self.journal.files.crash(self.random.next());
        self.reopen(files);
    }

    fn kill(&mut self) {
        let files = self.journal.files.kill();
        self.reopen(files);
    }

    fn reopen(&mut self, files: MemoryFiles) {
        // Now and then the power goes again while the journal recovers.
        self.epoch += 1;
        let mut files = files;
        if self.random.below(4) == 0 {
            files.cut_power_after(self.random.below(6) as u64);
            let opened = open(Arc::new(files.clone()), OPTIONS, self.epoch);
            if let Ok((mut writer, _)) = opened {
                let lost = writer.append(&[message("lost", b"lost")]);
                assert!(lost.is_err() || writer.end() > Offset(0));
            }
            files = files.crash(self.random.next());
            self.epoch += 1;
        }
        self.journal = Journal::open(files, OPTIONS, self.epoch);
        self.check();
    }

    fn check(&mut self) {
        let seed = self.seed;
        let mut found = self.journal.entries();
        found.retain(|(_, entry)| !matches!(entry, Entry::Message { message, .. } if message.topic() == "lost"));
        // Nothing is pinned, so trimming takes from the front only.
        let first = found
            .first()
            .map_or(self.journal.reader.end(), |(offset, _)| *offset);
        let trimmed_to = self.trimmed_to;
        self.confirmed
            .retain(|(offset, _)| *offset >= first || *offset >= trimmed_to);
        assert!(
            found.starts_with(&self.confirmed),
            "seed {seed}: confirmed records are missing"
        );
        let mut rest = &found[self.confirmed.len()..];
        for batch in &self.open {
            if rest.is_empty() {
                break;
            }
            assert!(
                rest.starts_with(batch),
                "seed {seed}: half a batch or a hole"
            );
            rest = &rest[batch.len()..];
        }
        assert!(
            rest.is_empty(),
            "seed {seed}: records from nowhere: {rest:?}"
        );
        assert!(
            !found.iter().any(|(_, entry)| self.failed.contains(entry)),
            "seed {seed}: a failed batch came back"
        );
        let end = self.journal.reader.end();
        assert!(
            self.highest.is_none_or(|highest| end > highest),
            "seed {seed}"
        );
        self.confirmed = found;
        self.open.clear();
        self.published = 0;
    }
}

#[test]
fn a_tail_torn_at_any_byte_leaves_all_batches_before_it() {
    let mut journal = Journal::new();
    journal.publish(&["a", "b"]);
    let name = "000000000001.seg";
    let before = journal.files.bytes(name).unwrap().len();
    journal.commit(&[message("c", b"last"), released(4)]);
    let whole = journal.files.bytes(name).unwrap();
    for length in before..whole.len() {
        let files = journal.files.kill();
        files.plant(name, &whole[..length]);
        let reopened = Journal::open(files, OPTIONS, 2);
        assert_eq!(reopened.entries().len(), 2, "cut at {length}");
        assert_eq!(reopened.files.bytes(name).unwrap().len(), before);
        // Zeros where data should be are a torn tail as well.
        let files = journal.files.kill();
        let mut zeros = whole[..length].to_vec();
        zeros.resize(whole.len() + 100, 0);
        files.plant(name, &zeros);
        let reopened = Journal::open(files, OPTIONS, 2);
        assert_eq!(reopened.entries().len(), 2, "zeros from {length}");
    }
    let reopened = Journal::open(journal.files.kill(), OPTIONS, 2);
    assert_eq!(reopened.entries().len(), 4);
}

#[test]
fn recovery_goes_on_in_a_fresh_epoch_of_offsets() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    let unconfirmed = journal.writer.append(&[message("a", b"lost")]).unwrap();
    let mut journal = Journal::open(journal.files.crash(3), OPTIONS, 2);
    let second = journal.publish(&["a"])[0];
    assert!(first < unconfirmed && unconfirmed < second);
    assert_eq!(second, Offset(2 << 40));
    // A caller that lost its epoch does not make the journal go back.
    let mut journal = Journal::open(journal.files.kill(), OPTIONS, 1);
    assert_eq!(journal.publish(&["a"]), [Offset(3 << 40)]);
}

#[test]
fn a_failed_sync_abandons_the_segment_for_ever() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    journal.writer.append(&[message("a", b"failed")]).unwrap();
    journal.files.fail_syncs(1);
    assert!(matches!(
        journal.writer.sync(),
        Err(AppendError::Sync { .. })
    ));
    let next = journal.publish(&["a"])[0];
    assert_eq!(journal.offsets(&["a"]), [first, next]);
    assert!(next > first.next());
    assert_eq!(journal.reader.observe().segments, 2);
    // All bytes of the failed batch are on the disk, and still it does not come back.
    let reopened = Journal::open(journal.files.kill(), OPTIONS, 2);
    assert_eq!(reopened.offsets(&["a"]), [first, next]);
    let again = Journal::open(reopened.files.kill(), OPTIONS, 3);
    assert_eq!(again.offsets(&["a"]), [first, next]);
}

#[test]
fn a_failed_batch_stays_gone_when_nothing_was_written_after_it() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    journal.writer.append(&[message("a", b"failed")]).unwrap();
    journal.files.fail_syncs(1);
    journal.writer.sync().unwrap_err();
    let mut files = journal.files.kill();
    for epoch in 2..6 {
        let reopened = Journal::open(files, OPTIONS, epoch);
        assert_eq!(reopened.offsets(&["a"]), [first]);
        files = reopened.files.kill();
    }
}

#[test]
fn trimming_keeps_the_segment_that_says_where_an_abandoned_one_ends() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    journal.writer.append(&[message("a", b"failed")]).unwrap();
    journal.files.fail_syncs(1);
    journal.writer.sync().unwrap_err();
    let later = journal.publish(&["b"; 60]);
    journal.trim(later[59], &[first]).unwrap();
    let reopened = Journal::open(journal.files.kill(), OPTIONS, 2);
    assert_eq!(reopened.offsets(&["a"]), [first]);
    assert!(reopened.offsets(&["b"]).len() < 60);
}
