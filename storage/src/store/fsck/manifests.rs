// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests: the document decides. Its bytes are hashed and read again, and every other row of it
//! must say what the document says.
//!
//! Where the document itself is damaged, what names its blobs is left as it is, so that they are still
//! there when it is pushed again.

use super::Basis;
use super::found::{At, Change, Findings, Held, hold, read};
use super::report::FaultKind;
use uuid::Uuid;

use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::keys::{self, RepoId, Review};
use crate::kv::ReadTx;
use crate::manifest::Manifest;
use crate::rows;

const PUSH_AGAIN: &str = "push the manifest again: that heals it; or delete it";

/// A manifest's document.
enum Document {
    Absent,
    /// Its bytes do not have its digest.
    Damaged,
    Intact(Vec<u8>),
}

async fn document(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Document> {
    Ok(match tx.get(&keys::manifest_bytes(repo, digest)).await? {
        None => Document::Absent,
        Some(bytes) if has_digest(&bytes, digest) => Document::Intact(bytes),
        Some(_) => Document::Damaged,
    })
}

fn has_digest(bytes: &[u8], digest: &Digest) -> bool {
    digest.algorithm().is_some_and(|algorithm| algorithm.digest(bytes) == *digest)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    match Algorithm::Sha256.digest(bytes) {
        Digest::Sha256(sha256) => sha256,
        _ => [0; 32],
    }
}

/// The row of a manifest that lost its own.
fn rebuilt(basis: &Basis, bytes: &[u8], manifest: &Manifest) -> rows::Manifest {
    let moment = basis.moment();
    rows::Manifest {
        media_type: manifest.media_type.clone(),
        size: bytes.len() as u64,
        sha256: sha256(bytes),
        artifact_type: manifest.artifact_type.clone(),
        subject: manifest.subject.clone(),
        lease_until: moment.lease(),
        created: moment.now,
        pusher: String::new(),
        session: None,
        released_left: None,
        orphaned: None,
        // What its layers are, the next push says again.
        evidence: false,
        stamp: Uuid::new_v4().as_u64_pair().1,
        released_at: None,
    }
}

pub(super) async fn manifest(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, digest): (RepoId, &Digest),
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let (key, at) = (keys::manifest(repo, digest), At::digest(repo, digest));
    let row = read::<rows::Manifest>(value);
    let bytes = match document(tx, repo, digest).await? {
        Document::Intact(bytes) => bytes,
        broken => {
            if row == Held::Unreadable {
                let what = "neither the row nor the bytes of this manifest can be read";
                let how = "the manifest is removed; push it again";
                let changes = vec![Change::Delete(key), Change::Delete(keys::manifest_bytes(repo, digest))];
                found.change(FaultKind::RowUnreadable, at, what, how, changes);
                return Ok(());
            }
            let (kind, what) = match broken {
                Document::Absent => (FaultKind::ManifestBytesMissing, "the manifest's bytes are gone"),
                _ => (FaultKind::ManifestBytesDamaged, "the manifest's bytes do not have its digest"),
            };
            found.manual(kind, at, what, PUSH_AGAIN);
            return by_references(tx, repo, digest, found).await;
        }
    };
    found.manifests += 1;
    let parsed = match &row {
        Held::Row(row) => Manifest::parse(&bytes, Some(&row.media_type)),
        _ => Manifest::parse(&bytes, None),
    };
    let manifest = match parsed.or_else(|error| Manifest::parse(&bytes, None).map_err(|_| error)) {
        Ok(manifest) => manifest,
        Err(error) => {
            let what = format!("the document breaks the rules for manifests: {error}");
            found.manual(FaultKind::ManifestInvalid, at, what, "delete it, or leave it");
            return by_references(tx, repo, digest, found).await;
        }
    };
    if let Held::Row(row) = row {
        let right = rows::Manifest {
            media_type: manifest.media_type.clone(),
            size: bytes.len() as u64,
            sha256: sha256(&bytes),
            artifact_type: manifest.artifact_type.clone(),
            subject: manifest.subject.clone(),
            ..row.clone()
        };
        if row != right {
            let what = "the manifest's row says other than its document";
            let how = "the row says what the document says";
            let changes = vec![Change::row(key, &right)?];
            found.change(FaultKind::ManifestRowWrong, at.clone(), what, how, changes);
        }
    } else {
        let row = rebuilt(basis, &bytes, &manifest);
        let review = Review::Object(repo, digest.clone());
        let changes =
            vec![Change::row(key, &row)?, Change::Put(keys::review(row.lease_until, &review), Vec::new())];
        let what = "the manifest's row cannot be read";
        let how = "the row is made anew from the document";
        found.change(FaultKind::RowUnreadable, at.clone(), what, how, changes);
    }
    by_document(tx, (repo, digest), &bytes, &manifest, found).await?;
    if basis.needs_review(tx, repo, digest).await? {
        found.unprotected.push(Review::Object(repo, digest.clone()));
    }
    Ok(())
}

/// Compares references, edges and the referrer's entry with the document.
async fn by_document(
    tx: &mut ReadTx,
    (repo, digest): (RepoId, &Digest),
    bytes: &[u8],
    manifest: &Manifest,
    found: &mut Findings,
) -> Result<()> {
    let edges = manifest.references.iter();
    let edges = edges.map(|one| rows::Reference { target: one.digest.clone(), kinds: one.kinds }).collect();
    let right = rows::References { edges };
    let key = keys::references(repo, digest);
    if hold::<rows::References>(tx, &key).await?.row().as_ref() != Some(&right) {
        let what = "the references of this manifest are not those of its document";
        let changes = vec![Change::row(key, &right)?];
        let how = "the references are those of the document";
        found.change(FaultKind::ReferencesWrong, At::digest(repo, digest), what, how, changes);
    }
    edges_of(tx, repo, digest, &right, found).await?;
    let Some(subject) = &manifest.subject else { return Ok(()) };
    let artifact_type = manifest.artifact_type.as_deref().unwrap_or_default();
    let key = keys::referrer(repo, subject, artifact_type, digest);
    let descriptor = manifest.referrer_descriptor(digest, bytes.len() as u64)?;
    let (kind, what) = match tx.get(&key).await? {
        Some(present) if present == descriptor => return Ok(()),
        Some(_) => (FaultKind::ReferrerWrong, "the subject lists this referrer with another descriptor"),
        None => (FaultKind::ReferrerMissing, "the subject does not list this referrer"),
    };
    let how = "the subject lists it";
    found.change(kind, At::digest(repo, digest), what, how, vec![Change::Put(key, descriptor)]);
    Ok(())
}

/// Compares the edges with the references: all that is left to go by when the document is damaged.
async fn by_references(tx: &mut ReadTx, repo: RepoId, digest: &Digest, found: &mut Findings) -> Result<()> {
    let references = hold::<rows::References>(tx, &keys::references(repo, digest)).await?;
    if let Held::Row(references) = references {
        return edges_of(tx, repo, digest, &references, found).await;
    }
    let what = "the references of this manifest are gone, and its document too";
    found.manual(FaultKind::ReferencesWrong, At::digest(repo, digest), what, PUSH_AGAIN);
    Ok(())
}

async fn edges_of(
    tx: &mut ReadTx,
    repo: RepoId,
    digest: &Digest,
    references: &rows::References,
    found: &mut Findings,
) -> Result<()> {
    for rows::Reference { target, kinds } in &references.edges {
        let key = keys::edge(repo, target, digest);
        if tx.get(&key).await?.is_none_or(|value| value != [*kinds]) {
            let what = format!("{target}, which this manifest names, does not know that rightly");
            let changes = vec![Change::Put(key, vec![*kinds])];
            let how = "what it names knows the manifest";
            found.change(FaultKind::EdgeMissing, At::digest(repo, digest), what, how, changes);
        }
    }
    Ok(())
}

pub(super) async fn manifest_bytes(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, digest): (RepoId, &Digest),
    bytes: &[u8],
    found: &mut Findings,
) -> Result<()> {
    if tx.get(&keys::manifest(repo, digest)).await?.is_some() {
        return Ok(());
    }
    let (key, at) = (keys::manifest_bytes(repo, digest), At::digest(repo, digest));
    if has_digest(bytes, digest)
        && let Ok(manifest) = Manifest::parse(bytes, None)
    {
        let row = rebuilt(basis, bytes, &manifest);
        let review = Review::Object(repo, digest.clone());
        let changes = vec![
            Change::row(keys::manifest(repo, digest), &row)?,
            Change::Put(keys::review(row.lease_until, &review), Vec::new()),
        ];
        let what = "the bytes of this manifest are here, its row is gone";
        let how = "the row is made anew from the document";
        found.change(FaultKind::ManifestRowMissing, at, what, how, changes);
        return Ok(());
    }
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let home = algorithm.digest(bytes);
        let lost = tx.get(&keys::manifest(repo, &home)).await?.is_some()
            && !matches!(document(tx, repo, &home).await?, Document::Intact(_));
        if lost {
            let what = format!("these are the bytes of {home}, which lacks them");
            let changes =
                vec![Change::Put(keys::manifest_bytes(repo, &home), bytes.to_vec()), Change::Delete(key)];
            let how = "they are where they belong";
            found.change(FaultKind::ManifestBytesStray, at, what, how, changes);
            return Ok(());
        }
    }
    let what = "these bytes belong to no manifest";
    found.change(FaultKind::ManifestBytesStray, at, what, "they are removed", vec![Change::Delete(key)]);
    Ok(())
}

/// Whether nothing of a manifest is left from which it could be made anew.
async fn is_gone(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<bool> {
    Ok(tx.get(&keys::manifest(repo, digest)).await?.is_none()
        && tx.get(&keys::manifest_bytes(repo, digest)).await?.is_none())
}

/// What the document says, if it is intact.
async fn intact(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Option<Manifest>> {
    Ok(match document(tx, repo, digest).await? {
        Document::Intact(bytes) => Manifest::parse(&bytes, None).ok(),
        _ => None,
    })
}

pub(super) async fn references(
    tx: &mut ReadTx,
    (repo, digest): (RepoId, &Digest),
    found: &mut Findings,
) -> Result<()> {
    if is_gone(tx, repo, digest).await? {
        let changes = vec![Change::Delete(keys::references(repo, digest))];
        let what = "the manifest of these references is gone";
        let at = At::digest(repo, digest);
        found.change(FaultKind::ReferencesStray, at, what, "they are removed", changes);
    }
    Ok(())
}

pub(super) async fn edge(
    tx: &mut ReadTx,
    basis: &Basis,
    (repo, target, manifest): (RepoId, &Digest, &Digest),
    found: &mut Findings,
) -> Result<()> {
    let references = hold::<rows::References>(tx, &keys::references(repo, manifest)).await?;
    if references.row().is_some_and(|row| row.edges.iter().any(|one| one.target == *target)) {
        return Ok(());
    }
    if !is_gone(tx, repo, manifest).await? {
        // Without its document nobody knows what a manifest names: it keeps what it may name.
        let Some(document) = intact(tx, repo, manifest).await? else { return Ok(()) };
        if document.references.iter().any(|one| one.digest == *target) {
            return Ok(());
        }
    }
    let changes = vec![
        Change::Delete(keys::edge(repo, target, manifest)),
        Change::review(basis.moment(), &Review::Object(repo, target.clone())),
    ];
    let what = format!("it is held by the manifest {manifest}, which does not name it");
    let how = "it is not held by that any more";
    found.change(FaultKind::EdgeStray, At::digest(repo, target), what, how, changes);
    Ok(())
}

pub(super) async fn referrer(
    tx: &mut ReadTx,
    (repo, subject, artifact_type, manifest): (RepoId, &Digest, &str, &Digest),
    found: &mut Findings,
) -> Result<()> {
    let fits = |has: &Option<Digest>, kind: &Option<String>| {
        has.as_ref() == Some(subject) && kind.as_deref().unwrap_or_default() == artifact_type
    };
    match hold::<rows::Manifest>(tx, &keys::manifest(repo, manifest)).await? {
        Held::Row(row) if fits(&row.subject, &row.artifact_type) => return Ok(()),
        Held::Absent if is_gone(tx, repo, manifest).await? => {}
        _ => {
            let Some(document) = intact(tx, repo, manifest).await? else { return Ok(()) };
            if fits(&document.subject, &document.artifact_type) {
                return Ok(());
            }
        }
    }
    let changes = vec![Change::Delete(keys::referrer(repo, subject, artifact_type, manifest))];
    let what = format!("it lists {manifest} as a referrer of type {artifact_type:?}, which that is not");
    let how = "it is not listed any more";
    found.change(FaultKind::ReferrerStray, At::digest(repo, subject), what, how, changes);
    Ok(())
}
