//! The configuration from outside: its layers, its messages, and that `config/outlive.toml` and `docs/config.md` say
//! what the code does. `UPDATE_DOCS=1 cargo test --test config` writes `docs/config.md` anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outlive::config::{
    Config, ConfigError, Effective, LIMITS, ListenerQuotaConfig, Origin, Problem, RELOADABLE,
    Sources, load,
};
use toml::{Table, Value};

const FILE: &str = include_str!("../config/outlive.toml");

// --- the file that shows every key

/// A key or section of `config/outlive.toml` with the comment above it.
struct Shown {
    section: String,
    /// Empty for the section itself.
    key: String,
    default: String,
    comment: String,
}

impl Shown {
    fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

fn shown() -> Vec<Shown> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut comment = String::new();
    for line in FILE.lines() {
        if let Some(text) = line.strip_prefix('#') {
            writeln!(comment, "{}", text.trim_start()).unwrap();
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        }
        let (key, default) = line.split_once(" = ").unwrap_or_default();
        if !key.is_empty() || line.starts_with('[') {
            found.push(Shown {
                section: section.clone(),
                key: key.to_owned(),
                default: default.to_owned(),
                comment: comment.clone(),
            });
        }
        comment.clear();
    }
    found
}

fn keys(table: &Table) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    for (section, values) in table {
        for (key, value) in values.as_table().unwrap() {
            keys.insert(format!("{section}.{key}"), value.clone());
        }
    }
    keys
}

#[test]
fn the_shown_file_has_every_key_with_its_default_and_no_other() {
    let file: Table = FILE.parse().unwrap();
    let code = Table::try_from(Config::default()).unwrap();
    assert_eq!(keys(&file), keys(&code));
    assert_eq!(file.try_into::<Config>().unwrap(), Config::default());
}

#[test]
fn the_shown_file_explains_every_key_and_section() {
    for shown in shown() {
        assert!(!shown.comment.is_empty(), "{} has no comment", shown.path());
    }
}

#[test]
fn the_shown_file_states_the_range_of_every_number() {
    let numbers: Vec<Shown> = shown()
        .into_iter()
        .filter(|shown| shown.default.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers.len(), LIMITS.len());
    for shown in numbers {
        let path = shown.path();
        let limit = LIMITS
            .iter()
            .find(|limit| limit.key == path)
            .unwrap_or_else(|| panic!("{path} has no limit"));
        let range = format!("Range: {} to {}.", limit.min, limit.max);
        assert!(shown.comment.contains(&range), "{path} lacks \"{range}\"");
        assert!(shown.comment.contains("Unit: "), "{path} states no unit");
    }
}

#[test]
fn the_shown_file_names_exactly_the_allowed_words() {
    for shown in shown() {
        let Some((_, words)) = shown.comment.split_once("One of: ") else {
            continue;
        };
        for word in words.trim_end().trim_end_matches('.').split(", ") {
            // One may need another key beside it, and the complaint names that one.
            if let Err(ConfigError::Problems(problems)) =
                load(&set(&[(&shown.path(), word.trim_matches('"'))]))
            {
                let path = shown.path();
                let own = problems.iter().any(|problem| problem.key == path);
                assert!(!own, "{path} refuses {word}");
            }
        }
        let problems = problems(&set(&[(&shown.path(), "perhaps")]));
        assert_eq!(problems[0].key, shown.path());
    }
}

#[test]
fn the_page_of_keys_is_made_from_the_shown_file() {
    let mut page = String::from(
        "# Configuration\n\nMade from the comments of `config/outlive.toml` by `UPDATE_DOCS=1 cargo test --test config`; \
         do not edit.\n\n",
    );
    let head: Vec<&str> = FILE
        .lines()
        .take_while(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim_start())
        .filter(|line| !line.starts_with("docs/config.md"))
        .collect();
    writeln!(page, "{}", head.join("\n").trim_end()).unwrap();
    for shown in shown() {
        if shown.key.is_empty() {
            writeln!(
                page,
                "\n## `[{}]`\n\n{}",
                shown.section,
                shown.comment.trim_end()
            )
            .unwrap();
            continue;
        }
        let (path, env) = (
            shown.path(),
            format!("OUTLIVE_{}__{}", shown.section, shown.key).to_uppercase(),
        );
        // Each "Unit:", "At the limit:" and so on becomes a line of its own.
        let text = shown.comment.trim_end();
        let text = text.replace("\nUnit:", "\n\nUnit:");
        let text = text.replace("\nAt the limit:", "\n\nAt the limit:");
        let text = text.replace("\nOne of:", "\n\nOne of:");
        writeln!(
            page,
            "\n### `{path}`\n\nDefault: `{}`. Environment: `{env}`.\n\n{text}",
            shown.default
        )
        .unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/config.md is stale: run UPDATE_DOCS=1 cargo test --test config"
    );
}

// --- limits

fn set(keys: &[(&str, &str)]) -> Sources {
    Sources {
        set: keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Sources::default()
    }
}

fn env(variables: &[(&str, &str)]) -> Sources {
    Sources {
        env: set(variables).set,
        ..Sources::default()
    }
}

fn problems(sources: &Sources) -> Vec<Problem> {
    match load(sources) {
        Err(ConfigError::Problems(problems)) => problems,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("nobody objects to {sources:?}"),
    }
}

fn ok(sources: &Sources) -> Effective {
    load(sources).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the range itself, apart from rules between keys, refuses the value.
fn out_of_range(key: &str, value: i128) -> bool {
    let value = value.to_string();
    match load(&set(&[(key, &value)])) {
        Ok(_) => false,
        Err(ConfigError::Problems(problems)) => problems
            .iter()
            .any(|problem| problem.key == key && problem.reason.contains("is not from")),
        Err(other) => panic!("another error: {other}"),
    }
}

#[test]
fn every_number_is_taken_at_both_ends_of_its_range_and_refused_beyond() {
    for limit in LIMITS {
        let (min, max) = (i128::from(limit.min), i128::from(limit.max));
        assert!(!out_of_range(limit.key, min), "{} = {min}", limit.key);
        assert!(!out_of_range(limit.key, max), "{} = {max}", limit.key);
        assert!(
            out_of_range(limit.key, min - 1),
            "{} = {min} - 1",
            limit.key
        );
        assert!(
            out_of_range(limit.key, max + 1),
            "{} = {max} + 1",
            limit.key
        );
    }
}

#[test]
fn every_end_of_a_range_fits_the_type_of_its_key() {
    for limit in LIMITS {
        for value in [limit.min, limit.max] {
            if let Err(error) = load(&set(&[(limit.key, &value.to_string())])) {
                assert!(!error.to_string().contains("is not allowed"), "{error}");
            }
        }
    }
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(Config::default().validate(), Vec::new());
    assert_eq!(ok(&Sources::default()).config, Config::default());
}

#[test]
fn a_config_built_by_hand_is_held_to_the_same_limits() {
    let mut config = Config::default();
    config.runtime.shards = 65;
    config.mqtt.listen.clear();
    let keys: Vec<String> = config.validate().into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["runtime.shards", "mqtt.listen"]);
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (keys, refused) in [
        (
            &[("mqtt.write_buffer_max_bytes", "65536")][..],
            "mqtt.write_buffer_max_bytes",
        ),
        (
            &[("mqtt.packet_bytes_max", "268435455")],
            "log.segment_bytes",
        ),
        (&[("log.bytes_max", "1")], "log.bytes_max"),
        (&[("mqtt.listen", "[]")], "mqtt.listen"),
        (&[("mqtt.listen", "127.0.0.1:1,127.0.0.1:1")], "mqtt.listen"),
        (&[("admin.listen", "127.0.0.1:1883")], "admin.listen"),
        (
            &[("mqtt.response_information", "reply/#")],
            "mqtt.response_information",
        ),
        (&[("auth.scram_file", "/nowhere/users")], "auth.scram_file"),
        (&[("tenancy.by", "principal")], "auth.scram_file"),
        (
            &[("tenancy.by", "listener"), ("mqtt.listen", "127.0.0.1:0")],
            "mqtt.listen",
        ),
        (
            &[("tenancy.tenants", "[{ name = 'a/b' }]")],
            "tenancy.tenants",
        ),
        (
            &[("tenancy.tenants", "[{ name = 'a' }, { name = 'a' }]")],
            "tenancy.tenants",
        ),
        (
            &[("tenancy.tenants", "[{ name = 'a', groups_max = 1000001 }]")],
            "tenancy.tenants",
        ),
        (&[("telemetry.level", "loud=very")], "telemetry.level"),
        (&[("storage.data_dir", "")], "storage.data_dir"),
        (
            &[("quota.reserved", "[{ name = 'a', sessions = 1 }]")],
            "quota.reserved",
        ),
        (
            &[(
                "quota.reserved",
                "[{ name = 'a', principal = 'p', sessions = 100001 }]",
            )],
            "quota.reserved",
        ),
        (
            &[(
                "quota.principals",
                "[{ name = 'a', sessions_max = 1 }, { name = 'a', sessions_max = 2 }]",
            )],
            "quota.principals",
        ),
        (
            &[(
                "quota.listeners",
                "[{ listen = '127.0.0.1:1', sessions_max = 1 }]",
            )],
            "quota.listeners",
        ),
    ] {
        let problems = problems(&set(keys));
        assert!(
            problems.iter().all(|problem| problem.key == refused),
            "{problems:?}"
        );
    }
}

// --- layers

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outlive.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let (_dir, path) =
        file("[session]\ninflight_max = 1\nsubscriptions_max = 1\nqueue_messages_max = 1\n");
    let effective = ok(&Sources {
        file: Some(path.clone()),
        env: env(&[
            ("OUTLIVE_SESSION__INFLIGHT_MAX", "2"),
            ("OUTLIVE_SESSION__SUBSCRIPTIONS_MAX", "2"),
        ])
        .env,
        set: set(&[("session.inflight_max", "3")]).set,
    });
    let session = &effective.config.session;
    assert_eq!(
        (
            session.inflight_max,
            session.subscriptions_max,
            session.queue_messages_max
        ),
        (3, 2, 1)
    );
    assert_eq!(effective.origin("session.inflight_max"), &Origin::Flag);
    assert_eq!(
        effective.origin("session.subscriptions_max").to_string(),
        "env:OUTLIVE_SESSION__SUBSCRIPTIONS_MAX"
    );
    assert_eq!(
        effective.origin("session.queue_messages_max"),
        &Origin::File(path)
    );
    assert_eq!(effective.origin("session.overflow"), &Origin::Default);
}

#[test]
fn lists_of_tables_are_read_from_files_and_flags_and_shown_as_they_can_be_read() {
    let (_dir, path) = file(
        "[[quota.reserved]]\nname = 'alarms'\nclient_id_pattern = 'alarm-*'\nsessions = 7\n\
         [[quota.principals]]\nname = 'tenant'\nsessions_max = 9\n",
    );
    let effective = ok(&Sources {
        file: Some(path),
        set: set(&[(
            "quota.listeners",
            "[{ listen = '127.0.0.1:1883', sessions_max = 5 }]",
        )])
        .set,
        ..Sources::default()
    });
    let quota = &effective.config.quota;
    assert_eq!(
        quota.reserved[0].client_id_pattern.as_deref(),
        Some("alarm-*")
    );
    assert_eq!(quota.principals[0].sessions_max, 9);
    assert_eq!(quota.listeners[0].sessions_max, 5);
    let again: Config = toml::from_str(&effective.to_string()).unwrap();
    assert_eq!(again.quota, *quota);
    let wrong = ("quota.reserved", "[{ name = 'a', session = 1 }]");
    let problem = problems(&set(&[wrong])).remove(0);
    assert!(problem.reason.contains("session"), "{problem}");
}

#[test]
fn text_is_read_as_the_kind_that_the_key_has() {
    let config = ok(&env(&[
        ("OUTLIVE_STORAGE__DATA_DIR", "2024"),
        ("OUTLIVE_AUTH__ALLOW_ANONYMOUS", "true"),
        ("OUTLIVE_MQTT__LISTEN", "0.0.0.0:1883, [::1]:1884"),
        ("OUTLIVE_ADMIN__LISTEN", "127.0.0.1:9000"),
    ]))
    .config;
    assert_eq!(config.storage.data_dir, Path::new("2024"));
    assert!(config.auth.allow_anonymous);
    let listen: Vec<String> = config.mqtt.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:1883", "[::1]:1884"]);
    assert_eq!(config.admin.listen.unwrap().port(), 9000);
    let listen = ok(&set(&[("mqtt.listen", r#"["127.0.0.1:7"]"#)]))
        .config
        .mqtt
        .listen;
    assert_eq!(listen[0].port(), 7);
}

#[test]
fn every_problem_is_reported_at_once_with_key_origin_and_what_is_allowed() {
    let (_dir, path) = file(
        "[session]\ninflight = 5\noverflow = \"drop\"\n[nope]\na = 1\n[log]\nsegment_bytes = \"64MB\"\n",
    );
    let problems = problems(&Sources {
        file: Some(path.clone()),
        env: env(&[
            ("OUTLIVE_QUOTA__SESSIONS_MAX", "-1"),
            ("OUTLIVE_NO__KEY", "1"),
        ])
        .env,
        set: set(&[("runtime.shards", "65"), ("shards", "1")]).set,
    });
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let file = format!("file:{}", path.display());
    for (key, origin, allowed) in [
        ("session.inflight", file.as_str(), "inflight_max"),
        ("session.overflow", &file, "drop-new"),
        ("nope", &file, "mqtt"),
        ("log.segment_bytes", &file, "an integer without quotes"),
        (
            "quota.sessions_max",
            "env:OUTLIVE_QUOTA__SESSIONS_MAX",
            "from 0 to",
        ),
        ("no", "env:OUTLIVE_NO__KEY", "session"),
        ("runtime.shards", "flag", "from 0 to 64"),
        ("shards", "flag", "section.key"),
    ] {
        let start = format!("{key} ({origin}): ");
        assert!(
            text.iter()
                .any(|t| t.starts_with(&start) && t.contains(allowed)),
            "no \"{start} .. {allowed}\" in {text:#?}"
        );
    }
    assert_eq!(text.len(), 8, "{text:#?}");
}

#[test]
fn variables_that_are_not_of_the_form_section_key_are_not_ours() {
    ok(&env(&[
        ("OUTLIVE_HOME", "/srv"),
        ("PATH", "/bin"),
        ("MY_SESSION__NOPE", "1"),
    ]));
}

#[test]
fn a_key_in_place_of_a_section_is_refused() {
    let (_dir, path) = file("session = 5\n");
    let sources = Sources {
        file: Some(path),
        ..Sources::default()
    };
    assert!(problems(&sources)[0].reason.contains("is a section"));
}

#[test]
fn a_file_that_is_missing_or_broken_is_named() {
    let (dir, broken) = file("[session\n");
    let missing = dir.path().join("missing.toml");
    for path in [broken, missing] {
        let error = load(&Sources {
            file: Some(path.clone()),
            ..Sources::default()
        })
        .unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}

// --- changes while the broker runs

#[test]
fn the_shown_file_names_exactly_the_keys_that_can_change_while_the_broker_runs() {
    let shown = shown();
    let says = |shown: &&Shown| shown.comment.contains("Reload: yes") && !shown.key.is_empty();
    let named: Vec<String> = shown.iter().filter(says).map(Shown::path).collect();
    let mut reloadable: Vec<&str> = RELOADABLE.to_vec();
    reloadable.sort_by_key(|key| shown.iter().position(|shown| shown.path() == **key));
    assert_eq!(named, reloadable);
}

#[test]
fn of_a_configuration_that_is_read_again_only_what_can_change_changes() {
    let before = ok(&set(&[(
        "quota.reserved",
        "[{ name = 'a', principal = 'p', sessions = 1 }]",
    )]))
    .config;
    let mut new = before.clone();
    new.quota.sessions_max = 7;
    new.quota.reserved[0].sessions = 2;
    new.session.inflight_max = 7;
    let reloaded = before.reloaded(&new);
    assert_eq!(reloaded.changed, ["quota.reserved", "quota.sessions_max"]);
    assert_eq!(reloaded.needs_start, ["session.inflight_max"]);
    assert_eq!(reloaded.config.quota, new.quota);
    assert_eq!(reloaded.config.session, before.session);

    new.quota.reserved[0].name = "b".to_owned();
    let reloaded = before.reloaded(&new);
    assert_eq!(reloaded.changed, ["quota.sessions_max"]);
    assert_eq!(
        reloaded.needs_start,
        ["quota.reserved", "session.inflight_max"]
    );

    // A limit on a listener that is there with the next start only.
    let address = "127.0.0.1:7".parse().unwrap();
    new.mqtt.listen = vec![address];
    new.quota.listeners = vec![ListenerQuotaConfig {
        listen: address,
        sessions_max: 1,
    }];
    let reloaded = before.reloaded(&new);
    assert_eq!((reloaded.changed.len(), &reloaded.config), (0, &before));
}

#[test]
fn the_token_is_shown_to_nobody() {
    let effective = ok(&set(&[("admin.token", "s3cret")]));
    assert_eq!(effective.config.admin.token, "s3cret");
    let (shown, debug) = (effective.to_string(), format!("{:?}", effective.config));
    assert!(shown.contains("token = \"hidden\"  # flag"), "{shown}");
    assert!(!shown.contains("s3cret") && !debug.contains("s3cret"));
}

// --- who may reach the broker

#[test]
fn listening_beyond_loopback_without_authentication_needs_a_switch() {
    let open = ("mqtt.listen", "127.0.0.1:1883,0.0.0.0:1884");
    let problem = problems(&set(&[open])).remove(0);
    assert_eq!(problem.key, "auth.allow_anonymous");
    assert!(problem.reason.contains("0.0.0.0:1884"), "{problem}");
    assert!(
        problem.reason.contains("auth.allow_anonymous = true"),
        "{problem}"
    );
    ok(&set(&[open, ("auth.allow_anonymous", "true")]));
    ok(&set(&[("mqtt.listen", "[::1]:1883,127.9.9.9:1883")]));
}

#[test]
fn admin_pages_beyond_loopback_need_a_switch() {
    let open = ("admin.listen", "[::]:9000");
    let problem = problems(&set(&[open])).remove(0);
    assert_eq!(problem.key, "admin.allow_remote");
    ok(&set(&[open, ("admin.allow_remote", "true")]));
    ok(&set(&[("admin.listen", "127.0.0.1:9000")]));
}

// --- the program

fn outlive(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outlive"))
        .args(arguments)
        .env_clear()
        .env("OUTLIVE_SESSION__INFLIGHT_MAX", "7")
        .output()
        .unwrap()
}

#[test]
fn check_prints_the_effective_configuration_as_toml_with_origins() {
    let output = outlive(&[
        "check",
        "--set",
        "quota.sessions_max=5",
        "--data-dir",
        "/srv/outlive",
    ]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "sessions_max = 5  # flag",
        "data_dir = \"/srv/outlive\"  # flag",
        "inflight_max = 7  # env:OUTLIVE_SESSION__INFLIGHT_MAX",
        "overflow = \"drop-oldest\"  # default",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    let again: Config = toml::from_str(&text).unwrap();
    assert_eq!(again.quota.sessions_max, 5);
}

#[test]
fn neither_check_nor_run_accepts_a_key_that_does_not_exist() {
    for command in [&["check"][..], &["run"], &[]] {
        let output = outlive(&[command, &["--set", "session.expiry=1"]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("session.expiry (flag)"), "{text}");
        assert!(text.contains("expiry_seconds_max"), "{text}");
    }
}
