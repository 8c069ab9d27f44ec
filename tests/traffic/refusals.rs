//! What is missing has a name: the module, the capability, a good policy.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::clock::{PATIENCE, until};
use crate::common::netns::{Process, shell};
use pointsman::control::status::Status;

use crate::daemon::{PROGRAM, Policies, answer, metrics, policy, program, state};

const MODPROBE: &str = "/proc/sys/kernel/modprobe";

pub(crate) fn name_what_is_missing() {
    let text = policy(&["tcp://192.0.2.1:80"], "forwarding: direct", &["127.0.0.1"], 80);
    let policies = Policies::new("www.yaml", &text);
    without_a_module(&policies);
    without_the_capability(&policies);
    without_the_table_to_itself(&policies);
    without_a_scheduler(&policies);
    without_a_good_policy(&policies);
}

/// `run` or `plan` with these policies, in the guest's own namespace.
fn command(name: &str, policies: &Policies) -> Command {
    let mut command = program(name);
    command.arg("--policies").arg(&policies.directory).args(["--state-dir", &state()]);
    command
}

/// The same with a part of root's privileges.
fn without(capability: &str, name: &str, policies: &Policies) -> Command {
    let whole = command(name, policies);
    let mut command = Command::new("setpriv");
    command.args([&format!("--bounding-set=-{capability}"), "--"]).arg(whole.get_program());
    command.args(whole.get_args()).stdin(Stdio::null());
    command
}

fn fails(mut command: Command, code: i32, words: &[&str]) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("  {text}");
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    output
}

fn without_a_module(policies: &Policies) {
    let loader = fs::read_to_string(MODPROBE).unwrap();
    fs::write(MODPROBE, "/bin/false").unwrap();
    for name in ["run", "plan"] {
        fails(command(name, policies), 1, &["the kernel has no IPVS", "modprobe ip_vs"]);
    }
    fs::write(MODPROBE, loader.trim()).unwrap();
}

fn without_the_capability(policies: &Policies) {
    for name in ["run", "plan"] {
        fails(without("net_admin", name, policies), 1, &["CAP_NET_ADMIN"]);
    }

    // Another namespace takes another capability.
    shell("ip netns add elsewhere");
    let mut run = without("sys_admin", "run", policies);
    run.args(["--netns", "elsewhere"]);
    fails(run, 1, &["CAP_SYS_ADMIN", "`elsewhere`"]);
    let mut run = command("run", policies);
    run.args(["--netns", "nowhere"]);
    fails(run, 1, &["/run/netns/nowhere does not exist"]);
}

/// Whoever has another socket and another state directory meets the first daemon in the table.
fn without_the_table_to_itself(policies: &Policies) {
    let mut run = command("run", policies);
    let first = Process(run.stderr(Stdio::null()).spawn().unwrap());
    until("the first daemon answers", PATIENCE, || {
        answer(&mut program("status")).stdout.starts_with(b"pointsman").then_some(())
    });
    let second = |more: &[&str]| {
        let mut run = Command::new(PROGRAM);
        run.arg("run").arg("--policies").arg(&policies.directory);
        run.args(["--state-dir", "/tmp/second", "--socket", "/tmp/second.sock"]).args(more);
        run.stdin(Stdio::null());
        run
    };
    let held = format!("(pid {}) holds the IPVS table of this network namespace", first.0.id());
    fails(second(&[]), 1, &[&held, "stop it first"]);
    // A rehearsal writes nothing, and another namespace has another table.
    for more in [["--dry-run"].as_slice(), &["--netns", "elsewhere"]] {
        let beside = Process(second(more).stderr(Stdio::null()).spawn().unwrap());
        until("the other one answers", PATIENCE, || {
            let mut status = Command::new(PROGRAM);
            status.args(["status", "--socket", "/tmp/second.sock"]);
            answer(&mut status).stdout.starts_with(b"pointsman").then_some(())
        });
        drop(beside);
    }
    drop(first);
    shell("ipvsadm -C; ip netns exec elsewhere ipvsadm -C");
}

/// The kernel has IPVS, and no module for what the policy asks of it.
fn without_a_scheduler(policies: &Policies) {
    let loader = fs::read_to_string(MODPROBE).unwrap();
    fs::write(MODPROBE, "/bin/false").unwrap();
    let good = fs::read_to_string(policies.directory.join("www.yaml")).unwrap();
    policies.write("www.yaml", &good.replace("scheduler: rr", "scheduler: fo"));
    let daemon = Process(command("run", policies).stderr(Stdio::null()).spawn().unwrap());
    let refused = until("the kernel refuses", PATIENCE, || {
        let output = answer(program("status").args(["--output", "json"]));
        let status: Status = serde_json::from_slice(&output.stdout).ok()?;
        (status.table.refused > 0).then_some(status)
    });
    assert!(refused.table.pending[0].contains("fo"), "{:?}", refused.table.pending);
    let page = metrics();
    let value = |family: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("pointsman_{family} ")));
        line.unwrap_or_else(|| panic!("no {family} in {page}")).parse().unwrap()
    };
    // It is tried again and again, and counted each time; the table lacks one service all the while.
    assert_eq!(value("table_pending_changes"), 1, "{page}");
    assert!(value("table_refusals_total") >= refused.table.refused, "{page}");
    assert_eq!(value("table_changes_total"), 0, "{page}");
    drop(daemon);
    policies.write("www.yaml", &good);
    fs::write(MODPROBE, loader.trim()).unwrap();
}

fn without_a_good_policy(policies: &Policies) {
    policies.write("more.yaml", "virtual_services: [tcp://192.0.2.2:80]\nreal_servers: nobody\n");
    for name in ["run", "plan"] {
        fails(command(name, policies), 2, &["more.yaml:2:15", "nothing was touched"]);
    }
    assert_eq!(shell("ipvsadm -Sn"), "");
}
