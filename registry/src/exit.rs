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
