//! What probing has to say to the reconciler: one consistent pair of policies and verdicts.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::count::count;
use crate::health::Health;
use crate::policy::model::{PolicySet, RealServer, TargetId};
use crate::probe::advice::Advice;

use super::overrides::Overrides;

/// A policy set with the verdict on each of its targets, published as one value so that no plan
/// ever mixes the policies of one moment with the health of another.
#[derive(Debug, Clone)]
pub struct HealthView {
    /// The policies in force.
    pub policies: Arc<PolicySet>,
    /// Aligned with [`PolicySet::targets`].
    pub verdicts: Vec<Verdict>,
    /// What operators said.
    pub overrides: Arc<Overrides>,
    /// Set while the blast-radius limit holds verdicts back.
    pub alarm: Option<Alarm>,
}

/// So many targets turned down at once that the director itself may be ill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Since when verdicts are held back.
    pub since: Instant,
    /// How many targets are held back.
    pub held: usize,
    /// How many targets there are.
    pub targets: usize,
}

/// The verdict on a target, as far as a plan needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Fit or not.
    pub health: Health,
    /// Why it is down: the detail of the outcome that took it down.
    pub reason: Option<Arc<str>>,
    /// When it was reached; `None` where nobody knows.
    pub since: Option<Instant>,
    /// What it counts as while the blast-radius limit holds it back.
    pub held: Option<Health>,
    /// While it is held although the limit is over: as many failures in a row more take it out.
    pub parole: Option<u32>,
    /// What the real server itself asked for, unless that is stale.
    pub advice: Option<Advice>,
    /// Whether it may ask for something, and nobody knows: its first answer is still awaited.
    pub unadvised: bool,
    /// When the certificate ends that it showed last, in seconds since 1970.
    pub certificate_ends: Option<u64>,
    /// Whether it is on record from a run that died, and no probe has confirmed it since.
    pub unconfirmed: bool,
    /// Why the director could not ask the last time.
    pub unasked: Option<Arc<str>>,
}

impl Verdict {
    /// A verdict of which nothing more is known.
    pub fn of(health: Health, reason: Option<Arc<str>>) -> Self {
        Self { health, reason, ..Self::default() }
    }

    /// The same for a real server that has no other check.
    fn alone(&self) -> Self {
        let held = self.held.filter(|held| *held != self.health);
        let is_plainly_up = self.health == Health::Up && held.is_none();
        Self { held, reason: self.reason.clone().filter(|_| !is_plainly_up), ..self.clone() }
    }

    /// In words, what holds it: `held by the blast-radius limit until 2 more failures`.
    pub fn hold(&self) -> Option<String> {
        self.held?;
        let until = self.parole.map(|left| format!(" until {}", count(left, "more failure")));
        Some(format!("held by the blast-radius limit{}", until.unwrap_or_default()))
    }

    /// What it counts as.
    pub fn effective(&self) -> Health {
        self.held.unwrap_or(self.health)
    }
}

impl HealthView {
    /// Verdicts on the targets of a set, without overrides or an alarm.
    pub fn new(policies: Arc<PolicySet>, verdicts: Vec<Verdict>) -> Self {
        Self { policies, verdicts, overrides: Arc::default(), alarm: None }
    }

    /// A view in which every target has the same health.
    pub fn uniform(policies: Arc<PolicySet>, health: Health) -> Self {
        let verdicts = vec![Verdict::of(health, None); policies.targets.len()];
        Self::new(policies, verdicts)
    }

    /// The verdict on one target.
    pub fn verdict(&self, target: TargetId) -> &Verdict {
        &self.verdicts[target.0 as usize]
    }

    /// The verdict on a real server: up if as many of its targets as it needs count as up, down if
    /// so many count as down that it cannot be, else unknown. The reason is that of the first
    /// target that decides (of those that are down, the one that turned first), the time that of the one that decided it,
    /// the certificate the one that ends first, what could not be asked any. It is unconfirmed
    /// unless those that are confirmed would do without the others. It is unadvised until the last of those that may advise has answered, or has not.
    pub fn real_server(&self, real_server: &RealServer) -> Verdict {
        match (&real_server.targets[..], &real_server.advisors[..]) {
            // Most have one check, which says it all; there may be ten thousand of them.
            ([only], []) => self.verdict(*only).alone(),
            _ => self.together(real_server),
        }
    }

    fn together(&self, real_server: &RealServer) -> Verdict {
        let verdicts = || real_server.targets.iter().map(|target| self.verdict(*target));
        let combined = |health: fn(&Verdict) -> Health| {
            combine(real_server, |which| verdicts().filter(|one| health(one) == which).count())
        };
        let (health, effective) = (combined(|one| one.health), combined(Verdict::effective));
        let held = (health != effective).then_some(effective);
        let parole = held.and_then(|_| self.parole(real_server));
        let decide = |one: &&Verdict| match held {
            Some(_) => one.held.is_some(),
            None => one.effective() == effective,
        };
        let first = match (held, health) {
            (None, Health::Down) => verdicts().filter(decide).min_by_key(|one| one.since),
            _ => verdicts().find(decide),
        };
        let since = match (held, health) {
            (None, Health::Up | Health::Down) => {
                let mut times: Vec<_> = verdicts().filter(decide).map(|one| one.since).collect();
                times.sort_unstable();
                let spare = real_server.targets.len() - real_server.needed;
                let before = if health == Health::Down { spare + 1 } else { real_server.needed };
                before.checked_sub(1).and_then(|index| times.get(index).copied().flatten())
            }
            _ => first.and_then(|one| one.since),
        };
        let reason = match (held, health) {
            (None, Health::Up) => None,
            _ => first.and_then(|one| one.reason.clone()),
        };
        let reason = match (reason, self.quorum(real_server)) {
            (Some(reason), Some(quorum)) => Some(format!("{quorum}; {reason}").into()),
            (reason, _) => reason,
        };
        let asked = real_server.asked().map(|target| self.verdict(target));
        let advice = asked.filter_map(|verdict| verdict.advice.clone()).reduce(Advice::with);
        let unadvised = real_server.asked().any(|target| self.verdict(target).unadvised);
        let certificate_ends = verdicts().filter_map(|one| one.certificate_ends).min();
        let unasked = verdicts().find_map(|one| one.unasked.clone());
        let confirmed = |which: Health| {
            verdicts().filter(|one| !one.unconfirmed && one.effective() == which).count()
        };
        let unconfirmed = effective != combine(real_server, confirmed);
        Verdict {
            health,
            reason,
            since,
            held,
            parole,
            advice,
            unadvised,
            certificate_ends,
            unconfirmed,
            unasked,
        }
    }

    /// How many failures in a row more take out a real server that is held: those of the target on
    /// parole that is one too many. `None` where there are not enough of them.
    fn parole(&self, real_server: &RealServer) -> Option<u32> {
        let verdicts = || real_server.targets.iter().map(|target| self.verdict(*target));
        let spare = real_server.targets.len() - real_server.needed;
        let down = verdicts().filter(|one| one.effective() == Health::Down).count();
        let mut left: Vec<u32> = verdicts().filter_map(|one| one.parole).collect();
        left.sort_unstable();
        left.get(spare.checked_sub(down)?).copied()
    }

    /// How far a real server is from what it needs, unless it needs all its checks.
    pub fn quorum(&self, real_server: &RealServer) -> Option<Quorum> {
        let (all, needed) = (real_server.targets.len(), real_server.needed);
        let is_up = |target: &&TargetId| self.verdict(**target).health == Health::Up;
        (needed < all).then(|| Quorum {
            passing: real_server.targets.iter().filter(is_up).count(),
            all,
            needed,
        })
    }
}

/// So many of all checks pass, and so many are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// How many pass.
    pub passing: usize,
    /// Of so many.
    pub all: usize,
    /// How many must.
    pub needed: usize,
}

impl fmt::Display for Quorum {
    /// `2 of 3 checks pass, 2 needed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} checks pass, {} needed", self.passing, self.all, self.needed)
    }
}

fn combine(real_server: &RealServer, count: impl Fn(Health) -> usize) -> Health {
    let spare = real_server.targets.len() - real_server.needed;
    if count(Health::Up) >= real_server.needed {
        Health::Up
    } else if count(Health::Down) > spare {
        Health::Down
    } else {
        Health::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A real server with so many checks.
    fn asking(checks: usize, needed: usize) -> RealServer {
        RealServer {
            name: "10.0.0.1".to_owned(),
            identity: "10.0.0.1".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            targets: (0..checks as u32).map(TargetId).collect(),
            needed,
            advisors: Vec::new(),
        }
    }

    #[test]
    fn who_is_down_is_so_since_its_first_target_turned() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let first = Instant::now();
        let down = |reason: &str, later| Verdict {
            since: Some(first + Duration::from_secs(later)),
            ..Verdict::of(Health::Down, Some(reason.into()))
        };
        let verdicts = vec![down("second", 9), Verdict::of(Health::Up, None), down("first", 0)];
        let view = HealthView::new(Arc::default(), verdicts);
        let server = asking(3, 3);
        assert_eq!(view.real_server(&server), down("first", 0));
    }

    #[test]
    fn parole_lasts_until_too_few_checks_are_left() {
        let verdict = |word: &str| match word.parse() {
            Ok(left) => Verdict {
                held: Some(Health::Up),
                parole: Some(left),
                ..Verdict::of(Health::Down, None)
            },
            Err(_) if word == "held" => {
                Verdict { held: Some(Health::Up), ..Verdict::of(Health::Down, None) }
            }
            Err(_) if word == "down" => Verdict::of(Health::Down, None),
            Err(_) => Verdict::of(Health::Up, None),
        };
        for (words, needed, hold) in [
            ("up", 1, None),
            ("held", 1, Some("held by the blast-radius limit")),
            ("2", 1, Some("held by the blast-radius limit until 2 more failures")),
            ("1 up", 2, Some("held by the blast-radius limit until 1 more failure")),
            ("1 3 2", 3, Some("held by the blast-radius limit until 1 more failure")),
            ("1 3 2", 2, Some("held by the blast-radius limit until 2 more failures")),
            ("1 3 2", 1, Some("held by the blast-radius limit until 3 more failures")),
            ("down 3 2", 2, Some("held by the blast-radius limit until 2 more failures")),
            ("held 3 2", 1, Some("held by the blast-radius limit")),
            ("up 3 2", 1, None),
            ("down 3 2", 3, None),
        ] {
            let verdicts: Vec<_> = words.split(' ').map(verdict).collect();
            let server = asking(verdicts.len(), needed);
            let view = HealthView::new(Arc::default(), verdicts);
            let told = view.real_server(&server).hold();
            assert_eq!(told.as_deref(), hold, "{words}, {needed}");
        }
    }

    #[test]
    fn enough_that_is_confirmed_needs_no_more() {
        let verdict = |word: &str| match word {
            "up" => Verdict::of(Health::Up, None),
            "up?" => Verdict { unconfirmed: true, ..Verdict::of(Health::Up, None) },
            "down" => Verdict::of(Health::Down, None),
            _ => Verdict { unconfirmed: true, ..Verdict::of(Health::Down, None) },
        };
        for (words, needed, unconfirmed) in [
            ("up", 1, false),
            ("up?", 1, true),
            ("down?", 1, true),
            // All are needed: one that is confirmed to be down is enough, and up takes both.
            ("down up?", 2, false),
            ("down? up", 2, true),
            ("up up?", 2, true),
            // Any is enough: the other way round.
            ("up down?", 1, false),
            ("up? down", 1, true),
            ("down down?", 1, true),
        ] {
            let verdicts: Vec<_> = words.split(' ').map(verdict).collect();
            let server = asking(verdicts.len(), needed);
            let view = HealthView::new(Arc::default(), verdicts);
            assert_eq!(view.real_server(&server).unconfirmed, unconfirmed, "{words}, {needed}");
        }
    }
}
