// SPDX-License-Identifier: AGPL-3.0-only
//! Small contents in memory, by the sha256 of their bytes: manifests and little blobs that are pulled again
//! and again.
//!
//! It holds bytes and nothing else. Whether something exists, and who may read it, is asked of the catalog
//! each time, so nothing here must be told of a delete. Bytes are hashed when they come in: what is
//! damaged on the disk is never kept.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::digest::{Algorithm, Digest};

/// The largest content that is kept.
pub(crate) const LARGEST: u64 = 64 << 10;
/// What an entry takes beside its bytes, about.
const ENTRY: u64 = 192;

type Sha256 = [u8; 32];

/// Small contents by their sha256.
pub(crate) struct ContentCache {
    entries: Cache<Sha256, Bytes, ByBytes>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What the cache has done so far, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Contents that were asked for and there.
    pub hits: u64,
    /// Contents that were asked for and not there.
    pub misses: u64,
    /// Bytes that it takes, about.
    pub bytes: u64,
}

impl ContentCache {
    pub(crate) fn new(bytes: usize) -> Self {
        let bytes = bytes as u64;
        // A guess that only sizes tables: manifests are small.
        let entries = usize::try_from(bytes / (8 << 10)).unwrap_or(usize::MAX).max(16);
        ContentCache {
            entries: Cache::with_weighter(entries, bytes, ByBytes),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The bytes, if they are here.
    pub(crate) fn get(&self, sha256: &Sha256) -> Option<Bytes> {
        let found = self.entries.get(sha256);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps bytes that were read from the disk; false if they are not those of this hash.
    pub(crate) fn keep(&self, sha256: &Sha256, bytes: &Bytes) -> bool {
        if Algorithm::Sha256.digest(bytes) != Digest::Sha256(*sha256) {
            return false;
        }
        if bytes.len() as u64 <= LARGEST {
            self.entries.insert(*sha256, bytes.clone());
        }
        true
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.entries.weight(),
        }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Sha256, Bytes> for ByBytes {
    fn weight(&self, _: &Sha256, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + ENTRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: u32, size: usize) -> (Sha256, Bytes) {
        let bytes: Bytes = number.to_le_bytes().iter().copied().cycle().take(size).collect();
        match Algorithm::Sha256.digest(&bytes) {
            Digest::Sha256(sha256) => (sha256, bytes),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_was_kept_is_found_and_counted() {
        let cache = ContentCache::new(1 << 20);
        let (sha256, bytes) = content(1, 1000);
        assert_eq!(cache.get(&sha256), None);
        assert!(cache.keep(&sha256, &bytes));
        assert_eq!(cache.get(&sha256), Some(bytes));
        assert_eq!(cache.stats(), CacheStats { hits: 1, misses: 1, bytes: 1000 + ENTRY });
    }

    #[test]
    fn damaged_bytes_are_not_kept() {
        let cache = ContentCache::new(1 << 20);
        let ((sha256, _), (_, others)) = (content(1, 1000), content(2, 1000));
        assert!(!cache.keep(&sha256, &others));
        assert_eq!(cache.get(&sha256), None);
    }

    #[test]
    fn it_takes_no_more_than_it_was_given() {
        let cache = ContentCache::new(1 << 20);
        for number in 0..1000 {
            let (sha256, bytes) = content(number, 10_000);
            assert!(cache.keep(&sha256, &bytes));
            assert!(cache.stats().bytes <= 1 << 20);
        }
        assert!(cache.stats().bytes > 1 << 19);
        let (sha256, large) = content(7, usize::try_from(LARGEST).unwrap() + 1);
        assert!(cache.keep(&sha256, &large), "right, and too large to be kept");
        assert_eq!(cache.get(&sha256), None);
    }
}
