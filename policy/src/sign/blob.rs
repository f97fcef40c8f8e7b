// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures beside a file, as they were before bundles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::go_json;
use crate::{PrivateKey, Result};

/// The signature over bytes, in base64 (`sign-blob --output-signature`).
pub fn detached_signature(key: &PrivateKey, message: &[u8]) -> Result<String> {
    Ok(STANDARD.encode(key.sign(message)?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OldBundle<'a> {
    base64_signature: &'a str,
}

/// A signature as cosign's own bundle had it (`--new-bundle-format=false`).
pub fn old_bundle(signature: &str) -> Result<Vec<u8>> {
    go_json(&OldBundle { base64_signature: signature })
}
