//! The sorry server: a real server of its own kind, beside those that do the work.

use crate::policy::file::PolicyFile;
use crate::policy::model::{DeclaredDestination, RealServer};
use crate::policy::source::Report;

use super::check;
use super::server::{self, Server};
use super::service::Service;
use super::tls::Authorities;
use super::via::Probe;

/// The sorry server, if there is one.
#[derive(Debug, Default)]
pub(super) struct Sorry {
    pub(super) server: Option<RealServer>,
    /// What it is in each service.
    pub(super) destinations: Vec<Option<DeclaredDestination>>,
    /// What is probed for it.
    pub(super) targets: Vec<Probe>,
}

/// Resolves `sorry_server` against the services and real servers of its policy.
pub(super) fn resolve(
    file: &PolicyFile,
    (services, servers): (&[Service], &[Server<'_>]),
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Sorry {
    let Some(written) = file.safety.sorry_server.get() else { return Sorry::default() };
    let entry = &written.value;
    let Some(server) = server::one(&entry.server, written.place, file, report) else {
        return Sorry::default();
    };
    if let Some(same) = servers.iter().find(|other| other.address() == server.address()) {
        let same_port = same.entry.port.get().map(|port| port.value)
            == server.entry.port.get().map(|port| port.value);
        if same_port {
            let message = format!("`{}` is a real server of this policy too", server.name());
            report.error(
                written.place,
                message,
                "the sorry server is another machine, or another port",
            );
            return Sorry::default();
        }
    }
    let one = [server];
    let destinations = server::destinations(services, &one, report);
    let entries = entry.checks.get().map_or(&[][..], |checks| &checks.value);
    let checks = check::resolve(entries, authorities, report);
    let targets =
        check::targets(&checks, services, &one, &destinations, report).into_iter().flatten();
    let [server] = one;
    let real_server = RealServer {
        name: server.name(),
        address: server.address(),
        targets: Vec::new(),
        needed: 0,
    };
    Sorry {
        server: Some(real_server),
        destinations: destinations
            .iter()
            .map(|of_service| of_service.first().copied().flatten())
            .collect(),
        targets: targets.collect(),
    }
}
