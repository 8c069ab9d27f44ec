//! What each route says, and when it says the contrary.

use serde_json::Value;

use crate::backend::Backend;
use crate::http::{get, request, start};
use crate::scratch::{DEADLINE, Scratch, VIP, policy, within};

#[test]
fn a_daemon_at_work_says_so() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    assert_eq!(get(address, "/healthz").is(200).body, "ok\n");
    assert!(within(DEADLINE, || get(address, "/readyz").status == 200));
    assert_eq!(get(address, "/readyz").body, "ready\n");
    let status = get(address, "/v1/status").is(200).json();
    assert_eq!(status["real_servers"].as_array().unwrap().len(), 2);
    let server = backends[0].address.to_string();
    let explained = get(address, &format!("/v1/explain?policy=www&real_server={server}"));
    assert_eq!(explained.is(200).json()["real_server"], server);
    assert_eq!(get(address, "/v1/overrides").is(200).json(), Value::Array(vec![]));
    scratch.order(&["drain", "www", &server]).exit(0);
    let drained = || get(address, "/v1/overrides").json().as_array().unwrap().len() == 1;
    assert!(within(DEADLINE, drained), "an override is not shown");
}

#[test]
fn a_service_is_ready_while_enough_of_its_servers_take_connections() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let scratch = Scratch::new();
    let text =
        policy(VIP, &backends, 80) + "health_floor: { min_up: 2 }\nsorry_server: 192.0.2.9\n";
    scratch.write("www.yaml", &text);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(3);
    let ready = |path: &str, status: u16, says: &str| {
        let mut last = None;
        let found = within(DEADLINE, || {
            let answer = get(address, path);
            let found = answer.status == status && answer.body.contains(says);
            last = Some(answer);
            found
        });
        assert!(found, "{path} is not {status} with `{says}`: {last:?}");
    };
    for path in ["/ready/tcp://192.0.2.10:80", "/ready/tcp%3A%2F%2F192.0.2.10%3A80", "/ready/www"] {
        ready(path, 200, "3 of 3 real servers take connections, 2 needed");
    }
    backends[0].answer(500);
    ready("/ready/www", 200, "2 of 3 real servers take connections, 2 needed");
    // The floor keeps a second one in the table, and it does not count.
    backends[1].answer(500);
    ready("/ready/www", 503, "1 of 3 real servers take connections, 2 needed");
    backends[2].answer(500);
    ready("/ready/www", 503, "0 of 3");
    backends.iter().for_each(|it| it.answer(200));
    ready("/ready/www", 200, "3 of 3");
    let none = get(address, "/ready/nobody").is(404).json();
    assert!(none["error"].as_str().unwrap().contains("`nobody`"), "{none}");
    get(address, "/ready/tcp://192.0.2.11:80").is(404);
}

#[test]
fn before_the_first_verdicts_it_is_alive_and_not_ready() {
    let backend = Backend::start();
    backend.hang();
    let scratch = Scratch::new();
    let slow = policy(VIP, std::slice::from_ref(&backend), 80).replace("900ms", "50s");
    scratch.write("www.yaml", &slow.replace("interval: 1s", "interval: 60s"));
    let (_daemon, address) = start(&scratch, &[]);
    get(address, "/healthz").is(200);
    let waiting = get(address, "/readyz").is(503);
    assert!(waiting.body.contains("1 of 1 checks have no verdict yet"), "{waiting:?}");
}

#[test]
fn what_is_not_there_or_not_for_readers_is_said_in_json() {
    let scratch = Scratch::with_one();
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(1);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/v1/plan-input", 404),
        ("POST", "/v1/release", 404),
        ("POST", "/v1/status", 405),
        ("POST", "/v1/overrides", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/v1/explain", 400),
        ("GET", "/v1/explain?policy=www", 400),
        ("GET", "/v1/explain?policy=nobody&real_server=x", 404),
        ("GET", "/ready/%ff", 400),
        ("GET", "/../../etc/passwd", 404),
    ] {
        let answer = request(address, method, path, &[]).is(status);
        assert!(answer.json()["error"].is_string(), "{method} {path}: {answer:?}");
    }
    assert!(request(address, "PUT", "/v1/status", &[]).head.contains("allow: get,head"));
    for path in ["/healthz", "/v1/status", "/v1/openapi.json"] {
        let head = request(address, "HEAD", path, &[]).is(200);
        assert_eq!(head.body, "", "{path}");
        assert!(!head.head.contains("content-length: 0\r\n"), "{head:?}");
    }
}

#[test]
fn the_socket_serves_the_same_reads() {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    let scratch = Scratch::with_one();
    let (daemon, _) = start(&scratch, &[]);
    daemon.wait_up(1);
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/ready/www", 200),
        ("/v1/openapi.json", 200),
        ("/x", 404),
    ] {
        let mut stream = UnixStream::connect(scratch.socket()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: pointsman\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        crate::http::read_answer(&mut stream).is(status);
    }
}
