//! What is wrong with a machine, by its facts and by what policies want of it. Pure; one file for
//! each kind of trouble.

mod addresses;
mod clock;
mod company;
mod connections;
mod daemon;
mod forwarding;
mod kernel;
mod limits;
mod losses;
mod pair;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::Facts;
use super::finding::{Finding, Severity};
use crate::ipvs::model::{DestinationConfig, Family, Forwarding, ServiceKey};
use crate::policy::model::{Policy, PolicySet, VirtualService};

/// Where the sysctls of IPVS are.
const IPVS: &str = "net.ipv4.vs.";

/// Everything that was looked at, the worst first. Without policies only what matters to any of
/// them.
pub fn findings(facts: &Facts, policies: Option<&PolicySet>) -> Vec<Finding> {
    let none = PolicySet::default();
    let case = Case { facts, policies: policies.unwrap_or(&none) };
    let judges = [
        kernel::judge,
        daemon::judge,
        clock::judge,
        addresses::judge,
        forwarding::judge,
        connections::judge,
        pair::judge,
        losses::judge,
        limits::judge,
        company::judge,
    ];
    let mut findings: Vec<_> = judges.iter().flat_map(|judge| judge(&case)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// A machine and what is wanted of it.
struct Case<'a> {
    facts: &'a Facts,
    policies: &'a PolicySet,
}

impl<'a> Case<'a> {
    fn services(&self) -> impl Iterator<Item = (&'a Policy, &'a VirtualService)> + use<'a> {
        let policies = self.policies.policies.iter();
        policies.flat_map(|policy| policy.services.iter().map(move |service| (policy, service)))
    }

    /// Settings of all destinations, sorry servers too, each with the family of its service.
    fn destinations(&self) -> impl Iterator<Item = (Family, DestinationConfig)> + use<'a> {
        self.services().flat_map(|(_, service)| {
            let family = service.key.family();
            let declared = service.destinations.iter().chain(&service.sorry);
            declared.map(move |destination| (family, destination.config))
        })
    }

    /// The families of services that forward so.
    fn families(&self, forwards: impl Fn(Forwarding) -> bool) -> BTreeSet<Family> {
        let those = self.destinations().filter(|(_, config)| forwards(config.forwarding));
        those.map(|(family, _)| family).collect()
    }

    /// Virtual addresses, each with the first policy that declares it.
    fn addresses(&self) -> BTreeMap<IpAddr, &'a str> {
        let mut addresses = BTreeMap::new();
        for (policy, service) in self.services() {
            if let ServiceKey::Address { address, .. } = service.key {
                addresses.entry(address).or_insert(policy.name.as_str());
            }
        }
        addresses
    }

    /// A boolean of `/proc/sys` that must be on: a finding of this severity, with this reason,
    /// where it is not. Those of IPVS are missed all together, see [`kernel`].
    fn on(&self, severity: Severity, id: &'static str, name: &str, why: &str) -> Option<Finding> {
        let Some(value) = self.facts.number(name) else {
            let unseen = Finding::unseen(id, name, "there is no such sysctl").should("1").why(why);
            return Some(unseen).filter(|_| !name.starts_with(IPVS));
        };
        Some(match value {
            0 => Finding::new(severity, id, name)
                .is("0")
                .should("1")
                .why(why)
                .run(self.facts.set(name, 1)),
            value => Finding::ok(id, name, value.to_string()),
        })
    }
}

/// `a`, `a and b`, `a, b and 3 more`.
fn some<T: std::fmt::Display>(items: &[T]) -> String {
    const MOST: usize = 3;
    let shown: Vec<String> = items.iter().take(MOST).map(T::to_string).collect();
    match (items.len().saturating_sub(MOST), shown.split_last()) {
        (0, Some((last, []))) => last.clone(),
        (0, Some((last, before))) => format!("{} and {last}", before.join(", ")),
        (0, None) => "none".to_owned(),
        (more, _) => format!("{} and {more} more", shown.join(", ")),
    }
}
