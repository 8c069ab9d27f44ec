//! What a receiver is told next, and when.
//!
//! Pure; time comes in. A change opens a collection, which is told as one message after the
//! receiver's `wait`, but not sooner than its `interval` after the last message, nor as more
//! messages an hour than it takes. What is wrong and right again before it is told is not told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::config::Receiver;
use super::problem::{Problem, Problems};

const HOUR: Duration = Duration::from_secs(3600);

/// What one receiver knows and is about to be told.
#[derive(Debug, Clone, Default)]
pub struct Collector {
    /// What it was told to be wrong and not yet to be right.
    told: Problems,
    /// What is wrong of what it cares for.
    wrong: Problems,
    /// What happened and is over, with a count of equal ones.
    happened: BTreeMap<String, (Problem, u64)>,
    /// Since when there is something to tell.
    open: Option<Instant>,
    /// When it was told in the last hour.
    sent: VecDeque<Instant>,
}

/// What one message tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Wrong from now on.
    pub begun: Vec<Problem>,
    /// Not wrong any more.
    pub over: Vec<Problem>,
    /// Happened and over, and how often.
    pub happened: Vec<(Problem, u64)>,
    /// How many that it was told of before are still wrong.
    pub still: usize,
}

impl Collector {
    /// With what the last run has told it.
    pub fn new(told: Problems) -> Self {
        Self { wrong: told.clone(), told, ..Self::default() }
    }

    /// What it was told to be wrong, for the record.
    pub fn told(&self) -> &Problems {
        &self.told
    }

    /// Takes in everything that is wrong now and that it cares for.
    pub fn see(&mut self, wrong: Problems, now: Instant) {
        self.wrong = wrong;
        if !self.has_news() {
            self.open = None;
        } else if self.open.is_none() {
            self.open = Some(now);
        }
    }

    /// Takes in something that happened and is over.
    pub fn note(&mut self, problem: Problem, now: Instant) {
        self.happened.entry(problem.text.clone()).or_insert((problem, 0)).1 += 1;
        self.open.get_or_insert(now);
    }

    fn has_news(&self) -> bool {
        !self.happened.is_empty() || !self.wrong.keys().eq(self.told.keys())
    }

    /// How many problems, and ends of problems, it has yet to be told.
    pub fn untold(&self) -> usize {
        let begun = self.wrong.keys().filter(|key| !self.told.contains_key(*key)).count();
        let over = self.told.keys().filter(|key| !self.wrong.contains_key(*key)).count();
        begun + over + self.happened.len()
    }

    /// When it is to be told, if there is something.
    pub fn due(&self, receiver: &Receiver) -> Option<Instant> {
        let ready = self.open? + receiver.wait;
        let apart = self.sent.back().map(|last| *last + receiver.interval);
        let most = usize::try_from(receiver.per_hour.max(1)).unwrap_or(usize::MAX);
        let oldest = self.sent.len().checked_sub(most).and_then(|index| self.sent.get(index));
        let rationed = oldest.map(|oldest| *oldest + HOUR);
        [Some(ready), apart, rationed].into_iter().flatten().max()
    }

    /// What it is told now, if it is time. It counts as told.
    pub fn take(&mut self, receiver: &Receiver, now: Instant) -> Option<News> {
        self.due(receiver).filter(|due| *due <= now)?;
        self.open = None;
        while self.sent.front().is_some_and(|sent| *sent + HOUR <= now) {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        let told: BTreeSet<&String> = self.told.keys().collect();
        let news = News {
            begun: missing(&self.wrong, &self.told),
            over: missing(&self.told, &self.wrong),
            still: self.wrong.keys().filter(|key| told.contains(key)).count(),
            happened: std::mem::take(&mut self.happened).into_values().collect(),
        };
        self.told.clone_from(&self.wrong);
        Some(news)
    }
}

/// What is in one and not in the other.
fn missing(of: &Problems, other: &Problems) -> Vec<Problem> {
    let is_missing = |(key, _): &(&String, &Problem)| !other.contains_key(*key);
    of.iter().filter(is_missing).map(|(_, problem)| problem.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::config::Way;
    use crate::alerts::problem::Kind;

    fn receiver(wait: u64, interval: u64, per_hour: u32) -> Receiver {
        Receiver {
            name: "r".to_owned(),
            way: Way::Command(vec!["/bin/true".to_owned()]),
            wait: Duration::from_secs(wait),
            interval: Duration::from_secs(interval),
            per_hour,
        }
    }

    fn problem(text: &str) -> Problem {
        Problem { kind: Kind::Down, policy: None, real_server: None, text: text.to_owned() }
    }

    fn wrong(keys: &str) -> Problems {
        keys.split_whitespace().map(|key| (key.to_owned(), problem(key))).collect()
    }

    /// Plays `at: what is wrong` second by second up to an end, and writes what is told when.
    fn play(receiver: &Receiver, steps: &[(u64, &str)], end: u64) -> Vec<String> {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut collector = Collector::default();
        let mut told = Vec::new();
        let texts = |problems: &[Problem], sign: &str| -> Vec<String> {
            problems.iter().map(|it| format!("{sign}{}", it.text)).collect()
        };
        for second in 0..=end {
            let now = start + Duration::from_secs(second);
            for (_, what) in steps.iter().filter(|(at, _)| *at == second) {
                match what.strip_prefix('!') {
                    Some(text) => collector.note(problem(text), now),
                    None => collector.see(wrong(what), now),
                }
            }
            if let Some(news) = collector.take(receiver, now) {
                let mut words = texts(&news.begun, "+");
                words.extend(texts(&news.over, "-"));
                words.extend(news.happened.iter().map(|(it, n)| format!("!{}x{n}", it.text)));
                if news.still > 0 {
                    words.push(format!("={}", news.still));
                }
                told.push(format!("{second}: {}", words.join(" ")));
            }
        }
        told
    }

    #[test]
    fn by_table() {
        let plain = receiver(10, 30, 100);
        for (name, receiver, steps, expected) in [
            (
                "a rack is one message",
                plain.clone(),
                vec![(0, "a"), (3, "a b"), (9, "a b c")],
                vec!["10: +a +b +c"],
            ),
            ("over before it was told", plain.clone(), vec![(0, "a"), (9, "")], vec![]),
            (
                "told, and over",
                plain.clone(),
                vec![(0, "a b"), (50, "b")],
                vec!["10: +a +b", "60: -a =1"],
            ),
            (
                "not too soon after the last",
                plain.clone(),
                vec![(0, "a"), (11, "a b")],
                vec!["10: +a", "40: +b =1"],
            ),
            (
                "what happens is counted",
                plain,
                vec![(0, "!x"), (1, "!x"), (2, "!y")],
                vec!["10: !xx2 !yx1"],
            ),
            (
                "a ration an hour; what follows is told in one",
                receiver(0, 0, 2),
                vec![(0, "a"), (1, "a b"), (2, "a b c"), (3, "b c d"), (4000, "")],
                vec!["0: +a", "1: +b =1", "3600: +c +d -a =1", "4000: -b -c -d"],
            ),
        ] {
            assert_eq!(play(&receiver, &steps, 8000), expected, "{name}");
        }
    }

    #[test]
    fn a_restart_says_what_is_over_and_nothing_twice() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let receiver = receiver(0, 0, 9);
        let mut collector = Collector::new(wrong("a b"));
        collector.see(wrong("a b"), now);
        assert_eq!(collector.take(&receiver, now), None);
        collector.see(wrong("b"), now);
        let news = collector.take(&receiver, now).unwrap();
        assert_eq!((news.over, news.still), (vec![problem("a")], 1));
        assert_eq!(collector.told(), &wrong("b"));
    }
}
