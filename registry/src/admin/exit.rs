// SPDX-License-Identifier: AGPL-3.0-only
//! The exit codes of the command line: one table for all commands.

use stella_storage::Error;

/// It failed; the message says why.
pub(crate) const INTERNAL: u8 = 1;
/// Wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// What was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 4;
/// Stored data is damaged.
pub(crate) const INTEGRITY: u8 = 6;
/// The same may succeed later.
pub(crate) const RETRY: u8 = 10;

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
        Error::Refused(_) | Error::NewerSchema { .. } | Error::OlderSchema { .. } => USAGE,
        _ => INTERNAL,
    }
}
