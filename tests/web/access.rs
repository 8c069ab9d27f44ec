//! Who may read.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{connect, get, read_answer, request, start, start_on};
use crate::scratch::{DEADLINE, Scratch, finish, within};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn secret(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_open_address_needs_a_token_or_tls() {
    let scratch = Scratch::with_one();
    let token = scratch.path("token");
    secret(&token, TOKEN, 0o600);
    let refused = |args: &[&str], code: i32, says: &str| {
        let mut command = scratch.run_command();
        command.args(args);
        let finished = finish(command).exit(code);
        assert!(finished.stderr.contains(says), "{args:?}: {finished:#?}");
    };
    let open = ["--listen", "0.0.0.0:0"];
    refused(&open, 2, "--listen-token-file");
    refused(&["--listen", "[::]:0"], 2, "not a loopback address");
    refused(&["--listen-token-file", "x"], 2, "say where with --listen");
    refused(&["--listen", "127.0.0.1:0", "--listen-tls-cert", "x"], 2, "belong together");
    refused(&["--listen", "127.0.0.1:0", "--listen-token-file", "/nowhere"], 1, "/nowhere");
    let path = token.to_str().unwrap();
    secret(&token, TOKEN, 0o644);
    refused(&["--listen", "127.0.0.1:0", "--listen-token-file", path], 1, "chmod o=");
    secret(&token, "", 0o600);
    refused(&["--listen", "127.0.0.1:0", "--listen-token-file", path], 1, "at least 16");
    secret(&token, TOKEN, 0o600);
    let (_daemon, address) = start_on(&scratch, "0.0.0.0:0", |command| {
        command.args(["--listen-token-file", path]);
    });
    let here = ([127, 0, 0, 1], address.port()).into();
    get(here, "/healthz").is(200);
    get(here, "/v1/status").is(401);
}

#[test]
fn a_port_in_use_is_a_reason_not_to_start() {
    let scratch = Scratch::with_one();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = scratch.run_command();
    command.args(["--listen", &taken.local_addr().unwrap().to_string()]);
    let finished = finish(command).exit(1);
    assert!(finished.stderr.contains("cannot listen on 127.0.0.1"), "{finished:#?}");
}

#[test]
fn a_token_opens_and_can_be_changed() {
    let scratch = Scratch::with_one();
    let file = scratch.path("token");
    secret(&file, &format!("{TOKEN}\n"), 0o600);
    let (daemon, address) = start(&scratch, &["--listen-token-file", file.to_str().unwrap()]);
    daemon.wait_up(1);
    let with = |value: &str| request(address, "GET", "/v1/status", &[("Authorization", value)]);
    let denied = get(address, "/v1/status").is(401);
    assert!(denied.head.contains("www-authenticate: basic "), "{denied:?}");
    assert!(denied.head.contains("www-authenticate: bearer "), "{denied:?}");
    assert!(denied.json()["error"].is_string());
    // Also of what is not there nothing is said.
    get(address, "/nothing").is(401);
    get(address, "/healthz").is(200);
    with(&format!("Bearer {TOKEN}")).is(200);
    // `prometheus:TOKEN`
    with("Basic cHJvbWV0aGV1czowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==").is(200);
    with("Bearer 0123456789abcdef").is(401);
    let (old, new) = (format!("Bearer {TOKEN}"), "Bearer another-token-altogether");
    secret(&file, "another-token-altogether", 0o600);
    with(new).is(200);
    with(&old).is(401);
    // A bad one is refused aloud, and the last good one stays.
    secret(&file, "short", 0o600);
    with(new).is(200);
    daemon.wait_log("goes on with the old content");
    assert!(!daemon.log().contains("another-token"), "a token is in the log");
}

#[test]
fn a_page_of_another_site_reads_nothing() {
    let scratch = Scratch::with_one();
    let (_daemon, address) = start(&scratch, &[]);
    for (host, status) in
        [("evil.example", 421), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]", 200)]
    {
        request(address, "GET", "/v1/status", &[("Host", host)]).is(status);
    }
}

#[test]
fn tls_is_spoken_where_a_certificate_is_given() {
    let scratch = Scratch::with_one();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (scratch.path("cert.pem"), scratch.path("key.pem"));
    secret(&certificate, &made.cert.pem(), 0o644);
    secret(&key, &made.signing_key.serialize_pem(), 0o600);
    let (daemon, address) = start_on(&scratch, "0.0.0.0:0", |command| {
        command.arg("--listen-tls-cert").arg(&certificate);
        command.arg("--listen-tls-key").arg(&key);
    });
    let here = ([127, 0, 0, 1], address.port()).into();
    let ask = |trusted: CertificateDer<'static>| -> std::io::Result<u16> {
        let mut stream = tls(here, trusted);
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: lb.example.net\r\n\r\n")?;
        Ok(read_answer(&mut stream).status)
    };
    assert_eq!(ask(made.cert.der().clone()).unwrap(), 200);
    // Without TLS there is no answer, and nothing is lost by the attempt.
    let mut plain = connect(here);
    plain.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    // A renewed certificate counts from the next connection on; one without its key does not.
    let renewed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    secret(&certificate, &renewed.cert.pem(), 0o644);
    assert_eq!(ask(made.cert.der().clone()).unwrap(), 200);
    daemon.wait_log("goes on with the old content");
    secret(&key, &renewed.signing_key.serialize_pem(), 0o600);
    assert!(within(DEADLINE, || matches!(ask(renewed.cert.der().clone()), Ok(200))));
}

fn tls(
    address: std::net::SocketAddr,
    trusted: CertificateDer<'static>,
) -> StreamOwned<ClientConnection, std::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, connect(address))
}
