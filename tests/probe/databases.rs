//! The checks of databases against servers that do everything wrong.

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, MysqlCheck, PostgresqlCheck};
use proptest::prelude::*;

use crate::support::{LONG, SHORT, Step, expect, probe, say, serve, target};

fn mysql() -> CheckKind {
    CheckKind::Mysql(MysqlCheck { user: "pointsman".to_owned() })
}

fn postgresql() -> CheckKind {
    let [user, database] = ["pointsman", "postgres"].map(str::to_owned);
    CheckKind::Postgresql(PostgresqlCheck { user, database })
}

/// All of them, with the beginning of an answer that may take its time.
fn all() -> [(CheckKind, &'static [u8]); 3] {
    [(CheckKind::Redis, b"+PONG"), (mysql(), b"\x4a\0\0\0\x0a"), (postgresql(), b"R\0\0\0\x17\0")]
}

#[tokio::test]
async fn broken_connections_say_how() {
    use Reason::{Closed, HeadTimeout, Reset};
    for (kind, begin) in all() {
        // MySQL speaks first; a server that closes with something unread resets.
        let first =
            if matches!(kind, CheckKind::Mysql(_)) { Step::Sleep(SHORT / 9) } else { Step::Read };
        let after = format!("closed after {} bytes of the answer", begin.len());
        for (name, script, reason, piece) in [
            ("closes", vec![first.clone()], Closed, "closed without saying anything"),
            ("closes in a word", vec![first, say(begin)], Closed, after.as_str()),
            ("resets", vec![Step::Reset], Reset, "connection reset by peer after 0 bytes"),
            ("hangs", vec![Step::Hang], HeadTimeout, "within 400ms (connected in "),
            ("drips", vec![Step::Drip(begin.repeat(9), SHORT / 4)], HeadTimeout, "within 400ms"),
        ] {
            let address = serve(script).await;
            let timeout = if reason == HeadTimeout { SHORT } else { LONG };
            let name = format!("{}: {name}", kind.name());
            expect(&name, &probe(&target(address, kind.clone(), timeout)).await, reason, piece);
        }
    }
}

#[tokio::test]
async fn other_servers_are_not_taken_for_databases() {
    for (name, text) in [
        ("SSH", b"SSH-2.0-x\r\n".to_vec()),
        ("SMTP", b"220 mail\r\n".to_vec()),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("TLS", b"\x15\x03\x01\0\x02\x02\x28\n".to_vec()),
        ("NULs", [0; 2000].to_vec()),
        ("ones", [0xff; 2000].to_vec()),
    ] {
        for (kind, _) in all() {
            let address = serve(vec![say(&text), Step::Hang]).await;
            let name = format!("{name} asked by {}", kind.name());
            expect(&name, &probe(&target(address, kind, LONG)).await, Reason::Protocol, "");
        }
    }
}

#[tokio::test]
async fn redis_answers_in_one_line() {
    let endless = vec![Step::Repeat(vec![b'+'; 999])];
    let address = serve(endless).await;
    let outcome = probe(&target(address, CheckKind::Redis, LONG)).await;
    expect("endless", &outcome, Reason::Protocol, "more than 1024 bytes without an end of line");
    let address = serve(vec![Step::Read, say("+PONG\r\n"), Step::Hang]).await;
    expect("PONG", &probe(&target(address, CheckKind::Redis, LONG)).await, Reason::Ok, "PONG");
}

/// A packet of MySQL.
fn packet(number: u8, content: &[u8]) -> Step {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    say([&length[..3], &[number], content].concat())
}

fn greeting() -> Step {
    packet(0, b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0\xff\xff")
}

#[tokio::test]
async fn mysql_is_judged_by_its_packets() {
    use Reason::{Closed, HeadTimeout, Ok, Protocol, Status};
    use Step::{Hang, Read};
    let error = |number, text: &[u8]| packet(number, text);
    for (name, script, reason, piece) in [
        (
            "accepts",
            vec![greeting(), Read, packet(2, &[0, 0, 0, 2, 0, 0, 0]), Hang],
            Ok,
            "8.0.36: login accepted",
        ),
        (
            "denies",
            vec![greeting(), Read, error(2, b"\xff\x15\x04#28000Access denied"), Hang],
            Ok,
            "8.0.36: login denied",
        ),
        (
            "denies after a switch",
            vec![
                greeting(),
                Read,
                packet(2, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"),
                Read,
                error(4, b"\xff\x15\x04#28000Access denied"),
            ],
            Ok,
            "8.0.36: login denied",
        ),
        (
            "asks for more",
            vec![greeting(), Read, packet(2, &[1, 4]), Hang],
            Ok,
            "asks for a password",
        ),
        (
            "wants TLS",
            vec![greeting(), Read, error(2, b"\xff\x57\x0c#HY000Connections using insecure")],
            Ok,
            "asks for TLS",
        ),
        (
            "is full",
            vec![error(0, b"\xff\x10\x04Too many connections")],
            Status,
            "instead of a greeting, error 1040: Too many connections",
        ),
        (
            "blocks",
            vec![error(0, b"\xff\x69\x04Host 'lb' is blocked")],
            Status,
            "error 1129: Host 'lb' is blocked; this concerns the director",
        ),
        (
            "shuts down",
            vec![greeting(), Read, error(2, b"\xff\x1d\x04#08S01Server shutdown")],
            Status,
            "to the login, error 1053: Server shutdown",
        ),
        ("errs without a word", vec![packet(0, &[0xff])], Status, "error 0: "),
        ("version 9", vec![packet(0, b"\x093.20\0")], Protocol, "not a MySQL server"),
        ("no end of version", vec![packet(0, b"\x0a8.0")], Protocol, "not a MySQL server"),
        ("an empty packet", vec![packet(0, b"")], Protocol, "not a MySQL server"),
        ("16 MiB", vec![say([0xff, 0xff, 0xff, 0, 10])], Protocol, "not a MySQL server"),
        ("an odd answer", vec![greeting(), Read, packet(2, b"\x42")], Protocol, "not a MySQL"),
        ("closes on login", vec![greeting(), Read], Closed, "closed after"),
        ("hangs on login", vec![greeting(), Hang], HeadTimeout, "no answer to the login within"),
        (
            "switches for ever",
            vec![greeting(), Read, packet(2, b"\xfea\0"), Read, packet(4, b"\xfea\0"), Hang],
            Protocol,
            "not a MySQL server",
        ),
    ] {
        let address = serve(script).await;
        let timeout = if reason == HeadTimeout { SHORT } else { LONG };
        expect(name, &probe(&target(address, mysql(), timeout)).await, reason, piece);
    }
}

/// A message of PostgreSQL.
fn message(of_type: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
    [&[of_type], &length[..], content].concat()
}

#[tokio::test]
async fn postgresql_is_judged_by_its_messages() {
    use Reason::{Closed, HeadTimeout, Ok, Protocol, Status};
    use Step::{Hang, Read};
    let asks = |code: u8| message(b'R', &[0, 0, 0, code]);
    let parameter = message(b'S', b"server_version\x0015.0\0");
    let error = |code: &str| message(b'E', format!("SFATAL\0C{code}\0Mno, no\0\0").as_bytes());
    let begun = [asks(0), parameter.clone(), message(b'K', &[0; 8])].concat();
    for (name, answer, reason, piece) in [
        ("SASL", message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"), Ok, "asks for a password"),
        ("MD5", message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]), Ok, "asks for a password"),
        ("trust", [begun.clone(), message(b'Z', b"I")].concat(), Ok, "session ready"),
        ("denied", error("28000"), Ok, "login denied"),
        ("wrong password", error("28P01"), Ok, "login denied"),
        ("trust, denied", [asks(0), error("28000")].concat(), Ok, "login denied"),
        ("starting up", error("57P03"), Status, "error 57P03: no, no"),
        ("full", error("53300"), Status, "error 53300"),
        ("no database", [asks(0), error("3D000")].concat(), Status, "error 3D000"),
        ("errs without a word", message(b'E', b""), Status, "error"),
        ("half a request", message(b'R', &[0, 0]), Protocol, "not a PostgreSQL server"),
        ("a short length", b"R\0\0\0\x03".to_vec(), Protocol, "not a PostgreSQL server"),
        ("2 GiB", b"R\x7f\xff\xff\xff".to_vec(), Protocol, "begins \"R\\x7f\\xff\\xff\\xff\""),
        ("an SSL answer", b"S".to_vec(), Closed, "closed after 1 byte"),
        ("endless parameters", parameter.repeat(99), Protocol, "64 messages and no session"),
        ("begins and closes", begun.clone(), Closed, "closed after"),
    ] {
        let address = serve(vec![Read, say(answer)]).await;
        expect(name, &probe(&target(address, postgresql(), LONG)).await, reason, piece);
    }
    let address = serve(vec![Read, say(begun), Hang]).await;
    let outcome = probe(&target(address, postgresql(), SHORT)).await;
    expect("begins and hangs", &outcome, HeadTimeout, "no session within 400ms");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever a server says before it closes, the probe ends by itself and says something.
    #[test]
    fn no_words_break_the_prober(
        text in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0), Just(10), Just(b'R'), Just(b'E'), Just(0xff)], 0..200,
        ),
        which in 0_usize..3,
    ) {
        let kind = [CheckKind::Redis, mysql(), postgresql()][which].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let address = serve(vec![say(&text)]).await;
            probe(&target(address, kind, LONG)).await
        });
        prop_assert!(outcome.phases.ended < LONG, "{outcome:?}");
        prop_assert!(!outcome.detail.is_empty());
        prop_assert!(!outcome.detail.contains(char::is_control), "{outcome:?}");
    }
}
