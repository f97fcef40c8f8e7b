// SPDX-License-Identifier: AGPL-3.0-only
//! What a transaction has written so far, laid over what it reads.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{MAX_REHEARSED_ROWS, MAX_WRITE_BYTES, MAX_WRITE_ROWS, Row};
use crate::error::{Error, Result};

/// Uncommitted writes; `None` is a deletion.
pub(super) struct Overlay {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    most_rows: usize,
    most_bytes: usize,
}

impl Default for Overlay {
    fn default() -> Self {
        Overlay { rows: BTreeMap::new(), bytes: 0, most_rows: MAX_WRITE_ROWS, most_bytes: MAX_WRITE_BYTES }
    }
}

impl Overlay {
    /// For a rehearsal, which keeps its writes to itself.
    pub(super) fn wide() -> Self {
        Overlay { most_rows: MAX_REHEARSED_ROWS, most_bytes: MAX_WRITE_BYTES * 8, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    #[expect(clippy::option_option, reason = "not written here, or deleted, or set")]
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.rows.get(key).map(Option::as_deref)
    }

    pub(super) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        let added = key.len() + value.as_ref().map_or(0, Vec::len);
        if self.rows.len() >= self.most_rows || self.bytes + added > self.most_bytes {
            return Err(Error::TooLarge("the change is too large for one transaction".to_owned()));
        }
        self.bytes += added;
        self.rows.insert(key, value);
        Ok(())
    }

    pub(super) fn count(&self, from: &[u8], to: Option<&[u8]>) -> usize {
        if self.rows.is_empty() { 0 } else { self.rows.range::<[u8], _>(bounds(from, to)).count() }
    }

    /// Lays the writes between `from` and `to` over rows read from below.
    pub(super) fn merge(&self, below: Vec<Row>, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Row> {
        merge(below, self.rows.range::<[u8], _>(bounds(from, to)), limit)
    }

    pub(super) fn into_rows(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.rows.into_iter()
    }
}

pub(super) fn bounds<'a>(from: &'a [u8], to: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded))
}

/// Lays changed rows over those below, both in the order of keys.
pub(super) fn merge<'a>(
    below: Vec<Row>,
    changes: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    limit: usize,
) -> Vec<Row> {
    let mut merged = Vec::with_capacity(limit.min(below.len()));
    let mut below = below.into_iter().peekable();
    for (key, value) in changes {
        while let Some(row) = below.next_if(|row| row.0 < *key) {
            merged.push(row);
        }
        below.next_if(|row| row.0 == *key);
        if let Some(value) = value {
            merged.push((key.clone(), value.clone()));
        }
    }
    merged.extend(below);
    merged.truncate(limit);
    merged
}
