//! The README and the book in `docs/` are true: every command in them is recognised and tried, every
//! link leads somewhere, every key and reason is there, and every output they show is what comes out.
//!
//! The policies of the README and of the quick start run on addresses of the loopback network, with the
//! table in memory; one of the real servers dies standing up. `UPDATE_GOLDEN=1` writes what comes out
//! into the documents; read the difference before you commit it.

#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/backend.rs"]
mod backend;
#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/daemon.rs"]
mod daemon;
#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/scratch.rs"]
mod scratch;

#[path = "docs/scene.rs"]
mod scene;
#[path = "docs/shown.rs"]
mod shown;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use pointsman::cli::args::Cli;
use pointsman::probe::outcome::Reason;
use regex::Regex;
use serde_json::Value;

use scratch::{finish, pointsman};

const README: &str = "README.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// The README and every chapter of the book.
fn documents() -> Vec<(String, String)> {
    let chapters = fs::read_dir(root().join("docs")).unwrap();
    let names = chapters.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    names.push(README.to_owned());
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// Contents of the code blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = Regex::new(&format!("(?ms)^```{language}\n(.*?)^```$")).unwrap();
    fence.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_command_is_one_that_works() {
    let mut count = 0;
    for (document, text) in documents() {
        let commands = blocks(&text, "sh");
        for command in commands.iter().flat_map(|block| block.lines()).flat_map(|it| it.split('|'))
        {
            try_command(&document, command);
            count += 1;
        }
    }
    assert!(count > 25, "the commands are gone: {count}");
}

fn try_command(document: &str, command: &str) {
    // Of quoted text it matters that it is one word.
    let quoted = Regex::new("\"[^\"]*\"").unwrap();
    let command = quoted.replace_all(command, "quoted");
    let words: Vec<&str> = command.split_whitespace().collect();
    let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
    match words {
        ["cargo", "build", "--release"] => {}
        ["cargo", "run", "--release", "--", rest @ ..] | ["pointsman", rest @ ..] => accepted(rest),
        ["make", target] => {
            assert!(read("Makefile").contains(&format!("\n{target}:")), "{command}");
        }
        ["install", "-d", directory] => {
            let default = Path::new(directory);
            assert!(help("run").contains(&default.display().to_string()), "{command}");
        }
        ["install", "-m", _, "target/release/pointsman", to] => {
            // systemd looks for a program without a path there.
            assert_eq!(*to, "/usr/local/sbin/pointsman");
            assert!(unit().contains("ExecStart=pointsman run\n"), "{command}");
        }
        ["apt", "install", "./target/debian/pointsman_*.deb" | "./pointsman_*.deb"] => {}
        ["tee" | "editor", file] => {
            assert!(file.starts_with("/etc/pointsman/policies/") && file.ends_with(".yaml"));
        }
        ["install", "-m", _, from, _] => assert!(root().join(from).is_file(), "{command}"),
        ["systemctl", "daemon-reload"] => {}
        ["systemctl", "enable", "--now", name] | ["systemctl", "reload", name] => {
            assert!(root().join(format!("contrib/{name}.service")).is_file(), "{command}");
        }
        ["grep", _] | ["journalctl", "-u", "pointsman", "-p", "warning"] => {}
        ["journalctl", field] => assert!(field.starts_with("POINTSMAN_REAL_SERVER="), "{command}"),
        _ => panic!("{document}: nothing is known of `{command}`: teach this test to try it"),
    }
}

fn accepted(args: &[&str]) {
    let line = std::iter::once(&"pointsman").chain(args);
    if let Err(error) = Cli::try_parse_from(line) {
        panic!("{args:?}: {error}");
    }
}

/// In running text a command may have words in capitals where something has to be put in.
#[test]
fn every_command_in_the_text_is_one_of_ours() {
    let command = Regex::new("`(?:sudo )?pointsman ([^`]+)`").unwrap();
    let quoted = Regex::new("\"[^\"]*\"").unwrap();
    let optional = Regex::new(r"\[[^\]]*\]").unwrap();
    for (document, text) in documents() {
        for found in command.captures_iter(&text.replace('\n', " ")) {
            let line = optional
                .replace_all(&found[1], "")
                .replace(" N", " 1")
                .replace("ADDR:PORT", "[::1]:80");
            let line = quoted.replace_all(&line, "quoted");
            let words: Vec<&str> = line.split_whitespace().collect();
            let known = Cli::command().find_subcommand(words[0]).is_some();
            assert!(known, "{document}: `pointsman {line}`");
            // The name of a command alone stands for all it takes.
            if words.len() > 1 {
                accepted(&words);
            }
        }
    }
}

#[test]
fn every_command_is_somewhere_in_the_book() {
    let book: String = documents().into_iter().map(|(_, text)| text).collect();
    for command in Cli::command().get_subcommands().map(|it| it.get_name().to_owned()) {
        let shown =
            [format!("pointsman {command}"), format!("`{command}`"), format!("-- {command}")];
        let is_there = command == "help" || shown.iter().any(|it| book.contains(it));
        assert!(is_there, "nothing is said of `pointsman {command}`");
    }
}

fn help(command: &str) -> String {
    finish(pointsman(&[command, "--help"])).exit(0).stdout
}

fn unit() -> String {
    read("contrib/pointsman.service")
}

#[test]
fn the_unit_starts_what_exists() {
    let unit = unit();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let args: Vec<&str> = start.split_whitespace().skip(1).collect();
    accepted(&args);
    // The directories are those that the daemon uses by itself.
    let run = help("run");
    for (key, base, default) in [
        ("StateDirectory", "/var/lib", "/var/lib/pointsman]"),
        ("RuntimeDirectory", "/run", "/run/pointsman/pointsman.sock]"),
    ] {
        let name = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}="))).unwrap();
        assert!(default.starts_with(&format!("{base}/{name}")) && run.contains(default), "{key}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#]*)(?:#([^)]+))?\)").unwrap();
    let heading = Regex::new("(?m)^#+ (.+)$").unwrap();
    let anchors = |text: &str| -> BTreeSet<String> {
        heading.captures_iter(text).map(|found| anchor(&found[1])).collect()
    };
    for (document, text) in documents() {
        let folder = root().join(&document).parent().unwrap().to_owned();
        for found in link.captures_iter(&text) {
            let to =
                if found[1].is_empty() { root().join(&document) } else { folder.join(&found[1]) };
            assert!(to.exists(), "{document}: {}", &found[0]);
            if let Some(place) = found.get(2) {
                let there = fs::read_to_string(&to).unwrap();
                assert!(anchors(&there).contains(place.as_str()), "{document}: {}", &found[0]);
            }
        }
    }
}

/// As GitHub makes them.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn every_chapter_is_in_the_table_of_contents() {
    let contents = read("docs/README.md");
    for (document, _) in documents() {
        let name = document.strip_prefix("docs/").unwrap_or("README.md");
        assert!(name == "README.md" || contents.contains(&format!("]({name})")), "{document}");
    }
}

#[test]
fn every_key_of_a_policy_is_in_the_reference() {
    let schema = finish(pointsman(&["schema"])).exit(0).json();
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 80, "{keys:?}");
    let reference = ["docs/POLICY.md", "docs/CHECKS.md", "docs/SAFETY.md"].map(read).concat();
    let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| ")).collect();
    // In a first cell, or within a small mapping that is written out.
    let has = |row: &str, key: &str| {
        let first = row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{key}`")));
        first || row.contains(&format!("{{ {key}: "))
    };
    let missing: Vec<_> = keys.iter().filter(|key| !rows.iter().any(|row| has(row, key))).collect();
    assert!(missing.is_empty(), "no row of a table has {missing:?}");
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            fields.values().for_each(|field| collect_keys(field, keys));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

#[test]
fn every_reason_is_in_the_runbook() {
    let runbook = read("docs/OPERATIONS.md");
    for reason in Reason::ALL {
        let rows = runbook.lines().filter(|line| line.starts_with("| `"));
        let is_there = rows.into_iter().any(|row| {
            row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{}`", reason.name())))
        });
        assert!(is_there, "{}", reason.name());
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let operations = read("docs/OPERATIONS.md");
    for (code, words) in [
        (pointsman::cli::Exit::Done, "| 0 | done |"),
        (pointsman::cli::Exit::Failed, "| 1 | failed"),
        (pointsman::cli::Exit::Usage, "| 2 | wrong arguments"),
        (pointsman::cli::Exit::Pending, "| 3 | `plan --detailed-exitcode`"),
    ] {
        assert!(
            words.contains(&format!("| {} |", code as u8)) && operations.contains(words),
            "{words}"
        );
    }
}
