use super::*;
use crate::journal::memory::MemoryFiles;
use crate::journal::reader::SegmentReader;
use crate::journal::segments::JournalOptions;
use crate::journal::{JournalReader, recovery};
use crate::model::ids::{SessionNumber, ShardId, Timestamp};
use crate::model::message::{MessageParts, QoS};
use crate::supervise::vitals::{Vital, Vitals};

const OPTIONS: JournalOptions = JournalOptions {
    segment_bytes_max: 1 << 16,
    reserve_bytes: 4096,
    salt: 1,
};

/// An appender over memory whose answers a test takes one by one.
struct Bench {
    files: MemoryFiles,
    reader: Arc<SegmentReader>,
    handle: AppenderHandle,
    waiting: Option<(Appender, AppenderParts)>,
    answers: Vec<Receiver<Committed>>,
    sunk: Receiver<Vec<(Offset, Entry)>>,
}

impl Bench {
    /// Two shards; shard 1 wants all messages.
    fn new(durability: Durability) -> Self {
        let files = MemoryFiles::new();
        let (writer, reader) = recovery::open(Arc::new(files.clone()), OPTIONS, 1).unwrap();
        let (appender, handle) = Appender::new();
        let mut answers = Vec::new();
        let mut senders: Vec<Answer> = Vec::new();
        for _ in 0..2 {
            let (sender, receiver) = bounded(1000);
            answers.push(receiver);
            senders.push(Box::new(move |committed| sender.send(committed).unwrap()));
        }
        let (sink, sunk) = bounded(1000);
        let asked_of = Arc::clone(&reader);
        let parts = AppenderParts {
            writer: Box::new(writer),
            durability,
            bytes_max: 0,
            answers: senders,
            targets: Box::new(move |_| {
                assert!(
                    asked_of.end() > Offset(1 << 40),
                    "asked before it is visible"
                );
                let mut shards = ShardSet::default();
                shards.insert(ShardId(1));
                shards
            }),
            sink: Box::new(move |entries| sink.send(entries).unwrap()),
            sign: Vitals::default().sign(Vital::Appender),
            loss: Box::new(|| {}),
        };
        Self {
            files,
            reader,
            handle,
            waiting: Some((appender, parts)),
            answers,
            sunk,
        }
    }

    fn submit(&self, shard: u8, ticket: u64, entries: Vec<Entry>) {
        self.handle.submit(Submission {
            shard: ShardId(shard),
            ticket,
            entries,
        });
    }

    /// Lets the thread begin: what was submitted before becomes one batch.
    fn start(&mut self) {
        let (appender, parts) = self.waiting.take().unwrap();
        appender.start(parts).unwrap();
    }

    fn answer(&self, shard: usize) -> Committed {
        self.answers[shard].recv().unwrap()
    }

    /// How many entries the journal has.
    fn entries(&self) -> usize {
        let mut entries = 0;
        self.reader
            .replay(Offset(0), &mut |_, _| entries += 1)
            .unwrap();
        entries
    }
}

fn message(qos: QoS) -> Entry {
    Entry::Message {
        message: Arc::new(Message::new(MessageParts {
            topic: "a",
            payload: &[0; 64],
            properties: b"",
            qos,
            retain: false,
            published_at: Timestamp(1),
            expires_at: None,
            publisher: SessionNumber(1),
        })),
        received: None,
    }
}

fn state() -> Entry {
    Entry::Liveness {
        at: Timestamp(5),
        boot: None,
    }
}

#[test]
fn what_waits_becomes_one_batch_with_one_sync_and_one_answer_per_shard() {
    let mut bench = Bench::new(Durability::Always);
    bench.submit(0, 1, vec![state()]);
    bench.submit(
        1,
        1,
        vec![message(QoS::AtLeastOnce), message(QoS::AtMostOnce)],
    );
    bench.submit(0, 2, vec![message(QoS::ExactlyOnce), state()]);
    assert_eq!(bench.handle.observe().waiting, 5);
    bench.start();
    let (first, second) = (bench.answer(0), bench.answer(1));
    assert_eq!((first.ticket, second.ticket), (2, 1));
    assert_eq!(first.failed.len() + second.failed.len(), 0);
    assert_eq!(
        (first.end, second.end),
        (bench.reader.end(), bench.reader.end())
    );
    assert!(first.records.is_empty());
    let base = 1 << 40;
    let offsets: Vec<_> = second
        .records
        .iter()
        .map(|record| record.offset.0)
        .collect();
    assert_eq!(offsets, [base + 1, base + 3], "QoS 0 is for nobody here");
    assert_eq!(bench.sunk.recv().unwrap().len(), 5);
    assert_eq!(bench.reader.observe().syncs, 1);
    let seen = bench.handle.observe();
    assert_eq!(
        (seen.waiting, seen.committed, seen.batches, seen.refused),
        (0, 5, 1, 0)
    );
    bench.handle.stop();
}

/// An appender that committed one entry, so that the next sync is that of the next batch.
fn warm() -> Bench {
    let mut bench = Bench::new(Durability::Always);
    bench.submit(0, 1, vec![state()]);
    bench.start();
    assert_eq!(bench.answer(0).ticket, 1);
    bench
}

#[test]
fn a_failed_sync_refuses_publications() {
    let bench = warm();
    bench.files.fail_syncs(1);
    bench.submit(0, 2, vec![message(QoS::AtLeastOnce)]);
    assert_eq!(bench.answer(0).failed, [2]);
    bench.submit(0, 3, vec![message(QoS::AtLeastOnce)]);
    let answer = bench.answer(0);
    assert_eq!((answer.ticket, answer.failed.len()), (3, 0));
    bench.handle.stop();
    assert_eq!(bench.entries(), 2);
}

#[test]
fn state_is_written_again_after_a_failed_sync() {
    let bench = warm();
    bench.files.fail_syncs(1);
    bench.submit(0, 2, vec![state()]);
    let answer = bench.answer(0);
    assert_eq!((answer.ticket, answer.failed.len()), (2, 0));
    bench.handle.stop();
    assert_eq!((bench.entries(), bench.reader.observe().failures), (2, 1));
}

#[test]
fn on_a_full_disk_state_gets_through_and_messages_are_refused() {
    let mut bench = Bench::new(Durability::Always);
    bench.submit(0, 1, vec![state()]);
    bench.start();
    bench.answer(0);
    bench.files.limit_space(Some(bench.files.used_bytes()));
    for ticket in [2, 4, 6] {
        bench.submit(0, ticket, vec![message(QoS::AtLeastOnce)]);
        bench.submit(1, ticket + 1, vec![state()]);
        assert_eq!(bench.answer(0).failed, [ticket]);
        assert_eq!(bench.answer(1).ticket, ticket + 1);
    }
    bench.files.limit_space(None);
    bench.submit(0, 8, vec![message(QoS::AtLeastOnce)]);
    let answer = bench.answer(0);
    assert_eq!((answer.ticket, answer.failed.len()), (8, 0));
    bench.handle.stop();
    assert_eq!(bench.handle.observe().refused, 3);
}

#[test]
fn a_disk_that_takes_small_messages_only_fails_until_it_takes_large_ones() {
    let bench = warm();
    let large = vec![message(QoS::AtLeastOnce); 100];
    let mut ticket = 1;
    let mut takes = |entries: &[Entry]| {
        ticket += 1;
        bench.submit(0, ticket, entries.to_vec());
        bench.answer(0).failed.is_empty()
    };
    assert!(takes(&large[..1]), "the reserve is there");
    let full = bench.files.used_bytes();
    for room in [500, 1_000] {
        bench.files.limit_space(Some(full + room));
        assert!(!takes(&large));
        assert!(takes(&large[..1]), "a small one fits");
        assert!(bench.handle.observe().failing);
    }
    bench.files.limit_space(None);
    assert!(takes(&large));
    assert!(!bench.handle.observe().failing);
    bench.handle.stop();
}

#[test]
fn publishers_that_insist_do_not_keep_state_from_a_full_disk() {
    let mut bench = Bench::new(Durability::Always);
    bench.files.limit_space(Some(bench.files.used_bytes()));
    let refusals = Arc::new(AtomicU64::new(0));
    let (_, parts) = bench.waiting.as_mut().unwrap();
    let (handle, counter) = (bench.handle.clone(), Arc::clone(&refusals));
    parts.answers[0] = Box::new(move |committed| {
        assert_eq!(committed.failed.len(), 1);
        let ticket = counter.fetch_add(1, Ordering::SeqCst) + 2;
        if ticket < 50 {
            handle.submit(Submission {
                shard: ShardId(0),
                ticket,
                entries: vec![message(QoS::AtLeastOnce)],
            });
        }
    });
    let (counter, (sender, answered)) = (Arc::clone(&refusals), bounded(1));
    parts.answers[1] = Box::new(move |_| sender.send(counter.load(Ordering::SeqCst)).unwrap());
    bench.submit(0, 1, vec![message(QoS::AtLeastOnce)]);
    bench.submit(1, 1, vec![state()]);
    bench.start();
    assert_eq!(answered.recv().unwrap(), 1);
    bench.handle.stop();
}

#[test]
fn a_trim_frees_what_nobody_needs_and_keeps_to_the_limit_on_bytes() {
    let mut bench = Bench::new(Durability::Always);
    let options = JournalOptions {
        segment_bytes_max: 1 << 10,
        ..OPTIONS
    };
    let (writer, reader) = recovery::open(Arc::new(bench.files.clone()), options, 2).unwrap();
    let (_, parts) = bench.waiting.as_mut().unwrap();
    parts.writer = Box::new(writer);
    parts.targets = Box::new(|_| ShardSet::default());
    parts.sink = Box::new(|_| {});
    parts.bytes_max = 8 << 10;
    bench.start();
    for ticket in 1..=400 {
        bench.submit(0, ticket, vec![message(QoS::AtLeastOnce)]);
        bench.answer(0);
    }
    let (start, end) = (reader.start(), reader.end());
    let halfway = Offset(start.0 + (end.0 - start.0) / 2);
    bench.handle.trim(Needed {
        covered: end,
        floor: halfway,
        ..Needed::default()
    });
    bench.handle.stop();
    let seen = reader.observe();
    assert!(seen.bytes <= 8 << 10 && seen.bytes > 6 << 10, "{seen:?}");
    assert_eq!(seen.records_dropped, seen.start.0 - halfway.0);
}

#[test]
fn interval_answers_first_and_syncs_by_itself() {
    let mut bench = Bench::new(Durability::Interval { millis: 1 });
    bench.submit(0, 1, vec![state()]);
    bench.start();
    assert_eq!(bench.answer(0).ticket, 1);
    while bench.reader.observe().syncs == 0 {
        std::thread::yield_now();
    }
    bench.handle.stop();
}

#[test]
fn stop_commits_what_was_submitted_before() {
    for durability in [
        Durability::Always,
        Durability::Interval { millis: 1 << 30 },
        Durability::Never,
    ] {
        let mut bench = Bench::new(durability);
        for ticket in 1..100 {
            bench.submit(0, ticket, vec![message(QoS::AtLeastOnce)]);
        }
        bench.start();
        bench.handle.stop();
        let (_, reader) = recovery::open(Arc::new(bench.files.crash(1)), OPTIONS, 2).unwrap();
        let mut count = 0;
        reader.replay(Offset(0), &mut |_, _| count += 1).unwrap();
        assert_eq!(count, 99);
    }
}

#[test]
fn a_question_is_answered_when_what_was_submitted_before_is() {
    let mut bench = Bench::new(Durability::Always);
    bench.submit(0, 1, vec![message(QoS::AtLeastOnce)]);
    bench.submit(1, 1, Vec::new());
    assert!(!bench.handle.is_idle());
    bench.start();
    let answer = bench.answer(1);
    assert_eq!((answer.ticket, answer.failed.len()), (1, 0));
    assert_eq!(answer.end, bench.reader.end());
    // What was sunk is in the table of retained messages.
    assert_eq!(bench.sunk.try_recv().unwrap().len(), 1);
    // With nothing in front of it, it costs no sync.
    let syncs = bench.reader.observe().syncs;
    bench.submit(1, 2, Vec::new());
    assert_eq!(bench.answer(1).ticket, 2);
    assert_eq!(bench.reader.observe().syncs, syncs);
    assert!(bench.handle.is_idle());
    bench.handle.stop();
}

#[test]
fn a_question_waits_behind_a_message_that_waits_for_the_disk() {
    let mut bench = Bench::new(Durability::Always);
    bench
        .files
        .limit_space(Some(bench.files.used_bytes() - OPTIONS.reserve_bytes));
    // State in one submission with a message cannot be refused, and the message keeps it from the disk.
    bench.submit(0, 1, vec![state(), message(QoS::AtLeastOnce)]);
    bench.submit(1, 1, Vec::new());
    bench.start();
    bench.submit(1, 2, vec![message(QoS::AtLeastOnce)]);
    let refused = bench.answer(1);
    assert_eq!((refused.ticket, refused.failed), (0, vec![2]));
    bench.files.limit_space(None);
    assert_eq!(bench.answer(0).ticket, 1);
    assert_eq!(bench.answer(1).ticket, 1);
    bench.handle.stop();
}
