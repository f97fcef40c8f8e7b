// SPDX-License-Identifier: AGPL-3.0-only
//! Where artifacts and what is said of them are read from: a layout on disk, a remote registry, later the local store.
//! The trait is small, so that one engine judges them all. What a source returns is not believed: whoever reads
//! compares digests, sizes and forms.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::{Digest, Result};

/// A place with artifacts, within one repository.
pub trait Source: Sync {
    /// The manifest under a tag or a digest; none if there is no such one. Its bytes may be of at most
    /// [`Manifest::MOST`]; larger ones are [`crate::Error::OverLimit`].
    fn manifest(&self, reference: &Reference) -> impl Future<Output = Result<Option<Manifest>>> + Send;

    /// Descriptors of the manifests that name `subject` as theirs, at most `limit` of them; a longer list is cut.
    fn referrers(
        &self,
        subject: &Digest,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Descriptor>>> + Send;

    /// The bytes of a blob, none if there is no such one; [`crate::Error::OverLimit`] if it has more than `most`.
    fn blob(&self, digest: &Digest, most: u64) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;
}

/// What names a manifest in its repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that can move.
    Tag(String),
    /// Its content.
    Digest(Digest),
}

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Of its bytes.
    pub digest: Digest,
    /// As the source says.
    pub media_type: String,
    /// To the byte.
    pub bytes: Vec<u8>,
}

impl Manifest {
    /// The most bytes that a manifest may have: 8 MiB.
    pub const MOST: u64 = 8 << 20;
}

/// What a manifest says of content (OCI image-spec, descriptor.md). Fields that are not known here are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What kind of artifact it is, in lists of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Unsigned hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}
