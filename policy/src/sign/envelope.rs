// SPDX-License-Identifier: AGPL-3.0-only
//! DSSE (secure-systems-lab/dsse, protocol.md): what is signed is not the payload but its pre-authentication encoding,
//! so that a payload of one type can never be taken for one of another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::go_json;
use crate::{PrivateKey, Result};

/// The type of in-toto statements in envelopes.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The bytes that a signature of an envelope is over.
pub fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A statement and the signature over it.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) payload: String,
    pub(super) signature: String,
}

impl Envelope {
    /// Signs an in-toto statement.
    pub fn sign(key: &PrivateKey, statement: &[u8]) -> Result<Self> {
        let signature = STANDARD.encode(key.sign(&pae(IN_TOTO, statement))?);
        Ok(Envelope { payload: STANDARD.encode(statement), signature })
    }

    /// Its JSON, as it is below an `.att` tag.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let Envelope { payload, signature } = self;
        let signatures = [Signature { keyid: "", sig: signature }];
        go_json(&Written { payload_type: IN_TOTO, payload, signatures })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    payload_type: &'static str,
    payload: &'a str,
    signatures: [Signature<'a>; 1],
}

#[derive(Serialize)]
struct Signature<'a> {
    keyid: &'static str,
    sig: &'a str,
}
