//! What of a status is about alerts that reach nobody.

use serde::{Deserialize, Serialize};

/// What keeps alerts from those who are to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsStatus {
    /// Why the newest content of the alerts file does not count, ready to print.
    pub refused: Vec<String>,
    /// Receivers that did not take what they were told last.
    pub undelivered: Vec<Undelivered>,
}

/// A receiver that did not take what it was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// Its name in the alerts file.
    pub receiver: String,
    /// When the first delivery in a row failed, RFC 3339.
    pub since: String,
    /// Why the last one failed, on one line.
    pub reason: String,
    /// How many problems, and ends of problems, it has yet to be told; what a receiver refuses for
    /// good is given up and does not wait.
    pub waiting: usize,
}
