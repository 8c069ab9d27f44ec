//! HTTPS: whom a probe trusts, what it says when it does not, and hostile TLS servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{HttpCheck, TlsCheck, Verify};
use pointsman::probe::trust::check_ca_pem;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::{
    LONG, SHORT, Step, contains, expect, get, http, in_child, probe, probe_with, say, serve,
};

pub(crate) const NAME: &str = "www.example.org";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive";

/// A certificate with its key, as a server shows it.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub(crate) pem: String,
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Signed by `authority`, for `names`, after `change`.
pub(crate) fn issued(
    authority: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let (mut params, key) = leaf(names);
    change(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    identity(&certificate, &key)
}

pub(crate) fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let (mut params, key) = leaf(names);
    change(&mut params);
    identity(&params.self_signed(&key).unwrap(), &key)
}

fn leaf(names: &[&str]) -> (CertificateParams, KeyPair) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    (CertificateParams::new(names).unwrap(), KeyPair::generate().unwrap())
}

fn identity(certificate: &rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        pem: certificate.pem(),
    }
}

/// A TLS server that answers every request well; the channel tells which name it was asked for.
pub(crate) async fn serve_tls(
    identity: Identity,
) -> (SocketAddr, mpsc::UnboundedReceiver<Option<String>>) {
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    serve_as(config, ANSWER).await
}

async fn serve_as(
    config: ServerConfig,
    answer: &'static [u8],
) -> (SocketAddr, mpsc::UnboundedReceiver<Option<String>>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            tokio::spawn(async move {
                let mut session = acceptor.accept(stream).await?;
                let _ = tell.send(session.get_ref().1.server_name().map(str::to_owned));
                let _request = session.read(&mut [0; 4096]).await?;
                session.write_all(answer).await?;
                // The connection just ends: many servers never say that they close.
                session.flush().await
            });
        }
    });
    (address, told)
}

pub(crate) fn tls(verify: Verify) -> TlsCheck {
    TlsCheck { server_name: None, verify, min_days: None }
}

pub(crate) fn ca(pem: &str) -> Verify {
    Verify::CaFile { path: "ca.pem".into(), pem: Arc::from(pem.as_bytes()) }
}

fn https(tls: TlsCheck) -> HttpCheck {
    HttpCheck {
        tls: Some(tls),
        host: Some(format!("{NAME}:8443")),
        body: vec![contains("alive")],
        ..get()
    }
}

async fn ask(identity: Identity, check: HttpCheck) -> Outcome {
    let (address, _told) = serve_tls(identity).await;
    probe(&http(address, check, LONG)).await
}

pub(crate) fn days_from_now(days: u64) -> rcgen::CertificateParams {
    let mut params = CertificateParams::default();
    #[expect(clippy::disallowed_methods, reason = "certificates are dated by the wall clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = now + Duration::from_secs(days * 86_400 + 3_600);
    params.not_after = date_time_ymd(1970, 1, 1) + end;
    params
}

#[tokio::test]
async fn a_good_chain_passes_and_is_stamped() {
    let authority = authority();
    let outcome = ask(issued(&authority, &[NAME], |_| {}), https(tls(ca(&authority.pem())))).await;
    expect("good chain", &outcome, Reason::Ok, "status 200");
    assert!(outcome.phases.tls.is_some(), "{outcome:?}");
    assert!(outcome.phases.tls >= outcome.phases.connected, "{outcome:?}");
}

#[tokio::test]
async fn certificates_are_judged() {
    use Reason::{Certificate, Expiry, Ok};
    let authority = authority();
    let trusted = || ca(&authority.pem());
    let good = |names: &[&str]| issued(&authority, names, |_| {});
    let own = self_signed(&[NAME], |_| {});
    let own_pem = own.pem.clone();
    let as_authority =
        self_signed(&[NAME], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let as_authority_pem = as_authority.pem.clone();
    let other_name_pem = |identity: &Identity| ca(&identity.pem.clone());
    let other_name = self_signed(&["other.example.org"], |_| {});
    let other_name_trust = other_name_pem(&other_name);
    let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 2, 3);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 2, 3);
    let ends_in = |days| {
        move |params: &mut CertificateParams| params.not_after = days_from_now(days).not_after
    };
    let min_days = |verify, days| TlsCheck { min_days: Some(days), ..tls(verify) };
    for (name, identity, check, reason, piece) in [
        (
            "self-signed",
            self_signed(&[NAME], |_| {}),
            tls(trusted()),
            Certificate,
            "issuer is not in ca.pem",
        ),
        ("self-signed, any", self_signed(&[NAME], |_| {}), tls(Verify::Nobody), Ok, ""),
        ("self-signed, in the file", own, tls(ca(&own_pem)), Ok, ""),
        ("its own authority, in the file", as_authority, tls(ca(&as_authority_pem)), Ok, ""),
        (
            "in the file for another name",
            other_name,
            tls(other_name_trust),
            Certificate,
            "not for www.example.org, only for other.example.org",
        ),
        (
            "wrong name",
            good(&["a.example.org", "b.example.org"]),
            tls(trusted()),
            Certificate,
            "the certificate is not for www.example.org, only for a.example.org, b.example.org; set server_name",
        ),
        ("wrong name, any", good(&["a.example.org"]), tls(Verify::Nobody), Ok, ""),
        (
            "server_name set",
            good(&["a.example.org"]),
            TlsCheck { server_name: Some("a.example.org".to_owned()), ..tls(trusted()) },
            Ok,
            "",
        ),
        (
            "expired",
            issued(&authority, &[NAME], old),
            tls(trusted()),
            Certificate,
            "expired on 2020-02-03",
        ),
        ("expired, any", issued(&authority, &[NAME], old), tls(Verify::Nobody), Ok, ""),
        (
            "expired, any, with min_days",
            issued(&authority, &[NAME], old),
            min_days(Verify::Nobody, 1),
            Expiry,
            "the certificate expired on 2020-02-03, less than min_days 1",
        ),
        (
            "not yet valid",
            issued(&authority, &[NAME], early),
            tls(trusted()),
            Certificate,
            "not valid before 3000-02-03",
        ),
        (
            "three days left",
            issued(&authority, &[NAME], ends_in(3)),
            min_days(trusted(), 14),
            Expiry,
            "the certificate expires in 3 days (on 20",
        ),
        (
            "fifteen days left",
            issued(&authority, &[NAME], ends_in(15)),
            min_days(trusted(), 14),
            Ok,
            "",
        ),
        (
            "authority as server",
            issued(&authority, &[NAME], |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
            }),
            tls(trusted()),
            Certificate,
            "the certificate is that of an authority",
        ),
    ] {
        expect(name, &ask(identity, https(check)).await, reason, piece);
    }
}

#[tokio::test]
async fn the_server_sees_the_right_name() {
    let any = || tls(Verify::Nobody);
    let named = || TlsCheck { server_name: Some("sni.example.org".to_owned()), ..any() };
    let own_header = vec![("Host".to_owned(), "own.example.org".to_owned())];
    for (check, seen) in [
        (https(any()), Some(NAME)),
        (https(named()), Some("sni.example.org")),
        (HttpCheck { headers: own_header, ..https(any()) }, Some("own.example.org")),
        (HttpCheck { host: None, ..https(any()) }, None),
    ] {
        let (address, mut told) = serve_tls(self_signed(&[NAME], |_| {})).await;
        expect("SNI", &probe(&http(address, check, LONG)).await, Reason::Ok, "status 200");
        assert_eq!(told.recv().await.unwrap().as_deref(), seen);
    }
}

#[tokio::test]
async fn an_address_can_be_the_name() {
    let authority = authority();
    let check = HttpCheck { host: None, ..https(tls(ca(&authority.pem()))) };
    let outcome = ask(issued(&authority, &["127.0.0.1"], |_| {}), check).await;
    expect("address as name", &outcome, Reason::Ok, "status 200");
}

#[tokio::test]
async fn what_is_not_tls_fails_and_says_so() {
    use Step::{Hang, Request, Reset};
    // A TLS record of a fatal alert: unrecognized name.
    let alert = || say([0x15, 3, 3, 0, 2, 2, 112]);
    for (name, script, timeout, reason, piece) in [
        (
            "plain HTTP",
            vec![say("HTTP/1.1 400 Bad\r\n\r\n"), Hang],
            LONG,
            Reason::Tls,
            "does not speak TLS",
        ),
        ("garbage", vec![say([0; 100]), Hang], LONG, Reason::Tls, "TLS"),
        (
            "hangs",
            vec![Hang],
            SHORT,
            Reason::TlsTimeout,
            "no TLS session within 400ms (connected in ",
        ),
        (
            "drips",
            vec![Step::Drip([&[22, 3, 3, 16, 0, 2][..], &[0; 100]].concat(), SHORT / 8)],
            SHORT,
            Reason::TlsTimeout,
            "no TLS session within 400ms",
        ),
        ("resets", vec![Reset], LONG, Reason::Reset, "reset in the TLS handshake"),
        ("closes", vec![Step::Read], LONG, Reason::Closed, "closed in the TLS handshake"),
        (
            "unknown name",
            vec![alert(), Hang],
            LONG,
            Reason::Tls,
            "does not know the name it was asked for (SNI)",
        ),
        (
            "endless",
            vec![Step::Repeat(vec![22, 3, 3, 0, 4, 0, 0, 0, 0]), Request],
            LONG,
            Reason::Tls,
            "TLS handshake",
        ),
    ] {
        let address = serve(script).await;
        let target = http(address, https(tls(Verify::Nobody)), timeout);
        expect(name, &probe(&target).await, reason, piece);
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_told_from_others() {
    let authority = authority();
    let shown = issued(&authority, &[NAME], |_| {});
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.clone().build().unwrap())
            .with_single_cert(shown.chain.clone(), shown.key.clone_key())
            .unwrap();
        let (address, _told) = serve_as(config, ANSWER).await;
        let target = http(address, https(tls(ca(&authority.pem()))), LONG);
        let piece = "asks for a client certificate";
        expect("client certificate", &probe(&target).await, Reason::Tls, piece);
    }
}

/// A body that ends with the connection, on a connection that ends without `close_notify`.
#[tokio::test]
async fn a_tls_server_may_hang_up_without_a_word() {
    let shown = self_signed(&[NAME], |_| {});
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain, shown.key)
        .unwrap();
    let (address, _told) = serve_as(config, b"HTTP/1.1 200 OK\r\n\r\nalive").await;
    let outcome = probe(&http(address, https(tls(Verify::Nobody)), LONG)).await;
    expect("no close_notify", &outcome, Reason::Ok, "status 200");
}

#[tokio::test]
async fn one_prober_keeps_authorities_apart() {
    let (ours, theirs) = (authority(), authority());
    let (address, _told) = serve_tls(issued(&ours, &[NAME], |_| {})).await;
    let prober = NetworkProber::new();
    for (name, verify, reason) in [
        ("ours", ca(&ours.pem()), Reason::Ok),
        ("theirs", ca(&theirs.pem()), Reason::Certificate),
        ("ours again", ca(&ours.pem()), Reason::Ok),
        ("nobody", Verify::Nobody, Reason::Ok),
    ] {
        let outcome = probe_with(&prober, &http(address, https(tls(verify)), LONG)).await;
        expect(name, &outcome, reason, "");
    }
}

/// The system's authorities are whatever `SSL_CERT_FILE` says, so a child process can have its own:
/// here one server that is its own authority.
#[test]
fn the_system_is_trusted_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let server = issued(&authority, &[NAME], |_| {});
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).unwrap();
        folder.path().join(name).into_os_string()
    };
    let system = write("system.pem", authority.pem().as_bytes());
    let shown = write("shown.der", &server.chain[0]);
    let key = write("key.der", server.key.secret_der());
    let environment =
        [("SSL_CERT_FILE", system.as_os_str()), ("SHOWN", &shown), ("SHOWN_KEY", &key)];
    in_child("tls::the_system_is_trusted_by_default", &environment, || async {
        let read = |name| std::fs::read(std::env::var_os(name).unwrap()).unwrap();
        let known = Identity {
            chain: vec![read("SHOWN").into()],
            key: PrivatePkcs8KeyDer::from(read("SHOWN_KEY")).into(),
            pem: String::new(),
        };
        expect("known", &ask(known, https(tls(Verify::System))).await, Reason::Ok, "status 200");
        let unknown = ask(self_signed(&[NAME], |_| {}), https(tls(Verify::System))).await;
        expect("unknown", &unknown, Reason::Certificate, "not known to the director");
    });
}

#[test]
fn a_director_without_authorities_blames_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "").unwrap();
    let environment =
        [("SSL_CERT_FILE", file.as_os_str()), ("SSL_CERT_DIR", folder.path().as_os_str())];
    in_child("tls::a_director_without_authorities_blames_itself", &environment, || async {
        let outcome = ask(self_signed(&[NAME], |_| {}), https(tls(Verify::System))).await;
        expect("no roots", &outcome, Reason::Resources, "has no certificate authorities");
    });
}

#[test]
fn bad_authorities_are_refused_at_load() {
    assert_eq!(check_ca_pem(authority().pem().as_bytes()), Ok(()));
    let key = KeyPair::generate().unwrap().serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n";
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (pem, piece) in [
        ("", "no certificate in it"),
        ("hello", "no certificate in it"),
        (key.as_str(), "no certificate in it"),
        (broken, "is not PEM (number 1)"),
        (hollow, "cannot be read (number 1)"),
    ] {
        let problem = check_ca_pem(pem.as_bytes()).unwrap_err();
        assert!(problem.contains(piece), "`{problem}` lacks `{piece}`");
    }
}
