// SPDX-License-Identifier: AGPL-3.0-only
//! What a policy gate needs of the store. It judges manifests and keeps its verdicts; here it learns when one no longer
//! holds, and moves the tags of what it lets through.
//!
//! Each manifest has a **stamp**, which changes in every transaction that changes what is said of it: a referrer comes or
//! goes, a tag such as `sha256-….sig` moves, a blob arrives that such a manifest names, a manifest is stored that it lists.
//! A verdict is kept under a manifest's stamp, and both are read in one snapshot; so a verdict that evidence has overtaken
//! is found by nobody. A tag of a gated repository has two digests ([`View`]); [`Store::release`] makes the second the
//! first by compare and set, so that nothing is released that was pushed over or whose evidence went meanwhile.

use super::{Store, blobs, manifests, repositories};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::Result;
use crate::keys::{self, RepoId};
use crate::kv::{Commit, MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::name::{RepoName, Tag};
use crate::rows::{self, kind};
use crate::store::blobs::Blob;

/// Manifests that are told of a blob which arrives late, or goes; clients' evidence is named by one.
const TOLD: usize = 100;
/// Edges that are passed over in search of one of a kind.
const PASSED_OVER: usize = 5_000;
/// How far up indexes are told of a manifest below them; an index's verdict covers no more.
const LEVELS: usize = 3;

/// Which of a tag's two digests is meant. Where nothing is gated they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What was pushed last.
    Pushed,
    /// What the policy gate let through last.
    Released,
}

/// What a gate judges a stored manifest by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestState {
    /// SHA-256 of its bytes, whatever algorithm named it.
    pub sha256: Digest,
    /// Whether every layer was read and is a signature, an attestation or a bundle.
    pub evidence: bool,
    /// Changes whenever what is said of it does.
    pub stamp: u64,
    /// What it is said of, if of anything.
    pub subject: Option<Digest>,
    /// When a tag last released it.
    pub released_at: Option<Timestamp>,
    /// The token session that pushed it first, if there was one.
    pub session: Option<String>,
}

/// What a judgement that was made of a manifest is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Changes whenever what is said of the manifest does.
    pub stamp: u64,
    /// When a tag last released it.
    pub released_at: Option<Timestamp>,
}

/// What is around a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// What was found there before: nothing was committed since.
    AsKnown,
    /// This.
    Found {
        /// Of which commit it is, if that is known.
        commit: Option<Commit>,
        /// The manifest of the same digest.
        itself: Option<Stamp>,
        /// The manifest that was asked for.
        other: Option<Stamp>,
    },
}

impl From<&ManifestState> for Stamp {
    fn from(state: &ManifestState) -> Self {
        Stamp { stamp: state.stamp, released_at: state.released_at }
    }
}

impl From<&rows::Manifest> for ManifestState {
    fn from(row: &rows::Manifest) -> Self {
        ManifestState {
            sha256: Digest::Sha256(row.sha256),
            evidence: row.evidence,
            stamp: row.stamp,
            subject: row.subject.clone(),
            released_at: row.released_at,
            session: row.session.clone(),
        }
    }
}

/// Something that is said of a manifest came or went.
pub(super) async fn touch(tx: &mut WriteTx, repo: RepoId, digest: &Digest) -> Result<()> {
    if let Some(mut row) = manifests::find(tx, repo, digest).await? {
        row.stamp = row.stamp.wrapping_add(1);
        tx.put(keys::manifest(repo, digest), rows::encode(&row)?)?;
    }
    Ok(())
}

/// A tag moved that may hold evidence.
pub(super) async fn evidence_changed(tx: &mut WriteTx, repo: RepoId, tag: &Tag) -> Result<()> {
    match tag.subject() {
        Some(subject) => touch(tx, repo, &subject).await,
        None => Ok(()),
    }
}

/// A manifest came or went that others list: their verdicts cover it.
pub(super) async fn touch_above(tx: &mut WriteTx, repo: RepoId, digest: &Digest) -> Result<()> {
    let mut level = vec![digest.clone()];
    for _ in 0..LEVELS {
        let mut above = Vec::new();
        for child in &level {
            above.extend(named_in(tx, repo, child, kind::CHILD, TOLD).await?);
            above.truncate(TOLD);
        }
        for index in &above {
            touch(tx, repo, index).await?;
        }
        level = above;
    }
    Ok(())
}

/// A blob came or went. What names it may be evidence that can be read only now, or no longer.
pub(super) async fn blob_changed(tx: &mut WriteTx, repo: RepoId, digest: &Digest) -> Result<()> {
    for manifest in named_in(tx, repo, digest, kind::LAYER | kind::CONFIG, TOLD).await? {
        touch(tx, repo, &manifest).await?;
        for subject in subjects(tx, repo, &manifest).await? {
            touch(tx, repo, &subject).await?;
        }
    }
    Ok(())
}

/// The manifests that name a digest so, the first `most` of them.
async fn named_in(
    tx: &mut ReadTx,
    repo: RepoId,
    digest: &Digest,
    kinds: u8,
    most: usize,
) -> Result<Vec<Digest>> {
    let prefix = keys::edges_to(repo, digest);
    let (mut found, mut after, mut rows) = (Vec::new(), None, 0);
    while found.len() < most && rows < PASSED_OVER {
        let page = tx.range(&prefix, after.as_deref(), MAX_PAGE_ROWS).await?;
        rows += page.len();
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        let is_last = page.len() < MAX_PAGE_ROWS;
        for (key, named) in &page {
            if named.iter().any(|named| named & kinds != 0) && found.len() < most {
                found.push(keys::read_edge(key, &prefix)?);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// What a manifest is said of: its subject, and those that its tags name.
async fn subjects(tx: &mut ReadTx, repo: RepoId, manifest: &Digest) -> Result<Vec<Digest>> {
    let row = manifests::find(tx, repo, manifest).await?;
    let mut subjects: Vec<Digest> = row.and_then(|row| row.subject).into_iter().collect();
    let prefix = keys::tags_of(repo, manifest);
    for (key, _) in tx.range(&prefix, None, TOLD).await? {
        subjects.extend(keys::read_tag_of(&key, &prefix)?.subject());
    }
    Ok(subjects)
}

async fn state(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<ManifestState>> {
    Ok(manifests::find(tx, repo, digest).await?.map(|row| ManifestState::from(&row)))
}

async fn stamp(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<Stamp>> {
    let Some(row) = tx.get(&keys::manifest(repo, digest)).await? else { return Ok(None) };
    let rows::Stamped { stamp, released_at } = rows::decode(&row)?;
    Ok(Some(Stamp { stamp, released_at }))
}

impl Store {
    /// A stamp for a new manifest.
    pub(super) fn new_stamp(&self) -> u64 {
        use std::sync::atomic::Ordering;
        // Begins at random with each start, and an odd step reaches every number before one comes again.
        self.stamps.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// What a manifest is judged by, if it is there.
    pub async fn manifest_state(&self, repo: &RepoName, digest: &Digest) -> Result<Option<ManifestState>> {
        self.engine
            .read(async |tx: &mut ReadTx| match repositories::find(tx, repo).await? {
                Some(repo) => state(tx, repo, digest).await,
                None => Ok(None),
            })
            .await
    }

    /// The manifests that list a digest, or, with `of_blobs`, that are made of it: a page after `after`, which may be empty,
    /// and where the next begins.
    pub async fn naming(
        &self,
        repo: &RepoName,
        digest: &Digest,
        of_blobs: bool,
        after: Option<&Digest>,
    ) -> Result<(Vec<(Digest, ManifestState)>, Option<Digest>)> {
        let (repo, digest, after) = (repo.clone(), digest.clone(), after.cloned());
        let kinds = if of_blobs { kind::LAYER | kind::CONFIG | kind::CHILD } else { kind::CHILD };
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok((Vec::new(), None)) };
                let prefix = keys::edges_to(repo, &digest);
                let after = after.as_ref().map(|after| keys::edge(repo, &digest, after));
                let page = tx.range(&prefix, after.as_deref(), MAX_PAGE_ROWS).await?;
                let mut found = Vec::new();
                for (key, named) in &page {
                    if named.iter().any(|named| named & kinds != 0) {
                        let manifest = keys::read_edge(key, &prefix)?;
                        if let Some(state) = state(tx, repo, &manifest).await? {
                            found.push((manifest, state));
                        }
                    }
                }
                let next = match page.last() {
                    Some((key, _)) if page.len() == MAX_PAGE_ROWS => Some(keys::read_edge(key, &prefix)?),
                    _ => None,
                };
                Ok((found, next))
            })
            .await
    }

    /// The manifests that a manifest lists, whether or not they are here.
    pub async fn children(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<Digest>> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, repo).await? else { return Ok(Vec::new()) };
                let Some(row) = tx.get(&keys::references(repo, digest)).await? else { return Ok(Vec::new()) };
                let edges = rows::decode::<rows::References>(&row)?.edges;
                let children = edges.into_iter().filter(|edge| edge.kinds & kind::CHILD != 0);
                Ok(children.map(|edge| edge.target).collect())
            })
            .await
    }

    /// A blob, and what a gate asks of the manifests around it, all in one snapshot: of the one of the same digest, and of
    /// `other`. What was answered before by this store, of the same three and at the commit `known`, is not asked again if there
    /// was none since.
    pub async fn blob_and(
        &self,
        repo: &RepoName,
        digest: &Digest,
        other: Option<&Digest>,
        known: Option<Commit>,
    ) -> Result<(Blob, Around)> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                let commit = tx.commit();
                let (repo, blob, _) = blobs::resolve(tx, repo, digest, blobs::damaged).await?;
                if known.is_some() && known == commit {
                    return Ok((blob, Around::AsKnown));
                }
                let itself = stamp(tx, repo, digest).await?;
                let other = match other {
                    Some(other) => stamp(tx, repo, other).await?,
                    None => None,
                };
                Ok((blob, Around::Found { commit, itself, other }))
            })
            .await
    }

    /// SHA-256 of a blob that is here under another name, for lists of denied digests.
    pub async fn sha256_of_blob(&self, repo: &RepoName, digest: &Digest) -> Result<Option<Digest>> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, repo).await? else { return Ok(None) };
                let link = blobs::find_link(tx, repo, digest).await?;
                Ok(link.map(|link| Digest::Sha256(link.sha256)))
            })
            .await
    }

    /// What the manifests are said of that name a blob.
    pub async fn subjects_of_blob(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<Digest>> {
        let (repo, digest) = (repo.clone(), digest.clone());
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok(Vec::new()) };
                let mut found = Vec::new();
                for manifest in named_in(tx, repo, &digest, kind::LAYER | kind::CONFIG, TOLD).await? {
                    found.extend(subjects(tx, repo, &manifest).await?);
                }
                found.sort();
                found.dedup();
                Ok(found)
            })
            .await
    }
}
