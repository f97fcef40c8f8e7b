// SPDX-License-Identifier: AGPL-3.0-only
//! How many commits there were, how many transactions each one held, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::histogram::{Distribution, Histogram};

/// Upper bounds of transactions in a commit; no engine takes more than the last.
const TRANSACTIONS: &[u64; 8] = &[1, 2, 4, 8, 16, 32, 64, 128];
/// Upper bounds of a commit's duration, in microseconds.
const MICROS: &[u64; 14] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// What commits did since the engine was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Commits that failed, or whose outcome is unknown.
    pub failed: u64,
    /// Transactions in each commit, those that failed among them.
    pub transactions: Distribution,
    /// Microseconds that each commit took, from running its functions until it was durable.
    pub micros: Distribution,
}

impl CommitStats {
    /// Commits, those that failed among them.
    pub fn commits(&self) -> u64 {
        self.transactions.counts.iter().sum()
    }
}

/// The counters behind [`CommitStats`].
pub(super) struct Commits {
    failed: AtomicU64,
    transactions: Histogram<8>,
    micros: Histogram<14>,
}

impl Default for Commits {
    fn default() -> Self {
        Commits {
            failed: AtomicU64::new(0),
            transactions: Histogram::new(TRANSACTIONS),
            micros: Histogram::new(MICROS),
        }
    }
}

impl Commits {
    /// Counts a commit of so many transactions.
    pub(super) fn count(&self, transactions: usize, took: Duration, succeeded: bool) {
        self.failed.fetch_add(u64::from(!succeeded), Ordering::Relaxed);
        self.transactions.observe(transactions as u64);
        self.micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn read(&self) -> CommitStats {
        CommitStats {
            failed: self.failed.load(Ordering::Relaxed),
            transactions: self.transactions.read(),
            micros: self.micros.read(),
        }
    }
}
