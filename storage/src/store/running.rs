// SPDX-License-Identifier: AGPL-3.0-only
//! What can be changed while the store is open, and what it tells of itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::Store;
use super::rules::{RepositoryRule, Rules};
use crate::error::Result;
use crate::keys;
use crate::kv::{CommitStats, ReadTx};

impl Store {
    /// Accepts manifests whose blobs are missing from now on, or no longer.
    pub fn set_allow_missing(&self, allow: bool) {
        self.allow_missing.store(allow, Ordering::Relaxed);
    }

    /// Replaces the rules of repositories. The next round of collection looks at every manifest again.
    pub fn set_rules(&self, rules: Vec<RepositoryRule>) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(rules));
    }

    /// Leaves so many bytes of the disk free from now on.
    pub fn set_disk_reserve(&self, bytes: u64) {
        self.room.set_reserve(bytes);
    }

    /// What commits of metadata did.
    pub fn commit_stats(&self) -> CommitStats {
        self.engine.commit_stats()
    }

    /// Whether metadata can be read: one row, at once.
    pub async fn answers(&self) -> Result<()> {
        self.engine.read(async |tx: &mut ReadTx| tx.get(keys::SCHEMA_VERSION).await.map(drop)).await
    }

    pub(super) fn allows_missing(&self) -> bool {
        self.allow_missing.load(Ordering::Relaxed)
    }

    /// The present rules; whoever needs the same ones twice keeps them.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}
