// SPDX-License-Identifier: AGPL-3.0-only
//! Tokens to pull with, given again within the second in which they were made. A thousand nodes that start the same pod ask
//! for the same at once, and a signature costs more than all else of an answer. The first few have a token each.
//!
//! Invariant: what is given again says what a new token would say, to the last byte, but for its name (`jti`), and is signed
//! with the same key. Times in tokens are whole seconds, so nothing is given again in the next one.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use stella_storage::Timestamp;

use super::claims::Told;
use super::signer::SignerError;
use crate::memo::Memo;

/// So many of a second are each made anew by a thread.
const FEW: u32 = 8;
/// Tokens that a thread keeps for itself, and how long one may be.
const BY_A_THREAD: usize = 64;
const LONGEST: usize = 2 << 10;

/// A service and its keys, and what a token of theirs says.
type Key = ((u64, u64), Vec<u8>);

/// The last token of those that say the same.
#[derive(Clone)]
struct Last {
    token: String,
    issued: Timestamp,
    made: u32,
}

thread_local! {
    static MINTED: RefCell<Memo<BY_A_THREAD, Key, Last>> = const { RefCell::new(Memo::new()) };
}

/// A token that says this, and when it was issued: what `mint` makes, or, after a few, the one that was made last.
pub(super) fn again(
    signed_by: (u64, u64),
    told: Told<'_>,
    now: Timestamp,
    mint: impl FnOnce(Told<'_>) -> Result<String, SignerError>,
) -> Result<(String, Timestamp), SignerError> {
    let claims = serde_json::to_vec(&told).map_err(SignerError::Claims)?;
    let place = BuildHasherDefault::<DefaultHasher>::default().hash_one(&claims);
    let is_same = |(signer, said): &Key| *signer == signed_by && *said == claims;
    let made = MINTED.with_borrow(|minted| match minted.get(place, is_same) {
        Some(last) if last.made >= FEW => Err((last.token.clone(), last.issued)),
        last => Ok(last.map_or(0, |last| last.made)),
    });
    let made = match made {
        Ok(made) => made,
        Err(last) => return Ok(last),
    };
    let token = mint(told)?;
    if token.len() <= LONGEST {
        let last = Last { token: token.clone(), issued: now, made: made + 1 };
        MINTED.with_borrow_mut(|minted| minted.put(place, (signed_by, claims), last));
    }
    Ok((token, now))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::access::claims::{Marks, ToldToUs};
    use crate::access::{Identity, Scope};

    /// What `again` gives, and how many tokens were made for it.
    fn give(
        made: &Cell<u32>,
        signed_by: (u64, u64),
        (sub, exp): (&str, u64),
        now: u64,
    ) -> (String, Timestamp) {
        let (who, scope, marks) = (Identity::anonymous(), Scope::default(), Marks::default());
        let (iss, aud, stella) = ("us", "us", ToldToUs::of(&who, &marks));
        let told = Told { iss, sub, aud, exp, iat: 1, jti: "", access: &scope, stella };
        let mint = |told: Told<'_>| {
            made.set(made.get() + 1);
            Ok(format!("{} until {}, number {}", told.sub, told.exp, made.get()))
        };
        again(signed_by, told, Timestamp(now), mint).unwrap()
    }

    #[test]
    fn after_a_few_the_same_is_given_again_and_nothing_else() {
        let made = Cell::new(0);
        let mut last = (String::new(), Timestamp(0));
        for number in 1..=FEW {
            last = give(&made, (1_000, 1), ("alice", 5), 10 + u64::from(number));
            assert_eq!(last.0, format!("alice until 5, number {number}"), "each has its own");
        }
        for now in 30..40 {
            assert_eq!(
                give(&made, (1_000, 1), ("alice", 5), now),
                last,
                "with the time at which it was issued"
            );
        }
        for (signed_by, claims) in [
            ((1_000, 1), ("bob", 5)),
            ((1_000, 1), ("alice", 6)),
            ((1_000, 2), ("alice", 5)),
            ((1_001, 1), ("alice", 5)),
        ] {
            let before = made.get();
            let (token, issued) = give(&made, signed_by, claims, 50);
            assert_eq!((made.get(), issued), (before + 1, Timestamp(50)), "{signed_by:?} {claims:?}");
            assert!(token.starts_with(&format!("{} until {}", claims.0, claims.1)));
        }
    }

    #[test]
    fn what_could_not_be_made_or_kept_is_made_each_time() {
        let (who, scope, marks) = (Identity::anonymous(), Scope::default(), Marks::default());
        let told = || {
            let (iss, aud, stella) = ("us", "us", ToldToUs::of(&who, &marks));
            Told { iss, sub: "carol", aud, exp: 5, iat: 1, jti: "", access: &scope, stella }
        };
        let long = "x".repeat(LONGEST + 1);
        for _ in 0..2 * FEW {
            let failed = again((2_000, 1), told(), Timestamp(1), |_| Err(SignerError::Sign));
            assert!(matches!(failed, Err(SignerError::Sign)));
            assert_eq!(again((2_000, 2), told(), Timestamp(1), |_| Ok(long.clone())).unwrap().0, long);
        }
        assert_eq!(again((2_000, 1), told(), Timestamp(1), |_| Ok("token".to_owned())).unwrap().0, "token");
        assert_eq!(again((2_000, 2), told(), Timestamp(1), |_| Ok("short".to_owned())).unwrap().0, "short");
    }
}
