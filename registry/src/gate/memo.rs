// SPDX-License-Identifier: AGPL-3.0-only
//! What a thread has found out already of what readers may have, for itself alone ([`crate::memo`] says why).
//!
//! Invariant: a judgement holds under its stamp and its time, which whoever finds it here compares ([`Holds`]), and under
//! the policies that a [`Local`] is a part of, whose number no other has; what a manifest names it names for ever.

use std::cell::RefCell;

use stella_storage::{Commit, Digest};

use super::active::Local;
use super::judge::Holds;
use crate::memo::Memo;

/// What a thread keeps of each kind; a hundred or two hundred bytes each.
const PLACES: usize = 1_024;

/// A manifest or a blob where a [`Local`] has this number.
type Key = (u64, Digest);

thread_local! {
    static ALLOWED: RefCell<Memo<PLACES, Key, Holds>> = const { RefCell::new(Memo::new()) };
    static NAMED_BY: RefCell<Memo<PLACES, Key, Namer>> = const { RefCell::new(Memo::new()) };
}

/// A manifest that names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namer {
    pub(super) manifest: Digest,
    /// At this commit the blob was no manifest itself, and this one was allowed under that.
    pub(super) allowed: Option<(Commit, Holds)>,
}

impl Local {
    /// Under what a manifest is allowed for its own sake, if that was found out before.
    pub(super) fn known_allowed(&self, digest: &Digest) -> Option<Holds> {
        let place = self.place(digest)?;
        ALLOWED.with_borrow(|memo| memo.get(place, |key| self.is(key, digest)).copied())
    }

    pub(super) fn keep_allowed(&self, digest: &Digest, holds: Holds) {
        if let Some(place) = self.place(digest) {
            ALLOWED.with_borrow_mut(|memo| memo.put(place, (self.number, digest.clone()), holds));
        }
    }

    /// A manifest that is known to name a blob.
    pub(super) fn known_namer(&self, blob: &Digest) -> Option<Namer> {
        let place = self.place(blob)?;
        NAMED_BY.with_borrow(|memo| memo.get(place, |key| self.is(key, blob)).cloned())
    }

    pub(super) fn keep_namer(&self, blob: &Digest, namer: Namer) {
        if let Some(place) = self.place(blob) {
            NAMED_BY.with_borrow_mut(|memo| memo.put(place, (self.number, blob.clone()), namer));
        }
    }

    fn is(&self, (number, known): &Key, digest: &Digest) -> bool {
        known == digest && *number == self.number
    }

    /// Digests are as good as random.
    fn place(&self, digest: &Digest) -> Option<u64> {
        let first = match digest {
            Digest::Sha256(bytes) => bytes.first_chunk(),
            Digest::Sha512(bytes) => bytes.first_chunk(),
            Digest::Other(_) => None,
        };
        // What is in several repositories has a place for each.
        Some(u64::from_le_bytes(*first?).wrapping_add(self.number))
    }
}

#[cfg(test)]
mod tests {
    use stella_policy::Rules;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::Sha256([byte; 32])
    }

    fn namer(byte: u8) -> Namer {
        Namer { manifest: digest(byte), allowed: None }
    }

    #[test]
    fn what_is_found_is_of_the_same_policies_repository_and_digest() {
        let [one, other] = [(); 2].map(|()| Local::new(Rules::without_document()));
        assert_eq!(one.known_namer(&digest(1)), None);
        one.keep_namer(&digest(1), namer(2));
        assert_eq!(one.known_namer(&digest(1)), Some(namer(2)));
        assert_eq!([other.known_namer(&digest(1)), one.known_namer(&digest(2))], [None, None]);
        // What has the same place and is something else.
        let mut near = [1; 32];
        near[31] = 0;
        let near = Digest::Sha256(near);
        assert_eq!(one.place(&near), one.place(&digest(1)));
        assert_eq!(one.known_namer(&near), None);
        let unlike = Digest::Other("blake3:00".into());
        one.keep_namer(&unlike, namer(2));
        assert_eq!(one.known_namer(&unlike), None);
    }

    #[test]
    fn what_a_thread_knows_others_do_not() {
        let local = Local::new(Rules::without_document());
        local.keep_namer(&digest(1), namer(2));
        let elsewhere = std::thread::spawn(move || local.known_namer(&digest(1)).is_some());
        assert!(!elsewhere.join().unwrap());
    }
}
