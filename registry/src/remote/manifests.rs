// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests at a registry: what a tag or digest names (end-3), and how to put one there (end-7).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use stella_storage::manifest::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use stella_storage::{Algorithm, Digest, Reference};

use super::document::{Descriptor, Document, OCI_ARTIFACT};
use super::error::{Error, Result};
use super::{Access, Remote};

/// Larger than what registries take: most stop at 4 MiB.
pub(crate) const MAX_MANIFEST: usize = 8 << 20;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest or index with its exact bytes, which have its digest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) document: Document,
}

impl Manifest {
    /// Checks bytes that were received as `digest` and as `media_type`, where those are known.
    pub(crate) fn checked(digest: Option<&Digest>, media_type: Option<&str>, bytes: Bytes) -> Result<Self> {
        let found = verified(digest, &bytes)?;
        let document = Document::parse(&bytes)?;
        Ok(Manifest { digest: found, media_type: document.media_type_or(media_type), bytes, document })
    }

    /// How another manifest, or a list of referrers, names it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.bytes.len() as u64,
            artifact_type: self.document.effective_artifact_type(),
            annotations: self.document.annotations.clone(),
            platform: None,
            urls: None,
        }
    }
}

impl Remote {
    /// The digest that a tag names now; by HEAD where the registry tells it so, else the manifest is read.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Digest> {
        let call = self.call(Method::HEAD, Access::Pull, &format!("manifests/{reference}"))?;
        let response = self.registry.send(&call.header(header::ACCEPT, accept())).await;
        if let Ok(response) = response
            && response.status() == StatusCode::OK
            && let Some(digest) = content_digest(response.headers())
        {
            match reference {
                Reference::Digest(wanted) if *wanted != digest => {}
                _ => return Ok(digest),
            }
        }
        // A refusal of HEAD has no body that says why.
        Ok(self.manifest(reference).await?.digest)
    }

    /// Whether a manifest is there, without a look at it.
    pub(crate) async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let call = self.call(Method::HEAD, Access::Pull, &format!("manifests/{digest}"))?;
        let response = self.registry.send(&call.header(header::ACCEPT, accept())).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.registry.refusal(response).await),
        }
    }

    /// What a tag or digest names.
    pub(crate) async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        let (digest, media_type, bytes) = self.fetch(reference).await?;
        Manifest::checked(digest.as_ref(), media_type.as_deref(), bytes)
    }

    /// The same, whatever its bytes are; only that they have the digest is checked.
    pub(crate) async fn raw_manifest(&self, reference: &Reference) -> Result<(Digest, String, Bytes)> {
        let (digest, media_type, bytes) = self.fetch(reference).await?;
        let digest = verified(digest.as_ref(), &bytes)?;
        let media_type = media_type.unwrap_or_default();
        Ok((digest, media_type.split(';').next().unwrap_or_default().trim().to_owned(), bytes))
    }

    /// The digest that it must have, where one is known, the media type that is said of it, and its bytes.
    async fn fetch(&self, reference: &Reference) -> Result<(Option<Digest>, Option<String>, Bytes)> {
        let call = self.call(Method::GET, Access::Pull, &format!("manifests/{reference}"))?;
        let answer = self.registry.exchange(&call.header(header::ACCEPT, accept()), MAX_MANIFEST).await?;
        let told = content_digest(&answer.headers);
        let digest = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            // What the registry tells of itself is checked too. It may be a digest that we cannot compute.
            Reference::Tag(_) => told.filter(|told| told.algorithm().is_some()),
        };
        let media_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok((digest, media_type.map(str::to_owned), answer.body))
    }

    /// Puts a manifest there, under a tag or its digest; whether the registry takes care of its `subject`.
    pub(crate) async fn put_manifest(&self, reference: &Reference, manifest: &Manifest) -> Result<bool> {
        let media_type = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| Error::Integrity("its media type is none".to_owned()))?;
        let call = self.call(Method::PUT, Access::Push, &format!("manifests/{reference}"))?;
        let call = call.header(header::CONTENT_TYPE, media_type).body(manifest.bytes.clone());
        let answer = self.registry.exchange(&call, MAX_MANIFEST).await?;
        if let Some(stored) = content_digest(&answer.headers)
            && stored.algorithm() == manifest.digest.algorithm()
            && stored != manifest.digest
        {
            let wanted = &manifest.digest;
            return Err(Error::Integrity(format!("the registry made {stored} of manifest {wanted}")));
        }
        Ok(answer.headers.contains_key(SUBJECT))
    }
}

/// The digest of a manifest's bytes, which is the one that is known.
fn verified(digest: Option<&Digest>, bytes: &[u8]) -> Result<Digest> {
    let algorithm = match digest {
        None => Algorithm::Sha256,
        Some(digest) => digest.supported().map_err(|error| Error::Failed(error.to_string()))?,
    };
    let found = algorithm.digest(bytes);
    match digest.filter(|digest| **digest != found) {
        Some(digest) => Err(Error::Integrity(format!("the manifest's digest is {found}, and not {digest}"))),
        None => Ok(found),
    }
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

fn accept() -> HeaderValue {
    use std::sync::LazyLock;
    static ACCEPT: LazyLock<HeaderValue> = LazyLock::new(|| {
        let types = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT].join(", ");
        HeaderValue::from_str(&types).unwrap_or_else(|_| HeaderValue::from_static("*/*"))
    });
    ACCEPT.clone()
}
