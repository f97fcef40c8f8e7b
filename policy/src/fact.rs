// SPDX-License-Identifier: AGPL-3.0-only
//! What evidence proves: plain data that can be stored, independent of any policy but for the keys and roots that it was
//! checked with.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::{Digest, Form, Reason, Time};

/// What only verification makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The one place where something becomes verified: `crate::verify`.
    pub(crate) fn new(proven: T) -> Self {
        Verified(proven)
    }

    /// For tests of what comes after verification.
    #[cfg(test)]
    pub(crate) fn in_test(proven: T) -> Self {
        Verified(proven)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// That somebody signed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which evidence says so; two facts of one item have the same.
    pub evidence: Digest,
    /// How it came.
    pub form: Form,
    /// Who signed.
    pub signer: Signer,
    /// What was signed.
    pub claim: Claim,
    /// What transparency logs say of it.
    pub log: Log,
    /// When it was signed, as trusted clocks say; in ascending order, one for each authority.
    pub times: Vec<ProvenTime>,
    /// Why a timestamp that came with it does not count, where one came. A policy that needs times refuses with it.
    pub bad_time: Option<String>,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// Whoever has the private key.
    Key {
        /// SHA-256 of its `SubjectPublicKeyInfo` (DER), in hex.
        fingerprint: String,
    },
    /// Whoever a certificate authority says that it was.
    Certificate {
        /// The trust root whose authority, and whose clocks, were asked.
        root: String,
        /// Who vouched for the subject.
        issuer: String,
        /// The certificate's only subject alternative name.
        subject: String,
        /// Fulcio's other extensions, by the names of `signatures.md` §2: `sourceRepositoryURI`, … Sorted.
        extensions: BTreeMap<String, String>,
        /// Whether a certificate transparency log had it.
        logged: bool,
    },
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// A simple-signing payload: that this is the image.
    Image {
        /// The manifest's digest.
        digest: Digest,
        /// For which repository, or even tag, as the signer said; empty if it did not.
        repository: String,
        /// `-a name=value`.
        annotations: BTreeMap<String, serde_json::Value>,
        /// The payload's bytes.
        payload: Vec<u8>,
    },
    /// An in-toto statement.
    Statement {
        /// Digests of its subjects, each with annotations where it has them.
        subjects: Vec<(Digest, BTreeMap<String, serde_json::Value>)>,
        /// What kind of statement; cosign's signatures have `https://sigstore.dev/cosign/sign/v1`.
        predicate_type: String,
        /// The statement's bytes.
        statement: Vec<u8>,
    },
    /// Bytes as they are (`sign-blob`).
    Blob {
        /// Of the bytes.
        digest: Digest,
    },
}

/// What transparency logs say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Log {
    /// Nothing came with it.
    Absent,
    /// It is in these; never none, one for each log.
    Proven(Vec<LogEntry>),
    /// What came with it is wrong, or of a log that nobody here trusts. Only who asks for no log may go on.
    Wrong(String),
}

/// An entry of a transparency log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The trust root that has the log's key.
    pub root: String,
    /// The log's id, in hex.
    pub log: String,
    /// The log's address, as the root has it.
    pub url: String,
    /// Its place.
    pub index: u64,
    /// Whether its place in the tree was proven; else the log only promised (the SET of a legacy signature).
    pub included: bool,
}

/// When something was signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProvenTime {
    /// When.
    pub at: Time,
    /// Whose clock.
    pub source: TimeSource,
    /// The trust root that has it.
    pub root: String,
    /// Which log or authority: its id, or its address.
    pub authority: String,
}

/// Whose clock a time is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSource {
    /// A log's integrated time, under its signature.
    Log,
    /// An RFC 3161 timestamp authority.
    Timestamp,
}

/// Evidence that proves nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub evidence: Digest,
    /// How it came.
    pub form: Form,
    /// Who is said to have signed, where that can be read; not proven.
    pub said_signer: Option<String>,
    /// Why, as a word.
    pub reason: Reason,
    /// Why, for a person.
    pub why: String,
}
