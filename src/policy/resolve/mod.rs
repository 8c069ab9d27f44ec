//! From mirrored files to a [`PolicySet`]: everything that needs two values to be seen together.
//!
//! Pure: the files of certificate authorities are read by a function that the caller brings. All
//! problems of all files are found in one go; what follows only from a problem already reported
//! is not reported again.

mod advice;
mod check;
mod claim;
mod damping;
mod database;
mod dns;
mod lint;
mod safety;
mod server;
mod service;
mod sorry;
mod tls;
mod via;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::Field;
use super::file::PolicyFile;
use super::model::{ChecksNeeded, OnDown, Policy, PolicySet, PrivateService, RealServer, TargetId};
use super::node::{self, Node};
use super::problem::{self, Problem};
use super::source::{Place, Report, Source};
use crate::probe::target::{Check, Target};

use claim::{Claims, Room};
use tls::Authorities;
pub(crate) use tls::ReadFile;
use via::Probe;

/// What files say.
pub(crate) struct Resolved {
    /// Complete only when no problem is an error.
    pub(crate) set: PolicySet,
    pub(crate) problems: Vec<Problem>,
    /// The files of certificate authorities that they name.
    pub(crate) authorities: BTreeSet<PathBuf>,
}

/// Reads and resolves files.
pub(crate) fn resolve(sources: &[Source], read: ReadFile<'_>) -> Resolved {
    let mut authorities = Authorities::new(read);
    let mut claims = Claims::default();
    let mut room = Room::default();
    let mut drafts = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        let mut report = Report::new(source);
        for (index, document) in documents(&mut report).iter().enumerate() {
            let before = report.errors();
            let Some(file) = PolicyFile::read(document, &mut report) else { continue };
            let name = name(&file, index, source);
            claims.name(&name, &file, &mut report);
            claims.services(&name, &file, &mut report);
            if !room.take(&file, &mut report) {
                continue;
            }
            let draft = draft(name, &file, &mut authorities, &mut report);
            // What is left of a policy with an error in it may be incomplete.
            if report.errors() == before {
                server::tunnel_is_used(&file, &mut report);
                check::needed_are_there(&file, &mut report);
                lint::policy(&file, &draft.policy, &mut report);
                drafts.push(draft);
            }
        }
        problems.extend(report.finish());
    }
    problem::sort(&mut problems);
    let hash = hash(sources, &authorities);
    Resolved { set: assemble(drafts, hash), problems, authorities: authorities.into_paths() }
}

/// Reads and resolves the text of policies that names no files; the first error if there is one.
pub(crate) fn read_text(text: &str) -> Result<PolicySet, Box<Problem>> {
    let source = Source::new(Path::new("policy.yaml"), text.as_bytes().to_vec())?;
    let no_file = |_: &Path| Err("is not read".to_owned());
    let Resolved { set, problems, .. } = resolve(&[source], &no_file);
    match problems.into_iter().find(Problem::is_error) {
        Some(problem) => Err(Box::new(problem)),
        None => Ok(set),
    }
}

/// A policy whose targets have no number yet: one list per real server. What is wrong was
/// reported and is left out, so a draft counts only when nothing was.
#[derive(Debug)]
struct Draft {
    policy: Policy,
    targets: Vec<Vec<Probe>>,
    checks_needed: ChecksNeeded,
    sorry_targets: Vec<Probe>,
}

fn documents(report: &mut Report<'_>) -> Vec<Node> {
    let documents = node::parse(report);
    if documents.is_empty() && report.errors() == 0 {
        let place = Place { line: 1, column: 1, len: 1 };
        report.error(place, "no policy in this file", "remove the file, or write a policy into it");
    }
    documents
}

/// The name as written, or that of the file, with a number from the second document on.
fn name(file: &PolicyFile, index: usize, source: &Source) -> String {
    if let Some(name) = file.name.get() {
        return name.value.clone();
    }
    let stem = source.path().file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_else(|| "policy".to_owned());
    if index == 0 { stem } else { format!("{stem}-{}", index + 1) }
}

fn draft(
    name: String,
    file: &PolicyFile,
    authorities: &mut Authorities<'_>,
    report: &mut Report<'_>,
) -> Draft {
    let services = service::resolve(file, report);
    let servers = server::resolve(file, report);
    server::names_are_unique(file, report);
    let entries = file.checks.get().map_or(&[][..], |checks| &checks.value);
    let checks = check::resolve(entries, authorities, report);
    let destinations = server::destinations(&services, &servers, report);
    let targets = check::targets(&checks, &services, &servers, &destinations, report);
    let checks_needed = file.checks_needed.unwrap_or(ChecksNeeded::All);
    let sorry = sorry::resolve(file, (&services, &destinations), authorities, report);
    let health_floor = safety::health_floor(file, servers.len(), report);
    let sysctl = |name: &str| authorities.sysctl(name);
    safety::lint(file, (&services, &servers), sysctl, report);
    let real_servers = servers.iter().map(|server| RealServer {
        name: server.name(),
        identity: server.identity(),
        address: server.address(),
        targets: Vec::new(),
        needed: 0,
        advisors: Vec::new(),
    });
    let policy = Policy {
        name,
        origin: format!("{}:{}", report.source().path().display(), file.place.line),
        services: server::virtual_services(file, services, &destinations, &sorry, report),
        real_servers: real_servers.collect(),
        on_down: file.on_down.unwrap_or(OnDown::Remove),
        health_floor,
        sorry_server: sorry.server,
    };
    Draft { policy, targets, checks_needed, sorry_targets: sorry.targets }
}

fn assemble(mut drafts: Vec<Draft>, hash: String) -> PolicySet {
    let private = mark(&mut drafts);
    let of_draft = |draft: &Draft| {
        let own = draft.targets.iter().flatten();
        own.chain(&draft.sorry_targets).map(|probe| probe.target.clone()).collect::<Vec<_>>()
    };
    let mut targets: Vec<Target> = drafts.iter().flat_map(of_draft).collect();
    targets.sort_unstable();
    targets.dedup();
    share_checks(&mut targets);
    let id = |target: &Target| {
        let index = targets.binary_search(target).unwrap_or_default();
        TargetId(u32::try_from(index).unwrap_or(u32::MAX))
    };
    let policies = drafts
        .into_iter()
        .map(|Draft { mut policy, targets, checks_needed, sorry_targets }| {
            let give = |server: &mut RealServer, probes: &[Probe], needed: ChecksNeeded| {
                let targets = || probes.iter().map(|probe| &probe.target);
                let ids = |advise: bool| {
                    let is_meant = |one: &&Target| one.check.kind.is_advisor() == advise;
                    let ids: BTreeSet<TargetId> = targets().filter(is_meant).map(id).collect();
                    ids.into_iter().collect()
                };
                server.targets = ids(false);
                server.advisors = ids(true);
                server.needed = needed.of(server.targets.len());
            };
            for (server, targets) in policy.real_servers.iter_mut().zip(&targets) {
                give(server, targets, checks_needed);
            }
            if let Some(sorry) = &mut policy.sorry_server {
                give(sorry, &sorry_targets, ChecksNeeded::All);
            }
            policy
        })
        .collect();
    PolicySet { policies, targets, private, hash }
}

/// Decides on the ways through virtual addresses, of all policies together.
fn mark(drafts: &mut [Draft]) -> Vec<PrivateService> {
    let (mut probes, mut policies) = (Vec::new(), Vec::new());
    for draft in drafts {
        let name: Arc<str> = Arc::from(draft.policy.name.as_str());
        for probe in draft.targets.iter_mut().flatten().chain(&mut draft.sorry_targets) {
            if probe.way.is_some() {
                probes.push(probe);
                policies.push(Arc::clone(&name));
            }
        }
    }
    via::mark(probes, policies)
}

/// Lets equal checks be one value in memory.
fn share_checks(targets: &mut [Target]) {
    let mut checks: Vec<Arc<Check>> = targets.iter().map(|target| target.check.clone()).collect();
    checks.sort_unstable();
    checks.dedup();
    for target in targets {
        if let Ok(index) = checks.binary_search(&target.check) {
            target.check = checks[index].clone();
        }
    }
}

/// FNV-1a over names and contents of all that was read; the same on every machine and in every
/// version, so that two directors can be compared.
fn hash(sources: &[Source], authorities: &Authorities<'_>) -> String {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        // The length in front keeps neighbours apart.
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for source in sources {
        let name = source.path().file_name().unwrap_or_default();
        feed(name.as_encoded_bytes());
        feed(source.text().as_bytes());
    }
    authorities.contents().for_each(feed);
    format!("{state:016x}")
}

/// The first field that says something, unless it was wrong.
fn effective<'f, T>(
    own: &'f Field<T>,
    shared: &'f Field<T>,
) -> Option<Option<&'f super::source::At<T>>> {
    let field = own.or(shared);
    if field.is_bad() { None } else { Some(field.get()) }
}
