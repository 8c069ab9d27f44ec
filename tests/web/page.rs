//! The status page and the events it shows.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::backend::Backend;
use crate::http::{get, start};
use crate::scratch::Scratch;

#[test]
fn it_needs_nothing_from_elsewhere() {
    let scratch = Scratch::with_one();
    let (_daemon, address) = start(&scratch, &[]);
    let page = get(address, "/").is(200);
    assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{}", page.head);
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    for elsewhere in ["src=", "href=", "@import", "url("] {
        assert!(!page.body.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn events_are_there_and_come() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let (daemon, address) = start(&scratch, &[]);
    daemon.wait_up(2);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    stream
        .write_all(format!("GET /v1/events/stream HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.contains("text/event-stream")));
    assert!(lines.by_ref().any(|line| line.is_empty()), "the head ends");
    backends[0].answer(503);
    let verdict = lines.find(|line| line.contains(r#""event":"verdict""#)).unwrap();
    assert!(verdict.starts_with("data: {") && verdict.contains(r#""to":"down""#), "{verdict}");

    let events = get(address, "/v1/events").is(200).json();
    let kinds: Vec<&str> =
        events.as_array().unwrap().iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["started", "reload"]);
    assert!(kinds.contains(&"verdict") && kinds.contains(&"change"), "{kinds:?}");
}
