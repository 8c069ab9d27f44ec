//! What people call the real servers behind destinations.

use std::collections::BTreeMap;

use crate::ipvs::model::{DestinationKey, ServiceKey};
use crate::policy::model::{Policy, PolicySet, VirtualService};

use super::plan::Step;

/// Names that real servers were given, by their destinations.
#[derive(Debug, Clone, Default)]
pub struct Names(BTreeMap<(ServiceKey, DestinationKey), String>);

impl Names {
    /// Those of policies.
    pub fn of(set: &PolicySet) -> Self {
        let of_policy = |policy: &Policy| {
            let named = |service: &VirtualService| {
                let key = service.key;
                let servers = policy.real_servers.iter().zip(&service.destinations);
                let sorry = policy.sorry_server.iter().zip(&service.sorry);
                let named = servers.chain(sorry).filter_map(|(it, at)| Some((it.given()?, at)));
                named.map(move |(name, at)| ((key, at.key), name.to_owned())).collect::<Vec<_>>()
            };
            policy.services.iter().flat_map(named).collect::<Vec<_>>()
        };
        Self(set.policies.iter().flat_map(of_policy).collect())
    }

    /// That of a destination; `None` where its real server is called by its address, or undeclared.
    pub fn get(&self, service: ServiceKey, destination: DestinationKey) -> Option<&str> {
        self.0.get(&(service, destination)).map(String::as_str)
    }

    /// That of the destination a step is about.
    pub fn of_step(&self, step: &Step) -> Option<&str> {
        self.get(*step.change.service(), *step.destination()?)
    }

    /// `10.0.0.1:80 (web-1)`, or the destination alone.
    pub(super) fn show(&self, service: ServiceKey, destination: DestinationKey) -> String {
        match self.get(service, destination) {
            Some(name) => format!("{destination} ({name})"),
            None => destination.to_string(),
        }
    }
}
