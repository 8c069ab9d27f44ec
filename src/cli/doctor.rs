//! `pointsman doctor`: what on this machine keeps LVS from working, and the command that mends it.

use std::path::Path;

use serde::Serialize;

use super::args::{Doctor as Args, Output};
use super::{Exit, Failure, answer, colour, json, open, runtime};
use crate::control::client;
use crate::control::status::Status;
use crate::doctor::facts::{BadPolicies, Daemon};
use crate::doctor::files::Root;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::judge::findings;
use crate::doctor::machine::{Question, look};
use crate::doctor::text::render;
use crate::ipvs::model::ServiceKey;
use crate::policy::load::load;
use crate::policy::model::PolicySet;

#[derive(Serialize)]
struct Answer<'a> {
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: &'a [Finding],
}

pub(super) fn doctor(args: &Args) -> Result<Exit, Failure> {
    open::enter(args.netns.as_deref())?;
    let (set, bad_policies) = match load(&args.policies) {
        Ok(loaded) => (Some(loaded.set), None),
        Err(problems) => {
            open::complain_of(&problems);
            let path = args.policies.display().to_string();
            (None, Some(BadPolicies { path, problems: problems.len() }))
        }
    };
    let facts = look(
        &Root::new("/"),
        Question {
            netns: args.netns.clone(),
            bad_policies,
            addresses: set.as_ref().map(addresses).unwrap_or_default(),
            policies: &args.policies,
            state_dir: &args.state_dir,
            daemon: daemon(&args.socket.socket)?,
        },
    );
    let findings = findings(&facts, set.as_ref());
    let count = |severity| findings.iter().filter(|it| it.severity == severity).count();
    let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(count);
    answer(&match args.output {
        Output::Text => render(&findings, args.all, colour(&std::io::stdout())),
        Output::Json => json(&Answer { errors, warnings, notes, findings: &findings })?,
    })?;
    Ok(if errors + warnings > 0 { Exit::Pending } else { Exit::Done })
}

fn addresses(set: &PolicySet) -> Vec<std::net::IpAddr> {
    let services = set.policies.iter().flat_map(|policy| &policy.services);
    let address = |key| match key {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Fwmark { .. } => None,
    };
    services.filter_map(|service| address(service.key)).collect()
}

fn daemon(socket: &Path) -> Result<Daemon, Failure> {
    let status = runtime()?.block_on(client::get::<Status>(socket, "/v1/status"));
    Ok(match status {
        Ok(status) => Daemon::Running {
            pid: status.pid,
            dry_run: status.dry_run,
            ipvs: status.ipvs,
            degraded: status.degraded,
            repairs: status.table.drift_repaired,
        },
        Err(error) if error.is_absence() => {
            Daemon::Absent(format!("nobody answers on {}", socket.display()))
        }
        Err(error) => Daemon::Silent(error.to_string()),
    })
}
