//! Brings one message to one receiver, within a deadline.
//!
//! An error is one sentence: what was refused, by whom, and with which words.

mod command;
mod mail;
mod webhook;

pub use mail::check_address;
pub use webhook::check_template;

use std::time::Duration;

use super::config::{Receiver, Way};
use super::message::Message;

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In the receiver's words, as far as is known.
    pub reason: String,
    /// Whether it would be refused again, however often it is tried.
    pub for_good: bool,
}

impl From<String> for Refusal {
    /// Trouble that may pass.
    fn from(reason: String) -> Self {
        Self { reason, for_good: false }
    }
}

/// How long one delivery may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tries once.
///
/// # Errors
/// Why the receiver has not taken it, as far as is known.
pub async fn deliver(receiver: &Receiver, message: &Message) -> Result<(), Refusal> {
    let attempt = async {
        match &receiver.way {
            Way::Mail(mail) => mail::send(mail, message).await,
            Way::Webhook(webhook) => webhook::send(webhook, message).await,
            Way::Command(command) => command::send(command, message).await.map_err(Refusal::from),
        }
    };
    tokio::time::timeout(DEADLINE, attempt)
        .await
        .unwrap_or_else(|_| Err(format!("not taken within {} s", DEADLINE.as_secs()).into()))
}

/// An error with everything that caused it, each word once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
