//! Groups over the API: how far they are, and which are declared.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Connect, Version};

const HEADERS: [&str; 2] = ["Content-Type: application/json", "Host: 127.0.0.1"];

fn ask(broker: &Broker, method: &str, name: &str, body: &str) -> (u16, String) {
    let path = format!("/api/v1/groups/{name}");
    let (status, body) = broker.admin_ask(method, &path, &HEADERS, body).unwrap();
    let problem: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    let message = problem["message"].as_str().unwrap_or_default();
    (status, message.to_owned())
}

fn list(broker: &Broker, query: &str) -> Value {
    let path = format!("/api/v1/groups{query}");
    let (status, body) = broker.admin_get(&path).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The group of this name, with its first filter.
fn group(broker: &Broker, name: &str) -> Value {
    list(broker, &format!("?name={name}"))["groups"][0].clone()
}

fn publish(broker: &Broker, texts: &[&str]) {
    let mut publisher = Client::transient(broker, Version::V311, "publisher");
    for text in texts {
        publisher.publish("t", text, 1);
    }
    publisher.disconnect();
}

#[test]
fn a_group_that_the_api_declared_outlives_its_members_and_the_broker_until_it_is_taken_back() {
    let mut broker = Broker::start_with(&[
        "runtime.shards=2",
        "shared.groups=conf",
        "shared.require_declared_groups=true",
    ]);
    let mut member = Client::kept(&broker, Version::V5, "one");
    assert_eq!(member.try_subscribe("$share/jobs/t", 1), 0x87);
    let sticky = r#"{"strategy": "sticky"}"#;
    assert_eq!(ask(&broker, "PUT", "jobs", sticky).0, 204);
    assert_eq!(member.try_subscribe("$share/jobs/t", 1), 1);
    eventually("the member is online", || {
        group(&broker, "jobs")["members_online"] == 1
    });
    let seen = group(&broker, "jobs");
    assert_eq!(
        (&seen["filter"], &seen["strategy"], &seen["durable"]),
        (&json!("t"), &json!("sticky"), &json!(true))
    );
    let random = r#"{"strategy": "random"}"#;
    assert_eq!(ask(&broker, "PUT", "jobs", random).0, 204);
    assert_eq!(group(&broker, "jobs")["strategy"], "random");
    member.disconnect();
    // Its session ends.
    Client::transient(&broker, Version::V5, "one").disconnect();
    eventually("nobody is a member", || {
        group(&broker, "jobs")["members"] == 0
    });
    publish(&broker, &["1", "2", "3"]);

    broker.crash();
    let declared = json!([{ "name": "conf", "by": "configuration" },
        { "name": "jobs", "strategy": "random", "by": "api" }]);
    assert_eq!(list(&broker, "")["declared"], declared);
    let seen = group(&broker, "jobs");
    assert_eq!(seen["strategy"], "random");
    assert!(seen["unread_entries"].as_u64().unwrap() >= 3, "{seen}");
    let mut member = Client::kept(&broker, Version::V5, "two");
    assert_eq!(member.try_subscribe("$share/jobs/t", 1), 1);
    let messages: Vec<_> = (0..3).map(|_| member.message()).collect();
    let seen = group(&broker, "jobs");
    assert_eq!(
        (&seen["leases"], &seen["unread_entries"]),
        (&json!(3), &json!(0))
    );
    for message in &messages {
        member.acknowledge(message);
    }
    eventually("all is settled", || group(&broker, "jobs")["leases"] == 0);

    // Members stay when it is taken back, and end it when they leave.
    assert_eq!(ask(&broker, "DELETE", "jobs", "").0, 204);
    assert_eq!(group(&broker, "jobs")["members"], 1);
    member.unsubscribe("$share/jobs/t");
    assert_eq!(group(&broker, "jobs"), Value::Null);
    assert_eq!(member.try_subscribe("$share/jobs/t", 1), 0x87);
    broker.crash();
    assert_eq!(list(&broker, "")["declared"].as_array().unwrap().len(), 1);
}

#[test]
fn taking_back_a_declaration_ends_a_group_without_members() {
    let broker = Broker::start_with(&["runtime.shards=2"]);
    assert_eq!(ask(&broker, "PUT", "jobs", "{}").0, 204);
    let mut member = Client::transient(&broker, Version::V5, "one");
    member.subscribe("$share/jobs/t", 1);
    member.disconnect();
    eventually("nobody is a member", || {
        group(&broker, "jobs")["members"] == 0
    });
    assert_eq!(ask(&broker, "DELETE", "jobs", "").0, 204);
    eventually("it is over", || broker.metric("outlive_groups ") == 0.0);
    publish(&broker, &["nobody's"]);
    let mut member = Client::transient(&broker, Version::V5, "two");
    member.subscribe("$share/jobs/t", 1);
    member.assert_nothing_waits();
}

#[test]
fn what_cannot_be_declared_is_refused_with_a_reason() {
    let broker = Broker::start_with(&["shared.groups=conf"]);
    for (method, name, body, status, why) in [
        ("PUT", "a%2Bb", "{}", 400, "cannot name a group"),
        ("PUT", "a%2Fb", "{}", 400, "cannot name a group"),
        ("PUT", "jobs", r#"{"strategy": "best"}"#, 400, "best"),
        (
            "PUT",
            "jobs",
            r#"{"strategies": "sticky"}"#,
            400,
            "strategies",
        ),
        ("PUT", "jobs", "", 400, ""),
        ("PUT", "conf", "{}", 409, "shared.groups"),
        ("DELETE", "conf", "", 409, "shared.groups"),
        ("DELETE", "jobs", "", 404, "not declared"),
    ] {
        let (answer, message) = ask(&broker, method, name, body);
        assert_eq!(answer, status, "{method} {name} {body}: {message}");
        assert!(message.contains(why), "{method} {name} {body}: {message}");
    }
    let path = "/api/v1/groups/jobs";
    let foreign = ["Content-Type: application/json", "Host: evil.example"];
    assert_eq!(
        broker.admin_ask("PUT", path, &foreign, "{}").unwrap().0,
        403
    );
    assert_eq!(list(&broker, "")["declared"].as_array().unwrap().len(), 1);
}

#[test]
fn the_list_is_as_long_as_asked_for_and_says_what_is_missing() {
    let broker = Broker::start_with(&["runtime.shards=2"]);
    let connect = Connect::kept(Version::V5, "member");
    let mut member = Client::connect(&broker, &connect);
    for filter in ["$share/a/x", "$share/a/y", "$share/b/x"] {
        member.subscribe(filter, 0);
    }
    let all = list(&broker, "?limit=2");
    assert_eq!(all["groups"].as_array().unwrap().len(), 2);
    assert_eq!(all["other_groups"], 1);
    let named = list(&broker, "?name=a");
    let filters = named["groups"].as_array().unwrap().iter();
    let filters: Vec<_> = filters.map(|group| group["filter"].clone()).collect();
    assert_eq!(filters, ["x", "y"]);
}

#[test]
fn sighup_declares_groups_and_takes_them_back() {
    let broker = Broker::start_with_file("[shared]\nrequire_declared_groups = true\n");
    let mut member = Client::kept(&broker, Version::V5, "one");
    assert_eq!(member.try_subscribe("$share/later/t", 1), 0x87);
    let with = "[shared]\nrequire_declared_groups = true\ngroups = [\"later\"]\n";
    broker.write_file(with);
    broker.hang_up();
    let declared = || list(&broker, "")["declared"].as_array().unwrap().len();
    eventually("it is declared", || declared() == 1);
    assert_eq!(member.try_subscribe("$share/later/t", 1), 1);
    broker.write_file("[shared]\nrequire_declared_groups = true\n");
    broker.hang_up();
    eventually("it is taken back", || declared() == 0);
    assert_eq!(member.try_subscribe("$share/again/t", 1), 0x87);
}
