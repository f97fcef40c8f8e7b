// SPDX-License-Identifier: AGPL-3.0-only
//! What cosign 1 and 2 wrote, without loss as bundles v0.1, so that there is one way to verify. (CVE-2022-23649,
//! CVE-2022-36056 and CVE-2026-22703 were each a second way, for the older form, that forgot a check.) What differs stays
//! said: such layers have a log's promise and no proof of inclusion, and cosign 2 stamped whole envelopes.

use serde::Deserialize;
use sigstore_types::bundle::{MessageDigest, MessageSignature};
use sigstore_types::{
    DerCertificate, DigestBytes, HashAlgorithm, MediaType, SignatureBytes, SignatureContent, TimestampToken,
};

use super::body::Body;
use super::bundle::{self, Envelope};
use super::entry::{self, Raw};
use super::parsed::{Entry, Logged, Meaning, Parsed, SaidSigner};
use super::statement;
use super::{DSSE, Evidence, SIMPLE_SIGNING, payload};
use crate::json;
use crate::limits::{ANNOTATION_BYTES, ATTESTATION_BYTES, CERTIFICATES, SIGNATURE_BYTES};
use crate::pem;
use crate::refusal::Refusal;
use crate::scheme;
use crate::x509::Certificate;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
/// The annotations that are part of the evidence.
pub(crate) const ANNOTATIONS: [&str; 5] = [SIGNATURE, CERTIFICATE, CHAIN, BUNDLE, TIMESTAMP];

/// An entry of Rekor with the log's promise, as Rekor's API answered with it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promised {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: PromisedEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PromisedEntry {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    stamp: String,
}

/// What `cosign sign-blob --bundle` wrote before there were bundles.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Blob {
    base64_signature: String,
    cert: Option<String>,
    rekor_bundle: Option<Promised>,
}

/// Reads a layer with its annotations.
pub(super) fn layer(evidence: &Evidence) -> Result<Parsed, Refusal> {
    let annotation =
        |name: &str| evidence.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let (content, meaning) = match evidence.media_type.as_str() {
        SIMPLE_SIGNING => {
            let text = annotation(SIGNATURE)
                .ok_or_else(|| Refusal::malformed("the layer has no signature among its annotations"))?;
            let claim = payload::read(&evidence.bytes)?;
            (message(signature(text)?, &evidence.bytes), Meaning::Claim(claim))
        }
        DSSE => {
            if annotation(SIGNATURE).is_some() {
                return Err(Refusal::malformed(
                    "the layer has a signature in its envelope and in its annotations",
                ));
            }
            let envelope: Envelope<'_> = json::read(&evidence.bytes, ATTESTATION_BYTES)?;
            let (content, meaning) = bundle::envelope_content(envelope)?;
            if evidence.bytes.len() > SIGNATURE_BYTES && !statement::is_attestation(&meaning) {
                return Err(Refusal::over(format!("a signature of more than {SIGNATURE_BYTES} bytes")));
            }
            (content, meaning)
        }
        other => return Err(Refusal::unsupported(format!("a layer of type {other:?} is no signature"))),
    };
    let entries = match annotation(BUNDLE) {
        None => Vec::new(),
        Some(text) => {
            vec![promised(&json::read(text.as_bytes(), ANNOTATION_BYTES).map_err(|why| why.at(BUNDLE))?)?]
        }
    };
    let timestamps = match annotation(TIMESTAMP) {
        None => Vec::new(),
        Some(text) => {
            let stamp: Stamp =
                json::read(text.as_bytes(), ANNOTATION_BYTES).map_err(|why| why.at(TIMESTAMP))?;
            vec![TimestampToken::new(json::base64(&stamp.stamp)?)]
        }
    };
    // Not copied where nothing can be of it: it may be large.
    let of_whole = |entry: &Entry| matches!(entry, Ok(Logged { body: Body::Envelope { .. }, .. }));
    let wanted = evidence.media_type == DSSE && (!timestamps.is_empty() || entries.iter().any(of_whole));
    Ok(Parsed {
        // A bundle v0.1 is one with a promise; one with a timestamp alone is the same, but for that, in v0.2.
        version: if entries.is_empty() { MediaType::Bundle0_2 } else { MediaType::Bundle0_1 },
        signer: signer(annotation(CERTIFICATE), annotation(CHAIN))?,
        content,
        meaning,
        entries,
        timestamps,
        promises: true,
        envelope: wanted.then(|| evidence.bytes.clone()),
    })
}

/// Reads a bare signature, in base64 or as it is, cosign's JSON of old, or an envelope, which `cosign attest-blob` writes
/// where a signature is asked for.
pub(super) fn detached(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim_ascii);
    if text.is_some_and(|text| text.starts_with('{') && text.contains("\"payloadType\"")) {
        return envelope(bytes);
    }
    if bytes.len() > SIGNATURE_BYTES {
        return Err(Refusal::over(format!("a signature of more than {SIGNATURE_BYTES} bytes")));
    }
    let (raw, signer, entries) = match text {
        Some(text) if text.starts_with('{') => {
            let blob: Blob = json::read(bytes, SIGNATURE_BYTES)?;
            let pem = match blob.cert.as_deref().filter(|text| !text.is_empty()) {
                None => None,
                Some(text) => Some(
                    String::from_utf8(json::base64(text)?)
                        .map_err(|_| Refusal::malformed("cert: neither a certificate nor a key in PEM"))?,
                ),
            };
            // A key that comes with its own signature proves nothing; it is a hint which one signed.
            let certificate = pem.as_deref().filter(|pem| pem.contains("BEGIN CERTIFICATE"));
            let entries = blob.rekor_bundle.as_ref().map(promised).transpose()?.into_iter().collect();
            (signature(&blob.base64_signature)?, self::signer(certificate, None)?, entries)
        }
        Some(text) if json::base64(text).is_ok() => {
            (signature(text)?, SaidSigner::Key(String::new()), Vec::new())
        }
        _ => (bytes.to_vec(), SaidSigner::Key(String::new()), Vec::new()),
    };
    if raw.is_empty() {
        return Err(Refusal::malformed("signature: empty"));
    }
    Ok(Parsed {
        version: MediaType::Bundle0_1,
        signer,
        content: SignatureContent::MessageSignature(MessageSignature::new(SignatureBytes::new(raw))),
        meaning: Meaning::Blob,
        entries,
        timestamps: Vec::new(),
        promises: true,
        envelope: None,
    })
}

fn envelope(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let (content, meaning) = bundle::envelope_content(json::read(bytes, ATTESTATION_BYTES)?)?;
    Ok(Parsed {
        version: MediaType::Bundle0_1,
        signer: SaidSigner::Key(String::new()),
        content,
        meaning,
        entries: Vec::new(),
        timestamps: Vec::new(),
        promises: true,
        envelope: None,
    })
}

fn message(signature: Vec<u8>, signed: &[u8]) -> SignatureContent {
    let hash = scheme::hash(HashAlgorithm::Sha2256, &[signed]).unwrap_or_default();
    let digest = MessageDigest::new(HashAlgorithm::Sha2256, DigestBytes::new(hash));
    let content = MessageSignature::new(SignatureBytes::new(signature)).with_message_digest(digest);
    SignatureContent::MessageSignature(content)
}

/// A signature in base64. `cosign attach signature` kept the line ends of files that other tools wrote.
fn signature(text: &str) -> Result<Vec<u8>, Refusal> {
    let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let bytes = json::base64(&text).map_err(|refusal| refusal.at("signature"))?;
    if bytes.is_empty() { Err(Refusal::malformed("signature: empty")) } else { Ok(bytes) }
}

fn signer(certificate: Option<&str>, chain: Option<&str>) -> Result<SaidSigner, Refusal> {
    let Some(certificate) = certificate else {
        return match chain {
            None => Ok(SaidSigner::Key(String::new())),
            Some(_) => Err(Refusal::malformed("a chain of certificates without a certificate")),
        };
    };
    let mut ders = pem::certificates(certificate, 1)?;
    if ders.is_empty() {
        return Err(Refusal::malformed("no certificate in its annotation"));
    }
    let leaf = ders.remove(0);
    if Certificate::read(&leaf)?.is_root() {
        return Err(Refusal::malformed("the signer's certificate issued itself"));
    }
    let mut certificates = vec![DerCertificate::new(leaf)];
    for der in pem::certificates(chain.unwrap_or_default(), CERTIFICATES)? {
        // cosign wrote Fulcio's root here. Roots are configured, so it is not looked at.
        if !Certificate::read(&der)?.is_root() {
            certificates.push(DerCertificate::new(der));
        }
    }
    Ok(SaidSigner::Certificates(certificates))
}

fn promised(wire: &Promised) -> Result<Entry, Refusal> {
    let body = json::base64(&wire.payload.body).map_err(|refusal| refusal.at("the log entry's body"))?;
    let log = json::hex(&wire.payload.log_id).map_err(|refusal| refusal.at("logID"))?;
    let promise = json::base64(&wire.promise).map_err(|refusal| refusal.at("SignedEntryTimestamp"))?;
    let kind = match entry::kind_of(&body) {
        Ok(kind) => kind,
        Err(refusal) => return Ok(Err(Refusal::log(refusal.why))),
    };
    Ok(entry::read(Raw {
        index: wire.payload.log_index,
        log,
        kind,
        integrated: wire.payload.integrated_time,
        promise: Some(promise),
        proof: None,
        body,
    }))
}
