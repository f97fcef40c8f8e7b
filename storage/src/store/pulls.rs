// SPDX-License-Identifier: AGPL-3.0-only
//! When tags were last pulled: gathered in memory, written in the background, once a tag and day.
//!
//! A pull never waits for a write and never causes more than one a day and tag. What was gathered
//! since the last flush is lost in a crash; retention may rely on days, not on minutes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Store, repositories};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::keys;
use crate::kv::WriteTx;
use crate::name::{RepoName, Tag};
use crate::rows;

/// Pulls of more tags than this between two flushes are not recorded.
const MAX_GATHERED: usize = 100_000;
const FLUSHED_AT_ONCE: usize = 1_000;

#[derive(Default)]
pub(super) struct Pulls {
    gathered: Mutex<HashMap<(RepoName, Tag), Gathered>>,
}

#[derive(Clone, Copy)]
struct Gathered {
    at: Timestamp,
    // Kept until the day is over, so that one tag costs one write a day.
    written: bool,
}

impl Store {
    /// Notes that a tag was pulled.
    pub fn note_pull(&self, repo: &RepoName, tag: &Tag) {
        let now = self.now();
        let mut gathered = self.pulls.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up first: the usual case, a tag pulled again the same day, allocates nothing much.
        let key = (repo.clone(), tag.clone());
        match gathered.get(&key) {
            Some(pull) if pull.at.day() == now.day() => {}
            None if gathered.len() >= MAX_GATHERED => {}
            _ => {
                gathered.insert(key, Gathered { at: now, written: false });
            }
        }
    }

    /// Writes what was gathered. To be called every minute or so, and before the end.
    pub async fn flush_pulls(&self) -> Result<()> {
        let today = self.now().day();
        let due: Vec<_> = {
            let mut gathered = self.pulls.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.retain(|_, pull| !pull.written || pull.at.day() == today);
            gathered
                .iter()
                .filter(|(_, pull)| !pull.written)
                .map(|(key, pull)| (key.clone(), pull.at))
                .collect()
        };
        for part in due.chunks(FLUSHED_AT_ONCE) {
            let rows = part.to_vec();
            self.engine
                .write(rows.len() * 128, async move |tx: &mut WriteTx| {
                    for ((repo, tag), at) in &rows {
                        if let Some(repo) = repositories::find(tx, repo).await? {
                            tx.put(keys::last_pull(repo, tag), rows::encode(&rows::LastPull { at: *at })?)?;
                        }
                    }
                    Ok(())
                })
                .await?;
            let mut gathered = self.pulls.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, at) in part {
                if let Some(pull) = gathered.get_mut(key)
                    && pull.at == *at
                {
                    pull.written = true;
                }
            }
        }
        Ok(())
    }

    /// When a tag was last pulled, as far as it was written.
    pub async fn last_pull(&self, repo: &RepoName, tag: &Tag) -> Result<Option<Timestamp>> {
        self.engine
            .read(async |tx| {
                let Some(repo) = repositories::find(tx, repo).await? else { return Ok(None) };
                let row = tx.get(&keys::last_pull(repo, tag)).await?;
                row.map(|row| Ok(rows::decode::<rows::LastPull>(&row)?.at)).transpose()
            })
            .await
    }
}
