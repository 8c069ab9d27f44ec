//! The words of a plan: what a step changes and why, the same in `plan`, the log and JSON.

use std::fmt;

use crate::ipvs::model::{Change, DestinationConfig, Persistence, ServiceConfig};

use super::desired::Why;
use super::names::Names;
use super::plan::{Before, Held, Step};

/// The sign in the gutter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `+`: added.
    Add,
    /// `~`: changed in place.
    Change,
    /// `-`: removed.
    Remove,
    /// `!`: nothing is done, and somebody may care.
    Notice,
    /// `·`: nothing is done.
    Rest,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
            Self::Notice => "!",
            Self::Rest => "·",
        })
    }
}

impl fmt::Display for Step {
    /// One line: `~ tcp://192.0.2.1:80 10.0.0.1:80: weight 80 → 0; down: connection refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(&Names::default()))
    }
}

impl Step {
    /// The same with the name of its real server, if that has one:
    /// `~ tcp://192.0.2.1:80 10.0.0.1:80 (web-1): weight 80 → 0; down: connection refused`.
    pub fn line(&self, names: &Names) -> String {
        let service = *self.change.service();
        let destination = self.destination().map(|key| format!(" {}", names.show(service, *key)));
        let (sign, destination) = (self.sign(), destination.unwrap_or_default());
        format!("{sign} {service}{destination}: {}; {}", self.what(), self.reason())
    }

    /// Its sign in the gutter.
    pub fn sign(&self) -> Sign {
        match self.change {
            Change::AddService(..) | Change::AddDestination(..) => Sign::Add,
            Change::SetService(..) | Change::SetDestination(..) => Sign::Change,
            Change::DeleteService(..) | Change::DeleteDestination(..) => Sign::Remove,
        }
    }

    /// What it changes: the settings that are added or deleted, or before → after for those that
    /// differ.
    pub fn what(&self) -> String {
        match (&self.change, &self.before) {
            (Change::SetService(_, after), Some(Before::Service { config, .. })) => {
                service_difference(config, after)
            }
            (Change::SetDestination(_, _, after), Some(Before::Destination(before))) => {
                destination_difference(before, after)
            }
            (Change::AddService(_, config) | Change::SetService(_, config), _) => {
                config.to_string()
            }
            (Change::AddDestination(.., config) | Change::SetDestination(.., config), _) => {
                config.to_string()
            }
            (_, Some(Before::Service { config, destinations: 0 })) => config.to_string(),
            (_, Some(Before::Service { config, destinations: 1 })) => {
                format!("{config}, with its 1 destination")
            }
            (_, Some(Before::Service { config, destinations })) => {
                format!("{config}, with its {destinations} destinations")
            }
            (_, Some(Before::Destination(config))) => config.to_string(),
            (_, None) => String::new(),
        }
    }

    /// Why it is done: `up`, `down: connection refused`, `as declared`,
    /// `repair: deleted by somebody else`, …
    pub fn reason(&self) -> String {
        if self.repair {
            return self.repair_reason();
        }
        match (&self.change, &self.why) {
            (Change::AddService(..), _) => "declared".to_owned(),
            (Change::SetService(..), _) => "as declared".to_owned(),
            (Change::SetDestination(_, _, after), why) => {
                let before = match &self.before {
                    Some(Before::Destination(before)) => before.weight,
                    _ => 0,
                };
                edit_reason(why, before, after.weight)
            }
            (_, why) => why.to_string(),
        }
    }

    fn repair_reason(&self) -> String {
        let deed = match self.sign() {
            Sign::Add => "deleted",
            Sign::Remove => "added",
            _ => "changed",
        };
        match &self.why {
            Why::Down(_) => format!("repair: {deed} by somebody else; {}", self.why),
            _ => format!("repair: {deed} by somebody else"),
        }
    }
}

impl Held {
    /// Its sign in the gutter: `!` for what is down or left over.
    pub fn sign(&self) -> Sign {
        match self.why {
            Why::Down(_)
            | Why::Undeclared
            | Why::Guarded
            | Why::Kept(_)
            | Why::HeldBack(_)
            | Why::Withdrawn { .. } => Sign::Notice,
            _ => Sign::Rest,
        }
    }

    /// What is not done.
    pub fn what(&self) -> String {
        match (&self.why, &self.config) {
            (why, None) if why.is_undecided() => "not added".to_owned(),
            (_, None) => "stays out".to_owned(),
            (Why::Undeclared | Why::Guarded, Some(config)) => format!("stays: {config}"),
            (_, Some(DestinationConfig { weight: 0, .. })) => "stays at weight 0".to_owned(),
            (Why::Weighed(_) | Why::Overridden(_), Some(config)) => {
                format!("stays at weight {}", config.weight)
            }
            (_, Some(_)) => "stays as it is".to_owned(),
        }
    }

    /// Why it is not done.
    pub fn reason(&self) -> String {
        self.why.of_one_that_stays()
    }
}

impl Why {
    /// Why a destination stays as it is.
    pub fn of_one_that_stays(&self) -> String {
        match self {
            Self::Undeclared => format!("{self}; goes when a new one has its verdict"),
            _ => self.to_string(),
        }
    }
}

/// Why a destination is edited, from what decided it and its weight before and after.
fn edit_reason(why: &Why, before: u32, after: u32) -> String {
    match why {
        Why::Up if before == 0 && after > 0 => why.to_string(),
        Why::Up | Why::Private => "as declared".to_owned(),
        why if why.is_undecided() && after == 0 => {
            format!("as declared, but stays at weight 0: {why}")
        }
        _ if before != after && !why.is_undecided() => why.to_string(),
        _ => format!("as declared; {why}"),
    }
}

fn service_difference(before: &ServiceConfig, after: &ServiceConfig) -> String {
    let flags = |config: &ServiceConfig| match config.flag_names() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(" "),
    };
    let persistence = |config: &ServiceConfig| match &config.persistence {
        None => "none".to_owned(),
        Some(Persistence { timeout, prefix, engine: None }) => format!("{timeout}s/{prefix}"),
        Some(Persistence { timeout, prefix, engine: Some(engine) }) => {
            format!("{timeout}s/{prefix} engine {engine}")
        }
    };
    let mut differences = Differences::default();
    differences.add("scheduler", &before.scheduler, &after.scheduler);
    differences.add("flags", flags(before), flags(after));
    differences.add("persistence", persistence(before), persistence(after));
    differences.0
}

fn destination_difference(before: &DestinationConfig, after: &DestinationConfig) -> String {
    let mut differences = Differences::default();
    differences.add("weight", before.weight, after.weight);
    differences.add("", before.forwarding, after.forwarding);
    differences.add("upper", before.upper_threshold, after.upper_threshold);
    differences.add("lower", before.lower_threshold, after.lower_threshold);
    differences.0
}

#[derive(Default)]
struct Differences(String);

impl Differences {
    fn add<T: PartialEq + fmt::Display>(&mut self, name: &str, before: T, after: T) {
        if before == after {
            return;
        }
        let comma = if self.0.is_empty() { "" } else { ", " };
        let gap = if name.is_empty() { "" } else { " " };
        self.0.push_str(&format!("{comma}{name}{gap}{before} → {after}"));
    }
}
