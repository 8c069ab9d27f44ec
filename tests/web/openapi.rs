//! `docs/openapi.json` holds to the code: every answer is as its schema says. That each route is in
//! it is tested beside the router.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use boon::{Compiler, Schemas};
use pointsman::events::{Event, FloorState, What};
use pointsman::health::Health;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::http::{Answer, get, read_answer, request, start};
use crate::scratch::{DEADLINE, Scratch, VIP, policy, within};

const DOCUMENT: &str = include_str!("../../docs/openapi.json");

/// Validates against a schema of the document.
fn validate(document: &Value, schema: &Value, body: &Value) -> Result<(), String> {
    const PLACE: &str = "http://pointsman.test/schema.json";
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource(PLACE, root).unwrap();
    let index = compiler.compile(PLACE, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
    schemas.validate(body, index).map_err(|error| format!("{error:#}"))
}

/// Asserts that the document describes this answer to a GET on this path of it.
#[track_caller]
fn holds(document: &Value, path: &str, answer: &Answer) {
    described(document, path, "get", answer);
}

/// Whether an operation is on the control socket alone.
fn is_order(operation: &Value) -> bool {
    operation["tags"].as_array().is_some_and(|tags| tags.contains(&"control socket".into()))
}

#[track_caller]
fn described(document: &Value, path: &str, method: &str, answer: &Answer) {
    let responses = &document["paths"][path][method]["responses"];
    let mut response = &responses[answer.status.to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(reference.trim_start_matches('#')).unwrap();
    }
    let line = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    let kind = line.split(';').next().unwrap();
    let schema = &response["content"][kind]["schema"];
    assert!(schema.is_object(), "{path} {} {kind} is not described", answer.status);
    let body = match kind {
        "application/json" => answer.json(),
        _ => Value::String(answer.body.clone()),
    };
    let checked = validate(document, schema, &body);
    assert!(checked.is_ok(), "{path}: {}\n{body:#}", checked.unwrap_err());
}

#[test]
fn every_answer_is_as_described() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let backends: Vec<Backend> = (0..6).map(|_| Backend::start()).collect();
    let scratch = Scratch::new();
    let text = policy(VIP, &backends, 80)
        + "health_floor: { min_up: 50% }\nsorry_server: 192.0.2.9\nslow_start: 1m\n\
           drain: { deadline: 60s }\n";
    // A second check, and an agent that is not there.
    let more = concat!(
        "    fall: 2\n    damping: {}\n",
        "  - tcp:\n    interval: 1s\n    timeout: 500ms\n",
        "  - agent: { port: 9 }\n    interval: 1s\n    timeout: 500ms\n",
    );
    let text = text.replace("    fall: 2\n", more) + "checks_needed: any\n";
    scratch.write("www.yaml", &text);
    let token = scratch.path("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (daemon, address) = start(&scratch, &["--listen-token-file", token.to_str().unwrap()]);
    let known = [("Authorization", "Bearer 0123456789abcdef")];
    let ask = |path: &str| request(address, "GET", path, &known);
    let all_hold = || {
        let server = backends[0].address;
        let explain = format!("/v1/explain?policy=www&real_server={server}");
        for (path, asked) in [
            ("/healthz", "/healthz"),
            ("/readyz", "/readyz"),
            ("/ready/{of}", "/ready/www"),
            ("/ready/{of}", "/ready/tcp://192.0.2.10:80"),
            ("/ready/{of}", "/ready/nobody"),
            ("/ready/{of}", "/ready/%ff"),
            ("/v1/status", "/v1/status"),
            ("/v1/explain", &explain),
            ("/v1/explain", "/v1/explain?policy=www"),
            ("/v1/explain", "/v1/explain?policy=www&real_server=nobody"),
            ("/v1/overrides", "/v1/overrides"),
            ("/v1/latencies", "/v1/latencies"),
            ("/v1/events", "/v1/events"),
            ("/v1/openapi.json", "/v1/openapi.json"),
            ("/metrics", "/metrics"),
        ] {
            holds(&document, path, &ask(asked));
        }
    };
    all_hold();
    let paths = document["paths"].as_object().unwrap().iter();
    for (path, _) in paths.filter(|(_, it)| it["get"].is_object() && !is_order(&it["get"])) {
        holds(&document, path, &get(address, &path.replace("{of}", "www")));
    }
    daemon.wait_up(6);
    all_hold();
    // With all that can be null: a failure, an override, a hold, a refusal.
    let servers: Vec<String> = backends.iter().map(|it| it.address.to_string()).collect();
    scratch.order(&["weight", "www", &servers[0], "7", "--for", "1h", "--reason", "why"]).exit(0);
    scratch.order(&["drain", "www", &servers[1]]).exit(0);
    backends[2].answer(500);
    let failing = || ask("/metrics").body.contains("check=\"http\",reason=\"status\"");
    assert!(within(DEADLINE, failing), "no failure in the metrics");
    scratch.write(
        "www.yaml",
        &text
            .replace("weight: 80", "weight: 81")
            .replace(&servers[2..].iter().map(|it| format!("  - {it}\n")).collect::<String>(), ""),
    );
    wait(&ask, "/policies/held");
    all_hold();
    scratch.write("www.yaml", "nonsense");
    wait(&ask, "/policies/refused");
    all_hold();
}

/// Requests as the document has them are taken, and answered so.
#[test]
fn every_order_is_as_described() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let machine = |last: u8| Backend::on([127, 0, 0, last].into(), 0).unwrap();
    let backends = [2, 3, 4, 5, 6, 7].map(machine);
    let scratch = Scratch::with(&backends);
    let (daemon, _) = start(&scratch, &["--blast-limit", "1"]);
    daemon.wait_up(6);
    let name = backends[0].address.to_string();
    let order = |action: Value| json!({ "policy": "www", "real_server": name, "action": action });
    let limited = json!({
        "policy": "www", "real_server": name, "action": { "weight": 7 }, "seconds": 60,
        "reason": "disk swap", "acts_for": "alice",
    });
    let stranger = json!({ "policy": "shop", "real_server": name, "action": "drain" });
    let endless = json!({ "policy": "www", "real_server": name, "action": "drain", "seconds": 0 });
    let mut asked = BTreeSet::new();
    let mut ask = |path: &'static str, method: &'static str, body: &Value, status: u16| {
        asked.insert((path.to_owned(), method.to_owned()));
        let operation = &document["paths"][path][method];
        assert!(is_order(operation), "{method} {path}");
        if status < 400 && method == "post" {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let checked = validate(&document, schema, body);
            assert!(checked.is_ok(), "{path}: {}\n{body:#}", checked.unwrap_err());
        }
        let answer = on_socket(&scratch, method, path, body).is(status);
        described(&document, path, method, &answer);
        answer.json()
    };
    for action in [json!("drain"), json!("disable"), json!({ "weight": 0 }), json!(null)] {
        ask("/v1/overrides", "post", &order(action), 200);
    }
    ask("/v1/overrides", "post", &limited, 200);
    ask("/v1/overrides", "post", &stranger, 404);
    ask("/v1/overrides", "post", &endless, 400);
    ask("/v1/plan-input", "get", &Value::Null, 200);
    ask("/v1/held", "get", &Value::Null, 409);
    ask("/v1/held", "post", &json!({ "hash": "1f" }), 409);
    ask("/v1/release", "post", &json!({}), 200);
    ask("/v1/release", "post", &json!(7), 400);
    backends[..2].iter().for_each(|it| it.answer(500));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 2);
    assert_eq!(ask("/v1/release", "post", &json!({ "acts_for": null }), 200)["held"], 2);
    scratch.write("www.yaml", &policy(VIP, &backends[4..], 80));
    daemon.wait("a reload that is held", |status| status["policies"]["held"].is_object());
    let held = ask("/v1/held", "get", &Value::Null, 200);
    ask("/v1/held", "post", &json!({ "hash": held["hash"] }), 200);
    let paths = document["paths"].as_object().unwrap().iter();
    let orders = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter().filter(|(_, it)| is_order(it));
        methods.map(|(method, _)| (path.clone(), method.clone()))
    });
    assert_eq!(orders.collect::<BTreeSet<_>>(), asked, "described, and not asked here");
}

fn on_socket(scratch: &Scratch, method: &str, path: &str, body: &Value) -> Answer {
    let mut stream = UnixStream::connect(scratch.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // Nobody reads what a GET carries, and a socket that is closed before it was read resets.
    let body = if method == "get" { String::new() } else { body.to_string() };
    let (method, length) = (method.to_uppercase(), body.len());
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    read_answer(&mut stream)
}

/// One event of each kind, with all that can be null and without.
#[test]
fn every_event_is_as_described() {
    let samples = [
        What::Started { version: "0.1.0".into(), pid: 7, dry_run: false },
        What::Stopped { cause: "SIGTERM".into() },
        What::Transition {
            policies: vec!["www".into()],
            address: "192.0.2.1:80".into(),
            name: Some("web-1".into()),
            check: "http".into(),
            from: Health::Unknown,
            to: Health::Down,
            reason: "connection refused".into(),
        },
        What::Verdict {
            policy: "www".into(),
            real_server: "web-1".into(),
            from: Health::Down,
            to: Health::Up,
            reason: None,
        },
        What::Flapping {
            policies: vec!["www".into()],
            address: "192.0.2.1:80".into(),
            name: Some("web-1".into()),
            check: "http".into(),
            hold_seconds: 60,
        },
        What::Change { service: VIP.into(), destination: None, name: None, change: "+".into() },
        What::Repair {
            service: VIP.into(),
            destination: Some("192.0.2.1:80".into()),
            name: Some("web-1".into()),
            change: "+".into(),
        },
        What::Refused { change: "+".into(), changes: 2, reason: "no such scheduler".into() },
        What::Trouble { reason: "busy".into() },
        What::TroubleOver,
        What::Reload { hash: "1f".into(), policies: 1, services: 2, confirmed_by: None },
        What::ReloadRefused { problems: vec!["www.yaml:1:1: no".into()] },
        What::ReloadHeld { hash: "1f".into(), removal: "all".into() },
        What::HeldConfirmed { removal: "all".into() },
        What::Override {
            policy: "www".into(),
            real_server: "web-1".into(),
            action: "drained".into(),
            by: "alice".into(),
            until: Some("2026-01-02T03:04:05Z".into()),
            reason: None,
        },
        What::OverrideEnded {
            policy: "www".into(),
            real_server: "web-1".into(),
            action: "drained".into(),
            by: None,
        },
        What::BlastLimit { lost: 6, addresses: 10 },
        What::BlastLimitOver { released_by: Some("alice".into()) },
        What::Floor { policy: "www".into(), state: FloorState::Withdrawn },
        What::Lost { events: 3 },
    ];
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let schema = json!({ "$ref": "#/components/schemas/Event" });
    for what in &samples {
        let event = Event { at: std::time::SystemTime::UNIX_EPOCH, what: what.clone() };
        let body = serde_json::to_value(&event).unwrap();
        let checked = validate(&document, &schema, &body);
        assert!(checked.is_ok(), "{}\n{body:#}", checked.unwrap_err());
    }
    // serde knows all kinds, and lists them for one that is none.
    let error = serde_json::from_value::<What>(json!({ "event": "none" })).unwrap_err().to_string();
    let kinds: BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
    let sampled: BTreeSet<&str> = samples.iter().map(What::name).collect();
    assert_eq!(kinds, sampled, "{error}");
    let all = document["components"]["schemas"]["Event"]["oneOf"].as_array().unwrap();
    let described = all.iter().map(|it| it["properties"]["event"]["const"].as_str().unwrap());
    assert_eq!(described.collect::<BTreeSet<&str>>(), kinds);
}

#[track_caller]
fn wait(ask: &impl Fn(&str) -> Answer, pointer: &str) {
    let there = || ask("/v1/status").json().pointer(pointer).is_some_and(|it| *it != json!(null));
    assert!(within(DEADLINE, there), "no {pointer} in the status");
}

#[test]
fn an_alarm_is_as_described_and_shows() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let machine = |last: u8| Backend::on([127, 0, 0, last].into(), 0).unwrap();
    let backends = [2, 3, 4].map(machine);
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &["--blast-limit", "1"]);
    daemon.wait_up(3);
    backends[..2].iter().for_each(|it| it.answer(500));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 2);
    let held = || get(address, "/metrics").body.contains("pointsman_blast_limit_held_targets 2\n");
    assert!(within(DEADLINE, held), "no alarm in the metrics");
    holds(&document, "/v1/status", &get(address, "/v1/status"));
    // They are in the table with a weight, and yet they do not answer.
    let ready = get(address, "/ready/www").is(200).body;
    assert!(ready.contains("1 of 3 real servers take connections"), "{ready}");
}

#[test]
fn parole_is_as_described_and_counted() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let backends = [2, 3, 4].map(|last: u8| Backend::on([127, 0, 0, last].into(), 0).unwrap());
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &["--blast-limit", "2"]);
    daemon.wait_up(3);
    backends.iter().for_each(|it| it.answer(500));
    daemon.wait("an alarm", |status| status["alarm"]["held"] == 3);
    // So that it does not end by itself.
    let text = policy(VIP, &backends, 80).replace("fall: 2", "fall: 1000");
    scratch.write("www.yaml", &text);
    daemon.wait_reloads(1);
    backends[1..].iter().for_each(|it| it.answer(200));
    let status = daemon.wait_up(2);
    assert!(status["real_servers"][0]["checks"][0]["parole"].is_u64(), "{status:#}");
    let counted = || {
        let page = get(address, "/metrics").body;
        page.contains("pointsman_blast_limit_active 0\n")
            && page.contains("pointsman_blast_limit_held_targets 1\n")
    };
    assert!(within(DEADLINE, counted), "not in the metrics");
    holds(&document, "/v1/status", &get(address, "/v1/status"));
    let explain = format!("/v1/explain?policy=www&real_server={}", backends[0].address);
    let answer = get(address, &explain);
    assert!(answer.json()["checks"][0]["parole"].is_u64(), "{}", answer.body);
    holds(&document, "/v1/explain", &answer);
}
