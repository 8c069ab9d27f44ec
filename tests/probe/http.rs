//! HTTP against servers that answer properly, as expected and otherwise.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get as route};
use pointsman::probe::outcome::Reason;
use pointsman::probe::target::HttpCheck;
use tokio::net::TcpListener;

use crate::support::{
    LONG, SHORT, Step, case, contains, expect, get, http, probe, regex, say, serve,
};

/// A web server on loopback, and the heads of the requests it has seen.
async fn web() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let echo = move |request: Request| {
        let head = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        log.lock().unwrap().push(head);
        async { "alive\n" }
    };
    let router = Router::new()
        .route("/alive", any(echo))
        .route("/moved", route(|| async { Redirect::to("/nowhere") }))
        .route("/503", route(|| async { StatusCode::SERVICE_UNAVAILABLE }))
        .route("/empty", route(|| async { StatusCode::NO_CONTENT }))
        .route("/large", route(|| async { "x".repeat(1_000_000) }))
        .route("/headers", route(headers));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, seen)
}

async fn headers() -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.append("x-ready", "no".parse().unwrap());
    headers.append("x-ready", "yes: 42".parse().unwrap());
    headers.insert(header::SERVER, "tests".parse().unwrap());
    (headers, "fine")
}

fn at(path: &str) -> HttpCheck {
    HttpCheck { path: path.to_owned(), ..get() }
}

#[tokio::test]
async fn answers_are_judged_as_asked() {
    use Reason::{Content, Header, Ok, Status};
    let (address, _) = web().await;
    let status = |first, last| vec![(first, last)];
    let header = |name: &str, condition| vec![(name.to_owned(), condition)];
    for (check, reason, piece) in [
        (at("/alive"), Ok, "status 200"),
        (at("/alive?really=yes"), Ok, "status 200"),
        (HttpCheck { method: "HEAD".to_owned(), ..at("/large") }, Ok, "status 200"),
        (HttpCheck { method: "POST".to_owned(), ..at("/alive") }, Ok, "status 200"),
        (at("/empty"), Ok, "status 204"),
        (at("/large"), Ok, "status 200"),
        (HttpCheck { body: vec![contains("xxx")], ..at("/large") }, Ok, ""),
        (HttpCheck { body: vec![contains("y")], ..at("/large") }, Content, "65536 bytes"),
        (at("/503"), Status, "status 503, expected 200-399"),
        (HttpCheck { status: status(503, 503), ..at("/503") }, Ok, "status 503"),
        (at("/moved"), Ok, "status 303"),
        (
            HttpCheck { status: vec![(200, 200), (204, 206)], ..at("/moved") },
            Status,
            "status 303, expected 200, 204-206 (redirects to \"/nowhere\", not followed)",
        ),
        (HttpCheck { body: vec![contains("live"), regex("(?m)^a.*e$")], ..at("/alive") }, Ok, ""),
        (
            HttpCheck { body: vec![contains("alive"), contains("well")], ..at("/alive") },
            Content,
            r#"the body does not contain "well"; it begins "alive\n", 6 bytes"#,
        ),
        (HttpCheck { body: vec![regex("^dead")], ..at("/alive") }, Content, "not match /^dead/"),
        (HttpCheck { body: vec![contains("x")], ..at("/empty") }, Content, "the body is empty"),
        (
            HttpCheck { response_headers: header("x-ready", contains("yes")), ..at("/headers") },
            Ok,
            "",
        ),
        (
            HttpCheck {
                response_headers: header("x-ready", regex("^yes: [0-9]+$")),
                ..at("/headers")
            },
            Ok,
            "",
        ),
        (
            HttpCheck { response_headers: header("x-ready", contains("ja")), ..at("/headers") },
            Header,
            r#"response header `x-ready` does not contain "ja": "no""#,
        ),
        (
            HttpCheck { response_headers: header("x-gone", contains("")), ..at("/headers") },
            Header,
            "no response header `x-gone`",
        ),
    ] {
        let name = format!("{check:?}");
        let outcome = probe(&http(address, check, LONG)).await;
        expect(&name, &outcome, reason, piece);
        assert!(outcome.phases.connected <= outcome.phases.first_byte, "{name}: {outcome:?}");
        assert!(outcome.phases.first_byte <= Some(outcome.phases.ended), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn the_request_is_as_the_policy_says() {
    let (address, seen) = web().await;
    let headers = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let default_host = format!("\"host\": \"{address}\"");
    let version = concat!("\"user-agent\": \"pointsman/", env!("CARGO_PKG_VERSION"), "\"");
    for (check, pieces) in [
        (at("/alive"), vec!["GET /alive ", &default_host, version, "\"connection\": \"close\""]),
        (
            HttpCheck { method: "PURGE".to_owned(), ..at("/alive?a=b%20c") },
            vec!["PURGE /alive?a=b%20c "],
        ),
        (
            HttpCheck { host: Some("www.example.org".to_owned()), ..at("/alive") },
            vec!["\"host\": \"www.example.org\""],
        ),
        (
            HttpCheck {
                host: Some("ignored.example.org".to_owned()),
                headers: headers(&[
                    ("Host", "own.example.org"),
                    ("user-agent", "me"),
                    ("Connection", "keep-alive"),
                    ("X-A", "1"),
                    ("X-A", "2"),
                ]),
                ..at("/alive")
            },
            vec![
                "\"host\": \"own.example.org\"",
                "\"user-agent\": \"me\"",
                "\"connection\": \"keep-alive\"",
                "\"x-a\": \"1\"",
                "\"x-a\": \"2\"",
            ],
        ),
    ] {
        let name = format!("{check:?}");
        expect(&name, &probe(&http(address, check, LONG)).await, Reason::Ok, "status 200");
        let head = seen.lock().unwrap().pop().unwrap();
        for piece in pieces {
            assert!(head.contains(piece), "{name}: `{head}` lacks `{piece}`");
        }
        assert_eq!(head.matches("\"host\"").count(), 1, "{head}");
    }
}

#[tokio::test]
async fn healthy_oddities_pass() {
    use Step::{Drip, Hang, Request};
    let ok = || say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive");
    let alive = || HttpCheck { body: vec![contains("alive")], ..get() };
    let million = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    for (name, script) in [
        ("keeps the connection open", vec![Request, ok(), Hang]),
        ("answers before it is asked", vec![ok(), Hang]),
        ("answers without listening and closes", vec![ok()]),
        ("answers, closes and resets", vec![ok(), Step::Reset]),
        (
            "interim responses first",
            vec![Request, say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 H\r\n\r\n"), ok()],
        ),
        (
            "a body that ends with the connection",
            vec![Request, say("HTTP/1.0 200 OK\r\n\r\nI am alive")],
        ),
        (
            "chunks",
            vec![
                Request,
                say(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nali\r\n2\r\nve\r\n0\r\n\r\n",
                ),
                Hang,
            ],
        ),
        ("no reason phrase", vec![Request, say("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nalive")]),
        (
            "slow but in time",
            vec![
                Request,
                Drip(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive".to_vec(),
                    Duration::from_millis(10),
                ),
                Hang,
            ],
        ),
        ("more body than is read", vec![Request, say(million), say("alive".repeat(20_000)), Hang]),
        (
            "a line break too many",
            vec![Request, say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive\r\n")],
        ),
        (
            "exactly 64 KiB",
            vec![Request, say("HTTP/1.1 200 OK\r\n\r\nalive"), say("x".repeat(65_531))],
        ),
    ] {
        case(name, script, alive(), LONG, Reason::Ok, "status 200").await;
    }
    let switch = HttpCheck {
        headers: vec![
            ("Connection".to_owned(), "Upgrade".to_owned()),
            ("Upgrade".to_owned(), "websocket".to_owned()),
        ],
        status: vec![(101, 101)],
        ..get()
    };
    let switches = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let script = vec![Request, say(switches), Hang];
    case("websocket", script, switch, LONG, Reason::Ok, "status 101").await;
    let head = HttpCheck { method: "HEAD".to_owned(), ..get() };
    case("HEAD", vec![Request, say(million), Hang], head, LONG, Reason::Ok, "status 200").await;
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = probe(&http(address, get(), LONG)).await;
    expect("closed port", &outcome, Reason::Refused, &format!("port {} is closed", address.port()));
    assert_eq!(outcome.phases.connected, None);
}

/// A listener whose queue is full leaves the kernel to drop what else comes.
#[tokio::test]
async fn a_server_that_does_not_accept_times_out() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _filling = std::net::TcpStream::connect(address).unwrap();
    let outcome = probe(&http(address, get(), SHORT)).await;
    expect("full queue", &outcome, Reason::ConnectTimeout, "not connected within 400ms");
}

/// Policies refuse these; a check that got past them says nothing about the real server.
#[tokio::test]
async fn requests_that_cannot_be_sent_blame_nobody() {
    let address = serve(vec![Step::Hang]).await;
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (check, piece) in [
        (HttpCheck { method: "GE T".to_owned(), ..get() }, "`GE T` is not an HTTP method"),
        (HttpCheck { path: "/a b".to_owned(), ..get() }, "path `/a b`"),
        (HttpCheck { host: Some("a\nb".to_owned()), ..get() }, "cannot be sent"),
        (HttpCheck { headers: header("a b", "c"), ..get() }, "`a b` is not a header name"),
        (HttpCheck { headers: header("a", "b\r\nc: d"), ..get() }, "header `a` has a character"),
    ] {
        let outcome = probe(&http(address, check, LONG)).await;
        expect("nothing asked", &outcome, Reason::Resources, piece);
    }
}
