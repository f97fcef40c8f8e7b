// SPDX-License-Identifier: AGPL-3.0-only
//! Tags: where they point, which manifests know them, and how they moved.
//!
//! The three tell the same story, so each can be made anew from the others.

use super::Basis;
use super::found::{At, Change, Findings, Held, hold, read};
use super::report::FaultKind;
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::Result;
use crate::keys::{self, RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx};
use crate::name::Tag;
use crate::rows;
use crate::store::tags::KEPT_MOVES;

/// Who made the moves that stand in for lost ones.
const BY: &str = "fsck";
/// Generations that may have passed unseen, when the last one is lost.
const UNSEEN: u64 = 1_000;

type Move = (u64, Held<rows::TagMove>);

/// The move after (that is, older than) a key of a tag's history; the newest, without one.
async fn older(tx: &mut ReadTx, repo: RepoId, tag: &Tag, after: Option<&[u8]>) -> Result<Option<Move>> {
    let prefix = keys::moves(repo, tag);
    let page = tx.range(&prefix, after, 1).await?;
    Ok(page.first().and_then(|(key, value)| Some((keys::read_tag_move(key, &prefix).ok()?, read(value)))))
}

async fn exists(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<bool> {
    Ok(tx.get(&keys::manifest(repo, digest)).await?.is_some()
        || tx.get(&keys::manifest_bytes(repo, digest)).await?.is_some())
}

/// The tag as its history last saw it, if it points at a manifest that is there.
async fn from_history(tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<Option<(Digest, rows::Tag)>> {
    let Some((number, Held::Row(last))) = older(tx, repo, tag, None).await? else { return Ok(None) };
    let Some(digest) = last.to.clone() else { return Ok(None) };
    if !exists(tx, repo, &digest).await? {
        return Ok(None);
    }
    let row = rows::Tag {
        released: last.to.clone(),
        candidate: last.to,
        generation: last.generation.saturating_add(UNSEEN),
        updated: last.at,
        pusher: last.by,
        moves: number,
        signed_at: last.signed_at,
    };
    Ok(Some((digest, row)))
}

pub(super) async fn tag(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, tag): (RepoId, &Tag),
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let (key, at) = (keys::tag(repo, tag.as_str()), At::tag(repo, tag));
    let row = read::<rows::Tag>(value).row().filter(|row| row.released.is_some() || row.candidate.is_some());
    let Some(row) = row else {
        let what = "the row of this tag cannot be read";
        let (how, changes) = if let Some((digest, row)) = from_history(tx, repo, tag).await? {
            let index = Change::Put(keys::tag_of(repo, &digest, tag), Vec::new());
            ("it points where it last moved to", vec![Change::row(key, &row)?, index])
        } else {
            let review = Change::review(basis.moment(), &Review::TagHistory(repo, tag.clone()));
            let how = "it is removed, for nothing says where it pointed; push it again";
            (how, vec![Change::Delete(key), review])
        };
        found.change(FaultKind::RowUnreadable, at, what, how, changes);
        return Ok(());
    };
    let both = [&row.released, &row.candidate];
    for (number, digest) in both.into_iter().enumerate() {
        let Some(digest) = digest else { continue };
        if number == 1 && row.released.as_ref() == Some(digest) {
            continue;
        }
        let at = At { digest: Some(digest.clone()), ..at.clone() };
        if !exists(tx, repo, digest).await? {
            let what = "the tag points at a manifest that is not here";
            let advice = "push the manifest again, push the tag anew, or delete the tag";
            found.manual(FaultKind::TagDangling, at.clone(), what, advice);
        }
        let index = keys::tag_of(repo, digest, tag);
        if tx.get(&index).await?.is_none() {
            let (what, how) = ("the manifest does not know this tag", "the manifest knows the tag");
            found.change(FaultKind::TagIndexMissing, at, what, how, vec![Change::Put(index, Vec::new())]);
        }
    }
    history(tx, (repo, tag), row, found).await
}

/// Compares a tag with the last move in its history.
async fn history(
    tx: &mut ReadTx,
    (repo, tag): (RepoId, &Tag),
    mut row: rows::Tag,
    found: &mut Findings,
) -> Result<()> {
    let mut changes = Vec::new();
    let mut newest = older(tx, repo, tag, None).await?;
    // A number that the tag has not come to yet, and that follows no other, is none.
    while let Some((number, _)) = newest
        && number > row.moves
    {
        let key = keys::tag_move(repo, tag, number);
        let next = older(tx, repo, tag, Some(&key)).await?;
        if next.as_ref().is_some_and(|(below, _)| below.saturating_add(1) == number)
            || changes.len() == MAX_PAGE_ROWS
        {
            break;
        }
        changes.push(Change::Delete(key));
        newest = next;
    }
    let (number, from) = match newest {
        // A move that cannot be read is told of by itself.
        Some((_, Held::Unreadable | Held::Absent)) => return Ok(()),
        Some((number, Held::Row(last))) if last.to == row.released => {
            if number == row.moves && changes.is_empty() {
                return Ok(());
            }
            row.moves = number;
            (None, None)
        }
        Some((number, Held::Row(last))) => (Some(number.saturating_add(1)), last.to),
        // What was never released never moved.
        None if row.released.is_none() => return Ok(()),
        None => (Some(1), None),
    };
    if let Some(number) = number {
        let to = row.released.clone();
        let generation = row.generation;
        let (by, signed_at) = (BY.to_owned(), row.signed_at);
        let moved = rows::TagMove { from, to, at: row.updated, by, generation, signed_at };
        row.moves = number;
        changes.push(Change::row(keys::tag_move(repo, tag, number), &moved)?);
    }
    changes.push(Change::row(keys::tag(repo, tag.as_str()), &row)?);
    let what = "the last move of this tag is not to where it points";
    let how = "its history ends where it points";
    found.change(FaultKind::TagHistoryWrong, At::tag(repo, tag), what, how, changes);
    Ok(())
}

pub(super) async fn tag_of(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, digest, tag): (RepoId, &Digest, &Tag),
    found: &mut Findings,
) -> Result<()> {
    let row = hold::<rows::Tag>(tx, &keys::tag(repo, tag.as_str())).await?;
    let at = At { digest: Some(digest.clone()), ..At::tag(repo, tag) };
    match &row {
        Held::Row(row) if [&row.released, &row.candidate].contains(&&Some(digest.clone())) => return Ok(()),
        Held::Unreadable => return Ok(()),
        Held::Absent => {
            if let Some((last, row)) = from_history(tx, repo, tag).await?
                && last == *digest
            {
                let what = "the manifest and the history know this tag, its row is gone";
                let how = "the tag points where it last moved to";
                let changes = vec![Change::row(keys::tag(repo, tag.as_str()), &row)?];
                found.change(FaultKind::TagMissing, at, what, how, changes);
                return Ok(());
            }
        }
        Held::Row(_) => {}
    }
    let changes = vec![
        Change::Delete(keys::tag_of(repo, digest, tag)),
        Change::review(basis.moment(), &Review::Object(repo, digest.clone())),
    ];
    let what = "the manifest knows a tag that does not point at it";
    found.change(FaultKind::TagIndexStray, at, what, "the manifest forgets the tag", changes);
    Ok(())
}

pub(super) async fn tag_move(
    tx: &mut ReadTx,
    (repo, tag, number): (RepoId, &Tag, u64),
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let key = keys::tag_move(repo, tag, number);
    let row = read::<rows::TagMove>(value).row();
    let older = older(tx, repo, tag, Some(&key)).await?;
    let standing = hold::<rows::Tag>(tx, &keys::tag(repo, tag.as_str())).await?;
    let Some(row) = row else {
        let newer = match number.checked_add(1) {
            Some(newer) => hold::<rows::TagMove>(tx, &keys::tag_move(repo, tag, newer)).await?.row(),
            None => None,
        };
        let moved = stand_in(newer.as_ref(), older.and_then(|(_, row)| row.row()).as_ref(), standing.row());
        let what = format!("move {number} of this tag cannot be read");
        let how = "what is known of the move stands in for it";
        found.change(
            FaultKind::RowUnreadable,
            At::tag(repo, tag),
            what,
            how,
            vec![Change::row(key, &moved)?],
        );
        return Ok(());
    };
    if let Some((last, below)) = older
        && last.saturating_add(1) < number
    {
        let (kind, at) = (FaultKind::TagHistoryGap, At::tag(repo, tag));
        let what = format!("the moves {} to {} of this tag are gone", last + 1, number - 1);
        if number - last > KEPT_MOVES {
            // So many are not kept: the number is wrong.
            let next = Change::row(keys::tag_move(repo, tag, last + 1), &row)?;
            found.change(
                kind,
                at,
                what,
                "the later move comes next",
                vec![Change::Delete(key.clone()), next],
            );
        } else {
            let moved = stand_in(Some(&row), below.row().as_ref(), None);
            let changes = (last + 1..number).map(|lost| Change::row(keys::tag_move(repo, tag, lost), &moved));
            let how = "what is known of them stands in for them";
            found.change(kind, at, what, how, changes.collect::<Result<_>>()?);
        }
    }
    // The newest move of a deleted tag: collection must forget them some day.
    if standing.is_absent()
        && tx.range(&keys::moves(repo, tag), None, 1).await?.iter().any(|row| row.0 == key)
    {
        found.unprotected.push(Review::TagHistory(repo, tag.clone()));
    }
    Ok(())
}

/// A move of which only what came after it and before it is known.
fn stand_in(
    newer: Option<&rows::TagMove>,
    older: Option<&rows::TagMove>,
    tag: Option<rows::Tag>,
) -> rows::TagMove {
    let to = match (newer, &tag) {
        (Some(newer), _) => newer.from.clone(),
        (None, Some(tag)) => tag.released.clone(),
        (None, None) => None,
    };
    let before = older.map_or(0, |older| older.generation);
    let generation = match (newer, &tag) {
        (Some(newer), _) => newer.generation.saturating_sub(1).max(before),
        (None, Some(tag)) => tag.generation,
        (None, None) => before.saturating_add(UNSEEN),
    };
    let at = newer.or(older).map_or(Timestamp(0), |near| near.at);
    let at = tag.map_or(at, |tag| tag.updated.max(at));
    let signed_at = older.and_then(|older| older.signed_at);
    let (from, by) = (older.and_then(|older| older.to.clone()), BY.to_owned());
    rows::TagMove { from, to, at, by, generation, signed_at }
}

pub(super) fn last_pull((repo, tag): (RepoId, &Tag), value: &[u8], found: &mut Findings) {
    if read::<rows::LastPull>(value) == Held::Unreadable {
        let changes = vec![Change::Delete(keys::last_pull(repo, tag))];
        let what = "when this tag was last pulled cannot be read";
        found.change(FaultKind::RowUnreadable, At::tag(repo, tag), what, "that is forgotten", changes);
    }
}
