//! What policies must share: names, virtual services, and the size of the whole.

use std::collections::{BTreeMap, HashMap};

use crate::ipvs::model::ServiceKey;
use crate::ipvs::private;
use crate::policy::file::PolicyFile;
use crate::policy::file::check::CheckEntry;
use crate::policy::problem::Location;
use crate::policy::source::{At, Report};

/// Names and virtual services taken so far, in all files.
#[derive(Debug, Default)]
pub(super) struct Claims {
    names: HashMap<String, Location>,
    services: BTreeMap<ServiceKey, (String, Location)>,
}

impl Claims {
    pub(super) fn name(&mut self, name: &str, file: &PolicyFile, report: &mut Report<'_>) {
        let place = file.name.get().map_or(file.place, |name| name.place);
        let location = report.source().location(place);
        match self.names.get(name) {
            Some(first) => {
                let help = format!("it is that of {first}; write another `name:`");
                report.error(place, format!("policy name `{name}` is taken"), help);
            }
            None => {
                self.names.insert(name.to_owned(), location);
            }
        }
    }

    pub(super) fn services(&mut self, name: &str, file: &PolicyFile, report: &mut Report<'_>) {
        for entry in file.services.get().iter().flat_map(|entries| &entries.value) {
            let key = &entry.value.key;
            if key.value.is_private() {
                let message =
                    format!("`{}` is one of the marks that pointsman uses itself", key.value);
                report.error(key.place, message, "use a mark outside 0x706d0000 to 0x706dffff");
                continue;
            }
            match self.services.get(&key.value) {
                Some((owner, first)) => {
                    let message = match owner == name {
                        true => format!("`{}` is written twice", key.value),
                        false => format!("`{}` belongs to policy `{owner}` already", key.value),
                    };
                    let help =
                        format!("it is claimed at {first}; a virtual service has one policy");
                    report.error(key.place, message, help);
                }
                None => {
                    let location = report.source().location(key.place);
                    self.services.insert(key.value, (name.to_owned(), location));
                }
            }
        }
    }
}

/// The most destinations of all policies, and the most targets before equal ones are joined.
const MAX_PRODUCTS: usize = 200_000;

/// How much all policies may become together: a small file can stand for a huge table.
#[derive(Debug)]
pub(super) struct Room {
    destinations: usize,
    targets: usize,
    ways: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { destinations: MAX_PRODUCTS, targets: MAX_PRODUCTS, ways: private::MOST }
    }
}

impl Room {
    /// Takes what a policy needs; false when there is no room for it.
    pub(super) fn take(&mut self, file: &PolicyFile, report: &mut Report<'_>) -> bool {
        let services = file.services.get().map_or(0, |entries| entries.value.len());
        let servers = file.real_servers.get().map_or(0, |entries| entries.value.len());
        let checks = file.checks.get().map_or(0, |entries| entries.value.len());
        let is_via = |check: &&At<CheckEntry>| !check.value.via.is_absent();
        let entries = file.checks.get().map_or(&[][..], |entries| &entries.value);
        let ways = services.saturating_mul(entries.iter().filter(is_via).count());
        let (destinations, targets, most) =
            (&mut self.destinations, &mut self.targets, MAX_PRODUCTS);
        for (left, factor, what, parts, most) in [
            (destinations, services, "destinations", "virtual services", most),
            (targets, checks + ways, "targets to probe", "checks", most),
            (
                &mut self.ways,
                ways,
                "ways through virtual addresses",
                "of `via: vip`",
                private::MOST,
            ),
        ] {
            match left.checked_sub(servers.saturating_mul(factor)) {
                Some(rest) => *left = rest,
                None => {
                    let message = format!(
                        "{servers} real servers with {factor} {parts} bring all policies above \
                         {most} {what}"
                    );
                    report.error(file.place, message, "no director can hold that many");
                    return false;
                }
            }
        }
        true
    }
}
