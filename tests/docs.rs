//! The README and the book in `docs/` are true: every command in them has a test that runs it, every
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

#[expect(dead_code, reason = "no script is run here")]
#[path = "docs/lines.rs"]
mod lines;
#[path = "docs/scene.rs"]
mod scene;
#[path = "docs/shown.rs"]
mod shown;

use std::collections::BTreeSet;
use std::fs;

use clap::{CommandFactory, Parser};
use pointsman::cli::args::Cli;
use pointsman::probe::outcome::Reason;
use regex::Regex;
use serde_json::Value;

use lines::{Runner, all, all_blocks, blocks, documents, read, root, runner};
use scratch::{finish, pointsman};

/// Whoever adds a line says who runs it, and that test fails until it does.
#[test]
fn every_command_has_a_test_that_runs_it() {
    let mut unheard = Vec::new();
    for (document, line) in all() {
        match runner(&document, &line) {
            Some(Runner::Nobody(reason)) => unheard.push((line, reason)),
            Some(_) => {}
            None => panic!("{document}: no test runs `{line}`"),
        }
    }
    assert_eq!(unheard, [("make test".to_owned(), "it is what runs the tests")]);
}

/// A command in a block of another kind would be run by nobody.
#[test]
fn every_block_is_of_a_kind_that_is_tested() {
    let command =
        Regex::new(r"(?m)^ *(?:[$#] *)?(?:sudo|pointsman|systemctl|cargo|make) ").unwrap();
    for (document, text) in documents() {
        for (fence, content) in all_blocks(&text) {
            let known = ["```sh", "```text", "```yaml"].contains(&&*fence);
            let plain = fence == "```" && !command.is_match(&content);
            assert!(known || plain, "{document}:\n{fence}\n{content}");
        }
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

/// Where the reference has the keys of each mapping: by its place in the schema, chapters and
/// headings.
const SECTIONS: [(&str, &[&str]); 25] = [
    ("", &["POLICY.md: A policy"]),
    ("/properties/virtual_services", &["POLICY.md: Virtual services"]),
    ("/properties/persistence", &["POLICY.md: Virtual services"]),
    ("/properties/tunnel", &["POLICY.md: Real servers"]),
    ("/$defs/real_server", &["POLICY.md: Real servers"]),
    ("/properties/drain", &["SAFETY.md: Leaving and returning"]),
    ("/properties/health_floor", &["SAFETY.md: The health floor"]),
    ("/properties/sorry_server", &["SAFETY.md: The sorry server", "POLICY.md: Real servers"]),
    ("/$defs/check", &["CHECKS.md: Checks"]),
    ("/$defs/check/properties/damping", &["SAFETY.md: Flap damping"]),
    ("/$defs/check/properties/http", &["CHECKS.md: http, https and http2"]),
    ("/$defs/check/properties/https", &["CHECKS.md: http, https and http2", "CHECKS.md: tls"]),
    ("/$defs/check/properties/http2", &["CHECKS.md: http, https and http2", "CHECKS.md: tls"]),
    ("/$defs/check/properties/grpc", &["CHECKS.md: grpc", "CHECKS.md: tls"]),
    ("/$defs/check/properties/smtp", &["CHECKS.md: smtp", "CHECKS.md: tls"]),
    ("/$defs/check/properties/tls", &["CHECKS.md: tls"]),
    ("/$defs/check/properties/tcp", &["CHECKS.md: tcp"]),
    ("/$defs/check/properties/udp", &["CHECKS.md: udp"]),
    ("/$defs/check/properties/dns", &["CHECKS.md: dns"]),
    ("/$defs/check/properties/exec", &["CHECKS.md: exec"]),
    ("/$defs/check/properties/file", &["CHECKS.md: file"]),
    ("/$defs/check/properties/agent", &["CHECKS.md: agent"]),
    ("/$defs/check/properties/redis", &["CHECKS.md: redis"]),
    ("/$defs/check/properties/mysql", &["CHECKS.md: mysql"]),
    ("/$defs/check/properties/postgresql", &["CHECKS.md: postgresql"]),
];

#[test]
fn every_key_of_a_policy_is_in_its_place_in_the_reference() {
    let schema = finish(pointsman(&["schema"])).exit(0).json();
    let mut mappings = Vec::new();
    collect_mappings("", &schema, &mut mappings);
    let (mut count, mut missing) = (0, Vec::new());
    for (place, keys) in mappings {
        let is_in = |(of, _): &&(&str, &[&str])| {
            place.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = SECTIONS.iter().filter(is_in).max_by_key(|(of, _)| of.len());
        let (_, sections) = found.unwrap_or_else(|| panic!("no section for {place}"));
        let rows: Vec<String> = sections.iter().flat_map(|it| rows_under(it)).collect();
        for key in keys {
            count += 1;
            // In a first cell, or within a small mapping that is written out in another one.
            let is_there = rows.iter().any(|row| {
                let first = row.split('|').nth(1).unwrap_or_default();
                first.contains(&format!("`{key}`")) || row.contains(&format!("{{ {key}: "))
            });
            if !is_there {
                missing.push(format!("{}: `{key}`", sections.join(" or ")));
            }
        }
    }
    assert!(count > 150, "{count}");
    assert!(missing.is_empty(), "no row has {missing:#?}");
}

/// The rows of the tables between a heading and the next one.
fn rows_under(section: &str) -> Vec<String> {
    let (chapter, heading) = section.split_once(": ").unwrap();
    let text = read(&format!("docs/{chapter}"));
    let is_heading = |line: &&str| line.trim_start_matches('#').strip_prefix(' ') == Some(heading);
    let mut lines = text.lines().skip_while(|line| !line.starts_with('#') || !is_heading(line));
    assert!(lines.next().is_some(), "no heading `{heading}`");
    let section = lines.take_while(|line| !line.starts_with('#'));
    section.filter(|line| line.starts_with("| ")).map(str::to_owned).collect()
}

/// Every mapping of a schema: its place and its keys.
fn collect_mappings(place: &str, schema: &Value, into: &mut Vec<(String, Vec<String>)>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                into.push((place.to_owned(), properties.keys().cloned().collect()));
            }
            let below = |(name, field)| collect_mappings(&format!("{place}/{name}"), field, into);
            fields.iter().for_each(below);
        }
        Value::Array(items) => {
            items.iter().for_each(|item| collect_mappings(place, item, into));
        }
        _ => {}
    }
}

/// The keys of the alerts file are those that its reader tells whoever misspells one.
#[test]
fn every_key_of_the_alerts_file_is_in_its_chapter() {
    let text = read("docs/ALERTS.md");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("alerts.yaml");
    let known = |yaml: &str| -> Vec<String> {
        fs::write(&file, yaml).unwrap();
        let problems = pointsman::alerts::file::load(&file).unwrap_err();
        let told = problems.iter().map(|it| it.render(false)).collect::<String>();
        let list =
            Regex::new("(?m)(?:known here: |expected one of )(.*?)(?:, found .*)?$").unwrap();
        let list = list.captures(&told).unwrap_or_else(|| panic!("{told}"))[1].to_owned();
        Regex::new("`?([a-z_]+)`?")
            .unwrap()
            .captures_iter(&list)
            .map(|it| it[1].to_owned())
            .collect()
    };
    for yaml in [
        "xyzzy: 1\n",
        "receivers: [{ xyzzy: 1 }]\n",
        "receivers: [{ mail: { xyzzy: 1 } }]\n",
        "receivers: [{ webhook: { xyzzy: 1 } }]\n",
        "routes: [{ xyzzy: 1 }]\n",
        "routes: [{ kinds: [xyzzy] }]\n",
    ] {
        let keys = known(yaml);
        assert!(keys.len() > 1, "{yaml}: {keys:?}");
        for key in keys {
            assert!(text.contains(&format!("`{key}`")), "{yaml}: nothing is said of `{key}`");
        }
    }
}

/// What is shown of files is what their readers take.
#[test]
fn every_file_that_is_shown_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    for (document, text) in documents() {
        for (index, yaml) in blocks(&text, "yaml").iter().enumerate() {
            let file = directory.path().join(format!("shown-{index}.yaml"));
            fs::write(&file, yaml).unwrap();
            let path = file.to_str().unwrap();
            match document.as_str() {
                "docs/ALERTS.md" => {
                    let loaded = pointsman::alerts::file::load(&file);
                    assert!(loaded.is_ok(), "{document}: {loaded:?}");
                }
                "docs/SETTINGS.md" => {
                    let policies = root().join("policies");
                    let policies = policies.to_str().unwrap();
                    finish(pointsman(&["check", "--settings", path, policies])).exit(0);
                }
                "docs/METRICS.md" => prometheus(path),
                _ => _ = finish(pointsman(&["check", path])).exit(0),
            }
            seen.insert(document.clone());
        }
    }
    let all = ["README.md", "docs/ALERTS.md", "docs/METRICS.md", "docs/POLICY.md"];
    let all = all.into_iter().chain(["docs/QUICKSTART.md", "docs/SETTINGS.md"]);
    assert_eq!(seen, all.map(str::to_owned).collect());
}

fn prometheus(path: &str) {
    let ended = std::process::Command::new("promtool")
        .args(["check", "config", "--syntax-only", path])
        .output();
    match ended {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("NOT TESTED: promtool: {error}")
        }
        Err(error) => panic!("promtool: {error}; run tests/install-deps"),
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
