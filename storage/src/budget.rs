// SPDX-License-Identifier: AGPL-3.0-only
//! The one memory budget, and who may take how much of it.
//!
//! | share | for |
//! | --- | --- |
//! | 1/8 | pages of the metadata engine |
//! | 1/8 | the cache of small contents |
//! | 1/2 | uploads: what has arrived and is not written yet |
//! | 1/8 | manifests on their way in |
//! | 1/8 | answers: pieces of blobs, and manifests, until their clients have read them |
//!
//! Shares do not lend to each other: a thousand slow pulls must not stop a push. Whoever takes from a share
//! holds a permit, one a byte, for as long as it holds the bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A byte of an upload's share is worth a permit; no share has more.
const MOST: usize = Semaphore::MAX_PERMITS;
/// Below this uploads, manifests and answers would starve each other; a smaller budget is exceeded.
const LEAST: usize = 4 << 20;

/// A budget of bytes in shares.
#[derive(Clone, Debug)]
pub struct Budget {
    total: usize,
    uploads: Share,
    manifests: Share,
    answers: Share,
}

impl Budget {
    /// A budget of `total` bytes. Shares in which a single manifest would not find room are larger.
    pub fn of(total: usize, max_manifest: usize) -> Self {
        let least = LEAST.max(max_manifest);
        Budget {
            total,
            uploads: Share::of((total / 2).max(LEAST)),
            manifests: Share::of((total / 8).max(least)),
            answers: Share::of((total / 8).max(least)),
        }
    }

    /// Bytes altogether.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes for the pages of the metadata engine.
    pub(crate) fn engine(&self) -> usize {
        self.total / 8
    }

    /// Bytes for the cache of small contents.
    pub(crate) fn cache(&self) -> usize {
        self.total / 8
    }

    /// The share of uploads.
    pub(crate) fn uploads(&self) -> &Share {
        &self.uploads
    }

    /// The share of manifests on their way in.
    pub fn manifests(&self) -> &Share {
        &self.manifests
    }

    /// The share of what clients read.
    pub fn answers(&self) -> &Share {
        &self.answers
    }

    /// Bytes that uploads, manifests and answers hold at present.
    pub fn held(&self) -> usize {
        [&self.uploads, &self.manifests, &self.answers].into_iter().map(Share::held).sum()
    }
}

/// A part of the budget.
#[derive(Clone, Debug)]
pub struct Share {
    bytes: usize,
    free: Arc<Semaphore>,
}

impl Share {
    /// A share of so many bytes.
    pub fn of(bytes: usize) -> Self {
        let bytes = bytes.min(MOST);
        Share { bytes, free: Arc::new(Semaphore::new(bytes)) }
    }

    /// Takes this many bytes if they are free now.
    pub fn try_take(&self, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.free).try_acquire_many_owned(bytes).ok().map(Taken)
    }

    /// Takes this many bytes as soon as they are free; who asks for more than there are never gets them, so
    /// callers bound what they ask for.
    pub async fn take(&self, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes as usize <= self.bytes)?;
        Arc::clone(&self.free).acquire_many_owned(bytes).await.ok().map(Taken)
    }

    /// Bytes that are taken.
    pub fn held(&self) -> usize {
        self.bytes - self.free.available_permits().min(self.bytes)
    }
}

/// Bytes of a share; they go back when this is dropped.
#[derive(Debug)]
pub struct Taken(OwnedSemaphorePermit);

impl Taken {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// Takes others, of the same share, along.
    pub fn merge(&mut self, other: Taken) {
        self.0.merge(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_is_held_until_it_is_dropped() {
        let budget = Budget::of(64 << 20, 4 << 20);
        assert_eq!(budget.held(), 0);
        let mut first = budget.answers().try_take(5 << 20).unwrap();
        assert!(budget.answers().try_take(4 << 20).is_none(), "one share is full");
        let second = budget.uploads().take(32 << 20).await.unwrap();
        assert_eq!(budget.held(), 37 << 20);
        first.merge(budget.answers().try_take(1 << 20).unwrap());
        assert_eq!(first.bytes(), 6 << 20);
        drop(first);
        assert_eq!(budget.held(), 32 << 20);
        assert!(budget.manifests().take(usize::MAX).await.is_none(), "never, instead of for ever");
        drop(second);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn the_shares_are_no_more_than_the_budget() {
        for total in [64 << 20, 256 << 20, 1 << 30] {
            let budget = Budget::of(total, 4 << 20);
            let parts = [&budget.uploads, &budget.manifests, &budget.answers];
            let shared: usize = parts.into_iter().map(|share| share.bytes).sum();
            assert!(shared + budget.engine() + budget.cache() <= total);
        }
        let smallest = Budget::of(0, 7 << 20);
        assert!(smallest.manifests().try_take(7 << 20).is_some());
    }
}
