//! Hostile readers, while probes go on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::http::{connect, get, start};
use crate::scratch::{DEADLINE, Scratch, within};

fn descriptors(daemon: &Daemon<'_>) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

/// Each backend is asked again, and again.
fn probes_go_on(backends: &[Backend]) {
    for backend in backends {
        let before = backend.requests();
        assert!(within(DEADLINE, || backend.requests() > before + 1), "no more probes");
    }
}

#[test]
fn two_hundred_silent_clients_keep_nobody_from_an_answer() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    let before = descriptors(&daemon);
    let idle: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    get(address, "/v1/status").is(200);
    let after = descriptors(&daemon);
    assert!(after < before + 160, "{after} descriptors after {before}");
    // They are sent away, the oldest first.
    let ended = (&idle[0]).read(&mut [0; 1]);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    probes_go_on(&backends);
    drop(idle);
    assert!(within(DEADLINE, || descriptors(&daemon) <= before + 1), "descriptors are lost");
    daemon.wait_logged("transition", 2);
}

#[test]
fn garbage_and_halves_and_slow_writers_cost_nothing() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (mut daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    let before = descriptors(&daemon);
    let endless = "GET / HTTP/1.1\r\nX-Header: ".to_owned() + &"x".repeat(1 << 20);
    let many = "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(10_000) + "\r\n";
    let mut held = Vec::new();
    for bytes in [
        &b"\x00\xff\x16\x03\x01 garbage \r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/status HTTP/1.1\r\nHo",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nabc",
        b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        endless.as_bytes(),
        many.as_bytes(),
        // Asks and never reads.
        b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut stream = connect(address);
        // The daemon may hang up before all is said.
        let _ = stream.write_all(bytes);
        held.push(stream);
        get(address, "/v1/status").is(200);
    }
    // A byte now and then: the deadline is for the whole head.
    let mut slow = connect(address);
    let cut = within(DEADLINE, || slow.write_all(b"G").is_err());
    assert!(cut, "a slow writer is never sent away");
    probes_go_on(&backends);
    assert!(daemon.is_alive());
    drop(held);
    assert!(within(DEADLINE, || descriptors(&daemon) <= before + 1), "descriptors are lost");
    assert_eq!(daemon.logged("panicked").len(), 0, "{}", daemon.log());
}

#[test]
fn a_hundred_at_once_are_all_answered() {
    let scratch = Scratch::with_one();
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(1);
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..100).map(|_| scope.spawn(|| get(address, "/v1/status").status)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
}
