//! The health floor: how many real servers probes may take out of a policy.
//!
//! Pure. Probes can be wrong about many at once (a check that asks for the wrong page, a switch
//! between the director and the real servers), and then no server at all is worse than a few bad
//! ones; or the other way round, and then it is better to say so to whoever is upstream.

use std::time::Instant;

use crate::health::Health;
use crate::policy::model::{AtFloor, HealthFloor};

/// What matters of one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What its probes say, or it itself.
    pub health: Health,
    /// Since when; `None` where nobody knows.
    pub since: Option<Instant>,
    /// Whether it takes connections now: what an unknown one does.
    pub takes: bool,
}

/// What the floor makes of a policy's real servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Verdicts count.
    Verdicts,
    /// These stay although they are down: indices into the candidates.
    Keep(Vec<usize>),
    /// All go, or stay out: fewer are up than must be.
    Withdraw {
        /// How many are up.
        up: usize,
        /// How many must be.
        needed: usize,
    },
}

/// Rules on the candidates of a policy: its real servers but for those that an operator, or they
/// themselves, took out of service; those are `None` and do not count.
///
/// `keep`: of those that are down, the ones that went down last stay, so many that `min_up` are in
/// the table. When another one recovers, of these the one that went down first goes.
///
/// `withdraw`: when fewer than `min_up` can still be up, all go; they come back when `return_at`
/// are up.
pub fn rule(floor: &HealthFloor, candidates: &[Option<Candidate>], withdrawn: bool) -> Ruling {
    let all: Vec<(usize, &Candidate)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, one)| one.as_ref().map(|one| (index, one)))
        .collect();
    let count = |health: Health| all.iter().filter(|(_, one)| one.health == health).count();
    let least = floor.min_up.of(all.len());
    match floor.at_floor {
        AtFloor::Keep => {
            let unknown =
                |(_, one): &&(usize, &Candidate)| one.health == Health::Unknown && one.takes;
            let taking = count(Health::Up) + all.iter().filter(unknown).count();
            let mut down: Vec<_> =
                all.iter().filter(|(_, one)| one.health == Health::Down).copied().collect();
            down.sort_by_key(|(_, one)| std::cmp::Reverse(one.since));
            down.truncate(least.saturating_sub(taking));
            match down.is_empty() {
                true => Ruling::Verdicts,
                false => Ruling::Keep(down.into_iter().map(|(index, _)| index).collect()),
            }
        }
        AtFloor::Withdraw { return_at } => {
            let up = count(Health::Up);
            let (enough, needed) = match withdrawn {
                true => {
                    (up >= return_at.of(all.len()).max(least), return_at.of(all.len()).max(least))
                }
                false => (all.len() - count(Health::Down) >= least, least),
            };
            if enough { Ruling::Verdicts } else { Ruling::Withdraw { up, needed } }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::model::Share;

    const KEEP: AtFloor = AtFloor::Keep;

    fn floor(min_up: Share, at_floor: AtFloor) -> HealthFloor {
        HealthFloor { min_up, at_floor }
    }

    /// `U` up, `?` unknown and taking connections, `n` unknown and new, `x` out of service, a digit:
    /// down since that many seconds.
    fn candidates(text: &str) -> Vec<Option<Candidate>> {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now() + Duration::from_secs(1000);
        let of = |letter| {
            let (health, takes, ago) = match letter {
                'U' => (Health::Up, true, 0),
                '?' => (Health::Unknown, true, 0),
                'n' => (Health::Unknown, false, 0),
                'x' => return None,
                digit => (Health::Down, false, u64::from(digit.to_digit(10).unwrap_or(0))),
            };
            Some(Candidate { health, since: Some(now - Duration::from_secs(ago)), takes })
        };
        text.chars().map(of).collect()
    }

    /// Plays a policy over time, each state after the other, and writes who is in after each: `W`
    /// when all are withdrawn, else one letter for each that is not out because it is down.
    fn play(floor: &HealthFloor, states: &str) -> String {
        let mut withdrawn = false;
        let each = states.split(' ').map(|state| {
            let ruling = rule(floor, &candidates(state), withdrawn);
            withdrawn = matches!(ruling, Ruling::Withdraw { .. });
            let kept = match &ruling {
                Ruling::Withdraw { .. } => return "W".to_owned(),
                Ruling::Keep(kept) => kept.clone(),
                Ruling::Verdicts => Vec::new(),
            };
            let sign = |(index, letter): (usize, char)| match letter {
                'x' | 'n' | 'U' | '?' => letter,
                _ if kept.contains(&index) => 'K',
                _ => '-',
            };
            state.chars().enumerate().map(sign).collect()
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keep_by_table() {
        for (min_up, states, expected) in [
            // Above the floor verdicts count, whatever was before.
            (Share::Count(2), "UUUU UUU5 UU57", "UUUU UUU- UU--"),
            // At the floor the one that goes down stays, and who was out stays out.
            (Share::Count(2), "UU57 U257 1257", "UU-- UK-- KK--"),
            // When another one recovers, the one that was kept goes.
            (Share::Count(2), "U257 U2U7", "UK-- U-U-"),
            // When the kept one recovers nothing else changes.
            (Share::Count(2), "U257 UU57", "UK-- UU--"),
            // A new one without a verdict counts only if it takes connections already.
            (Share::Count(2), "Un57 U?57", "UnK- U?--"),
            // Shares are rounded up.
            (Share::Percent(50), "123 U23", "KK- UK-"),
            (Share::Percent(1), "1234", "K---"),
            (Share::Percent(100), "1234 U234", "KKKK UKKK"),
            // Disabled ones count neither as up nor for the share.
            (Share::Percent(50), "xx12 Ux12", "xxK- UxK-"),
            (Share::Count(2), "x1 xx", "xK xx"),
            // More than there are is all of them.
            (Share::Count(9), "U12", "UKK"),
        ] {
            assert_eq!(play(&floor(min_up, KEEP), states), expected, "{min_up:?}: {states}");
        }
    }

    #[test]
    fn withdraw_by_table() {
        for (min_up, return_at, states, expected) in [
            // Falls below the low mark, comes back at the high one and not between.
            (2, 3, "UUUU UU57 U257 UU57 UUU7 UU57", "UUUU UU-- W W UUU- UU--"),
            // What may yet be up is no reason to withdraw, and none to come back.
            (2, 3, "n?57 n257 U?57 UU?7 UUU7", "n?-- W W W UUU-"),
            // The high mark is never below the low one.
            (2, 1, "U157 UU57", "W UU--"),
            // Nobody in service: nobody to withdraw below a floor of none.
            (1, 1, "xx x1 xU", "xx W xU"),
        ] {
            let at_floor = AtFloor::Withdraw { return_at: Share::Count(return_at) };
            let found = play(&floor(Share::Count(min_up), at_floor), states);
            assert_eq!(found, expected, "{min_up} to {return_at}: {states}");
        }
    }

    proptest! {
        /// Under `keep` no more than needed stay, and as many as must while there are any.
        #[test]
        fn a_floor_holds_and_no_more(states in "[U?nx0-9]{0,9}", percent in 1u8..=100) {
            let candidates = candidates(&states);
            let all = candidates.iter().flatten().count();
            let least = Share::Percent(percent).of(all);
            let kept = match rule(&floor(Share::Percent(percent), KEEP), &candidates, false) {
                Ruling::Verdicts => Vec::new(),
                Ruling::Keep(kept) => kept,
                Ruling::Withdraw { .. } => return Err(TestCaseError::fail("keep withdrew")),
            };
            let taking = states.chars().filter(|letter| "U?".contains(*letter)).count();
            let down = states.chars().filter(char::is_ascii_digit).count();
            prop_assert_eq!(kept.len(), least.saturating_sub(taking).min(down));
            let since = |index: &usize| candidates[*index].and_then(|one| one.since);
            let out = (0..candidates.len()).filter(|index| {
                !kept.contains(index)
                    && candidates[*index].is_some_and(|one| one.health == Health::Down)
            });
            let newest_out = out.filter_map(|index| since(&index)).max();
            prop_assert!(kept.iter().all(|index| since(index) >= newest_out), "{:?}", kept);
        }
    }
}
