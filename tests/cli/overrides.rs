//! What operators say of single real servers: carried out, on record, shown everywhere, over in
//! time, and never for something that is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, policy, policy_of};

fn three() -> [Backend; 3] {
    [Backend::start(), Backend::start(), Backend::start()]
}

/// The destination of a real server in the status.
fn destination(status: &Value, backend: &Backend) -> Value {
    let destinations = status["services"][0]["destinations"].as_array().unwrap();
    let is_it = |it: &&Value| it["destination"] == backend.address.to_string();
    destinations.iter().find(is_it).cloned().unwrap_or_default()
}

fn wait_weight(daemon: &Daemon<'_>, backend: &Backend, weight: Option<u32>) -> Value {
    let weight = weight.map_or(Value::Null, Value::from);
    let what = format!("weight {weight} of {}", backend.address);
    daemon.wait(&what, |status| destination(status, backend)["weight_kernel"] == weight)
}

/// A list of overrides without what is another with each second.
fn timeless(mut list: Value) -> Value {
    for entry in list.as_array_mut().unwrap() {
        assert!(entry.as_object_mut().unwrap().remove("left").is_some(), "{entry:#}");
    }
    list
}

/// A name is what people call it: what was said of it is said of the machine.
#[test]
fn a_real_server_that_is_given_a_name_stays_drained() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let address = backends[0].address.to_string();
    scratch.order(&["drain", "www", &address]).exit(0);
    wait_weight(&daemon, &backends[0], None);
    let (host, port) = (backends[0].address.ip(), backends[0].address.port());
    let named = policy(VIP, &backends, 80).replace(
        &format!("  - {address}\n"),
        &format!("  - {{ name: web-1, address: {host}, port: {port} }}\n"),
    );
    scratch.write("www.yaml", &named);
    let status = wait_name(&daemon, "web-1");
    let server = &status["real_servers"][0];
    assert_eq!(server["address"], address.as_str());
    assert_eq!(server["health"], "up", "the verdict is kept: {status:#}");
    let said = &status["overrides"][0];
    assert_eq!((&said["real_server"], &said["applies"]), (&"web-1".into(), &true.into()));
    assert_eq!(destination(&status, &backends[0])["weight_kernel"], Value::Null, "{status:#}");
    let shown = format!("{address} (web-1)");
    assert!(scratch.status(&[]).exit(0).stdout.contains(&shown));
    let explained = scratch.order(&["explain", "www", "web-1"]).exit(0).stdout;
    assert!(explained.starts_with("web-1 of policy www"), "{explained}");

    // Either name takes it back.
    let told = scratch.order(&["enable", "www", "web-1"]).exit(0).stdout;
    assert!(told.starts_with("web-1 of www is no longer drained"), "{told}");
    wait_weight(&daemon, &backends[0], Some(80));
    let told = scratch.order(&["weight", "www", &address, "7"]).exit(0).stdout;
    assert!(told.starts_with("web-1 of www gets weight 7"), "{told}");
    wait_weight(&daemon, &backends[0], Some(7));
    scratch.write("www.yaml", &named.replace("web-1", "web-one"));
    wait_name(&daemon, "web-one");
}

/// The probes and the overrides follow a reload one after the other.
fn wait_name(daemon: &Daemon<'_>, name: &str) -> Value {
    daemon.wait(name, |status| {
        [&status["real_servers"][0], &status["overrides"][0]]
            .iter()
            .all(|it| it["real_server"] == name)
    })
}

#[test]
fn every_override_reaches_the_table_and_is_taken_back() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let name = backends[0].address.to_string();
    let user = rustix::process::getuid().is_root();
    for (order, weight, says) in [
        (vec!["weight", "www", &name, "7"], Some(7), "gets weight 7 in 1 virtual service"),
        (vec!["weight", "www", &name, "0"], Some(0), "gets no new connections"),
        (vec!["disable", "www", &name], None, "goes out of 1 virtual service at once"),
        (vec!["drain", "www", &name], None, "draining"),
    ] {
        let told = scratch.order(&order).exit(0).stdout;
        assert!(told.contains(says), "{told}");
        assert!(told.contains(&format!("`pointsman enable www {name}` takes it back")), "{told}");
        let status = wait_weight(&daemon, &backends[0], weight);
        assert_eq!(status["degraded"], Value::Array(Vec::new()), "{status:#}");
        assert_eq!(destination(&status, &backends[0])["health"], "up");
        assert_eq!(destination(&status, &backends[1])["weight_kernel"], 80);
        let told = scratch.order(&["enable", "www", &name]).exit(0).stdout;
        assert!(told.contains("policy and probes decide again"), "{told}");
        wait_weight(&daemon, &backends[0], Some(80));
    }
    let told = scratch.order(&["enable", "www", &name]).exit(0).stdout;
    assert_eq!(told, format!("{name} of www has no override: nothing to do\n"));
    daemon.wait_logged("override policy=www", 4);
    daemon.wait_logged("override removed policy=www", 4);
    if user {
        assert!(daemon.log().contains("by=root"), "{}", daemon.log());
    }
}

#[test]
fn who_when_why_and_until_are_shown_everywhere() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let name = backends[0].address.to_string();
    let args = ["drain", "www", &name, "--for", "2h", "--reason", "disk swap"];
    let told = scratch.order(&args).exit(0).stdout;
    assert!(told.contains("(1h 59m left)") || told.contains("(2h left)"), "{told}");
    wait_weight(&daemon, &backends[0], None);

    let list = scratch.order(&["overrides", "--output", "json"]).exit(0).json();
    let entry = &list[0];
    assert_eq!((&entry["policy"], &entry["action"]), (&"www".into(), &"drain".into()));
    assert_eq!(
        (&entry["real_server"], &entry["reason"]),
        (&name.as_str().into(), &"disk swap".into())
    );
    assert_eq!((&entry["applies"], &entry["weight"]), (&true.into(), &Value::Null));
    let left = entry["left"].as_u64().unwrap();
    assert!((7_000..=7_201).contains(&left), "{list:#}");
    let by = entry["by"].as_str().unwrap().to_owned();
    assert!(!by.is_empty() && entry["at"].as_str().unwrap().ends_with('Z'), "{list:#}");

    let text = scratch.order(&["overrides"]).exit(0).stdout;
    assert!(text.starts_with("POLICY  REAL SERVER"), "{text}");
    assert!(text.contains(&format!("www     {name}")) && text.contains("disk swap"), "{text}");
    let text = scratch.status(&[]).exit(0).stdout;
    assert!(text.contains(&format!("overrides  {name} of www drained by {by}, until 2")), "{text}");
    assert!(text.contains(&format!("drained by {by}: disk swap; status 200")), "{text}");
    let shown = daemon.status().unwrap()["overrides"].clone();
    assert_eq!(timeless(shown), timeless(list));
    let text = scratch.plan(&[]).exit(0).stdout;
    assert!(text.contains(&format!("override: {name} of www drained by {by}")), "{text}");
    assert!(text.contains(&format!("drained by {by}: disk swap")), "{text}");
    let log = daemon.wait_logged("override policy=www", 1);
    assert!(log[0].contains(&format!("by={by}")) || log[0].contains("by=\""), "{log:?}");
    assert!(log[0].contains("until=2") && log[0].contains("reason=\"disk swap\""), "{log:?}");
}

#[test]
fn what_is_meant_must_be_there() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let name = backends[0].address.to_string();
    let long = "x".repeat(201);
    for (args, code, complaint) in [
        (vec!["drain", "wwww", &name], 1, "no policy `wwww` is in force; did you mean `www`?"),
        (vec!["drain", "shop", &name], 1, "there are: www"),
        (
            vec!["disable", "www", "192.0.2.99"],
            1,
            "policy www has no real server `192.0.2.99`; there are: ",
        ),
        // All three are on one address.
        (
            vec!["drain", "www", "127.0.0.1"],
            1,
            "`127.0.0.1` is several real servers of policy www; name one of: ",
        ),
        (vec!["enable", "www", "192.0.2.99"], 1, "policy www has no real server"),
        (vec!["weight", "www", &name, "2147483648"], 2, "2147483648"),
        (vec!["weight", "www", &name, "-1"], 2, "-1"),
        (vec!["drain", "www", &name, "--for", "0s"], 2, "must be from 1s to 366days"),
        (vec!["drain", "www", &name, "--for", "2"], 2, "2h"),
        (vec!["drain", "www", &name, "--reason", &long], 1, "at most 200 characters"),
        (vec!["drain", "www", &name, "--reason", "a\nb"], 1, "one line"),
        (vec!["explain", "www", "192.0.2.99"], 1, "policy www has no real server"),
    ] {
        let finished = scratch.order(&args).exit(code);
        assert!(finished.stderr.contains(complaint), "{args:?}: {finished:#?}");
        assert!(finished.stdout.is_empty(), "{finished:#?}");
    }
    assert_eq!(scratch.order(&["overrides", "--output", "json"]).json(), Value::Array(Vec::new()));
    assert_eq!(daemon.logged("override").len(), 0, "{}", daemon.log());
    // Without a daemon there is nobody to say it to.
    daemon.kill();
    let finished = scratch.order(&["drain", "www", &name]).exit(1);
    assert!(finished.stderr.contains("no daemon answers on"), "{finished:#?}");
}

#[test]
fn they_survive_being_killed_and_end_by_themselves() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let names = [0, 1].map(|index: usize| backends[index].address.to_string());
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    scratch.order(&["disable", "www", &names[0]]).exit(0);
    scratch.order(&["weight", "www", &names[1], "5", "--for", "4s"]).exit(0);
    wait_weight(&daemon, &backends[1], Some(5));
    daemon.kill();
    let record = fs::read_to_string(scratch.state().join("overrides-memory.json")).unwrap();
    assert!(record.contains("\"disable\"") && record.contains(&names[0]), "{record}");

    let daemon = Daemon::start(&scratch);
    wait_weight(&daemon, &backends[1], Some(80));
    let status = daemon.wait_up(3);
    assert_eq!(destination(&status, &backends[0])["weight_kernel"], Value::Null);
    daemon.wait_log("override ended: its time is up");
    daemon.wait("one override", |status| status["overrides"].as_array().unwrap().len() == 1);
    let path = scratch.state().join("overrides-memory.json");
    let followed = crate::scratch::within(crate::scratch::DEADLINE, || {
        !fs::read_to_string(&path).unwrap().contains(&names[1])
    });
    assert!(followed, "the record still has it");
    scratch.order(&["enable", "www", &names[0]]).exit(0);
    wait_weight(&daemon, &backends[0], Some(80));
}

#[test]
fn a_plan_without_a_daemon_knows_them_too() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let name = backends[0].address.to_string();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    scratch.order(&["disable", "www", &name, "--reason", "out"]).exit(0);
    daemon.kill();
    let text = scratch.plan(&["--assume", "up"]).exit(0).stdout;
    assert!(text.contains("2 to add") || text.contains("3 to add"), "{text}");
    assert!(!text.contains(&format!("+ {name}")), "{text}");
    assert!(text.contains(&format!("override: {name} of www disabled by")), "{text}");
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    if rustix::process::getuid().is_root() {
        // Root writes everywhere: a file in the place of the directory stops it too.
        let backends = three();
        let scratch = Scratch::with(&backends);
        let daemon = Daemon::start(&scratch);
        daemon.wait_up(3);
        fs::rename(scratch.state(), scratch.path("away")).unwrap();
        fs::write(scratch.state(), "").unwrap();
        refused(&scratch, &daemon, &backends[0]);
        fs::remove_file(scratch.state()).unwrap();
        scratch.order(&["disable", "www", &backends[0].address.to_string()]).exit(0);
        wait_weight(&daemon, &backends[0], None);
    } else {
        let backends = three();
        let scratch = Scratch::with(&backends);
        let daemon = Daemon::start(&scratch);
        daemon.wait_up(3);
        fs::set_permissions(scratch.state(), fs::Permissions::from_mode(0o500)).unwrap();
        refused(&scratch, &daemon, &backends[0]);
        fs::set_permissions(scratch.state(), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

fn refused(scratch: &Scratch, daemon: &Daemon<'_>, backend: &Backend) {
    let finished = scratch.order(&["disable", "www", &backend.address.to_string()]).exit(1);
    assert!(finished.stderr.contains("nothing has changed"), "{finished:#?}");
    assert!(finished.stderr.contains("--state-dir"), "{finished:#?}");
    let status = daemon.status().unwrap();
    assert_eq!(status["overrides"], Value::Array(Vec::new()));
    assert_eq!(destination(&status, backend)["weight_kernel"], 80);
}

#[test]
fn a_dry_run_keeps_them_in_memory_and_says_so() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start_with(&scratch, |command| {
        command.arg("--dry-run");
    });
    daemon.wait_up(3);
    let told = scratch.order(&["disable", "www", &backends[0].address.to_string()]).exit(0).stdout;
    assert!(told.contains("this daemon is a dry run"), "{told}");
    wait_weight(&daemon, &backends[0], None);
    assert!(!scratch.state().join("overrides-memory.json").exists());
}

#[test]
fn one_of_what_has_left_the_policies_is_reported_until_it_is_removed() {
    let backends = three();
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    let name = backends[2].address.to_string();
    scratch.order(&["disable", "www", &name]).exit(0);
    wait_weight(&daemon, &backends[2], None);
    scratch.write("www.yaml", &policy(VIP, &backends[..2], 80));
    daemon.wait_log("override of what no policy declares");
    let status = daemon.wait("a stray override", |status| !status["degraded"][0].is_null());
    assert_eq!(status["degraded"][0], "1 override of what no policy declares", "{status:#}");
    let text = scratch.status(&[]).exit(3).stdout;
    assert!(text.contains("(NO POLICY DECLARES IT)"), "{text}");
    let text = scratch.order(&["overrides"]).exit(0).stdout;
    assert!(text.contains("NO POLICY DECLARES IT"), "{text}");
    let told = scratch.order(&["enable", "www", &name]).exit(0).stdout;
    assert!(told.contains("no policy declares it anyway") || told.contains("no longer disabled"));
    scratch.status(&[]).exit(0);
    let text = scratch.order(&["overrides"]).exit(0).stdout;
    assert_eq!(text, "no overrides: policies and probes decide\n");
}

#[test]
fn the_last_one_is_taken_out_with_a_warning() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let names = [0, 1].map(|index: usize| backends[index].address.to_string());
    let told = scratch.order(&["drain", "www", &names[0]]).exit(0).stdout;
    assert!(!told.contains("WARNING"), "{told}");
    let told = scratch.order(&["drain", "www", &names[1]]).exit(0).stdout;
    assert!(told.contains("WARNING: no other real server of www is up and in service"), "{told}");
    let told = scratch.order(&["weight", "www", &names[1], "9"]).exit(0).stdout;
    assert!(told.contains("instead of drained by") && !told.contains("WARNING"), "{told}");
}

#[test]
fn a_damaged_record_is_reported_and_does_not_stop_the_start() {
    let backends = three();
    let scratch = Scratch::new();
    let names: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    scratch.write("www.yaml", &policy_of(VIP, &names, 80));
    fs::create_dir_all(scratch.state()).unwrap();
    fs::write(scratch.state().join("overrides-memory.json"), "{\"version\":1,").unwrap();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(3);
    daemon.wait_log("the record of overrides");
    scratch.order(&["disable", "www", &names[0]]).exit(0);
    assert!(scratch.state().join("overrides-memory.json.damaged.1").exists());
}
