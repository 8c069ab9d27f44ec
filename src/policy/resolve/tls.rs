//! TLS of an https check: whom it trusts and which name it asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use x509_parser::pem::Pem;

use crate::policy::decode::Field;
use crate::policy::file::http::{HttpEntry, TlsEntry};
use crate::policy::source::{At, Place, Report};
use crate::probe::target::{TlsCheck, Verify};

/// Reads a whole file, or says why it cannot, as a lowercase fragment.
pub(crate) type ReadFile<'r> = &'r dyn Fn(&Path) -> Result<Vec<u8>, String>;

/// The files of certificate authorities, each read once.
pub(super) struct Authorities<'r> {
    read: ReadFile<'r>,
    known: BTreeMap<PathBuf, Result<Arc<[u8]>, String>>,
}

impl<'r> Authorities<'r> {
    pub(super) fn new(read: ReadFile<'r>) -> Self {
        Self { read, known: BTreeMap::new() }
    }

    /// What was read, in the order of paths.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.known.values().filter_map(|pem| pem.as_deref().ok())
    }

    fn get(&mut self, path: &Path) -> Result<Arc<[u8]>, String> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let pem = (self.read)(path).and_then(certificates);
        self.known.insert(path.to_owned(), pem.clone());
        pem
    }
}

/// Refuses what holds no certificate.
fn certificates(pem: Vec<u8>) -> Result<Arc<[u8]>, String> {
    let mut found = 0;
    for block in Pem::iter_from_buffer(&pem) {
        let block = block.map_err(|_| "is not PEM".to_owned())?;
        if block.label != "CERTIFICATE" {
            continue;
        }
        if block.parse_x509().is_err() {
            return Err(format!("has a certificate that cannot be read (number {})", found + 1));
        }
        found += 1;
    }
    if found == 0 { Err("has no certificate in it".to_owned()) } else { Ok(pem.into()) }
}

/// The TLS part of an https check.
pub(super) fn resolve(
    tls: &TlsEntry,
    http: &HttpEntry,
    authorities: &mut Authorities<'_>,
    at: Place,
    report: &mut Report<'_>,
) -> Option<TlsCheck> {
    let bad = tls.server_name.is_bad() || tls.verify.is_bad() || tls.min_days.is_bad();
    let verify = verify(tls, authorities, report);
    if bad {
        return None;
    }
    if tls.server_name.is_absent() {
        name_of_host(&http.host, at, verify == Some(Verify::Nobody), report);
    }
    Some(TlsCheck {
        server_name: tls.server_name.get().map(|name| name.value.clone()),
        verify: verify?,
        min_days: tls.min_days.get().map(|days| days.value),
    })
}

fn verify(
    tls: &TlsEntry,
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Option<Verify> {
    match (&tls.verify, &tls.ca_file) {
        (Field::Bad, _) | (_, Field::Bad) => None,
        (Field::Is(At { value: false, .. }), Field::Is(file)) => {
            let help = "leave out `verify: false` to verify against this file";
            report.error(file.place, "`ca_file` with `verify: false`", help);
            None
        }
        (Field::Is(At { value: false, place }), Field::Absent) => {
            let message = "`verify: false`: any certificate passes, also an expired or forged one";
            report.lint(*place, message, "name the authority with `ca_file:` instead");
            Some(Verify::Nobody)
        }
        (_, Field::Absent) => Some(Verify::System),
        (_, Field::Is(file)) => {
            let directory = report.source().path().parent().unwrap_or(Path::new(""));
            let path = directory.join(&file.value);
            match authorities.get(&path) {
                Ok(pem) => Some(Verify::CaFile { path, pem }),
                Err(why) => {
                    let message = format!("`{}` {why}", path.display());
                    let help = "`ca_file` is a PEM file, relative to the policy file";
                    report.error(file.place, message, help);
                    None
                }
            }
        }
    }
}

/// Without `server_name`, the certificate must carry the host, or else the address.
fn name_of_host(host: &Field<String>, at: Place, nobody: bool, report: &mut Report<'_>) {
    match host {
        Field::Absent if !nobody => report.lint(
            at,
            "neither `host` nor `server_name`: the certificate must carry the address itself",
            "write the name users ask for, as `host: www.example.com`",
        ),
        Field::Is(host) => {
            let name = without_port(&host.value);
            if ServerName::try_from(name).is_err() {
                let message = format!("no certificate can carry the host `{name}`");
                report.error(host.place, message, "add `server_name:` with the certificate's name");
            }
        }
        Field::Absent | Field::Bad => {}
    }
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
