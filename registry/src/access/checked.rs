// SPDX-License-Identifier: AGPL-3.0-only
//! Tokens that were checked: whose they are, until they expire or the keys change. Checking a signature costs as much as
//! several answers; finding a token here costs less than reading a row.

use std::sync::Arc;

use quick_cache::sync::Cache;
use stella_storage::Timestamp;

use super::Identity;

/// Tokens that are remembered, and how long one may be, so that memory is bounded.
const MOST: usize = 4_096;
const LONGEST: usize = 4 << 10;

/// What is remembered.
pub(super) struct CheckedTokens(Cache<Arc<str>, Checked>);

#[derive(Clone)]
struct Checked {
    identity: Arc<Identity>,
    expires: Timestamp,
    /// Which keys it was checked with.
    keys: u64,
}

impl Default for CheckedTokens {
    fn default() -> Self {
        CheckedTokens(Cache::new(MOST))
    }
}

impl CheckedTokens {
    /// Whose token this is, if it was checked with the present keys and has not expired.
    pub(super) fn get(&self, token: &str, keys: u64, now: Timestamp) -> Option<Arc<Identity>> {
        let checked = self.0.get(token)?;
        (checked.keys == keys && now < checked.expires).then_some(checked.identity)
    }

    /// Remembers a token that is right.
    pub(super) fn keep(&self, token: &str, keys: u64, expires: Timestamp, identity: &Arc<Identity>) {
        if token.len() <= LONGEST {
            self.0.insert(token.into(), Checked { identity: Arc::clone(identity), expires, keys });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let (tokens, identity) = (CheckedTokens::default(), Arc::new(Identity::anonymous()));
        tokens.keep("a", 1, Timestamp(10), &identity);
        assert!(tokens.get("a", 1, Timestamp(9)).is_some());
        for (token, keys, now) in [("a", 1, 10), ("a", 2, 9), ("b", 1, 9)] {
            assert!(tokens.get(token, keys, Timestamp(now)).is_none());
        }
        let long = "x".repeat(LONGEST + 1);
        tokens.keep(&long, 1, Timestamp(10), &identity);
        assert!(tokens.get(&long, 1, Timestamp(9)).is_none());
    }
}
