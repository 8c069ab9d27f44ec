//! What real servers advise, as the status and an explanation show it.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::status::seconds;
use super::text::age;
use crate::probe::advising::Advising;
use crate::probe::outcome::Outcome;

/// What one target advises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdviceStatus {
    /// What it said last: `75% drain`; `None`: nothing yet.
    pub says: Option<String>,
    /// Seconds since then.
    pub ago: Option<f64>,
    /// Seconds until that counts no more unless it is said again; `None`: it does not count.
    pub expires_in: Option<f64>,
    /// Why the last attempt advised nothing.
    pub trouble: Option<String>,
}

/// One agent: its advice, and no verdict.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdvisorStatus {
    /// What is asked, such as `agent 192.0.2.1:9000`.
    pub advisor: String,
    /// Seconds since the last attempt ended.
    pub last_ago: Option<f64>,
    /// What came of it.
    pub last: Option<Outcome>,
    /// What it advises; `None`: it was not asked yet.
    pub advice: Option<AdviceStatus>,
}

impl AdviceStatus {
    pub(super) fn of(advising: Option<&Advising>, now: Instant) -> Option<Self> {
        let Advising { spoken, trouble, .. } = advising?;
        let expires = spoken.as_ref().filter(|spoken| spoken.counts).map(|spoken| spoken.until);
        Some(Self {
            says: spoken.as_ref().map(|spoken| spoken.said.to_string()),
            ago: spoken.as_ref().map(|it| seconds(now.saturating_duration_since(it.at))),
            expires_in: expires.map(|until| seconds(until.saturating_duration_since(now))),
            trouble: trouble.as_deref().map(str::to_owned),
        })
    }
}

impl fmt::Display for AdviceStatus {
    /// `75% drain, said 2s ago, expires in 15s`, `nothing yet; refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.says, self.ago, self.expires_in) {
            (Some(says), Some(ago), Some(left)) => {
                write!(f, "{says}, said {} ago, expires in {}", age(ago), age(left.ceil()))?;
            }
            (Some(says), Some(ago), None) => {
                write!(f, "EXPIRED: {says}, said {} ago, counts no more", age(ago))?;
            }
            _ => f.write_str("nothing yet")?,
        }
        match &self.trouble {
            Some(trouble) => write!(f, "; last time: {trouble}"),
            None => Ok(()),
        }
    }
}
