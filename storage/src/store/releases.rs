// SPDX-License-Identifier: AGPL-3.0-only
//! Releases: where tags stand under a policy gate, and how what readers see moves. A release is a compare and set on the
//! tag's generation, the manifest's stamp and the policies in force, so that nothing is released that was pushed over, whose
//! evidence went, or that other policies judge meanwhile.

use super::tag_guard::TagGuard;
use super::{Deleter, Store, manifests, repositories, tags};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::name::{RepoName, Tag};
use crate::rows;

/// Where a tag stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagState {
    /// Its name.
    pub tag: Tag,
    /// What readers see.
    pub released: Option<Digest>,
    /// What was pushed last.
    pub candidate: Option<Digest>,
    /// Raised by each push.
    pub generation: u64,
    /// When it was pushed or released last.
    pub updated: Timestamp,
    /// When what it released last was signed, if that was proven.
    pub signed_at: Option<Timestamp>,
}

impl TagState {
    fn of(tag: Tag, row: rows::Tag) -> Self {
        let rows::Tag { released, candidate, generation, updated, signed_at, .. } = row;
        TagState { tag, released, candidate, generation, updated, signed_at }
    }
}

/// What shall be released, as it was when it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// What the tag's candidate must be.
    pub digest: Digest,
    /// The tag's generation.
    pub generation: u64,
    /// The manifest's stamp.
    pub stamp: u64,
    /// The policies that it was judged by ([`Store::policy_epoch`]), if by any.
    pub epoch: Option<u64>,
    /// When it was signed, if that was proven.
    pub signed_at: Option<Timestamp>,
}

/// One move of what readers see under a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMoved {
    /// What they saw before.
    pub from: Option<Digest>,
    /// What they saw then; nothing if the tag was deleted.
    pub to: Option<Digest>,
    /// When.
    pub at: Timestamp,
    /// Who pushed, released or deleted it.
    pub by: String,
}

impl Store {
    /// Where a tag stands.
    pub async fn tag_state(&self, repo: &RepoName, tag: &Tag) -> Result<TagState> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                let repo = repositories::expect(tx, repo).await?;
                let row = tags::find(tx, repo, tag).await?.ok_or(Error::NotFound(What::Manifest))?;
                Ok(TagState::of(tag.clone(), row))
            })
            .await
    }

    /// The tags whose candidate is a manifest that readers do not see under them yet.
    pub async fn tags_waiting_for(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<TagState>> {
        let (mut waiting, mut after) = (Vec::new(), None);
        loop {
            let (repo, digest, begin) = (repo.clone(), digest.clone(), after.take());
            let (page, next) = self
                .engine
                .scan(async move |tx: &mut ReadTx| {
                    let Some(repo) = repositories::find(tx, &repo).await? else {
                        return Ok((Vec::new(), None));
                    };
                    let prefix = keys::tags_of(repo, &digest);
                    let rows = tx.range(&prefix, begin.as_deref(), MAX_PAGE_ROWS).await?;
                    let mut found = Vec::new();
                    for (key, _) in &rows {
                        let tag = keys::read_tag_of(key, &prefix)?;
                        if let Some(row) = tags::find(tx, repo, &tag).await?
                            && row.candidate.as_ref() == Some(&digest)
                            && row.released != row.candidate
                        {
                            found.push(TagState::of(tag, row));
                        }
                    }
                    let is_full = rows.len() == MAX_PAGE_ROWS;
                    Ok((found, rows.into_iter().last().filter(|_| is_full).map(|(key, _)| key)))
                })
                .await?;
            waiting.extend(page);
            after = next;
            if after.is_none() {
                return Ok(waiting);
            }
        }
    }

    /// Where at most `limit` tags after `after` stand, in byte order.
    pub async fn tag_states(
        &self,
        repo: &RepoName,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<TagState>> {
        let (repo, after) = (repo.clone(), after.cloned());
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok(Vec::new()) };
                let prefix = keys::tags(repo);
                let after = after.as_ref().map(|after| keys::tag(repo, after.as_str()));
                let rows = tx.range(&prefix, after.as_deref(), limit.min(MAX_PAGE_ROWS)).await?;
                rows.iter()
                    .map(|(key, row)| {
                        Ok(TagState::of(keys::read_tag(key, &prefix)?.parse()?, rows::decode(row)?))
                    })
                    .collect()
            })
            .await
    }

    /// How many tags a repository has.
    pub async fn count_tags(&self, repo: &RepoName) -> Result<u64> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.tag_states(repo, after.as_ref(), MAX_PAGE_ROWS).await?;
            count += page.len() as u64;
            match page.into_iter().last() {
                Some(last) => after = Some(last.tag),
                None => return Ok(count),
            }
        }
    }

    /// The number of a policy set, by its hash: the next one if it is another than was in force last.
    pub async fn policy_epoch(&self, hash: &str) -> Result<u64> {
        let hash = hash.to_owned();
        let present = self.engine.read(async |tx: &mut ReadTx| epoch(tx).await).await?;
        if let Some(row) = present
            && row.hash == hash
        {
            return Ok(row.epoch);
        }
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let epoch = epoch(tx).await?.map_or(0, |row| row.epoch) + 1;
                let row = rows::PolicyEpoch { hash: hash.clone(), epoch };
                tx.put(keys::POLICY_EPOCH.to_vec(), rows::encode(&row)?)?;
                Ok(epoch)
            })
            .await
    }

    /// Lets readers see a tag's candidate, if tag, manifest and policies ([`Store::policy_epoch`]) are as they were when it
    /// was judged. Says whether they do now; false means that something changed, and will be judged again.
    pub async fn release(&self, repo: &RepoName, tag: &Tag, release: &Release) -> Result<bool> {
        let (repo, tag, release, now) = (repo.clone(), tag.clone(), release.clone(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok(false) };
                let Some(before) = tags::find(tx, repo, &tag).await? else { return Ok(false) };
                let is_same = before.candidate.as_ref() == Some(&release.digest)
                    && before.generation == release.generation;
                if !is_same {
                    return Ok(false);
                }
                if before.released == before.candidate {
                    return Ok(true);
                }
                if !mark_released(tx, repo, &release, now).await? {
                    return Ok(false);
                }
                let by = before.pusher.clone();
                let signed_at = before.signed_at.max(release.signed_at);
                let released = before.candidate.clone();
                let row = rows::Tag { released, signed_at, updated: now, ..before.clone() };
                tags::replace(tx, repo, &tag, Some(&before), row, &by, now).await?;
                Ok(true)
            })
            .await
    }

    /// Points a tag at a manifest that is there, for readers and pushers alike, if both are as they were when it was judged,
    /// and the rules for tags allow it.
    pub async fn roll_back(
        &self,
        repo: &RepoName,
        tag: &Tag,
        release: &Release,
        mover: &Deleter,
    ) -> Result<bool> {
        let guard = TagGuard::new(&self.rules(), repo, mover.may_change_protected);
        let (repo, tag, release) = (repo.clone(), tag.clone(), release.clone());
        let (actor, now) = (mover.actor.clone(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let before = tags::find(tx, repo, &tag).await?.ok_or(Error::NotFound(What::Manifest))?;
                let evidence =
                    manifests::find(tx, repo, &release.digest).await?.is_some_and(|row| row.evidence);
                guard.may_set(tx, repo, &tag, &release.digest, evidence).await?;
                if before.generation != release.generation || !mark_released(tx, repo, &release, now).await? {
                    return Ok(false);
                }
                let row = rows::Tag {
                    released: Some(release.digest.clone()),
                    candidate: Some(release.digest.clone()),
                    generation: before.generation + 1,
                    updated: now,
                    pusher: actor.subject.clone(),
                    moves: before.moves,
                    signed_at: release.signed_at,
                };
                tx.put(keys::tag_of(repo, &release.digest, &tag), Vec::new())?;
                tags::replace(tx, repo, &tag, Some(&before), row, &actor.subject, now).await?;
                Ok(true)
            })
            .await
    }

    /// The last moves of what readers see under a tag, newest first.
    pub async fn tag_history(&self, repo: &RepoName, tag: &Tag) -> Result<Vec<TagMoved>> {
        let (repo, tag) = (repo.clone(), tag.clone());
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let rows = tx.range(&keys::moves(repo, &tag), None, MAX_PAGE_ROWS).await?;
                rows.iter()
                    .map(|(_, row)| {
                        let rows::TagMove { from, to, at, by, .. } = rows::decode(row)?;
                        Ok(TagMoved { from, to, at, by })
                    })
                    .collect()
            })
            .await
    }
}

async fn epoch(tx: &mut ReadTx) -> Result<Option<rows::PolicyEpoch>> {
    tx.get(keys::POLICY_EPOCH).await?.map(|row| rows::decode(&row)).transpose()
}

/// Notes when a manifest was released, if it is as it was when it was judged.
async fn mark_released(tx: &mut WriteTx, repo: RepoId, release: &Release, now: Timestamp) -> Result<bool> {
    let Some(mut row) = manifests::find(tx, repo, &release.digest).await? else { return Ok(false) };
    if row.stamp != release.stamp {
        return Ok(false);
    }
    if let Some(judged_by) = release.epoch
        && epoch(tx).await?.map_or(0, |row| row.epoch) != judged_by
    {
        return Ok(false);
    }
    row.released_at = Some(now);
    tx.put(keys::manifest(repo, &release.digest), rows::encode(&row)?)?;
    Ok(true)
}
