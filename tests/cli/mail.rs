//! Alerts by mail over TLS with a login, to a scripted server with a certificate of its own.

use std::fs;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::scratch::{DEADLINE, Finished, Scratch, finish, pointsman, within};

/// `lvs` and `secret` (RFC 4616).
const LOGIN: &str = "AUTH PLAIN AGx2cwBzZWNyZXQ=";

/// How a server protects its connections.
#[derive(Clone, Copy, PartialEq)]
enum Protection {
    StartTls,
    Tls,
    /// It offers none.
    Plain,
}

/// What it was told, and where it is.
struct Server {
    address: SocketAddr,
    told: Arc<Mutex<String>>,
    /// The certificate, as whoever is to trust it has it.
    pem: String,
}

impl Server {
    fn start(protection: Protection) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pem = certificate.pem();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let (config, told) = (Arc::new(config), Arc::<Mutex<String>>::default());
        let into = Arc::clone(&told);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who does not trust the certificate hangs up.
                let _ = serve(stream, protection, &config, &into);
            }
        });
        Self { address, told, pem }
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    protection: Protection,
    config: &Arc<ServerConfig>,
    told: &Mutex<String>,
) -> Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    if protection != Protection::Tls {
        stream.write_all(b"220 test ESMTP\r\n")?;
        let offer = if protection == Protection::StartTls { "250 STARTTLS" } else { "250 HELP" };
        if !talk(&mut stream, offer, told)? {
            return Ok(());
        }
    }
    told.lock().unwrap().push_str("(TLS)\n");
    let session = ServerConnection::new(Arc::clone(config)).map_err(Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    if protection == Protection::Tls {
        stream.write_all(b"220 test ESMTP\r\n")?;
    }
    talk(&mut stream, "250 AUTH PLAIN", told).map(drop)
}

/// Answers until the end; true: TLS is to begin.
fn talk(stream: &mut (impl Read + Write), offer: &str, told: &Mutex<String>) -> Result<bool> {
    loop {
        let line = line(stream)?;
        told.lock().unwrap().push_str(&format!("{line}\n"));
        let answer = match line.split(' ').next().unwrap_or_default() {
            "EHLO" => format!("250-test\r\n{offer}\r\n"),
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n")?;
                return Ok(true);
            }
            "AUTH" if line == LOGIN => "235 welcome\r\n".to_owned(),
            "AUTH" => "535 who are you\r\n".to_owned(),
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while self::line(stream)? != "." {}
                told.lock().unwrap().push_str("(mail)\n");
                "250 taken\r\n".to_owned()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(false);
            }
            _ => "250 well\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes())?;
    }
}

fn line(stream: &mut impl Read) -> Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// `alert-test` with one receiver of this server, which trusts this certificate.
fn test(server: &Server, tls: &str, password: &str, trusted: &str) -> Finished {
    let scratch = Scratch::new();
    let (file, key, roots) =
        (scratch.path("alerts.yaml"), scratch.path("key"), scratch.path("roots.pem"));
    fs::write(&roots, trusted).unwrap();
    fs::write(&key, password).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let port = server.address.port();
    let receiver = format!(
        "receivers:\n  - name: admin\n    mail: {{ to: [admin@example.net], from: lvs@example.net, \
         server: 127.0.0.1, port: {port}, tls: {tls}, user: lvs, password_file: key }}\n"
    );
    fs::write(&file, receiver).unwrap();
    let mut command = pointsman(&["alert-test", "--alerts"]);
    command.arg(file).env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    finish(command)
}

#[test]
fn a_mail_goes_over_tls_with_a_login() {
    for (protection, tls) in [(Protection::StartTls, "starttls"), (Protection::Tls, "tls")] {
        let server = Server::start(protection);
        let finished = test(&server, tls, "secret", &server.pem).exit(0);
        assert_eq!(finished.stdout, "admin: delivered\n");
        assert!(within(DEADLINE, || server.told().contains("(mail)")), "{}", server.told());
        let told = server.told();
        let (plain, protected) = told.split_once("(TLS)\n").unwrap();
        assert!(!plain.contains("AUTH") && !plain.contains("MAIL"), "{tls}: {told}");
        assert!(protected.contains(&format!("{LOGIN}\nMAIL FROM:<lvs@example.net>")), "{told}");
        assert!(protected.contains("RCPT TO:<admin@example.net>"), "{tls}: {told}");
    }
}

#[test]
fn no_password_goes_where_it_should_not() {
    let other = Server::start(Protection::Tls);
    for (protection, tls) in [
        (Protection::StartTls, "starttls"),
        (Protection::Tls, "tls"),
        (Protection::Plain, "starttls"),
    ] {
        let server = Server::start(protection);
        let trusted = if protection == Protection::Plain { &server.pem } else { &other.pem };
        let failed = test(&server, tls, "secret", trusted).exit(1).stdout;
        let why = if protection == Protection::Plain { "STARTTLS" } else { "certificate" };
        assert!(failed.starts_with("admin: FAILED: ") && failed.contains(why), "{tls}: {failed}");
        assert!(!server.told().contains("AUTH"), "{tls}: {}", server.told());
    }
    let server = Server::start(Protection::Tls);
    let failed = test(&server, "tls", "wrong", &server.pem).exit(1).stdout;
    assert!(failed.contains("who are you") && !failed.contains("wrong"), "{failed}");
    assert!(!server.told().contains("MAIL"), "{}", server.told());
}
