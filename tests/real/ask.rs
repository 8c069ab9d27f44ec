//! Probes of real servers, and certificates for them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pointsman::health::Hysteresis;
use pointsman::probe::Prober;
use pointsman::probe::network::NetworkProber;
use pointsman::probe::outcome::{Outcome, Reason};
use pointsman::probe::target::{Check, CheckKind, ProxyProtocol, Target, Timing, TlsCheck, Verify};
use tempfile::TempDir;

/// The name in the certificate.
pub(crate) const NAME: &str = "www.example.org";

/// A directory that servers may enter who have given up being root, with `cert.pem` and `key.pem`.
pub(crate) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    directory
}

/// TLS that trusts the certificate in `directory`.
pub(crate) fn tls(directory: &Path) -> TlsCheck {
    let path = directory.join("cert.pem");
    let pem = std::fs::read(&path).unwrap().into();
    let verify = Verify::CaFile { path, pem };
    TlsCheck { server_name: Some(NAME.to_owned()), verify, min_days: Some(14) }
}

/// Probes once, with a deadline that no healthy server needs.
pub(crate) async fn ask(address: SocketAddr, check: Check) -> Outcome {
    within(address, check, Duration::from_secs(60)).await
}

async fn within(address: SocketAddr, check: Check, timeout: Duration) -> Outcome {
    let once = NonZeroU32::MIN;
    let timing = Timing {
        interval: Duration::from_secs(60),
        fast_interval: None,
        timeout,
        hysteresis: Hysteresis { rise: once, fall: once },
        damping: None,
        expires: None,
    };
    NetworkProber::new().probe(&Target { address, check: Arc::new(check), timing }).await
}

/// Probes, and holds the outcome to a reason and a piece of its text.
pub(crate) async fn expect(address: SocketAddr, kind: CheckKind, reason: Reason, piece: &str) {
    let name = kind.name();
    hold(&ask(address, Check::new(kind)).await, name, reason, piece);
}

/// The same of somebody who is known to say nothing, with a short deadline.
pub(crate) async fn expect_silence(
    address: SocketAddr,
    kind: CheckKind,
    reason: Reason,
    piece: &str,
) {
    let name = kind.name();
    let outcome = within(address, Check::new(kind), Duration::from_secs(1)).await;
    hold(&outcome, name, reason, piece);
}

/// The same behind a PROXY header.
pub(crate) async fn announced(
    address: SocketAddr,
    version: ProxyProtocol,
    kind: CheckKind,
    reason: Reason,
    piece: &str,
) {
    let name = kind.name();
    let check = Check { proxy_protocol: Some(version), ..Check::new(kind) };
    hold(&ask(address, check).await, name, reason, piece);
}

fn hold(outcome: &Outcome, name: &str, reason: Reason, piece: &str) {
    assert_eq!(outcome.reason, reason, "{name}: {outcome:?}");
    assert!(outcome.detail.contains(piece), "{name}: `{}` lacks `{piece}`", outcome.detail);
}
