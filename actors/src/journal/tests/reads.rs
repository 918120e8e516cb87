//! What readers see: filters, pages, counters, replay.

use proptest::prelude::*;

use super::*;
use crate::model::tenant::{TENANT_BYTES_MAX, Tenant};

#[test]
fn a_record_is_seen_only_once_it_is_committed() {
    let mut journal = Journal::new();
    let first = journal.writer.append(&[message("a", b"1")]).unwrap();
    assert_eq!(journal.page(&["a"], Offset(0), 9).records, []);
    assert_eq!(journal.reader.end(), first);
    assert_eq!(journal.reader.read_at(&[first]).unwrap(), [None]);
    journal.writer.sync().unwrap();
    assert_eq!(journal.offsets(&["a"]), [first]);
    assert_eq!(journal.reader.end(), first.next());
}

#[test]
fn an_open_batch_behind_committed_records_stays_hidden() {
    let mut journal = Journal::new();
    let first = journal.publish(&["a"])[0];
    let open = journal
        .writer
        .append(&[message("a", b"1"), message("b", b"2")])
        .unwrap();
    for filter in ["a", "a/#", "#", "+"] {
        let page = journal.page(&[filter], first, 9);
        assert_eq!(page.records.len(), 1, "{filter}");
        assert_eq!((page.next, page.end), (open, open));
    }
    assert_eq!(journal.entries().len(), 1);
}

#[test]
fn entries_are_counted_over_segments_and_epochs() {
    let files = MemoryFiles::new();
    let mut journal = Journal::open(files.clone(), OPTIONS, 1);
    let first = journal.publish(&["a"; 100])[0];
    let last = journal.publish(&["b"; 50])[49];
    drop(journal);
    let mut journal = Journal::open(files, OPTIONS, 2);
    let next = journal.publish(&["c"; 7])[0];
    assert!(next.0 - last.0 > 1_000_000, "offsets have a gap");
    let end = journal.reader.end();
    for (from, count) in [
        (first, 157),
        (last, 8),
        (next, 7),
        (end, 0),
        (Offset(0), 157),
    ] {
        assert_eq!(journal.reader.entries_since(from), count, "{from:?}");
    }
    assert_eq!(journal.writer.entries_since(last), 8);
}

#[test]
fn a_broad_filter_over_many_topics_finds_all_of_them() {
    let options = JournalOptions {
        segment_bytes_max: 1 << 20,
        ..OPTIONS
    };
    let mut journal = Journal::open(MemoryFiles::new(), options, 1);
    for round in 0..2 {
        let batch: Vec<_> = (0..3000)
            .map(|n| message(&format!("{}/{n}/x", ["in", "out"][n % 2]), &[round; 200]))
            .collect();
        journal.commit(&batch);
    }
    for _ in 0..2 {
        assert_eq!(journal.offsets(&["in/#"]).len(), 3000);
        assert_eq!(journal.offsets(&["+/7/x", "in/8/+", "out/7/x"]).len(), 4);
        assert_eq!(journal.offsets(&["+/+/x"]).len(), 6000);
        // Sealed, and then the same from the index file.
        journal.publish(&["end", "end"]);
        journal.writer.maintain();
    }
}

#[test]
fn the_longest_topic_of_the_longest_tenant_is_found() {
    let tenant = Tenant::new(&"t".repeat(TENANT_BYTES_MAX)).unwrap();
    let own = Filter::new(&"a".repeat(65_535)).unwrap();
    let known = tenant.filter(&own);
    let mut journal = Journal::new();
    journal.publish(&[known.as_str()]);
    for _ in 0..2 {
        let filters = [(known.clone(), Offset(0))];
        let request = ReadRequest {
            filters: &filters,
            from: Offset(0),
            records_max: 9,
            bytes_max: usize::MAX,
        };
        assert_eq!(journal.reader.read(&request).unwrap().records.len(), 1);
        // Sealed, and then the same from the index file.
        journal.publish(&["end", "end"]);
        journal.writer.maintain();
    }
}

#[test]
fn publish_shows_records_without_a_sync() {
    let mut journal = Journal::new();
    let first = journal.writer.append(&[message("a", b"1")]).unwrap();
    journal.writer.publish();
    assert_eq!(journal.offsets(&["a"]), [first]);
    assert_eq!(journal.reader.observe().syncs, 0);
}

#[test]
fn every_field_of_an_entry_comes_back() {
    let mut journal = Journal::new();
    let full = Entry::Message {
        message: Arc::new(Message::new(MessageParts {
            topic: "plant/7",
            payload: b"payload",
            properties: &[0x01, 0x01],
            qos: QoS::ExactlyOnce,
            retain: true,
            published_at: Timestamp(u64::MAX),
            expires_at: Some(Timestamp(12)),
            publisher: SessionNumber(u64::MAX),
        })),
        received: PacketId::new(65_535),
    };
    let entries = [
        full.clone(),
        released(3),
        Entry::Liveness {
            at: Timestamp(99),
            boot: None,
        },
        message_of("plant/7", b"", QoS::AtMostOnce),
    ];
    let first = journal.commit(&entries);
    let expected: Vec<_> = (first.0..).map(Offset).zip(entries).collect();
    assert_eq!(journal.entries(), expected);
    let record = journal.reader.read_at(&[first]).unwrap().remove(0).unwrap();
    assert!(matches!(full, Entry::Message { message, .. } if message == record.message));
}

#[test]
fn catch_up_of_exact_filters_reads_only_own_records() {
    let mut journal = Journal::new();
    for round in 0..20 {
        for device in 0..10 {
            journal.commit(&[message(&format!("device/{device}"), &[round])]);
        }
    }
    while journal.writer.maintain() {}
    assert!(journal.reader.observe().segments > 5);
    assert_eq!(
        journal
            .offsets(&["device/3", "device/5", "device/none"])
            .len(),
        40
    );
    let seen = journal.reader.observe();
    assert_eq!((seen.records_read, seen.records_matched), (40, 40));
    journal.page(&["#"], Offset(0), usize::MAX);
    let seen = journal.reader.observe();
    assert_eq!((seen.records_read, seen.records_matched), (240, 240));
}

#[test]
fn pages_follow_each_other_without_gap() {
    let mut journal = Journal::new();
    let topics: Vec<_> = (0..50)
        .map(|n| if n % 3 == 0 { "a/x" } else { "b" })
        .collect();
    let offsets = journal.publish(&topics);
    for filter in ["a/x", "a/+", "#", "+/x"] {
        let all = journal.offsets(&[filter]);
        let mut pages = Vec::new();
        let mut from = offsets[0];
        loop {
            let page = journal.page(&[filter], from, 4);
            assert!(page.records.len() <= 4 && page.next > from);
            pages.extend(page.records.iter().map(|record| record.offset));
            from = page.next;
            if page.next == page.end {
                break;
            }
        }
        assert_eq!(pages, all, "{filter}");
    }
}

#[test]
fn a_page_stops_behind_so_many_bytes_but_holds_one_record() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a", "a", "a"]);
    let filters = [(Filter::new("a").unwrap(), Offset(0))];
    let page = journal
        .reader
        .read(&ReadRequest {
            filters: &filters,
            from: Offset(0),
            records_max: 9,
            bytes_max: 0,
        })
        .unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.next, offsets[1]);
}

#[test]
fn qos_0_records_are_there_for_the_retained_table_only() {
    let mut journal = Journal::new();
    let first = journal.commit(&[message_of("a", b"1", QoS::AtMostOnce)]);
    assert_eq!(journal.offsets(&["a"]), []);
    assert_eq!(journal.offsets(&["#"]), []);
    assert!(journal.reader.read_at(&[first]).unwrap()[0].is_some());
}

#[test]
fn each_filter_counts_from_its_own_offset() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a", "b", "a", "b", "a", "b"]);
    for wildcard in ["b", "+"] {
        let filters = [
            (Filter::new("a").unwrap(), offsets[2]),
            (Filter::new(wildcard).unwrap(), offsets[5]),
        ];
        let page = journal
            .reader
            .read(&ReadRequest {
                filters: &filters,
                from: offsets[0],
                records_max: 9,
                bytes_max: 999,
            })
            .unwrap();
        let found: Vec<_> = page.records.iter().map(|record| record.offset).collect();
        assert_eq!(found, [offsets[2], offsets[4], offsets[5]]);
    }
}

#[test]
fn a_read_that_began_before_sealing_and_trimming_is_not_disturbed() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 30]);
    let list = journal.reader.start();
    assert_eq!(list, offsets[0]);
    journal.trim(offsets[29], &[]).unwrap();
    let left = journal.offsets(&["a"]);
    assert!(!left.is_empty() && left[0] > offsets[0] && left.ends_with(&[offsets[29]]));
    assert_eq!(journal.reader.start(), left[0]);
    assert_eq!(journal.reader.read_at(&[offsets[0]]).unwrap(), [None]);
}

#[test]
fn trimming_spares_pinned_segments_and_survives_a_restart() {
    let mut journal = Journal::new();
    let offsets = journal.publish(&["a"; 60]);
    let before = journal.reader.observe();
    let freed = journal.trim(offsets[59], &[offsets[20]]).unwrap();
    let after = journal.reader.observe();
    assert!(freed > 0 && after.segments < before.segments);
    assert!(journal.reader.read_at(&[offsets[20]]).unwrap()[0].is_some());
    let left = journal.entries();
    let reopened = Journal::open(journal.files.crash(1), OPTIONS, 2);
    assert_eq!(reopened.entries(), left);
    let mut reopened = Journal::open(reopened.files, OPTIONS, 3);
    reopened.trim(reopened.reader.end(), &[]).unwrap();
    let again = Journal::open(reopened.files, OPTIONS, 4);
    assert!(again.reader.observe().segments <= 1);
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "", "$s"]), 1..4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = Filter> {
    let level = prop::sample::select(vec!["a", "b", "ab", "", "$s", "+"]);
    (prop::collection::vec(level, 1..4), any::<bool>())
        .prop_map(|(mut levels, all_below)| {
            if all_below {
                levels.push("#");
            }
            Filter::new(&levels.join("/"))
        })
        .prop_filter_map("a filter is valid", |filter| filter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_index_finds_what_a_linear_scan_finds(
        topics in prop::collection::vec((topic(), 0u8..3), 1..80),
        filters in prop::collection::vec((filter(), 0u64..80), 1..4),
        from in 0u64..80,
        records_max in 1usize..30,
        reopened in any::<bool>(),
    ) {
        let mut journal = Journal::new();
        let base = journal.writer.end();
        for (topic, qos) in &topics {
            journal.commit(&[message_of(topic, b"x", QoS::from_level(*qos).unwrap())]);
        }
        while journal.writer.maintain() {}
        if reopened {
            journal = Journal::open(journal.files.crash(0), OPTIONS, 2);
        }
        let filters: Vec<_> = filters
            .into_iter()
            .map(|(filter, at)| (filter, Offset(base.0 + at)))
            .collect();
        let from = Offset(base.0 + from.min(topics.len() as u64));
        let page = journal
            .reader
            .read(&ReadRequest { filters: &filters, from, records_max, bytes_max: usize::MAX })
            .unwrap();
        let expected: Vec<_> = (base.0..)
            .map(Offset)
            .zip(&topics)
            .filter(|(offset, (topic, qos))| {
                *qos > 0 && *offset >= from && filters
                    .iter()
                    .any(|(filter, at)| at <= offset && filter.matches(topic))
            })
            .map(|(offset, (topic, _))| (offset, topic.clone()))
            .take(records_max)
            .collect();
        let found: Vec<_> = page
            .records
            .iter()
            .map(|record| (record.offset, record.message.topic().to_owned()))
            .collect();
        prop_assert_eq!(&found, &expected);
        if found.len() == records_max {
            prop_assert_eq!(page.next, found[records_max - 1].0.next());
        } else {
            prop_assert_eq!(page.next, page.end);
        }
    }
}
