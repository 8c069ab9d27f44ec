//! What bad input gets: exit code 2 or a refused reload, every problem named, nothing touched, in
//! bounded time and memory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode};

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, finish, policy_of, replace};

/// Address space that `check` may use, in KiB.
const SPACE: u64 = 1 << 20;

/// Memory that a daemon may ever have had, in KiB.
const PEAK: u64 = 512 << 10;

/// Makes a file that is bad.
type Make = fn(&Path);

/// What is made, and what has to be said about it.
const CASES: [(&str, Make, &str); 24] = [
    (
        "not YAML",
        |path| write(path, "virtual_services: [tcp://192.0.2.1:80\nweight: {"),
        "bad.yaml:",
    ),
    ("tabs", |path| write(path, "virtual_services:\n\t- tcp://192.0.2.1:80\n"), "bad.yaml:2:"),
    ("binary", |path| write(path, "\x01\x02\x7fELF\0\0"), "bad.yaml:1:"),
    ("not UTF-8", |path| fs::write(path, b"name: caf\xe9\n").unwrap(), "not UTF-8"),
    ("a scalar", |path| write(path, "hello\n"), "bad.yaml:1:1"),
    ("a list", |path| write(path, "- a\n- b\n"), "bad.yaml:1:1"),
    ("wrong types", |path| write(path, "virtual_services: 3\nweight: heavy\n"), "bad.yaml:2:9"),
    (
        "an unknown key",
        |path| write(path, "virtual_service: []\n"),
        "did you mean `virtual_services`",
    ),
    ("a key given twice", |path| write(path, "weight: 1\nweight: 2\n"), "bad.yaml:2:1"),
    ("names", |path| write(path, "real_servers: [www.example.org]\n"), "not an IP address"),
    ("IPv6 without quotes", |path| write(path, "real_servers:\n  - [::1]:80\n"), "bad.yaml:2:"),
    ("empty", |path| write(path, ""), "bad.yaml"),
    ("100 MB", |path| large(path, "- 192.0.2.1\n", 100 << 20), "larger than 16 MiB"),
    ("100 MB in one line", |path| large(path, "a", 100 << 20), "larger than 16 MiB"),
    ("15 MB of a list", |path| large(path, "- 192.0.2.1\n", 15 << 20), "bad.yaml"),
    ("15 MB of keys", |path| large(path, "a: 1\n", 15 << 20), "bad.yaml"),
    ("15 MB of one word", |path| large(path, "a", 15 << 20), "bad.yaml"),
    ("deep lists", |path| large(path, "[", 1 << 20), "bad.yaml"),
    ("deep mappings", |path| large(path, "{a: ", 1 << 20), "bad.yaml"),
    ("a bomb of anchors", bomb, "bad.yaml"),
    ("a directory", |path| fs::create_dir(path).unwrap(), "it is a directory, not a file"),
    ("a FIFO", fifo, "it is not a regular file"),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap()), "it is not a regular file"),
    ("an endless device", |path| symlink("/dev/zero", path).unwrap(), "it is not a regular file"),
];

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn large(path: &Path, part: &str, size: usize) {
    let block = part.repeat(64 * 1024 / part.len());
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for _ in 0..size / block.len() {
        file.write_all(block.as_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Each anchor is nine times the one before: 9^20 scalars if they were ever expanded.
fn bomb(path: &Path) {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{list}]\n");
    }
    text += "virtual_services: *a19\n";
    write(path, &text);
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .unwrap();
}

fn clear(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// `check`, `plan` or `run` in a bounded address space.
fn bounded(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {SPACE} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    shell
}

#[test]
fn check_refuses_it_in_bounded_memory() {
    let scratch = Scratch::with_one();
    let bad = scratch.policies().join("bad.yaml");
    for (what, make, said) in CASES {
        make(&bad);
        let mut command = crate::scratch::pointsman(&["check"]);
        command.arg(scratch.policies());
        let finished = finish(bounded(&command));
        assert_eq!(finished.code, Some(2), "{what}: {}", start(&finished.stderr));
        assert!(finished.stderr.contains(said), "{what}: no {said} in {}", start(&finished.stderr));
        assert!(finished.stderr.len() < 256 << 10, "{what}: {} bytes", finished.stderr.len());
        assert!(!finished.stderr.contains("panicked"), "{what}: {}", start(&finished.stderr));
        clear(&bad);
    }
}

#[test]
fn a_daemon_does_not_start_with_it() {
    let scratch = Scratch::with_one();
    let bad = scratch.policies().join("bad.yaml");
    for (what, make, said) in CASES {
        make(&bad);
        let finished = finish(bounded(&scratch.run_command()));
        assert_eq!(finished.code, Some(2), "{what}: {}", start(&finished.stderr));
        assert!(finished.stderr.contains(said), "{what}: no {said} in {}", start(&finished.stderr));
        assert!(!scratch.state().exists() && !scratch.socket().exists(), "{what}");
        clear(&bad);
    }
}

#[test]
fn a_running_daemon_refuses_it_and_goes_on() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let mut daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    daemon.wait("both destinations", |status| status["table"]["changes"] == 3);
    let bad = scratch.policies().join("bad.yaml");
    for (what, make, said) in CASES {
        make(&bad);
        let status = daemon.wait_refused(said);
        assert!(daemon.is_alive(), "{what}");
        assert_eq!(status["table"]["changes"], 3, "{what}: the table was touched");
        assert_eq!(status["policies"]["count"], 1, "{what}");
        clear(&bad);
        daemon.wait_reloads(0);
    }
    daemon.wait_logged("transition", 2);
    assert_eq!(daemon.logged("panicked").len(), 0, "{}", daemon.log());
    let peak = peak(daemon.pid());
    assert!(peak < PEAK, "the daemon has had {peak} KiB");
}

#[test]
fn every_problem_of_a_thousand_is_counted_and_the_log_stays_readable() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let servers: Vec<String> = (0..5000).map(|number| format!("host{number}.example")).collect();
    scratch.write("bad.yaml", &policy_of("tcp://192.0.2.99:80", &servers, 1));
    let status = daemon.wait_refused("more errors than the 200 shown here");
    assert!(status["policies"]["refused"]["problems"].as_array().unwrap().len() <= 202);
    assert!(daemon.logged("is not an IP address").len() <= 200);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let everyone = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scratch.path(""), everyone.clone()).unwrap();
    fs::set_permissions(scratch.policies(), everyone.clone()).unwrap();
    // Root reads everything, so the daemon is somebody else, with a binary within reach.
    let is_root = rustix::process::geteuid().is_root();
    let mut command = scratch.run_command();
    if is_root {
        let binary = scratch.path("pointsman");
        // Not by this process: its other threads would start children that hold the copy open.
        let mut copy = Command::new("cp");
        copy.arg(command.get_program()).arg(&binary);
        finish(copy).exit(0);
        let mut other = Command::new(binary);
        other.args(command.get_args()).env_remove("RUST_LOG").uid(65_534).gid(65_534);
        command = other;
    }
    let daemon = Daemon::of(&scratch, command);
    daemon.wait_up(2);
    let secret = scratch.policies().join("secret.yaml");
    fs::write(&secret, "virtual_services: []\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    daemon.wait_refused("secret.yaml: cannot be read: permission denied");
    fs::remove_file(&secret).unwrap();
    daemon.wait_reloads(0);
    // The directory as a whole.
    fs::set_permissions(scratch.policies(), fs::Permissions::from_mode(0o000)).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_refused("permission denied");
    fs::set_permissions(scratch.policies(), everyone).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_reloads(0);
}

#[test]
fn words_from_a_policy_cannot_forge_a_log_line_or_steer_a_terminal() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    replace(
        &scratch.policies().join("bad.yaml"),
        "\"x\\nINFO forged\\e[2J\": 1\nvirtual_services: [\"tcp://\\e]0;title\\a\\n192.0.2.1:80\"]\n",
    );
    daemon.wait_refused("bad.yaml:1:1");
    assert!(!daemon.log().contains('\x1b'), "{:?}", daemon.log());
    assert!(!daemon.log().lines().any(|line| line.starts_with("INFO forged")), "{}", daemon.log());
    let text = scratch.status(&[]).exit(3).stdout;
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.contains(VIP));
}

fn start(text: &str) -> &str {
    &text[..text.char_indices().nth(2000).map_or(text.len(), |(at, _)| at)]
}

/// The most memory a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
