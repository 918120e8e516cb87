//! The quota over the API, and what SIGHUP changes.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::{Broker, eventually};
use crate::wire::{Connect, Version};

const JSON: &str = "Content-Type: application/json";
const LOCAL: &str = "Host: 127.0.0.1";

fn get(broker: &Broker, path: &str) -> Value {
    let (status, body) = broker.admin_get(path).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn put(broker: &Broker, headers: &[&str], body: &str) -> (u16, Value) {
    let (status, body) = broker
        .admin_ask("PUT", "/api/v1/quota", headers, body)
        .unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn connack(broker: &Broker, id: &str) -> u8 {
    let connect = Connect::kept(Version::V5, id);
    Client::try_connect(broker, &connect).connack.code
}

#[test]
fn the_api_shows_who_uses_the_quota_and_changes_its_limits() {
    let broker = Broker::start_with(&[
        "quota.sessions_max=4",
        "quota.reserved=[{ name = 'alarms', client_id_pattern = 'alarm-*', sessions = 1 }]",
    ]);
    let _online = Client::kept(&broker, Version::V5, "meter-1");
    let kept = |id, seconds| {
        let connect = Connect::kept(Version::V5, id).expiry(seconds);
        Client::connect(&broker, &connect).disconnect();
    };
    kept("meter-2", 3_000);
    kept("alarm-1", 80_000);
    let mut shown = Value::Null;
    eventually("both are offline", || {
        shown = get(&broker, "/api/v1/quota");
        shown["offline"] == 2
    });
    assert_eq!((&shown["used"], &shown["free"]), (&json!(3), &json!(1)));
    assert_eq!(
        (&shown["online"], &shown["never_resumed"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(shown["free_within"], json!({ "hour": 1, "day": 2 }));
    assert_eq!(shown["high_water"]["sessions"], 3);
    let alarms = json!([{ "name": "alarms", "sessions": 1, "used": 1 }]);
    assert_eq!(shown["reserved"], alarms);
    let meters = json!({ "prefix": "meter-", "online": 1, "offline": 1 });
    assert_eq!(shown["client_id_prefixes"][0], meters);
    assert_eq!(shown["listeners"][0]["used"], 3);
    let top = get(&broker, "/api/v1/quota?top=1");
    assert_eq!(top["client_id_prefixes"].as_array().unwrap().len(), 1);

    // Below the use: nobody is thrown out, nobody gets in.
    let (status, changed) = put(&broker, &[JSON, LOCAL], r#"{"sessions_max": 2}"#);
    assert_eq!((status, &changed["used"]), (200, &json!(3)));
    assert_eq!(connack(&broker, "meter-3"), 0x97);
    assert_eq!(connack(&broker, "meter-2"), 0);
    let body = r#"{"sessions_max": 9, "principals": [{"name": "", "sessions_max": 3}]}"#;
    assert_eq!(put(&broker, &[JSON, LOCAL], body).0, 200);
    assert_eq!(
        connack(&broker, "meter-3"),
        0x97,
        "the limit of the nameless"
    );
    assert_eq!(put(&broker, &[JSON, LOCAL], r#"{"principals": []}"#).0, 200);
    assert_eq!(connack(&broker, "meter-3"), 0);
    let refused = broker.metric("outlive_session_quota_refused_total{limit=\"principal\"}");
    assert_eq!(refused, 1.0);

    for bad in [
        r#"{"sessions_max": -1}"#,
        r#"{"sessions_max": 2000000000}"#,
        r#"{"sessions": 1}"#,
        r#"{"policy": "perhaps"}"#,
        r#"{"sessions_max": 0}"#, // of which nothing can be reserved
        r#"{"reserved": [{"name": "unknown", "sessions": 1}]}"#,
        r#"{"principals": [{"name": "a", "sessions_max": 1}, {"name": "a", "sessions_max": 1}]}"#,
        "",
        "[",
    ] {
        let (status, problem) = put(&broker, &[JSON, LOCAL], bad);
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!("BAD_REQUEST")),
            "{bad}"
        );
    }
    assert_eq!(get(&broker, "/api/v1/quota")["sessions_max"], 9);
}

#[test]
fn changes_at_the_same_time_do_not_undo_each_other() {
    let broker = Broker::start();
    // Each changes a key of its own, so nobody but itself may make it different from what it said last.
    std::thread::scope(|scope| {
        for key in ["sessions_max", "principal_sessions_max"] {
            let broker = &broker;
            scope.spawn(move || {
                for sessions in 1..=200 {
                    let before = get(broker, "/api/v1/quota");
                    assert!(sessions == 1 || before[key] == sessions - 1, "{before}");
                    let body = json!({ key: sessions }).to_string();
                    let (status, changed) = put(broker, &[JSON, LOCAL], &body);
                    assert_eq!((status, &changed[key]), (200, &json!(sessions)));
                }
            });
        }
    });
}

#[test]
fn what_changes_something_must_come_from_here_or_show_the_token() {
    let broker = Broker::start();
    let body = r#"{"sessions_max": 5}"#;
    // What a web page on this machine can send.
    let (status, problem) = put(&broker, &[JSON, "Host: evil.example"], body);
    assert_eq!((status, &problem["code"]), (403, &json!("FORBIDDEN")));
    let text = ["Content-Type: text/plain", LOCAL];
    assert_eq!(put(&broker, &text, body).0, 400);
    assert_eq!(put(&broker, &[JSON, "Host: [::1]:9"], body).0, 200);

    let broker = Broker::start_with(&["admin.token=secret"]);
    assert_eq!(put(&broker, &[JSON, LOCAL], body).0, 401);
    for path in ["/api/v1/quota", "/api/v1/quota/usage"] {
        assert_eq!(broker.admin_get(path).unwrap().0, 401);
        let wrong = ["Authorization: Bearer secres", LOCAL];
        assert_eq!(broker.admin_ask("GET", path, &wrong, "").unwrap().0, 401);
    }
    let right = [JSON, "Host: anything", "Authorization: Bearer secret"];
    assert_eq!(put(&broker, &right, body).0, 200);
    let pages = broker.admin_get("/metrics").unwrap();
    assert_eq!(pages.0, 200, "pages stay open");
    assert!(!broker.log().contains("secret"), "{}", broker.log());
}

#[test]
fn usage_is_recorded_shown_and_kept_over_restarts() {
    let mut broker = Broker::start_with(&["quota.usage_interval_seconds=1"]);
    let _client = Client::kept(&broker, Version::V5, "one");
    let lines = |broker: &Broker| {
        let usage = get(broker, "/api/v1/quota/usage");
        usage["intervals"].as_array().unwrap().clone()
    };
    eventually("an interval has one session", || {
        lines(&broker).iter().any(|line| line["max"] == 1)
    });
    broker.stop();
    let before = lines_of(&broker).len();
    broker.restart();
    eventually("intervals go on", || lines(&broker).len() > before);
    for line in lines_of(&broker) {
        let line: Value = serde_json::from_str(&line).unwrap();
        for key in ["from", "to", "min", "max", "avg", "refused", "principals"] {
            assert!(!line[key].is_null(), "{key} in {line}");
        }
    }
    let none = get(&broker, "/api/v1/quota/usage?to=1");
    assert_eq!(none["intervals"], json!([]));
}

/// The lines of the file itself.
fn lines_of(broker: &Broker) -> Vec<String> {
    let file = broker.data_dir().join("usage/sessions.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn sighup_changes_what_can_change_and_says_what_cannot() {
    let broker = Broker::start_with_file("[quota]\nsessions_max = 1\n");
    let mut online = Client::kept(&broker, Version::V5, "one");
    assert_eq!(connack(&broker, "two"), 0x97);
    broker.write_file("[quota]\nsessions_max = 2\n[session]\ninflight_max = 7\n");
    broker.hang_up();
    eventually("the limit is two", || {
        broker.metric("outlive_session_quota_limit ") == 2.0
    });
    assert_eq!(connack(&broker, "two"), 0);
    eventually("the log says what waits for a start", || {
        broker.log().contains("key=\"session.inflight_max\"")
    });

    // What is not valid changes nothing.
    broker.write_file("[quota]\nsessions_max = 3\nsession_max = 3\n");
    broker.hang_up();
    eventually("the log says that it is not valid", || {
        broker.log().contains("configuration not reloaded")
    });
    assert_eq!(broker.metric("outlive_session_quota_limit "), 2.0);

    broker.write_file("[telemetry]\nlevel = \"debug\"\n[quota]\nsessions_max = 2\n");
    broker.hang_up();
    eventually("debug lines are written", || {
        Client::try_connect(&broker, &Connect::new(Version::V5, "three"));
        broker.log().contains("DEBUG")
    });
    // Whoever was connected still is.
    online.publish("t", "x", 1);
}
