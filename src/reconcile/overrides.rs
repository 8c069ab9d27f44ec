//! What operators said of single real servers, over the heads of policies and probes.
//!
//! Pure. One override per real server of a policy: a newer one replaces it, `enable` removes it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::policy::model::{PolicySet, RealServer};
use crate::record::Kind;

/// The record of them.
pub const OVERRIDES: Kind = Kind {
    name: "overrides",
    key: "overrides",
    what: "overrides",
    without: "what operators drained or disabled takes traffic again if it is up",
};

/// All overrides, by policy and identity of the real server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<String, BTreeMap<String, Override>>);

/// What an operator said, and the circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What is to be.
    pub action: Action,
    /// Who said it.
    pub by: String,
    /// When, to the second.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// When it ends by itself, to the second.
    #[serde(default, with = "rfc3339::option")]
    pub until: Option<SystemTime>,
    /// Why.
    pub reason: Option<String>,
}

/// What an override does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// No new connections; out when those it has are gone or the policy's drain deadline passes.
    Drain,
    /// Out at once.
    Disable,
    /// This weight instead of the declared one while it is fit; 0 quiesces.
    Weight(u32),
}

impl Overrides {
    /// The override of a real server, by the name of its policy and its own identity.
    pub fn get(&self, policy: &str, identity: &str) -> Option<&Override> {
        self.0.get(policy)?.get(identity)
    }

    /// Adds or replaces one.
    pub fn set(&mut self, policy: &str, identity: &str, entry: Override) {
        self.0.entry(policy.to_owned()).or_default().insert(identity.to_owned(), entry);
    }

    /// Removes one and hands it over.
    pub fn remove(&mut self, policy: &str, identity: &str) -> Option<Override> {
        let of_policy = self.0.get_mut(policy)?;
        let removed = of_policy.remove(identity);
        if of_policy.is_empty() {
            self.0.remove(policy);
        }
        removed
    }

    /// All of them: policy, identity of the real server, override; in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Override)> {
        self.0.iter().flat_map(|(policy, servers)| {
            servers.iter().map(move |(server, entry)| (policy.as_str(), server.as_str(), entry))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what has ended by now: policy, real server, override.
    pub fn expire(&mut self, now: SystemTime) -> Vec<(String, String, Override)> {
        let ended: Vec<(String, String, Override)> = self
            .iter()
            .filter(|(_, _, entry)| entry.until.is_some_and(|until| until <= now))
            .map(|(policy, server, entry)| (policy.to_owned(), server.to_owned(), entry.clone()))
            .collect();
        for (policy, server, _) in &ended {
            self.remove(policy, server);
        }
        ended
    }

    /// When the next one ends by itself.
    pub fn next_end(&self) -> Option<SystemTime> {
        self.iter().filter_map(|(_, _, entry)| entry.until).min()
    }

    /// Those of a real server that no policy of the set declares: policy, real server, override.
    pub fn strays<'a>(
        &'a self,
        set: &'a PolicySet,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a Override)> {
        self.iter().filter(|(policy, server, _)| declared(set, policy, server).is_none())
    }
}

/// The real server of this identity in the policy of this name.
pub fn declared<'s>(set: &'s PolicySet, policy: &str, identity: &str) -> Option<&'s RealServer> {
    let of_name = set.policies.iter().filter(|it| it.name == policy);
    of_name.flat_map(|it| &it.real_servers).find(|it| it.identity == identity)
}

/// What people call the real server of this identity; one that nobody declares has no other name.
pub fn called<'s>(set: &'s PolicySet, policy: &str, identity: &'s str) -> &'s str {
    declared(set, policy, identity).map_or(identity, |server| &server.name)
}

impl fmt::Display for Action {
    /// `drained`, `disabled`, `weight 10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain => f.pad("drained"),
            Self::Disable => f.pad("disabled"),
            Self::Weight(weight) => f.pad(&format!("weight {weight}")),
        }
    }
}

/// Times as people can read them in the record.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::{Deserialize as _, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_seconds(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        parse(&String::deserialize(from)?)
    }

    fn parse<E: Error>(text: &str) -> Result<SystemTime, E> {
        humantime::parse_rfc3339(text)
            .map_err(|error| E::custom(format!("`{text}` is not a time: {error}")))
    }

    pub(super) mod option {
        use super::{Deserializer, Serializer, SystemTime};
        use serde::Deserialize as _;

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| super::parse(&text)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn entry(action: Action, until: Option<u64>) -> Override {
        let reason = Some("disk swap".to_owned());
        Override { action, by: "alice".to_owned(), at: at(1_000), until: until.map(at), reason }
    }

    #[test]
    fn what_ends_ends_at_its_time_and_the_rest_stays() {
        let mut overrides = Overrides::default();
        overrides.set("www", "10.0.0.1", entry(Action::Drain, Some(2_000)));
        overrides.set("www", "10.0.0.2", entry(Action::Disable, None));
        overrides.set("dns", "10.0.0.1", entry(Action::Weight(5), Some(3_000)));
        assert_eq!(overrides.next_end(), Some(at(2_000)));
        assert!(overrides.expire(at(1_999)).is_empty());
        let ended = overrides.expire(at(2_000));
        let names: Vec<_> = ended.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
        assert_eq!(names, [("www", "10.0.0.1")]);
        assert_eq!(overrides.next_end(), Some(at(3_000)));
        assert_eq!(overrides.expire(at(9_000)).len(), 1);
        assert_eq!(overrides.next_end(), None);
        assert!(overrides.get("www", "10.0.0.2").is_some());
    }

    #[test]
    fn the_record_reads_back_and_people_can_read_it() {
        let mut overrides = Overrides::default();
        overrides.set("www", "10.0.0.1", entry(Action::Weight(0), Some(2_000)));
        overrides.set("www", "10.0.0.2", entry(Action::Drain, None));
        let text = serde_json::to_string(&overrides).unwrap();
        assert!(text.contains("1970-01-01T00:33:20Z"), "{text}");
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides);
        let wrong = text.replace("1970-01-01T00:33:20Z", "soon");
        let error = serde_json::from_str::<Overrides>(&wrong).unwrap_err().to_string();
        assert!(error.contains("`soon` is not a time"), "{error}");
    }
}
