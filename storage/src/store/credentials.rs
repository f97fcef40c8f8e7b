// SPDX-License-Identifier: AGPL-3.0-only
//! What clients prove themselves with, kept in the catalog so that every replica knows it.
//!
//! Who is allowed what is decided elsewhere; here a robot, a refresh token or a signing key is stored,
//! found and taken away. Secrets of robots and tokens are only here as their sha256; the private parts
//! of signing keys are here as they are. Invariants: every size and number is bounded, and `Debug`
//! shows nothing by which anyone could prove anything.

use crate::error::{Error, Result};
use crate::keys::MAX_CREDENTIAL_NAME;

mod refresh;
mod robots;
mod signing_keys;

pub use refresh::RefreshToken;
pub use robots::{Grant, Robot};
pub use signing_keys::SigningKey;

pub(super) use robots::Uses;

/// The longest text that comes from outside, such as a subject, in bytes.
const MAX_TEXT: usize = 1024;

/// What `Debug` shows in place of a secret.
const HIDDEN: &str = "hidden";

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_CREDENTIAL_NAME {
        return Err(Error::TooLarge(format!(
            "{what} has 1 to {MAX_CREDENTIAL_NAME} bytes, not {}",
            name.len()
        )));
    }
    Ok(())
}

fn check_size(what: &str, bytes: usize, most: usize) -> Result<()> {
    if bytes > most {
        return Err(Error::TooLarge(format!("{what} has at most {most} bytes, not {bytes}")));
    }
    Ok(())
}
