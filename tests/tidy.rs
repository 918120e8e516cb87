//! What the compiler does not check: who may depend on whom, file sizes, words, and the form of decisions.
//!
//! Every check is a function from a path and its text to complaints, and has a test with a bad snippet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file, its tests not counted.
const LINES_MAX: usize = 450;

/// Files that may be longer, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// What may stand in the left part of `actors/src` and which modules of ours it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &["model"]),
    ("clock", &["model", "clock"]),
    ("durable", &["durable"]),
    ("journal", &["model", "journal", "durable"]),
    ("store", &["model", "store", "durable"]),
    (
        "observe",
        &["model", "journal", "store", "clock", "observe"],
    ),
    (
        "supervise",
        &["model", "journal", "store", "clock", "observe", "supervise"],
    ),
    (
        "actor",
        &[
            "model",
            "journal",
            "store",
            "clock",
            "observe",
            "supervise",
            "actor",
        ],
    ),
];

/// The files in `actors/src/actor` and which others of them each may name: actors know each other by their messages.
const ACTOR_ARROWS: &[(&str, &[&str])] = &[
    ("intake", &[]),
    // What a batch counts for travels with it.
    ("protocol", &["intake"]),
    ("appender", &["protocol"]),
    ("checkpointer", &["protocol"]),
    ("recovery", &[]),
    // The handles of the two threads are what all shards share.
    ("shared", &["protocol", "appender", "checkpointer"]),
    // A shard takes over what recovery found.
    ("local", &["protocol", "shared", "recovery"]),
    ("session", &["protocol", "shared", "local"]),
    ("group", &["protocol", "shared", "local"]),
    ("shard", &["protocol", "shared", "local"]),
    // Its stamps go straight to the journal.
    ("registry", &["protocol", "shared", "appender"]),
];

/// Names that a place may not use. A place is the beginning of a path.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "actors/src/model",
        &[
            "tokio",
            "redb",
            "postcard",
            "crossbeam_channel",
            "parking_lot",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "async",
        ],
        "the model is pure: no runtime, no disk, no clock",
    ),
    (
        "actors/src/journal",
        &["redb"],
        "the journal has its own files",
    ),
    (
        "actors/src/actor",
        &["redb"],
        "actors see the store's trait only",
    ),
];

/// Where actix may be named.
const ACTIX_PLACES: &[&str] = &[
    "actors/src/actor/",
    "actors/src/supervise",
    "actors/src/system",
    "src/mqtt/connection",
    // It spawns what it accepts on the thread of its shard.
    "src/mqtt/listener.rs",
    "src/admin/",
    "src/broker",
    "src/main.rs",
];

/// Where ntex may be named.
const NTEX_PLACE: &str = "src/mqtt/";

/// Modules that hold only tests and are declared under `#[cfg(test)]`.
const TEST_MODULES: &[&str] = &["tests", "fixtures"];

const BANNED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
const BANNED_SUFFIXES: &[&str] = &["Manager", "Handler", "Util", "Utils", "Info"];
const ADR_HEADINGS: &[&str] = &[
    "## Context",
    "## Decision",
    "## Consequences",
    "## Rejected",
];

// --- reading Rust

/// `text` with comments and the insides of literals blanked; line breaks stay.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(text, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        out.extend(
            bytes[at..end]
                .iter()
                .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
        );
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// The end of the comment or literal that begins at `at`, or `at` if none does.
fn skipped(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    let until = |needle: &str, from: usize| {
        let found = text.as_bytes()[at + from..]
            .windows(needle.len())
            .position(|window| window == needle.as_bytes());
        found.map_or(text.len(), |found| at + from + found + needle.len())
    };
    let before = at.checked_sub(1).map(|at| text.as_bytes()[at]);
    let in_word = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => until("\n", 0).min(text.len()),
        [b'/', b'*', ..] => until("*/", 2),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"', ..] if !in_word => until("\"", 2),
        [b'r', b'#', b'"', ..] if !in_word => until("\"#", 3),
        [b'\'', b'\\', ..] | [b'\'', _, b'\'', ..] => at + quoted(rest, b'\''),
        _ => at,
    }
}

/// The length of a literal with escapes.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += 1 + usize::from(rest[at] == b'\\');
    }
    (at + 1).min(rest.len())
}

/// The part of a source file that is not tests; nothing of a file that holds only tests.
fn product<'a>(path: &str, text: &'a str) -> &'a str {
    let of_tests = |part: &str| TEST_MODULES.contains(&part.trim_end_matches(".rs"));
    if path.split('/').any(of_tests) {
        return "";
    }
    let mut at = 0;
    while let Some(found) = text[at..].find("\n#[cfg(test)]\n") {
        let behind = &text[at + found + 1..];
        let item = behind.lines().find(|line| !line.starts_with("#["));
        if item.is_some_and(|item| item.starts_with("mod ") && item.ends_with('{')) {
            return &text[..at + found];
        }
        at += found + 1;
    }
    text
}

/// The words of `code`, each with what stands right behind it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = &rest[rest.find(is_word)?..];
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        Some((word, rest))
    })
}

/// Whether `code` names `what`: a word, or words joined by `::`. `ntex` also stands for `ntex_mqtt` and the like.
fn names(code: &str, what: &str) -> bool {
    let (first, others) = what.split_once("::").unwrap_or((what, ""));
    words(code).any(|(word, behind)| {
        let family = word == first || word.strip_prefix(first).is_some_and(|w| w.starts_with('_'));
        let Some(next) = behind.strip_prefix("::") else {
            return family && others.is_empty();
        };
        family && (others.is_empty() || listed(next).contains(&others))
    })
}

/// The first segments of what follows `path::`, be it one or a list in braces.
fn listed(next: &str) -> Vec<&str> {
    let first = |item| words(item).next().map(|(word, _)| word);
    let Some(list) = next.strip_prefix('{') else {
        return first(next).into_iter().collect();
    };
    let mut depth = 0_i32;
    let end = list
        .find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth < 0
        })
        .unwrap_or(list.len());
    let mut depth = 0_i32;
    list[..end]
        .split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .filter_map(first)
        .collect()
}

/// Modules of the own crate that `code` names from the root: `crate::a`, `crate::{a, b}`.
fn own_modules(code: &str) -> Vec<&str> {
    words(code)
        .filter(|(word, _)| *word == "crate")
        .filter_map(|(_, behind)| behind.strip_prefix("::"))
        .flat_map(listed)
        .collect()
}

// --- the checks

fn arrows(path: &str, text: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("actors/src/") else {
        return Vec::new();
    };
    let area = inside.split(['/', '.']).next().unwrap();
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == area) else {
        return Vec::new();
    };
    let code = code(product(path, text));
    own_modules(&code)
        .into_iter()
        .filter(|module| module.starts_with(char::is_lowercase) && !allowed.contains(module))
        .map(|module| format!("{path}: {area} must not depend on {module}"))
        .collect()
}

/// Whether a file of an actor names another actor's file, be it by `crate::actor::` or by `super::`.
fn actors_apart(path: &str, text: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("actors/src/actor/") else {
        return Vec::new();
    };
    let parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    if parts == ["mod"] {
        return Vec::new();
    }
    let own = parts[0];
    let Some((_, allowed)) = ACTOR_ARROWS.iter().find(|(name, _)| *name == own) else {
        return vec![format!(
            "{path}: {own} is not in ACTOR_ARROWS of tests/tidy.rs"
        )];
    };
    // How many `super::` lead from this file to `actor`: `mod.rs` stands for its directory.
    let depth = parts.iter().filter(|part| **part != "mod").count();
    let code = code(product(path, text));
    siblings(&code, depth)
        .into_iter()
        .filter(|module| *module != own && ACTOR_ARROWS.iter().any(|(name, _)| name == module))
        .filter(|module| !allowed.contains(module))
        .map(|module| format!("{path}: {own} must not name {module}"))
        .collect()
}

/// Modules of `actor` that `code` names: by `crate::actor::` or by `depth` times `super::`.
fn siblings(code: &str, depth: usize) -> Vec<&str> {
    let from_here = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::actor::", &from_here] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].trim_end_matches(char::is_alphanumeric);
            let is_whole = !code[..at].ends_with("super::") && before.len() == at;
            if is_whole {
                found.extend(listed(&code[at + root.len()..]));
            }
        }
    }
    found
}

fn libraries(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let whole = code(text);
    let own = code(product(path, text));
    if names(&whole, "ntex") && !path.starts_with(NTEX_PLACE) {
        complaints.push(format!("{path}: ntex is named only in {NTEX_PLACE}"));
    }
    let is_product = path.starts_with("src/") || path.starts_with("actors/src/");
    let may_actix = ACTIX_PLACES.iter().any(|place| path.starts_with(place));
    if names(&own, "actix") && is_product && !may_actix {
        complaints.push(format!("{path}: actix is named only in {ACTIX_PLACES:?}"));
    }
    for (place, forbidden, why) in FORBIDDEN {
        if !path.starts_with(place) {
            continue;
        }
        for name in forbidden.iter().filter(|name| names(&own, name)) {
            complaints.push(format!("{path}: names {name}, but {why}"));
        }
    }
    complaints
}

fn size(path: &str, text: &str) -> Vec<String> {
    let is_product = path.starts_with("src/") || path.starts_with("actors/src/");
    let excused = LONG_FILES.iter().any(|(long, _)| *long == path);
    let lines = product(path, text).lines().count();
    if is_product && !excused && lines > LINES_MAX {
        return vec![format!("{path}: {lines} lines, more than {LINES_MAX}")];
    }
    Vec::new()
}

/// Whoever takes a file for tests must be right about it.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let is_product = path.starts_with("src/") || path.starts_with("actors/src/");
    let mut before = "";
    let mut complaints = Vec::new();
    for line in text.lines() {
        let declares = TEST_MODULES
            .iter()
            .any(|name| line.ends_with(&format!("mod {name};")));
        if is_product && declares && before != "#[cfg(test)]" {
            complaints.push(format!("{path}: \"{line}\" is not under #[cfg(test)]"));
        }
        before = line;
    }
    complaints
}

fn unfinished(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    words(&code)
        .filter(|(word, behind)| BANNED_MACROS.contains(word) && behind.starts_with('!'))
        .map(|(word, _)| format!("{path}: {word}!"))
        .collect()
}

fn type_names(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut before = "";
    let mut complaints = Vec::new();
    for (word, _) in words(&code) {
        let names_a_type = ["struct", "enum", "trait", "union", "type"].contains(&before);
        if names_a_type && BANNED_SUFFIXES.iter().any(|suffix| word.ends_with(suffix)) {
            complaints.push(format!("{path}: {word} says nothing; see docs/glossary.md"));
        }
        before = word;
    }
    complaints
}

fn decision(path: &str, text: &str) -> Vec<String> {
    ADR_HEADINGS
        .iter()
        .filter(|heading| !text.lines().any(|line| line == **heading))
        .map(|heading| format!("{path}: has no \"{heading}\""))
        .collect()
}

// --- the checks on the repository

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with this ending, as path from the root and text.
fn files(dir: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                let text = fs::read_to_string(&path).unwrap();
                found.push((name.replace('\\', "/"), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let found: Vec<_> = ["src", "actors", "tests", "benches"]
        .iter()
        .flat_map(|dir| files(dir, "rs"))
        .collect();
    assert!(found.len() > 20, "the scan misses the sources");
    found
}

fn nobody_complains(files: &[(String, String)], check: fn(&str, &str) -> Vec<String>) {
    let complaints: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| check(path, text))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    nobody_complains(&sources(), arrows);
}

#[test]
fn actors_know_each_other_by_messages_only() {
    nobody_complains(&sources(), actors_apart);
}

#[test]
fn libraries_stay_in_their_places() {
    nobody_complains(&sources(), libraries);
}

#[test]
fn files_are_short() {
    nobody_complains(&sources(), size);
}

#[test]
fn modules_of_tests_are_only_built_for_tests() {
    nobody_complains(&sources(), test_modules);
}

#[test]
fn excuses_for_long_files_are_still_needed() {
    for (path, reason) in LONG_FILES {
        let text = fs::read_to_string(root().join(path)).unwrap();
        assert!(
            product(path, &text).lines().count() > LINES_MAX,
            "{path}: {reason}"
        );
    }
}

#[test]
fn nothing_is_left_unfinished() {
    nobody_complains(&sources(), unfinished);
}

#[test]
fn types_have_telling_names() {
    nobody_complains(&sources(), type_names);
}

#[test]
fn every_decision_has_its_four_parts() {
    let decisions = files("docs/adr", "md");
    assert!(!decisions.is_empty());
    nobody_complains(&decisions, decision);
}

// --- the checks on bad snippets

#[test]
fn an_arrow_backwards_is_found() {
    let bad = "use crate::{model::ids, journal::Record};\n";
    assert_eq!(
        arrows("actors/src/model/session.rs", bad),
        ["actors/src/model/session.rs: model must not depend on journal"]
    );
    for bad in [
        "use crate::store::Store;",
        "fn f() { crate::store::open(); }",
        "pub(crate) use crate::{\n    model::{a, b},\n    store,\n};",
    ] {
        assert_eq!(arrows("actors/src/journal/mod.rs", bad).len(), 1, "{bad}");
    }
    for good in [
        "use crate::{journal::{Journal, store}, model};",
        "// crate::store\n",
        "const S: &str = \"crate::store\";",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::store;\n}",
        "pub(in crate::journal) fn f() {}",
    ] {
        assert!(
            arrows("actors/src/journal/mod.rs", good).is_empty(),
            "{good}"
        );
    }
}

#[test]
fn an_actor_that_names_another_is_found() {
    for (path, bad) in [
        ("session.rs", "use super::shard::ShardActor;"),
        ("session/mod.rs", "use super::{protocol::ToSession, shard};"),
        ("session/reads.rs", "use super::super::shard::ShardActor;"),
        ("shard.rs", "fn f() { crate::actor::session::spawn(); }"),
        ("protocol.rs", "use super::local::Local;"),
        ("stranger.rs", ""),
    ] {
        let path = format!("actors/src/actor/{path}");
        assert_eq!(actors_apart(&path, bad).len(), 1, "{path}: {bad}");
    }
    for (path, good) in [
        ("session/mod.rs", "use super::{local::Local, protocol};"),
        ("session/reads.rs", "use super::connection::close;"),
        ("session/reads.rs", "use super::super::protocol::ToSession;"),
        ("shared.rs", "use super::appender::AppenderHandle;"),
        ("mod.rs", "pub mod session;\npub mod shard;"),
    ] {
        let path = format!("actors/src/actor/{path}");
        assert!(actors_apart(&path, good).is_empty(), "{path}: {good}");
    }
}

#[test]
fn a_library_out_of_its_place_is_found() {
    for (path, bad) in [
        ("actors/src/system.rs", "use ntex_bytes::Bytes;"),
        ("src/broker.rs", "fn f() { ntex_mqtt::v3::codec(); }"),
        ("src/config/mod.rs", "use actix::Actor;"),
        ("src/auth/mod.rs", "use actix_web::web;"),
        ("actors/src/journal/mod.rs", "use actix_rt;"),
        ("actors/src/model/session.rs", "use tokio::sync::mpsc;"),
        ("actors/src/model/session.rs", "use redb::Database;"),
        ("actors/src/model/session.rs", "use std::time::Instant;"),
        ("actors/src/model/session.rs", "use std::{fmt, fs};"),
        ("actors/src/model/session.rs", "async fn f() {}"),
        ("actors/src/actor/shard.rs", "use redb::Database;"),
    ] {
        assert_eq!(libraries(path, bad).len(), 1, "{path}: {bad}");
    }
    for (path, good) in [
        ("src/mqtt/guard.rs", "use ntex_bytes::Bytes;"),
        ("src/mqtt/connection/mod.rs", "use actix::Actor;"),
        ("src/admin/server.rs", "use actix_web::web;"),
        ("src/lib.rs", "//! ntex and actix\n"),
        ("actors/src/store/redb.rs", "use redb::Database;"),
        ("actors/src/model/session.rs", "use std::{fmt, mem};"),
    ] {
        assert!(libraries(path, good).is_empty(), "{path}: {good}");
    }
}

#[test]
fn a_long_file_is_found() {
    let long = "fn f() {}\n".repeat(LINES_MAX + 1);
    assert_eq!(size("src/broker.rs", &long).len(), 1);
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(size("src/broker.rs", &tested).is_empty());
    assert!(size("tests/broker/main.rs", &long).is_empty());
}

#[test]
fn a_test_module_in_the_product_is_found() {
    assert_eq!(
        test_modules("src/broker.rs", "mod a;\npub mod fixtures;\n").len(),
        1
    );
    assert!(test_modules("src/broker.rs", "#[cfg(test)]\nmod tests;\n").is_empty());
}

#[test]
fn the_product_ends_where_inline_tests_begin() {
    let text =
        "use a;\n#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n";
    assert_eq!(
        product("src/broker.rs", text),
        "use a;\n#[cfg(test)]\nmod tests;\nfn f() {}"
    );
    assert_eq!(product("src/broker/tests.rs", text), "");
    assert_eq!(product("actors/src/store/tests/space.rs", text), "");
}

#[test]
fn unfinished_code_is_found() {
    let bad = "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\nfn h() { dbg!(1); }";
    assert_eq!(unfinished("src/broker.rs", bad).len(), 3);
    let good = "// todo!\nfn f(todo: bool) { let s = \"dbg!(\"; let r = r#\"todo!\"#; }";
    assert!(unfinished("src/broker.rs", good).is_empty());
}

#[test]
fn an_empty_type_name_is_found() {
    let bad = "pub struct SessionManager;\nenum PacketHandler {}\ntrait StringUtil {}\ntype ConnectionInfo = u8;";
    assert_eq!(type_names("src/broker.rs", bad).len(), 4);
    let good = "struct Session;\nstruct Informer;\nfn f(x: ManagerOf) {}\n// struct TopicInfo\n";
    assert!(type_names("src/broker.rs", good).is_empty());
}

#[test]
fn an_incomplete_decision_is_found() {
    let bad = "# 7. Sleep\n\n## Context\n\n## Decision\n\n## Rejected\n";
    assert_eq!(
        decision("docs/adr/0007-sleep.md", bad),
        ["docs/adr/0007-sleep.md: has no \"## Consequences\""]
    );
}

#[test]
fn literals_and_comments_are_no_code() {
    let text = "let a = '\"'; b::c(\"d\\\"e\"); // f\nlet g: &'static str = r\"\\\"; /* h */ i";
    let code = code(text);
    let seen: Vec<&str> = words(&code).map(|(word, _)| word).collect();
    assert_eq!(
        seen,
        ["let", "a", "b", "c", "let", "g", "static", "str", "i"]
    );
}
