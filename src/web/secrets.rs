//! Files the listener needs: the token, the certificate and its key. Each is read again when it
//! has changed; a change that cannot be used is reported and the last good content stays.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{error, info};

/// The shortest token, in characters.
const SHORTEST: usize = 16;
/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// What was made from files, as long as they stay as they are.
pub(super) struct Kept<T> {
    files: Vec<PathBuf>,
    read: fn(&[PathBuf]) -> Result<T, String>,
    seen: Vec<Option<Stamp>>,
    content: Arc<T>,
}

/// Changes whenever a file does.
type Stamp = (u64, u64, u64, i64, i64);

impl<T> Kept<T> {
    fn new(files: Vec<PathBuf>, read: fn(&[PathBuf]) -> Result<T, String>) -> Result<Self, String> {
        let seen = stamps(&files);
        let content = Arc::new(read(&files)?);
        Ok(Self { files, read, seen, content })
    }

    /// What the files say now, or said when they last made sense.
    pub(super) fn get(&mut self) -> Arc<T> {
        let seen = stamps(&self.files);
        if seen != self.seen {
            self.seen = seen;
            let files: Vec<String> = self.files.iter().map(|it| it.display().to_string()).collect();
            let files = files.join(", ");
            match (self.read)(&self.files) {
                Ok(content) => {
                    self.content = Arc::new(content);
                    info!(files, "the listener uses the new content");
                }
                Err(error) => error!(error, "the listener goes on with the old content of {files}"),
            }
        }
        Arc::clone(&self.content)
    }
}

/// The token of a file: its first line, without spaces around it.
pub(super) fn token(file: PathBuf) -> Result<Kept<String>, String> {
    Kept::new(vec![file], |files| read_token(&files[0]))
}

/// The side of TLS that is called, with the chain of one file and the key of another.
pub(super) fn tls(certificate: PathBuf, key: PathBuf) -> Result<Kept<TlsAcceptor>, String> {
    let read = |files: &[PathBuf]| acceptor(&files[0], &files[1]);
    Kept::new(vec![certificate, key], read)
}

fn read_token(file: &Path) -> Result<String, String> {
    let mode = fs::metadata(file).map_err(|error| unreadable(file, &error))?.mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "{} is open to every user of this machine (mode {:03o}); `chmod o= {0}` mends that",
            file.display(),
            mode & 0o777
        ));
    }
    let text =
        String::from_utf8(content(file)?).map_err(|_| format!("{} is no text", file.display()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < SHORTEST || !token.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(format!(
            "the first line of {} is no token: it takes at least {SHORTEST} visible ASCII \
             characters, such as `openssl rand -hex 32` writes",
            file.display()
        ));
    }
    Ok(token.to_owned())
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let wrong = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let chain = CertificateDer::pem_slice_iter(&content(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"no certificate in it (PEM is expected)"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&content(key)?)
        .map_err(|error| wrong(key, &format!("no private key in it: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| wrong(key, &format!("not the key of this certificate: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("{} is no file of at most 1 MiB", file.display()));
    }
    fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", file.display())
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |it: Metadata| (it.dev(), it.ino(), it.size(), it.ctime(), it.ctime_nsec());
    files.iter().map(|file| fs::metadata(file).ok().map(stamp)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(file: &Path, text: &str, mode: u32) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_token_is_long_enough_and_not_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        for (text, mode, says) in [
            ("0123456789abcdef\n", 0o600, Ok("0123456789abcdef")),
            ("  0123456789abcdef \r\nsecond line", 0o640, Ok("0123456789abcdef")),
            ("0123456789abcdef", 0o644, Err("mode 644")),
            ("0123456789abcdef", 0o602, Err("chmod o=")),
            ("0123456789abcde", 0o600, Err("at least 16")),
            ("", 0o600, Err("at least 16")),
            ("ééééééééééééé", 0o600, Err("visible ASCII")),
        ] {
            write(&file, text, mode);
            match (read_token(&file), says) {
                (Ok(token), Ok(expected)) => assert_eq!(token, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, _) => panic!("{text:?} {mode:o}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_new_token_counts_and_a_bad_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        write(&file, "the first of all tokens", 0o600);
        let mut kept = token(file.clone()).unwrap();
        assert_eq!(*kept.get(), "the first of all tokens");
        write(&file, "another token, of another length", 0o600);
        assert_eq!(*kept.get(), "another token, of another length");
        write(&file, "short", 0o600);
        assert_eq!(*kept.get(), "another token, of another length");
        fs::remove_file(&file).unwrap();
        assert_eq!(*kept.get(), "another token, of another length");
        write(&file, "and a third one after all", 0o600);
        assert_eq!(*kept.get(), "and a third one after all");
    }
}
