//! What a target's probes came to, as numbers that only grow.
//!
//! Small, because ten thousand targets have one each: 32 bits last 13 years at ten probes a second.

use super::outcome::Reason;
use crate::health::{Health, Transition};

/// Counts of one target since it is known to this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    reasons: [u32; Reason::ALL.len()],
    /// How often the verdict turned to up.
    pub to_up: u32,
    /// How often it turned to down.
    pub to_down: u32,
}

impl Tally {
    pub(super) fn ended(&mut self, reason: Reason) {
        if let Some(count) = self.reasons.get_mut(reason as usize) {
            *count = count.wrapping_add(1);
        }
    }

    pub(super) fn turned(&mut self, transition: Transition) {
        let count = match transition.to {
            Health::Up => &mut self.to_up,
            Health::Down | Health::Unknown => &mut self.to_down,
        };
        *count = count.wrapping_add(1);
    }

    /// Each reason with the number of attempts that ended so.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::ALL.into_iter().zip(self.reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_costs_little() {
        assert!(size_of::<Tally>() <= 128, "{}", size_of::<Tally>());
    }
}
