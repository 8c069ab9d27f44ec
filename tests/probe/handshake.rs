//! The TLS check: a handshake alone.

use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, TlsCheck, Verify};

use crate::support::{LONG, SHORT, Step, expect, probe, say, serve, target};
use crate::tls::{NAME, authority, ca, days_from_now, issued, serve_tls, tls};

fn check(verify: Verify, server_name: Option<&str>) -> TlsCheck {
    TlsCheck { server_name: server_name.map(str::to_owned), ..tls(verify) }
}

#[tokio::test]
async fn a_handshake_is_enough() {
    let authority = authority();
    let trust = || ca(&authority.pem());
    let lasting =
        |days| issued(&authority, &[NAME], |it| it.not_after = days_from_now(days).not_after);
    for (name, days, check, reason, piece) in [
        (
            "good",
            89,
            check(trust(), Some(NAME)),
            Reason::Ok,
            "TLS 1.3, the certificate expires in 89 days (on ",
        ),
        ("anybody", 89, check(Verify::Nobody, None), Reason::Ok, "TLS 1.3, "),
        ("another name", 89, check(trust(), Some("mail.example.org")), Reason::Certificate, NAME),
        ("the address", 89, check(trust(), None), Reason::Certificate, "not for 127.0.0.1"),
        (
            "soon",
            9,
            TlsCheck { min_days: Some(14), ..check(trust(), Some(NAME)) },
            Reason::Expiry,
            "the certificate expires in 9 days (on ",
        ),
    ] {
        let (address, _told) = serve_tls(lasting(days)).await;
        let outcome = probe(&target(address, CheckKind::Tls(check), LONG)).await;
        expect(name, &outcome, reason, piece);
        assert!(outcome.phases.tls.is_some() || reason == Reason::Certificate, "{outcome:?}");
    }
}

#[tokio::test]
async fn servers_without_tls_fail() {
    for (name, script, reason, piece) in [
        ("a mail server", vec![say("220 mail\r\n"), Step::Hang], Reason::Tls, "not speak TLS"),
        ("closes", vec![Step::Read], Reason::Closed, "closed in the TLS handshake"),
        ("hangs", vec![Step::Hang], Reason::TlsTimeout, "no TLS session within 400ms"),
    ] {
        let address = serve(script).await;
        let timeout = if reason == Reason::TlsTimeout { SHORT } else { LONG };
        let kind = CheckKind::Tls(check(Verify::Nobody, None));
        expect(name, &probe(&target(address, kind, timeout)).await, reason, piece);
    }
}
