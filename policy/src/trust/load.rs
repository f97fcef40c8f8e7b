// SPDX-License-Identifier: AGPL-3.0-only
//! Reads `trusted_root.json` strictly: every entry must be usable, and each has a start of its validity. The error names
//! the entry.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::Verifier;

use crate::json;
use crate::limits::TRUST_BYTES;
use crate::refusal::Refusal;
use crate::x509::Certificate;

const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];

/// The lists, each entry still as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lists {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<Value>,
    #[serde(default)]
    certificate_authorities: Vec<Value>,
    #[serde(default)]
    ctlogs: Vec<Value>,
    #[serde(default)]
    timestamp_authorities: Vec<Value>,
}

pub(super) fn root(bytes: &[u8]) -> Result<TrustedRoot, Refusal> {
    let lists: Lists = json::read(bytes, TRUST_BYTES)?;
    if !MEDIA_TYPES.contains(&lists.media_type.as_str()) {
        return Err(Refusal::malformed(format!("mediaType: {:?} is no trust root's", lists.media_type)));
    }
    let mut root = empty(&lists.media_type)?;
    for (at, entry) in lists.tlogs.iter().enumerate() {
        let place = format!("tlogs[{at}]");
        started(entry.pointer("/publicKey/validFor")).map_err(|why| why.at(&format!("{place}.publicKey")))?;
        root.tlogs.push(one(entry, &place)?);
    }
    for (at, entry) in lists.ctlogs.iter().enumerate() {
        let place = format!("ctlogs[{at}]");
        started(entry.pointer("/publicKey/validFor")).map_err(|why| why.at(&format!("{place}.publicKey")))?;
        root.ctlogs.push(one(entry, &place)?);
    }
    for (at, entry) in lists.certificate_authorities.iter().enumerate() {
        let place = format!("certificateAuthorities[{at}]");
        started(entry.get("validFor")).map_err(|why| why.at(&place))?;
        root.certificate_authorities.push(one(entry, &place)?);
    }
    for (at, entry) in lists.timestamp_authorities.iter().enumerate() {
        let place = format!("timestampAuthorities[{at}]");
        started(entry.get("validFor")).map_err(|why| why.at(&place))?;
        root.timestamp_authorities.push(one(entry, &place)?);
    }
    usable(&root)?;
    Ok(root)
}

/// A root without entries: its type has no constructor.
fn empty(media_type: &str) -> Result<TrustedRoot, Refusal> {
    serde_json::from_value(serde_json::json!({ "mediaType": media_type }))
        .map_err(|error| Refusal::malformed(error.to_string()))
}

fn started(valid_for: Option<&Value>) -> Result<(), Refusal> {
    match valid_for.and_then(|range| range.get("start")) {
        Some(Value::String(_)) => Ok(()),
        _ => Err(Refusal::malformed("validFor.start: missing; an entry without it would hold for all time")),
    }
}

fn one<T: DeserializeOwned>(entry: &Value, place: &str) -> Result<T, Refusal> {
    T::deserialize(entry).map_err(|error| Refusal::malformed(error.to_string()).at(place))
}

/// Tries each entry alone, so that the error can name it, then all together, which finds those that are there twice.
fn usable(root: &TrustedRoot) -> Result<(), Refusal> {
    let mut none = root.clone();
    none.tlogs.clear();
    none.ctlogs.clear();
    none.certificate_authorities.clear();
    none.timestamp_authorities.clear();
    for (at, log) in root.tlogs.iter().enumerate() {
        let mut single = none.clone();
        single.tlogs.push(log.clone());
        verifier(&single, &format!("tlogs[{at}]"))?;
        if authority_of(&log.base_url).is_empty() {
            return Err(Refusal::malformed("baseUrl: no host").at(&format!("tlogs[{at}]")));
        }
    }
    for (at, log) in root.ctlogs.iter().enumerate() {
        let mut single = none.clone();
        single.ctlogs.push(log.clone());
        verifier(&single, &format!("ctlogs[{at}]"))?;
    }
    for (at, authority) in root.certificate_authorities.iter().enumerate() {
        let mut single = none.clone();
        single.certificate_authorities.push(authority.clone());
        let place = format!("certificateAuthorities[{at}]");
        verifier(&single, &place)?;
        for certificate in &authority.cert_chain.certificates {
            Certificate::read(certificate.raw_bytes.as_bytes()).map_err(|why| why.at(&place))?;
        }
    }
    for (at, authority) in root.timestamp_authorities.iter().enumerate() {
        let mut single = none.clone();
        single.timestamp_authorities.push(authority.clone());
        let place = format!("timestampAuthorities[{at}]");
        verifier(&single, &place)?;
        for certificate in &authority.cert_chain.certificates {
            Certificate::read(certificate.raw_bytes.as_bytes()).map_err(|why| why.at(&place))?;
        }
    }
    verifier(root, "the entries together").map(drop)
}

fn verifier(root: &TrustedRoot, place: &str) -> Result<Verifier, Refusal> {
    Verifier::new(root).map_err(|error| Refusal::malformed(error.to_string()).at(place))
}

/// Host and port of an address, with the path if it has one: what a log's checkpoints are named after.
pub(crate) fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/')
}
