//! TLS: the handshake, whom to trust, and how long the certificate still lasts.
//!
//! One shared client configuration per distinct [`Verify`] and [`Alpn`]; sessions are never
//! resumed, so that every probe sees the certificate a new user would see. Who is trusted is decided in
//! [`super::trust`].

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::http::nothing_asked;
use super::outcome::Reason;
use super::progress::{Failure, Progress};
use super::target::{TlsCheck, Verify};
use super::tls_error::explain;
use super::trust;

const DAY: u64 = 24 * 60 * 60;

/// Configurations kept; policies with more distinct authorities rebuild some now and then.
const KEPT: usize = 64;

/// What is to be spoken in a session, as the server is told (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpn {
    /// Not told.
    Nothing,
    Http1,
    Http2,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
        }
    }
}

/// What a session begins with.
#[derive(Debug)]
pub(super) struct Hello<'c> {
    tls: &'c TlsCheck,
    name: ServerName<'static>,
    alpn: Alpn,
}

impl<'c> Hello<'c> {
    /// A hello to `server_name`, else to the host without its port, else to the address.
    pub(super) fn new(
        tls: &'c TlsCheck,
        host: Option<&str>,
        address: IpAddr,
        alpn: Alpn,
    ) -> Result<Self, Failure> {
        let name = match (&tls.server_name, host) {
            (Some(name), _) => name.as_str(),
            (None, Some(host)) => without_port(host),
            (None, None) => {
                return Ok(Self { tls, name: ServerName::IpAddress(address.into()), alpn });
            }
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            nothing_asked(format!(
                "`{name}` is not a name that a certificate can carry; set server_name"
            ))
        })?;
        Ok(Self { tls, name, alpn })
    }
}

/// The client configurations in use, built when first asked for.
#[derive(Debug, Default)]
pub(super) struct Configs {
    kept: Mutex<Vec<(Verify, Alpn, Arc<ClientConfig>)>>,
    /// One is built at a time: a thousand first probes must not read the system's authorities a
    /// thousand times.
    building: tokio::sync::Mutex<()>,
}

impl Configs {
    /// The configuration that trusts `verify` and tells `alpn`.
    async fn get(&self, verify: &Verify, alpn: Alpn) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = self.find(verify, alpn) {
            return Ok(config);
        }
        let _building = self.building.lock().await;
        if let Some(config) = self.find(verify, alpn) {
            return Ok(config);
        }
        // Whom to trust is the expensive part, and the same whatever is spoken.
        let mut config = match self.any(verify) {
            Some(config) => ClientConfig::clone(&config),
            None => build(verify).await?,
        };
        config.alpn_protocols = alpn.protocols();
        let config = Arc::new(config);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((verify.clone(), alpn, Arc::clone(&config)));
        Ok(config)
    }

    fn find(&self, verify: &Verify, alpn: Alpn) -> Option<Arc<ClientConfig>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut same = kept.iter().filter(|(of, told, _)| of == verify && *told == alpn);
        same.next().map(|(_, _, config)| Arc::clone(config))
    }

    fn any(&self, verify: &Verify) -> Option<Arc<ClientConfig>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(of, _, _)| of == verify).map(|(_, _, config)| Arc::clone(config))
    }
}

async fn build(verify: &Verify) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let own_trouble = |problem: String| Failure::new(Reason::Resources, problem);
    let verifier = match verify {
        Verify::Nobody => trust::nobody(&provider),
        Verify::CaFile { path, pem } => trust::authorities(pem, &provider)
            .map_err(|problem| own_trouble(format!("{}: {problem}", path.display())))?,
        Verify::System => {
            let provider = Arc::clone(&provider);
            tokio::task::spawn_blocking(move || trust::system(&provider))
                .await
                .map_err(|error| error.to_string())
                .flatten()
                .map_err(own_trouble)?
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| own_trouble(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Makes a TLS session on an open connection and checks how long its certificate lasts.
pub(super) async fn handshake(
    stream: TcpStream,
    hello: Hello<'_>,
    configs: &Configs,
    progress: &Progress,
) -> Result<TlsStream<TcpStream>, Failure> {
    let Hello { tls, name, alpn } = hello;
    let config = configs.get(&tls.verify, alpn).await?;
    let session = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| explain(&error, &tls.verify, alpn))?;
    let ends = certificate_ends(&session);
    progress.mark_tls(ends);
    if let Some(min_days) = tls.min_days {
        judge_expiry(ends, min_days, UnixTime::now())?;
    }
    Ok(session)
}

/// The TLS check: a handshake and nothing else; the text says what passed.
pub(super) async fn ask(
    stream: TcpStream,
    check: &TlsCheck,
    address: SocketAddr,
    configs: &Configs,
    progress: &Progress,
) -> Result<String, Failure> {
    let hello = Hello::new(check, None, address.ip(), Alpn::Nothing)?;
    let mut session = handshake(stream, hello, configs, progress).await?;
    say_goodbye(&mut session).await;
    let version = match session.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    Ok(match certificate_ends(&session) {
        Some(end) => format!("{version}, {}", lasting(end, UnixTime::now())),
        None => version.to_owned(),
    })
}

fn certificate_ends(session: &TlsStream<TcpStream>) -> Option<u64> {
    not_after(session.get_ref().1.peer_certificates()?.first()?)
}

/// How long a certificate lasts that ends at `end`, in seconds since 1970.
fn lasting(end: u64, now: UnixTime) -> String {
    let date = date(end);
    let left = end.saturating_sub(now.as_secs());
    match (left, left / DAY) {
        (0, _) => format!("the certificate expired on {date}"),
        (_, 0) => format!("the certificate expires within a day (on {date})"),
        (_, 1) => format!("the certificate expires in 1 day (on {date})"),
        (_, days) => format!("the certificate expires in {days} days (on {date})"),
    }
}

/// Tells the server that nothing more comes, so that it does not log a broken connection.
///
/// Best effort: tried once, never waited for.
pub(super) async fn say_goodbye(session: &mut TlsStream<TcpStream>) {
    poll_fn(|cx| {
        let _ = Pin::new(&mut *session).poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` without port and brackets.
fn without_port(host: &str) -> &str {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.split(']').next().unwrap_or(v6);
    }
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

fn judge_expiry(ends: Option<u64>, min_days: u32, now: UnixTime) -> Result<(), Failure> {
    let Some(not_after) = ends else {
        let detail = "the certificate has no readable end of validity, which min_days asks for";
        return Err(Failure::new(Reason::Certificate, detail));
    };
    let left = not_after.saturating_sub(now.as_secs());
    if left >= u64::from(min_days) * DAY {
        return Ok(());
    }
    let when = lasting(not_after, now);
    Err(Failure::new(Reason::Expiry, format!("{when}, less than min_days {min_days}")))
}

/// The end of validity of a certificate, in seconds since 1970.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

/// `2026-11-23`, in UTC.
pub(super) fn date(since_1970: u64) -> String {
    let time = i64::try_from(since_1970).ok().and_then(|secs| ASN1Time::from_timestamp(secs).ok());
    time.map_or_else(
        || format!("day {}", since_1970 / 86_400),
        |time| time.to_datetime().date().to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_ports() {
        for (host, name) in [
            ("www.example.org", "www.example.org"),
            ("www.example.org:8443", "www.example.org"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[tokio::test]
    async fn many_first_probes_build_one_configuration() {
        let configs = Arc::new(Configs::default());
        let mut probes = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let configs = Arc::clone(&configs);
            probes.spawn(async move { configs.get(&Verify::System, Alpn::Nothing).await });
        }
        // A machine without authorities gives none, which is not what is asked here.
        let built: Vec<_> = probes.join_all().await.into_iter().flatten().collect();
        assert!(built.iter().all(|config| Arc::ptr_eq(config, &built[0])));
        assert_eq!(configs.kept.lock().unwrap().len(), usize::from(!built.is_empty()));
    }

    #[test]
    fn dates_are_dates() {
        assert_eq!(date(1_795_392_000), "2026-11-23");
    }
}
