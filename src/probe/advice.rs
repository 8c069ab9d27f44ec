//! What a real server says about its own share of the traffic: in an HTTP answer, through an agent
//! port, by the exit status of a script or in a file.
//!
//! Advice is never a verdict: it lowers or raises a weight, or asks to be left out, and whether the
//! real server is fit is for its checks to say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What one answer said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The weight it asks for; `None`: the declared one.
    pub weight: Option<AdvisedWeight>,
    /// What else it asks for.
    pub state: Option<AdvisedState>,
}

/// A weight that a real server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisedWeight {
    /// This share of the declared weight, in percent; 100 is all of it.
    Percent(u16),
    /// This weight, whatever is declared.
    Absolute(u32),
}

/// A state that a real server asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisedState {
    /// No new connections.
    Drain,
    /// Out of service for maintenance.
    Maint,
    /// It takes itself to be unfit, and says why.
    Down(Arc<str>),
}

impl AdvisedWeight {
    /// The weight it makes of the declared one. More than nothing stays more than nothing.
    pub fn of(self, declared: u32) -> u32 {
        match self {
            Self::Absolute(weight) => weight.min(i32::MAX as u32),
            Self::Percent(0) => 0,
            Self::Percent(percent) => scaled(declared, u64::from(percent), 100),
        }
    }
}

/// `weight × share / whole`, rounded up, within what the kernel takes (2^31 − 1).
pub fn scaled(weight: u32, share: u64, whole: u64) -> u32 {
    let scaled = (u64::from(weight) * share).div_ceil(whole.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX).min(i32::MAX as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_by_table() {
        use AdvisedWeight::{Absolute, Percent};
        for (advised, declared, weight) in [
            (Percent(100), 80, 80),
            (Percent(75), 80, 60),
            (Percent(1), 80, 1),
            (Percent(0), 80, 0),
            (Percent(50), 0, 0),
            (Percent(200), 80, 160),
            (Percent(200), i32::MAX as u32, i32::MAX as u32),
            (Absolute(7), 80, 7),
            (Absolute(u32::MAX), 80, i32::MAX as u32),
        ] {
            assert_eq!(advised.of(declared), weight, "{advised:?} of {declared}");
        }
    }
}
