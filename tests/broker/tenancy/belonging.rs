//! Who belongs to which tenant, and to which the data.

use super::{expect, kept, start, users};
use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::scram::{self, User};
use crate::wire::{Connect, Version};

#[test]
fn users_whose_names_begin_alike_are_one_tenant_and_who_is_nobodys_stays_out() {
    let names = ["acme/1", "acme/2", "globex/1", "lonely", "+/1"];
    let (_file, scram_file) = users(&names);
    let broker = Broker::start_with(&[
        &scram_file,
        "tenancy.by=principal",
        "tenancy.separator=/",
        "telemetry.level=debug",
        "quota.principals=[{ name = 'acme', sessions_max = 2 }]",
    ]);
    let try_begin = |name, id: &str| {
        let mut client = scram::begin(&broker, id, &mut User::new(name, "secret"));
        let (code, _) = scram::connack(&mut client);
        (client, code)
    };
    let begin = |name, id: &str| {
        let (client, code) = try_begin(name, id);
        assert_eq!(code, 0, "{name}");
        client
    };
    let [mut one, mut two] = [("acme/1", "c1"), ("acme/2", "c2")].map(|(name, id)| begin(name, id));
    let mut other = begin("globex/1", "c1");
    for client in [&mut one, &mut two, &mut other] {
        client.subscribe("#", 1);
    }
    one.publish("t", "among us", 1);
    for client in [&mut one, &mut two] {
        expect(client, "t", "among us");
        client.assert_nothing_waits();
    }
    other.assert_nothing_waits();
    // Within a tenant a session has its owner, and the tenant its limit.
    assert_eq!(try_begin("acme/2", "c1").1, 0x87);
    assert_eq!(try_begin("acme/2", "c3").1, 0x97);
    for name in ["lonely", "+/1"] {
        assert_eq!(try_begin(name, "x").1, 0x87, "{name}");
    }
    for (version, code) in [(Version::V31, 5), (Version::V311, 5), (Version::V5, 0x87)] {
        let anonymous = Client::try_connect(&broker, &Connect::new(version, "anonymous"));
        assert_eq!(anonymous.connack.code, code, "{version:?}");
    }
    let refused = broker.metric("outlive_connections_refused_total{reason=\"no_tenant\"}");
    assert_eq!(refused, 5.0);
    broker.assert_logged("client of no tenant");
    one.disconnect();
    eventually("the log names tenant and client", || {
        broker.log().contains("acme:c1")
    });
    assert!(!broker.log().contains('\0'), "no raw U+0000");
}

#[test]
fn a_directory_keeps_to_its_tenancy() {
    let mut broker = start(&[]);
    kept(&broker, 0, Version::V5, "c").disconnect();
    broker.kill9();
    let (status, said) = broker.second_process();
    assert!(!status.success());
    for words in ["was made with tenancy listener", "wants tenancy off"] {
        assert!(said.contains(words), "{said}");
    }
    broker.restart();
    assert!(kept(&broker, 0, Version::V5, "c").connack.present);
}
