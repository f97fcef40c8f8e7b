// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs in repositories: links to contents, mounts, and deletion.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::lease::Moment;
use super::{Actor, Store, gate, repositories};
use crate::cache;
use crate::digest::Digest;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::local::{BlobReader, Location};
use crate::name::RepoName;
use crate::rows::{self, kind};

/// A blob that is readable in a repository.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Bytes.
    pub size: u64,
    sha256: [u8; 32],
    location: Location,
}

/// What came of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The blob is in the target repository.
    Yes,
    /// There is nothing to mount; the client should upload.
    No,
}

pub(super) async fn find_link(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<rows::Link>> {
    tx.get(&keys::link(repo, digest)).await?.map(|row| rows::decode(&row)).transpose()
}

/// Makes content readable in a repository, or renews the promise that it stays so.
pub(super) async fn link(
    tx: &mut WriteTx,
    repo: RepoId,
    digest: &Digest,
    content: ([u8; 32], u64),
    actor: &Actor,
    moment: Moment,
) -> Result<()> {
    let (sha256, size) = content;
    if let Some(mut row) = find_link(tx, repo, digest).await? {
        let Some(lease_until) = moment.extended(row.lease_until) else { return Ok(()) };
        row.lease_until = lease_until;
        return tx.put(keys::link(repo, digest), rows::encode(&row)?);
    }
    let lease_until = moment.lease();
    let row = rows::Link {
        sha256,
        size,
        lease_until,
        created: moment.now,
        pusher: actor.subject.clone(),
        session: actor.session.clone(),
    };
    tx.put(keys::link_of(&sha256, repo, digest), Vec::new())?;
    tx.put(keys::review(lease_until, &Review::Object(repo, digest.clone())), Vec::new())?;
    tx.put(keys::link(repo, digest), rows::encode(&row)?)?;
    gate::blob_changed(tx, repo, digest).await
}

/// Removes a link; content whose last link goes becomes garbage, and then this returns true.
pub(super) async fn unlink(
    tx: &mut WriteTx,
    repo: RepoId,
    digest: &Digest,
    link: &rows::Link,
    moment: Moment,
) -> Result<bool> {
    tx.delete(keys::link(repo, digest))?;
    tx.delete(keys::link_of(&link.sha256, repo, digest))?;
    gate::blob_changed(tx, repo, digest).await?;
    if !tx.range(&keys::links_of(&link.sha256), None, 1).await?.is_empty() {
        return Ok(false);
    }
    let key = keys::content(&link.sha256);
    // Content that is gone already is damage, and no reason to keep the link.
    let Some(row) = tx.get(&key).await? else { return Ok(false) };
    let content: rows::Content = rows::decode(&row)?;
    tx.delete(key)?;
    if let Some(sha512) = &content.sha512 {
        tx.delete(keys::alias(sha512))?;
    }
    let garbage = rows::Garbage { size: content.size };
    tx.put(keys::garbage(moment.now.plus(moment.periods.grace), content.location), rows::encode(&garbage)?)?;
    Ok(true)
}

/// Size and place of content, if its bytes are there as far as is known.
async fn intact(tx: &mut ReadTx, sha256: &[u8; 32]) -> Result<Option<rows::Content>> {
    let Some(row) = tx.get(&keys::content(sha256)).await? else { return Ok(None) };
    let content: rows::Content = rows::decode(&row)?;
    Ok(content.damaged.is_none().then_some(content))
}

/// Whether a content is linked from a repository that is readable. Of many repositories only so many are looked at.
async fn is_linked(
    tx: &mut ReadTx,
    sha256: &[u8; 32],
    readable: &(dyn Fn(&RepoName) -> bool + Send + Sync),
) -> Result<bool> {
    let prefix = keys::links_of(sha256);
    let mut last = None;
    for (key, _) in tx.range(&prefix, None, MAX_PAGE_ROWS).await? {
        let repo = keys::read_link_of(&key, &prefix)?;
        // The same content may have several digests in one.
        if last.replace(repo) != Some(repo) && readable(&repositories::name(tx, repo).await?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Some repository's content of this digest.
async fn find_anywhere(tx: &mut ReadTx, digest: &Digest) -> Result<Option<[u8; 32]>> {
    Ok(match digest {
        Digest::Sha256(bytes) => Some(*bytes),
        Digest::Sha512(bytes) => match tx.get(&keys::alias(bytes)).await? {
            None => None,
            Some(row) => Some(
                row.try_into()
                    .map_err(|_| Error::Corrupt(format!("the alias of {digest} cannot be read")))?,
            ),
        },
        Digest::Other(_) => None,
    })
}

impl Store {
    /// The blob, if it is readable in this repository.
    pub async fn blob(&self, repo: &RepoName, digest: &Digest) -> Result<Blob> {
        self.engine.read(async |tx: &mut ReadTx| Ok(resolve(tx, repo, digest, damaged).await?.1)).await
    }

    /// As [`Store::blob`], for someone who may push: a positive answer promises that it stays. What is known
    /// to be damaged is not found, so that it is pushed again.
    pub async fn blob_for_push(&self, repo: &RepoName, digest: &Digest) -> Result<Blob> {
        let (_, blob, link) =
            self.engine.read(async |tx: &mut ReadTx| resolve(tx, repo, digest, unknown).await).await?;
        // After a commit whose outcome is unknown, what was read need not be durable: a write makes it so.
        if self.moment().extended(link.lease_until).is_none() && self.engine.health().is_ok() {
            return Ok(blob);
        }
        let (repo, digest, moment) = (repo.clone(), digest.clone(), self.moment());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let (id, blob, mut link) = resolve(tx, &repo, &digest, unknown).await?;
                link.lease_until = link.lease_until.max(moment.lease());
                tx.put(keys::link(id, &digest), rows::encode(&link)?)?;
                Ok(blob)
            })
            .await
    }

    /// Opens a blob's bytes, with a reader for each range.
    pub async fn read_blob(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<Vec<BlobReader>> {
        let inside = ranges.iter().map(|range| range.start..range.end.min(blob.size));
        if blob.size > cache::LARGEST {
            return self.blobs.read(blob.location, inside, self.memory.answers());
        }
        let bytes = self.small_blob(blob).await?;
        Ok(inside.map(|range| BlobReader::of(&bytes, range)).collect())
    }

    /// All bytes of a blob, if they are no more than `most`.
    pub async fn read_small(&self, blob: &Blob, most: u64) -> Result<Option<Bytes>> {
        if blob.size > most {
            return Ok(None);
        }
        if blob.size <= cache::LARGEST {
            return self.small_blob(blob).await.map(Some);
        }
        let (blobs, location, size) = (self.blobs.clone(), blob.location, blob.size);
        let read = tokio::task::spawn_blocking(move || blobs.read_whole(location, size)).await;
        read.map_err(|error| Error::Unavailable(format!("a read ended abnormally: {error}")))?.map(Some)
    }

    /// The bytes of a small blob, from memory or from its file.
    async fn small_blob(&self, blob: &Blob) -> Result<Bytes> {
        if let Some(bytes) = self.cache.get(&blob.sha256) {
            return Ok(bytes);
        }
        let (blobs, location, size) = (self.blobs.clone(), blob.location, blob.size);
        let read = tokio::task::spawn_blocking(move || blobs.read_whole(location, size)).await;
        let bytes =
            read.map_err(|error| Error::Unavailable(format!("a read ended abnormally: {error}")))??;
        if self.cache.keep(&blob.sha256, &bytes) {
            Ok(bytes)
        } else {
            Err(damaged(&Digest::Sha256(blob.sha256)))
        }
    }

    /// Makes a blob of another repository readable in this one. Without `from`, any will do.
    pub async fn mount(
        &self,
        repo: &RepoName,
        from: Option<&RepoName>,
        digest: &Digest,
        actor: &Actor,
    ) -> Result<Mounted> {
        self.mount_readable(repo, from, digest, actor, None, Arc::new(|_| true)).await
    }

    /// As [`Store::mount`], from repositories that are `readable` to whoever asks, and blobs of at most `most` bytes. What
    /// is not is as what is not there, and takes as long.
    pub async fn mount_readable(
        &self,
        repo: &RepoName,
        from: Option<&RepoName>,
        digest: &Digest,
        actor: &Actor,
        most: Option<u64>,
        readable: Arc<dyn Fn(&RepoName) -> bool + Send + Sync>,
    ) -> Result<Mounted> {
        self.room.check(0)?;
        let (repo, from, digest) = (repo.clone(), from.cloned(), digest.clone());
        let (actor, moment) = (actor.clone(), self.moment());
        let mounted = self
            .engine
            .write(0, async move |tx: &mut WriteTx| {
                let source = match &from {
                    None => match find_anywhere(tx, &digest).await? {
                        Some(sha256) if is_linked(tx, &sha256, &*readable).await? => Some(sha256),
                        _ => None,
                    },
                    Some(from) => match repositories::find(tx, from).await? {
                        None => None,
                        Some(id) => {
                            let link = find_link(tx, id, &digest).await?;
                            link.filter(|_| readable(from)).map(|link| link.sha256)
                        }
                    },
                };
                let Some(sha256) = source else { return Ok(Mounted::No) };
                // What is damaged must be uploaded again, not handed on.
                let Some(content) = intact(tx, &sha256).await? else { return Ok(Mounted::No) };
                if most.is_some_and(|most| content.size > most) {
                    return Ok(Mounted::No);
                }
                let content = (sha256, content.size);
                let repo = repositories::intern(tx, &repo, moment.now).await?;
                link(tx, repo, &digest, content, &actor, moment).await?;
                Ok(Mounted::Yes)
            })
            .await?;
        if mounted == Mounted::Yes {
            self.uploaded.mounted.add(1);
        }
        Ok(mounted)
    }

    /// Makes a blob unreadable in a repository, unless a manifest there names it.
    pub async fn delete_blob(&self, repo: &RepoName, digest: &Digest) -> Result<()> {
        let (repo, digest, moment) = (repo.clone(), digest.clone(), self.moment());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let repo = repositories::expect(tx, &repo).await?;
                let link = find_link(tx, repo, &digest).await?.ok_or(Error::NotFound(What::Blob))?;
                if let Some(manifest) = named_by(tx, repo, &digest).await? {
                    return Err(Error::Referenced { manifest });
                }
                unlink(tx, repo, &digest, &link, moment).await.map(|_| ())
            })
            .await
    }
}

/// The error for a reader whose blob is there and cannot be served.
pub(super) fn damaged(digest: &Digest) -> Error {
    Error::Corrupt(format!("the bytes of blob {digest} are gone or damaged; push it again"))
}

fn unknown(_: &Digest) -> Error {
    Error::NotFound(What::Blob)
}

pub(super) async fn resolve(
    tx: &mut ReadTx,
    repo: &RepoName,
    digest: &Digest,
    broken: fn(&Digest) -> Error,
) -> Result<(RepoId, Blob, rows::Link)> {
    let repo = repositories::expect(tx, repo).await?;
    let link = find_link(tx, repo, digest).await?.ok_or(Error::NotFound(What::Blob))?;
    let content = intact(tx, &link.sha256).await?.ok_or_else(|| broken(digest))?;
    Ok((repo, Blob { size: content.size, sha256: link.sha256, location: content.location }, link))
}

/// A manifest of the repository whose edge protects this digest.
pub(super) async fn named_by(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<Digest>> {
    let prefix = keys::edges_to(repo, digest);
    let mut after = None;
    loop {
        let page = tx.range(&prefix, after.as_deref(), 100).await?;
        for (key, kinds) in &page {
            if kinds.iter().any(|kinds| kinds & !kind::SUBJECT != 0) {
                return keys::read_edge(key, &prefix).map(Some);
            }
        }
        match page.into_iter().last() {
            None => return Ok(None),
            Some((key, _)) => after = Some(key),
        }
    }
}
