//! A journal of which a part is missing.

use std::fs;
use std::path::PathBuf;

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::Version;

const LOSSES: &str = "outlive_journal_losses_total";

fn journal(broker: &Broker, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(broker.data_dir().join("journal")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_string_lossy().ends_with(kind))
        .collect();
    paths.sort();
    paths
}

/// A stopped broker with three starts behind it, a session that sleeps and a message that it has not got.
fn with_a_backlog(settings: &[&str]) -> Broker {
    let mut broker = Broker::start_with(settings);
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    reader.subscribe("t", 1);
    reader.disconnect();
    for text in ["first", "second", "third"] {
        let mut writer = Client::transient(&broker, Version::V311, "writer");
        writer.publish("t", text, 1);
        writer.disconnect();
        broker.stop();
        if text != "third" {
            broker.restart();
        }
    }
    broker
}

/// What the backlog of the reader is now.
fn read(broker: &Broker, expected: &[&str]) {
    let mut reader = Client::kept(broker, Version::V311, "reader");
    assert!(reader.connack.present);
    for text in expected {
        let message = reader.expect(text);
        reader.acknowledge(&message);
    }
    reader.assert_nothing_waits();
}

type Damage = fn(&Broker);

const DAMAGES: &[(&str, Damage, &[&str])] = &[
    (
        "it ends at offset 0",
        |broker| fs::remove_dir_all(broker.data_dir().join("journal")).unwrap(),
        &[],
    ),
    (
        "it ends at offset 0",
        |broker| {
            journal(broker, "")
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap())
        },
        &[],
    ),
    (
        "segment 1 is missing",
        |broker| fs::remove_file(&journal(broker, ".seg")[0]).unwrap(),
        &["second", "third"],
    ),
    (
        "and the store knows of records up to",
        |broker| fs::remove_file(journal(broker, ".seg").last().unwrap()).unwrap(),
        &["first", "second"],
    ),
];

#[test]
fn a_journal_of_which_a_part_is_missing_stops_the_start_unless_the_loss_is_accepted() {
    for (said, damage, left) in DAMAGES {
        let mut broker = with_a_backlog(&[]);
        damage(&broker);
        let (status, error) = broker.second_process();
        assert_eq!(status.code(), Some(1), "{error}");
        assert!(
            error.contains(said) && error.contains("--accept-loss"),
            "{error}"
        );
        broker.restart_accepting_loss();
        assert_eq!(broker.metric(LOSSES), 1.0);
        broker.assert_logged(said);
        read(&broker, left);
        if *said == "segment 1 is missing" {
            assert_eq!(broker.metric("outlive_journal_holes_passed_total"), 1.0);
        }
        // It was accepted once, and for good.
        for _ in 0..2 {
            broker.crash();
            assert_eq!(broker.metric(LOSSES), 0.0);
        }
    }
}

#[test]
fn what_a_power_cut_may_take_is_counted_and_stops_nothing() {
    for setting in ["log.durability=interval", "log.durability=never"] {
        for (said, damage, left) in DAMAGES {
            let mut broker = with_a_backlog(&[setting]);
            damage(&broker);
            broker.restart();
            assert_eq!(broker.metric(LOSSES), 1.0, "{said}");
            broker.assert_logged(said);
            read(&broker, left);
            broker.crash();
            assert_eq!(broker.metric(LOSSES), 0.0);
        }
    }
}

#[test]
fn retained_messages_that_are_lost_are_counted_once_and_no_longer_there() {
    let mut broker = Broker::start();
    for topic in ["r/lost", "r/left"] {
        let mut writer = Client::transient(&broker, Version::V311, "writer");
        writer.publish_retained(topic, topic, 1);
        writer.disconnect();
        broker.stop();
        if topic == "r/lost" {
            broker.restart();
        }
    }
    fs::remove_file(&journal(&broker, ".seg")[0]).unwrap();
    broker.restart_accepting_loss();
    for lost in [1.0, 0.0, 0.0] {
        assert_eq!(broker.metric("outlive_retained_lost_total"), lost);
        assert_eq!(broker.metric("outlive_retained_messages"), 1.0);
        broker.stop();
        broker.restart();
    }
    let mut reader = Client::transient(&broker, Version::V311, "reader");
    reader.subscribe("r/#", 1);
    let message = reader.expect("r/left");
    reader.acknowledge(&message);
    reader.assert_nothing_waits();
}

#[test]
fn files_of_others_are_left_alone() {
    let mut broker = with_a_backlog(&[]);
    let journal = broker.data_dir().join("journal");
    fs::create_dir(journal.join("lost+found")).unwrap();
    fs::write(journal.join(".nfs0001"), "theirs").unwrap();
    broker.restart();
    broker.assert_logged("lost+found");
    broker.assert_logged("none of the journal's");
    read(&broker, &["first", "second", "third"]);
    assert_eq!(fs::read(journal.join(".nfs0001")).unwrap(), b"theirs");
}
