//! What the journal and the checkpoints cost on a real disk: group commits, catch-up reads, a checkpoint of many sessions.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use outlive_actors::journal::files::DiskFiles;
use outlive_actors::journal::segments::JournalOptions;
use outlive_actors::journal::{JournalReader, JournalWriter, ReadRequest, recovery};
use outlive_actors::model::entry::{Attach, Change, Created, Entry};
use outlive_actors::model::ids::{Fence, Listener, Offset, Principal, SessionNumber, Timestamp};
use outlive_actors::model::message::{Message, MessageParts, QoS};
use outlive_actors::model::packet::ProtocolVersion;
use outlive_actors::model::topic::Filter;
use outlive_actors::store::redb::RedbStore;
use outlive_actors::store::replica::Replica;
use tempfile::TempDir;

fn main() {
    divan::main();
}

fn publication(number: u64) -> Entry {
    let message = Message::new(MessageParts {
        topic: &format!("device/{}/command", number % 1000),
        payload: &[0; 64],
        properties: &[],
        qos: QoS::AtLeastOnce,
        retain: false,
        published_at: Timestamp(number),
        expires_at: None,
        publisher: SessionNumber(1),
    });
    Entry::Message {
        message: Arc::new(message),
        received: None,
    }
}

fn journal(options: JournalOptions) -> (TempDir, impl JournalWriter, Arc<dyn JournalReader>) {
    let directory = tempfile::tempdir().expect("a directory");
    let files = DiskFiles::open(directory.path()).expect("it is new");
    let (writer, reader) = recovery::open(Arc::new(files), options, 1).expect("it is empty");
    (directory, writer, reader)
}

/// One write and one sync for the whole batch.
#[divan::bench(args = [1, 100, 10_000])]
fn group_commit(bencher: Bencher<'_, '_>, batch: u64) {
    let (_directory, mut writer, _) = journal(JournalOptions::default());
    let entries: Vec<_> = (0..batch).map(publication).collect();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        writer.append(&entries).expect("there is room");
        writer.sync().expect("the disk is well");
    });
}

/// One device's 100 messages out of 100,000.
#[divan::bench]
fn catch_up_on_an_exact_filter(bencher: Bencher<'_, '_>) {
    let (_directory, mut writer, reader) = journal(JournalOptions::default());
    for start in (0..100_000).step_by(1000) {
        let entries: Vec<_> = (start..start + 1000).map(publication).collect();
        writer.append(&entries).expect("there is room");
    }
    writer.sync().expect("the disk is well");
    let filters = [(Filter::new("device/17/command").expect("valid"), Offset(0))];
    bencher.counter(ItemsCount::new(100_usize)).bench(|| {
        let page = reader.read(&ReadRequest {
            filters: &filters,
            from: Offset(0),
            records_max: 1000,
            bytes_max: 1 << 20,
        });
        let page = page.expect("it is whole");
        assert_eq!(page.records.len(), 100);
        black_box(page)
    });
}

/// Nothing for one device in as many sealed segments of 500 topics each: what an exact filter costs per segment that has
/// nothing for it.
#[divan::bench(args = [10, 1_000])]
fn exact_filter_over_segments_of_others(bencher: Bencher<'_, '_>, segments: u64) {
    read_nothing(bencher, segments, "device/none/command");
}

/// The same for a filter with a literal prefix.
#[divan::bench(args = [10, 1_000])]
fn prefix_over_segments_of_others(bencher: Bencher<'_, '_>, segments: u64) {
    read_nothing(bencher, segments, "device/none/+");
}

fn read_nothing(bencher: Bencher<'_, '_>, segments: u64, filter: &str) {
    let options = JournalOptions {
        segment_bytes_max: 1,
        ..JournalOptions::default()
    };
    let (_directory, mut writer, reader) = journal(options);
    for segment in 0..segments {
        let entries: Vec<_> = (0..500).map(|topic| publication(segment + topic)).collect();
        writer.append(&entries).expect("there is room");
        writer.publish();
        while writer.maintain() {}
    }
    assert_eq!(reader.observe().segments, segments);
    let filters = [(Filter::new(filter).expect("valid"), Offset(0))];
    bencher.counter(ItemsCount::new(segments)).bench(|| {
        let page = reader.read(&ReadRequest {
            filters: &filters,
            from: Offset(0),
            records_max: 1000,
            bytes_max: 1 << 20,
        });
        let page = page.expect("it is whole");
        assert_eq!(page.records.len(), 0);
        black_box(page)
    });
}

/// New sessions since the last checkpoint, written in one transaction.
#[divan::bench(args = [1, 1_000, 10_000])]
fn checkpoint(bencher: Bencher<'_, '_>, sessions: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sessions.redb");
    RedbStore::create(&path).expect("it is new");
    let store = Arc::new(RedbStore::open(&path, 32 << 20).expect("it is whole"));
    let mut replica = Replica::open(store).expect("it is empty");
    let mut at = 0;
    bencher.counter(ItemsCount::new(sessions)).bench_local(|| {
        for _ in 0..sessions {
            at += 1;
            let change = Change::Created(Box::new(Created {
                client_id: format!("device-{at}").as_str().into(),
                owner: Principal::anonymous(),
                listener: Listener::default(),
                attach: Attach {
                    fence: Fence(1),
                    version: ProtocolVersion::V5,
                    expiry_seconds: 3600,
                    will: None,
                    at: Timestamp(1),
                },
                next: Offset(at),
            }));
            let entry = Entry::change(SessionNumber(at), change);
            replica
                .apply(Offset(at), &entry)
                .expect("the store is well");
        }
        replica.commit().expect("the store is well");
    });
}
