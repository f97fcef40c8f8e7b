// SPDX-License-Identifier: AGPL-3.0-only
//! What is put into a registry before it is measured: blobs, and manifests that name them.

use serde_json::{Value, json};
use stella_tests::{digest, media_type};

/// The digits of a stamp.
const DIGITS: usize = 16;

/// A blob that lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }

    /// A small blob that depends on `seed`.
    pub(crate) fn small(seed: u64) -> Self {
        Self::new(stella_tests::noise(seed, 1024))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image's blobs.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

impl Image {
    /// An image with `layers` small layers.
    pub(crate) fn new(layers: u64) -> Self {
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
        Self {
            config: Blob::new(config.to_string().into_bytes()),
            layers: (1..=layers).map(Blob::small).collect(),
        }
    }

    /// All its blobs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }

    /// Manifests of it that differ by a stamp, and, with a subject, refer to that.
    pub(crate) fn manifests(&self, subject: Option<&Blob>) -> Stamped {
        let layers: Vec<_> = self.layers.iter().map(|layer| layer.descriptor(media_type::LAYER)).collect();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "config": self.config.descriptor(media_type::CONFIG), "layers": layers,
            "annotations": {"org.example.number": "0".repeat(DIGITS)},
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.descriptor(media_type::MANIFEST);
            manifest["artifactType"] = "application/vnd.example.sbom".into();
        }
        Stamped::new(manifest.to_string().into_bytes())
    }
}

/// Bytes with a place for a number.
#[derive(Clone, Debug)]
pub(crate) struct Stamped {
    bytes: Vec<u8>,
    at: Vec<usize>,
}

impl Stamped {
    /// Everywhere that so many zeros stand, the number will stand.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let zeros = [b'0'; DIGITS];
        let at = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(&zeros)).collect();
        Self { bytes, at }
    }

    /// Appends the bytes with this number to `to`.
    pub(crate) fn write(&self, number: u64, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(&self.bytes);
        for &at in &self.at {
            let mut rest = number;
            for digit in to[start + at..start + at + DIGITS].iter_mut().rev() {
                *digit = b"0123456789abcdef"[usize::from(rest.to_le_bytes()[0] & 15)];
                rest >>= 4;
            }
        }
    }

    /// The bytes with this number.
    pub(crate) fn number(&self, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(number, &mut bytes);
        bytes
    }
}
