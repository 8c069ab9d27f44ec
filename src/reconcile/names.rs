//! What people call the real servers behind destinations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ipvs::model::{DestinationKey, ServiceKey, Table};
use crate::policy::model::{Policy, PolicySet, VirtualService};

use super::plan::Step;

type Id = (ServiceKey, DestinationKey);

/// Names that real servers were given, by their destinations. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(Id, String)>", from = "Vec<(Id, String)>")]
pub struct Names {
    given: Arc<BTreeMap<Id, String>>,
    /// What policies that are in force no more called those that no policy declares now.
    left: Arc<BTreeMap<Id, String>>,
}

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
        set.policies.iter().flat_map(of_policy).collect::<Vec<_>>().into()
    }

    /// Those of policies that take the place of others, so that who leaves keeps its name.
    pub fn after(before: &Self, set: &PolicySet) -> Self {
        let services = set.policies.iter().flat_map(|policy| &policy.services);
        let declared: BTreeSet<Id> = services
            .flat_map(|it| it.destinations.iter().chain(&it.sorry).map(|at| (it.key, at.key)))
            .collect();
        let known = before.given.iter().chain(before.left.iter());
        let left = known.filter(|(id, _)| !declared.contains(id));
        let left = left.map(|(id, name)| (*id, name.clone())).collect();
        Self { left: Arc::new(left), ..Self::of(set) }
    }

    /// Forgets who has left the table as well.
    pub fn forget_gone(&mut self, table: &Table) {
        if self.left.is_empty() {
            return;
        }
        Arc::make_mut(&mut self.left).retain(|(service, destination), _| {
            table.get(service).is_some_and(|it| it.destinations.contains_key(destination))
        });
    }

    /// That of a destination; `None` where its real server is called by its address, or nobody knows
    /// it.
    pub fn get(&self, service: ServiceKey, destination: DestinationKey) -> Option<&str> {
        let id = (service, destination);
        self.given.get(&id).or_else(|| self.left.get(&id)).map(String::as_str)
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

impl From<Names> for Vec<(Id, String)> {
    fn from(names: Names) -> Self {
        let all = names.given.iter().chain(names.left.iter());
        all.map(|(id, name)| (*id, name.clone())).collect()
    }
}

/// As they are merged into those of other policies, it makes no difference who has left.
impl From<Vec<(Id, String)>> for Names {
    fn from(names: Vec<(Id, String)>) -> Self {
        Self { given: Arc::new(names.into_iter().collect()), left: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::model::Service;
    use crate::policy::load::load;

    const SERVICE: &str = "tcp://192.0.2.1:80";

    fn set(servers: &str) -> PolicySet {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "virtual_services: ['{SERVICE}']\nforwarding: masq\nchecks: []\nreal_servers: [{servers}]\n"
        );
        std::fs::write(dir.path().join("www.yaml"), text).unwrap();
        load(dir.path()).unwrap().set
    }

    #[test]
    fn who_leaves_keeps_its_name_until_it_is_gone() {
        let called = |names: &Names| {
            let of = |host| {
                let destination = format!("10.0.0.{host}:80").parse().unwrap();
                names.get(SERVICE.parse().unwrap(), destination).unwrap_or("-").to_owned()
            };
            [1, 2, 3].map(of).join(" ")
        };
        let web = |host| format!("{{ name: web-{host}, address: 10.0.0.{host} }}");
        let all = Names::of(&set(&[1, 2, 3].map(web).join(", ")));
        assert_eq!(called(&all), "web-1 web-2 web-3");
        // The first one is declared without its name, the second one not at all.
        let mut names = Names::after(&all, &set(&format!("10.0.0.1, {}", web(3))));
        assert_eq!(called(&names), "- web-2 web-3");
        let written = serde_json::to_string(&names).unwrap();
        assert_eq!(called(&serde_json::from_str(&written).unwrap()), "- web-2 web-3");

        let example = set("10.0.0.2").policies[0].services[0].clone();
        let mut service = Service::new(example.config.clone());
        let there = &example.destinations[0];
        service.destinations.insert(there.key, crate::ipvs::model::Destination::new(there.config));
        names.forget_gone(&[(example.key, service)].into());
        // Also over another edit.
        names = Names::after(&names, &set("10.0.0.1"));
        assert_eq!(called(&names), "- web-2 web-3");
        names.forget_gone(&Table::new());
        assert_eq!(called(&names), "- - -");
    }
}
