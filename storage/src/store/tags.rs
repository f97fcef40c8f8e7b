// SPDX-License-Identifier: AGPL-3.0-only
//! Tags: where they stand, how they move, and listing them.

use super::{Actor, Store, TAG_HISTORY, repositories};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId, Review};
use crate::kv::{ReadTx, WriteTx};
use crate::name::{RepoName, Tag};
use crate::rows;

/// Moves of a tag that are kept.
const KEPT_MOVES: u64 = 100;

pub(super) async fn find(tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<Option<rows::Tag>> {
    tx.get(&keys::tag(repo, tag.as_str())).await?.map(|row| rows::decode(&row)).transpose()
}

/// Points a tag at a manifest. Without a policy gate every candidate is released at once.
pub(super) async fn set(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    digest: &Digest,
    actor: &Actor,
    now: Timestamp,
) -> Result<()> {
    let before = find(tx, repo, tag).await?;
    let generation = next_generation(tx, repo, tag, before.as_ref()).await?;
    let row = rows::Tag {
        released: Some(digest.clone()),
        candidate: Some(digest.clone()),
        generation,
        updated: now,
        pusher: actor.subject.clone(),
    };
    if let Some(before) = &before {
        leave(tx, repo, tag, before, Some(digest), now)?;
    }
    tx.put(keys::tag_of(repo, digest, tag), Vec::new())?;
    tx.put(keys::tag(repo, tag.as_str()), rows::encode(&row)?)?;
    let from = before.and_then(|before| before.released);
    record(tx, repo, tag, generation, &rows::TagMove { from, to: row.released, at: now, by: row.pusher })
}

/// Removes a tag; its moves stay for a while.
pub(super) async fn remove(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    before: &rows::Tag,
    actor: &Actor,
    now: Timestamp,
) -> Result<()> {
    leave(tx, repo, tag, before, None, now)?;
    tx.delete(keys::tag(repo, tag.as_str()))?;
    tx.put(keys::review(now.plus(TAG_HISTORY), &Review::TagHistory(repo, tag.clone())), Vec::new())?;
    let generation = next_generation(tx, repo, tag, Some(before)).await?;
    let moved = rows::TagMove { from: before.released.clone(), to: None, at: now, by: actor.subject.clone() };
    record(tx, repo, tag, generation, &moved)
}

/// Generations never repeat, not even over a deletion: a stale release must not match a new tag.
async fn next_generation(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    present: Option<&rows::Tag>,
) -> Result<u64> {
    if let Some(present) = present {
        return Ok(present.generation + 1);
    }
    let prefix = keys::moves(repo, tag);
    match tx.range(&prefix, None, 1).await?.first() {
        None => Ok(1),
        Some((key, _)) => Ok(keys::read_tag_move(key, &prefix)? + 1),
    }
}

/// The manifests that a tag stood for lose it, unless it stays at them.
fn leave(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    before: &rows::Tag,
    stays_at: Option<&Digest>,
    now: Timestamp,
) -> Result<()> {
    for digest in [&before.released, &before.candidate].into_iter().flatten() {
        if Some(digest) != stays_at {
            tx.delete(keys::tag_of(repo, digest, tag))?;
            tx.put(keys::review(now, &Review::Object(repo, digest.clone())), Vec::new())?;
        }
    }
    Ok(())
}

fn record(tx: &mut WriteTx, repo: RepoId, tag: &Tag, generation: u64, moved: &rows::TagMove) -> Result<()> {
    tx.put(keys::tag_move(repo, tag, generation), rows::encode(moved)?)?;
    match generation.checked_sub(KEPT_MOVES) {
        Some(oldest) => tx.delete(keys::tag_move(repo, tag, oldest)),
        None => Ok(()),
    }
}

impl Store {
    /// At most `limit` tags of a repository after `after`, in byte order.
    pub async fn tags(&self, repo: &RepoName, after: Option<String>, limit: usize) -> Result<Vec<String>> {
        let repo = repo.clone();
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let prefix = keys::tags(repo);
                let after = after.as_deref().map(|after| keys::tag(repo, after));
                let rows = tx.range(&prefix, after.as_deref(), limit).await?;
                rows.iter().map(|(key, _)| keys::read_tag(key, &prefix).map(str::to_owned)).collect()
            })
            .await
    }

    /// Deletes a tag; the manifest stays.
    pub async fn delete_tag(&self, repo: &RepoName, tag: &Tag, actor: &Actor) -> Result<()> {
        let (repo, tag, actor, now) = (repo.clone(), tag.clone(), actor.clone(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let before = find(tx, repo, &tag).await?.ok_or(Error::NotFound(What::Manifest))?;
                remove(tx, repo, &tag, &before, &actor, now).await
            })
            .await
    }
}
