// SPDX-License-Identifier: AGPL-3.0-only
//! Leaks: what nothing protects and collection would never look at, because its review row is missing.
//!
//! A review row can be anywhere in its part of the queue, for nobody knows when it is due. So what
//! must have one is gathered, and each part of the queue is then read once, in one snapshot.

use std::collections::HashSet;

use super::found::{At, Change, Findings};
use super::report::FaultKind;
use super::{Basis, Check, mend};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::keys::{self, Key, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};

/// What is gathered before the queue is read.
const GATHERED: usize = 50_000;

/// A review without its time.
fn timeless(review: &Review) -> Vec<u8> {
    keys::review(Timestamp(0), review)
}

impl Check<'_> {
    /// Notes that something must have a review row.
    pub(super) async fn needs_review(&mut self, review: &Review) -> Result<()> {
        self.unprotected.insert(timeless(review));
        if self.unprotected.len() >= GATHERED { self.leaks().await } else { Ok(()) }
    }

    /// Looks for the review rows of what was gathered.
    pub(super) async fn leaks(&mut self) -> Result<()> {
        let mut shards = vec![HashSet::new(); usize::from(keys::SHARDS)];
        for review in self.unprotected.drain() {
            shards[usize::from(review[1])].insert(review);
        }
        for (shard, wanted) in (0..keys::SHARDS).zip(shards) {
            if wanted.is_empty() {
                continue;
            }
            let basis = self.basis.clone();
            let found = self.store.engine.scan(async move |tx: &mut ReadTx| {
                let mut leaked = Vec::new();
                for review in unreviewed(tx, shard, wanted.clone()).await? {
                    let mut findings = Findings::default();
                    check(tx, &basis, &review, &mut findings).await?;
                    if !findings.faults.is_empty() {
                        leaked.push((review, findings.faults));
                    }
                }
                Ok(leaked)
            });
            for (review, faults) in found.await? {
                if !self.repair {
                    self.tell_all(faults).await?;
                    continue;
                }
                let basis = self.basis.clone();
                let faults = self.store.engine.write(0, async move |tx: &mut WriteTx| {
                    let mut findings = Findings::default();
                    check(tx, &basis, &review, &mut findings).await?;
                    mend(tx, findings.faults).await
                });
                self.send_all(faults.await?).await?;
            }
        }
        Ok(())
    }
}

/// Those of some reviews that are not in their part of the queue.
async fn unreviewed(tx: &mut ReadTx, shard: u8, mut wanted: HashSet<Vec<u8>>) -> Result<Vec<Review>> {
    let mut after: Option<Vec<u8>> = None;
    while !wanted.is_empty() {
        let page = tx.range(&keys::reviews(shard), after.as_deref(), MAX_PAGE_ROWS).await?;
        for (key, _) in &page {
            if let Ok(Key::Review(_, review)) = Key::read(key) {
                wanted.remove(&timeless(&review));
            }
        }
        match page.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => break,
        }
    }
    let left = wanted.iter().filter_map(|key| match Key::read(key) {
        Ok(Key::Review(_, review)) => Some(review),
        _ => None,
    });
    Ok(left.collect())
}

/// Finds that something without a review row needs one.
async fn check(tx: &mut ReadTx, basis: &Basis, review: &Review, found: &mut Findings) -> Result<()> {
    let (needed, at) = match review {
        Review::Object(repo, digest) => {
            (basis.needs_review(tx, *repo, digest).await?, At::digest(*repo, digest))
        }
        Review::TagHistory(repo, tag) => {
            let gone = tx.get(&keys::tag(*repo, tag.as_str())).await?.is_none();
            let moved = !tx.range(&keys::moves(*repo, tag), None, 1).await?.is_empty();
            (gone && moved, At::tag(*repo, tag))
        }
        Review::Upload(id) => (tx.get(&keys::upload(*id)).await?.is_some(), At::location(*id)),
        Review::Referrers(..) => (false, At::default()),
    };
    if needed {
        let what = "nothing protects it, and collection would never look at it";
        let changes = vec![Change::review(basis.moment(), review)];
        found.change(FaultKind::ReviewMissing, at, what, "collection looks at it", changes);
    }
    Ok(())
}
