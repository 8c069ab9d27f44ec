//! Where policies come from: `export`, `policy new` and the schema of editors.

use std::fs;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{Scratch, VIP, finish, pointsman};

#[test]
fn a_plan_with_what_is_exported_has_nothing_to_do() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    daemon.wait("a full table", |status| status["table"]["changes"] == 3);
    let exported = scratch.order(&["export", "--ipvs", "memory"]).exit(0);
    assert_eq!(exported.stderr, "");
    assert!(exported.stdout.contains(&format!("  - {VIP}\n")), "{}", exported.stdout);
    fs::create_dir(scratch.path("exported")).unwrap();
    fs::write(scratch.path("exported/all.yaml"), exported.stdout).unwrap();
    let mut plan = pointsman(&["plan", "--detailed-exitcode", "--policies"]);
    plan.arg(scratch.path("exported")).arg("--socket").arg(scratch.socket());
    let plan = finish(plan).exit(0);
    assert!(plan.stdout.starts_with("nothing to do\n"), "{}", plan.stdout);
}

#[test]
fn what_no_policy_can_say_is_named() {
    let backends = [Backend::start()];
    backends[0].answer(503);
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait("a service without destinations", |status| status["table"]["changes"] == 1);
    let exported = scratch.order(&["export", "--ipvs", "memory"]).exit(3);
    assert_eq!(exported.stdout, "");
    let why = format!("pointsman: {VIP} is left out: an empty list of real servers\n");
    assert_eq!(exported.stderr, why);
}

#[test]
fn without_a_table_there_is_nothing_to_export() {
    let scratch = Scratch::new();
    let exported = scratch.order(&["export", "--ipvs", "memory"]).exit(1);
    assert_eq!(exported.stdout, "");
    assert!(exported.stderr.contains("no daemon answers on"), "{}", exported.stderr);
}

#[test]
fn a_new_policy_is_valid_and_named() {
    let scratch = Scratch::new();
    let new = finish(pointsman(&["policy", "new", "shop"])).exit(0);
    scratch.write("other.yaml", &new.stdout);
    let mut check = pointsman(&["check", "--output", "json"]);
    check.arg(scratch.policies());
    let check = finish(check).exit(0).json();
    assert_eq!((&check["valid"], &check["policies"]), (&true.into(), &1.into()));
    assert!(new.stdout.contains("\nname: shop\n"), "{}", new.stdout);
    let refused = finish(pointsman(&["policy", "new", "a b"])).exit(2);
    assert!(refused.stderr.contains("`a b` cannot name a policy"), "{}", refused.stderr);
}

#[test]
fn the_schema_is_one_of_2020_12() {
    let schema = finish(pointsman(&["schema"])).exit(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["weight"]["maximum"], 2_147_483_647);
}
