// SPDX-License-Identifier: AGPL-3.0-only
//! That an entry of a log is of this signature, made by this key or certificate, of these bytes, hashed as the signature
//! has it (CVE-2022-23649, CVE-2022-36056, CVE-2026-22703: any valid entry, pasted beside another signature). All kinds of
//! entries come here, also those that `sigstore-verify` does not take.

use sigstore_types::{HashAlgorithm, KindVersion};

use super::subject::{Signed, Subject};
use crate::evidence::body::{Body, Hash, Named};
use crate::evidence::parsed::{Logged, Parsed};
use crate::refusal::Refusal;
use crate::scheme::{Scheme, hash};

/// Whose signature an entry must be of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// Who has this key, in DER.
    Key(&'a [u8]),
    /// The owner of this certificate, in DER.
    Certificate(&'a [u8]),
}

/// Checks an entry against what lies in the evidence; `scheme` is how the signature was found to be made.
pub(super) fn check(
    logged: &Logged,
    parsed: &Parsed,
    subject: &Subject<'_>,
    whose: Whose<'_>,
    scheme: Scheme,
) -> Result<(), Refusal> {
    let named = match &logged.body {
        Body::Hashed { hash, signature, signer, .. } => {
            same_signature(parsed, signature)?;
            if logged.entry.kind_version == KindVersion::HashedRekordV001
                && matches!(subject.signed, Signed::Envelope(..))
            {
                return Err(Refusal::unsupported("hashedrekord 0.0.1 of an envelope is not verified here"));
            }
            // A log checks a signature with the hash that it is given. Another one than the signature's it never saw.
            if scheme.hash().is_some_and(|algorithm| algorithm != hash.algorithm) {
                return Err(wrong("has another hash than the signature"));
            }
            of_what_was_signed(hash, subject)?;
            signer
        }
        Body::Payload { hash, kind, signature, signer } => {
            let Signed::Envelope(envelope, _) = &subject.signed else {
                return Err(wrong("is of an envelope"));
            };
            same_signature(parsed, signature)?;
            if kind.as_ref().is_some_and(|kind| *kind != envelope.payload_type) {
                return Err(wrong("is of a payload of another type"));
            }
            if hash.algorithm != HashAlgorithm::Sha2256 {
                return Err(Refusal::unsupported("an entry with another hash of its payload than SHA-256"));
            }
            of_these(hash, &[envelope.payload.as_bytes()])?;
            signer
        }
        Body::Envelope { hash, signer } => {
            let Some(envelope) = &parsed.envelope else {
                return Err(Refusal::unsupported(
                    "an entry of kind intoto 0.0.1 is of an envelope byte for byte, and its bytes are not kept here",
                ));
            };
            of_these(hash, &[envelope])?;
            signer
        }
    };
    let same = match (named, whose) {
        (Named::Key(said), Whose::Key(key)) => said == key,
        (Named::Certificate(said), Whose::Certificate(certificate)) => said == certificate,
        _ => false,
    };
    if same { Ok(()) } else { Err(wrong("names another signer")) }
}

fn same_signature(parsed: &Parsed, signature: &[u8]) -> Result<(), Refusal> {
    if parsed.signature() == signature { Ok(()) } else { Err(wrong("is of another signature")) }
}

fn of_what_was_signed(hash: &Hash, subject: &Subject<'_>) -> Result<(), Refusal> {
    match &subject.signed {
        Signed::Envelope(envelope, _) => of_these(hash, &[&envelope.pae()]),
        Signed::Bytes(bytes) => of_these(hash, &[bytes]),
        Signed::Hash(digest) => {
            let same = digest.algorithm() == hash.algorithm && digest.as_bytes() == hash.value;
            if same { Ok(()) } else { Err(wrong("is of other bytes")) }
        }
    }
}

fn of_these(said: &Hash, parts: &[&[u8]]) -> Result<(), Refusal> {
    if hash(said.algorithm, parts).is_some_and(|actual| actual == said.value) {
        Ok(())
    } else {
        Err(wrong("is of other bytes"))
    }
}

fn wrong(why: &str) -> Refusal {
    Refusal::log(format!("the entry of the log {why}"))
}
