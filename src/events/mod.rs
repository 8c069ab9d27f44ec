//! What happened: one value for each transition, change, repair, reload, override and alarm.
//!
//! Whoever does something tells the [`Journal`]; whoever wants to know listens to it. The journal
//! never waits: a listener that is too slow loses the oldest events and is told how many.

mod event;
pub mod file;
mod observer;
#[cfg(test)]
mod observer_tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

pub use event::{Event, FloorState, What};
pub use observer::{Moment, observe};

/// Events that a listener may be behind.
const CAPACITY: usize = 16_384;
/// Events that are kept for whoever comes later.
const RECENT: usize = 1_000;

/// Where events are told and listened to; clones are the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: broadcast::Sender<Arc<Event>>,
    /// The newest last. Held for as long as it takes to push one.
    recent: Arc<Mutex<VecDeque<Arc<Event>>>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), recent: Arc::default() }
    }
}

impl Journal {
    /// Tells all listeners what happened just now.
    pub fn tell(&self, what: What) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that times have the order of their events.
        let event = Arc::new(Event { at: wall(), what });
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Likewise, so that all have the same order. Without listeners there is nobody to tell.
        let _ = self.sender.send(event);
    }

    /// Everything that is told from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }

    /// The newest events, at most a thousand, the oldest of them first.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: events are for people")]
fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(number: usize) -> What {
        What::Stopped { cause: number.to_string() }
    }

    #[tokio::test]
    async fn whoever_is_slow_loses_the_oldest_and_nobody_waits() {
        let journal = Journal::default();
        let mut listener = journal.listen();
        (0..CAPACITY + 3).for_each(|number| journal.tell(stopped(number)));
        let lagged = listener.recv().await.unwrap_err();
        assert_eq!(lagged, broadcast::error::RecvError::Lagged(3));
        assert_eq!(listener.recv().await.unwrap().what, stopped(3));
        let recent = journal.recent();
        assert_eq!(recent.len(), RECENT);
        assert_eq!(recent.last().unwrap().what, stopped(CAPACITY + 2));
    }
}
