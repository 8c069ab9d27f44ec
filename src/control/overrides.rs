//! Overrides on their way between commands and daemon, and in words. Pure.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::columns::{align, row};
use super::status::rfc3339;
use crate::count::count;
use crate::operator::overriding::Done;
use crate::policy::model::{Policy, PolicySet, VirtualService};
use crate::reconcile::overrides::{Action, Override, Overrides, called, declared};

/// The longest time an override may have, in seconds: a year. Without one it has no end.
pub const LONGEST: u64 = 366 * 86_400;
/// The longest reason, in characters.
pub const LONGEST_REASON: usize = 200;

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The policy.
    pub policy: String,
    /// The real server: its name in the policy, its address, or a destination of it.
    pub real_server: String,
    /// What is to be; `None`: no override.
    pub action: Option<Action>,
    /// How long, in seconds from 1 to [`LONGEST`]; `None`: until it is taken back.
    pub seconds: Option<u64>,
    /// Why, in one line.
    pub reason: Option<String>,
    /// For whom it is asked, as `sudo` says; believed of root only.
    pub acts_for: Option<String>,
}

impl Request {
    /// What is wrong with it, apart from names.
    ///
    /// # Errors
    /// A weight, time or reason out of bounds.
    pub fn check(&self) -> Result<(), String> {
        if let Some(Action::Weight(weight)) = self.action
            && weight > i32::MAX as u32
        {
            return Err(format!("weight {weight} is more than the kernel takes, {}", i32::MAX));
        }
        if self.seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
            return Err("an override lasts from 1s to 366days, or until it is taken back".into());
        }
        let Some(reason) = &self.reason else { return Ok(()) };
        if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
            return Err(format!("a reason is one line of at most {LONGEST_REASON} characters"));
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether there was anything to do.
    pub changed: bool,
    /// The override as it is now; `None`: there is none.
    pub now: Option<OverrideStatus>,
    /// What happens next, for people.
    pub text: String,
}

/// One override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideStatus {
    /// The policy.
    pub policy: String,
    /// The real server's name in it.
    pub real_server: String,
    /// `drain`, `disable` or `weight`.
    pub action: String,
    /// The weight, for `weight`.
    pub weight: Option<u32>,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: String,
    /// When it ends by itself.
    pub until: Option<String>,
    /// The same in seconds from now.
    pub left: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// Whether a policy declares this real server: otherwise it decides nothing.
    pub applies: bool,
}

/// All overrides, in the order of policies' and real servers' names.
pub fn list(overrides: &Overrides, set: &PolicySet, wall: SystemTime) -> Vec<OverrideStatus> {
    let shown = |(policy, server, entry): (&str, &str, &Override)| {
        let declared = declared(set, policy, server);
        let name = declared.map_or(server, |server| &server.name);
        OverrideStatus::of((policy, name), entry, declared.is_some(), wall)
    };
    overrides.iter().map(shown).collect()
}

impl OverrideStatus {
    fn of(
        (policy, real_server): (&str, &str),
        entry: &Override,
        applies: bool,
        wall: SystemTime,
    ) -> Self {
        let (action, weight) = match entry.action {
            Action::Drain => ("drain", None),
            Action::Disable => ("disable", None),
            Action::Weight(weight) => ("weight", Some(weight)),
        };
        let left = |until: SystemTime| until.duration_since(wall).unwrap_or_default().as_secs();
        Self {
            policy: policy.to_owned(),
            real_server: real_server.to_owned(),
            action: action.to_owned(),
            weight,
            by: entry.by.clone(),
            at: rfc3339(entry.at),
            until: entry.until.map(rfc3339),
            left: entry.until.map(left),
            reason: entry.reason.clone(),
            applies,
        }
    }

    /// `drained`, `disabled`, `weight 10`.
    pub fn what(&self) -> String {
        match (self.action.as_str(), self.weight) {
            ("drain", _) => "drained".to_owned(),
            ("disable", _) => "disabled".to_owned(),
            (action, Some(weight)) => format!("{action} {weight}"),
            (action, None) => action.to_owned(),
        }
    }

    fn end(&self) -> String {
        match (&self.until, self.left) {
            (Some(until), Some(left)) => format!("{until} ({} left)", span(left)),
            _ => "taken back".to_owned(),
        }
    }

    /// `192.0.2.1 of www drained by alice, until taken back: disk swap`.
    pub fn line(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let stray = if self.applies { "" } else { " (NO POLICY DECLARES IT)" };
        format!(
            "{} of {} {} by {}, until {}{reason}{stray}",
            self.real_server,
            self.policy,
            self.what(),
            self.by,
            self.end()
        )
    }
}

/// A table of overrides for people.
pub fn render(overrides: &[OverrideStatus]) -> String {
    if overrides.is_empty() {
        return "no overrides: policies and probes decide\n".to_owned();
    }
    let heading = row(["POLICY", "REAL SERVER", "WHAT", "BY", "SINCE", "UNTIL", "REASON"]);
    let rows = overrides.iter().map(|it| {
        let stray = if it.applies { "" } else { "NO POLICY DECLARES IT " };
        let reason = format!("{stray}{}", it.reason.as_deref().unwrap_or_default());
        row([&it.policy, &it.real_server, &it.what(), &it.by, &it.at, &it.end(), &reason])
    });
    align(&[heading].into_iter().chain(rows).collect::<Vec<_>>()).join("\n") + "\n"
}

/// The answer to an order that was carried out. `others` is how many other real servers of the
/// policy are up and not taken out by operators, if anybody knows.
pub(super) fn answer(done: &Done, others: Option<usize>, wall: SystemTime) -> Answer {
    let Done { set, policy, before, after, .. } = done;
    let real_server = called(set, policy, &done.identity);
    let declared = set.policies.iter().find(|it| it.name == *policy);
    let place = (policy.as_str(), real_server);
    let now =
        after.as_ref().map(|entry| OverrideStatus::of(place, entry, declared.is_some(), wall));
    let mut text = match (&now, before) {
        (Some(now), before) => {
            let end = match &now.until {
                Some(_) => format!("; it is so until {}", now.end()),
                None => String::new(),
            };
            let instead = before.as_ref().map_or(String::new(), |it| instead(it, now));
            let what = declared.map_or(String::new(), |it| effect(now, it));
            format!("{what}{end}{instead}\n`pointsman enable {policy} {real_server}` takes it back")
        }
        (None, Some(before)) => {
            let who = format!("{} by {}", before.action, before.by);
            match declared {
                Some(_) => format!(
                    "{real_server} of {policy} is no longer {who}; policy and probes decide again"
                ),
                None => format!(
                    "{real_server} of {policy} is no longer {who}; no policy declares it anyway"
                ),
            }
        }
        (None, None) => format!("{real_server} of {policy} has no override: nothing to do"),
    };
    if others == Some(0) && now.as_ref().is_some_and(|now| now.weight.unwrap_or(0) == 0) {
        let _ = write!(text, "\nWARNING: no other real server of {policy} is up and in service");
    }
    if !done.recorded && (before.is_some() || after.is_some()) {
        text += "\nthis daemon is a dry run: it forgets this when it ends";
    }
    Answer { changed: before.is_some() || after.is_some(), now, text: text + "\n" }
}

fn instead(before: &Override, now: &OverrideStatus) -> String {
    let was = format!("{} by {}", before.action, before.by);
    if before.action.to_string() == now.what() && before.by == now.by {
        String::new()
    } else {
        format!(", instead of {was}")
    }
}

/// What happens to the real server's destinations.
fn effect(now: &OverrideStatus, policy: &Policy) -> String {
    let services = count(policy.services.len(), "virtual service");
    let name = format!("{} of {}", now.real_server, policy.name);
    match (now.action.as_str(), now.weight) {
        ("drain", _) => {
            format!("draining {name} in {services}; {}", removed(policy))
        }
        ("disable", _) => format!("{name} goes out of {services} at once"),
        (_, Some(0)) => {
            format!("{name} gets no new connections in {services} (weight 0); those it has stay")
        }
        (_, weight) => format!(
            "{name} gets weight {} in {services} whenever it is up",
            weight.unwrap_or_default()
        ),
    }
}

fn removed(policy: &Policy) -> String {
    let longest =
        policy.services.iter().map(VirtualService::drain_of_one).max().unwrap_or_default();
    if longest.is_zero() {
        return "it is removed at once, as the policy has no drain".to_owned();
    }
    let some = if policy.services.iter().any(|it| it.drain_of_one().is_zero()) {
        " (at once where there is no drain)"
    } else {
        ""
    };
    let longest = humantime::format_duration(longest);
    format!("it is removed when its connections are gone, or after {longest}{some}")
}

/// The two largest units of a time.
fn span(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
