// SPDX-License-Identifier: AGPL-3.0-only
//! Keys of what clients prove themselves with: robots, refresh tokens, signing keys.
//!
//! A subject is in a key as its sha256, because it can be as long as an identity provider likes.

use super::{Builder, Parts, damaged, shard};
use crate::clock::Timestamp;
use crate::digest::{Algorithm, Digest};
use crate::error::Result;

pub(crate) const ROBOTS: &[u8] = b"r";
pub(crate) const REFRESH_TOKENS: &[u8] = b"y";
pub(crate) const SIGNING_KEYS: &[u8] = b"o";

/// The longest name of a robot or a signing key, in bytes.
pub(crate) const MAX_CREDENTIAL_NAME: usize = 128;

pub(crate) fn robot(name: &str) -> Vec<u8> {
    Builder::table(b'r').raw(name.as_bytes()).build()
}

pub(crate) fn read_robot(key: &[u8]) -> Result<&str> {
    Parts::after(key, ROBOTS)?.credential_name()
}

pub(crate) fn robot_use(name: &str) -> Vec<u8> {
    Builder::table(b'w').raw(name.as_bytes()).build()
}

pub(crate) fn refresh_token(sha256: &[u8; 32]) -> Vec<u8> {
    Builder::table(b'y').raw(sha256).build()
}

pub(crate) fn read_refresh_token(key: &[u8]) -> Result<[u8; 32]> {
    let mut parts = Parts::after(key, REFRESH_TOKENS)?;
    let sha256 = parts.array()?;
    parts.end(sha256)
}

/// How keys know a subject.
pub(crate) fn subject_sha256(subject: &str) -> [u8; 32] {
    match Algorithm::Sha256.digest(subject.as_bytes()) {
        Digest::Sha256(bytes) => bytes,
        _ => [0; 32],
    }
}

/// The refresh tokens of a subject, the oldest first.
pub(crate) fn refresh_tokens_of(subject: &[u8; 32]) -> Vec<u8> {
    Builder::table(b'j').raw(subject).build()
}

pub(crate) fn refresh_token_of(subject: &[u8; 32], created: Timestamp, sha256: &[u8; 32]) -> Vec<u8> {
    Builder(refresh_tokens_of(subject)).time(created).raw(sha256).build()
}

/// When a token of a subject was made, and which: of a key found under `prefix` (from [`refresh_tokens_of`]).
pub(crate) fn read_refresh_token_of(key: &[u8], prefix: &[u8]) -> Result<(Timestamp, [u8; 32])> {
    let mut parts = Parts::after(key, prefix)?;
    let token = (parts.time()?, parts.array()?);
    parts.end(token)
}

pub(crate) fn refresh_token_expiry(expires: Timestamp, sha256: &[u8; 32]) -> Vec<u8> {
    Builder::table(b'd').raw(&[shard(sha256)]).time(expires).raw(sha256).build()
}

/// A part of the queue of refresh tokens that expire.
pub(crate) fn refresh_token_expiries(shard: u8) -> [u8; 2] {
    [b'd', shard]
}

/// Reads what [`refresh_token_expiry`] wrote.
pub(crate) fn read_refresh_token_expiry(key: &[u8]) -> Result<(Timestamp, [u8; 32])> {
    let mut parts = Parts::after(key, b"d")?;
    parts.take(1)?;
    let expiry = (parts.time()?, parts.array()?);
    parts.end(expiry)
}

pub(crate) fn signing_key(kid: &str) -> Vec<u8> {
    Builder::table(b'o').raw(kid.as_bytes()).build()
}

pub(crate) fn read_signing_key(key: &[u8]) -> Result<&str> {
    Parts::after(key, SIGNING_KEYS)?.credential_name()
}

impl<'k> Parts<'k> {
    /// The rest, as the name of a robot or a signing key.
    pub(super) fn credential_name(self) -> Result<&'k str> {
        let name = self.rest()?;
        if name.is_empty() || name.len() > MAX_CREDENTIAL_NAME { Err(damaged()) } else { Ok(name) }
    }
}
