// SPDX-License-Identifier: AGPL-3.0-only
//! Maps for the headers of answers, used again and again: the map of a request becomes that of a later answer, and hyper
//! reads a connection's next request into the map of its last answer. In between nothing is allocated, and an answer with
//! many headers, as the policy gate's, costs no more than one with few.

use std::cell::RefCell;

use http::HeaderMap;

/// Headers that most answers have room for: to grow costs more than to fill.
const USUAL: usize = 12;
/// Larger maps are not kept.
const LARGEST: usize = 24;
/// Maps that a thread keeps, each of some 1.3 KiB, or twice that.
const KEPT: usize = 16;

thread_local! {
    static KEPT_MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map, with room for the headers of an answer.
pub(crate) fn empty() -> HeaderMap {
    let kept = KEPT_MAPS.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| HeaderMap::with_capacity(USUAL))
}

/// Takes a map that is not needed any more. What is in it is forgotten.
pub(crate) fn done_with(mut map: HeaderMap) {
    // One with several values of a name has room for these elsewhere, which nobody counts.
    if (USUAL..=LARGEST).contains(&map.capacity()) && map.keys_len() == map.len() {
        map.clear();
        KEPT_MAPS.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(map);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_no_smaller() {
        let mut map = empty();
        let room = map.capacity();
        assert!(room >= USUAL);
        map.insert(AUTHORIZATION, HeaderValue::from_static("secret"));
        done_with(map);
        let again = empty();
        assert!(again.is_empty() && again.capacity() == room, "it was kept, without what was in it");
    }

    #[test]
    fn few_are_kept_and_none_that_is_too_small_or_too_large() {
        for capacity in [0, 1, 1000] {
            done_with(HeaderMap::with_capacity(capacity));
        }
        let mut repeated = HeaderMap::with_capacity(USUAL);
        for _ in 0..90 {
            repeated.append(AUTHORIZATION, HeaderValue::from_static("secret"));
        }
        done_with(repeated);
        assert_eq!(KEPT_MAPS.with_borrow(Vec::len), 0);
        for _ in 0..2 * KEPT {
            done_with(HeaderMap::with_capacity(USUAL));
        }
        assert_eq!(KEPT_MAPS.with_borrow(Vec::len), KEPT);
    }
}
