//! Which real server an operator means. Pure.
//!
//! A real server is named as its policy names it, by its address, or as a destination of it is
//! shown (`ADDRESS:PORT`). What fits several is an error that lists them.

use std::net::IpAddr;

use thiserror::Error;

use crate::ipvs::model::DestinationKey;
use crate::policy::closest;
use crate::policy::model::{Policy, PolicySet, RealServer};

/// How many names an error lists.
const MOST_LISTED: usize = 10;

/// Why a name does not lead to one real server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// No policy has this name.
    #[error("no policy `{name}` is in force; {help}")]
    Policy {
        /// As it was written.
        name: String,
        /// The one that was probably meant, or all there are.
        help: String,
    },
    /// The policy has no such real server.
    #[error("policy {policy} has no real server `{name}`; {help}")]
    RealServer {
        /// The policy.
        policy: String,
        /// As it was written.
        name: String,
        /// The one that was probably meant, or all there are.
        help: String,
    },
    /// Several real servers of the policy fit.
    #[error("`{name}` is several real servers of policy {policy}; name one of: {candidates}")]
    Ambiguous {
        /// The policy.
        policy: String,
        /// As it was written.
        name: String,
        /// Their names.
        candidates: String,
    },
}

/// Finds the real server that is meant, with its policy and its index in it.
///
/// # Errors
/// No policy or real server fits, or several real servers do.
pub fn find<'s>(
    set: &'s PolicySet,
    policy: &str,
    real_server: &str,
) -> Result<(&'s Policy, usize), NameError> {
    let policy = find_policy(set, policy)?;
    let is_called =
        |server: &RealServer| server.name == real_server || server.identity == real_server;
    let by_name = policy.real_servers.iter().position(is_called);
    if let Some(index) = by_name {
        return Ok((policy, index));
    }
    let fitting = candidates(policy, real_server);
    match fitting.as_slice() {
        [index] => Ok((policy, *index)),
        [] => {
            let names = || policy.real_servers.iter().map(|server| server.name.as_str());
            Err(NameError::RealServer {
                policy: policy.name.clone(),
                name: real_server.to_owned(),
                help: match policy.real_servers.len() {
                    ..=MOST_LISTED => format!("there are: {}", list(names())),
                    _ => help(real_server, names),
                },
            })
        }
        many => {
            let names = many.iter().map(|index| policy.real_servers[*index].name.as_str());
            Err(NameError::Ambiguous {
                policy: policy.name.clone(),
                name: real_server.to_owned(),
                candidates: list(names),
            })
        }
    }
}

fn find_policy<'s>(set: &'s PolicySet, name: &str) -> Result<&'s Policy, NameError> {
    let names = || set.policies.iter().map(|policy| policy.name.as_str());
    set.policies
        .iter()
        .find(|policy| policy.name == name)
        .ok_or_else(|| NameError::Policy { name: name.to_owned(), help: help(name, names) })
}

/// The real servers of a policy with this address, or with such a destination.
fn candidates(policy: &Policy, written: &str) -> Vec<usize> {
    let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(written).parse().ok();
    let destination: Option<DestinationKey> = written.parse().ok();
    let fits = |(index, server): &(usize, &RealServer)| {
        address == Some(server.address)
            || destination.is_some_and(|key| {
                policy
                    .services
                    .iter()
                    .any(|it| it.destinations.get(*index).is_some_and(|it| it.key == key))
            })
    };
    policy.real_servers.iter().enumerate().filter(fits).map(|(index, _)| index).collect()
}

fn help<'n, I: Iterator<Item = &'n str>>(written: &str, names: impl Fn() -> I) -> String {
    match closest(written, names()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there are: {}", list(names())),
    }
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    let listed = names.iter().take(MOST_LISTED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::load;

    fn set() -> PolicySet {
        let directory = tempfile::tempdir().unwrap();
        let yaml = "
name: shop
virtual_services:
  - tcp://198.51.100.1:80
  - { service: tcp://198.51.100.1:443, port: 8443 }
forwarding: masq
real_servers:
  - 192.0.2.1
  - '192.0.2.2:8080'
  - { name: web-2, address: 192.0.2.2, port: 8081 }
checks: []
";
        let six = "
name: six
virtual_services: ['tcp://[2001:db8::80]:80']
forwarding: masq
real_servers: [2001:db8::1]
checks: []
";
        std::fs::write(directory.path().join("all.yaml"), format!("{yaml}---{six}")).unwrap();
        load(directory.path()).unwrap_or_else(|problems| panic!("{}", problems[0])).set
    }

    #[test]
    fn names_addresses_and_destinations_lead_to_a_real_server() {
        let set = set();
        for (policy, written, name) in [
            ("shop", "192.0.2.1", "192.0.2.1"),
            ("shop", "192.0.2.1:80", "192.0.2.1"),
            ("shop", "192.0.2.1:8443", "192.0.2.1"),
            ("shop", "192.0.2.2:8081", "web-2"),
            ("shop", "web-2", "web-2"),
            ("six", "2001:db8::1", "2001:db8::1"),
            ("six", "2001:DB8:0::1", "2001:db8::1"),
            ("six", "[2001:db8::1]", "2001:db8::1"),
            ("six", "[2001:db8::1]:80", "2001:db8::1"),
        ] {
            let (found, index) = find(&set, policy, written).unwrap();
            assert_eq!(found.real_servers[index].name, name, "{policy} {written}");
        }
    }

    #[test]
    fn errors_say_what_there_is() {
        let set = set();
        for (policy, written, message) in [
            ("shpo", "192.0.2.1", "no policy `shpo` is in force; did you mean `shop`?"),
            ("news", "192.0.2.1", "no policy `news` is in force; there are: shop, six"),
            (
                "shop",
                "192.0.2.2",
                "`192.0.2.2` is several real servers of policy shop; name one of: \
                 192.0.2.2:8080, web-2",
            ),
            (
                "shop",
                "192.0.2.3",
                "policy shop has no real server `192.0.2.3`; there are: 192.0.2.1, \
                 192.0.2.2:8080, web-2",
            ),
            ("six", "web", "policy six has no real server `web`; there are: 2001:db8::1"),
        ] {
            assert_eq!(find(&set, policy, written).unwrap_err().to_string(), message);
        }
    }
}
