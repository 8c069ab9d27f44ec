//! What needs an operator, in words: why a status is degraded.

use super::status::{CheckStatus, Status};
use crate::count::count;
use crate::health::{Health, OutcomeKind};
use crate::policy::model::{PolicySet, VirtualService};
use crate::probe::runner::Snapshot;
use crate::reconcile::desired::{Desired, Why};
use crate::reconcile::driver::Report;
use crate::reconcile::view::HealthView;

/// One line each; none when all is well.
pub(super) fn of(status: &Status, snapshot: &Snapshot, report: &Report) -> Vec<String> {
    let mut troubles = Vec::new();
    troubles.extend(status.alarm.as_ref().map(ToString::to_string));
    troubles.extend(on_parole(&snapshot.view));
    troubles.extend(status.troubles());
    troubles.extend(at_the_limit(&snapshot.policies, &report.desired));
    troubles.extend(
        report
            .guarded
            .as_ref()
            .map(|removal| format!("start held: it would remove {removal} (pointsman confirm)")),
    );
    troubles
}

/// What the blast-radius limit still holds although it is over.
fn on_parole(view: &HealthView) -> Option<String> {
    let targets = view.verdicts.iter().filter(|it| it.parole.is_some()).count();
    (targets > 0).then(|| {
        format!(
            "{} still down after the blast-radius limit, held until `fall` more failures in a row \
             (`pointsman release` ends that now)",
            count(targets, "check target")
        )
    })
}

impl Status {
    /// How many real servers have a check whose last attempt the director could not make.
    fn unasked(&self) -> usize {
        let unasked = |check: &CheckStatus| {
            check.last.as_ref().is_some_and(|last| last.kind == OutcomeKind::Inconclusive)
        };
        self.real_servers.iter().filter(|server| server.checks.iter().any(unasked)).count()
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.table.error.is_some() {
            troubles.push("trouble with the table or its record".to_owned());
        }
        match self.table.pending.len() {
            0 => {}
            1 => troubles.push("1 change refused by the kernel".to_owned()),
            many => troubles.push(format!("{many} changes refused by the kernel")),
        }
        match (self.count(Health::Down), self.real_servers.len()) {
            (0, _) => {}
            (down, all) => troubles.push(format!("{down} of {all} real servers down")),
        }
        // Their verdicts stay as they are, whatever becomes of them.
        match (self.unasked(), self.real_servers.len()) {
            (0, _) => {}
            (unasked, all) => {
                troubles.push(format!("{unasked} of {all} real servers cannot be probed"));
            }
        }
        if self.policies.refused.is_some() {
            troubles.push("newer policies refused".to_owned());
        }
        if let Some(held) = &self.policies.held {
            troubles.push(format!("newer policies held: they would remove {}", held.removal));
        }
        if !self.settings.refused.is_empty() {
            troubles.push("newer settings refused".to_owned());
        }
        if !self.alerts_refused.is_empty() {
            troubles.push("the alerts file is refused".to_owned());
        }
        for one in &self.alerts_undelivered {
            troubles.push(format!("alerts do not reach {}", one.receiver));
        }
        if !self.settings.need_restart.is_empty() {
            let changed = self.settings.need_restart.join(", ");
            troubles.push(format!("settings that need a restart: {changed}"));
        }
        match self.overrides.iter().filter(|it| !it.applies).count() {
            0 => {}
            1 => troubles.push("1 override of what no policy declares".to_owned()),
            many => troubles.push(format!("{many} overrides of what no policy declares")),
        }
        troubles
    }
}

/// What keeps users from the worst, and says that something is bad enough for it.
fn at_the_limit(policies: &PolicySet, desired: &Desired) -> Vec<String> {
    let mut troubles: Vec<String> = Vec::new();
    for policy in &desired.standing.withdrawn {
        troubles.push(format!("policy {policy} withdrawn by its health floor"));
    }
    let of = |is: fn(&Why) -> bool| {
        let all = desired.services.values().flat_map(|service| service.destinations.values());
        all.filter(|one| is(&one.why)).count()
    };
    match of(|why| matches!(why, Why::Kept(_))) {
        0 => {}
        1 => troubles.push("1 destination kept by the health floor although it is down".to_owned()),
        many => troubles
            .push(format!("{many} destinations kept by the health floor although they are down")),
    }
    let unserved = |service: &&VirtualService| {
        let desired = desired.services.get(&service.key);
        desired.is_some_and(|it| it.is_unserved(service) && !it.has_sorry())
    };
    let declared = policies.policies.iter().flat_map(|policy| &policy.services);
    match declared.filter(unserved).count() {
        0 => {}
        1 => troubles.push("1 virtual service takes no connections".to_owned()),
        many => troubles.push(format!("{many} virtual services take no connections")),
    }
    match of(|why| matches!(why, Why::Sorry)) {
        0 => {}
        1 => troubles.push("1 virtual service answered by its sorry server".to_owned()),
        many => troubles.push(format!("{many} virtual services answered by their sorry servers")),
    }
    troubles
}
