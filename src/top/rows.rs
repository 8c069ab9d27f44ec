//! Which lines the list has: every virtual service with its destinations, as filtered, sorted and
//! collapsed.

use std::collections::{BTreeSet, HashSet};

use crate::control::status::{DestinationStatus, ServiceStatus, Status};
use crate::health::Health;
use crate::ipvs::model::ServiceKey;

/// One line of the list. Numbers are places in the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// A virtual service.
    Service {
        /// Which one.
        service: usize,
        /// Its real servers that are up.
        up: usize,
        /// How many it has.
        of: usize,
        /// Whether anything of it is a problem.
        problem: bool,
    },
    /// A destination.
    Destination {
        /// Of which virtual service.
        service: usize,
        /// Which one of it.
        index: usize,
        /// Whether it is not up and in the table as its policy declares, or does not leave as it
        /// should.
        problem: bool,
    },
}

/// What of the status is shown, and in which order.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// Words that all have to be in a line or in that of its service, whatever their case.
    pub(super) filter: String,
    /// Only what is a problem.
    pub(super) problems: bool,
    /// The order.
    pub(super) sort: Sort,
    /// Services that are shown without their destinations. A filter looks into them all the same.
    pub(super) collapsed: BTreeSet<ServiceKey>,
}

/// The order of services, and of destinations in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As policies declare them.
    #[default]
    Declared,
    /// Problems first, and of those what is down.
    Problems,
    /// The newest verdict first.
    Since,
    /// The most active connections first.
    Active,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Declared => Self::Problems,
            Self::Problems => Self::Since,
            Self::Since => Self::Active,
            Self::Active => Self::Declared,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Problems => "problems",
            Self::Since => "since",
            Self::Active => "active",
        }
    }

    /// The smallest comes first. Seconds are rounded down so that equals stay in their order.
    fn rank(self, destination: &DestinationStatus, problem: bool) -> u64 {
        match self {
            Self::Declared => 0,
            Self::Problems => match (problem, destination.health) {
                (true, Health::Down) => 0,
                (true, _) => 1,
                (false, _) => 2,
            },
            Self::Since => destination.since.map_or(u64::MAX, |since| since as u64),
            Self::Active => u64::MAX - u64::from(destination.connections.active),
        }
    }
}

/// The lines of a status.
pub(super) fn rows(status: &Status, view: &View) -> Vec<Row> {
    let declared = status.real_servers.iter();
    let declared = declared.map(|it| (it.policy.as_str(), it.real_server.as_str())).collect();
    let words: Vec<String> = view.filter.split_whitespace().map(str::to_lowercase).collect();
    let lister = Lister { view, words, declared };
    let services = status.services.iter().enumerate();
    let mut blocks: Vec<(u64, Vec<Row>)> =
        services.filter_map(|(number, it)| lister.block(number, it)).collect();
    blocks.sort_by_key(|(rank, _)| *rank);
    blocks.into_iter().flat_map(|(_, rows)| rows).collect()
}

struct Lister<'a> {
    view: &'a View,
    words: Vec<String>,
    /// Real servers by policy and name; a sorry server is none.
    declared: HashSet<(&'a str, &'a str)>,
}

impl Lister<'_> {
    /// A service and its destinations with the rank of the first; `None` if nothing of it is shown.
    fn block(&self, number: usize, service: &ServiceStatus) -> Option<(u64, Vec<Row>)> {
        let own = format!("{} {} {}", service.service, service.origin(), service.config);
        let own = own.to_lowercase();
        let (mut up, mut of, mut any, mut rank) = (0, 0, !service.in_kernel, u64::MAX);
        let mut shown: Vec<(u64, Row)> = Vec::new();
        for (index, it) in service.destinations.iter().enumerate() {
            let is_sorry = self.is_sorry(service, it);
            let problem = match service.policy {
                Some(_) => is_problem(it, is_sorry),
                // It leaves in order.
                None => it.weight_wanted != it.weight_kernel,
            };
            any |= problem;
            if it.real_server.is_some() && !is_sorry {
                of += 1;
                up += usize::from(it.health == Health::Up);
            }
            if self.shows(&own, it, problem) {
                let own_rank = self.view.sort.rank(it, problem);
                rank = rank.min(own_rank);
                shown.push((own_rank, Row::Destination { service: number, index, problem }));
            }
        }
        let itself = self.fits(&own, None) && (any || !self.view.problems);
        if shown.is_empty() && !itself {
            return None;
        }
        shown.sort_by_key(|(rank, _)| *rank);
        if self.words.is_empty() && self.view.collapsed.contains(&service.service) {
            shown.clear();
        }
        let mut block = vec![Row::Service { service: number, up, of, problem: any }];
        block.extend(shown.into_iter().map(|(_, row)| row));
        Some((rank, block))
    }

    fn is_sorry(&self, service: &ServiceStatus, it: &DestinationStatus) -> bool {
        let of = service.policy.as_deref().zip(it.real_server.as_deref());
        of.is_some_and(|of| !self.declared.contains(&of))
    }

    fn shows(&self, service: &str, it: &DestinationStatus, problem: bool) -> bool {
        (problem || !self.view.problems) && self.fits(service, Some(it))
    }

    fn fits(&self, service: &str, destination: Option<&DestinationStatus>) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let own = destination.map_or(String::new(), |it| {
            let name = it.real_server.as_deref().unwrap_or("-");
            format!("{} {name} {} {}", it.destination, it.health, it.why).to_lowercase()
        });
        self.words.iter().all(|word| service.contains(word) || own.contains(word))
    }
}

/// Whether a destination is anything but up and in the table as its policy declares. A sorry server
/// is one while it is needed.
fn is_problem(it: &DestinationStatus, is_sorry: bool) -> bool {
    if is_sorry {
        return it.weight_wanted.is_some() || it.weight_kernel.is_some();
    }
    let overridden = it.weight.as_ref().is_some_and(|weight| weight.overridden.is_some());
    it.real_server.is_none()
        || it.health != Health::Up
        || it.weight_wanted.is_none()
        || it.weight_wanted != it.weight_kernel
        || it.drain_left.is_some()
        || overridden
}
