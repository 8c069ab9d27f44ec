//! HTTP against servers that do everything wrong.

use std::time::Duration;

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::HttpCheck;
use proptest::prelude::*;

use crate::support::{LONG, SHORT, Step, case, contains, get, say};

const SECOND: Duration = Duration::from_secs(1);
const OK: &str = "HTTP/1.1 200 OK\r\n";

fn head(rest: &str) -> Step {
    say(format!("{OK}{rest}\r\n"))
}

/// Scripts that must fail before the deadline.
fn broken() -> Vec<(&'static str, Vec<Step>, Reason, &'static str)> {
    use Step::{Request, Reset};
    vec![
        ("resets after accept", vec![Reset], Reason::Reset, "reset before an answer"),
        ("resets after the request", vec![Request, Reset], Reason::Reset, "reset before an answer"),
        ("closes without a word", vec![Request], Reason::Closed, "closed before an answer"),
        (
            "closes in the head",
            vec![Request, say("HTTP/1.1 200 OK\r\nServer: x")],
            Reason::Closed,
            "closed 26 bytes into the response head",
        ),
        (
            "closes in the body",
            vec![Request, head("Content-Length: 1000\r\n"), say("only these")],
            Reason::Closed,
            "the body ended after 10 of 1000 bytes",
        ),
        (
            "resets in the body",
            vec![Request, head("Content-Length: 1000\r\n"), say("some"), Reset],
            Reason::Reset,
            "of 1000 bytes",
        ),
        (
            "closes in a chunked body",
            vec![Request, head("Transfer-Encoding: chunked\r\n"), say("5\r\nhello\r\n")],
            Reason::Closed,
            "after 5 bytes",
        ),
        ("garbage", vec![Request, say([0x16, 3, 1, 0, 2, 2, 40])], Reason::Protocol, "not an HTTP"),
        ("an SSH server", vec![say("SSH-2.0-x\r\n"), Request], Reason::Protocol, "not an HTTP"),
        ("HTTP/0.9", vec![Request, say("<html>alive</html>\n")], Reason::Protocol, "not an HTTP"),
        ("HTTP/2", vec![Request, say("HTTP/2 200 OK\r\n\r\n")], Reason::Protocol, "not an HTTP"),
        ("NUL in a header", vec![Request, head("A: b\0c\r\n")], Reason::Protocol, "not an HTTP"),
        ("NULs", vec![Request, say([0; 4096])], Reason::Protocol, "not an HTTP"),
        (
            "status of four digits",
            vec![Request, say("HTTP/1.1 2000 OK\r\n\r\n")],
            Reason::Protocol,
            "not an HTTP",
        ),
        (
            "negative Content-Length",
            vec![Request, head("Content-Length: -5\r\n"), say("hello")],
            Reason::Protocol,
            "not an HTTP",
        ),
        (
            "two Content-Lengths",
            vec![Request, head("Content-Length: 5\r\nContent-Length: 6\r\n"), say("hello")],
            Reason::Protocol,
            "not an HTTP",
        ),
        (
            "Content-Length past 64 bits",
            vec![Request, head("Content-Length: 99999999999999999999999\r\n"), say("hello")],
            Reason::Protocol,
            "not an HTTP",
        ),
        (
            "more than Content-Length",
            vec![Request, say(format!("{OK}Content-Length: 2\r\n\r\nhello"))],
            Reason::Protocol,
            "at least 3 bytes more than the Content-Length of 2: \"llo\"",
        ),
        (
            "a chunk size that is none",
            vec![Request, head("Transfer-Encoding: chunked\r\n"), say("xyz\r\nhello\r\n")],
            Reason::Protocol,
            "of body",
        ),
        (
            "a chunk size past 64 bits",
            vec![Request, head("Transfer-Encoding: chunked\r\n"), say("fffffffffffffffff\r\n")],
            Reason::Protocol,
            "of body",
        ),
        (
            "a thousand headers",
            vec![Request, head(&"A: b\r\n".repeat(1000))],
            Reason::HeadSize,
            "response head of more than",
        ),
        (
            "an endless head",
            vec![Request, say(OK), Step::Repeat(b"A: bbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".to_vec())],
            Reason::HeadSize,
            "response head of more than 16 KiB",
        ),
        (
            "an endless header",
            vec![Request, say(OK), say("A: "), Step::Repeat(vec![b'b'; 1000])],
            Reason::HeadSize,
            "response head of more than 16 KiB",
        ),
        (
            "endless interim responses",
            vec![Request, Step::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())],
            Reason::HeadSize,
            "more than 512 KiB without an end",
        ),
        (
            "an endless body",
            vec![Request, head(""), Step::Repeat(vec![b'x'; 1000])],
            Reason::BodySize,
            "more than 64 KiB of body without an end",
        ),
        (
            "an endless chunked body",
            vec![
                Request,
                head("Transfer-Encoding: chunked\r\n"),
                Step::Repeat(b"a\r\n0123456789\r\n".to_vec()),
            ],
            Reason::BodySize,
            "more than 64 KiB of body without an end",
        ),
        (
            "an endless chunk extension",
            vec![
                Request,
                head("Transfer-Encoding: chunked\r\n"),
                say("5;"),
                Step::Repeat(vec![b'x'; 1000]),
            ],
            Reason::Protocol,
            "of body",
        ),
    ]
}

#[tokio::test]
async fn broken_answers_fail_at_once_and_say_why() {
    for (name, script, reason, piece) in broken() {
        case(name, script, get(), LONG, reason, piece).await;
    }
}

/// Scripts that must fail at the deadline.
fn slow() -> Vec<(&'static str, Vec<Step>, Reason, &'static str)> {
    use Step::{Drip, Hang, Request};
    vec![
        ("hangs after accept", vec![Hang], Reason::HeadTimeout, "no response head within 400ms"),
        (
            "hangs after the request",
            vec![Request, Hang],
            Reason::HeadTimeout,
            "no response head within 400ms (connected in ",
        ),
        (
            "hangs in the head",
            vec![Request, say("HTTP/1.1 200"), Hang],
            Reason::HeadTimeout,
            "12 bytes of it came)",
        ),
        (
            "hangs after an interim response",
            vec![Request, say("HTTP/1.1 103 Early Hints\r\n\r\n"), Hang],
            Reason::HeadTimeout,
            "response head not complete within 400ms",
        ),
        (
            "hangs in the body",
            vec![Request, head("Content-Length: 1000\r\n"), say("only these 17 bytes"), Hang],
            Reason::BodyTimeout,
            "body not complete within 400ms (19 of 1000 bytes)",
        ),
        (
            "hangs in a body without a length",
            vec![Request, head(""), say("only these 19 bytes"), Hang],
            Reason::BodyTimeout,
            "body not complete within 400ms (19 bytes)",
        ),
        (
            "a byte a second of head",
            vec![Request, Drip(OK.into(), SECOND)],
            Reason::HeadTimeout,
            "within 400ms",
        ),
        (
            "a byte in 50 ms of endless head",
            vec![Request, say(OK), Drip(b"A: b\r\n".repeat(100), SECOND / 20)],
            Reason::HeadTimeout,
            "response head not complete within 400ms",
        ),
        (
            "a byte a second of body",
            vec![Request, head("Content-Length: 9\r\n"), Drip(b"too slow!".to_vec(), SECOND)],
            Reason::BodyTimeout,
            "(0 of 9 bytes)",
        ),
        (
            "a byte in 20 ms of endless body",
            vec![Request, head(""), Drip(vec![b'x'; 1000], SECOND / 50)],
            Reason::BodyTimeout,
            "body not complete within 400ms",
        ),
    ]
}

#[tokio::test]
async fn slow_answers_fail_at_the_deadline_and_say_where() {
    for (name, script, reason, piece) in slow() {
        case(name, script, get(), SHORT, reason, piece).await;
    }
}

#[tokio::test]
async fn a_wrong_status_does_not_wait_for_the_body() {
    let script =
        vec![Step::Request, say("HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n"), Step::Hang];
    case("503", script, get(), LONG, Reason::Status, "status 503, expected 200-399").await;
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        Just(&b""[..]),
        Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\n\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\nContent-Length: "[..]),
        Just(&b"HTTP/1.0 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"[..]),
    ];
    (head, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(head, rest)| [head, &rest[..]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a server says, the probe ends, and ends before the deadline once it has closed.
    #[test]
    fn no_answer_breaks_the_prober(answer in answers(), with_body: bool) {
        let body = if with_body { vec![contains("alive")] } else { Vec::new() };
        let check = HttpCheck { body, ..get() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let address = crate::support::serve(vec![Step::Request, say(&answer)]).await;
            crate::support::probe(&crate::support::http(address, check, LONG)).await
        });
        prop_assert!(outcome.phases.ended < LONG, "{outcome:?}");
        prop_assert!(!outcome.detail.is_empty());
    }
}
