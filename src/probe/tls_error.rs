//! rustls' errors as reasons: what is wrong with a certificate or a handshake, in plain words,
//! and which option of the policy helps where the operator wants it so.

use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

use super::outcome::Reason;
use super::progress::Failure;
use super::socket::kernel_words;
use super::target::Verify;
use super::tls::{Alpn, date};

/// Why there is no TLS session.
pub(super) fn explain(error: &io::Error, verify: &Verify, alpn: Alpn) -> Failure {
    if let Some(tls) = inner(error) {
        return match tls {
            TlsError::InvalidCertificate(error) => {
                Failure::new(Reason::Certificate, certificate(error, verify))
            }
            TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Failure::new(Reason::Tls, not_over_tls(alpn))
            }
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) if alpn == Alpn::Http2 => {
                let hint = "tls: false asks without it";
                Failure::new(Reason::Tls, format!("{}; {hint}", session(tls)))
            }
            _ => Failure::new(Reason::Tls, session(tls)),
        };
    }
    match (Errno::from_io_error(error), error.kind()) {
        (Some(Errno::CONNRESET | Errno::PIPE), _) => {
            Failure::new(Reason::Reset, "reset in the TLS handshake")
        }
        (None, ErrorKind::UnexpectedEof) => {
            Failure::new(Reason::Closed, "closed in the TLS handshake")
        }
        _ => Failure::new(Reason::Tls, format!("TLS handshake: {}", kernel_words(error))),
    }
}

/// The server speaks TLS, but not what it was told of.
pub(super) fn not_over_tls(alpn: Alpn) -> &'static str {
    match alpn {
        Alpn::Nothing => "the server wants to be told what is spoken over TLS (ALPN)",
        Alpn::Http1 => "the server does not speak HTTP/1.1 over TLS",
        Alpn::Http2 => "the server does not speak HTTP/2 over TLS",
    }
}

/// The TLS error inside an error of the stream, if that is what it is.
pub(super) fn inner(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong with a session, for people.
pub(super) fn session(error: &TlsError) -> String {
    match error {
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate, which a probe does not have".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not know the name it was asked for (SNI); set server_name".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(_) => {
            format!("no TLS version or cipher in common (TLS 1.2 and 1.3 are spoken): {error}")
        }
        TlsError::AlertReceived(alert) => {
            format!("the server refused the TLS handshake: {alert:?}")
        }
        _ => format!("TLS handshake: {error}"),
    }
}

fn certificate(error: &CertificateError, verify: &Verify) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", date(not_after.as_secs()))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the certificate is not valid before {}; is the director's clock right?",
            date(not_before.as_secs())
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the certificate is not for {}, only for {}; set server_name to one of them",
            expected.to_str(),
            if presented.is_empty() { "no name at all".to_owned() } else { names(presented) }
        ),
        CertificateError::UnknownIssuer => match verify {
            Verify::CaFile { path, .. } => format!(
                "the certificate's issuer is not in {}; is the chain that the server sends complete?",
                path.display()
            ),
            _ => "the certificate's issuer is not known to the director (self-signed, a private CA, or a chain that lacks an intermediate); set a CA file, or verify: false".to_owned(),
        },
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the certificate is that of an authority, used by a server; put it into the check's CA file, or set verify: false".to_owned()
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "the certificate is not meant for servers (extended key usage)".to_owned()
        }
        CertificateError::BadSignature => {
            "the certificate is not signed by the authority it names (was that renewed under its old name?)".to_owned()
        }
        CertificateError::BadEncoding => "the certificate is malformed".to_owned(),
        other => format!("the certificate is not acceptable: {other}"),
    }
}

/// The first names of a certificate, as many as fit on a line.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 4;
    let plain: Vec<_> = presented
        .iter()
        .take(SHOWN)
        .map(|name| {
            let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            inside.unwrap_or(name).trim_matches('"')
        })
        .collect();
    let more = presented.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    plain.join(", ") + &rest
}
