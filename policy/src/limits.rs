// SPDX-License-Identifier: AGPL-3.0-only
//! How much of what others wrote is looked at. All of it is here, so that a reader sees at once what one item of
//! evidence can cost. Sizes are compared before anything is parsed, counts before anything is checked. Where they are
//! from: sigstore-go's for entries, timestamps, subjects and digests; the others are this project's.

/// The most bytes of evidence that only says "signed": a bundle or a payload.
pub const SIGNATURE_BYTES: usize = 1 << 20;
/// The most bytes of evidence that carries a statement: a bundle or an envelope.
pub const ATTESTATION_BYTES: usize = 16 << 20;
/// The most bytes of all annotations of a layer that are part of evidence.
pub const ANNOTATION_BYTES: usize = 1 << 20;
/// The most bytes of a file with trust roots or keys.
pub const TRUST_BYTES: usize = 4 << 20;
/// How deep JSON may be nested.
pub const JSON_DEPTH: usize = 64;
/// The most entries of transparency logs in one item.
pub const LOG_ENTRIES: usize = 32;
/// The most timestamps in one item.
pub const TIMESTAMPS: usize = 32;
/// The most hashes in one proof of inclusion: a tree of 2^63 leaves has no more.
pub const PROOF_HASHES: usize = 64;
/// The most subjects of one statement.
pub const SUBJECTS: usize = 1024;
/// The most digests of one subject.
pub const SUBJECT_DIGESTS: usize = 32;
/// The most certificates in one item.
pub const CERTIFICATES: usize = 10;
/// The most subject alternative names that are read; more than one is refused with a better text.
pub const ALTERNATIVE_NAMES: usize = 16;

/// The most referrers that are taken as evidence of one artifact.
pub const REFERRERS: usize = 50;
/// The most layers that are taken as evidence from one tag.
pub const LAYERS: usize = 100;
/// The most referrers and layers that are looked at, whatever they turn out to be.
pub const LOOKED_AT: usize = 10_000;
/// The most bytes of a manifest of evidence, by its descriptor.
pub const MANIFEST_BYTES: u64 = 1 << 20;
/// The most bytes of junk that are read for one artifact.
pub const JUNK_BYTES: u64 = 64 << 20;
/// The most bytes of annotations of layers that are kept for one artifact, until the layers are read.
pub const KEPT_ANNOTATION_BYTES: usize = 16 << 20;
