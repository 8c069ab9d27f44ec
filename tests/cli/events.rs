//! `pointsman events`: what happened, with and without a daemon.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Finished, Scratch, VIP, finish, pointsman, policy, within};

fn command(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = pointsman(&["events", "--ipvs", "memory"]);
    command.arg("--state-dir").arg(scratch.state()).args(args);
    command
}

fn events(scratch: &Scratch) -> Vec<Value> {
    let Finished { stdout, .. } = finish(command(scratch, &["--output", "json"])).exit(0);
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A ramp of twenty steps is two events, and so is one of two steps.
#[test]
fn a_slow_start_is_told_at_its_beginning_and_its_end() {
    for weight in [80, 2] {
        let backends = [Backend::start(), Backend::start()];
        let scratch = Scratch::new();
        scratch.write("www.yaml", &(policy(VIP, &backends, weight) + "slow_start: 1s\n"));
        let daemon = Daemon::start(&scratch);
        daemon.wait("both with their whole weight", |status| {
            let destinations = status["services"][0]["destinations"].as_array().unwrap();
            destinations.iter().all(|it| it["weight_kernel"] == weight)
        });
        daemon.stop();
        let server = backends[0].address.to_string();
        let told = events(&scratch).into_iter().filter(|it| it["destination"] == server);
        let told: Vec<String> = told.map(|it| it["change"].as_str().unwrap().to_owned()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("+ ") && told[0].contains("slow start, "), "{told:?}");
        assert!(told[1].contains(&format!(" → {weight}; ")), "{told:?}");
    }
}

#[test]
fn a_real_server_is_called_by_its_name() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let [one, two] = backends.each_ref().map(|it| it.address.to_string());
    let entry =
        format!("- {{ name: web-1, address: 127.0.0.1, port: {} }}", backends[0].address.port());
    let text = policy(VIP, &backends, 80).replace(&format!("- {one}"), &entry);
    scratch.write("www.yaml", &text);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    daemon.wait("both in", |status| status["table"]["changes"] == 3);
    daemon.stop();
    let all = events(&scratch);
    for (kind, at) in [("transition", "address"), ("change", "destination")] {
        let of =
            |server: &str| all.iter().find(|it| it["event"] == kind && it[at] == server).unwrap();
        assert_eq!(of(&one)["name"], "web-1", "{all:#?}");
        assert_eq!(of(&two).get("name"), None, "{all:#?}");
    }
    let told = finish(command(&scratch, &[])).exit(0).stdout;
    for line in [
        format!("transition       http {one} (web-1 of www): unknown → up: status 200\n"),
        format!("transition       http {two} (www): unknown → up: status 200\n"),
        format!("change           + {VIP} {one} (web-1): weight 80 masq; up\n"),
        format!("change           + {VIP} {two}: weight 80 masq; up\n"),
    ] {
        assert!(told.contains(&line), "no `{line}` in\n{told}");
    }
}

/// The table in memory has no connections, so what leaves has weight 0 until it is read again.
#[test]
fn who_leaves_does_so_under_its_name() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let [stays, leaves, with_all] = backends.each_ref().map(|it| it.address);
    let other = "tcp://192.0.2.11:80";
    let named = |text: String| {
        let entry = |at: SocketAddr| {
            format!("- {{ name: web-{at}, address: 127.0.0.1, port: {} }}", at.port())
        };
        let all = [leaves, with_all];
        all.into_iter().fold(text, |text, at| text.replace(&format!("- {at}"), &entry(at)))
    };
    scratch.write("www.yaml", &named(policy(VIP, &backends[..2], 80)));
    scratch.write("other.yaml", &named(policy(other, &backends[2..], 80)));
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    daemon.wait("all in", |status| status["table"]["changes"] == 5);

    let elsewhere = tempfile::tempdir().unwrap();
    let fewer = policy(VIP, &backends[..1], 80);
    fs::write(elsewhere.path().join("www.yaml"), &fewer).unwrap();
    let mut plan = pointsman(&["plan", "--ipvs", "memory", "--policies"]);
    plan.arg(elsewhere.path()).arg("--socket").arg(scratch.socket());
    let planned = finish(plan).exit(0).stdout;
    for at in [leaves, with_all] {
        let line = format!("~ {at} (web-{at})  weight 80 → 0  no policy declares it; drains ");
        assert!(planned.contains(&line), "no `{line}` in\n{planned}");
    }

    scratch.write("www.yaml", &fewer);
    scratch.remove("other.yaml");
    daemon.wait("both gone", |status| status["table"]["changes"] == 5 + 2 + 2);
    daemon.stop();
    let told = finish(command(&scratch, &[])).exit(0).stdout;
    let drains = |service: &str, at: SocketAddr| {
        format!("~ {service} {at} (web-{at}): weight 80 → 0; no policy declares it; drains ")
    };
    for change in [
        drains(VIP, leaves),
        format!("- {VIP} {leaves} (web-{leaves}): weight 0 masq; no policy declares it; drained\n"),
        drains(other, with_all),
        format!("- {other}: wlc, with its 1 destination; no policy declares it; drained\n"),
    ] {
        assert!(told.contains(&format!("change           {change}")), "no `{change}` in\n{told}");
    }
    let all = events(&scratch);
    let of = |at: SocketAddr| all.iter().filter(move |it| it["destination"] == at.to_string());
    assert!(of(leaves).chain(of(with_all)).all(|it| it["name"].is_string()), "{all:#?}");
    assert!(of(stays).all(|it| it.get("name").is_none()), "{all:#?}");
}

#[test]
fn they_tell_the_story_and_outlive_the_daemon() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let refused = finish(command(&scratch, &[])).exit(1);
    assert!(refused.stderr.contains("no events are kept in"), "{refused:?}");

    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let mut following = command(&scratch, &["--follow", "--since", "1h"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let (stdout, lines) = (following.stdout.take().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let into = Arc::clone(&lines);
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            into.lock().unwrap().push(line.unwrap());
        }
    });
    let shown = |text: &str| lines.lock().unwrap().iter().any(|line| line.contains(text));
    assert!(within(DEADLINE, || shown("started")), "{lines:?}");

    let server = backends[1].address.to_string();
    backends[1].answer(503);
    daemon.wait_up(1);
    let down = format!("verdict          {server} of www: up → down: status 503");
    assert!(within(DEADLINE, || shown(&down)), "{lines:?}");
    scratch.order(&["drain", "www", &server, "--for", "1h", "--reason", "repair"]).exit(0);
    scratch.order(&["enable", "www", &server]).exit(0);
    scratch.write("bad.yaml", "nothing: right\n");
    daemon.wait_refused("nothing");
    assert!(within(DEADLINE, || shown("reload_refused")), "{lines:?}");
    following.kill().unwrap();
    following.wait().unwrap();
    reader.join().unwrap();
    daemon.signal(Signal::TERM);
    daemon.stop();

    let events = events(&scratch);
    let of = |kind: &str| events.iter().filter(|it| it["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("started").len(), 1);
    assert_eq!(of("stopped")[0]["cause"], "SIGTERM");
    assert_eq!(of("reload")[0]["policies"], 1);
    let verdicts = of("verdict");
    assert_eq!(verdicts.len(), 3, "{verdicts:?}");
    assert_eq!(verdicts[2]["real_server"], server.as_str());
    let transition = of("transition")[2];
    assert_eq!(transition["policies"][0], "www");
    assert_eq!((&transition["check"], &transition["to"]), (&"http".into(), &"down".into()));
    assert_eq!(of("change").len(), 4, "a service, two in, one out");
    assert_eq!(of("override")[0]["reason"], "repair");
    assert_eq!(of("override_ended").len(), 1);
    let problems = of("reload_refused")[0]["problems"].to_string();
    assert!(problems.contains("`nothing`"), "{problems}");
    let mut times: Vec<&str> = events.iter().map(|event| event["at"].as_str().unwrap()).collect();
    let sorted = times.clone();
    times.sort_unstable();
    assert_eq!(times, sorted);
}

#[test]
fn lines_that_are_no_events_are_counted() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.state()).unwrap();
    let path = scratch.state().join("events-memory.jsonl");
    for (lines, told) in
        [("{\n", "1 line of PATH is no event"), ("{\n{\n", "2 lines of PATH are no events")]
    {
        fs::write(&path, lines).unwrap();
        let complaint = finish(command(&scratch, &[])).exit(0).stderr;
        let told = told.replace("PATH", &path.display().to_string());
        assert_eq!(complaint, format!("pointsman: {told}\n"));
    }
}

#[test]
fn a_rehearsal_keeps_none() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start_with(&scratch, |command| _ = command.arg("--dry-run"));
    daemon.wait_up(1);
    daemon.stop();
    finish(command(&scratch, &[])).exit(1);
}
