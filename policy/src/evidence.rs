// SPDX-License-Identifier: AGPL-3.0-only
//! What is said of an artifact, in the forms in which clients write it, before any of it is believed. Here it is taken in
//! and measured; the modules below read it, all to one form, [`parsed::Parsed`], so that there is one way to verify it.

pub(crate) mod body;
mod bundle;
mod entry;
mod legacy;
pub(crate) mod parsed;
mod payload;
mod statement;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use legacy::ANNOTATIONS;

use crate::limits::{ANNOTATION_BYTES, ATTESTATION_BYTES, SIGNATURE_BYTES};
use crate::{Claim, Descriptor, Digest, Error, Result};

/// The media type of a layer with a simple-signing payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The media type of a layer with a DSSE envelope.
pub const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
/// How the media types of Sigstore bundles begin.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// How evidence came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A Sigstore bundle that refers to its subject (cosign 3), or in a file.
    Bundle,
    /// A layer below a `.sig` tag (cosign 1 and 2).
    LegacySignature,
    /// A layer below an `.att` tag (cosign 1 and 2).
    LegacyAttestation,
    /// A layer of a referrer (cosign with OCI 1.1 as an experiment).
    ReferrerSignature,
    /// A bare signature beside a file (`sign-blob --output-signature`).
    Detached,
}

/// One item: a bundle, or a layer with its annotations. Nothing of it is proven.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// How it came.
    pub form: Form,
    /// What it is known by: the digest of its bytes, with those of its annotations where they carry the signature.
    pub digest: Digest,
    /// A bundle's JSON, or the signed payload, or an envelope.
    pub bytes: Vec<u8>,
    /// The layer's annotations, where they are part of the evidence.
    pub annotations: BTreeMap<String, String>,
    /// The media type of the layer.
    pub media_type: String,
    /// What its statement said, where its content was let go.
    said: Option<String>,
}

impl Evidence {
    /// A Sigstore bundle.
    pub fn bundle(bytes: Vec<u8>) -> Result<Self> {
        at_most(bytes.len(), ATTESTATION_BYTES)?;
        Ok(Evidence {
            form: Form::Bundle,
            digest: Digest::of(&bytes),
            bytes,
            annotations: BTreeMap::new(),
            media_type: BUNDLE.to_owned(),
            said: None,
        })
    }

    /// The predicate type of the statement in it, if it has one; said, not proven.
    pub fn said_predicate(&self) -> Option<String> {
        if self.said.is_some() {
            return self.said.clone();
        }
        match parsed::Parsed::read(self).ok()?.meaning {
            parsed::Meaning::Claim(Claim::Statement { predicate_type, .. }) => Some(predicate_type),
            _ => None,
        }
    }

    /// Lets go of its content, of which only the predicate type is still told: what proves nothing shall take no memory.
    pub(crate) fn forget(&mut self) {
        self.said = self.said_predicate();
        self.bytes = Vec::new();
        self.annotations = BTreeMap::new();
    }

    /// A Sigstore bundle in a file, of which no more is read than a bundle may have.
    pub fn bundle_file(path: &Path) -> Result<Self> {
        Evidence::bundle(read(path, ATTESTATION_BYTES)?)
    }

    /// A bare signature, or the JSON that cosign wrote beside blobs before there were bundles.
    pub fn detached(bytes: Vec<u8>) -> Result<Self> {
        at_most(bytes.len(), ATTESTATION_BYTES)?;
        Ok(Evidence {
            form: Form::Detached,
            digest: Digest::of(&bytes),
            bytes,
            annotations: BTreeMap::new(),
            media_type: String::new(),
            said: None,
        })
    }

    /// A bare signature in a file.
    pub fn detached_file(path: &Path) -> Result<Self> {
        Evidence::detached(read(path, ATTESTATION_BYTES)?)
    }

    /// A layer with its content, which must be what the descriptor says.
    pub fn layer(form: Form, layer: &Descriptor, bytes: Vec<u8>) -> Result<Self> {
        at_most(bytes.len(), most_of(&layer.media_type))?;
        if bytes.len() as u64 != layer.size {
            let text = format!("{}: {} bytes, its descriptor says {}", layer.digest, bytes.len(), layer.size);
            return Err(Error::Malformed(text));
        }
        if !layer.digest.is_of(&bytes) {
            return Err(Error::Malformed(format!("{}: the content has another digest", layer.digest)));
        }
        if form == Form::Bundle {
            return Ok(Evidence { media_type: layer.media_type.clone(), ..Evidence::bundle(bytes)? });
        }
        // Others are no part of the evidence: they must neither cost anything nor make it look like another item.
        let annotations: BTreeMap<String, String> = layer
            .annotations
            .iter()
            .flatten()
            .filter(|(name, _)| ANNOTATIONS.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        at_most(annotations.values().map(String::len).sum(), ANNOTATION_BYTES)?;
        let mut named = format!("{}\n", layer.digest);
        for (name, value) in &annotations {
            named.extend([name, " ", &value.len().to_string(), "\n", value, "\n"]);
        }
        let digest = Digest::of(named.as_bytes());
        Ok(Evidence { form, digest, bytes, annotations, media_type: layer.media_type.clone(), said: None })
    }
}

/// The most bytes that a layer of this type may have.
pub(crate) fn most_of(media_type: &str) -> usize {
    if media_type == SIMPLE_SIGNING { SIGNATURE_BYTES } else { ATTESTATION_BYTES }
}

fn at_most(bytes: usize, most: usize) -> Result<()> {
    if bytes <= most {
        Ok(())
    } else {
        Err(Error::OverLimit(format!("{bytes} bytes of evidence; at most {most} are looked at")))
    }
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let failed = |cause| Error::File { path: path.to_owned(), cause };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    at_most(bytes.len(), most)?;
    Ok(bytes)
}
