//! Tenants on one broker.

use std::io::Write as _;

use tempfile::NamedTempFile;

use crate::client::Client;
use crate::harness::Broker;
use crate::scram;
use crate::wire::{Connect, Version};

mod apart;
mod belonging;
mod limits;
mod quota;

/// Two tenants, one on each listener, by their numbers.
const TENANTS: [usize; 2] = [0, 1];

fn start(settings: &[&str]) -> Broker {
    let tenancy = ["tenancy.by=listener", "runtime.shards=2"];
    Broker::start_on(2, &[&tenancy, settings].concat())
}

fn try_connect(broker: &Broker, tenant: usize, connect: &Connect) -> Client {
    Client::try_connect_to(broker.address_of(tenant), connect)
}

fn connect(broker: &Broker, tenant: usize, connect: &Connect) -> Client {
    let client = try_connect(broker, tenant, connect);
    assert_eq!(client.connack.code, 0, "tenant {tenant}: {connect:?}");
    client
}

fn transient(broker: &Broker, tenant: usize, version: Version, id: &str) -> Client {
    connect(broker, tenant, &Connect::new(version, id))
}

fn kept(broker: &Broker, tenant: usize, version: Version, id: &str) -> Client {
    connect(broker, tenant, &Connect::kept(version, id))
}

/// A file of users with these names, whose password is "secret", and the setting that names it.
fn users(names: &[&str]) -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    for name in names {
        file.write_all(&scram::line(name, "secret")).unwrap();
    }
    let setting = format!("auth.scram_file={}", file.path().display());
    (file, setting)
}

fn publish(broker: &Broker, tenant: usize, topic: &str, payload: &str) {
    let mut publisher = transient(broker, tenant, Version::V311, "publisher");
    publisher.publish(topic, payload, 1);
    publisher.disconnect();
}

/// The next message must be this one and no earlier one.
fn expect(client: &mut Client, topic: &str, payload: &str) {
    assert_eq!(client.expect(payload).topic, topic);
}
