//! A TLS server on loopback whose certificate can be renewed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes TLS sessions with a certificate that it signed itself, until the test ends.
pub(crate) struct TlsBackend {
    pub(crate) address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

/// How a server shows itself, and the PEM of who vouches for it.
type Shown = (Arc<ServerConfig>, String);

impl TlsBackend {
    /// With a certificate that lasts so many days.
    pub(crate) fn lasting(days: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(Mutex::new(shown(days).0));
        let now = Arc::clone(&config);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&now.lock().unwrap());
                // Who hangs up early is nobody's trouble here.
                let _ = greet(stream, config);
            }
        });
        Self { address, config }
    }

    /// Shows another certificate from now on, of an authority with this PEM.
    pub(crate) fn renew(&self, days: u32) -> String {
        let (config, authority) = shown(days);
        *self.config.lock().unwrap() = config;
        authority
    }
}

fn greet(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut session = ServerConnection::new(config).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    session.complete_io(&mut stream).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "certificates end on the wall clock")]
fn shown(days: u32) -> Shown {
    let mut params = CertificateParams::new(vec!["www.example.org".to_owned()]).unwrap();
    params.not_after = (SystemTime::now() + DAY * days).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (Arc::new(config), certificate.pem())
}

/// A policy with these behind it.
pub(crate) fn tls_policy(backends: &[TlsBackend]) -> String {
    tls_policy_with("verify: false", backends)
}

/// The same, with this for whom to trust.
pub(crate) fn tls_policy_with(trust: &str, backends: &[TlsBackend]) -> String {
    let servers: String = backends.iter().map(|it| format!("  - {}\n", it.address)).collect();
    format!(
        "name: www\nvirtual_services: ['tcp://192.0.2.10:443']\nforwarding: masq\n\
         real_servers:\n{servers}checks:\n  - tls: {{ server_name: www.example.org, {trust} }}\n    \
         interval: 1s\n    timeout: 900ms\n"
    )
}
