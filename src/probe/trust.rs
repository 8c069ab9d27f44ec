//! Whom a TLS probe trusts, as certificate verifiers.
//!
//! Three kinds: the system's authorities, those of a PEM file, nobody. A certificate that is
//! itself in the PEM file is trusted too, as `openssl req -x509` makes them and as other tools
//! accept them; its name and dates still count.

use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

type Verifier = Arc<dyn ServerCertVerifier>;

/// Whether a PEM file can serve as certificate authorities.
///
/// # Errors
/// What is wrong with it, as a fragment that follows its path.
pub fn check_ca_pem(pem: &[u8]) -> Result<(), String> {
    authorities(pem, &ring::default_provider().into()).map(drop)
}

/// Trusts the authorities that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` move them).
///
/// Reads files; call it where blocking is allowed.
pub(super) fn system(provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let cause = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!(
            "the director has no certificate authorities{cause}; install ca-certificates or set a CA file"
        ));
    }
    webpki(roots, provider)
}

/// Trusts the certificates of a PEM file, as authorities and as servers.
pub(super) fn authorities(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let mut roots = RootCertStore::empty();
    let mut pinned = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = pinned.len() + 1;
        let certificate = certificate.map_err(|error| {
            format!("has a certificate that is not PEM (number {number}): {error}")
        })?;
        roots.add(certificate.clone()).map_err(|error| {
            format!("has a certificate that cannot be read (number {number}): {error}")
        })?;
        pinned.push(certificate);
    }
    if pinned.is_empty() {
        return Err("has no certificate in it".to_owned());
    }
    let authorities = webpki(roots, provider)?;
    Ok(Arc::new(OrPinned { authorities, pinned }))
}

/// Trusts any certificate.
pub(super) fn nobody(provider: &CryptoProvider) -> Verifier {
    Arc::new(Anybody(provider.signature_verification_algorithms))
}

fn webpki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    Ok(builder.build().map_err(|error| error.to_string())?)
}

/// Authorities, or the very certificates of the file.
#[derive(Debug)]
struct OrPinned {
    authorities: Verifier,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrPinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::Other(_),
            )) if self.pinned.iter().any(|pinned| pinned == end_entity) => {
                verify_dates(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

fn verify_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let time = |at: i64| {
        let secs = u64::try_from(at).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs))
    };
    let not_before = time(parsed.validity().not_before.timestamp());
    let not_after = time(parsed.validity().not_after.timestamp());
    if now < not_before {
        let error = CertificateError::NotValidYetContext { time: now, not_before };
        return Err(Error::InvalidCertificate(error));
    }
    if now > not_after {
        let error = CertificateError::ExpiredContext { time: now, not_after };
        return Err(Error::InvalidCertificate(error));
    }
    Ok(())
}

/// Any certificate, as long as the server holds its key where that can be checked.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        lenient(verify_tls12_signature(message, certificate, signed, &self.0))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        lenient(verify_tls13_signature(message, certificate, signed, &self.0))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A certificate too odd to check a signature with is still any certificate.
fn lenient(
    verdict: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    match verdict {
        Err(Error::InvalidCertificate(error)) if error != CertificateError::BadSignature => {
            Ok(HandshakeSignatureValid::assertion())
        }
        other => other,
    }
}
