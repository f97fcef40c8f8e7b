// SPDX-License-Identifier: AGPL-3.0-only
//! Collection: removing what nothing protects any more, while everything else goes on.
//!
//! Nobody searches for garbage. Whatever may have lost its protection left a row in the review queue
//! in the same transaction; a round reads the rows that are due, judges each again in a write
//! transaction (`judge.rs`) and puts content that lost its last link into the garbage queue, whose
//! files are deleted when readers had time to finish (`sweep.rs`). Several collectors may run at once
//! and each may be stopped anywhere: what is left is work, never a leak or a hole. The cost of a
//! round follows what is due, not what is stored.

use tokio::sync::mpsc;

use super::Store;
use super::lease::Moment;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::keys::{self, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::rows;

mod judge;
mod pace;
mod report;
mod sweep;

use judge::judge;
pub(super) use judge::{Grounds, is_unprotected};
pub(super) use pace::Pace;
use pace::Turn;
pub(super) use report::Counters;
pub use report::{CollectionStats, GcItem, GcSummary, Queues, Why};

/// Reviews that one transaction judges.
const BATCH: usize = 100;
/// A transaction ends when it has written this many rows; one judgement writes less than the rest.
const WRITTEN: usize = 1_000;
/// Pages that are counted of each part of a queue.
const COUNTED_PAGES: usize = 10;
/// A round ends after this many goes through the queues, so that it ends at all.
const GOES: usize = 100;

/// What one page asks for first: an idle queue should cost next to nothing.
const fn first_page() -> usize {
    16
}

/// Where items go: to whoever asked for the collection, or nowhere.
struct Sink<'s>(Option<&'s mpsc::Sender<GcItem>>);

impl Sink<'_> {
    async fn take(&self, item: GcItem, summary: &mut GcSummary) -> Result<()> {
        summary.count(&item);
        let Some(sender) = self.0 else { return Ok(()) };
        sender.send(item).await.map_err(|_| Error::Abandoned)
    }
}

impl Store {
    /// One round of collection: all that is due. To be called every half minute or so.
    pub async fn collect(&self) -> Result<GcSummary> {
        self.round(&Sink(None)).await
    }

    /// One round of collection that tells what goes, or with `dry_run` what would go. Ends early when
    /// the receiver of `items` is gone.
    pub async fn gc(&self, dry_run: bool, items: mpsc::Sender<GcItem>) -> Result<GcSummary> {
        let sink = Sink(Some(&items));
        if dry_run { self.rehearse_round(&sink).await } else { self.round(&sink).await }
    }

    /// What collection has done since the store was opened.
    pub fn collection_stats(&self) -> CollectionStats {
        self.collected.read()
    }

    /// Counts the queues. Its cost follows their length, so do not call it often.
    pub async fn collection_queues(&self) -> Result<Queues> {
        let now = self.now();
        let mut queues = Queues::default();
        for shard in 0..keys::SHARDS {
            let mut after = None;
            for _ in 0..COUNTED_PAGES {
                let page = self.page(keys::reviews(shard), after.take(), MAX_PAGE_ROWS).await?.0;
                queues.reviews += page.len() as u64;
                for (key, _) in &page {
                    queues.reviews_due += queues.note_due(keys::read_review(key)?.0, now);
                }
                let Some((last, _)) = page.into_iter().last() else { break };
                after = Some(last);
            }
            let mut after = None;
            for _ in 0..COUNTED_PAGES {
                let page = self.page(keys::all_garbage(shard), after.take(), MAX_PAGE_ROWS).await?.0;
                queues.garbage += page.len() as u64;
                for (key, row) in &page {
                    queues.garbage_due += queues.note_due(keys::read_garbage(key)?.0, now);
                    queues.garbage_bytes += rows::decode::<rows::Garbage>(row)?.size;
                }
                let Some((last, _)) = page.into_iter().last() else { break };
                after = Some(last);
            }
        }
        Ok(queues)
    }

    async fn round(&self, sink: &Sink<'_>) -> Result<GcSummary> {
        let mut summary = GcSummary::default();
        self.collected.begin();
        match self.round_into(sink, &mut summary).await {
            Ok(()) => {}
            Err(Stop::Paused(reason)) => {
                self.collected.pause();
                summary.paused = Some(reason);
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(summary)
    }

    async fn round_into(&self, sink: &Sink<'_>, summary: &mut GcSummary) -> Result<(), Stop> {
        let now = self.turn().await?;
        if let Some(reason) = self.collection_paused(now).await? {
            return Err(Stop::Paused(reason));
        }
        self.queue_for_new_rules(summary).await?;
        // Collectors that begin at different places meet less often.
        let offset = u8::try_from(now.0 % u64::from(keys::SHARDS)).unwrap_or_default();
        for _ in 0..GOES {
            let mut found = false;
            for shard in 0..keys::SHARDS {
                found |= self.review((shard + offset) % keys::SHARDS, sink, summary).await?;
            }
            // What went may have protected something: that is due now.
            if !found {
                break;
            }
        }
        for shard in 0..keys::SHARDS {
            let now = self.turn().await?;
            self.sweep((shard + offset) % keys::SHARDS, now, sink, summary).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn turn(&self) -> Result<Timestamp, Stop> {
        match self.collection_turn().await? {
            Turn::Go(now) => Ok(now),
            Turn::Wait(reason) => Err(Stop::Paused(reason)),
        }
    }

    /// Judges what is due in one part of the queue; whether there was anything.
    async fn review(&self, shard: u8, sink: &Sink<'_>, summary: &mut GcSummary) -> Result<bool, Stop> {
        let (mut found, mut limit) = (false, first_page());
        loop {
            let now = self.turn().await?;
            let (page, rows) = self.page(keys::reviews(shard), None, limit).await?;
            summary.rows_read += rows;
            let full = page.len() == limit;
            let mut due = Vec::with_capacity(page.len());
            for (key, _) in &page {
                let (at, review) = keys::read_review(key)?;
                if at > now {
                    break;
                }
                due.push((at, review));
            }
            if due.is_empty() {
                return Ok(found);
            }
            found = true;
            let all_due = full && due.len() == limit;
            for batch in due.chunks(BATCH) {
                self.judge_batch(batch.to_vec(), now, sink, summary).await?;
                tokio::task::yield_now().await;
            }
            if !all_due {
                return Ok(found);
            }
            limit = (limit * 4).min(MAX_PAGE_ROWS);
        }
    }

    fn grounds(&self, now: Timestamp, batch: &[(Timestamp, Review)]) -> Grounds {
        let uploads = batch.iter().filter_map(|(_, review)| match review {
            Review::Upload(id) => Some(*id),
            _ => None,
        });
        Grounds {
            moment: Moment { now, periods: self.periods },
            rules: self.rules(),
            busy: uploads.filter(|id| self.sessions.is_held(*id)).collect(),
        }
    }

    async fn judge_batch(
        &self,
        batch: Vec<(Timestamp, Review)>,
        now: Timestamp,
        sink: &Sink<'_>,
        summary: &mut GcSummary,
    ) -> Result<()> {
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (grounds, part) = (self.grounds(now, rest), rest.to_vec());
            let judged =
                self.engine.write(0, async move |tx: &mut WriteTx| judge_some(tx, &grounds, &part).await);
            let (count, items, rows) = match judged.await {
                Ok(judged) => judged,
                Err(Error::Corrupt(_)) => self.judge_one(&rest[0], now).await?,
                Err(error) => return Err(error),
            };
            rest = &rest[count..];
            summary.rows_read += rows;
            summary.reviewed += count as u64;
            self.collected.review(count as u64);
            for item in items {
                self.collected.remove(&item);
                sink.take(item, summary).await?;
            }
        }
        Ok(())
    }

    /// Judges one row of a batch in which something is damaged. A damaged row must not hold up the
    /// others: it is put off.
    async fn judge_one(
        &self,
        row: &(Timestamp, Review),
        now: Timestamp,
    ) -> Result<(usize, Vec<GcItem>, u64)> {
        let (grounds, part) = (self.grounds(now, std::slice::from_ref(row)), vec![row.clone()]);
        let judged =
            self.engine.write(0, async move |tx: &mut WriteTx| judge_some(tx, &grounds, &part).await);
        let error = match judged.await {
            Err(error @ Error::Corrupt(_)) => error,
            judged => return judged,
        };
        self.collected.fail();
        tracing::error!(%error, review = ?row.1, "collection met damaged data; `stella fsck` tells more");
        let ((due, review), later) = (row.clone(), now.plus(self.periods.lease));
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                tx.delete(keys::review(due, &review))?;
                tx.put(keys::review(later, &review), Vec::new())
            })
            .await?;
        Ok((1, Vec::new(), 0))
    }

    /// When the rules have changed, has every manifest looked at again.
    async fn queue_for_new_rules(&self, summary: &mut GcSummary) -> Result<(), Stop> {
        let rules = self.rules();
        let (sha256, keep_all) = (rules.sha256(), rules.keep_all());
        let row = self.engine.read(async |tx: &mut ReadTx| tx.get(keys::RULES).await).await?;
        let row: Option<rows::Rules> = row.map(|row| rows::decode(&row)).transpose()?;
        if row.is_some_and(|row| row.sha256 == sha256 && row.queued_to.is_none()) {
            return Ok(());
        }
        loop {
            let now = self.turn().await?;
            let page = self.engine.write(0, async move |tx: &mut WriteTx| {
                let (row, read) = (tx.get(keys::RULES).await?, tx.rows_read());
                let row: Option<rows::Rules> = row.map(|row| rows::decode(&row)).transpose()?;
                let mut after = None;
                if let Some(row) = row.filter(|row| row.sha256 == sha256) {
                    match row.queued_to {
                        // Another collector was faster.
                        None => return Ok((true, read)),
                        Some(key) => after = Some(key),
                    }
                } else if keep_all {
                    // Nothing more goes than went before.
                    let row = rows::Rules { sha256, queued_to: None };
                    tx.put(keys::RULES.to_vec(), rows::encode(&row)?)?;
                    return Ok((true, read));
                }
                let page = tx.range(keys::MANIFESTS, after.as_deref(), MAX_PAGE_ROWS).await?;
                for (key, _) in &page {
                    let (repo, digest) = keys::read_manifest(key)?;
                    tx.put(keys::review(now, &Review::Object(repo, digest)), Vec::new())?;
                }
                let queued_to = page.into_iter().last().map(|(key, _)| key);
                let done = queued_to.is_none();
                tx.put(keys::RULES.to_vec(), rows::encode(&rows::Rules { sha256, queued_to })?)?;
                Ok((done, tx.rows_read()))
            });
            let (done, read) = page.await?;
            summary.rows_read += read;
            if done {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// The first rows of a queue, and how many were read.
    async fn page(
        &self,
        prefix: [u8; 2],
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<(Vec<crate::kv::Row>, u64)> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let rows = tx.range(&prefix, after.as_deref(), limit).await?;
                Ok((rows, tx.rows_read()))
            })
            .await
    }

    /// What a round would do, by doing it in a transaction that is forgotten.
    async fn rehearse_round(&self, sink: &Sink<'_>) -> Result<GcSummary> {
        let now = self.now();
        let mut summary = GcSummary { dry_run: true, ..GcSummary::default() };
        summary.paused = self.collection_paused(now).await?;
        let uploads = self.sessions.held();
        let grounds =
            Grounds { moment: Moment { now, periods: self.periods }, rules: self.rules(), busy: uploads };
        let rehearsed = self.engine.rehearse(async move |tx: &mut WriteTx| rehearse(tx, &grounds).await);
        let (items, reviewed, truncated) = rehearsed.await?;
        (summary.reviewed, summary.truncated) = (reviewed, truncated);
        for item in items {
            sink.take(item, &mut summary).await?;
        }
        Ok(summary)
    }
}

/// Why a round ended early.
enum Stop {
    Paused(String),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// Judges rows until the transaction is large; returns how many, what goes, and rows read.
async fn judge_some(
    tx: &mut WriteTx,
    grounds: &Grounds,
    batch: &[(Timestamp, Review)],
) -> Result<(usize, Vec<GcItem>, u64)> {
    let (mut count, mut items) = (0, Vec::new());
    for (due, review) in batch {
        items.extend(judge(tx, grounds, *due, review).await?);
        count += 1;
        if tx.written() > WRITTEN {
            break;
        }
    }
    Ok((count, items, tx.rows_read()))
}

/// A whole round in one transaction: items, reviews judged, and whether it stopped before the end.
async fn rehearse(tx: &mut WriteTx, grounds: &Grounds) -> Result<(Vec<GcItem>, u64, bool)> {
    let (mut items, mut reviewed) = (Vec::new(), 0);
    for shard in 0..keys::SHARDS {
        let mut after: Option<Vec<u8>> = None;
        'queue: loop {
            let page = tx.range(&keys::all_garbage(shard), after.as_deref(), MAX_PAGE_ROWS).await?;
            for (key, row) in &page {
                let (delete_after, location) = keys::read_garbage(key)?;
                if delete_after > grounds.moment.now {
                    break 'queue;
                }
                let bytes = rows::decode::<rows::Garbage>(row)?.size;
                items.push(GcItem::File { location: location.to_string(), bytes });
            }
            match page.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
    }
    loop {
        let mut found = false;
        for shard in 0..keys::SHARDS {
            loop {
                let page = tx.range(&keys::reviews(shard), None, BATCH).await?;
                let mut due = Vec::new();
                for (key, _) in &page {
                    let (at, review) = keys::read_review(key)?;
                    if at <= grounds.moment.now {
                        due.push((at, review));
                    }
                }
                if due.is_empty() {
                    break;
                }
                found = true;
                for (at, review) in due {
                    match judge(tx, grounds, at, &review).await {
                        Ok(more) => items.extend(more),
                        Err(Error::TooLarge(_)) => return Ok((items, reviewed, true)),
                        Err(error) => return Err(error),
                    }
                    reviewed += 1;
                }
            }
        }
        if !found {
            return Ok((items, reviewed, false));
        }
    }
}
