// SPDX-License-Identifier: AGPL-3.0-only
//! Holds: what a running backup named must not vanish before it is copied.
//!
//! A backup takes its hold, then its snapshot of the metadata. Content that the snapshot names can
//! become garbage only afterwards, by a transaction whose time is not before the hold's, so its row
//! says a `delete_after` that is not before it either. While a hold is there, sweeping takes only rows
//! from before that; everything else goes on. Sweeping must ask AFTER it has read the rows that it is
//! about to sweep: then a hold that is not there yet is of a backup whose snapshot is later than those rows.
//!
//! Holds live in memory: a backup ends with its process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// A transaction's time is taken before it waits for its commit, and clocks are set back a little now
/// and then; collection pauses by itself when one jumps further.
const SLACK: Duration = Duration::from_mins(15);

/// The holds of a store.
#[derive(Clone, Default)]
pub(super) struct Holds(Arc<Mutex<Vec<Timestamp>>>);

/// Keeps garbage from being swept until dropped.
pub(super) struct Hold {
    holds: Holds,
    since: Timestamp,
}

impl Holds {
    /// Takes a hold; whatever snapshot is taken after it is spared.
    pub(super) fn take(&self, now: Timestamp) -> Hold {
        let since = now.minus(SLACK);
        self.lock().push(since);
        Hold { holds: self.clone(), since }
    }

    /// Garbage may be swept only if its `delete_after` is before this; `None`: whatever is due.
    pub(super) fn before(&self) -> Option<Timestamp> {
        self.lock().iter().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        if let Some(at) = held.iter().position(|since| *since == self.since) {
            held.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_hold_decides_until_it_is_dropped() {
        let holds = Holds::default();
        let at = |minutes| Timestamp(0).plus(Duration::from_mins(minutes));
        assert_eq!(holds.before(), None);
        let old = holds.take(at(20));
        let new = holds.take(at(30));
        let twin = holds.take(at(20));
        assert_eq!(holds.before(), Some(at(5)));
        drop(old);
        assert_eq!(holds.before(), Some(at(5)));
        drop(twin);
        assert_eq!(holds.before(), Some(at(15)));
        drop(new);
        assert_eq!(holds.before(), None);
    }
}
