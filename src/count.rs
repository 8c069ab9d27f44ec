//! A number with its noun, for people.

use std::fmt::Display;

/// `1 policy`, `2 policies`, `0 problems`.
pub(crate) fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if number == N::from(1) => format!("1 {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_more_are_more() {
        let told = [(0, "hold"), (1, "hold"), (2, "hold"), (1, "policy"), (2, "policy")];
        let told = told.map(|(number, noun)| count(number, noun));
        assert_eq!(told, ["0 holds", "1 hold", "2 holds", "1 policy", "2 policies"]);
    }
}
