//! What a reload or a start takes away, and whether that is so much that somebody should look first.
//!
//! A reload is compared with the policies before it; a start with what the table has of ours.
//! Pure. A file that was cut in half is as valid as one that was meant so; what gives it away is
//! how much goes. Half of a small farm is an everyday edit, so a few things may always go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{PolicySet, VirtualService};
use crate::ipvs::model::{DestinationKey, ServiceKey};

/// Fewer virtual services than this are never too many to go.
const FEWEST_SERVICES: usize = 2;
/// Fewer real servers than this are never too many to go.
const FEWEST_REAL_SERVERS: usize = 3;

/// How much a reload may remove unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Everything.
    Off,
    /// So many of a hundred, 0 to 99.
    Percent(u8),
}

/// What a reload removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Virtual services that no policy declares any more.
    pub services: Part,
    /// Destinations that no policy declares any more, with those of such services.
    pub destinations: Part,
    /// Real servers behind these destinations, each address counted once.
    pub real_servers: Part,
    /// Of the virtual services that stay and lose three destinations or more, the one that loses
    /// the largest share of them.
    pub hardest_hit: Option<Loss>,
}

/// Some of several things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How many go.
    pub going: usize,
    /// How many there are.
    pub of: usize,
}

/// What one virtual service loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The service.
    pub service: ServiceKey,
    /// Its destinations.
    pub destinations: Part,
}

impl Part {
    fn exceeds(self, percent: u8, fewest: usize) -> bool {
        self.going >= fewest && self.going * 100 > self.of * usize::from(percent)
    }

    /// Compares shares without dividing.
    fn is_more_than(self, other: Self) -> bool {
        self.going * other.of > other.going * self.of
    }
}

impl fmt::Display for Part {
    /// `3 of 4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.going, self.of)
    }
}

impl Removal {
    /// What goes when the new policies replace the old ones.
    pub fn between(old: &PolicySet, new: &PolicySet) -> Self {
        Self::from(&destinations(old), new)
    }

    /// What goes of these destinations when policies declare what they declare.
    pub fn from(old: &Destinations, new: &PolicySet) -> Self {
        let new = destinations(new);
        let mut removal = Self::default();
        let (mut servers, mut servers_going) = (BTreeSet::new(), BTreeSet::new());
        for (service, had) in old {
            let stays = new.get(service);
            // What is empty, or drains already, is no loss.
            if stays.is_none() && had.is_empty() {
                continue;
            }
            let has = |key: &&DestinationKey| stays.is_some_and(|stays| stays.contains(key));
            let going = had.iter().filter(|key| !has(key));
            servers_going.extend(going.clone().map(|key| key.address));
            servers.extend(had.iter().map(|key| key.address));
            let part = Part { going: going.count(), of: had.len() };
            removal.services.of += 1;
            removal.services.going += usize::from(stays.is_none());
            removal.destinations.of += part.of;
            removal.destinations.going += part.going;
            let worst = removal.hardest_hit.as_ref().map(|loss| loss.destinations);
            let counts = stays.is_some() && part.going >= FEWEST_REAL_SERVERS;
            if counts && part.is_more_than(worst.unwrap_or(Part { going: 0, of: 1 })) {
                removal.hardest_hit = Some(Loss { service: *service, destinations: part });
            }
        }
        removal.real_servers = Part { going: servers_going.len(), of: servers.len() };
        removal
    }
}

impl Guard {
    /// Whether somebody should look at it first: more than the share of all virtual services go
    /// (and two at least), or more than the share of all destinations, or of those of a service
    /// that stays (and with either three real servers at least).
    pub fn holds(self, removal: &Removal) -> bool {
        let Self::Percent(percent) = self else { return false };
        let few_servers = removal.real_servers.going < FEWEST_REAL_SERVERS;
        let hit = removal.hardest_hit.as_ref().map(|loss| loss.destinations).unwrap_or_default();
        removal.services.exceeds(percent, FEWEST_SERVICES)
            || (removal.destinations.exceeds(percent, 1) && !few_servers)
            || hit.exceeds(percent, 1)
    }
}

impl fmt::Display for Removal {
    /// `3 of 4 destinations and 1 of 2 virtual services`, or what hits one service hard.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} destinations", self.destinations)?;
        if self.services.going > 0 {
            return write!(f, " and {} virtual services", self.services);
        }
        match &self.hardest_hit {
            Some(loss) if self.services.of > 1 => {
                write!(f, ", {} of {}", loss.destinations, loss.service)
            }
            _ => Ok(()),
        }
    }
}

/// Destinations by virtual service.
pub type Destinations = BTreeMap<ServiceKey, BTreeSet<DestinationKey>>;

fn destinations(set: &PolicySet) -> Destinations {
    let services = set.policies.iter().flat_map(|policy| &policy.services);
    let of = |service: &VirtualService| {
        service.destinations.iter().chain(&service.sorry).map(|declared| declared.key).collect()
    };
    services.map(|service| (service.key, of(service))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::load;

    /// `80: 1 2 3` is a service on port 80 with real servers .1, .2 and .3; `;` between services.
    fn set(text: &str) -> PolicySet {
        let policies: Vec<String> = text.split(';').map(policy).collect();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("all.yaml"), policies.join("---\n")).unwrap();
        load(directory.path()).unwrap_or_else(|problems| panic!("{}", problems[0])).set
    }

    fn policy(text: &str) -> String {
        let (ports, servers) = text.split_once(':').unwrap();
        let services: Vec<String> =
            ports.split_whitespace().map(|port| format!("'tcp://198.51.100.1:{port}'")).collect();
        let servers: Vec<String> =
            servers.split_whitespace().map(|host| format!("192.0.2.{host}")).collect();
        format!(
            "virtual_services: [{}]\nreal_servers: [{}]\nchecks: []\n",
            services.join(", "),
            servers.join(", ")
        )
    }

    #[test]
    fn what_is_held_by_table() {
        for (old, new, percent, held) in [
            // Everyday edits of small farms.
            ("80: 1 2", "80: 1", 50, false),
            ("80: 1 2", "80: 3 4", 50, false),
            ("80 443: 1 2", "80 443: 1", 50, false),
            ("80: 1 2 3", "80: 1", 50, false),
            ("80: 1 2 3 4", "80: 1 2", 50, false),
            ("80: 1; 81: 2", "80: 1", 50, false),
            ("80: 1", "81: 1", 50, false),
            // A file that was cut, or is another one.
            ("80: 1 2 3 4", "80: 1", 50, true),
            ("80 443: 1 2 3 4", "80 443: 1", 50, true),
            ("80: 1 2 3 4", "80: 5 6 7 8", 50, true),
            ("80 81 82 83: 1 2", "80: 1 2", 50, true),
            ("80 81: 1", "82 83: 1", 50, true),
            ("80: 1 2 3 4", "81: 1 2 3 4", 50, true),
            // One service of many is cut to the bone.
            ("80: 1 2 3 4; 81: 1 2 3 4; 82: 1 2 3 4", "80: 1; 81: 1 2 3 4; 82: 1 2 3 4", 50, true),
            ("80: 1 2 3 4; 81: 9; 82: 6 7 8 9", "80: 1; 81: 5; 82: 6 7 8 9", 50, true),
            // What comes never counts, and neither do other settings.
            ("80: 1 2 3 4", "80: 1 2 3 4 5 6 7 8; 81: 9", 50, false),
            // Other shares.
            ("80: 1 2 3 4", "80: 1", 75, false),
            ("80: 1 2 3 4 5 6 7 8 9 10", "80: 1 2 3 4 5 6 7", 30, false),
            ("80: 1 2 3 4 5 6 7 8 9 10", "80: 1 2 3 4 5 6 7", 29, true),
            ("80: 1 2 3 4", "80: 1 2 3", 0, false),
        ] {
            let removal = Removal::between(&set(old), &set(new));
            assert_eq!(Guard::Percent(percent).holds(&removal), held, "{old} → {new}: {removal}");
            assert!(!Guard::Off.holds(&removal));
        }
    }

    #[test]
    fn what_goes_is_counted() {
        let old = set("80 81: 1 2 3 4; 90: 1 5");
        let removal = Removal::between(&old, &set("80: 1; 90: 1 5"));
        assert_eq!(removal.services, Part { going: 1, of: 3 });
        assert_eq!(removal.destinations, Part { going: 7, of: 10 });
        assert_eq!(removal.real_servers, Part { going: 4, of: 5 });
        assert_eq!(removal.to_string(), "7 of 10 destinations and 1 of 3 virtual services");
        let removal = Removal::between(&old, &set("80 81: 1; 90: 6"));
        let text = "8 of 10 destinations, 3 of 4 of tcp://198.51.100.1:80";
        assert_eq!(removal.to_string(), text);
        assert_eq!(Removal::between(&old, &old).destinations.going, 0);
        assert_eq!(Removal::between(&PolicySet::default(), &old), Removal::default());
    }

    #[test]
    fn what_has_nothing_left_to_lose_is_no_loss() {
        let service = |port: u16| format!("tcp://198.51.100.1:{port}").parse().unwrap();
        let keys = |hosts: &[u8]| {
            hosts.iter().map(|host| format!("192.0.2.{host}:80").parse().unwrap()).collect()
        };
        let old =
            [(service(80), keys(&[1, 2])), (service(81), keys(&[])), (service(82), keys(&[]))];
        let removal = Removal::from(&old.into(), &set("80: 1 2"));
        assert_eq!(removal.services, Part { going: 0, of: 1 });
        assert!(!Guard::Percent(50).holds(&removal));
    }
}
