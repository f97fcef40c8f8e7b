// SPDX-License-Identifier: AGPL-3.0-only
//! The exit codes of the command line: one table for all commands. 0 is success, and a server that is ready.

use stella_storage::Error;

/// It failed; the message says why.
pub(crate) const INTERNAL: u8 = 1;
/// Wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// Credentials are missing, wrong, or not enough.
pub(crate) const AUTH: u8 = 3;
/// What was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 4;
/// Content is damaged, or is not what its digest says.
pub(crate) const INTEGRITY: u8 = 6;
/// No signature, none that is right, or none by whom it was demanded of.
pub(crate) const SIGNATURE: u8 = 7;
/// What a transparency log or a timestamp should prove is missing or wrong.
pub(crate) const LOG: u8 = 8;
/// A policy says no, or not yet.
pub(crate) const POLICY: u8 = 9;
/// The same may succeed later.
pub(crate) const RETRY: u8 = 10;
/// Interrupted by SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// The table, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  done; of `health`: the server is ready
    1  it failed, the message says why
    2  wrong usage or configuration
    3  credentials are missing, wrong, or not enough
    4  not found
    6  content is damaged, or not what its digest says
    7  no signature, or none that is right and by whom it must be
    8  what a transparency log or a timestamp should prove is missing or wrong
    9  a policy says no, or not yet
   10  try again later; of `health`: not ready
  130  interrupted";

/// The exit code that an error of the policy engine means.
pub(crate) fn of_policy(error: &stella_policy::Error) -> u8 {
    use stella_policy::Error;
    match error {
        Error::Load(_) | Error::File { .. } | Error::Password(_) | Error::Key(_) => USAGE,
        Error::NotFound(_) => NOT_FOUND,
        Error::Malformed(_) | Error::OverLimit(_) => INTEGRITY,
        Error::Source(cause) => cause.downcast_ref().map_or(INTERNAL, crate::remote::Error::exit),
        _ => INTERNAL,
    }
}

/// The exit code that a reason means, where it is the only one.
pub(crate) fn of_reason(reason: stella_policy::Reason) -> u8 {
    use stella_policy::Reason;
    match reason {
        Reason::Ok => 0,
        Reason::Malformed | Reason::OverLimit => INTEGRITY,
        Reason::NoEvidence
        | Reason::BadSignature
        | Reason::WrongIdentity
        | Reason::WrongSubject
        | Reason::WrongPredicate
        | Reason::Expired
        | Reason::Unsupported => SIGNATURE,
        Reason::TlogMissing | Reason::TlogInvalid | Reason::NoTrustedTime => LOG,
        Reason::NoPolicy
        | Reason::TooOld
        | Reason::TooFewSigners
        | Reason::PredicateRejected
        | Reason::RepositoryMismatch
        | Reason::Rollback
        | Reason::DeniedDigest => POLICY,
    }
}

/// The exit code that an error of the store means.
pub(crate) fn of(error: &Error) -> u8 {
    match error {
        Error::NotFound(_) | Error::NoBackup(_) => NOT_FOUND,
        Error::Corrupt(_) | Error::DamagedBackup(_) | Error::Restoring(_) => INTEGRITY,
        Error::Busy(_)
        | Error::Locked { .. }
        | Error::DatabaseLocked { .. }
        | Error::Unavailable(_)
        | Error::CommitUnknown(_)
        | Error::Full => RETRY,
        Error::Refused(_) | Error::RobotExists(_) | Error::NewerSchema { .. } | Error::OlderSchema { .. } => {
            USAGE
        }
        _ => INTERNAL,
    }
}
