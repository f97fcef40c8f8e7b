// SPDX-License-Identifier: AGPL-3.0-only
//! A repository of the local store, as the policy engine reads it ([`stella_policy::Source`]), and what its artifacts are
//! made of.

use std::collections::HashSet;

use serde::Deserialize;
use stella_policy as policy;
use stella_storage::{Digest, Error, Reference, RepoName, Store, Tag, View};

use crate::source::{ours, theirs};

/// Descriptors that are read from a list of referrers at once.
const AT_ONCE: usize = 1_000;
const AT_ONCE_BYTES: usize = 4 << 20;
/// Referrers of a manifest that are passed over, whatever they are, in search of evidence.
const PASSED_OVER: usize = 200_000;
/// How deep an index is looked into, and how many manifests are below it at most (DESIGN §5.1).
const DEEPEST: usize = 3;
const MOST_BELOW: usize = 1_000;
/// How many contents all of them have at most.
const MOST_PARTS: usize = 100_000;

/// A repository of the local store.
pub(super) struct LocalSource<'s> {
    pub(super) store: &'s Store,
    pub(super) repo: &'s RepoName,
}

impl policy::Source for LocalSource<'_> {
    async fn manifest(&self, reference: &policy::Reference) -> policy::Result<Option<policy::Manifest>> {
        let reference = match reference {
            policy::Reference::Digest(digest) => Reference::Digest(ours(digest)?),
            policy::Reference::Tag(tag) => match tag.parse::<Tag>() {
                Ok(tag) => Reference::Tag(tag),
                Err(_) => return Ok(None),
            },
        };
        let most = policy::Manifest::MOST;
        let read = self.store.manifest_within(self.repo, &reference, View::Pushed, most).await;
        let Some((head, bytes)) = found(read)? else { return Ok(None) };
        let Some(bytes) = bytes else {
            return Err(policy::Error::OverLimit(format!(
                "a manifest of {} bytes; at most {most}",
                head.size
            )));
        };
        let (digest, media_type) = (theirs(&head.digest)?, head.media_type);
        Ok(Some(policy::Manifest { digest, media_type, bytes: bytes.into() }))
    }

    async fn referrers(
        &self,
        subject: &policy::Digest,
        limit: usize,
    ) -> policy::Result<Vec<policy::Descriptor>> {
        let subject = ours(subject)?;
        let (mut evidence, mut seen, mut after) = (Vec::new(), 0, None);
        loop {
            let page = self.store.referrers(self.repo, &subject, &[], after, AT_ONCE, AT_ONCE_BYTES);
            let page = page.await.map_err(failed)?;
            seen += page.descriptors.len();
            let listed = page.descriptors.iter();
            // Annotations may be large, and nothing asks for them.
            let listed = listed.filter_map(|json| {
                let entry = serde_json::from_slice::<policy::Descriptor>(json).ok()?;
                Some(policy::Descriptor { annotations: None, ..entry })
            });
            // However many other attachments there are, they do not hide evidence.
            evidence.extend(listed.filter(|entry| policy::may_be_evidence(entry.artifact_type.as_deref())));
            after = page.next;
            if after.is_none() || evidence.len() >= limit || seen >= PASSED_OVER {
                evidence.truncate(limit);
                return Ok(evidence);
            }
        }
    }

    async fn blob(&self, digest: &policy::Digest, most: u64) -> policy::Result<Option<Vec<u8>>> {
        let Some(blob) = found(self.store.blob(self.repo, &ours(digest)?).await)? else { return Ok(None) };
        match found(self.store.read_small(&blob, most).await)? {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes.into())),
            Some(None) => {
                Err(policy::Error::OverLimit(format!("a blob of {} bytes; at most {most}", blob.size)))
            }
        }
    }
}

fn found<T>(outcome: Result<T, Error>) -> policy::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound(_)) => Ok(None),
        // One damaged signature must not take another's word away.
        Err(Error::Corrupt(why)) => {
            tracing::error!(why, "evidence cannot be read, and counts for nothing");
            Ok(None)
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: Error) -> policy::Error {
    policy::Error::Source(Box::new(error))
}

#[derive(Deserialize)]
struct Names {
    config: Option<Named>,
    layers: Option<Vec<Named>>,
    manifests: Option<Vec<Named>>,
    // Docker's first schema.
    #[serde(rename = "fsLayers")]
    fs_layers: Option<Vec<FsLayer>>,
}

#[derive(Deserialize)]
struct Named {
    digest: String,
}

#[derive(Deserialize)]
struct FsLayer {
    #[serde(rename = "blobSum")]
    digest: String,
}

/// What an artifact is known by and made of.
pub(super) struct Parts {
    pub(super) all: Vec<policy::Digest>,
    /// Its own config and layers.
    pub(super) direct: Vec<Digest>,
}

/// What an artifact is known by and made of: the digests that it names, down to the layers of all manifests below it, and
/// SHA-256 of each that is here under another name. For lists of denied digests, which are in SHA-256.
pub(super) async fn parts(store: &Store, repo: &RepoName, digest: &Digest) -> policy::Result<Parts> {
    let mut direct = Vec::new();
    let mut found: HashSet<Digest> = HashSet::new();
    let mut manifests = HashSet::from([digest.clone()]);
    let mut level = vec![digest.clone()];
    for depth in 0..=DEEPEST {
        let mut below = Vec::new();
        for digest in std::mem::take(&mut level) {
            let Some(state) = store.manifest_state(repo, &digest).await.map_err(failed)? else {
                // What an index lists may be missing, or be a blob.
                found.extend(store.sha256_of_blob(repo, &digest).await.map_err(failed)?);
                continue;
            };
            found.insert(state.sha256);
            let stored = store.manifest(repo, &Reference::Digest(digest.clone())).await.map_err(failed)?;
            let names = serde_json::from_slice::<Names>(&stored.bytes)
                .map_err(|error| policy::Error::Malformed(format!("{digest}: {error}")))?;
            let fs_layers = names.fs_layers.into_iter().flatten().map(|layer| layer.digest);
            let layers = names.config.into_iter().chain(names.layers.into_iter().flatten());
            for text in layers.map(|named| named.digest).chain(fs_layers) {
                let Ok(part) = text.parse::<Digest>() else { continue };
                if !matches!(part, Digest::Sha256(_)) {
                    found.extend(store.sha256_of_blob(repo, &part).await.map_err(failed)?);
                }
                if depth == 0 {
                    direct.push(part.clone());
                }
                found.insert(part);
            }
            let children = names.manifests.into_iter().flatten();
            let children = children.filter_map(|named| named.digest.parse::<Digest>().ok());
            below.extend(children.filter(|child| manifests.insert(child.clone())));
            if manifests.len() > MOST_BELOW || found.len() > MOST_PARTS {
                return Err(over());
            }
        }
        if below.is_empty() {
            break;
        }
        if depth == DEEPEST {
            return Err(over());
        }
        level = below;
    }
    found.extend(manifests);
    Ok(Parts { all: found.iter().filter_map(|digest| theirs(digest).ok()).collect(), direct })
}

fn over() -> policy::Error {
    policy::Error::OverLimit(format!(
        "more than {MOST_BELOW} manifests are below it, more than {DEEPEST} levels of them, or more than {MOST_PARTS} parts"
    ))
}
