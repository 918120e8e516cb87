//! What each tenant may have besides its sessions.

use serde_json::Value as Json;

use super::{TENANTS, connect, expect, kept, transient, try_connect, users};
use crate::harness::{Broker, eventually};
use crate::scram::{self, User};
use crate::wire::{Ack, Connect, Properties, Publish, Value, Version, property};

const QUOTA_EXCEEDED: u8 = 0x97;
const RATE_EXCEEDED: u8 = 0x9F;

/// A configuration with tenants and these limits of theirs; `others` are sections.
fn file(limits: &str, others: &str) -> String {
    format!("[tenancy]\nby = \"listener\"\n{limits}\n[runtime]\nshards = 2\n{others}\n")
}

fn start(limits: &str, others: &str) -> Broker {
    Broker::start_on_with_file(2, &file(limits, others))
}

/// A limit of one tenant in the place of what the others have.
fn named(broker: &Broker, tenant: usize, limit: &str) -> String {
    let name = broker.address_of(tenant);
    format!("tenants = [{{ name = \"{name}\", {limit} }}]")
}

/// What the broker says of a tenant.
fn shown(broker: &Broker, tenant: usize, key: &str) -> u64 {
    let path = format!("/api/v1/tenants?name={}", broker.address_of(tenant));
    let (status, body) = broker.admin_get(&path).unwrap();
    assert_eq!(status, 200);
    let shown: Json = serde_json::from_str(&body).unwrap();
    match &shown["tenants"][0][key] {
        Json::Null => 0, // a tenant that has nothing
        value => value.as_u64().unwrap(),
    }
}

fn reload(broker: &Broker, limits: &str, others: &str, until: impl Fn() -> bool) {
    broker.write_file(&file(limits, others));
    broker.hang_up();
    eventually("the limits are in force", until);
}

#[test]
fn a_tenant_at_its_limit_of_groups_is_refused_another_and_others_are_not() {
    let declared = "[shared]\ngroups = [\"declared\"]";
    let mut broker = start("groups_max = 1", declared);
    let mut member = kept(&broker, 0, Version::V5, "m");
    for filter in ["$share/g/a", "$share/g/b"] {
        assert_eq!(member.try_subscribe(filter, 1), 1, "{filter}");
    }
    let mut others = kept(&broker, 1, Version::V5, "m");
    assert_eq!(others.try_subscribe("$share/h/a", 1), 1);
    let refuse = |broker: &Broker| {
        for (version, code) in [(Version::V311, 0x80), (Version::V5, QUOTA_EXCEEDED)] {
            let mut asking = transient(broker, 0, version, "asking");
            assert_eq!(asking.try_subscribe("$share/h/a", 1), code, "{version:?}");
            assert_eq!(asking.try_subscribe("$share/g/a", 0), 0, "it is there");
            asking.disconnect();
        }
    };
    refuse(&broker);
    let refused =
        |limit: &str| broker.metric(&format!("outlive_group_refused_total{{limit=\"{limit}\"}}"));
    assert_eq!((refused("tenant"), refused("shared")), (2.0, 0.0));
    broker.crash();
    for tenant in TENANTS {
        assert_eq!(shown(&broker, tenant, "groups"), 1);
    }
    refuse(&broker);
    // A name counts until its last filter goes.
    let mut member = kept(&broker, 0, Version::V5, "m");
    member.unsubscribe("$share/g/a");
    assert_eq!(member.try_subscribe("$share/h/a", 1), QUOTA_EXCEEDED);
    member.unsubscribe("$share/g/b");
    assert_eq!(shown(&broker, 0, "groups"), 0);
    // And as long as it is declared, though its members are gone and the broker was, too.
    member.subscribe("$share/declared/a", 1);
    member.disconnect_with(0, Some(0));
    broker.crash();
    assert_eq!(shown(&broker, 0, "groups"), 1);
    let mut member = transient(&broker, 0, Version::V5, "m");
    assert_eq!(member.try_subscribe("$share/h/a", 1), QUOTA_EXCEEDED);
    let more = format!("groups_max = 1\n{}", named(&broker, 1, "groups_max = 2"));
    reload(&broker, &more, "", || {
        shown(&broker, 1, "groups_max") == 2 && shown(&broker, 0, "groups") == 0
    });
    assert_eq!(member.try_subscribe("$share/h/a", 1), 1);
    let mut others = kept(&broker, 1, Version::V5, "m");
    assert_eq!(others.try_subscribe("$share/i/a", 1), 1);
    assert_eq!(others.try_subscribe("$share/j/a", 1), QUOTA_EXCEEDED);
    // A session that expires takes its group along.
    others.disconnect_with(0, Some(1));
    eventually("it expired", || shown(&broker, 1, "groups") == 0);
}

#[test]
fn the_total_of_groups_holds_for_a_tenant_below_its_own_limit() {
    let broker = start("groups_max = 2", "[shared]\ngroups_max = 3");
    let mut members = TENANTS.map(|tenant| transient(&broker, tenant, Version::V5, "m"));
    for (tenant, name, code) in [(0, "g", 1), (0, "h", 1), (1, "g", 1), (1, "h", 0x97)] {
        let answer = members[tenant].try_subscribe(&format!("$share/{name}/a"), 1);
        assert_eq!(answer, code, "{name} of {tenant}");
    }
    let refused = broker.metric("outlive_group_refused_total{limit=\"shared\"}");
    assert_eq!(refused, 1.0);
}

/// Publishes a message to be retained with QoS 1, which is accepted in any case, and gives whether it is retained.
fn retain(broker: &Broker, tenant: usize, topic: &str, payload: &str) -> bool {
    let refused = || broker.metric("outlive_retained_refused_total");
    let before = refused();
    let mut writer = transient(broker, tenant, Version::V5, "writer");
    let id = writer.send_publish(topic, payload, 1, true);
    assert!(writer.wait_ack_code(Ack::Puback, id) < 0x80);
    writer.disconnect();
    refused() == before
}

#[test]
fn a_tenant_at_its_limit_of_retained_messages_has_them_delivered_and_not_retained() {
    let fast = "[storage]\ncheckpoint_interval_millis = 100";
    let mut broker = start("retained_messages_max = 2", fast);
    let mut reader = kept(&broker, 0, Version::V5, "reader");
    reader.subscribe("#", 1);
    for topic in ["r/1", "$r/2"] {
        assert!(retain(&broker, 0, topic, "in"), "{topic}");
    }
    expect(&mut reader, "r/1", "in");
    for topic in ["r/3", "r/4"] {
        assert!(!retain(&broker, 0, topic, "too many"));
        expect(&mut reader, topic, "too many");
    }
    assert!(retain(&broker, 1, "r/3", "of another"));
    assert!(retain(&broker, 0, "r/1", "replaced"));
    expect(&mut reader, "r/1", "replaced");
    // 3.x has no word for it.
    let mut old = transient(&broker, 0, Version::V311, "old");
    for qos in 0..=2 {
        old.publish_retained("r/5", "too many", qos);
        expect(&mut reader, "r/5", "too many");
    }
    // A will is no way past it.
    let dying = Connect::new(Version::V311, "dying").will("r/6", "too many", 0);
    let dying = dying.with_will(|will| will.retain = true);
    connect(&broker, 0, &dying).vanish();
    expect(&mut reader, "r/6", "too many");
    reader.disconnect();
    let refused = |limit: &str| {
        broker.metric(&format!(
            "outlive_retained_refused_total{{limit=\"{limit}\"}}"
        ))
    };
    assert_eq!((refused("tenant"), refused("total")), (6.0, 0.0));
    broker.crash();
    assert_eq!(
        TENANTS.map(|tenant| shown(&broker, tenant, "retained_messages")),
        [2, 1]
    );
    assert!(!retain(&broker, 0, "r/3", "too many"));
    // What is cleared makes room, and so does what expires.
    let mut writer = transient(&broker, 0, Version::V5, "w");
    writer.publish_retained("r/1", "", 1);
    writer.send_message(&Publish {
        topic: "r/7".to_owned(),
        payload: b"for a second".to_vec(),
        retain: true,
        properties: Properties(vec![(property::MESSAGE_EXPIRY, Value::Number(1))]),
        ..Default::default()
    });
    eventually("it expired", || {
        broker.metric("outlive_retained_expired_total ") == 1.0
    });
    assert_eq!(shown(&broker, 0, "retained_messages"), 1);
    assert!(retain(&broker, 0, "r/3", "in"));
    broker.crash();
    // The journal may still hold what expired shortly before.
    eventually("it expired again", || {
        shown(&broker, 0, "retained_messages") == 2
    });
    let more = format!(
        "retained_messages_max = 2\n{}",
        named(&broker, 0, "retained_messages_max = 3")
    );
    reload(&broker, &more, fast, || {
        shown(&broker, 0, "retained_messages_max") == 3
    });
    assert!(retain(&broker, 0, "r/4", "in"));
    assert!(!retain(&broker, 0, "r/5", "too many"));
}

#[test]
fn bytes_of_a_tenants_retained_messages_are_counted_exactly_and_limited() {
    let mut broker = start("retained_bytes_max = 100", "");
    let known = format!("{}\0/r/1", broker.address_of(0)).len() as u64;
    let room = 100 - known;
    let full = "x".repeat(room.try_into().unwrap());
    assert!(!retain(&broker, 0, "r/1", &format!("{full}x")));
    assert_eq!(shown(&broker, 0, "retained_bytes"), 0);
    assert!(retain(&broker, 0, "r/1", &full));
    assert!(retain(&broker, 1, "r/1", &full[1..]));
    broker.crash();
    assert_eq!(shown(&broker, 0, "retained_bytes"), 100);
    assert!(!retain(&broker, 0, "r/2", "x"));
    assert!(retain(&broker, 0, "r/1", &full[2..]));
    assert_eq!(shown(&broker, 0, "retained_bytes"), 98);
    assert!(!retain(&broker, 0, "r/1", &format!("{full}x")));
    assert!(retain(&broker, 0, "r/1", ""));
    assert_eq!(shown(&broker, 0, "retained_bytes"), 0);
    let all = broker.metric("outlive_retained_bytes ");
    assert_eq!(all, shown(&broker, 1, "retained_bytes") as f64);
}

#[test]
fn connects_of_a_tenant_above_its_rate_are_refused_in_every_version_and_counted() {
    let broker = start("connects_per_second_max = 1", "");
    let code_of = |tenant, version| {
        try_connect(&broker, tenant, &Connect::new(version, "c"))
            .connack
            .code
    };
    for version in Version::ALL {
        let code = if version == Version::V5 {
            RATE_EXCEEDED
        } else {
            3
        };
        eventually("two connects come within a second", || {
            let answer = code_of(0, version);
            assert!(answer == 0 || answer == code, "{version:?}: {answer}");
            answer == code
        });
        eventually("then one is taken again", || code_of(0, version) == 0);
    }
    let reason = "outlive_connections_refused_total{reason=\"tenant_connect_rate\"}";
    assert!(broker.metric(reason) >= 3.0);
    let limits = format!(
        "connects_per_second_max = 1\n{}",
        named(&broker, 0, "connects_per_second_max = 0")
    );
    reload(&broker, &limits, "", || {
        broker.log().contains("configuration reloaded")
    });
    let before = broker.metric(reason);
    for _ in 0..20 {
        assert_eq!(code_of(0, Version::V311), 0);
    }
    assert_eq!(broker.metric(reason), before);
}

/// Who it is a client proves after the rate of all is asked.
#[test]
fn what_users_of_a_tenant_send_above_its_rate_is_not_at_the_expense_of_others() {
    let (_file, scram_file) = users(&["acme", "globex"]);
    let broker = Broker::start_with(&[
        &scram_file,
        "tenancy.by=principal",
        "tenancy.connects_per_second_max=1",
        "mqtt.connects_per_second_max=2",
    ]);
    let code_of = |name, password| {
        let mut client = scram::begin(&broker, "c", &mut User::new(name, password));
        scram::connack(&mut client).0
    };
    let refused = |reason: &str| {
        broker.metric(&format!(
            "outlive_connections_refused_total{{reason=\"{reason}\"}}"
        ))
    };
    eventually("a tenant is refused often", || {
        let code = code_of("acme", "secret");
        assert!(code == 0 || code == RATE_EXCEEDED, "{code:#x}");
        refused("tenant_connect_rate") >= 20.0
    });
    assert_eq!(code_of("globex", "secret"), 0);
    assert_eq!(refused("connect_rate"), 0.0);
}
