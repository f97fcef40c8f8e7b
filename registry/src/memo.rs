// SPDX-License-Identifier: AGPL-3.0-only
//! A small memory of one thread. Where all cores ask the same, what they share (a lock, a count of references) has to
//! travel between them, and that costs more than the look itself; so each thread keeps what it found last.
//!
//! Nothing here expires: what is kept must be as true later as it was then, or say by itself until when it is.

/// Values by keys, in so many places, of which each is taken by whoever comes last. Takes no memory until something is kept.
pub(crate) struct Memo<const PLACES: usize, K, V>(Vec<Option<(K, V)>>);

impl<const PLACES: usize, K, V> Memo<PLACES, K, V> {
    pub(crate) const fn new() -> Self {
        Memo(Vec::new())
    }

    /// Any number is a place; it should be as good as random. Who makes two things that have one place makes nothing wrong,
    /// only slower.
    fn at(place: u64) -> usize {
        usize::try_from(place % PLACES as u64).unwrap_or(0)
    }

    /// The value at a place, if its key is the right one.
    pub(crate) fn get(&self, place: u64, is_right: impl FnOnce(&K) -> bool) -> Option<&V> {
        let (key, value) = self.0.get(Self::at(place))?.as_ref()?;
        is_right(key).then_some(value)
    }

    pub(crate) fn put(&mut self, place: u64, key: K, value: V) {
        // Few of all threads ask.
        self.0.resize_with(PLACES, || None);
        if let Some(kept) = self.0.get_mut(Self::at(place)) {
            *kept = Some((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_found_was_kept_last_under_the_same_key(kept in prop::collection::vec((0..300_u64, any::<u8>()), 1..50)) {
            let mut memo = Memo::<100, _, _>::new();
            prop_assert!(memo.get(kept[0].0, |_| true).is_none(), "nothing is there at first");
            let mut last = std::collections::HashMap::new();
            for (key, value) in kept {
                memo.put(key, key, value);
                prop_assert_eq!(memo.get(key, |kept| *kept == key), Some(&value));
                last.insert(key, value);
            }
            for (key, value) in last {
                let found = memo.get(key, |kept| *kept == key);
                prop_assert!(found.is_none_or(|found| *found == value), "it may have been forgotten");
            }
        }
    }

    #[test]
    fn two_keys_of_one_place_are_told_apart() {
        let mut memo = Memo::<10, _, _>::new();
        memo.put(1, "one", 1);
        assert_eq!(memo.get(11, |key| *key == "other"), None);
        memo.put(11, "other", 2);
        assert_eq!(memo.get(1, |key| *key == "one"), None);
        assert_eq!(memo.get(1, |key| *key == "other"), Some(&2));
    }
}
