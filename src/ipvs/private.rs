//! Virtual services of our own that lead probes through a virtual address to one real server.
//!
//! Their firewall marks come from a range that policies may not use. Which mark a way gets follows
//! from the way itself, so that a restart finds them as they were and a new one moves no other.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Family, ServiceKey};

/// The first mark of the range.
pub const FIRST: u32 = 0x706d_0000;
/// The last one.
const LAST: u32 = 0x706d_ffff;
/// The most ways; beyond it marks would hardly be found.
pub const MOST: usize = 0x8000;

impl ServiceKey {
    /// Whether this is a virtual service of ours for probes only.
    pub fn is_private(&self) -> bool {
        matches!(self, Self::Fwmark { mark, .. } if (FIRST..=LAST).contains(mark))
    }
}

/// The private virtual service of a mark.
pub fn key(mark: u32, family: Family) -> ServiceKey {
    ServiceKey::Fwmark { mark, family }
}

/// A mark for each way, all different.
///
/// A way has the mark that its text hashes to, or the next free one. Of more than [`MOST`] ways the
/// last have none.
pub fn marks(ways: &BTreeSet<String>) -> BTreeMap<&str, u32> {
    let mut taken = BTreeSet::new();
    let mut marks = BTreeMap::new();
    for way in ways.iter().take(MOST) {
        let mut offset = hash(way) % (LAST - FIRST + 1);
        while !taken.insert(offset) {
            offset = (offset + 1) % (LAST - FIRST + 1);
        }
        marks.insert(way.as_str(), FIRST + offset);
    }
    marks
}

/// FNV-1a: the same on every machine and in every version.
fn hash(text: &str) -> u32 {
    let step = |state: u32, byte: u8| (state ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let state = text.bytes().fold(0x811c_9dc5, step);
    // The low half of FNV is weak.
    state ^ (state >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(numbers: impl Iterator<Item = u32>) -> BTreeSet<String> {
        numbers.map(|number| format!("tcp://203.0.113.1:80 192.0.2.{number}:80 direct")).collect()
    }

    #[test]
    fn a_mark_stays_when_others_come_and_go() {
        let few = ways(0..20);
        let many = ways(0..2000);
        let (of_few, of_many) = (marks(&few), marks(&many));
        let moved = of_few.iter().filter(|(way, mark)| of_many[*way] != **mark).count();
        assert!(moved <= 1, "{moved}");
        assert_eq!(of_few["tcp://203.0.113.1:80 192.0.2.7:80 direct"], 0x706d_0000 + SEVENTH);
    }

    /// As another program computes it; a change would renumber what is in kernels.
    const SEVENTH: u32 = 0xe981;

    #[test]
    fn all_are_private_and_different() {
        let all = ways(0..MOST as u32 + 10);
        let marks = marks(&all);
        assert_eq!(marks.len(), MOST);
        let distinct: BTreeSet<u32> = marks.values().copied().collect();
        assert_eq!(distinct.len(), MOST);
        assert!(distinct.iter().all(|mark| key(*mark, Family::Inet).is_private()));
        assert!(!key(7, Family::Inet).is_private() && !key(LAST + 1, Family::Inet).is_private());
    }
}
