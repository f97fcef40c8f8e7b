// SPDX-License-Identifier: AGPL-3.0-only
//! Sweeping: deleting the files of the garbage queue whose time is over, then their rows.
//!
//! No transaction is open while files are deleted. A crash between the two leaves a row whose file
//! is gone, and the next sweep removes it.

use super::report::{GcItem, GcSummary};
use super::{Sink, first_page};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::local::Location;
use crate::rows;
use crate::store::Store;

/// Files that are deleted before their rows go.
const FILES: usize = 256;

struct Due {
    key: Vec<u8>,
    location: Location,
    bytes: u64,
}

impl Store {
    /// Deletes what is due in one part of the queue; whether there was anything.
    pub(super) async fn sweep(
        &self,
        shard: u8,
        now: Timestamp,
        sink: &Sink<'_>,
        summary: &mut GcSummary,
    ) -> Result<bool> {
        let (mut found, mut limit) = (false, first_page());
        loop {
            let (page, rows) = self.due_garbage(shard, now, limit).await?;
            summary.rows_read += rows;
            let full = page.len() == limit;
            // Asked after the rows were read: see `holds.rs`.
            let before = self.holds.before();
            let mut free = page;
            if let Some(before) = before {
                let held = |due: &Due| keys::read_garbage(&due.key).is_ok_and(|(after, _)| after < before);
                free.retain(held);
            }
            let mut deleted = 0;
            for part in free.chunks(FILES) {
                deleted += self.delete_files(part, sink, summary).await?;
            }
            found |= deleted > 0;
            if !full || deleted == 0 {
                return Ok(found);
            }
            limit = (limit * 4).min(crate::kv::MAX_PAGE_ROWS);
        }
    }

    async fn due_garbage(&self, shard: u8, now: Timestamp, limit: usize) -> Result<(Vec<Due>, u64)> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let mut due = Vec::new();
                for (key, row) in tx.range(&keys::all_garbage(shard), None, limit).await? {
                    let (delete_after, location) = keys::read_garbage(&key)?;
                    if delete_after > now {
                        break;
                    }
                    due.push(Due { key, location, bytes: rows::decode::<rows::Garbage>(&row)?.size });
                }
                Ok((due, tx.rows_read()))
            })
            .await
    }

    /// Deletes files, then their rows; returns how many. A file that cannot be deleted keeps its row.
    async fn delete_files(&self, part: &[Due], sink: &Sink<'_>, summary: &mut GcSummary) -> Result<usize> {
        let mut gone: Vec<&Due> = part.iter().collect();
        if let Err(error) = self.delete_together(&gone).await {
            tracing::warn!(%error, "files could not be deleted together; each is tried by itself");
            gone.clear();
            for due in part {
                match self.delete_together(&[due]).await {
                    Ok(()) => gone.push(due),
                    Err(error) => {
                        self.collected.fail();
                        summary.stuck += 1;
                        tracing::error!(%error, "a file cannot be deleted; the next round tries again");
                    }
                }
            }
        }
        let keys: Vec<Vec<u8>> = gone.iter().map(|due| due.key.clone()).collect();
        self.engine
            .write(0, async move |tx: &mut WriteTx| keys.iter().try_for_each(|key| tx.delete(key.clone())))
            .await?;
        for due in &gone {
            let item = GcItem::File { location: due.location.to_string(), bytes: due.bytes };
            self.collected.remove(&item);
            sink.take(item, summary).await?;
        }
        Ok(gone.len())
    }

    async fn delete_together(&self, files: &[&Due]) -> Result<()> {
        let blobs = self.blobs.clone();
        let locations: Vec<Location> = files.iter().map(|due| due.location).collect();
        tokio::task::spawn_blocking(move || blobs.delete_all(&locations)).await.unwrap_or_else(|error| {
            Err(Error::Unavailable(format!("a deletion ended abnormally: {error}")))
        })?;
        // Files that are not in a folder which took the place of ours may still be in ours.
        self.room.stays()
    }
}
