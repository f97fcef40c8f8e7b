// SPDX-License-Identifier: AGPL-3.0-only
//! What is said of an artifact, in the forms in which clients write it, before any of it is believed.

use serde::{Deserialize, Serialize};

use crate::Digest;

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
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The media type of the layer.
    pub media_type: String,
}
