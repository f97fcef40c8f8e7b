// SPDX-License-Identifier: AGPL-3.0-only
//! Puts signatures and attestations beside an image at a registry, where clients look for them: as a bundle that refers
//! to it, or as a layer below a tag of its digest. What is written is made by [`stella_policy::sign`]; the digest that
//! is signed is found once, and what is signed is that.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures_util::stream;
use stella_policy::sign::{self, Layer, LegacyManifest, PredicateType};
use stella_policy::{PrivateKey, Time};
use stella_storage::{Algorithm, Digest, Reference};

use crate::remote::{Content, Error, ImageName, Manifest, Remote, Result};
use crate::source::theirs;

/// The most manifests that are signed at once, and how deep indexes may list indexes.
const MOST: usize = 1000;
const MOST_DEPTH: usize = 3;
/// The config beside legacy signatures has a line for each.
const MOST_CONFIG: usize = 1 << 20;

/// Who signs, and where that is written.
pub(crate) struct Signer {
    pub(crate) key: PrivateKey,
    pub(crate) remote: Remote,
    /// Host and repository, as they stand in what is signed.
    pub(crate) place: String,
    /// As a bundle, else below a tag.
    pub(crate) as_bundle: bool,
    pub(crate) now: Time,
}

/// What an attestation says.
pub(crate) struct Attestation<'a> {
    pub(crate) kind: &'a PredicateType,
    pub(crate) predicate: &'a [u8],
}

impl Signer {
    /// What is to be signed: the manifest that `name` means now, and with `recursive` all that is below it. What is
    /// below comes first, so that an index is signed only when all of it is.
    pub(crate) async fn subjects(&self, name: &ImageName, recursive: bool) -> Result<Vec<Manifest>> {
        let root = self.remote.manifest(&name.reference()?).await?;
        if !recursive {
            return Ok(vec![root]);
        }
        let mut seen = HashSet::from([root.digest.clone()]);
        let mut all = Vec::new();
        let mut level = vec![root];
        for _ in 0..=MOST_DEPTH {
            let mut below = Vec::new();
            for manifest in &level {
                for child in manifest.document.manifests().iter().filter(|child| child.is_manifest()) {
                    if seen.len() > MOST {
                        return Err(Error::OverLimit(format!("more than {MOST} manifests are below it")));
                    }
                    if seen.insert(child.digest.clone()) {
                        below.push(self.remote.manifest(&Reference::Digest(child.digest.clone())).await?);
                    }
                }
            }
            all.append(&mut level);
            if below.is_empty() {
                all.reverse();
                return Ok(all);
            }
            level = below;
        }
        Err(Error::OverLimit(format!("indexes list indexes, more than {MOST_DEPTH} deep")))
    }

    /// Signs one manifest; whether that was new.
    pub(crate) async fn sign(
        &self,
        subject: &Manifest,
        annotations: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let digest = theirs(&subject.digest).map_err(refused)?;
        if self.as_bundle {
            let statement = sign::sign_statement(&digest, annotations).map_err(refused)?;
            return self.attach(subject, &statement, sign::SIGN_PREDICATE).await.map(|()| true);
        }
        let payload = sign::payload(&self.place, &digest, annotations).map_err(refused)?;
        let tag = sign::legacy_tag(&digest, "sig");
        let manifest = self.legacy(&tag).await?;
        if manifest.has_signature(&self.key, &payload) {
            return Ok(false);
        }
        let layer = Layer::signature(&self.key, payload).map_err(refused)?;
        self.add(&tag, manifest, layer).await.map(|()| true)
    }

    /// Signs a statement about one manifest.
    pub(crate) async fn attest(&self, subject: &Manifest, said: &Attestation<'_>) -> Result<()> {
        let digest = theirs(&subject.digest).map_err(refused)?;
        let statement = sign::attest_statement(&self.place, &digest, said.kind, said.predicate, self.now);
        let statement = statement.map_err(refused)?;
        if self.as_bundle {
            return self.attach(subject, &statement, said.kind.uri()).await;
        }
        let tag = sign::legacy_tag(&digest, "att");
        let manifest = self.legacy(&tag).await?;
        let layer = Layer::attestation(&self.key, &statement, said.kind.uri()).map_err(refused)?;
        self.add(&tag, manifest, layer).await
    }

    /// Signs a statement into a bundle, and has it refer to its subject.
    async fn attach(&self, subject: &Manifest, statement: &[u8], kind: &str) -> Result<()> {
        let bundle = sign::statement_bundle(&self.key, statement).map_err(refused)?;
        let named = stella_policy::Descriptor {
            media_type: subject.media_type.clone(),
            digest: theirs(&subject.digest).map_err(refused)?,
            size: subject.bytes.len() as u64,
            artifact_type: None,
            annotations: None,
        };
        let manifest = sign::referrer(&named, &bundle, kind, self.now).map_err(refused)?;
        self.push_blob(sign::EMPTY_CONFIG.into()).await?;
        self.push_blob(bundle.into()).await?;
        let manifest = Manifest::checked(None, None, manifest.into())?;
        let reference = Reference::Digest(manifest.digest.clone());
        if !self.remote.put_manifest(&reference, &manifest).await? {
            // A registry that does not list referrers itself.
            self.remote.add_to_fallback(&subject.digest, &manifest.descriptor()).await?;
        }
        Ok(())
    }

    /// What is below a tag for signatures now.
    async fn legacy(&self, tag: &str) -> Result<LegacyManifest> {
        let manifest = match self.remote.raw_manifest(&reference(tag)?).await {
            Err(Error::NotFound(_)) => return Ok(LegacyManifest::default()),
            found => found?.2,
        };
        let config = LegacyManifest::config_of(&manifest).map_err(refused)?;
        let config = crate::source::ours(&config).map_err(refused)?;
        let config = self.remote.small_blob(&config, MOST_CONFIG).await?;
        LegacyManifest::read(&manifest, &config).map_err(refused)
    }

    async fn add(&self, tag: &str, mut manifest: LegacyManifest, layer: Layer) -> Result<()> {
        manifest.add(&layer).map_err(refused)?;
        self.push_blob(layer.bytes.into()).await?;
        self.push_blob(manifest.config().to_vec().into()).await?;
        let bytes = manifest.to_json().map_err(refused)?;
        let manifest = Manifest::checked(None, Some(manifest.media_type()), bytes.into())?;
        self.remote.put_manifest(&reference(tag)?, &manifest).await.map(|_| ())
    }

    async fn push_blob(&self, bytes: Bytes) -> Result<()> {
        let digest: Digest = Algorithm::Sha256.digest(&bytes);
        let open = || {
            let piece = bytes.clone();
            let content =
                Content::verified(&digest, bytes.len() as u64, stream::once(async move { Ok(piece) }));
            async move { content }
        };
        self.remote.push_blob(&digest, None, open).await.map(|_| ())
    }
}

fn reference(tag: &str) -> Result<Reference> {
    let tag = tag.parse().map_err(|error: stella_storage::Error| Error::Failed(error.to_string()))?;
    Ok(Reference::Tag(tag))
}

fn refused(error: stella_policy::Error) -> Error {
    match error {
        stella_policy::Error::Malformed(message) => Error::Integrity(message),
        stella_policy::Error::OverLimit(message) => Error::OverLimit(message),
        other => Error::Failed(other.to_string()),
    }
}
