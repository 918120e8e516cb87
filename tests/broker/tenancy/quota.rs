//! Sessions of each tenant.

use serde_json::{Value as Json, json};

use super::{TENANTS, kept, start, try_connect};
use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Connect, Version};

#[test]
fn each_tenant_has_its_quota_and_operators_see_whose_sessions_there_are() {
    let broker = start(&[
        "quota.principal_sessions_max=3",
        "quota.reserved=[{ name = 'alarms', client_id_pattern = 'alarm-*', sessions = 5 }]",
    ]);
    let names = TENANTS.map(|tenant| broker.address_of(tenant).to_string());
    let change = json!({ "principals": [{ "name": names[0], "sessions_max": 1 }] });
    let headers = ["Content-Type: application/json", "Host: 127.0.0.1"];
    let changed = broker.admin_ask("PUT", "/api/v1/quota", &headers, &change.to_string());
    assert_eq!(changed.unwrap().0, 200);
    let _in: Vec<Client> = [(0, "alarm-1"), (1, "alarm-1"), (1, "alarm-2"), (1, "b-1")]
        .map(|(tenant, id)| kept(&broker, tenant, Version::V5, id))
        .into();
    for (version, code) in [(Version::V311, 3), (Version::V5, 0x97)] {
        for tenant in TENANTS {
            let answer = try_connect(&broker, tenant, &Connect::kept(version, "new"));
            assert_eq!(answer.connack.code, code);
        }
    }
    let (status, body) = broker.admin_get("/api/v1/quota").unwrap();
    assert_eq!(status, 200);
    assert!(!body.contains("\\u0000"), "{body}");
    let shown: Json = serde_json::from_str(&body).unwrap();
    let of = |at: usize, used: u32, max: u32| json!({ "name": names[at], "used": used, "sessions_max": max });
    assert_eq!(shown["principals"], json!([of(1, 3, 3), of(0, 1, 1)]));
    assert_eq!(shown["reserved"][0]["used"], 3);
    let largest = json!({ "tenant": names[1], "prefix": "alarm-", "online": 2, "offline": 0 });
    assert_eq!(shown["client_id_prefixes"][0], largest);
    let (_, body) = broker.admin_get("/api/v1/tenants?limit=1").unwrap();
    let mut sorted = [(1, 3, 3), (0, 1, 1)].map(|(at, used, max)| (&names[at], used, max));
    sorted.sort();
    let (name, sessions, sessions_max) = sorted[0];
    let first = json!({
        "name": name, "sessions": sessions, "sessions_max": sessions_max,
        "groups": 0, "groups_max": 0, "retained_messages": 0, "retained_messages_max": 0,
        "retained_bytes": 0, "retained_bytes_max": 0,
    });
    let shown: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(shown, json!({ "tenants": [first], "other_tenants": 1 }));
}

#[test]
fn at_the_quota_room_for_a_tenant_is_made_by_its_own_sessions_or_not_at_all() {
    let evicting = ["quota.sessions_max=3", "quota.policy=evict-longest-offline"];
    let mut broker = start(&evicting);
    kept(&broker, 0, Version::V311, "oldest").disconnect();
    let other = kept(&broker, 0, Version::V5, "other");
    kept(&broker, 1, Version::V5, "own").disconnect();
    broker.crash();
    drop(other);
    // A shard that found nobody to evict does not look again for a second.
    let in_the_place_of_another = |version, id: &str| {
        let mut admitted = None;
        eventually("there is room", || {
            let new = try_connect(&broker, 1, &Connect::kept(version, id));
            let is_in = new.connack.code == 0;
            admitted = is_in.then_some(new);
            is_in
        });
        let new = admitted.unwrap();
        assert!(!new.connack.present, "{id}");
        new
    };
    for (version, code) in [(Version::V311, 3), (Version::V5, 0x97)] {
        let new = in_the_place_of_another(version, "new");
        let newer = try_connect(&broker, 1, &Connect::kept(version, "newer"));
        assert_eq!(newer.connack.code, code, "its only session is online");
        new.disconnect();
        in_the_place_of_another(version, "own").disconnect();
    }
    for id in ["oldest", "other"] {
        assert!(kept(&broker, 0, Version::V5, id).connack.present, "{id}");
    }
}

#[test]
fn without_tenancy_nobody_is_a_tenant() {
    let broker = Broker::start_with(&["tenancy.groups_max=1", "tenancy.retained_messages_max=1"]);
    let mut client = Client::kept(&broker, Version::V5, "c");
    for number in 0..3 {
        assert_eq!(client.try_subscribe(&format!("$share/{number}/t"), 1), 1);
        client.publish_retained(&format!("t/{number}"), "r", 1);
    }
    let (_, body) = broker.admin_get("/api/v1/tenants").unwrap();
    assert_eq!(body, r#"{"tenants":[],"other_tenants":0}"#);
    assert_eq!(broker.metric("outlive_retained_messages "), 3.0);
}
