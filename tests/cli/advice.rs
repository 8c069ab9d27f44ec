//! Weights from the servers, all the way into the table.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, finish, pointsman, within};

/// An agent that says one line, or closes without a word when that is empty. It ends when dropped.
struct Agent {
    port: u16,
    line: Arc<Mutex<Option<String>>>,
}

impl Agent {
    fn saying(line: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Mutex::new(Some(line.to_owned())));
        let said = Arc::clone(&line);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(line) = said.lock().unwrap().clone() else { return };
                let _ = stream.unwrap().write_all(line.as_bytes());
            }
        });
        Self { port, line }
    }

    fn say(&self, line: &str) {
        *self.line.lock().unwrap() = Some(line.to_owned());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        *self.line.lock().unwrap() = None;
        // Wakes the thread out of its accept.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// A policy over this server with one more check.
fn policy(backend: &Backend, check: &str) -> String {
    format!(
        "virtual_services: [tcp://192.0.2.10:80]\nforwarding: masq\nweight: 80\nreal_servers:\n  \
         - {}\n  - 127.0.0.2:{}\nchecks:\n  - http:\n    interval: 1s\n    timeout: 900ms\n    \
         fall: 2\n{check}",
        backend.address,
        backend.address.port()
    )
}

fn destination(status: &Value) -> &Value {
    &status["services"][0]["destinations"][0]
}

fn wait_weight(daemon: &Daemon<'_>, weight: impl Into<Value>) -> Value {
    let weight = weight.into();
    daemon.wait(&format!("weight {weight}"), |status| {
        destination(status)["weight_kernel"] == weight
            && destination(status)["weight_wanted"] == weight
    })
}

#[test]
fn an_agent_moves_the_weight_and_a_dead_one_lets_go_of_it() {
    let backend = Backend::start();
    let other = Backend::on(Ipv4Addr::new(127, 0, 0, 2).into(), backend.address.port()).unwrap();
    let agent = Agent::saying("50%\n");
    let scratch = Scratch::new();
    let check = format!(
        "  - agent: {{ port: {} }}\n    interval: 200ms\n    timeout: 150ms\n    expires: 3s\n",
        agent.port
    );
    scratch.write("www.yaml", &policy(&backend, &check));
    let plan = scratch.plan(&[]).exit(0).stdout;
    assert!(plan.contains("weight 40 masq  the real server asks for 50%"), "{plan}");
    let daemon = Daemon::start(&scratch);
    let status = wait_weight(&daemon, 40);
    assert_eq!(destination(&status)["weight"]["advised"], "50%");
    let why = destination(&status)["why"].as_str().unwrap();
    assert!(why.starts_with("the real server asks for 50%; status 200"), "{why}");
    let status = daemon.wait_up(2);
    assert_eq!(status["degraded"], Value::Array(Vec::new()), "{status:#}");
    // The other one has no agent: that is said, and changes nothing else.
    let refused = &status["real_servers"][1]["advisors"][0];
    assert!(refused["advice"]["says"].is_null(), "{refused:#}");
    daemon.wait_log("no advice");
    let other_weight = &status["services"][0]["destinations"][1]["weight_kernel"];
    assert_eq!(other_weight, 80);
    // A plan without probes of its own sees the same.
    scratch.plan(&["--detailed-exitcode"]).exit(0);

    let name = backend.address.to_string();
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    for part in [
        "80 configured × ramp - × advice 50%, override -",
        &format!("\nagent 127.0.0.1:{}: advises, and has no verdict\n", agent.port),
        "  advice     50%, said ",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }

    agent.say("drain\n");
    wait_weight(&daemon, 0);
    agent.say("75% # busy\n");
    daemon.wait("the share beside the drain", |status| {
        status["real_servers"][0]["advisors"][0]["advice"]["says"] == "75% drain"
    });
    wait_weight(&daemon, 0);
    agent.say("ready\n");
    wait_weight(&daemon, 60);
    agent.say("failed # no disk\n");
    let status = wait_weight(&daemon, Value::Null);
    let why = destination(&status)["why"].as_str().unwrap();
    assert!(why.starts_with("down: it says failed: no disk; status 200"), "{why}");
    assert_eq!(destination(&status)["health"], "up", "the verdict is that of the checks");
    agent.say("up\n");
    wait_weight(&daemon, 60);
    agent.say("up 10%\n");
    wait_weight(&daemon, 8);
    drop(agent);
    wait_weight(&daemon, 80);
    daemon.wait_log("advice expired");
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    assert!(text.contains("EXPIRED: 10% ready up, said "), "{text}");
    assert!(text.contains("last time: port "), "{text}");

    // Whatever an agent says, who is down stays down.
    drop(other);
    daemon.wait_up(1);
}

#[test]
fn a_file_and_a_program_decide_too() {
    let backend = Backend::start();
    let _other = Backend::on(Ipv4Addr::new(127, 0, 0, 2).into(), backend.address.port()).unwrap();
    let scratch = Scratch::new();
    let file = scratch.path("127.0.0.1.state");
    let check = format!(
        "  - file: {{ path: \"{}\" }}\n    interval: 200ms\n    timeout: 150ms\n    fall: 1\n    \
         rise: 1\n",
        scratch.path("{address}.state").display()
    );
    scratch.write("www.yaml", &policy(&backend, &check));
    let daemon = Daemon::start(&scratch);
    wait_weight(&daemon, 80);
    for (content, weight) in
        [("7\n", Value::from(7)), ("drain", 0.into()), ("down # by hand", Value::Null)]
    {
        fs::write(&file, content).unwrap();
        wait_weight(&daemon, weight);
    }
    let status = daemon.wait_up(1);
    let why = destination(&status)["why"].as_str().unwrap();
    assert!(why.starts_with("it says down: by hand"), "{why}");
    fs::remove_file(&file).unwrap();
    wait_weight(&daemon, 80);

    let program = scratch.path("check");
    fs::write(&program, "#!/bin/sh\nexit $((40 + ${POINTSMAN_ADDRESS##*.}))\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(program.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let check = format!(
        "  - exec: {{ command: [\"{}\"], weight_from: exit_status }}\n    interval: 1s\n    \
         timeout: 900ms\n",
        program.display()
    );
    scratch.write("www.yaml", &policy(&backend, &check));
    if rustix::process::geteuid().is_root() {
        // What it takes to start it as somebody else was given up at the start.
        daemon.wait_log("restart pointsman if no policy had an `exec` check when it started");
    }
    drop(daemon);
    let daemon = Daemon::start(&scratch);
    let status = wait_weight(&daemon, 39);
    assert_eq!(status["services"][0]["destinations"][1]["weight_wanted"], 40);
    fs::remove_file(&program).unwrap();
    let status = daemon.wait("trouble with the program", |status| {
        status["degraded"][0] == "2 of 2 real servers cannot be probed"
    });
    let last = &status["real_servers"][0]["checks"][1]["last"];
    assert_eq!((&last["reason"], &last["kind"]), (&"setup".into(), &"inconclusive".into()));
    assert_eq!(status["real_servers"][0]["health"], "up");
}

/// The next daemon finds the first real server in maintenance and its agent silent.
#[test]
fn what_was_advised_counts_after_a_restart() {
    let backend = Backend::start();
    let _other = Backend::on(Ipv4Addr::new(127, 0, 0, 2).into(), backend.address.port()).unwrap();
    let agent = Agent::saying("maint\n");
    let scratch = Scratch::new();
    let check = format!(
        "  - agent: {{ port: {} }}\n    interval: 200ms\n    timeout: 150ms\n    expires: 5m\n",
        agent.port
    );
    scratch.write("www.yaml", &policy(&backend, &check));
    let record = scratch.path("state/health-memory.json");
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    wait_weight(&daemon, Value::Null);
    let recorded = || {
        let text = fs::read_to_string(&record).unwrap_or_default();
        text.contains("\"maint\"") && text.matches("\"up\"").count() == 2
    };
    assert!(within(DEADLINE, recorded), "{:?}", fs::read_to_string(&record));
    agent.say("");
    daemon.kill();
    for _ in 0..2 {
        let daemon = Daemon::start(&scratch);
        let status = daemon.wait("the other one", |status| {
            status["services"][0]["destinations"][1]["weight_kernel"] == 80
                && !status["real_servers"][0]["advisors"][0]["advice"]["trouble"].is_null()
        });
        assert_eq!(destination(&status)["weight_kernel"], Value::Null, "{status:#}");
        let why = destination(&status)["why"].as_str().unwrap();
        assert!(why.starts_with("the real server asks for maintenance"), "{why}");
        let advised = &status["real_servers"][0]["advisors"][0]["advice"];
        assert_eq!(advised["says"], "maint");
        daemon.wait_logged("+ tcp://192.0.2.10:80 127.", 1);
        assert_eq!(daemon.stop().0, Some(0));
    }
}

/// An edit that asks real servers what they want changes no weight before they have had a turn, and
/// so says the plan of it beside a daemon.
#[test]
fn a_plan_waits_for_an_agent_that_is_new() {
    let backend = Backend::start();
    let _other = Backend::on(Ipv4Addr::new(127, 0, 0, 2).into(), backend.address.port()).unwrap();
    let scratch = Scratch::new();
    let text = policy(&backend, "");
    scratch.write("www.yaml", &text);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    wait_weight(&daemon, 80);
    let edit = text.replace("weight: 80", "weight: 40");
    let file = scratch.path("edit.yaml");
    fs::write(&file, format!("{edit}  - agent: {{ port: 9 }}\n")).unwrap();
    let plan = || {
        let mut plan = pointsman(&["plan", "--policies"]);
        plan.arg(&file).arg("--socket").arg(scratch.socket());
        finish(plan).exit(0).stdout
    };
    let text = plan();
    assert!(text.contains("not asked yet what it wants") && !text.contains("80 → 40"), "{text}");
    fs::write(&file, edit).unwrap();
    assert!(plan().contains("weight 80 → 40"));
}
