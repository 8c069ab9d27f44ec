//! The sorry server: a real server of its own kind, beside those that do the work.

use crate::policy::file::PolicyFile;
use crate::policy::file::check::KindEntry;
use crate::policy::model::{DeclaredDestination, RealServer};
use crate::policy::source::Report;

use super::check;
use super::server::{self, Destinations};
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

/// Resolves `sorry_server` against the services of its policy and what its real servers are there.
pub(super) fn resolve(
    file: &PolicyFile,
    (services, servers): (&[Service], &Destinations),
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Sorry {
    let Some(written) = file.safety.sorry_server.get() else { return Sorry::default() };
    let entry = &written.value;
    let Some(server) = server::one(&entry.server, written.place, file, report) else {
        return Sorry::default();
    };
    let one = [server];
    let destinations = server::destinations(services, &one, report);
    let own = destinations.iter().map(|of_service| of_service.first().copied().flatten());
    let own: Vec<Option<DeclaredDestination>> = own.collect();
    let is_taken = |(sorry, others): &(&Option<DeclaredDestination>, &Vec<_>)| {
        let keys = others.iter().flatten().map(|other: &DeclaredDestination| other.key);
        sorry.is_some_and(|sorry| keys.into_iter().any(|key| key == sorry.key))
    };
    if let Some((Some(sorry), _)) = own.iter().zip(servers).find(is_taken) {
        let message = format!("`{}` is a real server of this policy too", sorry.key);
        let help = "the sorry server is another machine, or another port";
        report.error(written.place, message, help);
        return Sorry::default();
    }
    let entries = entry.checks.get().map_or(&[][..], |checks| &checks.value);
    if let Some(agent) = entries.iter().find(|it| matches!(it.value.kind, KindEntry::Agent(_))) {
        let help = "it has the weight that is written, as long as nobody else takes connections";
        report.error(agent.place, "an agent for the sorry server", help);
    }
    let checks = check::resolve(entries, authorities, report);
    let targets =
        check::targets(&checks, services, &one, &destinations, report).into_iter().flatten();
    let [server] = one;
    let real_server = RealServer {
        name: server.name(),
        identity: server.identity(),
        address: server.address(),
        targets: Vec::new(),
        needed: 0,
        advisors: Vec::new(),
    };
    Sorry { server: Some(real_server), destinations: own, targets: targets.collect() }
}
