// SPDX-License-Identifier: AGPL-3.0-only
//! What became of uploads since the store was opened. Those that collection ended are counted there.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of uploads since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadStats {
    /// Sessions that were begun, those for one request among them.
    pub begun: u64,
    /// Sessions that became a blob.
    pub finished: u64,
    /// Sessions that their client ended, or that were for one request which failed.
    pub cancelled: u64,
    /// Blobs that were mounted instead of being uploaded.
    pub mounted: u64,
    /// Bytes that were written.
    pub received: u64,
}

/// The counters behind [`UploadStats`].
#[derive(Default)]
pub(in crate::store) struct Counters {
    pub(in crate::store) begun: Counter,
    pub(in crate::store) finished: Counter,
    pub(in crate::store) cancelled: Counter,
    pub(in crate::store) mounted: Counter,
    pub(in crate::store) received: Counter,
}

#[derive(Default)]
pub(in crate::store) struct Counter(AtomicU64);

impl Counter {
    pub(in crate::store) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> UploadStats {
        UploadStats {
            begun: self.begun.read(),
            finished: self.finished.read(),
            cancelled: self.cancelled.read(),
            mounted: self.mounted.read(),
            received: self.received.read(),
        }
    }
}
