//! TLS of a check: whom it trusts and which name it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;

use crate::policy::decode::Field;
use crate::policy::file::tls::{TlsEntry, TlsSwitch};
use crate::policy::source::{At, Place, Report};
use crate::probe::target::{TlsCheck, Verify};
use crate::probe::trust::check_ca_pem;

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

    /// Where they are, those that cannot be used as well.
    pub(super) fn into_paths(self) -> BTreeSet<PathBuf> {
        self.known.into_keys().collect()
    }

    /// A value of `/proc/sys` on this machine, where there is one.
    pub(super) fn sysctl(&self, name: &str) -> Option<String> {
        let value = (self.read)(&Path::new("/proc/sys").join(name)).ok()?;
        Some(String::from_utf8(value).ok()?.trim().to_owned())
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

/// Refuses what a probe could not use.
fn certificates(pem: Vec<u8>) -> Result<Arc<[u8]>, String> {
    check_ca_pem(&pem).map(|()| pem.into())
}

/// The TLS part of a check, if it has one; `host` where the check has such a key.
pub(super) fn resolve(
    switch: &TlsSwitch,
    host: Option<&Field<String>>,
    authorities: &mut Authorities<'_>,
    at: Place,
    report: &mut Report<'_>,
) -> Option<Option<TlsCheck>> {
    if switch.on.is_bad() {
        return None;
    }
    if !switch.on.unwrap_or(switch.when.default) {
        return nothing_set(switch, report).then_some(None);
    }
    let resolved = with_tls(&switch.entry, authorities, report);
    if switch.entry.server_name.is_absent() && !switch.entry.verify.is_bad() {
        name_of_host(switch, host, at, report);
    }
    resolved.map(Some)
}

/// Settings of a TLS that is not spoken would be taken for settings that hold.
fn nothing_set(switch: &TlsSwitch, report: &mut Report<'_>) -> bool {
    let (Some((name, place)), Some(key)) = (switch.entry.first_key(), switch.when.key) else {
        return true;
    };
    let message = format!("`{name}` without TLS");
    report.error(place, message, format!("write `{key}: true`, or leave `{name}` out"));
    false
}

fn with_tls(
    tls: &TlsEntry,
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Option<TlsCheck> {
    let bad = tls.server_name.is_bad() || tls.verify.is_bad() || tls.min_days.is_bad();
    let verify = verify(tls, authorities, report);
    if bad {
        return None;
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
fn name_of_host(
    switch: &TlsSwitch,
    host: Option<&Field<String>>,
    at: Place,
    report: &mut Report<'_>,
) {
    if let Some(Field::Is(host)) = host {
        let name = without_port(&host.value);
        if ServerName::try_from(name).is_err() {
            let message = format!("no certificate can carry the host `{name}`");
            report.error(host.place, message, "add `server_name:` with the certificate's name");
        }
        return;
    }
    let verified = switch.entry.verify.unwrap_or(true);
    if !verified || host.is_some_and(Field::is_bad) {
        return;
    }
    let (missing, key) = match host {
        Some(_) => ("neither `host` nor `server_name`", "host"),
        None => ("no `server_name`", "server_name"),
    };
    let message = format!("{missing}: the certificate must carry the address itself");
    let or = if switch.when.key == Some("tls") { ", or `tls: false` without TLS" } else { "" };
    let help = format!("write the name users ask for, as `{key}: www.example.com`{or}");
    report.lint(at, message, help);
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
