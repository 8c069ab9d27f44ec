//! How long the last probes of each real server took, as far as the screen has seen them: the curves
//! of the status page in letters.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ratatui::text::Span;

use super::palette::Palette;
use crate::control::latencies::Latencies;
use crate::control::status::{Status, short};
use crate::health::OutcomeKind;

/// As many are remembered of each real server.
const POINTS: usize = 60;
/// The same attempt comes with every answer until the next one ends, and answers take their time: it
/// took as long, and ended at this time, give or take so many seconds.
const SAME: f64 = 0.5;
/// Less than this is no height: who answers in microseconds has no mountains.
const LOWEST_TOP: Duration = Duration::from_millis(1);

const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const FAILED: &str = "×";
/// The director could not ask.
const NOT_ASKED: &str = "·";

/// An attempt.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// When it ended, in seconds since the start of the screen: before it if negative.
    at: f64,
    took: Duration,
    kind: OutcomeKind,
}

impl Point {
    fn is(&self, other: &Self) -> bool {
        (self.at - other.at).abs() < SAME && self.took.as_micros() == other.took.as_micros()
    }
}

/// Attempts by policy and real server, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Curves(HashMap<(String, String), VecDeque<Point>>);

impl Curves {
    /// Takes in what the daemon remembers of before: what is older than all that was seen.
    pub(super) fn recall(&mut self, all: Vec<Latencies>, now: Duration) {
        let told = all.into_iter().filter(|it| !it.attempts.is_empty());
        for Latencies { policy, real_server, attempts } in told {
            let points = self.0.entry((policy, real_server)).or_default();
            let first = points.front().copied();
            for attempt in attempts.iter().rev() {
                let took = Duration::try_from_secs_f64(attempt.took).unwrap_or_default();
                let at = now.as_secs_f64() - attempt.ago;
                let point = Point { at, took, kind: attempt.kind };
                let is_older = first.is_none_or(|first| at < first.at && !point.is(&first));
                if is_older && points.len() < POINTS {
                    points.push_front(point);
                }
            }
        }
    }

    /// Takes in the last attempts; who has left the policies is forgotten.
    pub(super) fn remember(&mut self, status: &Status, now: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for server in &status.real_servers {
            let key = (server.policy.clone(), server.real_server.clone());
            let mut points = before.remove(&key).unwrap_or_default();
            let last = server.checks.iter().find_map(|it| Some((it.last.as_ref()?, it.last_ago?)));
            if let Some((outcome, ago)) = last {
                let at = now.as_secs_f64() - ago;
                let point = Point { at, took: outcome.phases.ended, kind: outcome.kind };
                if points.back().is_none_or(|newest| !point.is(newest)) {
                    points.push_back(point);
                }
            }
            if points.len() > POINTS {
                points.pop_front();
            }
            if !points.is_empty() {
                self.0.insert(key, points);
            }
        }
    }

    /// Whether there is none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of a real server with its newest attempts, as many as there are columns for.
    pub(super) fn of(&self, policy: &str, real_server: &str, columns: usize) -> Option<Curve> {
        let points = self.0.get(&(policy.to_owned(), real_server.to_owned()))?;
        let newest = points.iter().skip(points.len().saturating_sub(columns));
        Some(Curve(newest.copied().collect()))
    }
}

/// A piece of a curve.
pub(super) struct Curve(Vec<Point>);

impl Curve {
    /// A letter for each attempt: its height among those shown, or that it did not pass.
    pub(super) fn spans(&self, palette: Palette) -> Vec<Span<'static>> {
        let top = self.most().unwrap_or_default().max(LOWEST_TOP).as_secs_f64();
        let letter = |point: &Point| match point.kind {
            OutcomeKind::Pass => {
                let height = (point.took.as_secs_f64() / top * BARS.len() as f64).ceil();
                Span::raw(BARS[(height as usize).clamp(1, BARS.len()) - 1])
            }
            OutcomeKind::Fail => Span::styled(FAILED, palette.bad()),
            OutcomeKind::Inconclusive => Span::styled(NOT_ASKED, palette.doubtful()),
        };
        self.0.iter().map(letter).collect()
    }

    /// `now 606us, at most 3ms, 1 of 31 failed`.
    pub(super) fn words(&self) -> String {
        let now = match self.0.last() {
            Some(Point { kind: OutcomeKind::Pass, took, .. }) => short(*took),
            Some(Point { kind: OutcomeKind::Fail, .. }) => "failed".to_owned(),
            Some(_) => "not asked".to_owned(),
            None => "-".to_owned(),
        };
        let most = self.most().map_or(String::new(), |most| format!(", at most {}", short(most)));
        let failed = self.0.iter().filter(|point| point.kind == OutcomeKind::Fail).count();
        let failed = match failed {
            0 => String::new(),
            some => format!(", {some} of {} failed", self.0.len()),
        };
        format!("now {now}{most}{failed}")
    }

    fn most(&self) -> Option<Duration> {
        let passed = self.0.iter().filter(|point| point.kind == OutcomeKind::Pass);
        passed.map(|point| point.took).max()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(ago: f64, micros: u32, kind: &str) -> Status {
        let ended = json!({ "secs": 0, "nanos": micros * 1000 });
        let phases = json!({ "connected": null, "tls": null, "first_byte": null, "ended": ended });
        let reason = if kind == "pass" { "ok" } else { "refused" };
        let last = json!({ "kind": kind, "reason": reason, "detail": "", "phases": phases });
        let check = json!({
            "check": "tcp", "health": "up", "since": "", "since_seconds": 0.0, "streak": 0,
            "needed": 2, "last_ago": ago, "last": last, "held": null, "damping": null,
        });
        serde_json::from_value(json!({
            "version": "", "pid": 1, "dry_run": false, "ipvs": "", "started": "", "degraded": [],
            "policies": {
                "path": "", "hash": "", "loaded": "", "count": 1, "reloads": 0, "refused": null,
            },
            "table": {
                "read_ago": null, "changes": 0, "drift_repaired": 0, "refused": 0, "pending": [],
                "held": [], "error": null, "foreign": [],
            },
            "probes": { "targets": 1, "in_flight": 0, "started": 1, "lateness": [] },
            "services": [],
            "real_servers": [
                { "policy": "www", "real_server": "web-1", "health": "up", "checks": [check] },
            ],
        }))
        .unwrap()
    }

    fn drawn(curves: &Curves, columns: usize) -> (String, String) {
        let curve = curves.of("www", "web-1", columns).unwrap();
        let spans = curve.spans(Palette { colour: false });
        (spans.iter().map(|span| span.content.as_ref()).collect(), curve.words())
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn heights_are_those_among_what_is_shown() {
        let mut curves = Curves::default();
        let attempts =
            [(4000, "pass"), (500, "pass"), (9000, "fail"), (0, "inconclusive"), (1000, "pass")];
        for (second, (micros, kind)) in attempts.into_iter().enumerate() {
            curves.remember(&status(0.0, micros, kind), at(second as f64));
        }
        assert_eq!(drawn(&curves, 60).0, "█▁×·▂");
        assert_eq!(drawn(&curves, 60).1, "now 1ms, at most 4ms, 1 of 5 failed");
        assert_eq!(drawn(&curves, 4).0, "▄×·█");
        curves.remember(&status(0.0, 1, "fail"), at(9.0));
        assert_eq!(drawn(&curves, 1), ("×".into(), "now failed, 1 of 1 failed".into()));
    }

    #[test]
    fn an_attempt_is_one_however_often_it_is_told() {
        let mut curves = Curves::default();
        for (now, ago) in [(10.0, 0.1), (11.0, 1.11), (12.0, 2.08), (13.0, 0.9), (14.0, 0.0)] {
            curves.remember(&status(ago, 700, "pass"), at(now));
        }
        assert_eq!(drawn(&curves, 60).0, "▆▆▆");
        // Soon after it another one.
        curves.remember(&status(0.0, 400, "pass"), at(14.2));
        assert_eq!(drawn(&curves, 60).0, "▆▆▆▄");
        // What was before is taken in at its place, and what is known already is not.
        let attempt = |ago, took| json!({ "ago": ago, "took": took, "kind": "pass" });
        let attempts = [attempt(9.0, 0.002), attempt(6.0, 0.001), attempt(5.0, 0.0007)];
        let before = json!([{ "policy": "www", "real_server": "web-1", "attempts": attempts }]);
        curves.recall(serde_json::from_value(before).unwrap(), at(14.9));
        assert_eq!(drawn(&curves, 60).0, "█▄▃▃▃▂");
        let mut others = status(0.0, 1, "pass");
        others.real_servers[0].real_server = "web-2".into();
        curves.remember(&others, at(15.0));
        assert!(curves.of("www", "web-1", 60).is_none());
        for second in 16..100 {
            curves.remember(&status(0.0, 1, "pass"), at(f64::from(second)));
        }
        assert_eq!(curves.of("www", "web-1", 500).unwrap().0.len(), POINTS);
    }
}
