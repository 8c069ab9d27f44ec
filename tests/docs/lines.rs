//! The commands of the README and the book, line by line, and which test runs each of them.
//!
//! Such a test keeps a record of the lines that it has run, and ends with [`all_run`]: it has not
//! run what is not on record, and what is on record must be in a document.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use regex::Regex;

pub(crate) const README: &str = "README.md";
pub(crate) const QUICK_START: &str = "docs/QUICKSTART.md";
pub(crate) const SAFETY: &str = "docs/SAFETY.md";
pub(crate) const OPERATIONS: &str = "docs/OPERATIONS.md";

/// Lies in the directory of policies.
const POLICIES: &str = "contrib/debian/policies-README";

/// Who runs a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `docs/shown.rs`, on the policy of the README.
    Readme,
    /// `docs/shown.rs`, on the policy of the quick start.
    QuickStart,
    /// `tests/package.rs`, in a copy of the tree.
    Tree,
    /// `tests/package.rs`, in a clean Debian.
    Package,
    /// `tests/unit.rs`, under a systemd of its own.
    Unit,
    /// No test can, for this reason.
    Nobody(&'static str),
}

/// Who runs a line of a document; `None` is a line that needs a test.
pub(crate) fn runner(document: &str, line: &str) -> Option<Runner> {
    let words: Vec<&str> = line.split_whitespace().filter(|it| *it != "sudo").collect();
    Some(match words[..] {
        ["make", "test"] => Runner::Nobody("it is what runs the tests"),
        ["cargo" | "make", ..] => Runner::Tree,
        ["apt", ..] => Runner::Package,
        ["install" | "editor" | "systemctl" | "journalctl", ..] => Runner::Unit,
        ["/usr/bin/curl", ..] => Runner::Unit,
        _ if document == POLICIES => Runner::Unit,
        ["pointsman", ..] if words.contains(&"tee") => Runner::Unit,
        ["pointsman", ..] if [README, SAFETY].contains(&document) => Runner::Readme,
        ["pointsman", ..] if [QUICK_START, OPERATIONS].contains(&document) => Runner::QuickStart,
        _ => return None,
    })
}

/// Every command in every document, with that document: the lines of the shell, and what the
/// configuration of another program starts.
pub(crate) fn all() -> Vec<(String, String)> {
    let started = Regex::new(r#"(?m)^ +script "(.*)"$"#).unwrap();
    let mut all = Vec::new();
    for (document, text) in documents() {
        let lines = blocks(&text, "sh").concat();
        let lines =
            lines.lines().chain(started.captures_iter(&text).map(|it| it.get(1).unwrap().as_str()));
        all.extend(lines.map(|line| (document.clone(), line.to_owned())));
    }
    let explained = Regex::new("(?m)^  (.*?)  +").unwrap();
    let text = read(POLICIES);
    all.extend(explained.captures_iter(&text).map(|it| (POLICIES.to_owned(), it[1].to_owned())));
    all
}

/// Fails if one of the lines that are this one's to run is not on record, or if something is on
/// record that no document has.
pub(crate) fn all_run(who: Runner, record: &BTreeSet<String>) {
    let all = all();
    let own = all.iter().filter(|(document, line)| runner(document, line) == Some(who));
    let missing: Vec<_> = own.filter(|(_, line)| !record.contains(line)).collect();
    assert!(missing.is_empty(), "{who:?} has to run, with a look at what they do: {missing:#?}");
    let stale = record.iter().filter(|ran| !all.iter().any(|(_, line)| line == *ran));
    let stale: Vec<_> = stale.collect();
    assert!(stale.is_empty(), "{who:?} has run what no document has: {stale:#?}");
}

/// What a script says that it has run: each line after `ran: `.
pub(crate) fn on_record(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(|line| line.strip_prefix("ran: ")).map(str::to_owned).collect()
}

/// The README and every chapter of the book.
pub(crate) fn documents() -> Vec<(String, String)> {
    let chapters = fs::read_dir(root().join("docs")).unwrap();
    let names = chapters.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    names.push(README.to_owned());
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Contents of the code blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let of = all_blocks(text).into_iter().filter(|(fence, _)| fence == &format!("```{language}"));
    of.map(|(_, content)| content).collect()
}

/// Every code block: the line that opens it, and its contents.
pub(crate) fn all_blocks(text: &str) -> Vec<(String, String)> {
    let fence = Regex::new(r"(?ms)^([ >]*(?:```|~~~)[^\n]*)\n(.*?)^[ >]*(?:```|~~~)$").unwrap();
    fence.captures_iter(text).map(|it| (it[1].to_owned(), it[2].to_owned())).collect()
}
