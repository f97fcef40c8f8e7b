// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence, read: the one form that all others become, and the only thing that the verifier looks at.

use std::collections::BTreeMap;

use sigstore_types::{
    Bundle, DerCertificate, HashAlgorithm, MediaType, SignatureContent, TimestampToken, TransparencyLogEntry,
    bundle::{
        CertificateContent, Rfc3161Timestamp, TimestampVerificationData, VerificationMaterial,
        VerificationMaterialContent, X509Certificate,
    },
};

use super::body::Body;
use super::{Evidence, Form, bundle, legacy};
use crate::limits::{CERTIFICATES, LOG_ENTRIES, TIMESTAMPS};
use crate::refusal::Refusal;
use crate::{Claim, Digest};

/// An entry of a log, or why it cannot be one that is checked here. With a key that is no end of the evidence.
pub(crate) type Entry = Result<Logged, Refusal>;

/// An entry of a log, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) body: Body,
    pub(crate) entry: TransparencyLogEntry,
}

impl Logged {
    /// Whether Sigstore's crates look at such an entry: of hashes they know SHA-256 alone, in Rekor v2 of keys P-256.
    pub(crate) fn is_usual(&self) -> bool {
        match &self.body {
            Body::Hashed { hash, details, .. } => {
                hash.algorithm == HashAlgorithm::Sha2256
                    && details.as_deref().is_none_or(|details| details == "PKIX_ECDSA_P256_SHA_256")
            }
            Body::Payload { hash, .. } => hash.algorithm == HashAlgorithm::Sha2256,
            Body::Envelope { .. } => false,
        }
    }
}

/// Evidence, read and not believed.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// By which version of bundles it is written.
    pub(crate) version: MediaType,
    /// Who is said to have signed.
    pub(crate) signer: SaidSigner,
    /// The signature, with an envelope if it is of one.
    pub(crate) content: SignatureContent,
    /// What it says once it is proven.
    pub(crate) meaning: Meaning,
    /// What logs are said to say.
    pub(crate) entries: Vec<Entry>,
    /// What timestamp authorities are said to say.
    pub(crate) timestamps: Vec<TimestampToken>,
    /// Whether a log's promise is enough: layers of cosign 1 and 2 have no proof of inclusion.
    pub(crate) promises: bool,
    /// The whole envelope, where its bytes are known: timestamps may be of it instead of the signature, as cosign 2 made
    /// them, and entries of logs.
    pub(crate) envelope: Option<Vec<u8>>,
}

/// Who is said to have signed.
#[derive(Debug)]
pub(crate) enum SaidSigner {
    /// A key, with a hint which one.
    Key(String),
    /// The owner of the first of these certificates. Never none.
    Certificates(Vec<DerCertificate>),
}

/// What a signature says.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// What these say of themselves.
    Claim(Claim),
    /// Something of bytes that are not part of the evidence.
    Blob,
}

impl Parsed {
    /// Reads evidence.
    pub(crate) fn read(evidence: &Evidence) -> Result<Self, Refusal> {
        let parsed = match evidence.form {
            Form::Bundle => bundle::read(&evidence.bytes)?,
            Form::Detached => legacy::detached(&evidence.bytes)?,
            Form::LegacySignature | Form::LegacyAttestation | Form::ReferrerSignature => {
                legacy::layer(evidence)?
            }
        };
        parsed.counted()
    }

    /// The raw signature.
    pub(crate) fn signature(&self) -> &[u8] {
        match &self.content {
            SignatureContent::MessageSignature(message) => message.signature.as_bytes(),
            SignatureContent::DsseEnvelope(envelope) => envelope.signature.sig.as_bytes(),
            _ => &[],
        }
    }

    /// It as a bundle, with these entries and timestamps.
    pub(crate) fn bundle(
        &self,
        entries: Vec<TransparencyLogEntry>,
        timestamps: Vec<TimestampToken>,
    ) -> Bundle {
        let signer = match &self.signer {
            SaidSigner::Key(hint) => {
                VerificationMaterialContent::PublicKey(sigstore_types::PublicKeyIdentifier::new(hint.clone()))
            }
            SaidSigner::Certificates(chain) => match (self.version, chain.as_slice()) {
                (MediaType::Bundle0_3, [leaf]) => {
                    VerificationMaterialContent::Certificate(CertificateContent::new(leaf.clone()))
                }
                (_, chain) => VerificationMaterialContent::X509CertificateChain {
                    certificates: chain.iter().cloned().map(X509Certificate::new).collect(),
                },
            },
        };
        let stamps = timestamps.into_iter().map(Rfc3161Timestamp::new).collect();
        let material = VerificationMaterial::new(signer)
            .with_tlog_entries(entries)
            .with_timestamp_verification_data(TimestampVerificationData::new(stamps));
        Bundle::new(self.version, material, self.content.clone())
    }

    /// Refuses what is there too often, or twice: whoever counts must not count the same again.
    fn counted(self) -> Result<Self, Refusal> {
        over("entries of logs", self.entries.len(), LOG_ENTRIES)?;
        over("timestamps", self.timestamps.len(), TIMESTAMPS)?;
        if let SaidSigner::Certificates(chain) = &self.signer {
            over("certificates", chain.len(), CERTIFICATES)?;
        }
        for (at, stamp) in self.timestamps.iter().enumerate() {
            if self.timestamps.iter().take(at).any(|earlier| earlier == stamp) {
                return Err(Refusal::malformed("the same timestamp is there twice"));
            }
        }
        let entries: Vec<_> =
            self.entries.iter().filter_map(|entry| Some(&entry.as_ref().ok()?.entry)).collect();
        for (at, entry) in entries.iter().enumerate() {
            let same = |earlier: &&&TransparencyLogEntry| {
                earlier.log_id == entry.log_id
                    && (earlier.log_index == entry.log_index
                        || earlier.canonicalized_body == entry.canonicalized_body)
            };
            if entries.iter().take(at).any(|earlier| same(&earlier)) {
                return Err(Refusal::malformed("the same entry of a log is there twice"));
            }
        }
        Ok(self)
    }
}

/// Refuses more than the most.
pub(crate) fn over(what: &str, count: usize, most: usize) -> Result<(), Refusal> {
    if count <= most {
        Ok(())
    } else {
        Err(Refusal::over(format!("{count} {what}; at most {most} are looked at")))
    }
}

/// Digests with the annotations of what they are of.
pub(crate) type Subjects = Vec<(Digest, BTreeMap<String, serde_json::Value>)>;
