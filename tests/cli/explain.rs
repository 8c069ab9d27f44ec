//! `pointsman explain`: everything that decides on one real server, in one place.

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, policy_of};

#[test]
fn a_weight_is_explained_from_the_probe_to_the_kernel() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let name = backends[0].address.to_string();
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    for part in [
        &format!("{name} of policy www ("),
        "www.yaml:1): up\n",
        "override   none",
        &format!("http {name}/alive: up for "),
        "ago: pass, status 200; connected ",
        ", ended ",
        "next       2 failures in a row take it down, then 2 passes bring it up",
        "every 1 s at most; rise 2, fall 2",
        "80 configured × ramp - × advice -, override -",
        "why        status 200 in ",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }

    scratch.order(&["weight", "www", &name, "3", "--reason", "slow disk"]).exit(0);
    daemon.wait("the override in the table", |status| {
        status["services"][0]["destinations"][0]["weight_kernel"] == 3
    });
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    assert!(text.contains("80 configured × ramp - × advice -, override 3"), "{text}");
    assert!(text.contains("until taken back: slow disk"), "{text}");
    let json = scratch.order(&["explain", "www", &name, "--output", "json"]).exit(0).json();
    let destination = &json["destinations"][0];
    assert_eq!(destination["service"], "tcp://192.0.2.10:80");
    assert_eq!(destination["decided_by"], "override");
    assert_eq!(
        (&destination["configured"], &destination["weight_kernel"]),
        (&80.into(), &3.into())
    );
    assert_eq!(destination["parts"]["overridden"], 3);
    assert_eq!(json["override"]["reason"], "slow disk");
    assert_eq!(json["checks"][0]["last"]["kind"], "pass");
    assert!(json["checks"][0]["last"]["phases"]["connected"].is_object(), "{json:#}");
    assert_eq!((&json["checks"][0]["rise"], &json["floor"]), (&2.into(), &Value::Null));
}

#[test]
fn one_that_is_down_says_what_brings_it_back() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    backends[0].answer(503);
    daemon.wait_up(1);
    let name = backends[0].address.to_string();
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    for part in [
        "www.yaml:1): down\n",
        "ago: FAIL, status 503",
        "2 passes in a row bring it up",
        "80 configured, not in the table",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

/// Explains a real server and looks for all of this.
#[track_caller]
fn assert_explained(scratch: &Scratch, backend: &Backend, parts: &[&str]) {
    let name = backend.address.to_string();
    let text = scratch.order(&["explain", "www", &name]).exit(0).stdout;
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn a_ramp_damping_and_the_floor_are_explained() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let addresses = backends.each_ref().map(|it| it.address.to_string());
    let policy = policy_of(VIP, &addresses, 80)
        + "    damping: { changes: 2, hold: 10m, max_hold: 10m }\n\
           slow_start: 1h\nhealth_floor: { min_up: 1 }\n";
    scratch.write("www.yaml", &policy);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let on_ramp = ["80 configured × ramp 5% × advice -, override -", "why        slow start, 5%; "];
    assert_explained(&scratch, &backends[0], &on_ramp);

    for (answer, up) in [(503, 1), (200, 2), (503, 1)] {
        backends[0].answer(answer);
        daemon.wait_up(up);
    }
    backends[0].answer(200);
    let damped =
        ["next       held down by flap damping for ", "floor      1 of 2 up, 1 needed, else keep"];
    assert_explained(&scratch, &backends[0], &damped);

    backends[1].answer(503);
    daemon.wait_up(0);
    let kept = [
        "floor      0 of 2 up, 1 needed, else keep",
        "): down\n",
        "80 configured × ramp - × advice -, override -",
        "why        kept by the health floor; down: status 503",
    ];
    assert_explained(&scratch, &backends[1], &kept);
}

#[test]
fn what_the_blast_radius_limit_holds_is_explained() {
    let backends = [1, 2, 3].map(|n| Backend::on([127, 0, 9, n].into(), 0).unwrap());
    let scratch = Scratch::new();
    let addresses = backends.each_ref().map(|it| it.address.to_string());
    scratch.write("www.yaml", &policy_of(VIP, &addresses, 80));
    let daemon = Daemon::start_with(&scratch, |run| {
        run.args(["--blast-limit", "1"]);
    });
    daemon.wait_up(3);
    backends[..2].iter().for_each(|backend| backend.answer(503));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 2);
    let held = [
        "): down\n",
        "80 configured × ramp - × advice -, override -",
        "why        held by the blast-radius limit; down: status 503",
    ];
    assert_explained(&scratch, &backends[0], &held);
}
