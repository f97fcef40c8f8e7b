// SPDX-License-Identifier: AGPL-3.0-only
//! A trust root from a certificate chain in PEM and keys of logs, written as the same JSON that other roots come in, so
//! that there is one way to load them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::limits::{CERTIFICATES, TRUST_BYTES};
use crate::pem;
use crate::refusal::Refusal;
use crate::x509::Certificate;
use crate::{Digest, PublicKey};

/// Certificates carry their own dates, and keys of logs have none here, so the entries hold for all time.
const ALWAYS: &str = "1970-01-01T00:00:00Z";

/// Whether all of these are certificates of authorities, each there once. Gives the hash of them.
pub(super) fn check(certificates: &str) -> Result<Digest, Refusal> {
    authorities(certificates)?;
    let blocks = pem::certificates(certificates, CERTIFICATES)?;
    for (at, block) in blocks.iter().enumerate() {
        if !Certificate::read(block)?.is_authority() {
            return Err(Refusal::malformed(format!(
                "certificate {} is not one of a certificate authority (basicConstraints CA)",
                at + 1
            )));
        }
        if blocks.iter().take(at).any(|earlier| earlier == block) {
            return Err(Refusal::malformed(format!("certificate {} is there twice", at + 1)));
        }
    }
    let root = json(certificates, &[])?;
    super::load::root(root.as_bytes())?;
    Ok(Digest::of(&blocks.concat()))
}

pub(super) fn json(certificates: &str, logs: &[(String, PublicKey)]) -> Result<String, Refusal> {
    let authorities = authorities(certificates)?;
    let logs: Vec<Value> = logs
        .iter()
        .map(|(url, key)| {
            json!({
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(key.spki()),
                    "keyDetails": key.details(),
                    "validFor": {"start": ALWAYS},
                },
                "logId": {"keyId": STANDARD.encode(Sha256::digest(key.spki()))},
            })
        })
        .collect();
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs,
        "certificateAuthorities": authorities,
    });
    Ok(root.to_string())
}

/// As `certificateAuthorities` of a trust root.
pub(super) fn authorities(certificates: &str) -> Result<Vec<Value>, Refusal> {
    if certificates.len() > TRUST_BYTES {
        return Err(Refusal::over(format!("more than {TRUST_BYTES} bytes of certificates")));
    }
    let blocks = pem::certificates(certificates, CERTIFICATES)?;
    let mut roots = Vec::new();
    let mut others = Vec::new();
    for block in &blocks {
        if Certificate::read(block)?.is_root() { roots.push(block) } else { others.push(block) }
    }
    if roots.is_empty() {
        // Who trusts an intermediate only hands its certificate in last.
        let last = others.pop().ok_or_else(|| Refusal::malformed("no certificate in PEM"))?;
        roots.push(last);
    }
    let authority = |chain: Vec<&Vec<u8>>| {
        let chain: Vec<Value> = chain.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
        json!({"uri": "", "certChain": {"certificates": chain}, "validFor": {"start": ALWAYS}})
    };
    // One authority for each path from an intermediate to a root of its issuer's name, so that an expired certificate
    // beside the path does not matter, and one on it does.
    let mut authorities = Vec::new();
    for root in &roots {
        authorities.push(authority(vec![root]));
        for other in &others {
            let mut chain = vec![*other];
            while let Some(next) = issuer_of(&chain, &others)? {
                chain.push(next);
            }
            chain.push(root);
            authorities.push(authority(chain));
        }
    }
    Ok(authorities)
}

/// The certificate among `others` that is named as issuer of the last in `chain`, unless it is in the chain already.
fn issuer_of<'a>(chain: &[&'a Vec<u8>], others: &[&'a Vec<u8>]) -> Result<Option<&'a Vec<u8>>, Refusal> {
    let Some(last) = chain.last() else { return Ok(None) };
    let issuer = Certificate::read(last)?.issuer;
    for other in others {
        if !chain.contains(other) && Certificate::read(other)?.subject == issuer {
            return Ok(Some(other));
        }
    }
    Ok(None)
}
