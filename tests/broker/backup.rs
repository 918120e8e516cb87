//! What docs/backup.md promises: a copy of the directory is a broker as it was then.

use std::fs;
use std::path::Path;

use crate::client::Client;
use crate::harness::Broker;
use crate::wire::Version;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copied = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &copied);
        } else {
            fs::copy(entry.path(), copied).unwrap();
        }
    }
}

/// Copies the directory as `end` leaves it, goes on, and goes back to the copy.
fn go_back(end: impl FnOnce(&mut Broker)) {
    let mut broker = Broker::start();
    let mut reader = Client::kept(&broker, Version::V311, "reader");
    reader.subscribe("t", 1);
    reader.disconnect();
    let publish = |broker: &Broker, text: &str| {
        let mut writer = Client::transient(broker, Version::V311, "writer");
        writer.publish("t", text, 1);
        writer.disconnect();
    };
    publish(&broker, "before the backup");
    end(&mut broker);
    let data = broker.data_dir();
    let backup = data.with_extension("backup");
    copy(&data, &backup);

    broker.restart();
    publish(&broker, "after it");
    broker.stop();
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    broker.restart();
    publish(&broker, "after the restore");

    let mut reader = Client::kept(&broker, Version::V311, "reader");
    assert!(reader.connack.present);
    for text in ["before the backup", "after the restore"] {
        let message = reader.expect(text);
        reader.acknowledge(&message);
    }
    reader.assert_nothing_waits();
}

#[test]
fn a_copy_of_a_stopped_broker_is_a_backup() {
    go_back(Broker::stop);
}

/// To the broker a snapshot of the volume is the files of one moment, like those that SIGKILL leaves.
#[test]
fn the_files_of_one_moment_are_a_backup() {
    go_back(Broker::kill9);
}
