// SPDX-License-Identifier: AGPL-3.0-only
//! Tags: where they stand, how they move, and listing them.

use super::tag_guard::TagGuard;
use super::{Actor, Deleter, Store, TAG_HISTORY, repositories};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::name::{RepoName, Tag};
use crate::rows;

/// Moves of a tag that are kept.
pub(super) const KEPT_MOVES: u64 = 100;

pub(super) async fn find(tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<Option<rows::Tag>> {
    tx.get(&keys::tag(repo, tag.as_str())).await?.map(|row| rows::decode(&row)).transpose()
}

/// Points a tag at a manifest; returns what it pointed at before. Without a policy gate every candidate is
/// released at once.
pub(super) async fn set(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    digest: &Digest,
    actor: &Actor,
    now: Timestamp,
) -> Result<Option<Digest>> {
    let before = find(tx, repo, tag).await?;
    let last = last(tx, repo, tag, before.as_ref()).await?;
    let from = before.as_ref().and_then(|before| before.released.clone());
    let mut row = rows::Tag {
        released: Some(digest.clone()),
        candidate: Some(digest.clone()),
        generation: last.generation + 1,
        updated: now,
        pusher: actor.subject.clone(),
        moves: last.moves,
    };
    if let Some(before) = &before {
        leave(tx, repo, tag, before, Some(digest), now).await?;
    }
    // The same image pushed again raises the generation and is no move.
    if from != row.released {
        row.moves += 1;
        let by = actor.subject.clone();
        let (from, to) = (from.clone(), row.released.clone());
        let moved = rows::TagMove { from, to, at: now, by, generation: row.generation };
        record(tx, repo, tag, row.moves, &moved)?;
    }
    tx.put(keys::tag_of(repo, digest, tag), Vec::new())?;
    tx.put(keys::tag(repo, tag.as_str()), rows::encode(&row)?)?;
    Ok(from)
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
    leave(tx, repo, tag, before, None, now).await?;
    tx.delete(keys::tag(repo, tag.as_str()))?;
    tx.put(keys::review(now.plus(TAG_HISTORY), &Review::TagHistory(repo, tag.clone())), Vec::new())?;
    let moved = rows::TagMove {
        from: before.released.clone(),
        to: None,
        at: now,
        by: actor.subject.clone(),
        generation: before.generation + 1,
    };
    record(tx, repo, tag, before.moves + 1, &moved)
}

/// Forgets a deleted tag: its moves, and when it was pulled. Fewer than [`MAX_PAGE_ROWS`] moves are kept.
pub(super) async fn forget(tx: &mut WriteTx, repo: RepoId, tag: &Tag) -> Result<()> {
    for (key, _) in tx.range(&keys::moves(repo, tag), None, MAX_PAGE_ROWS).await? {
        tx.delete(key)?;
    }
    tx.delete(keys::last_pull(repo, tag))
}

/// When a tag last moved, as far as that is still known.
pub(super) async fn last_moved(tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<Option<Timestamp>> {
    match tx.range(&keys::moves(repo, tag), None, 1).await?.first() {
        None => Ok(None),
        Some((_, row)) => Ok(Some(rows::decode::<rows::TagMove>(row)?.at)),
    }
}

/// Where a tag's counters stand.
struct Last {
    generation: u64,
    moves: u64,
}

/// Counters go on over a deletion: a stale release must not match a new tag's generation.
async fn last(tx: &mut WriteTx, repo: RepoId, tag: &Tag, present: Option<&rows::Tag>) -> Result<Last> {
    if let Some(present) = present {
        return Ok(Last { generation: present.generation, moves: present.moves });
    }
    let prefix = keys::moves(repo, tag);
    match tx.range(&prefix, None, 1).await?.first() {
        None => Ok(Last { generation: 0, moves: 0 }),
        Some((key, row)) => {
            let generation = rows::decode::<rows::TagMove>(row)?.generation;
            Ok(Last { generation, moves: keys::read_tag_move(key, &prefix)? })
        }
    }
}

/// The manifests that a tag stood for lose it, unless it stays at them.
async fn leave(
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
            if before.released.as_ref() == Some(digest) {
                note_left(tx, repo, digest, now).await?;
            }
            tx.put(keys::review(now, &Review::Object(repo, digest.clone())), Vec::new())?;
        }
    }
    Ok(())
}

/// Notes that a tag which had released a manifest went elsewhere: from now on it is kept for a while.
async fn note_left(tx: &mut WriteTx, repo: RepoId, digest: &Digest, now: Timestamp) -> Result<()> {
    let key = keys::manifest(repo, digest);
    let Some(row) = tx.get(&key).await? else { return Ok(()) };
    let mut row: rows::Manifest = rows::decode(&row)?;
    row.released_left = Some(now);
    tx.put(key, rows::encode(&row)?)
}

fn record(tx: &mut WriteTx, repo: RepoId, tag: &Tag, number: u64, moved: &rows::TagMove) -> Result<()> {
    tx.put(keys::tag_move(repo, tag, number), rows::encode(moved)?)?;
    match number.checked_sub(KEPT_MOVES) {
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

    /// Deletes a tag, and returns what it pointed at; the manifest stays.
    pub async fn delete_tag(&self, repo: &RepoName, tag: &Tag, deleter: &Deleter) -> Result<Option<Digest>> {
        let guard = TagGuard::new(&self.rules(), repo, deleter.may_change_protected);
        let (repo, tag, actor, now) = (repo.clone(), tag.clone(), deleter.actor.clone(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let repo = repositories::expect(tx, &repo).await?;
                guard.may_remove(tx, repo, &tag).await?;
                let before = find(tx, repo, &tag).await?.ok_or(Error::NotFound(What::Manifest))?;
                remove(tx, repo, &tag, &before, &actor, now).await?;
                Ok(before.released)
            })
            .await
    }
}
