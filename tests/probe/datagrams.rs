//! Scripted peers that answer by datagrams, and the UDP check against them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{Check, CheckKind, Target, UdpCheck};
use tokio::net::UdpSocket;

use crate::support::{LONG, SHORT, contains, expect, probe, regex, target};

/// What a scripted peer sends back: to which datagram, counted from 0, with what in it.
pub(crate) type Script = fn(u32, &[u8]) -> Vec<Vec<u8>>;

/// A peer that answers by `script` until the test ends, and how many datagrams it got.
pub(crate) async fn answer(script: Script) -> (SocketAddr, Arc<AtomicU32>) {
    answer_on(UdpSocket::bind("127.0.0.1:0").await.unwrap(), script)
}

/// The same on this socket.
pub(crate) fn answer_on(socket: UdpSocket, script: Script) -> (SocketAddr, Arc<AtomicU32>) {
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        let mut datagram = [0; 65_536];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            let before = counter.fetch_add(1, Relaxed);
            for reply in script(before, &datagram[..length]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (address, count)
}

fn udp(address: SocketAddr, check: UdpCheck) -> Target {
    target(address, CheckKind::Udp(check), LONG)
}

fn ping(expected: &str) -> UdpCheck {
    UdpCheck { send: b"ping".to_vec(), expect: Some(contains(expected)) }
}

#[tokio::test]
async fn answers_are_judged_as_asked() {
    use Reason::{Content, Ok};
    let cases: [(&str, Script, UdpCheck, Reason, &str); 6] = [
        ("echo", |_, sent| vec![sent.to_vec()], ping("ping"), Ok, "does contain \"ping\""),
        (
            "bytes that no text has",
            |_, _| vec![vec![0xff, 0, 0x1b]],
            UdpCheck { send: vec![0xfe], expect: Some(regex("(?-u)^\\xff\\x00")) },
            Ok,
            "does match",
        ),
        (
            "something else",
            |_, _| vec![b"no\r\n".to_vec()],
            ping("pong"),
            Content,
            r#"the answer does not contain "pong"; it begins "no\r\n", 4 bytes"#,
        ),
        ("nothing in it", |_, _| vec![vec![]], ping("pong"), Content, "it begins \"\", 0 bytes"),
        (
            "much",
            |_, _| vec![vec![b'x'; 60_000]],
            ping("pong"),
            Content,
            "the beginning of the answer does not",
        ),
        (
            "the first two are lost",
            |before, _| if before < 2 { vec![] } else { vec![b"pong".to_vec()] },
            ping("pong"),
            Ok,
            "",
        ),
    ];
    for (name, script, check, reason, piece) in cases {
        let (address, _) = answer(script).await;
        let timeout = if name.contains("lost") { 5 * SHORT } else { LONG };
        let asked = target(address, CheckKind::Udp(check), timeout);
        expect(name, &probe(&asked).await, reason, piece);
    }
}

#[tokio::test]
async fn silence_fails_at_the_deadline_where_an_answer_is_expected() {
    let (address, count) = answer(|_, _| vec![]).await;
    let asked = target(address, CheckKind::Udp(ping("pong")), SHORT);
    expect("silence", &probe(&asked).await, Reason::HeadTimeout, "no answer within 400ms");
    assert_eq!(count.load(Relaxed), 3, "sent at the start, after a third and after two");
}

#[tokio::test]
async fn silence_passes_where_nothing_is_expected() {
    let (address, count) = answer(|_, _| vec![]).await;
    let asked = target(address, CheckKind::Udp(UdpCheck::default()), SHORT);
    expect("silence", &probe(&asked).await, Reason::Ok, "not refused");
    assert_eq!(count.load(Relaxed), 2);
    let (address, _) = answer(|_, _| vec![b"?".to_vec()]).await;
    let asked = udp(address, UdpCheck::default());
    expect("answer", &probe(&asked).await, Reason::Ok, "answered");
}

/// A port that nobody listens on is known at once, with or without an expectation.
#[tokio::test]
async fn a_closed_port_fails_at_once() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    for check in [UdpCheck::default(), ping("pong")] {
        let outcome = probe(&udp(address, check)).await;
        expect("closed", &outcome, Reason::Refused, &format!("port {} is closed", address.port()));
    }
}

/// Only the peer that was asked is heard: a stranger's answer to the probe's port does not count.
#[tokio::test]
async fn strangers_are_not_heard() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = target(socket.local_addr().unwrap(), CheckKind::Udp(ping("pong")), SHORT);
    let spoof = async {
        let (_, from) = socket.recv_from(&mut [0; 16]).await.unwrap();
        stranger.send_to(b"pong", from).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(probe(&asked), spoof);
    expect("stranger", &outcome, Reason::HeadTimeout, "no answer within");
}

#[tokio::test]
async fn the_director_lacks_the_same_as_for_tcp() {
    let (address, _) = answer(|_, sent| vec![sent.to_vec()]).await;
    let from = |source: Option<&str>, interface: Option<&str>| {
        let check = Check {
            source: source.map(|source| source.parse().unwrap()),
            interface: interface.map(str::to_owned),
            ..(*udp(address, ping("ping")).check).clone()
        };
        Target { check: Arc::new(check), ..udp(address, ping("ping")) }
    };
    use Reason::{Ok, Route};
    for (source, interface, reason, piece) in [
        (Some("127.0.0.80"), Some("lo"), Ok, ""),
        (Some("192.0.2.80"), None, Route, "not have the source address 192.0.2.80"),
        (None, Some("none0"), Route, "no interface `none0`"),
        (Some("::1"), None, Route, "::1 is of another family"),
    ] {
        expect("from", &probe(&from(source, interface)).await, reason, piece);
    }
    let unreachable = target("192.0.2.1:9".parse().unwrap(), CheckKind::Udp(ping("")), SHORT);
    let away = Target { check: from(Some("127.0.0.80"), None).check, ..unreachable };
    expect("loopback", &probe(&away).await, Route, "a loopback source stays on loopback");
}
