//! The README is true: every command in it is recognised and tried, and every output it shows is
//! what comes out.
//!
//! The README's own policy runs on addresses of the loopback network, with the table in memory;
//! one of its real servers dies standing up. `UPDATE_GOLDEN=1` writes what comes out into the
//! README; read the difference before you commit it.

#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/backend.rs"]
mod backend;
#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/daemon.rs"]
mod daemon;
#[expect(dead_code, reason = "the tests of the command line use all of it")]
#[path = "cli/scratch.rs"]
mod scratch;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::Parser;
use pointsman::cli::args::Cli;
use regex::Regex;

use backend::Backend;
use daemon::Daemon;
use scratch::{Scratch, finish, pointsman};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// Contents of the code blocks of a language.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let fence = Regex::new(&format!("(?ms)^```{language}\n(.*?)^```$")).unwrap();
    fence.captures_iter(readme).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_command_is_one_that_works() {
    let readme = readme();
    let commands: Vec<String> =
        blocks(&readme, "sh").iter().flat_map(|block| block.lines()).map(str::to_owned).collect();
    assert!(commands.len() > 10, "the commands are gone: {commands:?}");
    for command in commands.iter().flat_map(|line| line.split('|')) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let words = words.strip_prefix(&["sudo"]).unwrap_or(&words);
        match words {
            ["cargo", "build", "--release"] => {}
            ["cargo", "run", "--release", "--", rest @ ..] => accepted(rest),
            ["pointsman", rest @ ..] => accepted(rest),
            ["make", target] => {
                let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
                assert!(makefile.contains(&format!("\n{target}:")), "{command}");
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
            ["apt", "install", "./target/debian/pointsman_*.deb"] => {}
            ["tee" | "editor", file] => {
                assert!(file.starts_with("/etc/pointsman/policies/") && file.ends_with(".yaml"));
            }
            ["install", "-m", _, from, _] => assert!(root().join(from).is_file(), "{command}"),
            ["systemctl", "daemon-reload"] => {}
            ["systemctl", "enable", "--now", name] => {
                assert!(root().join(format!("contrib/{name}.service")).is_file(), "{command}");
            }
            _ => panic!("nothing is known of `{command}`: teach this test to try it"),
        }
    }
}

fn accepted(args: &[&str]) {
    let line = std::iter::once(&"pointsman").chain(args);
    if let Err(error) = Cli::try_parse_from(line) {
        panic!("{args:?}: {error}");
    }
}

fn help(command: &str) -> String {
    finish(pointsman(&[command, "--help"])).exit(0).stdout
}

fn unit() -> String {
    fs::read_to_string(root().join("contrib/pointsman.service")).unwrap()
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
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    for found in link.captures_iter(&readme()) {
        assert!(root().join(&found[1]).exists(), "{}", &found[1]);
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let readme = readme();
    for (code, words) in [
        (pointsman::cli::Exit::Done, "| 0 | done |"),
        (pointsman::cli::Exit::Failed, "| 1 | failed"),
        (pointsman::cli::Exit::Usage, "| 2 | wrong arguments"),
        (pointsman::cli::Exit::Pending, "| 3 | `plan --detailed-exitcode`"),
    ] {
        assert!(
            words.contains(&format!("| {} |", code as u8)) && readme.contains(words),
            "{words}"
        );
    }
}

#[test]
fn what_it_shows_is_what_comes_out() {
    let readme = readme();
    let [policy] = &blocks(&readme, "yaml")[..] else { panic!("one policy is shown") };
    let scene = Scene::new(policy);
    let daemon = Daemon::start(&scene.scratch);
    daemon.wait_up(4);
    // Four services and sixteen destinations; the log is written before they are counted.
    daemon.wait("a full table", |status| status["table"]["changes"] == 20);
    let quiet = daemon.log().len();
    scene.backends[3].hang();
    daemon.wait_up(3);
    let removals = format!("{}:443: weight 80 direct; down", scene.backends[3].address.ip());
    let gone = scratch::within(scratch::DEADLINE, || daemon.logged(&removals).len() == 2);
    assert!(gone, "{}", daemon.log());

    let mut shown = readme.clone();
    let mut wrong = Vec::new();
    for (name, actual) in [
        ("plan", scene.plan()),
        ("check", scene.check()),
        ("doctor", doctor()),
        ("status", scene.scratch.status(&[]).exit(3).stdout),
        ("log", daemon.log()[quiet..].to_owned()),
    ] {
        let actual = scene.as_in_the_readme(&actual);
        let block =
            Regex::new(&format!("(?s)(<!-- shown: {name} -->\n```text\n)(.*?)(```\n)")).unwrap();
        let expected = block.captures(&readme).unwrap_or_else(|| panic!("no {name}"))[2].to_owned();
        if steady(&expected) != steady(&actual) {
            wrong.push(format!("--- {name}, README:\n{expected}--- actual:\n{actual}"));
        }
        shown = block
            .replace(&shown, |found: &regex::Captures<'_>| {
                format!("{}{actual}{}", &found[1], &found[3])
            })
            .into_owned();
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join("README.md"), shown).unwrap();
    } else {
        assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts these\n{}", wrong.join("\n"));
    }
}

/// What `doctor` says without `--all`, by a golden file that is what it says.
fn doctor() -> String {
    let golden = root().join("tests/golden/doctor/three-things/text");
    let text = fs::read_to_string(golden).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("ok "));
    kept.collect::<Vec<_>>().join("\n").replace("\n\n\n", "\n\n") + "\n"
}

/// The README's policy on loopback, with an edited copy beside it.
struct Scene {
    scratch: Scratch,
    backends: Vec<Backend>,
    port: u16,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let (backends, port) = servers();
        let scratch = Scratch::new();
        // Everything is found faster than in the README; none of that is shown.
        let policy = policy
            .replace("192.168.16.", "127.168.16.")
            .replace("port: 80,", &format!("port: {port},"))
            .replace("interval: 5s", "interval: 2100ms");
        scratch.write("www.yaml", &policy);
        for directory in ["edited", "mistaken"] {
            fs::create_dir(scratch.path(directory)).unwrap();
        }
        let edited = policy
            .replace(" 127.168.16.234,", "")
            .replace("[127.168.16.232,", "[{ address: 127.168.16.232, weight: 40 },");
        fs::write(scratch.path("edited/www.yaml"), edited).unwrap();
        let mistaken = policy.replace("weight:", "wieght:").replace("timeout: 2s", "timeout: 2");
        fs::write(scratch.path("mistaken/www.yaml"), mistaken).unwrap();
        Self { scratch, backends, port }
    }

    fn plan(&self) -> String {
        let mut plan = pointsman(&["plan", "--policies", "edited", "--socket", "sock"]);
        plan.current_dir(self.scratch.path(""));
        finish(plan).exit(0).stdout
    }

    fn check(&self) -> String {
        fs::remove_dir_all(self.scratch.path("edited")).unwrap();
        fs::rename(self.scratch.path("mistaken"), self.scratch.path("edited")).unwrap();
        let mut check = pointsman(&["check", "edited"]);
        check.current_dir(self.scratch.path(""));
        finish(check).exit(2).stderr
    }

    /// With the addresses, ports and directories of the README. The table of a real daemon is the
    /// kernel's, so what is only said of one in memory goes.
    fn as_in_the_readme(&self, text: &str) -> String {
        let in_memory = Regex::new("(?m)^table: in the memory .*\n").unwrap();
        let text = in_memory.replace_all(text, "");
        text.replace("127.168.16.", "192.168.16.")
            .replace(&format!(":{}", self.port), ":80")
            .replace(&self.scratch.policies().display().to_string(), "/etc/pointsman/policies")
            .replace("memory table", "kernel table")
    }
}

/// Four servers on one port.
fn servers() -> (Vec<Backend>, u16) {
    let on = |host, port| Backend::on(IpAddr::V4(Ipv4Addr::new(127, 168, 16, host)), port);
    for _ in 0..100 {
        let first = on(232, 0).unwrap();
        let port = first.address.port();
        let others: Result<Vec<_>, _> = (233..=235).map(|host| on(host, port)).collect();
        if let Ok(others) = others {
            return (std::iter::once(first).chain(others).collect(), port);
        }
    }
    panic!("no port is free on four addresses");
}

/// What is the same on every run: without times, process ids, counts of probes and columns.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (volatile, mask) in [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"pid \d+", "pid N"),
        (r"\b\d+(\.\d+)? ?(us|ms|s)\b", "D"),
        (r"\d+ started, \d+ in flight", "N started"),
        (" +", " "),
    ] {
        text = Regex::new(volatile).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}
