//! The merge walk: two ordered maps side by side, in one pass, in the order of their keys.
//!
//! Knows nothing of IPVS; what a difference means is decided in [`super::plan`].

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// Where a key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<'m, K, A, B> {
    /// Only in the left map.
    Left(&'m K, &'m A),
    /// Only in the right map.
    Right(&'m K, &'m B),
    /// In both.
    Both(&'m K, &'m A, &'m B),
}

/// Walks two maps in the order of their keys and tells for each key where it is.
pub fn merge<'m, K: Ord, A, B>(
    left: &'m BTreeMap<K, A>,
    right: &'m BTreeMap<K, B>,
) -> Merge<'m, K, A, B> {
    Merge { left: left.iter().peekable(), right: right.iter().peekable() }
}

/// The iterator of [`merge`].
#[derive(Debug)]
pub struct Merge<'m, K, A, B> {
    left: Peekable<btree_map::Iter<'m, K, A>>,
    right: Peekable<btree_map::Iter<'m, K, B>>,
}

impl<'m, K: Ord, A, B> Iterator for Merge<'m, K, A, B> {
    type Item = Side<'m, K, A, B>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.peek(), self.right.peek()) {
            (Some((left, _)), Some((right, _))) => left.cmp(right),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => self.left.next().map(|(key, value)| Side::Left(key, value)),
            Ordering::Greater => self.right.next().map(|(key, value)| Side::Right(key, value)),
            Ordering::Equal => {
                let (key, left) = self.left.next()?;
                let (_, right) = self.right.next()?;
                Some(Side::Both(key, left, right))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_for_each_key_where_it_is() {
        let left = BTreeMap::from([(1, 'a'), (2, 'b'), (5, 'c')]);
        let right = BTreeMap::from([(0, "x"), (2, "y"), (7, "z")]);
        let walked: Vec<_> = merge(&left, &right).collect();
        let expected = [
            Side::Right(&0, &"x"),
            Side::Left(&1, &'a'),
            Side::Both(&2, &'b', &"y"),
            Side::Left(&5, &'c'),
            Side::Right(&7, &"z"),
        ];
        assert_eq!(walked, expected);
        assert_eq!(merge(&left, &BTreeMap::<i32, ()>::new()).count(), 3);
    }
}
