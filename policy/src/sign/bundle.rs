// SPDX-License-Identifier: AGPL-3.0-only
//! Sigstore bundles v0.3 of a key, without a log's entry (sigstore/protobuf-specs, `sigstore_bundle.proto`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::envelope::{Envelope, IN_TOTO};
use super::go_json;
use crate::{PrivateKey, Result};

/// The media type of a bundle.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bundle<'a> {
    media_type: &'static str,
    verification_material: Material,
    #[serde(flatten)]
    content: Content<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: PublicKey,
}

#[derive(Serialize)]
struct PublicKey {
    hint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Content<'a> {
    #[serde(rename_all = "camelCase")]
    DsseEnvelope { payload: &'a str, payload_type: &'static str, signatures: [Signature<'a>; 1] },
    #[serde(rename_all = "camelCase")]
    MessageSignature { message_digest: MessageDigest, signature: String },
}

#[derive(Serialize)]
struct Signature<'a> {
    sig: &'a str,
}

#[derive(Serialize)]
struct MessageDigest {
    algorithm: &'static str,
    digest: String,
}

/// Signs an in-toto statement, and gives the bundle.
pub fn statement_bundle(key: &PrivateKey, statement: &[u8]) -> Result<Vec<u8>> {
    let Envelope { payload, signature } = &Envelope::sign(key, statement)?;
    let signatures = [Signature { sig: signature }];
    bundle(key, Content::DsseEnvelope { payload, payload_type: IN_TOTO, signatures })
}

/// Signs bytes as they are, and gives the bundle.
pub fn message_bundle(key: &PrivateKey, message: &[u8]) -> Result<Vec<u8>> {
    let hash = key.hash();
    let message_digest = MessageDigest { algorithm: hash.name(), digest: STANDARD.encode(hash.of(message)) };
    let signature = STANDARD.encode(key.sign(message)?);
    bundle(key, Content::MessageSignature { message_digest, signature })
}

fn bundle(key: &PrivateKey, content: Content<'_>) -> Result<Vec<u8>> {
    let verification_material = Material { public_key: PublicKey { hint: key.hint() } };
    go_json(&Bundle { media_type: BUNDLE, verification_material, content })
}
