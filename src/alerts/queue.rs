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

    /// Adds one. What comes while one waits is collected meanwhile, so there is no crowd.
    pub fn push(&mut self, message: Message) {
        self.waiting.push_back(message);
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
}
