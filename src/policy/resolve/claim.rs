//! What only one policy may have: a name, a virtual service.

use std::collections::{BTreeMap, HashMap};

use crate::ipvs::model::ServiceKey;
use crate::policy::file::PolicyFile;
use crate::policy::problem::Location;
use crate::policy::source::Report;

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
