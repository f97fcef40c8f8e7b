// SPDX-License-Identifier: AGPL-3.0-only
//! Tags: where they stand, how they move, and listing them.

use super::tag_guard::TagGuard;
use super::{Actor, Deleter, Store, TAG_HISTORY, View, gate, repositories};
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

/// When readers see what a tag is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// At once.
    Now,
    /// Once the policy gate lets it through ([`Store::release`]).
    Later,
}

/// Points a tag at a manifest; returns what was pushed to it before.
pub(super) async fn set(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    (digest, release): (&Digest, Release),
    actor: &Actor,
    now: Timestamp,
) -> Result<Option<Digest>> {
    let before = find(tx, repo, tag).await?;
    let last = last(tx, repo, tag, before.as_ref()).await?;
    let released = match release {
        Release::Now => Some(digest.clone()),
        Release::Later => before.as_ref().and_then(|before| before.released.clone()),
    };
    let row = rows::Tag {
        released,
        candidate: Some(digest.clone()),
        generation: last.generation + 1,
        updated: now,
        pusher: actor.subject.clone(),
        moves: last.moves,
        signed_at: last.signed_at,
    };
    let pushed = before.as_ref().and_then(|before| before.candidate.clone());
    tx.put(keys::tag_of(repo, digest, tag), Vec::new())?;
    replace(tx, repo, tag, before.as_ref(), row, &actor.subject, now).await?;
    Ok(pushed)
}

/// Writes where a tag stands from now on, and its move if readers will notice.
pub(super) async fn replace(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    before: Option<&rows::Tag>,
    mut row: rows::Tag,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    if let Some(before) = before {
        leave(tx, repo, tag, before, Some(&row), now).await?;
    }
    let from = before.and_then(|before| before.released.clone());
    // The same image pushed again raises the generation and is no move.
    if from != row.released {
        row.moves += 1;
        let to = row.released.clone();
        let (generation, signed_at) = (row.generation, row.signed_at);
        let moved = rows::TagMove { from, to, at: now, by: by.to_owned(), generation, signed_at };
        record(tx, repo, tag, row.moves, &moved)?;
    }
    tx.put(keys::tag(repo, tag.as_str()), rows::encode(&row)?)?;
    gate::evidence_changed(tx, repo, tag).await
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
        signed_at: before.signed_at,
    };
    record(tx, repo, tag, before.moves + 1, &moved)?;
    gate::evidence_changed(tx, repo, tag).await
}

/// A manifest goes: a tag that stands for it alone goes too, and this returns true; one that stands for another as well, as
/// candidate or released, stands for that alone from now on.
pub(super) async fn lose(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    digest: &Digest,
    actor: &Actor,
    now: Timestamp,
) -> Result<bool> {
    let Some(before) = find(tx, repo, tag).await? else { return Ok(false) };
    let other = [&before.candidate, &before.released].into_iter().flatten().find(|other| *other != digest);
    let Some(other) = other.cloned() else {
        remove(tx, repo, tag, &before, actor, now).await?;
        return Ok(true);
    };
    let row = rows::Tag {
        released: before.released.clone().filter(|released| released != digest),
        candidate: Some(other),
        generation: before.generation + 1,
        updated: now,
        ..before.clone()
    };
    replace(tx, repo, tag, Some(&before), row, &actor.subject, now).await?;
    Ok(false)
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
    signed_at: Option<Timestamp>,
}

/// Counters go on over a deletion: a stale release must not match a new tag's generation.
async fn last(tx: &mut WriteTx, repo: RepoId, tag: &Tag, present: Option<&rows::Tag>) -> Result<Last> {
    if let Some(present) = present {
        let (generation, moves, signed_at) = (present.generation, present.moves, present.signed_at);
        return Ok(Last { generation, moves, signed_at });
    }
    let prefix = keys::moves(repo, tag);
    match tx.range(&prefix, None, 1).await?.first() {
        None => Ok(Last { generation: 0, moves: 0, signed_at: None }),
        Some((key, row)) => {
            let rows::TagMove { generation, signed_at, .. } = rows::decode(row)?;
            Ok(Last { generation, moves: keys::read_tag_move(key, &prefix)?, signed_at })
        }
    }
}

/// The manifests that a tag stood for lose it, unless it stands for them still.
async fn leave(
    tx: &mut WriteTx,
    repo: RepoId,
    tag: &Tag,
    before: &rows::Tag,
    after: Option<&rows::Tag>,
    now: Timestamp,
) -> Result<()> {
    let released = after.and_then(|after| after.released.as_ref());
    let candidate = after.and_then(|after| after.candidate.as_ref());
    for digest in [&before.released, &before.candidate].into_iter().flatten() {
        let was_released = before.released.as_ref() == Some(digest);
        if was_released && released != Some(digest) {
            note_left(tx, repo, digest, now).await?;
        }
        if ![released, candidate].contains(&Some(digest)) {
            tx.delete(keys::tag_of(repo, digest, tag))?;
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
    /// At most `limit` tags of a repository after `after`, in byte order, and of each whether it is there in this view.
    pub async fn tags_seen(
        &self,
        repo: &RepoName,
        after: Option<String>,
        limit: usize,
        view: View,
    ) -> Result<Vec<(String, bool)>> {
        let repo = repo.clone();
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let prefix = keys::tags(repo);
                let after = after.as_deref().map(|after| keys::tag(repo, after));
                let rows = tx.range(&prefix, after.as_deref(), limit).await?;
                let shown = |row: &[u8]| match view {
                    View::Pushed => Ok(true),
                    View::Released => rows::decode::<rows::Tag>(row).map(|row| row.released.is_some()),
                };
                rows.iter()
                    .map(|(key, row)| Ok((keys::read_tag(key, &prefix)?.to_owned(), shown(row)?)))
                    .collect()
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
                Ok(before.candidate)
            })
            .await
    }
}
