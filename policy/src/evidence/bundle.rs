// SPDX-License-Identifier: AGPL-3.0-only
//! Sigstore bundles, v0.1 to v0.3, as protojson writes them. Every name must be a known one: a proof whose name has a
//! typing error would otherwise be missing without a word, and the rest of the bundle would still verify.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use sigstore_types::bundle::{MessageDigest, MessageSignature};
use sigstore_types::{
    DerCertificate, DigestBytes, DsseEnvelope, DsseSignature, HashAlgorithm, KeyId, MediaType, PayloadBytes,
    SignatureBytes, SignatureContent, TimestampToken,
};

use super::entry::{self, Kind, Proof, Raw};
use super::parsed::{Meaning, Parsed, SaidSigner, over};
use super::statement;
use crate::json;
use crate::limits::{
    ATTESTATION_BYTES, CERTIFICATES, LOG_ENTRIES, PROOF_HASHES, SIGNATURE_BYTES, TIMESTAMPS,
};
use crate::refusal::Refusal;
use crate::x509::Certificate;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire<'a> {
    media_type: String,
    verification_material: Material,
    message_signature: Option<Message>,
    #[serde(borrow)]
    dsse_envelope: Option<Envelope<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    certificate: Option<RawBytes>,
    x509_certificate_chain: Option<Chain>,
    public_key: Option<Hint>,
    tlog_entries: Option<Vec<LogEntry>>,
    timestamp_verification_data: Option<Timestamps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    certificates: Vec<RawBytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Timestamps {
    rfc3161_timestamps: Option<Vec<Stamp>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stamp {
    signed_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Message {
    message_digest: Option<HashOutput>,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashOutput {
    algorithm: String,
    digest: String,
}

/// A DSSE envelope.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Envelope<'a> {
    /// Not copied: it is nearly all of a large bundle.
    #[serde(borrow)]
    payload: Cow<'a, str>,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    keyid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogEntry {
    log_index: Option<Int64>,
    log_id: LogId,
    kind_version: KindVersion,
    integrated_time: Option<Int64>,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<InclusionProof>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InclusionProof {
    log_index: Option<Int64>,
    root_hash: Option<String>,
    tree_size: Option<Int64>,
    hashes: Option<Vec<String>>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    envelope: Option<String>,
}

/// An int64 of protojson: a text with a canonical decimal number, or a number. None here is ever negative.
struct Int64(u64);

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        let number = match Either::deserialize(deserializer)? {
            Either::Number(number) => Some(number),
            Either::Text(text) => text.parse::<u64>().ok().filter(|number| number.to_string() == text),
        };
        number
            .filter(|number| i64::try_from(*number).is_ok())
            .map(Int64)
            .ok_or_else(|| serde::de::Error::custom("not a number from 0 to 2^63 - 1 in plain decimal"))
    }
}

/// Reads a bundle.
pub(super) fn read(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let wire: Wire<'_> = json::read(bytes, ATTESTATION_BYTES)?;
    let version: MediaType = wire.media_type.parse().map_err(|_| {
        Refusal::unsupported(format!("mediaType: {:?} is no bundle that is known here", wire.media_type))
    })?;
    let material = wire.verification_material;
    let signer = signer(version, material.certificate, material.x509_certificate_chain, material.public_key)?;
    let (content, meaning) = match (wire.message_signature, wire.dsse_envelope) {
        (Some(message), None) => (message_content(message)?, Meaning::Blob),
        (None, Some(envelope)) => envelope_content(envelope)?,
        _ => return Err(Refusal::malformed("one of messageSignature and dsseEnvelope is expected")),
    };
    if bytes.len() > SIGNATURE_BYTES && !statement::is_attestation(&meaning) {
        return Err(Refusal::over(format!(
            "a signature of {} bytes; at most {SIGNATURE_BYTES}",
            bytes.len()
        )));
    }
    let entries = material.tlog_entries.unwrap_or_default();
    over("entries of logs", entries.len(), LOG_ENTRIES)?;
    let entries = entries.into_iter().map(log_entry).collect::<Result<Vec<_>, _>>()?;
    let stamps =
        material.timestamp_verification_data.and_then(|data| data.rfc3161_timestamps).unwrap_or_default();
    over("timestamps", stamps.len(), TIMESTAMPS)?;
    let stamp = |stamp: Stamp| Ok(TimestampToken::new(json::base64(&stamp.signed_timestamp)?));
    Ok(Parsed {
        version,
        signer,
        content,
        meaning,
        entries,
        timestamps: stamps.into_iter().map(stamp).collect::<Result<_, Refusal>>()?,
        promises: false,
        envelope: None,
    })
}

fn signer(
    version: MediaType,
    single: Option<RawBytes>,
    chain: Option<Chain>,
    key: Option<Hint>,
) -> Result<SaidSigner, Refusal> {
    let chain = match (single, chain, key) {
        (None, None, Some(key)) => return Ok(SaidSigner::Key(key.hint.unwrap_or_default())),
        (Some(single), None, None) => vec![single],
        (None, Some(chain), None) if version != MediaType::Bundle0_3 => chain.certificates,
        (None, Some(_), None) => {
            return Err(Refusal::malformed("a bundle v0.3 has one certificate, not a chain"));
        }
        _ => {
            return Err(Refusal::malformed(
                "one of certificate, x509CertificateChain and publicKey is expected",
            ));
        }
    };
    over("certificates", chain.len(), CERTIFICATES)?;
    if chain.is_empty() {
        return Err(Refusal::malformed("x509CertificateChain: no certificate"));
    }
    let mut certificates = Vec::new();
    for certificate in chain {
        let bytes = json::base64(&certificate.raw_bytes)?;
        // Roots are configured. One that comes with evidence is there to be mistaken for such a one.
        if Certificate::read(&bytes)?.is_root() {
            return Err(Refusal::malformed("a root certificate comes with the bundle"));
        }
        certificates.push(DerCertificate::new(bytes));
    }
    Ok(SaidSigner::Certificates(certificates))
}

fn message_content(message: Message) -> Result<SignatureContent, Refusal> {
    let mut content = MessageSignature::new(signature(&message.signature)?);
    if let Some(output) = message.message_digest {
        let (algorithm, length) = match output.algorithm.as_str() {
            "SHA2_256" => (HashAlgorithm::Sha2256, 32),
            "SHA2_384" => (HashAlgorithm::Sha2384, 48),
            "SHA2_512" => (HashAlgorithm::Sha2512, 64),
            other => return Err(Refusal::unsupported(format!("messageDigest.algorithm: {other:?}"))),
        };
        let digest = json::base64(&output.digest)?;
        if digest.len() != length {
            return Err(Refusal::malformed("messageDigest.digest: of another length than its algorithm's"));
        }
        content = content.with_message_digest(MessageDigest::new(algorithm, DigestBytes::new(digest)));
    }
    Ok(SignatureContent::MessageSignature(content))
}

/// An envelope and what it says: an in-toto statement, signed exactly once.
pub(super) fn envelope_content(envelope: Envelope<'_>) -> Result<(SignatureContent, Meaning), Refusal> {
    if envelope.payload_type != statement::PAYLOAD_TYPE {
        return Err(Refusal::unsupported(format!(
            "payloadType: {:?} is no in-toto statement",
            envelope.payload_type
        )));
    }
    let [single] = envelope.signatures.as_slice() else {
        return Err(Refusal::malformed(format!("{} signatures of one envelope", envelope.signatures.len())));
    };
    let keyid = KeyId::new(single.keyid.clone().unwrap_or_default());
    let signed = DsseSignature::new(signature(&single.sig)?, keyid);
    let payload = json::base64(&envelope.payload).map_err(|refusal| refusal.at("payload"))?;
    let claim = statement::read(&payload)?;
    let envelope = DsseEnvelope::new(envelope.payload_type, PayloadBytes::new(payload), signed);
    Ok((SignatureContent::DsseEnvelope(envelope), Meaning::Claim(claim)))
}

fn signature(text: &str) -> Result<SignatureBytes, Refusal> {
    let bytes = json::base64(text).map_err(|refusal| refusal.at("signature"))?;
    if bytes.is_empty() {
        return Err(Refusal::malformed("signature: empty"));
    }
    Ok(SignatureBytes::new(bytes))
}

/// Errors of the form are the bundle's; what is of its form and no entry that is checked here is the entry's.
fn log_entry(wire: LogEntry) -> Result<super::parsed::Entry, Refusal> {
    let body = json::base64(&wire.canonicalized_body)?;
    let log = json::base64(&wire.log_id.key_id)?;
    let promise =
        wire.inclusion_promise.map(|promise| json::base64(&promise.signed_entry_timestamp)).transpose()?;
    let proof = wire.inclusion_proof.map(proof).transpose()?;
    Ok(entry::read(Raw {
        index: wire.log_index.map_or(0, |index| index.0),
        log,
        kind: Kind { kind: wire.kind_version.kind, version: wire.kind_version.version },
        integrated: wire.integrated_time.map_or(0, |time| time.0),
        promise,
        proof,
        body,
    }))
}

fn proof(wire: InclusionProof) -> Result<Proof, Refusal> {
    let hashes = wire.hashes.unwrap_or_default();
    over("hashes of a proof", hashes.len(), PROOF_HASHES)?;
    Ok(Proof {
        index: wire.log_index.map(|index| index.0),
        root: wire.root_hash.map(|root| json::base64(&root)).transpose()?,
        size: wire.tree_size.map(|size| size.0),
        hashes: hashes.iter().map(|hash| json::base64(hash)).collect::<Result<_, _>>()?,
        checkpoint: wire.checkpoint.and_then(|checkpoint| checkpoint.envelope).unwrap_or_default(),
    })
}
