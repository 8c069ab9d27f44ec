//! One event as a value, as a line of JSON and in words.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::count::count;
use crate::health::Health;

/// What happened when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339 in UTC, with microseconds.
    #[serde(with = "rfc3339")]
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. In JSON `event` names the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The daemon started.
    Started {
        /// Its version.
        version: String,
        /// Its process id.
        pid: u32,
        /// Whether it only rehearses.
        dry_run: bool,
    },
    /// The daemon stopped in order.
    Stopped {
        /// The signal that asked for it.
        cause: String,
    },
    /// The verdict of one check on one address changed.
    Transition {
        /// The policies that ask it.
        policies: Vec<String>,
        /// Address and port that were asked.
        address: String,
        /// What policies call the real servers that it is about, if they give them names; of several
        /// names all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The protocol of the check.
        check: String,
        /// The verdict before.
        from: Health,
        /// The verdict now.
        to: Health,
        /// The outcome that decided it.
        reason: String,
    },
    /// What all checks together say of a real server of a policy changed.
    Verdict {
        /// The policy.
        policy: String,
        /// The real server, as the policy calls it.
        real_server: String,
        /// What it counted as.
        from: Health,
        /// What it counts as now.
        to: Health,
        /// What holds it, if it is held, and why it is down.
        reason: Option<String>,
    },
    /// A check changes too often: down, whatever passes.
    Flapping {
        /// The policies that ask it.
        policies: Vec<String>,
        /// Address and port that were asked.
        address: String,
        /// What policies call the real servers that it is about, if they give them names; of several
        /// names all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The protocol of the check.
        check: String,
        /// How long it is held down.
        hold_seconds: u64,
    },
    /// The table was changed.
    Change {
        /// The virtual service.
        service: String,
        /// The destination, if it is about one.
        destination: Option<String>,
        /// What the policy calls the real server, if it gives it a name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The change and its reason, as a plan writes it.
        change: String,
    },
    /// Somebody else's change of the table was undone.
    Repair {
        /// The virtual service.
        service: String,
        /// The destination, if it is about one.
        destination: Option<String>,
        /// What the policy calls the real server, if it gives it a name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The change and its reason, as a plan writes it.
        change: String,
    },
    /// The kernel refused changes; one event for all with the same reason.
    Refused {
        /// The first of them, as a plan writes it.
        change: String,
        /// How many there are.
        changes: usize,
        /// The kernel's answer and what to do.
        reason: String,
    },
    /// The table cannot be read, or what is owned cannot be recorded.
    Trouble {
        /// Why.
        reason: String,
    },
    /// That is over.
    TroubleOver,
    /// Policies are in force.
    Reload {
        /// Identifies them.
        hash: String,
        /// How many policies.
        policies: usize,
        /// How many virtual services.
        services: usize,
        /// Who confirmed them, if they had been held.
        confirmed_by: Option<String>,
    },
    /// Policies were refused; those before stay in force.
    ReloadRefused {
        /// Every problem with its place.
        problems: Vec<String>,
    },
    /// Policies, or what no policy declared at the start, wait for a confirmation.
    ReloadHeld {
        /// Identifies the policies.
        hash: String,
        /// What would go.
        removal: String,
    },
    /// What was held at the start may go.
    HeldConfirmed {
        /// What goes.
        removal: String,
    },
    /// An operator drained, disabled or weighted a real server.
    Override {
        /// The policy.
        policy: String,
        /// The real server.
        real_server: String,
        /// What is to be.
        action: String,
        /// Who said so.
        by: String,
        /// Until when, RFC 3339.
        until: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// An override is over.
    OverrideEnded {
        /// The policy.
        policy: String,
        /// The real server.
        real_server: String,
        /// What had been said.
        action: String,
        /// Who took it back; `None`: its time is up.
        by: Option<String>,
    },
    /// The blast-radius limit holds the table.
    BlastLimit {
        /// Addresses that were lost.
        lost: usize,
        /// Addresses there are.
        addresses: usize,
    },
    /// It does not any more.
    BlastLimitOver {
        /// Who released it; `None`: enough have recovered.
        released_by: Option<String>,
    },
    /// What the health floor does to a policy changed.
    Floor {
        /// The policy.
        policy: String,
        /// What it does now.
        state: FloorState,
    },
    /// A listener was too slow.
    Lost {
        /// As many events are missing here.
        events: u64,
    },
}

/// What the health floor does to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FloorState {
    /// Nothing: verdicts count.
    Off,
    /// It keeps real servers in that are down.
    Keeps,
    /// It has withdrawn all.
    Withdrawn,
}

impl What {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::Transition { .. } => "transition",
            Self::Verdict { .. } => "verdict",
            Self::Flapping { .. } => "flapping",
            Self::Change { .. } => "change",
            Self::Repair { .. } => "repair",
            Self::Refused { .. } => "refused",
            Self::Trouble { .. } => "trouble",
            Self::TroubleOver => "trouble_over",
            Self::Reload { .. } => "reload",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::ReloadHeld { .. } => "reload_held",
            Self::HeldConfirmed { .. } => "held_confirmed",
            Self::Override { .. } => "override",
            Self::OverrideEnded { .. } => "override_ended",
            Self::BlastLimit { .. } => "blast_limit",
            Self::BlastLimitOver { .. } => "blast_limit_over",
            Self::Floor { .. } => "floor",
            Self::Lost { .. } => "lost",
        }
    }
}

impl fmt::Display for Event {
    /// `2026-01-02T03:04:05.678901Z verdict  192.0.2.1 of www: up → down: connection refused`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = humantime::format_rfc3339_micros(self.at);
        write!(f, "{at} {:16} {}", self.what.name(), printable(&self.what.to_string()))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version, pid, dry_run } => {
                write!(f, "pointsman {version}, pid {pid}")?;
                if *dry_run { f.write_str(", a rehearsal") } else { Ok(()) }
            }
            Self::Stopped { cause } => write!(f, "by {cause}; the table stays"),
            Self::Transition { policies, address, name, check, from, to, reason } => {
                let users = users(name.as_deref(), policies);
                write!(f, "{check} {address} ({users}): {from} → {to}: {reason}")
            }
            Self::Verdict { policy, real_server, from, to, reason } => {
                write!(f, "{real_server} of {policy}: {from} → {to}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Flapping { policies, address, name, check, hold_seconds } => {
                let users = users(name.as_deref(), policies);
                write!(f, "{check} {address} ({users}): held down for {hold_seconds} s")
            }
            Self::Change { change, .. } | Self::Repair { change, .. } => f.write_str(change),
            Self::Refused { change, changes: 1, reason } => write!(f, "{change}: {reason}"),
            Self::Refused { change, changes, reason } => {
                write!(f, "{change}, and {} more: {reason}", changes.saturating_sub(1))
            }
            Self::Trouble { reason } => f.write_str(reason),
            Self::TroubleOver => f.write_str("the table can be read and recorded again"),
            Self::Reload { hash, policies, services, confirmed_by } => {
                let (policies, services) =
                    (count(*policies, "policy"), count(*services, "virtual service"));
                write!(f, "{policies}, {services} in force ({hash})")?;
                confirmed_by.as_ref().map_or(Ok(()), |by| write!(f, ", confirmed by {by}"))
            }
            Self::ReloadRefused { problems } => {
                let first = problems.first().and_then(|problem| problem.lines().next());
                write!(f, "{}: {}", count(problems.len(), "problem"), first.unwrap_or_default())
            }
            Self::ReloadHeld { hash, removal } => write!(f, "would remove {removal} ({hash})"),
            Self::HeldConfirmed { removal } => write!(f, "what was held may go: {removal}"),
            Self::Override { policy, real_server, action, by, until, reason } => {
                write!(f, "{real_server} of {policy}: {action}, by {by}")?;
                until.as_ref().map_or(Ok(()), |until| write!(f, " until {until}"))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::OverrideEnded { policy, real_server, action, by } => {
                write!(f, "{real_server} of {policy}: {action} ")?;
                match by {
                    Some(by) => write!(f, "taken back by {by}"),
                    None => f.write_str("has had its time"),
                }
            }
            Self::BlastLimit { lost, addresses } => {
                write!(f, "{lost} of {addresses} addresses turned down at once; the table is held")
            }
            Self::BlastLimitOver { released_by: Some(by) } => write!(f, "released by {by}"),
            Self::BlastLimitOver { released_by: None } => f.write_str("most have recovered"),
            Self::Floor { policy, state } => match state {
                FloorState::Off => write!(f, "{policy}: verdicts count again"),
                FloorState::Keeps => write!(f, "{policy}: real servers that are down are kept"),
                FloorState::Withdrawn => write!(f, "{policy}: all real servers are withdrawn"),
            },
            Self::Lost { events } => write!(f, "{events} events are missing here"),
        }
    }
}

/// `web-1 of www, shop`, or the policies alone.
fn users(name: Option<&str>, policies: &[String]) -> String {
    let policies = policies.join(", ");
    name.map_or(policies.clone(), |name| format!("{name} of {policies}"))
}

/// Control characters, which a reason may have from the network, as escapes.
fn printable(text: &str) -> String {
    let one = |letter: char| match letter.is_control() {
        true => letter.escape_default().collect::<String>(),
        false => letter.into(),
    };
    text.chars().map(one).collect()
}

mod rfc3339 {
    use std::time::SystemTime;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_micros(*at))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_told_where_there_is_one() {
        let transition = |name: Option<&str>| What::Transition {
            policies: vec!["www".into(), "shop".into()],
            address: "192.0.2.1:80".into(),
            name: name.map(str::to_owned),
            check: "http".into(),
            from: Health::Up,
            to: Health::Down,
            reason: "status 503".into(),
        };
        let (named, unnamed) = (transition(Some("web-1")), transition(None));
        let text = "http 192.0.2.1:80 (web-1 of www, shop): up → down: status 503";
        assert_eq!(named.to_string(), text);
        assert_eq!(unnamed.to_string(), text.replace("web-1 of ", ""));
        assert_eq!(serde_json::to_value(&named).unwrap()["name"], "web-1");
        let json = serde_json::to_value(&unnamed).unwrap();
        assert!(!json.as_object().unwrap().contains_key("name"), "{json}");
        // As those before names were told.
        assert_eq!(serde_json::from_value::<What>(json).unwrap(), unnamed);
    }

    #[test]
    fn a_line_of_json_comes_back() {
        let event = Event {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            what: What::Verdict {
                policy: "www".into(),
                real_server: "192.0.2.1".into(),
                from: Health::Up,
                to: Health::Down,
                reason: Some("a\u{1b}[31m reason".into()),
            },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.starts_with(r#"{"at":"2023-11-14T22:13:20.123456Z","event":"verdict","#));
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        assert_eq!(
            event.to_string(),
            "2023-11-14T22:13:20.123456Z verdict          192.0.2.1 of www: up → down: \
             a\\u{1b}[31m reason"
        );
    }
}
