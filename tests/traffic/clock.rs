//! Waiting: always for something, never for longer than a limit.

use std::time::{Duration, Instant};

/// What a guest with one processor may be late by on a busy host. What is measured is printed.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// For what takes as long as it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const STEP: Duration = Duration::from_millis(5);

#[expect(clippy::disallowed_methods, reason = "real traffic takes real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < end, "not within {limit:?}: {what}");
        rest();
    }
}

/// Between two looks at something.
#[expect(clippy::disallowed_methods, reason = "the step of a wait with a limit")]
pub(crate) fn rest() {
    std::thread::sleep(STEP);
}
