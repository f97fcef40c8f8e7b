// SPDX-License-Identifier: AGPL-3.0-only
//! What Sigstore's crates answer, in the words of this program.

use sigstore_verify::bundle::Error as BundleError;
use sigstore_verify::{CertificateError, Error, TimestampError};

use crate::Reason;
use crate::refusal::Refusal;

/// Why the crate refused.
pub(super) fn refusal(error: &Error) -> Refusal {
    let reason = match error {
        Error::SignatureInvalid(_) | Error::Crypto(_) => Reason::BadSignature,
        Error::Certificate(why) => match why {
            CertificateError::Malformed(_) => Reason::Malformed,
            CertificateError::NoValidAuthority { .. }
            | CertificateError::NotYetValid { .. }
            | CertificateError::Expired { .. } => Reason::Expired,
            // The crate hands the path's error on as text only; the dates of certificates on it are among them.
            CertificateError::ChainInvalid(text) if text.contains("Expired") || text.contains("NotValidYet") => {
                Reason::Expired
            }
            CertificateError::Sct(text) if text.contains("multiple") => Reason::Unsupported,
            CertificateError::Sct(_) => Reason::TlogInvalid,
            _ => Reason::BadSignature,
        },
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_))
        | Error::Bundle(BundleError::MissingSigningTimeEvidence) => Reason::NoTrustedTime,
        Error::TransparencyLog(_)
        // What is asked about was compared before, so here it is the entry that is about something else.
        | Error::ArtifactMismatch(_)
        | Error::Timestamp(_)
        | Error::Bundle(
            BundleError::MissingInclusionProof(_)
            | BundleError::MissingInclusionPromise(_)
            | BundleError::MissingCheckpoint
            | BundleError::LogIndexOutOfRange { .. }
            | BundleError::CheckpointRootMismatch,
        ) => Reason::TlogInvalid,
        Error::UnsupportedArtifact(_) | Error::UnsupportedBundle(_) => Reason::Unsupported,
        _ => Reason::Malformed,
    };
    Refusal::new(reason, error.to_string())
}
