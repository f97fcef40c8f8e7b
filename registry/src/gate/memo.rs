// SPDX-License-Identifier: AGPL-3.0-only
//! What a thread has found out already of what readers may have, for itself alone ([`crate::memo`] says why).
//!
//! Invariant: a judgement holds under its epoch, its stamp and its time, which whoever finds it here compares ([`Holds`]);
//! what a manifest names it names for ever.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use stella_storage::{Commit, Digest, RepoName};

use super::judge::Holds;
use crate::memo::Memo;

/// What a thread keeps of each kind; a few hundred bytes each.
const PLACES: usize = 1_024;

type Key = (u64, RepoName, Digest);

thread_local! {
    static ALLOWED: RefCell<Memo<PLACES, Key, Holds>> = const { RefCell::new(Memo::new()) };
    static NAMED_BY: RefCell<Memo<PLACES, Key, Namer>> = const { RefCell::new(Memo::new()) };
}

/// The memory of one gate in whatever thread asks. Tests have several gates in a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    gate: u64,
}

/// A manifest that names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namer {
    pub(super) manifest: Digest,
    /// At this commit the blob was no manifest itself, and this one was allowed under that.
    pub(super) allowed: Option<(Commit, Holds)>,
}

impl Memory {
    pub(super) fn new() -> Self {
        static GATES: AtomicU64 = AtomicU64::new(0);
        Memory { gate: GATES.fetch_add(1, Ordering::Relaxed) }
    }

    /// Under what a manifest is allowed for its own sake, if that was found out before.
    pub(super) fn allowed(self, repo: &RepoName, digest: &Digest) -> Option<Holds> {
        ALLOWED.with_borrow(|memo| memo.get(place(repo, digest)?, |key| self.is(key, repo, digest)).copied())
    }

    pub(super) fn is_allowed(self, repo: &RepoName, digest: &Digest, holds: Holds) {
        if let Some(place) = place(repo, digest) {
            ALLOWED.with_borrow_mut(|memo| memo.put(place, (self.gate, repo.clone(), digest.clone()), holds));
        }
    }

    /// A manifest that is known to name a blob.
    pub(super) fn named_by(self, repo: &RepoName, blob: &Digest) -> Option<Namer> {
        NAMED_BY.with_borrow(|memo| memo.get(place(repo, blob)?, |key| self.is(key, repo, blob)).cloned())
    }

    pub(super) fn is_named_by(self, repo: &RepoName, blob: &Digest, namer: Namer) {
        if let Some(place) = place(repo, blob) {
            NAMED_BY.with_borrow_mut(|memo| memo.put(place, (self.gate, repo.clone(), blob.clone()), namer));
        }
    }

    fn is(self, (gate, name, known): &Key, repo: &RepoName, digest: &Digest) -> bool {
        known == digest && name == repo && *gate == self.gate
    }
}

/// Digests are as good as random; of a repository's name the end tells most.
fn place(repo: &RepoName, digest: &Digest) -> Option<u64> {
    let first = match digest {
        Digest::Sha256(bytes) => bytes.first_chunk(),
        Digest::Sha512(bytes) => bytes.first_chunk(),
        Digest::Other(_) => None,
    };
    let last = repo.as_str().bytes().rev().take(8).fold(0, |name, byte| name << 8 | u64::from(byte));
    // Fibonacci hashing: the upper half depends on every byte of it.
    Some(u64::from_le_bytes(*first?) ^ last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::Sha256([byte; 32])
    }

    fn namer(byte: u8) -> Namer {
        Namer { manifest: digest(byte), allowed: None }
    }

    #[test]
    fn what_is_found_is_of_the_same_gate_repository_and_digest() {
        let (one, other) = (Memory::new(), Memory::new());
        let [app, lib] = ["prod/app", "prod/lib"].map(|name| name.parse::<RepoName>().unwrap());
        let named_by = |memory: Memory, repo: &RepoName, blob: u8| memory.named_by(repo, &digest(blob));
        assert_eq!(named_by(one, &app, 1), None);
        one.is_named_by(&app, &digest(1), namer(2));
        assert_eq!(named_by(one, &app, 1), Some(namer(2)));
        assert_eq!(
            [named_by(other, &app, 1), named_by(one, &lib, 1), named_by(one, &app, 2)],
            [None, None, None]
        );
        // What has the same place and is something else.
        let mut near = [1; 32];
        near[31] = 0;
        let near = Digest::Sha256(near);
        assert_eq!(place(&app, &near), place(&app, &digest(1)));
        assert_eq!(one.named_by(&app, &near), None);
    }

    #[test]
    fn what_a_thread_knows_others_do_not() {
        let (memory, repo) = (Memory::new(), "a".parse::<RepoName>().unwrap());
        memory.is_named_by(&repo, &digest(1), namer(2));
        let elsewhere = std::thread::spawn(move || memory.named_by(&repo, &digest(1)).is_some());
        assert!(!elsewhere.join().unwrap());
    }

    #[test]
    fn places_are_spread_over_repositories() {
        let names = (0..64).map(|number| format!("prod/app-{number}").parse().unwrap());
        let places: std::collections::HashSet<_> =
            names.map(|name| place(&name, &digest(1)).map(|place| place % PLACES as u64)).collect();
        assert!(places.len() > 56, "{} places of 64", places.len());
        assert_eq!(place(&"a".parse().unwrap(), &Digest::Other("blake3:00".into())), None);
    }
}
