//! Order in little code. The standard library's stable sort becomes 5 KB of machine code for each type that is
//! sorted, and a `collect` into an ordered set or map sorts as well: twenty of them were 100 KB of this program.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Sorts; what compares equal stays in order.
pub fn sort_by<T>(list: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = permutation(list.len(), &|a, b| match (list.get(a), list.get(b)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => Ordering::Equal,
    });
    let mut slots: Vec<Option<T>> = std::mem::take(list).into_iter().map(Some).collect();
    list.extend(order.into_iter().filter_map(|at| slots.get_mut(at)?.take()));
}

/// The one sort of all lists, of their indices.
fn permutation(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_by(|a, b| compare(*a, *b));
    order
}

/// The same by a key.
pub fn sort_by_key<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    sort_by(list, |a, b| key(a).cmp(&key(b)));
}

/// Sorts, and keeps one of equal ones.
pub fn unique<T: Ord>(list: &mut Vec<T>) {
    sort_by(list, T::cmp);
    list.dedup();
}

/// A set of these.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// A map of these; the last of one key holds.
pub fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// As the standard library's.
        #[test]
        fn it_is_a_stable_sort(list in prop::collection::vec((0u8..9, any::<u16>()), 0..80)) {
            let (mut own, mut other) = (list.clone(), list.clone());
            sort_by_key(&mut own, |(key, _)| *key);
            other.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(own, other);
            prop_assert_eq!(map(list.clone()), list.clone().into_iter().collect::<BTreeMap<_, _>>());
            prop_assert_eq!(set(list.clone()), list.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
