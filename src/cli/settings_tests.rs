use std::fs;

use clap::builder::StyledStr;

use super::*;

const EXAMPLE: &str = include_str!("../../contrib/pointsman.yaml");
const DOCUMENT: &str = "docs/SETTINGS.md";

fn loaded(text: &str) -> Result<Values, Vec<Problem>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    fs::write(&path, text).unwrap();
    File::new(Some(path)).load()
}

/// Each problem as `line:column: message (help)`.
fn problems(text: &str) -> Vec<String> {
    let problems = loaded(text).unwrap_err();
    let shown = |problem: &Problem| {
        let text = problem.to_string();
        text.split_once("pointsman.yaml:").map_or(text.clone(), |(_, rest)| rest.to_owned())
    };
    problems.iter().map(shown).collect()
}

fn run_with(settings: &str, flags: &[&str]) -> Run {
    let args = ["pointsman", "run"].iter().chain(flags).map(OsString::from);
    let matches = loaded(settings).unwrap().parse(args).unwrap();
    match Cli::from_arg_matches(&matches).unwrap().command {
        args::Command::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let settings = "
resync: 7s
dry_run: true
blast_limit: off
state_dir: /srv/state
log: { keep: 9, format: json, file: /srv/log }
";
    let run = run_with(settings, &["--resync", "3s"]);
    assert_eq!(run.resync.as_secs(), 3);
    assert!(run.dry_run);
    assert_eq!(run.blast_limit.0, None);
    assert_eq!(run.common.state_dir, Path::new("/srv/state"));
    assert_eq!((run.log.log_keep, run.log.log_format), (9, args::LogFormat::Json));
    assert_eq!(run.log.log_file.as_deref(), Some(Path::new("/srv/log")));
    assert_eq!(run.common.policies, Path::new("/etc/pointsman/policies"));
    assert!(!run_with("dry_run: false", &[]).dry_run);
    assert!(run_with("dry_run: false", &["--dry-run"]).dry_run);
}

#[test]
fn other_commands_share_what_they_have() {
    let values = loaded("{ socket: /srv/sock, policies: /srv/policies }").unwrap();
    let parsed = |args: &[&str]| {
        let matches = values.parse(args.iter().map(OsString::from)).unwrap();
        Cli::from_arg_matches(&matches).unwrap().command
    };
    let args::Command::Status(status) = parsed(&["pointsman", "status"]) else { panic!() };
    assert_eq!(status.socket.socket, Path::new("/srv/sock"));
    let args::Command::Check(check) = parsed(&["pointsman", "check"]) else { panic!() };
    assert_eq!(check.paths, [Path::new("/srv/policies")]);
    let args::Command::Check(check) = parsed(&["pointsman", "check", "x"]) else { panic!() };
    assert_eq!(check.paths, [Path::new("x")]);
}

#[test]
fn every_mistake_has_its_place() {
    let wrong = "\
resyn: 7s
resync: soon
reload_guard: 150%
blast_window: 3days
dry_run: yes
socket: pointsman.sock
ipvs: kernal
policies: [/a, /b]
yes: true
settings: /x
log:
  level: debug
  max_size: 10MB
  keep: -1
log_keep: 3
";
    insta::assert_snapshot!(problems(wrong).join("\n"));
    assert_eq!(problems("resync: 7s\n---\nresync: 8s\n").len(), 1);
    assert_eq!(problems("- resync\n"), ["1:1: the settings file is a mapping, not a list"]);
    assert_eq!(loaded("# nothing\n"), Ok(Values::default()));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pointsman.yaml");
    let named = File::new(Some(path.clone())).load().unwrap_err();
    assert!(named[0].to_string().contains("there is no such file"), "{named:?}");
    assert_eq!(File { path, named: false }.load(), Ok(Values::default()));
}

#[test]
fn a_change_is_at_once_or_takes_a_restart() {
    let compared = |before: &str, after: &str, flags: &[&str]| {
        let arguments: Vec<_> =
            ["pointsman", "run"].iter().chain(flags).map(OsString::from).collect();
        let (before, after) = (loaded(before).unwrap(), loaded(after).unwrap());
        let (run, need_restart) = compare(&before, &after, arguments).unwrap();
        (run.resync.as_secs(), need_restart.join(", "))
    };
    let moved = "{ resync: 9s, socket: /srv/sock, log: { keep: 9 } }";
    assert_eq!(compared("", moved, &[]), (9, "socket, log: keep".to_owned()));
    assert_eq!(compared(moved, moved, &[]), (9, String::new()));
    assert_eq!(compared(moved, "", &[]), (30, "socket, log: keep".to_owned()));
    let flags = ["--resync", "3s", "--socket", "/here", "--log-keep", "1"];
    assert_eq!(compared("", moved, &flags), (3, String::new()), "flags win");
    // The default, spelled out, is no change.
    assert_eq!(compared("", "socket: /run/pointsman/pointsman.sock", &[]), (30, String::new()));
}

/// What is commented out in the example is what it says: the defaults, and all there is.
#[test]
fn the_example_shows_every_setting() {
    assert_eq!(loaded(EXAMPLE), Ok(Values::default()));
    let is_prose = |line: &str| line.starts_with("# ") && !line.starts_with("#  ");
    let lines = EXAMPLE.lines().filter(|line| !is_prose(line));
    let all: Vec<&str> = lines.map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let Values(values) = loaded(&all.join("\n")).unwrap();
    let run = run_command();
    for flag in flags(&run) {
        let id = flag.get_id().as_str();
        let shown = values.get(id).unwrap_or_else(|| panic!("no {id} in the example"));
        if let [default] = flag.get_default_values() {
            assert_eq!(default, shown.as_str(), "{id}");
        }
    }
}

/// The reference names every setting with its default.
#[test]
fn the_reference_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let document = fs::read_to_string(&path).unwrap();
    let (prose, _) = document.split_once("-->\n").unwrap();
    let expected = format!("{prose}-->\n{}", table());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let document = fs::read_to_string(&path).unwrap();
    assert_eq!(document, expected, "UPDATE_GOLDEN=1 refreshes {DOCUMENT}");
}

fn table() -> String {
    let mut table = "| Key | Default | Counts | Meaning |\n|---|---|---|---|\n".to_owned();
    let run = run_command();
    for flag in flags(&run) {
        let id = flag.get_id().as_str();
        let default = match flag.get_default_values() {
            [default] => format!("`{}`", default.display()),
            _ => String::new(),
        };
        let counts = if AT_ONCE.contains(&id) { "at once" } else { "after a restart" };
        let help = flag.get_help().map(StyledStr::to_string).unwrap_or_default();
        table += &format!("| `{}` | {default} | {counts} | {help} |\n", written(id));
    }
    table
}
