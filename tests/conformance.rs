//! The tables of `docs/conformance` cannot rot: every labelled clause has its row, and every row names a test that exists
//! and cites the clause.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Version, chapter, and how many of its rows are still open. Lower the number with the row; at 0 the line goes.
const OPEN_ROWS: &[(&str, &str, usize)] = &[];

/// The versions whose statements have labels.
const VERSIONS: [&str; 2] = ["v3.1.1", "v5.0"];

/// The least words of a reason.
const REASON_WORDS_MIN: usize = 3;

// --- reading the tables

/// One row: its cells without their blanks.
fn rows(page: &str) -> Vec<Vec<&str>> {
    // The first two lines of a table are its head.
    page.lines().filter_map(cells).skip(2).collect()
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inside = line.strip_prefix("| ")?.strip_suffix('|')?;
    Some(inside.split('|').map(str::trim).collect())
}

fn list(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(", ").map(str::trim)
}

/// What is wrong with a row of a version whose statements have labels.
fn row(cells: &[&str]) -> Vec<String> {
    let [clause, binds, done_in, shown_by] = cells else {
        return vec![format!("{cells:?}: not four cells")];
    };
    let complaints = match *binds {
        "open" if done_in.is_empty() && shown_by.is_empty() => Vec::new(),
        "open" => vec!["has something to show, so it is not open".to_owned()],
        "server" | "both" => proof(done_in, shown_by, &format!("[{clause}]")),
        "client" | "nobody" => reason(done_in, shown_by),
        other => vec![format!("binds {other:?}?")],
    };
    complaints
        .iter()
        .map(|complaint| format!("{clause}: {complaint}"))
        .collect()
}

/// Whether files and tests exist, and whether the tests cite `clause`.
fn proof(done_in: &str, shown_by: &str, clause: &str) -> Vec<String> {
    let mut complaints: Vec<String> = list(done_in)
        .filter(|path| !root().join(path).is_file())
        .map(|path| format!("there is no file {path:?}"))
        .collect();
    for named in list(shown_by) {
        match test(named) {
            None => complaints.push(format!("there is no test {named:?}")),
            Some(text) if !cites(&text, clause) => {
                complaints.push(format!("{named} does not cite {clause}"));
            }
            Some(_) => {}
        }
    }
    complaints
}

fn reason(done_in: &str, reason: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if done_in != "-" {
        complaints.push("nothing to do, so \"done in\" holds \"-\"".to_owned());
    }
    if reason.split_whitespace().count() < REASON_WORDS_MIN || reason.contains("::") {
        complaints.push(format!("{reason:?} is no reason"));
    }
    complaints
}

// --- reading Rust

/// The text of a test named `path::function`, with the comments and attributes above it.
fn test(named: &str) -> Option<String> {
    let (path, function) = named.split_once("::")?;
    let text = fs::read_to_string(root().join(path)).ok()?;
    test_in(&text, function)
}

fn test_in(text: &str, function: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("fn {function}(");
    let at = lines
        .iter()
        .position(|line| line.trim_start().starts_with(&head))?;
    let above = |line: &&str| matches!(line.trim_start().get(..2), Some("//" | "#["));
    let start = at
        - lines[..at]
            .iter()
            .rev()
            .take_while(|line| above(line))
            .count();
    let indent = lines[at].len() - lines[at].trim_start().len();
    let end = lines[at..]
        .iter()
        .position(|line| line.trim_start() == "}" && line.len() == indent + 1)?;
    let whole = &lines[start..=at + end];
    let is_test = whole.iter().any(|line| line.trim() == "#[test]");
    is_test.then(|| whole.join("\n"))
}

/// Whether a comment in `text` names `clause`.
fn cites(text: &str, clause: &str) -> bool {
    text.lines()
        .filter_map(|line| line.split_once("//"))
        .any(|(_, comment)| comment.contains(clause))
}

/// Every label in `text`.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("MQTT-").filter_map(|(at, _)| {
        let label = &text[at..];
        let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
        let end = label[5..]
            .find(|c| !is_part(c))
            .map_or(label.len(), |end| 5 + end);
        let label = label[..end].trim_end_matches(['.', '-']);
        label.contains('.').then_some(label)
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn page(version: &str) -> String {
    read(&format!("docs/conformance/{version}.md"))
}

fn clauses(version: &str) -> Vec<String> {
    let list = read(&format!("tests/conformance/{version}.txt"));
    list.lines().map(str::to_owned).collect()
}

/// `3.1` of `MQTT-3.1.2-24`.
fn chapter(clause: &str) -> String {
    let number = clause.trim_start_matches("MQTT-");
    let parts: Vec<&str> = number.split(['.', '-']).take(2).collect();
    parts.join(".")
}

// --- the checks

#[test]
fn every_clause_has_exactly_one_row_in_the_order_of_the_standard() {
    for version in VERSIONS {
        let page = page(version);
        let found: Vec<&str> = rows(&page).iter().map(|cells| cells[0]).collect();
        assert_eq!(found, clauses(version), "docs/conformance/{version}.md");
    }
}

#[test]
fn every_row_names_files_and_tests_that_exist_and_cite_it() {
    let mut complaints = Vec::new();
    for version in VERSIONS {
        let page = page(version);
        for cells in rows(&page) {
            let found = row(&cells);
            complaints.extend(
                found
                    .iter()
                    .map(|complaint| format!("{version}: {complaint}")),
            );
        }
    }
    for cells in rows(&page("v3.1")) {
        let [what, done_in, shown_by] = cells[..] else {
            panic!("{cells:?}: not three cells");
        };
        let found = proof(done_in, shown_by, "MQTT 3.1");
        complaints.extend(
            found
                .iter()
                .map(|complaint| format!("v3.1: {what}: {complaint}")),
        );
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn open_rows_only_become_fewer() {
    let mut found = Vec::new();
    for version in VERSIONS {
        let page = page(version);
        let rows = rows(&page);
        let open = |cells: &&Vec<&str>| cells[1] == "open";
        for cells in rows.iter().filter(open) {
            let chapter = chapter(cells[0]);
            match found.last_mut() {
                Some((v, c, count)) if *v == version && *c == chapter => *count += 1,
                _ => found.push((version, chapter, 1)),
            }
        }
    }
    let expected: Vec<_> = OPEN_ROWS
        .iter()
        .map(|(version, chapter, count)| (*version, (*chapter).to_owned(), *count))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn no_source_cites_a_clause_that_is_none() {
    let known: BTreeSet<String> = VERSIONS
        .iter()
        .flat_map(|version| clauses(version))
        .collect();
    let mut open: Vec<PathBuf> = ["src", "actors/src", "actors/tests", "tests"]
        .iter()
        .map(|dir| root().join(dir))
        .collect();
    let mut unknown = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("conformance.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let wrong = labels(&text).filter(|label| !known.contains(*label));
            unknown.extend(wrong.map(|label| format!("{}: {label}", path.display())));
        }
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}

// --- the checks on bad rows

const HERE: &str = "tests/conformance.rs";

#[test]
fn a_row_that_shows_nothing_is_found() {
    let this = format!("{HERE}::a_row_that_shows_nothing_is_found"); // [MQTT-3.1.0-1]
    for good in [
        ["MQTT-3.1.0-1", "server", HERE, &this],
        ["MQTT-3.1.0-1", "both", HERE, &this],
        ["MQTT-3.1.0-1", "client", "-", "the broker sends no CONNECT"],
        ["MQTT-3.1.0-1", "open", "", ""],
    ] {
        assert!(row(&good).is_empty(), "{good:?}: {:?}", row(&good));
    }
    for bad in [
        ["MQTT-3.1.0-1", "open", "", &this],
        ["MQTT-3.1.0-1", "", "", ""],
        ["MQTT-3.1.0-1", "server", "", &this],
        ["MQTT-3.1.0-1", "server", "src/nowhere.rs", &this],
        ["MQTT-3.1.0-1", "server", HERE, ""],
        [
            "MQTT-3.1.0-1",
            "server",
            HERE,
            "tests/conformance.rs::nothing",
        ],
        ["MQTT-3.1.0-1", "server", HERE, "tests/conformance.rs::row"],
        ["MQTT-3.1.0-2", "server", HERE, &this],
        ["MQTT-3.1.0-1", "client", "-", ""],
        [
            "MQTT-3.1.0-1",
            "nobody",
            HERE,
            "the broker sends no CONNECT",
        ],
    ] {
        assert_eq!(row(&bad).len(), 1, "{bad:?}");
    }
}

#[test]
fn a_citation_outside_of_the_test_does_not_count() {
    let text = "// [MQTT-1.5.3-1]\n\n/// [MQTT-1.5.3-2]\n#[test]\nfn a() {\n    let b = \"[MQTT-1.5.3-3]\";\n}\n// [MQTT-2.2.2-1]\n";
    let found = test_in(text, "a").unwrap();
    assert!(cites(&found, "[MQTT-1.5.3-2]"));
    for other in ["[MQTT-1.5.3-1]", "[MQTT-1.5.3-3]", "[MQTT-2.2.2-1]"] {
        assert!(!cites(&found, other), "{other}");
    }
    assert_eq!(test_in("fn a() {\n}\n", "a"), None);
}

#[test]
fn labels_are_found_with_and_without_brackets() {
    let text = "[MQTT-3.1.2-24], MQTT-4.4.0-1. and MQTT-5 or MQTT-x";
    let found: Vec<&str> = labels(text).collect();
    assert_eq!(found, ["MQTT-3.1.2-24", "MQTT-4.4.0-1"]);
}
