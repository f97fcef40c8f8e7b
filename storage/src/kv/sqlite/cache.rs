// SPDX-License-Identifier: AGPL-3.0-only
//! Rows in memory, as the last commit left them, so that a pull costs no call into SQLite.
//!
//! This is no copy that may be stale: nobody but this process's writer changes the file, and it says so here
//! before each commit. Commits are numbered. An even number means that memory and file agree; the writer
//! makes it odd before SQLite commits, drops the rows that it changed, and makes it even again. A reader
//! notes the number at its start and finds nothing while it is odd; if it has changed at the end, rows may be
//! of several commits, and the reader runs again on SQLite alone. A row is kept only while the number is
//! the reader's own, under a lock that the writer takes to make it odd: so nothing old comes in later.
//! That there is no row of a key is kept like a row: the gate asks of each blob whether it is a manifest too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Larger rows (the bytes of manifests) have a cache of their own.
const LARGEST: usize = 4 << 10;
/// What an entry takes beside its bytes, about.
const ENTRY: usize = 128;

type Bytes = Box<[u8]>;

/// Rows by their keys.
pub(super) struct RowCache {
    rows: Cache<Bytes, Option<Bytes>, ByBytes>,
    /// Even: rows are those of the last commit.
    commits: AtomicU64,
    keeping: Mutex<()>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Row(Vec<u8>),
    /// There is no such row.
    Absent,
    Nothing,
}

/// What a reader sees.
pub(super) struct View {
    commit: u64,
    /// Whether something was found here.
    used: bool,
}

impl RowCache {
    pub(super) fn new(bytes: usize) -> Self {
        let rows = Cache::with_weighter((bytes / 256).max(16), bytes as u64, ByBytes);
        RowCache { rows, commits: AtomicU64::new(0), keeping: Mutex::new(()) }
    }

    /// A view of the last commit; none while the next one is being made.
    pub(super) fn view(&self) -> Option<View> {
        let commit = self.commits.load(Ordering::SeqCst);
        commit.is_multiple_of(2).then_some(View { commit, used: false })
    }

    /// The number of the view's commit. Whoever relies on it relies on all that was found being of that commit.
    pub(super) fn commit_of(view: &mut View) -> u64 {
        view.used = true;
        view.commit
    }

    /// A row, or that there is none, if that is here.
    pub(super) fn get(&self, view: &mut View, key: &[u8]) -> Known {
        let Some(value) = self.rows.get(key) else { return Known::Nothing };
        view.used = true;
        value.map_or(Known::Absent, |value| Known::Row(value.into_vec()))
    }

    /// Whether what was found for this view is all of its commit.
    pub(super) fn stands(&self, view: &View) -> bool {
        !view.used || self.commits.load(Ordering::SeqCst) == view.commit
    }

    /// Keeps what was read from the file after the view was made: a row, or that there is none.
    pub(super) fn keep(&self, view: &View, key: &[u8], value: Option<&[u8]>) {
        if value.is_some_and(|value| value.len() > LARGEST) {
            return;
        }
        let _keeping = self.lock();
        if self.commits.load(Ordering::SeqCst) == view.commit {
            self.rows.insert(key.into(), value.map(Box::from));
        }
    }

    /// The writer begins to commit. Until the guard is dropped nothing is found here.
    pub(super) fn commit(&self) -> Committing<'_> {
        let _keeping = self.lock();
        self.commits.fetch_add(1, Ordering::SeqCst);
        Committing { cache: self, done: false }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit under way. Unless it succeeded, nobody knows what the file holds, and all rows are dropped.
pub(super) struct Committing<'c> {
    cache: &'c RowCache,
    done: bool,
}

impl Committing<'_> {
    /// It changed these keys.
    pub(super) fn succeeded(mut self, changed: &[Vec<u8>]) {
        for key in changed {
            self.cache.rows.remove(key.as_slice());
        }
        self.done = true;
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.cache.rows.clear();
        }
        self.cache.commits.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Bytes, Option<Bytes>> for ByBytes {
    fn weight(&self, key: &Bytes, value: &Option<Bytes>) -> u64 {
        (key.len() + value.as_ref().map_or(0, |value| value.len()) + ENTRY) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_until_a_commit_changes_it() {
        let cache = RowCache::new(1 << 20);
        let mut view = cache.view().unwrap();
        assert_eq!(cache.get(&mut view, b"a"), Known::Nothing);
        cache.keep(&view, b"a", Some(b"1"));
        cache.keep(&view, b"b", Some(b"1"));
        assert_eq!(cache.get(&mut view, b"a"), Known::Row(b"1".to_vec()));
        assert!(cache.stands(&view));
        let committing = cache.commit();
        assert!(cache.view().is_none(), "while it commits nobody looks here");
        assert!(!cache.stands(&view), "who looked before must look again");
        committing.succeeded(&[b"a".to_vec()]);
        let mut view = cache.view().unwrap();
        assert_eq!(cache.get(&mut view, b"a"), Known::Nothing);
        assert_eq!(cache.get(&mut view, b"b"), Known::Row(b"1".to_vec()));
    }

    #[test]
    fn what_was_read_before_a_commit_does_not_come_in_after_it() {
        let cache = RowCache::new(1 << 20);
        let before = cache.view().unwrap();
        cache.commit().succeeded(&[b"a".to_vec()]);
        cache.keep(&before, b"a", Some(b"old"));
        assert_eq!(cache.get(&mut cache.view().unwrap(), b"a"), Known::Nothing);
        assert!(cache.stands(&before), "it found nothing here, so nothing here is wrong");
    }

    #[test]
    fn who_asks_which_commit_it_is_learns_whether_it_still_is() {
        let cache = RowCache::new(1 << 20);
        let (mut before, mut same) = (cache.view().unwrap(), cache.view().unwrap());
        assert_eq!(RowCache::commit_of(&mut before), RowCache::commit_of(&mut same));
        assert!(cache.stands(&before));
        cache.commit().succeeded(&[]);
        assert!(!cache.stands(&before), "nothing was found here, and yet");
        assert_ne!(RowCache::commit_of(&mut before), RowCache::commit_of(&mut cache.view().unwrap()));
        // A commit that failed may have happened.
        let mut before = cache.view().unwrap();
        drop(cache.commit());
        assert_ne!(RowCache::commit_of(&mut before), RowCache::commit_of(&mut cache.view().unwrap()));
    }

    #[test]
    fn after_a_commit_that_failed_nothing_is_known() {
        let cache = RowCache::new(1 << 20);
        let view = cache.view().unwrap();
        cache.keep(&view, b"a", Some(b"1"));
        drop(cache.commit());
        assert_eq!(cache.get(&mut cache.view().unwrap(), b"a"), Known::Nothing);
    }

    #[test]
    fn that_there_is_no_row_is_known_until_a_commit_makes_one() {
        let cache = RowCache::new(1 << 20);
        let mut view = cache.view().unwrap();
        cache.keep(&view, b"a", None);
        assert_eq!(cache.get(&mut view, b"a"), Known::Absent);
        let committing = cache.commit();
        assert!(!cache.stands(&view), "who was told that there is none must look again");
        committing.succeeded(&[b"a".to_vec()]);
        assert_eq!(cache.get(&mut cache.view().unwrap(), b"a"), Known::Nothing);
        cache.keep(&view, b"a", None);
        assert_eq!(cache.get(&mut cache.view().unwrap(), b"a"), Known::Nothing);
    }
}
