//! Hostile clients on the control socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, within};

fn connect(scratch: &Scratch) -> UnixStream {
    let stream = UnixStream::connect(scratch.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn descriptors(daemon: &Daemon<'_>) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

#[test]
fn two_hundred_silent_clients_keep_nobody_from_an_answer() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let before = descriptors(&daemon);
    let idle: Vec<UnixStream> = (0..200).map(|_| connect(&scratch)).collect();
    scratch.status(&[]).exit(0);
    let after = descriptors(&daemon);
    assert!(after < before + 64, "{after} descriptors after {before}");
    // They are sent away, the oldest first.
    let mut buffer = [0; 1];
    let ended = (&idle[0]).read(&mut buffer);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    scratch.status(&[]).exit(0);
    drop(idle);
    assert!(within(DEADLINE, || descriptors(&daemon) <= before), "descriptors are lost");
    daemon.wait_logged("transition", 2);
}

#[test]
fn garbage_and_halves_and_slow_readers_cost_nothing() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let mut daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let before = descriptors(&daemon);
    let endless = "X-Header: ".to_owned() + &"x".repeat(1 << 20);
    let mut held = Vec::new();
    for bytes in [
        &b"\x00\xff\x16\x03\x01 garbage \r\n\r\n"[..],
        b"GET /v1/status HTTP/1.1\r\nHo",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc",
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        endless.as_bytes(),
        // Asks and never reads.
        b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = connect(&scratch);
        // The daemon may hang up before all is said.
        let _ = stream.write_all(bytes);
        held.push(stream);
        scratch.status(&[]).exit(0);
    }
    assert!(daemon.is_alive());
    drop(held);
    assert!(within(DEADLINE, || descriptors(&daemon) <= before), "descriptors are lost");
    assert_eq!(daemon.logged("panicked").len(), 0, "{}", daemon.log());
}

#[test]
fn what_is_not_there_is_said_and_nothing_can_be_changed() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    for (request, status) in [
        ("GET /nothing HTTP/1.1", "404"),
        ("GET /v1/nothing HTTP/1.1", "404"),
        ("POST /v1/status HTTP/1.1", "405"),
        ("DELETE /v1/plan-input HTTP/1.1", "405"),
        ("GET /v1/status HTTP/1.1", "200"),
    ] {
        let mut stream = connect(&scratch);
        stream.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
}

#[test]
fn many_at_once_are_all_answered() {
    let scratch = Scratch::with_one();
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| scratch.status(&[]).code)).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), Some(0));
        }
    });
}
