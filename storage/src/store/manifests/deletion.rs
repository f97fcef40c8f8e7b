// SPDX-License-Identifier: AGPL-3.0-only
//! Deleting a manifest with the tags that name it: all of them, or none if a rule holds one in place.

use super::{TagGuard, find};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::name::{RepoName, Tag};
use crate::rows::{self, kind};
use crate::store::{Deleter, Store, gate, repositories, tags};

/// Tags that go with a manifest in its own transaction; more are removed before it.
const TAGS_AT_ONCE: usize = 200;

/// How far up indexes are looked for that list a manifest; clients go no further down.
const LEVELS: usize = 3;

/// Refuses where a tag that a rule holds in place names an index that lists this manifest: without it that would be no
/// image any more.
async fn may_leave_indexes(guard: &TagGuard, tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<()> {
    let mut level = vec![digest.clone()];
    for _ in 0..LEVELS {
        let mut above = Vec::new();
        for child in &level {
            let prefix = keys::edges_to(repo, child);
            for (key, kinds) in tx.range(&prefix, None, MAX_PAGE_ROWS).await? {
                if kinds.iter().any(|kinds| kinds & kind::CHILD != 0) && above.len() < MAX_PAGE_ROWS {
                    above.push(keys::read_edge(&key, &prefix)?);
                }
            }
        }
        for index in &above {
            let prefix = keys::tags_of(repo, index);
            for (key, _) in tx.range(&prefix, None, MAX_PAGE_ROWS).await? {
                guard.may_remove(tx, repo, &keys::read_tag_of(&key, &prefix)?).await?;
            }
        }
        level = above;
    }
    Ok(())
}

impl Store {
    /// Deletes a manifest and every tag that points at it, which are returned. What refers to it stays.
    pub async fn delete_manifest(
        &self,
        repo: &RepoName,
        digest: &Digest,
        deleter: &Deleter,
    ) -> Result<Vec<Tag>> {
        let guard = TagGuard::new(&self.rules(), repo, deleter.may_change_protected);
        if !guard.is_idle() {
            self.may_remove_all(&guard, repo, digest).await?;
        }
        let (now, mut gone) = (self.now(), Vec::new());
        loop {
            let (repo, digest, actor) = (repo.clone(), digest.clone(), deleter.actor.clone());
            let guard = guard.clone();
            let (done, tags) = self
                .engine
                .write(0, async move |tx: &mut WriteTx| {
                    let repo = repositories::expect(tx, &repo).await?;
                    let row = find(tx, repo, &digest).await?.ok_or(Error::NotFound(What::Manifest))?;
                    let prefix = keys::tags_of(repo, &digest);
                    let tagged = tx.range(&prefix, None, TAGS_AT_ONCE + 1).await?;
                    let mut removed = Vec::new();
                    for (key, _) in tagged.iter().take(TAGS_AT_ONCE) {
                        let tag: Tag = keys::read_tag_of(key, &prefix)?;
                        guard.may_remove(tx, repo, &tag).await?;
                        if tags::lose(tx, repo, &tag, &digest, &actor, now).await? {
                            removed.push(tag);
                        }
                    }
                    if tagged.len() > TAGS_AT_ONCE {
                        return Ok((false, removed));
                    }
                    if !guard.is_idle() {
                        may_leave_indexes(&guard, tx, repo, &digest).await?;
                    }
                    erase(tx, repo, &digest, &row, now).await.map(|()| (true, removed))
                })
                .await?;
            gone.extend(tags);
            if done {
                return Ok(gone);
            }
        }
    }

    /// Refuses before the first of many tags goes, as they do not all go in one transaction. Each
    /// transaction asks again, for tags that were set meanwhile.
    async fn may_remove_all(&self, guard: &TagGuard, repo: &RepoName, digest: &Digest) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (guard, repo, digest) = (guard.clone(), repo.clone(), digest.clone());
            let page = self.engine.scan(async move |tx: &mut ReadTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let prefix = keys::tags_of(repo, &digest);
                let page = tx.range(&prefix, after.as_deref(), MAX_PAGE_ROWS).await?;
                for (key, _) in &page {
                    guard.may_remove(tx, repo, &keys::read_tag_of(key, &prefix)?).await?;
                }
                Ok(page.into_iter().last().map(|(key, _)| key))
            });
            after = page.await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Removes a manifest's rows; what it protected, and what refers to it, comes up for review.
pub(in crate::store) async fn erase(
    tx: &mut WriteTx,
    repo: RepoId,
    digest: &Digest,
    row: &rows::Manifest,
    now: Timestamp,
) -> Result<()> {
    let key = keys::references(repo, digest);
    let references: rows::References = match tx.get(&key).await? {
        Some(row) => rows::decode(&row)?,
        None => return Err(Error::Corrupt(format!("the references of manifest {digest} are gone"))),
    };
    for reference in references.edges {
        tx.delete(keys::edge(repo, &reference.target, digest))?;
        // Only what was protected needs another look.
        if reference.kinds & !kind::SUBJECT != 0 {
            tx.put(keys::review(now, &Review::Object(repo, reference.target.clone())), Vec::new())?;
        }
    }
    if let Some(subject) = &row.subject {
        let artifact_type = row.artifact_type.as_deref().unwrap_or_default();
        tx.delete(keys::referrer(repo, subject, artifact_type, digest))?;
        gate::touch(tx, repo, subject).await?;
    }
    gate::touch_above(tx, repo, digest).await?;
    tx.put(keys::review(now, &Review::Referrers(repo, digest.clone())), Vec::new())?;
    tx.delete(key)?;
    tx.delete(keys::manifest_bytes(repo, digest))?;
    tx.delete(keys::manifest(repo, digest))
}
