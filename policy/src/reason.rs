// SPDX-License-Identifier: AGPL-3.0-only
//! Why evidence, an authority or an artifact is not taken: a closed list, because programs read it.

use serde::{Deserialize, Serialize};

/// Why a verdict is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It passed.
    Ok,
    /// No policy is about it.
    NoPolicy,
    /// Nothing is said of it.
    NoEvidence,
    /// Evidence that cannot be read as what it says to be.
    Malformed,
    /// More than is looked at.
    OverLimit,
    /// The signature is not of these bytes by this key.
    BadSignature,
    /// Signed by somebody else.
    WrongIdentity,
    /// Signed is another artifact.
    WrongSubject,
    /// An attestation of another type.
    WrongPredicate,
    /// Nothing says that it is in a transparency log.
    TlogMissing,
    /// What says that it is in a log is wrong.
    TlogInvalid,
    /// Nothing trusted says when it was signed.
    NoTrustedTime,
    /// It was signed too long ago.
    TooOld,
    /// The key or the certificate was not valid when it signed.
    Expired,
    /// Fewer signers than demanded.
    TooFewSigners,
    /// A rule about an attestation's content said no.
    PredicateRejected,
    /// Signed for another repository.
    RepositoryMismatch,
    /// Older than what was released already.
    Rollback,
    /// Its digest, or one below it, is on a list of denied ones.
    DeniedDigest,
    /// Evidence of a kind that is not verified here.
    Unsupported,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 20] = [
        Reason::Ok,
        Reason::NoPolicy,
        Reason::NoEvidence,
        Reason::Malformed,
        Reason::OverLimit,
        Reason::BadSignature,
        Reason::WrongIdentity,
        Reason::WrongSubject,
        Reason::WrongPredicate,
        Reason::TlogMissing,
        Reason::TlogInvalid,
        Reason::NoTrustedTime,
        Reason::TooOld,
        Reason::Expired,
        Reason::TooFewSigners,
        Reason::PredicateRejected,
        Reason::RepositoryMismatch,
        Reason::Rollback,
        Reason::DeniedDigest,
        Reason::Unsupported,
    ];

    /// Its word, as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Ok => "ok",
            Reason::NoPolicy => "no-policy",
            Reason::NoEvidence => "no-evidence",
            Reason::Malformed => "malformed",
            Reason::OverLimit => "over-limit",
            Reason::BadSignature => "bad-signature",
            Reason::WrongIdentity => "wrong-identity",
            Reason::WrongSubject => "wrong-subject",
            Reason::WrongPredicate => "wrong-predicate",
            Reason::TlogMissing => "tlog-missing",
            Reason::TlogInvalid => "tlog-invalid",
            Reason::NoTrustedTime => "no-trusted-time",
            Reason::TooOld => "too-old",
            Reason::Expired => "expired",
            Reason::TooFewSigners => "too-few-signers",
            Reason::PredicateRejected => "predicate-rejected",
            Reason::RepositoryMismatch => "repository-mismatch",
            Reason::Rollback => "rollback",
            Reason::DeniedDigest => "denied-digest",
            Reason::Unsupported => "unsupported",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_word_that_json_has() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
