// SPDX-License-Identifier: AGPL-3.0-only
//! Links, contents and the other digests of contents, as far as rows say: the files are read elsewhere.
//!
//! A link is never dropped because its bytes are gone: the next push of the same bytes brings it
//! back to life in every repository.

use super::Basis;
use super::found::{At, Change, Findings, Held, hold, read};
use super::report::FaultKind;
use crate::digest::Digest;
use crate::error::Result;
use crate::keys::{self, RepoId, Review};
use crate::kv::ReadTx;
use crate::rows;
use crate::store::blobs;

/// Repositories in which the links of one content are made anew at once; another run mends more.
const MOST_NAMED: usize = 100;
const PUSH_AGAIN: &str = "push the blob again: that heals it in every repository; or delete it";

/// The sha256 by which the content of a digest is kept, if that is known.
async fn sha256_of(tx: &mut ReadTx, digest: &Digest) -> Result<Option<[u8; 32]>> {
    Ok(match digest {
        Digest::Sha256(sha256) => Some(*sha256),
        Digest::Sha512(sha512) => {
            let Some(sha256) = tx.get(&keys::alias(sha512)).await?.and_then(|row| row.try_into().ok()) else {
                return Ok(None);
            };
            let content = hold::<rows::Content>(tx, &keys::content(&sha256)).await?.row();
            content.filter(|content| content.sha512 == Some(*sha512)).map(|_| sha256)
        }
        Digest::Other(_) => None,
    })
}

fn has_digest(sha256: &[u8; 32], content: &rows::Content, digest: &Digest) -> bool {
    match digest {
        Digest::Sha256(bytes) => bytes == sha256,
        Digest::Sha512(bytes) => content.sha512.as_ref() == Some(bytes),
        Digest::Other(_) => false,
    }
}

/// The rows of a link that is made anew.
fn rebuilt(
    basis: &Basis,
    repo: RepoId,
    digest: &Digest,
    (sha256, content): (&[u8; 32], &rows::Content),
) -> Result<Vec<Change>> {
    let lease_until = basis.moment().lease();
    let row = rows::Link {
        sha256: *sha256,
        size: content.size,
        lease_until,
        created: content.created,
        pusher: String::new(),
        session: None,
    };
    Ok(vec![
        Change::row(keys::link(repo, digest), &row)?,
        Change::Put(keys::link_of(sha256, repo, digest), Vec::new()),
        Change::Put(keys::review(lease_until, &Review::Object(repo, digest.clone())), Vec::new()),
    ])
}

pub(super) async fn link(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, digest): (RepoId, &Digest),
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let (key, at) = (keys::link(repo, digest), At::digest(repo, digest));
    let right = sha256_of(tx, digest).await?;
    let Held::Row(mut row) = read::<rows::Link>(value) else {
        let content = match right {
            None => None,
            Some(sha256) => hold::<rows::Content>(tx, &keys::content(&sha256)).await?.row(),
        };
        let what = "the row of a blob's link cannot be read";
        let (how, changes) = if let (Some(sha256), Some(content)) = (right, content) {
            let changes = rebuilt(basis, repo, digest, (&sha256, &content))?;
            ("the link is made anew from the content of its digest", changes)
        } else {
            let how = "the link is removed, for its content is gone too; push the blob again";
            (how, vec![Change::Delete(key)])
        };
        found.change(FaultKind::RowUnreadable, at, what, how, changes);
        return Ok(());
    };
    let mut content = hold::<rows::Content>(tx, &keys::content(&row.sha256)).await?;
    let wrong = match (digest, &content) {
        (Digest::Sha256(sha256), _) => *sha256 != row.sha256,
        (_, Held::Row(content)) => !has_digest(&row.sha256, content, digest),
        _ => right.is_some_and(|right| right != row.sha256),
    };
    if wrong {
        let other = Digest::Sha256(row.sha256);
        let what = format!("the link leads to {other}, which is other content");
        let stale = Change::Delete(keys::link_of(&row.sha256, repo, digest));
        let Some(sha256) = right else {
            let how = "the link is removed, for the right content is gone; push the blob again";
            found.change(FaultKind::LinkWrong, at, what, how, vec![stale, Change::Delete(key)]);
            return Ok(());
        };
        row.sha256 = sha256;
        let how = "the link leads to the content of its digest";
        let index = Change::Put(keys::link_of(&sha256, repo, digest), Vec::new());
        let changes = vec![stale, index, Change::row(key.clone(), &row)?];
        found.change(FaultKind::LinkWrong, at.clone(), what, how, changes);
        content = hold(tx, &keys::content(&sha256)).await?;
    } else if tx.get(&keys::link_of(&row.sha256, repo, digest)).await?.is_none() {
        found.linked.push(row.sha256);
        let index = Change::Put(keys::link_of(&row.sha256, repo, digest), Vec::new());
        let (what, how) = ("the content of this link does not know it", "the content knows the link");
        found.change(FaultKind::LinkIndexMissing, at.clone(), what, how, vec![index]);
    }
    match content {
        Held::Absent => {
            let what = "the content of this link is gone, so the blob cannot be read";
            found.manual(FaultKind::LinkWithoutContent, at, what, PUSH_AGAIN);
        }
        Held::Row(content) if content.size != row.size => {
            let what = format!("the link says {} bytes, its content {}", row.size, content.size);
            row.size = content.size;
            let how = "the link has its content's size";
            found.change(FaultKind::LinkSizeWrong, at, what, how, vec![Change::row(key, &row)?]);
        }
        // What cannot be read is the content's fault.
        Held::Row(_) | Held::Unreadable => {}
    }
    if basis.needs_review(tx, repo, digest).await? {
        found.unprotected.push(Review::Object(repo, digest.clone()));
    }
    Ok(())
}

pub(super) async fn link_of(
    tx: &mut ReadTx,
    basis: &Basis,
    (sha256, repo, digest): (&[u8; 32], RepoId, &Digest),
    found: &mut Findings,
) -> Result<()> {
    let link = hold::<rows::Link>(tx, &keys::link(repo, digest)).await?;
    let at = At::digest(repo, digest);
    match link {
        Held::Row(link) if link.sha256 == *sha256 => return Ok(()),
        // The fault is the link's.
        Held::Unreadable => return Ok(()),
        Held::Row(_) | Held::Absent => {}
    }
    let content = hold::<rows::Content>(tx, &keys::content(sha256)).await?.row();
    match content {
        Some(content) if link.is_absent() && has_digest(sha256, &content, digest) => {
            let what = "the blob's content knows of a link to it in this repository, which is gone";
            let changes = rebuilt(basis, repo, digest, (sha256, &content))?;
            found.change(FaultKind::LinkMissing, at, what, "the link is made anew", changes);
        }
        _ => {
            let other = Digest::Sha256(*sha256);
            let what = format!("{other} knows of a link to it which does not exist");
            let changes = vec![Change::Delete(keys::link_of(sha256, repo, digest))];
            let how = "the content forgets the link";
            found.change(FaultKind::LinkIndexStray, at, what, how, changes);
        }
    }
    Ok(())
}

pub(super) async fn content(
    tx: &mut ReadTx,
    basis: &Basis,
    sha256: &[u8; 32],
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    // A row that cannot be read was told of with the file.
    let Held::Row(row) = read::<rows::Content>(value) else { return Ok(()) };
    let at = At::content(*sha256).lying(row.location);
    let alias = match &row.sha512 {
        None => None,
        Some(sha512) => Some((*sha512, tx.get(&keys::alias(sha512)).await?)),
    };
    let ours = alias.as_ref().is_some_and(|(_, value)| value.as_deref() == Some(sha256));
    if tx.range(&keys::links_of(sha256), None, 1).await?.is_empty() {
        // Content that nobody has is never handed out, so whoever names it has lost a link to it.
        let lost = named_by(tx, basis, sha256, &row).await?;
        if !lost.is_empty() {
            for (repo, digest) in lost {
                let at = At::digest(repo, &digest);
                let what = "a manifest of the repository names this blob, and its link is gone";
                let changes = rebuilt(basis, repo, &digest, (sha256, &row))?;
                found.change(FaultKind::LinkMissing, at, what, "the link is made anew", changes);
            }
            return Ok(());
        }
        let moment = basis.moment();
        let garbage = rows::Garbage { size: row.size };
        let after = moment.now.plus(moment.periods.grace);
        let mut changes = vec![
            Change::Delete(keys::content(sha256)),
            Change::row(keys::garbage(after, row.location), &garbage)?,
        ];
        if let (Some((sha512, _)), true) = (&alias, ours) {
            changes.push(Change::Delete(keys::alias(sha512)));
        }
        let what = "no repository has this content, and collection does not know of it";
        let how = "collection removes it after the grace period";
        found.change(FaultKind::ContentWithoutLink, at, what, how, changes);
    } else if let (Some((sha512, _)), false) = (&alias, ours) {
        let what = format!("{} does not lead to this content", Digest::Sha512(*sha512));
        let changes = vec![Change::Put(keys::alias(sha512), sha256.to_vec())];
        found.change(FaultKind::AliasWrong, at, what, "the digest leads to the content", changes);
    }
    Ok(())
}

/// Where manifests name a content as a config, a layer or a child, and by which digest.
async fn named_by(
    tx: &mut ReadTx,
    basis: &Basis,
    sha256: &[u8; 32],
    content: &rows::Content,
) -> Result<Vec<(RepoId, Digest)>> {
    let digests = [Some(Digest::Sha256(*sha256)), content.sha512.map(Digest::Sha512)];
    let mut named = Vec::new();
    for &repo in basis.known.iter() {
        for digest in digests.iter().flatten() {
            if named.len() < MOST_NAMED
                && tx.get(&keys::link(repo, digest)).await?.is_none()
                && blobs::named_by(tx, repo, digest).await?.is_some()
            {
                named.push((repo, digest.clone()));
            }
        }
    }
    Ok(named)
}

pub(super) async fn alias(
    tx: &mut ReadTx,
    sha512: &[u8; 64],
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let leads_to: Option<[u8; 32]> = value.try_into().ok();
    if let Some(sha256) = leads_to {
        match hold::<rows::Content>(tx, &keys::content(&sha256)).await? {
            Held::Row(content) if content.sha512 == Some(*sha512) => return Ok(()),
            Held::Unreadable => return Ok(()),
            Held::Row(_) | Held::Absent => {}
        }
    }
    let at = At { digest: Some(Digest::Sha512(*sha512)), ..At::default() };
    let what = "the digest leads to content that does not have it";
    let changes = vec![Change::Delete(keys::alias(sha512))];
    found.change(FaultKind::AliasStray, at, what, "the digest leads nowhere", changes);
    Ok(())
}
