// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests as we understand them: what they name, and what a referrers list says of them.
//!
//! A [`Manifest`] is made by [`Manifest::parse`] only, which applies every rule of
//! [`validation`]; the bytes themselves are stored and served exactly as pushed. The types are our
//! own rather than oci-spec's (`ADR/0002`): Go clients write `null` for empty lists, and what other
//! parsers would read differently must be refused, not guessed.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::Result;
use crate::rows::kind;

mod json;
mod validation;

/// Media types of manifests and of what they name.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// The most descriptors that one manifest may hold.
pub const MAX_DESCRIPTORS: usize = 4096;

/// A manifest that follows the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type: of the request, else of the document, else by its shape.
    pub media_type: String,
    /// Every config, layer, child and subject descriptor, one entry a digest.
    pub(crate) references: Vec<Reference>,
    /// The digest that this manifest refers to.
    pub subject: Option<Digest>,
    /// `artifactType`, or for an image manifest without one, the config's media type.
    pub artifact_type: Option<String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    /// What is odd but accepted, as sentences for a person.
    pub warnings: Vec<String>,
}

/// A digest that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) digest: Digest,
    /// Bits of [`kind`].
    pub(crate) kinds: u8,
    pub(crate) size: u64,
    /// Whether a push without this blob is refused, unless missing references are allowed.
    pub(crate) required: bool,
}

impl Manifest {
    /// The digests that it names: its config, layers, children and subject.
    pub fn named(&self) -> impl Iterator<Item = &Digest> {
        self.references.iter().map(|reference| &reference.digest)
    }

    /// Parses and checks a manifest. `content_type` is the request's, without parameters.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self> {
        validation::parse(bytes, content_type)
    }

    /// The entry of this manifest in its subject's referrers list, as JSON.
    pub(crate) fn referrer_descriptor(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Descriptor<'a> {
            media_type: &'a str,
            digest: String,
            size: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            artifact_type: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            annotations: Option<&'a BTreeMap<String, String>>,
        }
        let descriptor = Descriptor {
            media_type: &self.media_type,
            digest: digest.to_string(),
            size,
            artifact_type: self.artifact_type.as_deref(),
            annotations: self.annotations.as_ref(),
        };
        serde_json::to_vec(&descriptor).map_err(|error| {
            crate::error::Error::Corrupt(format!("a referrer's descriptor cannot be written: {error}"))
        })
    }

    /// The subject aside, does the manifest name this digest?
    #[cfg(test)]
    fn names(&self, digest: &Digest) -> bool {
        self.references
            .iter()
            .any(|reference| reference.digest == *digest && reference.kinds != kind::SUBJECT)
    }
}
