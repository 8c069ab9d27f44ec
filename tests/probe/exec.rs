//! Programs that behave and programs that do not.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{CheckKind, ExecCheck};
use rustix::process::{Pid, test_kill_process};
use tempfile::TempDir;

use crate::agent::advised;
use crate::support::{LONG, SHORT, expect, probe, target};

/// A directory that everybody may read and write, as programs that run as `nobody` must.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    place
}

/// A shell script of this body.
fn script(place: &TempDir, body: &str) -> PathBuf {
    let path = place.path().join("check");
    let draft = place.path().join("draft");
    fs::write(&draft, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, &path).unwrap();
    path
}

fn somebody() -> SocketAddr {
    "192.0.2.1:8080".parse().unwrap()
}

fn exec(program: &Path) -> ExecCheck {
    ExecCheck { command: vec![program.display().to_string()], ..ExecCheck::default() }
}

async fn ask(check: ExecCheck, timeout: Duration) -> Outcome {
    probe(&target(somebody(), CheckKind::Exec(check), timeout)).await
}

async fn run(body: &str, timeout: Duration) -> Outcome {
    let place = place();
    ask(exec(&script(&place, body)), timeout).await
}

/// Waits until a process is not there any more, neither alive nor as a corpse.
async fn wait_gone(pid_file: &Path) {
    let pid = tokio::time::timeout(LONG, async {
        loop {
            let text = fs::read_to_string(pid_file).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return Pid::from_raw(pid).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let pid = pid.await.expect("a process id");
    let gone = tokio::time::timeout(LONG, async {
        while test_kill_process(pid).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(gone.await.is_ok(), "{pid:?} is still there");
}

#[tokio::test]
async fn the_end_is_the_verdict_and_its_first_line_the_reason() {
    use Reason::{HeadTimeout, Ok, Status};
    for (name, body, reason, piece) in [
        ("true", "exit 0", Ok, "exit status 0"),
        ("says why", "echo; echo ' DISK OK '; echo more; exit 0", Ok, "exit status 0: DISK OK"),
        ("fails", "echo 'DISK CRITICAL - 3%' >&2; exit 2", Status, "exit status 2: DISK CRITICAL"),
        ("255", "exit 255", Status, "exit status 255"),
        ("a signal", "kill -SEGV $$", Status, "ended by signal 11 (SIGSEGV)"),
        ("control", "printf 'a\\033[2Jb'; exit 1", Status, "exit status 1: a [2Jb"),
        ("floods and ends", "head -c 100000 /dev/zero | tr '\\0' x; exit 0", Ok, "xxx…"),
        ("reads", "read line || exit 7", Status, "exit status 7"),
        ("hangs", "sleep 1000", HeadTimeout, "no end of the program within 400ms"),
        (
            "says what it waits for",
            "echo connecting to db7; sleep 1000",
            HeadTimeout,
            "no end of the program within 400ms: connecting to db7",
        ),
        ("floods for ever", "exec cat /dev/zero", HeadTimeout, "no end of the program within"),
    ] {
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        let outcome = run(body, timeout).await;
        expect(name, &outcome, reason, piece);
        assert_eq!(advised(&outcome), "-", "{name}");
    }
}

#[tokio::test]
async fn the_exit_status_can_be_a_weight() {
    for (status, reason, words) in [
        (0, Reason::Ok, "more: nothing"),
        (1, Reason::Status, "-"),
        (2, Reason::Ok, "more: 0"),
        (3, Reason::Ok, "more: 1"),
        (255, Reason::Ok, "more: 253"),
    ] {
        let place = place();
        let program = script(&place, &format!("exit {status}"));
        let outcome = ask(ExecCheck { weight_from_status: true, ..exec(&program) }, LONG).await;
        expect(&format!("{status}"), &outcome, reason, &format!("exit status {status}"));
        assert_eq!(advised(&outcome), words, "{status}");
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_the_directors_trouble() {
    let place = place();
    let path = |name: &str, text: &str, mode| {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    for (name, path, piece) in [
        ("missing", place.path().join("none"), "is not on this director"),
        ("no interpreter", path("a", "#!/no/such/shell\n", 0o755), "is not on this director"),
        ("not executable", path("b", "#!/bin/sh\n", 0o644), "may not be run by"),
        ("a directory", place.path().to_owned(), "may not be run by"),
        ("empty", path("c", "", 0o755), "is no program"),
        ("no script", path("d", "echo up\n", 0o755), "is no program: a script begins with `#!`"),
        ("of elsewhere", path("e", "\x7fELF\x7f", 0o755), "for another kind of machine"),
    ] {
        expect(name, &ask(exec(&path), LONG).await, Reason::Setup, piece);
    }
    let check = ExecCheck { user: Some("no-such-user".to_owned()), ..exec(Path::new("/bin/true")) };
    expect("user", &ask(check, LONG).await, Reason::Setup, "there is no user `no-such-user`");
}

#[tokio::test]
async fn arguments_say_whom_it_is_about() {
    let place = place();
    let program = script(&place, "echo \"$@\"");
    let mut check = exec(&program);
    check
        .command
        .extend(["-H", "{address}", "--at={address}:{port}", "{print $1}"].map(Into::into));
    let told = "exit status 0: -H 192.0.2.1 --at=192.0.2.1:8080 {print $1}";
    expect("told", &ask(check.clone(), LONG).await, Reason::Ok, told);
    let nowhere = target("192.0.2.1:0".parse().unwrap(), CheckKind::Exec(check), LONG);
    expect("no port", &probe(&nowhere).await, Reason::Setup, "no port to put in for `{port}`");
}

/// How many descriptors whoever started this process has left open for it and its children.
fn inherited() -> usize {
    let passed_on = |info: &String| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 == 0
    };
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap();
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    infos.filter(passed_on).count().saturating_sub(3)
}

#[tokio::test]
async fn it_knows_the_target_and_nothing_else_of_us() {
    let place = place();
    let out = place.path().join("out");
    let program = script(
        &place,
        &format!("env | sort > {0}; pwd >> {0}; ls /proc/$$/fd >> {0}", out.display()),
    );
    let environment = BTreeMap::from([("SITE".to_owned(), "a b".to_owned())]);
    let mut check = exec(&program);
    check.environment = environment;
    let ours: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    expect("runs", &ask(check, LONG).await, Reason::Ok, "exit status 0");
    drop(ours);
    let text = fs::read_to_string(out).unwrap();
    let (known, rest): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("POINTSMAN_"));
    assert_eq!(
        known,
        [
            "POINTSMAN_ADDRESS=192.0.2.1",
            "POINTSMAN_FAMILY=inet",
            "POINTSMAN_PORT=8080",
            "POINTSMAN_TIMEOUT_MS=20000"
        ]
    );
    for line in ["SITE=a b", "/", "0", "1", "2"] {
        assert!(rest.contains(&line), "no {line} in {text}");
    }
    // The shell adds PWD and the like; HOME and what cargo says do not come through.
    for name in ["HOME=", "CARGO", "RUST", "USER="] {
        assert!(!text.contains(name), "{name} in {text}");
    }
    let opened = rest.iter().filter(|line| line.parse::<u32>().is_ok()).count();
    assert!(opened <= 3 + 3 + inherited(), "{text}");
}

#[tokio::test]
async fn a_program_of_root_runs_as_nobody_without_privileges() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, so there is no privilege to drop");
        return;
    }
    for (user, uid) in [(None, None), (Some("4000001"), Some("4000001")), (Some("root"), Some("0"))]
    {
        let place = place();
        let out = place.path().join("out");
        let program = script(&place, &format!("cat /proc/self/status > {}", out.display()));
        let check = ExecCheck { user: user.map(str::to_owned), ..exec(&program) };
        expect("runs", &ask(check, LONG).await, Reason::Ok, "exit status 0");
        let text = fs::read_to_string(out).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let ids = field("Uid:");
        let first = ids.split(' ').next().unwrap();
        assert!(ids.split(' ').all(|id| id == first), "{ids}");
        match uid {
            Some(uid) => assert_eq!(first, uid),
            None => assert_ne!(first, "0"),
        }
        assert_eq!(field("Groups:"), "", "{text}");
        assert_eq!(field("CapAmb:"), "0000000000000000");
        if first != "0" {
            assert_ne!(field("Gid:").split(' ').next(), Some("0"));
            for name in ["CapPrm:", "CapEff:"] {
                assert_eq!(field(name), "0000000000000000", "{name}");
            }
        }
    }
}

/// A daemon that is not root has its capabilities from the ambient set, which children inherit.
#[tokio::test]
async fn ambient_capabilities_are_not_handed_on() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: not root, so there is no capability to hand on");
        return;
    }
    // Of this thread and those that the test starts from it.
    let mut sets = capabilities(None).unwrap();
    sets.inheritable |= CapabilitySet::CHOWN;
    set_capabilities(None, sets).unwrap();
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::CHOWN, true).unwrap();
    let place = place();
    let out = place.path().join("out");
    let program = script(&place, &format!("grep CapAmb /proc/self/status > {}", out.display()));
    let status = std::process::Command::new(&program).status().unwrap();
    assert!(status.success());
    let text = || fs::read_to_string(&out).unwrap();
    assert_eq!(text(), "CapAmb:\t0000000000000001\n", "a child without care has it");
    let check = ExecCheck { user: Some("root".to_owned()), ..exec(&program) };
    expect("runs", &ask(check, LONG).await, Reason::Ok, "exit status 0");
    assert_eq!(text(), "CapAmb:\t0000000000000000\n");
}

#[tokio::test]
async fn one_that_will_not_end_is_killed_with_all_it_started() {
    let place = place();
    let pid = |name: &str| place.path().join(name);
    let body = format!(
        "trap '' TERM; echo $$ > {}; (trap '' TERM; sleep 1000 & echo $! > {}; wait) & \
         while :; do sleep 1000; done",
        pid("self").display(),
        pid("child").display()
    );
    let outcome = ask(exec(&script(&place, &body)), SHORT).await;
    expect("hangs", &outcome, Reason::HeadTimeout, "no end of the program within 400ms");
    wait_gone(&pid("self")).await;
    wait_gone(&pid("child")).await;
}

#[tokio::test]
async fn at_the_deadline_it_may_clean_up() {
    let place = place();
    let (traces, pid) = (place.path().join("traces"), place.path().join("pid"));
    let body = format!(
        "trap 'echo cleaned > {}; exit 0' TERM; echo $$ > {}; while :; do sleep 0.01; done",
        traces.display(),
        pid.display()
    );
    let outcome = ask(exec(&script(&place, &body)), SHORT).await;
    expect("hangs", &outcome, Reason::HeadTimeout, "no end of the program");
    wait_gone(&pid).await;
    assert_eq!(fs::read_to_string(traces).unwrap(), "cleaned\n");
}

#[tokio::test]
async fn who_holds_the_output_open_keeps_nobody_waiting() {
    let place = place();
    let pid = place.path().join("pid");
    let body = format!("sleep 1000 & echo $! > {}; echo started; exit 0", pid.display());
    let outcome = ask(exec(&script(&place, &body)), LONG).await;
    expect("forks", &outcome, Reason::Ok, "exit status 0: started");
    wait_gone(&pid).await;
    // One in a session of its own is out of reach, and is not waited for either.
    let body = format!("setsid sleep 1000 & echo $! > {}; echo gone; exit 0", pid.display());
    fs::remove_file(&pid).unwrap();
    let outcome = ask(exec(&script(&place, &body)), LONG).await;
    expect("escapes", &outcome, Reason::Ok, "exit status 0: gone");
    let escaped: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let _ = rustix::process::kill_process(
        Pid::from_raw(escaped).unwrap(),
        rustix::process::Signal::KILL,
    );
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_nobody_behind() {
    let place = place();
    let pid = place.path().join("pid");
    let body = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1000; done", pid.display());
    let target = target(somebody(), CheckKind::Exec(exec(&script(&place, &body))), LONG);
    let prober = Arc::new(NetworkProber::new());
    let probing = tokio::spawn(async move { prober.probe(&target).await });
    let there = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, there).await.unwrap();
    probing.abort();
    assert!(probing.await.unwrap_err().is_cancelled());
    wait_gone(&pid).await;
}

#[test]
fn a_runtime_that_ends_leaves_nobody_behind() {
    let place = place();
    let pid = place.path().join("pid");
    let body = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1000; done", pid.display());
    let target = target(somebody(), CheckKind::Exec(exec(&script(&place, &body))), LONG);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let prober = NetworkProber::new();
        let started = async {
            while fs::read_to_string(&pid).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = prober.probe(&target) => panic!("it ended"),
            () = started => {}
        }
    });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Nobody reaps it any more but this process, when it ends: it is a corpse at the most.
    let number: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let dead = async {
        loop {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if state.is_empty() || state.starts_with('Z') {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(LONG, dead).await.unwrap() });
}
