//! The director's own trouble is inconclusive and says what is missing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman::health::OutcomeKind;
use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{Check, Target, TcpCheck};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{LONG, SHORT, Step, expect, get, http, in_child, probe, say, serve, tcp};

fn from(target: &Target, source: Option<&str>, interface: Option<&str>) -> Target {
    let check = Check {
        source: source.map(|source| source.parse::<IpAddr>().unwrap()),
        interface: interface.map(str::to_owned),
        ..Check::new(target.check.kind.clone())
    };
    Target { check: Arc::new(check), ..target.clone() }
}

#[tokio::test]
async fn what_the_director_lacks_is_not_the_real_servers_fault() {
    let address = serve(vec![Step::Hang]).await;
    let target = tcp(address, TcpCheck::default(), LONG);
    for (name, source, interface, reason, piece) in [
        ("source", Some("127.0.0.77"), None, Reason::Ok, "connected"),
        ("interface", None, Some("lo"), Reason::Ok, "connected"),
        ("both", Some("127.0.0.77"), Some("lo"), Reason::Ok, "connected"),
        (
            "source",
            Some("192.0.2.77"),
            None,
            Reason::Route,
            "not have the source address 192.0.2.77",
        ),
        ("interface", None, Some("none0"), Reason::Route, "no interface `none0`"),
        ("family", Some("::1"), None, Reason::Route, "::1 is of another family"),
    ] {
        expect(name, &probe(&from(&target, source, interface)).await, reason, piece);
    }
}

#[tokio::test]
async fn the_source_is_the_one_that_was_asked_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = from(&tcp(address, TcpCheck::default(), LONG), Some("127.0.0.78"), None);
    let (outcome, accepted) = tokio::join!(probe(&target), listener.accept());
    expect("source", &outcome, Reason::Ok, "connected");
    assert_eq!(accepted.unwrap().1.ip(), "127.0.0.78".parse::<IpAddr>().unwrap());
}

/// Bound source addresses share ports between real servers, and repeat them for one only when
/// there is no other.
#[tokio::test]
async fn a_bound_source_does_not_use_up_ports() {
    let address = serve(vec![Step::Request, say("HTTP/1.1 200 OK\r\n\r\n")]).await;
    let target = from(&http(address, get(), LONG), Some("127.0.0.79"), None);
    for _ in 0..300 {
        expect("bound", &probe(&target).await, Reason::Ok, "status 200");
    }
}

#[test]
fn no_descriptors_is_inconclusive() {
    in_child("local::no_descriptors_is_inconclusive", &[], || async {
        let address = serve(vec![Step::Hang]).await;
        let target = tcp(address, TcpCheck::default(), LONG);
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
        let starved = probe(&target).await;
        setrlimit(Resource::Nofile, limit).unwrap();
        expect("starved", &starved, Reason::Resources, "too many open files; raise the limit");
        assert_eq!(starved.kind, OutcomeKind::Inconclusive);
        expect("fed", &probe(&target).await, Reason::Ok, "connected");
    });
}

/// Loopback in a child that is told of a proxy that does not exist: nobody asks it.
#[test]
fn proxies_of_the_environment_are_not_used() {
    let proxy = std::ffi::OsStr::new("http://127.0.0.1:9");
    let environment = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .map(|name| (name, proxy));
    in_child("local::proxies_of_the_environment_are_not_used", &environment, || async {
        let address = serve(vec![Step::Request, say("HTTP/1.1 200 OK\r\n\r\n")]).await;
        expect("proxy", &probe(&http(address, get(), LONG)).await, Reason::Ok, "status 200");
    });
}

/// The real server sees the end of the connection when the deadline strikes or the probe is
/// dropped: nothing is left running.
#[tokio::test]
async fn nothing_outlives_a_probe() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let at_deadline = http(address, get(), SHORT);
    let (outcome, mut stream) = tokio::join!(probe(&at_deadline), accept(&listener));
    expect("deadline", &outcome, Reason::HeadTimeout, "no response head");
    read_to_end(&mut stream).await;

    let dropped = http(address, get(), LONG);
    let prober = NetworkProber::new();
    let mut stream = tokio::select! {
        outcome = prober.probe(&dropped) => panic!("{outcome:?}"),
        stream = accept(&listener) => stream,
    };
    read_to_end(&mut stream).await;
}

async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    listener.accept().await.unwrap().0
}

async fn read_to_end(stream: &mut tokio::net::TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut request = Vec::new();
    let all = stream.read_to_end(&mut request);
    tokio::time::timeout(LONG, all).await.expect("the socket is still open").unwrap();
}

/// A director that got no processor for a while may have an answer lying there unread.
#[tokio::test]
async fn a_director_that_stood_still_blames_nobody() {
    let address = serve(vec![Step::Hang]).await;
    let target = http(address, get(), Duration::from_millis(100));
    let stall = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::thread::park_timeout(Duration::from_millis(400));
    };
    let prober = NetworkProber::new();
    let (outcome, ()) = tokio::join!(prober.probe(&target), stall);
    expect("stalled", &outcome, Reason::Resources, "the director was too busy to look");
    assert_eq!(outcome.kind, OutcomeKind::Inconclusive);
}
