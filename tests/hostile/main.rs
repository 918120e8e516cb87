//! What fuzzing found, and what it begins with, as ordinary tests: see `fuzz/README.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stdout,
    reason = "a failed test shows which input it was"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a target performs what it can and lets the rest be"
)]

#[expect(dead_code, reason = "the reader of packets can write some, too")]
mod targets;

use std::fs;
use std::path::Path;

/// The inputs of one target.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("a directory can be read").path());
    let mut inputs: Vec<_> = paths
        .map(|path| {
            let name = path.display().to_string();
            (name, fs::read(path).expect("a file can be read"))
        })
        .collect();
    inputs.sort();
    inputs
}

fn run(name: &str) {
    let (_, target) = targets::TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a known target");
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "no corpus of {name}");
    for (path, input) in inputs {
        println!("{path}"); // shown if it fails
        target(&input);
        // Cut short and longer, they break nothing either.
        target(&input[..input.len() / 2]);
        target(&[&input[..], b"\x10\x00\xff"].concat());
    }
}

#[test]
fn no_known_connect_breaks_anything() {
    run("connect");
}

#[test]
fn no_known_conversation_breaks_anything() {
    run("conversation");
}

#[test]
fn no_known_conversation_breaks_tenants() {
    for (path, mut input) in corpus("conversation") {
        println!("{path}"); // shown if it fails
        if let Some(ways) = input.first_mut() {
            *ways |= targets::conversation::TENANTS;
        }
        targets::conversation::run(&input);
    }
}

#[test]
fn no_known_frame_breaks_anything() {
    run("frames");
}

#[test]
fn no_known_talk_of_a_group_breaks_anything() {
    run("group");
}

#[test]
fn no_known_proof_breaks_anything() {
    run("scram");
}

#[test]
fn no_known_journal_breaks_anything() {
    run("journal");
}

#[test]
fn no_known_snapshot_breaks_anything() {
    run("snapshot");
}

#[test]
fn every_target_has_its_test() {
    let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "connect",
            "conversation",
            "frames",
            "group",
            "journal",
            "scram",
            "snapshot"
        ]
    );
}
