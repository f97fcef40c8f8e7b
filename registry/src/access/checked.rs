// SPDX-License-Identifier: AGPL-3.0-only
//! Tokens that were checked: whose they are, until they expire, or keys or passwords change. Checking a signature costs as much as
//! several answers; finding a token here costs less than reading a row.
//!
//! Invariant: what is found was kept under the same token, to the last byte. Only tokens that are right are kept, so
//! nobody else fills this, or makes it slow. Each thread has those that it saw last for itself ([`crate::memo`]), each with
//! an identity of its own: a count of references is shared too.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use stella_storage::Timestamp;

use super::Identity;
use crate::memo::Memo;

/// Tokens that are remembered, and how long one may be, so that memory is bounded.
const MOST: usize = 4_096;
const LONGEST: usize = 4 << 10;
/// Tokens that each thread remembers for itself.
const BY_A_THREAD: usize = 256;
const LONGEST_OF_A_THREAD: usize = 2 << 10;
/// As many bytes at its end tell a token from others: a part of its signature, which is as good as random.
const TAIL: usize = 16;

thread_local! {
    static STANDING: RefCell<Memo<BY_A_THREAD, (u64, Kept), Checked>> = const { RefCell::new(Memo::new()) };
}

/// What is remembered.
pub(super) struct CheckedTokens {
    all: Cache<Kept, Checked>,
    /// Tells what a thread was told of here from what it was told elsewhere. Tests have several of these in a process.
    number: u64,
}

#[derive(Clone)]
struct Checked {
    identity: Arc<Identity>,
    expires: Timestamp,
    /// Of which keys and passwords (`Access::generation`) that is so.
    keys: u64,
}

/// A token that is here.
#[derive(PartialEq, Eq)]
struct Kept(Box<[u8]>);

/// A token that is looked for.
struct Sought<'a>(&'a [u8]);

impl Default for CheckedTokens {
    fn default() -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        CheckedTokens { all: Cache::new(MOST), number: NUMBERS.fetch_add(1, Ordering::Relaxed) }
    }
}

impl CheckedTokens {
    /// Whose token this is, if it was checked with the present keys and has not expired.
    pub(super) fn get(&self, token: &[u8], keys: u64, now: Timestamp) -> Option<Arc<Identity>> {
        self.checked(token, keys, now).map(|checked| checked.identity)
    }

    fn checked(&self, token: &[u8], keys: u64, now: Timestamp) -> Option<Checked> {
        self.all.get(&Sought(token)).filter(|checked| checked.holds(keys, now))
    }

    /// The same, if this thread was told that the token stands ([`CheckedTokens::stands`]).
    pub(super) fn standing(&self, token: &[u8], keys: u64, now: Timestamp) -> Option<Arc<Identity>> {
        STANDING.with_borrow(|standing| {
            let right = |(number, kept): &(u64, Kept)| *number == self.number && *kept.0 == *token;
            let checked = standing.get(place(token), right)?;
            checked.holds(keys, now).then(|| Arc::clone(&checked.identity))
        })
    }

    /// Remembers for this thread that all that a token depends on is as it was, until keys or passwords change.
    pub(super) fn stands(&self, token: &[u8], keys: u64, now: Timestamp) {
        if token.len() <= LONGEST_OF_A_THREAD
            && let Some(checked) = self.checked(token, keys, now)
        {
            let own = Checked { identity: Arc::new(Identity::clone(&checked.identity)), ..checked };
            STANDING.with_borrow_mut(|standing| {
                standing.put(place(token), (self.number, Kept(token.into())), own);
            });
        }
    }

    /// Remembers a token that is right.
    pub(super) fn keep(&self, token: &[u8], keys: u64, expires: Timestamp, identity: &Arc<Identity>) {
        if token.len() <= LONGEST {
            self.all.insert(Kept(token.into()), Checked { identity: Arc::clone(identity), expires, keys });
        }
    }
}

impl Checked {
    fn holds(&self, keys: u64, now: Timestamp) -> bool {
        self.keys == keys && now < self.expires
    }
}

/// Where a thread keeps a token: its end is a part of its signature, in base64, of which each byte has six good bits.
fn place(token: &[u8]) -> u64 {
    let end = token.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
    // Fibonacci hashing: the uppermost bits depend on all of them.
    end.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
}

/// Both have to agree on it.
fn hash(token: &[u8], state: &mut impl Hasher) {
    state.write(token.last_chunk::<TAIL>().map_or(token, |tail| tail));
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.0, state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.0, state);
    }
}

impl Equivalent<Kept> for Sought<'_> {
    fn equivalent(&self, kept: &Kept) -> bool {
        *self.0 == *kept.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(subject: &str) -> Arc<Identity> {
        Arc::new(Identity { subject: subject.to_owned(), ..Identity::default() })
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let (tokens, identity) = (CheckedTokens::default(), Arc::new(Identity::anonymous()));
        tokens.keep(b"a", 1, Timestamp(10), &identity);
        assert!(tokens.get(b"a", 1, Timestamp(9)).is_some());
        for (token, keys, now) in [(b"a", 1, 10), (b"a", 2, 9), (b"b", 1, 9)] {
            assert!(tokens.get(token, keys, Timestamp(now)).is_none());
        }
        let long = vec![b'x'; LONGEST + 1];
        tokens.keep(&long, 1, Timestamp(10), &identity);
        assert!(tokens.get(&long, 1, Timestamp(9)).is_none());
    }

    #[test]
    fn that_a_token_stands_ends_as_everything_does_and_is_no_others() {
        let (one, other) = (CheckedTokens::default(), CheckedTokens::default());
        let token = b"one token of many: its end";
        one.keep(token, 1, Timestamp(10), &named("alice"));
        assert_eq!(one.standing(token, 1, Timestamp(9)), None, "nobody said so");
        one.stands(token, 2, Timestamp(9));
        one.stands(token, 1, Timestamp(10));
        assert_eq!(one.standing(token, 1, Timestamp(9)), None, "of what is not known nothing is known");
        one.stands(token, 1, Timestamp(9));
        assert_eq!(one.standing(token, 1, Timestamp(9)), Some(named("alice")));
        assert_eq!(other.standing(token, 1, Timestamp(9)), None);
        assert_eq!(
            [one.standing(token, 2, Timestamp(9)), one.standing(token, 1, Timestamp(10))],
            [None, None]
        );
        assert_eq!(one.standing(b"another token all over: its end", 1, Timestamp(9)), None);
        let elsewhere =
            std::thread::scope(|scope| scope.spawn(|| one.standing(token, 1, Timestamp(9))).join());
        assert_eq!(elsewhere.unwrap(), None);
    }

    #[test]
    fn no_token_is_taken_for_another_that_is_almost_the_same() {
        let tokens = CheckedTokens::default();
        let token: Vec<u8> = (0..400_u32).map(|index| b"abcdefghijk.-_"[index as usize % 14]).collect();
        tokens.keep(&token, 1, Timestamp(10), &named("right"));
        let get = |token: &[u8]| tokens.get(token, 1, Timestamp(9));
        for index in 0..token.len() {
            let mut other = token.clone();
            other[index] ^= 1;
            assert_eq!(get(&other), None, "another byte {index}");
            assert_eq!(get(&token[index + 1..]), None, "an end");
            assert_eq!(get(&token[..index]), None, "a beginning");
        }
        assert_eq!(get(&[&b"x"[..], &token].concat()), None);
        assert_eq!(get(&token), Some(named("right")));
    }

    #[test]
    fn tokens_with_one_end_are_told_apart() {
        let tokens = CheckedTokens::default();
        let token = |subject: &str| format!("{subject}.{}", "s".repeat(TAIL)).into_bytes();
        let subjects = ["alice", "bob", ""];
        for subject in subjects {
            tokens.keep(&token(subject), 1, Timestamp(10), &named(subject));
        }
        for subject in subjects {
            assert_eq!(tokens.get(&token(subject), 1, Timestamp(9)), Some(named(subject)));
        }
        assert_eq!(tokens.get(&token("mallory"), 1, Timestamp(9)), None);
    }
}
