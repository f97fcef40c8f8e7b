// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests in repositories: storing one with its edges and tags, and reading.

use bytes::Bytes;

use super::lease::Moment;
use super::tag_guard::{self, TagGuard};
use super::tags::Release;
use super::{Actor, ManifestState, Store, View, blobs, gate, repositories, tags};
use crate::clock::Timestamp;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId, Review};
use crate::kv::{ReadTx, WriteTx};
use crate::manifest::Manifest;
use crate::name::{Reference, RepoName, Tag};
use crate::rows::{self, kind};

mod deletion;

pub(super) use deletion::erase;

/// A manifest to store.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// The repository.
    pub repo: RepoName,
    /// The digest of `bytes`, checked by the caller, in the algorithm that names the manifest.
    pub digest: Digest,
    /// The document exactly as pushed.
    pub bytes: Bytes,
    /// What the document says.
    pub manifest: Manifest,
    /// Tags that shall point at it.
    pub tags: Vec<Tag>,
    /// What must hold for it to be stored.
    pub condition: Option<TagCondition>,
    /// Who pushes.
    pub actor: Actor,
    /// Whether every layer was read and is a signature, an attestation or a bundle.
    pub evidence: bool,
    /// Whether readers see its tags move only once it is released ([`Store::release`]); evidence they see at once.
    pub held: bool,
    /// What the pusher may do to tags.
    pub rights: TagRights,
}

/// What a pusher may do to tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagRights {
    /// Whether it may set and move protected tags.
    pub may_change_protected: bool,
    /// Whether it may push evidence alone: then a tag that names anything else stays where it is.
    pub only_evidence: bool,
    /// Whether it may set a tag such as `sha256-….sig` only to what has all the layers that are there.
    pub append_only: bool,
}

/// A condition on what the first tag, or the digest itself, names at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagCondition {
    /// It names one of these (`If-Match`).
    Is(Vec<Digest>),
    /// It names something (`If-Match: *`).
    Exists,
    /// It names none of these (`If-None-Match`).
    IsNot(Vec<Digest>),
    /// It names nothing (`If-None-Match: *`).
    Absent,
}

impl TagCondition {
    fn holds(&self, present: Option<&Digest>) -> bool {
        match (self, present) {
            (TagCondition::Is(digests), Some(present)) => digests.contains(present),
            (TagCondition::IsNot(digests), Some(present)) => !digests.contains(present),
            (TagCondition::Exists, present) => present.is_some(),
            (TagCondition::Absent, present) => present.is_none(),
            (TagCondition::Is(_), None) => false,
            (TagCondition::IsNot(_), None) => true,
        }
    }
}

/// A stored manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutManifest {
    /// What is odd but accepted, as sentences for a person.
    pub warnings: Vec<String>,
    /// What each tag pointed at before, in the order in which they were given.
    pub previous: Vec<Option<Digest>>,
}

/// What a HEAD tells of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest by which it was pushed.
    pub digest: Digest,
    /// The media type with which it was pushed.
    pub media_type: String,
    /// Bytes.
    pub size: u64,
    /// What a policy gate judges it by.
    pub state: ManifestState,
    /// What was pushed to the tag since, where that is not what is read.
    pub candidate: Option<Digest>,
}

/// A manifest and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// What a HEAD tells.
    pub head: ManifestHead,
    /// The document exactly as pushed.
    pub bytes: Bytes,
}

impl Store {
    /// Stores a manifest with its edges and moves its tags, all or nothing.
    pub async fn put_manifest(&self, new: NewManifest) -> Result<PutManifest> {
        self.room.check(new.bytes.len() as u64)?;
        let (moment, allow_missing) = (self.moment(), self.allows_missing());
        let sha256 = match Algorithm::Sha256.digest(&new.bytes) {
            Digest::Sha256(bytes) => bytes,
            other => return Err(Error::Corrupt(format!("{other} is not a sha256"))),
        };
        let size = new.bytes.len() as u64;
        let referrer = match &new.manifest.subject {
            None => None,
            Some(_) => Some(new.manifest.referrer_descriptor(&new.digest, size)?),
        };
        let guard = TagGuard::new(&self.rules(), &new.repo, new.rights.may_change_protected);
        let stamp = self.new_stamp();
        let weight = new.bytes.len() * 2 + new.manifest.references.len() * 512;
        self.engine
            .write(weight, async move |tx: &mut WriteTx| {
                let repo = repositories::intern(tx, &new.repo, moment.now).await?;
                let present = find(tx, repo, &new.digest).await?;
                check_condition(tx, repo, &new, present.is_some()).await?;
                let warnings = check_references(tx, repo, &new.manifest, allow_missing).await?;
                // What it once was found to be, the same bytes still are.
                let evidence = new.evidence || present.as_ref().is_some_and(|row| row.evidence);
                let released_at = present.as_ref().and_then(|row| row.released_at);
                let stored = Stored { sha256, size, evidence, stamp, released_at };
                match present {
                    Some(row) if is_whole(tx, repo, &new).await? => renew(tx, repo, &new, row, moment)?,
                    // Also over one whose bytes are damaged: that heals it.
                    _ => {
                        store(tx, repo, &new, stored, referrer.as_deref(), moment)?;
                        if let Some(subject) = &new.manifest.subject {
                            gate::touch(tx, repo, subject).await?;
                        }
                        gate::touch_above(tx, repo, &new.digest).await?;
                    }
                }
                // Evidence takes the place of evidence at once, and of nothing else.
                let release = |tag: &Tag| match tag.subject() {
                    Some(_) if evidence => Release::Now,
                    _ if new.held => Release::Later,
                    _ => Release::Now,
                };
                let mut previous = Vec::with_capacity(new.tags.len());
                for tag in &new.tags {
                    if new.rights.only_evidence {
                        tag_guard::names_evidence(tx, repo, tag).await?;
                    }
                    guard.may_set(tx, repo, tag, &new.digest, evidence).await?;
                    if new.rights.append_only {
                        tag_guard::keeps_layers(tx, repo, tag, &new.bytes).await?;
                    }
                    let target = (&new.digest, release(tag));
                    previous.push(tags::set(tx, repo, tag, target, &new.actor, moment.now).await?);
                }
                Ok(PutManifest { warnings, previous })
            })
            .await
    }

    /// A manifest with its bytes.
    pub async fn manifest(&self, repo: &RepoName, reference: &Reference) -> Result<StoredManifest> {
        match self.manifest_within(repo, reference, View::Pushed, u64::MAX).await? {
            (head, Some(bytes)) => Ok(StoredManifest { head, bytes }),
            (head, None) => Err(gone(&head.digest)),
        }
    }

    /// What a HEAD tells, and the bytes too if they are at most `most`: a caller that must find memory
    /// for a large manifest first asks again then.
    pub async fn manifest_within(
        &self,
        repo: &RepoName,
        reference: &Reference,
        view: View,
        most: u64,
    ) -> Result<(ManifestHead, Option<Bytes>)> {
        let (head, sha256, found) = self
            .engine
            .read(async |tx: &mut ReadTx| {
                let (id, head, row) = resolve(tx, repo, reference, view).await?;
                if head.size > most {
                    return Ok((head, row.sha256, None));
                }
                let found = match self.cache.get(&row.sha256) {
                    Some(bytes) => Found::Cached(bytes),
                    None => Found::Stored(tx.get(&keys::manifest_bytes(id, &head.digest)).await?),
                };
                Ok((head, row.sha256, Some(found)))
            })
            .await?;
        let stored = match found {
            None => return Ok((head, None)),
            Some(Found::Cached(bytes)) => return Ok((head, Some(bytes))),
            Some(Found::Stored(bytes)) => bytes.map(Bytes::from),
        };
        match stored {
            Some(bytes) if self.cache.keep(&sha256, &bytes) => Ok((head, Some(bytes))),
            _ => Err(gone(&head.digest)),
        }
    }

    /// What a HEAD tells, for someone who may push: of what was pushed last, and a positive answer promises that it stays.
    pub async fn manifest_for_push(&self, repo: &RepoName, reference: &Reference) -> Result<ManifestHead> {
        let (_, head, row) = self
            .engine
            .read(async |tx: &mut ReadTx| resolve(tx, repo, reference, View::Pushed).await)
            .await?;
        // After a commit whose outcome is unknown, what was read need not be durable: a write makes it so.
        if self.moment().extended(row.lease_until).is_none() && self.engine.health().is_ok() {
            return Ok(head);
        }
        let (repo, reference, moment) = (repo.clone(), reference.clone(), self.moment());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let (id, head, mut row) = resolve(tx, &repo, &reference, View::Pushed).await?;
                row.lease_until = row.lease_until.max(moment.lease());
                tx.put(keys::manifest(id, &head.digest), rows::encode(&row)?)?;
                Ok(head)
            })
            .await
    }
}

/// Where the bytes of a manifest were found.
enum Found {
    Cached(Bytes),
    Stored(Option<Vec<u8>>),
}

/// The error for a reader whose manifest is there and cannot be served.
fn gone(digest: &Digest) -> Error {
    Error::Corrupt(format!("the bytes of manifest {digest} are gone or damaged; push it again"))
}

pub(super) async fn find(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<rows::Manifest>> {
    tx.get(&keys::manifest(repo, digest)).await?.map(|row| rows::decode(&row)).transpose()
}

async fn resolve(
    tx: &mut ReadTx,
    repo: &RepoName,
    reference: &Reference,
    view: View,
) -> Result<(RepoId, ManifestHead, rows::Manifest)> {
    let repo = repositories::expect(tx, repo).await?;
    let unknown = Error::NotFound(What::Manifest);
    let (digest, candidate) = match reference {
        Reference::Digest(digest) => (digest.clone(), None),
        Reference::Tag(tag) => {
            let row = tags::find(tx, repo, tag).await?.ok_or_else(|| unknown.clone())?;
            match (view, row.released, row.candidate) {
                (View::Released, Some(released), candidate) => {
                    let candidate = candidate.filter(|candidate| *candidate != released);
                    (released, candidate)
                }
                (View::Released, None, Some(candidate)) => return Err(Error::Unreleased(candidate)),
                (View::Pushed, _, Some(candidate)) => (candidate, None),
                (View::Pushed, Some(released), None) => (released, None),
                (_, None, None) => return Err(unknown),
            }
        }
    };
    let row = find(tx, repo, &digest).await?.ok_or(unknown)?;
    let (media_type, state) = (row.media_type.clone(), ManifestState::from(&row));
    let head = ManifestHead { digest, media_type, size: row.size, state, candidate };
    Ok((repo, head, row))
}

async fn check_condition(tx: &mut WriteTx, repo: RepoId, new: &NewManifest, stored: bool) -> Result<()> {
    let Some(condition) = &new.condition else { return Ok(()) };
    let present = match new.tags.first() {
        Some(tag) => tags::find(tx, repo, tag).await?.and_then(|row| row.candidate),
        None => stored.then(|| new.digest.clone()),
    };
    if condition.holds(present.as_ref()) { Ok(()) } else { Err(Error::ConditionFailed) }
}

/// Refuses required blobs that are missing; reports sizes that are wrong.
async fn check_references(
    tx: &mut WriteTx,
    repo: RepoId,
    manifest: &Manifest,
    allow_missing: bool,
) -> Result<Vec<String>> {
    let (mut missing, mut warnings) = (Vec::new(), manifest.warnings.clone());
    for reference in manifest.references.iter().filter(|r| r.kinds & (kind::CONFIG | kind::LAYER) != 0) {
        match blobs::find_link(tx, repo, &reference.digest).await? {
            None if reference.required && !allow_missing => missing.push(reference.digest.clone()),
            Some(link) if link.size != reference.size => warnings.push(format!(
                "the manifest says that {} has {} bytes, it has {}",
                reference.digest, reference.size, link.size
            )),
            _ => {}
        }
    }
    if missing.is_empty() { Ok(warnings) } else { Err(Error::MissingBlobs(missing)) }
}

/// Whether the bytes of a stored manifest are those that its digest promises.
async fn is_whole(tx: &mut ReadTx, repo: RepoId, new: &NewManifest) -> Result<bool> {
    let present = tx.get(&keys::manifest_bytes(repo, &new.digest)).await?;
    Ok(present.is_some_and(|present| present == new.bytes))
}

/// A manifest that is pushed again: the promise is renewed, what it is stays.
fn renew(
    tx: &mut WriteTx,
    repo: RepoId,
    new: &NewManifest,
    mut row: rows::Manifest,
    moment: Moment,
) -> Result<()> {
    if row.media_type != new.manifest.media_type {
        return Err(Error::InvalidManifest(format!(
            "this manifest is stored with the media type {}, which its first push fixed",
            row.media_type
        )));
    }
    let lease_until = moment.extended(row.lease_until);
    if lease_until.is_none() && row.evidence >= new.evidence {
        return Ok(());
    }
    row.lease_until = lease_until.unwrap_or(row.lease_until);
    if new.evidence && !row.evidence {
        row.evidence = true;
        row.stamp = row.stamp.wrapping_add(1);
    }
    tx.put(keys::manifest(repo, &new.digest), rows::encode(&row)?)
}

/// What is stored of a manifest beside what it says.
pub(super) struct Stored {
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
    pub(super) evidence: bool,
    pub(super) stamp: u64,
    pub(super) released_at: Option<Timestamp>,
}

pub(super) fn store(
    tx: &mut WriteTx,
    repo: RepoId,
    new: &NewManifest,
    Stored { sha256, size, evidence, stamp, released_at }: Stored,
    referrer: Option<&[u8]>,
    moment: Moment,
) -> Result<()> {
    let (digest, manifest) = (&new.digest, &new.manifest);
    let lease_until = moment.lease();
    let row = rows::Manifest {
        media_type: manifest.media_type.clone(),
        size,
        sha256,
        artifact_type: manifest.artifact_type.clone(),
        subject: manifest.subject.clone(),
        lease_until,
        created: moment.now,
        pusher: new.actor.subject.clone(),
        session: new.actor.session.clone(),
        released_left: None,
        orphaned: None,
        evidence,
        stamp,
        released_at,
    };
    tx.put(keys::manifest(repo, digest), rows::encode(&row)?)?;
    tx.put(keys::manifest_bytes(repo, digest), new.bytes.to_vec())?;
    tx.put(keys::review(lease_until, &Review::Object(repo, digest.clone())), Vec::new())?;
    let edges = manifest
        .references
        .iter()
        .map(|reference| rows::Reference { target: reference.digest.clone(), kinds: reference.kinds })
        .collect();
    tx.put(keys::references(repo, digest), rows::encode(&rows::References { edges })?)?;
    for reference in &manifest.references {
        tx.put(keys::edge(repo, &reference.digest, digest), vec![reference.kinds])?;
    }
    if let (Some(subject), Some(descriptor)) = (&manifest.subject, referrer) {
        let artifact_type = manifest.artifact_type.as_deref().unwrap_or_default();
        tx.put(keys::referrer(repo, subject, artifact_type, digest), descriptor.to_vec())?;
    }
    Ok(())
}
