//! `pointsman explain`: everything that decides on one real server, in one place.

use serde_json::Value;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::Scratch;

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
