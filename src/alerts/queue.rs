//! Messages that wait for their receivers, and what is recorded of alerts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::Message;
use super::problem::Problems;
use crate::record::Kind;

/// The record of it.
pub const ALERTS: Kind = Kind {
    name: "alerts",
    key: "receivers",
    what: "alerts",
    without: "what was wrong before is told again, and what was not delivered is lost",
};

/// The most messages that wait for one receiver; beyond it the oldest is given up.
const MOST: usize = 100;
/// The pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is recorded, by receiver.
pub type Recorded = BTreeMap<String, RecordedReceiver>;

/// What is recorded of one receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedReceiver {
    /// What it was told to be wrong.
    pub told: Problems,
    /// What it has not taken yet.
    pub waiting: VecDeque<Message>,
}

/// The messages of one receiver.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    waiting: VecDeque<Message>,
    failures: u32,
}

impl Queue {
    /// With what the last run did not deliver.
    pub fn new(waiting: VecDeque<Message>) -> Self {
        Self { waiting, failures: 0 }
    }

    /// What waits, for the record.
    pub fn waiting(&self) -> &VecDeque<Message> {
        &self.waiting
    }

    /// Adds one; true if an older one had to be given up for it.
    pub fn push(&mut self, message: Message) -> bool {
        self.waiting.push_back(message);
        let is_full = self.waiting.len() > MOST;
        if is_full {
            // The first may be under way.
            self.waiting.remove(1);
        }
        is_full
    }

    /// The next to be delivered.
    pub fn first(&self) -> Option<&Message> {
        self.waiting.front()
    }

    /// The first was taken, or refused for good.
    pub fn delivered(&mut self) {
        self.waiting.pop_front();
        self.failures = 0;
    }

    /// It was not: how long to wait before trying again.
    pub fn failed(&mut self) -> Duration {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_a_delivery() {
        let mut queue = Queue::default();
        let seconds: Vec<u64> = (0..10).map(|_| queue.failed().as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(queue.is_failing());
        queue.push(Message::test("d", "t"));
        queue.delivered();
        assert_eq!((queue.failed().as_secs(), queue.first()), (5, None));
    }

    #[test]
    fn when_there_are_too_many_the_oldest_that_waits_is_given_up() {
        let mut queue = Queue::default();
        let pushed: Vec<bool> =
            (0..=MOST).map(|n| queue.push(Message::test("d", &n.to_string()))).collect();
        assert_eq!(pushed.iter().filter(|gone| **gone).count(), 1);
        assert_eq!(queue.waiting().len(), MOST);
        // The first may be on its way; the one after it is given up.
        let left: Vec<&str> = queue.waiting().iter().take(2).map(|it| it.at.as_str()).collect();
        assert_eq!(left, ["0", "2"]);
    }
}
