// SPDX-License-Identifier: AGPL-3.0-only
//! What a signature is of: a statement or payload that lies in the evidence, or bytes that do not. Here it is compared
//! with the artifact that is asked about, and handed to Sigstore's crates in the form which they take.

use std::borrow::Cow;

use sigstore_types::{ArtifactDigest, DsseEnvelope, HashAlgorithm, SignatureContent};

use super::Artifact;
use crate::evidence::parsed::{Meaning, Parsed};
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::{Algorithm, Claim, Digest, PublicKey, Reason};

/// What a signature is of.
pub(super) struct Subject<'a> {
    /// What a fact will say.
    pub(super) claim: Cow<'a, Claim>,
    /// What was signed.
    pub(super) signed: Signed<'a>,
}

/// What was signed.
pub(super) enum Signed<'a> {
    /// This envelope; the digest is one of its subjects.
    Envelope(&'a DsseEnvelope, ArtifactDigest),
    /// These bytes.
    Bytes(&'a [u8]),
    /// Bytes with this digest.
    Hash(ArtifactDigest),
}

impl<'a> Subject<'a> {
    pub(super) fn new(parsed: &'a Parsed, artifact: Option<&Artifact<'a>>) -> Result<Self, Refusal> {
        if let Some(Artifact { digest, bytes: Some(bytes) }) = artifact
            && !digest.is_of(bytes)
        {
            return Err(wrong("the artifact's bytes are not of its digest".into()));
        }
        let Meaning::Claim(claim) = &parsed.meaning else { return blob(parsed, artifact) };
        if let Some(artifact) = artifact {
            about(claim, artifact)?;
        }
        let signed = match (&parsed.content, claim) {
            (SignatureContent::DsseEnvelope(envelope), Claim::Statement { subjects, .. }) => {
                let (digest, _) = subjects.first().ok_or_else(|| Refusal::malformed("no subject"))?;
                Signed::Envelope(envelope, artifact_digest(digest)?)
            }
            (_, Claim::Image { payload, .. }) => Signed::Bytes(payload),
            _ => return Err(Refusal::malformed("a signature that is not of what lies beside it")),
        };
        Ok(Subject { claim: Cow::Borrowed(claim), signed })
    }

    /// How `signature` was made, if it is of this by the key.
    pub(super) fn signed_by(&self, key: &PublicKey, signature: &[u8]) -> Option<Scheme> {
        match &self.signed {
            Signed::Envelope(envelope, _) => {
                // DSSE's pre-authentication encoding: `DSSEv1 LENGTH TYPE LENGTH PAYLOAD`.
                let (kind, payload) = (&envelope.payload_type, envelope.payload.as_bytes());
                let before = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
                key.scheme_of(&[before.as_bytes(), payload], signature)
            }
            Signed::Bytes(message) => key.scheme_of(&[message], signature),
            Signed::Hash(digest) => key.scheme_of_hash(digest.as_bytes(), signature),
        }
    }

    /// Whether Sigstore's crates look at such a signature: they know one hash for each kind of key, or that of the
    /// message's digest.
    pub(super) fn is_usual(&self, parsed: &Parsed, key: &PublicKey, scheme: Scheme) -> bool {
        let hash = match &parsed.content {
            SignatureContent::MessageSignature(message) => {
                message.message_digest.as_ref().map(|digest| digest.algorithm)
            }
            _ => None,
        };
        let by_other_digest =
            matches!(&self.signed, Signed::Hash(digest) if digest.algorithm() != HashAlgorithm::Sha2256);
        key.usual_scheme(hash) == Some(scheme) && !by_other_digest
    }

    /// As Sigstore's crates take it.
    pub(super) fn input(&self) -> sigstore_types::Artifact<'_> {
        match &self.signed {
            Signed::Envelope(_, digest) | Signed::Hash(digest) => {
                sigstore_types::Artifact::Digest(digest.clone())
            }
            Signed::Bytes(bytes) => sigstore_types::Artifact::Blob(bytes),
        }
    }
}

/// Any subject may be it, never only the first; the algorithm is compared too.
fn about(claim: &Claim, artifact: &Artifact<'_>) -> Result<(), Refusal> {
    let is = |digest: &Digest| {
        *digest == artifact.digest || artifact.bytes.is_some_and(|bytes| digest.is_of(bytes))
    };
    let (found, said) = match claim {
        Claim::Image { digest, .. } | Claim::Blob { digest } => (is(digest), digest.to_string()),
        Claim::Statement { subjects, .. } => {
            let said = subjects.first().map(|(digest, _)| digest.to_string()).unwrap_or_default();
            (subjects.iter().any(|(digest, _)| is(digest)), said)
        }
    };
    if found { Ok(()) } else { Err(wrong(format!("it is about {said}, not about {}", artifact.digest))) }
}

fn blob<'a>(parsed: &'a Parsed, artifact: Option<&Artifact<'a>>) -> Result<Subject<'a>, Refusal> {
    let said = match &parsed.content {
        SignatureContent::MessageSignature(message) => message.message_digest.as_ref(),
        _ => return Err(Refusal::malformed("a signature that is not of what lies beside it")),
    };
    // The hint of what was signed must not be another thing than what is asked about.
    if let (Some(said), Some(Artifact { digest, bytes })) = (said, artifact) {
        let actual = match bytes {
            Some(bytes) => crate::scheme::hash(said.algorithm, &[bytes]),
            None if algorithm(digest) == said.algorithm => ::hex::decode(digest.hex()).ok(),
            None => None,
        };
        if actual.is_some_and(|actual| actual != said.digest.as_bytes()) {
            return Err(wrong(format!("it is of other bytes than {digest}")));
        }
    }
    match (artifact, said) {
        (Some(Artifact { bytes: Some(bytes), .. }), _) => Ok(Subject {
            claim: Cow::Owned(Claim::Blob { digest: Digest::of(bytes) }),
            signed: Signed::Bytes(bytes),
        }),
        // A hash of another kind cannot be made of this one.
        (Some(Artifact { digest, bytes: None }), Some(said)) if algorithm(digest) != said.algorithm => {
            Err(Refusal::unsupported(format!(
                "a signature of a digest with {}, and only a digest with {} is given",
                said.algorithm,
                algorithm(digest)
            )))
        }
        (Some(Artifact { digest, bytes: None }), _) => Ok(Subject {
            claim: Cow::Owned(Claim::Blob { digest: digest.clone() }),
            signed: Signed::Hash(artifact_digest(digest)?),
        }),
        // The signature is of this digest or it is refused, so that it may be taken from the evidence.
        (None, Some(said)) if said.algorithm == HashAlgorithm::Sha2256 => {
            let digest: Digest = format!("sha256:{}", said.digest.to_hex())
                .parse()
                .map_err(|_| Refusal::malformed("messageDigest.digest: not of SHA-256"))?;
            let signed = Signed::Hash(artifact_digest(&digest)?);
            Ok(Subject { claim: Cow::Owned(Claim::Blob { digest }), signed })
        }
        (None, _) => Err(Refusal::unsupported("a signature of bytes; without them it cannot be verified")),
    }
}

fn artifact_digest(digest: &Digest) -> Result<ArtifactDigest, Refusal> {
    let bytes = ::hex::decode(digest.hex()).map_err(|error| Refusal::malformed(error.to_string()))?;
    ArtifactDigest::new(algorithm(digest), bytes).map_err(|error| Refusal::malformed(error.to_string()))
}

fn algorithm(digest: &Digest) -> HashAlgorithm {
    match digest.algorithm() {
        Algorithm::Sha256 => HashAlgorithm::Sha2256,
        Algorithm::Sha512 => HashAlgorithm::Sha2512,
    }
}

fn wrong(why: String) -> Refusal {
    Refusal::new(Reason::WrongSubject, why)
}
