// SPDX-License-Identifier: AGPL-3.0-only
//! What clients prove themselves with. Nothing else says what such a row said, so one that cannot be read is
//! removed: whom it was for proves itself in another way and gets a new one.

use super::found::{At, Change, Findings, Held, hold, read};
use super::report::FaultKind;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::keys::{self, Key};
use crate::kv::ReadTx;
use crate::rows;

/// Rows that stand alone.
pub(super) fn lone(read_key: &Key, key: &[u8], value: &[u8], found: &mut Findings) {
    let (readable, what, how) = match read_key {
        Key::Robot(name) => (
            !matches!(read::<rows::Robot>(value), Held::Unreadable),
            format!("the row of the robot {name:?} cannot be read"),
            "the robot is removed; make it again",
        ),
        Key::RobotUse(name) => (
            !matches!(read::<rows::RobotUse>(value), Held::Unreadable),
            format!("when the robot {name:?} was last used cannot be read"),
            "that is forgotten",
        ),
        Key::Signing(kid) => (
            !matches!(read::<rows::SigningKey>(value), Held::Unreadable),
            format!("the signing key {kid:?} cannot be read"),
            "it is removed; clients whose tokens it signed log in again",
        ),
        Key::Allowance(digest, _) => (
            !matches!(read::<rows::Allowance>(value), Held::Unreadable),
            format!("what allows {digest} cannot be read"),
            "it is allowed no longer; allow it again",
        ),
        _ => return,
    };
    if !readable {
        let changes = vec![Change::Delete(key.to_vec())];
        found.change(FaultKind::RowUnreadable, At::default(), what, how, changes);
    }
}

pub(super) async fn refresh_token(
    tx: &mut ReadTx,
    sha256: &[u8; 32],
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let Held::Row(row) = read::<rows::RefreshToken>(value) else {
        let what = format!("the refresh token {} cannot be read", short(sha256));
        let how = "it is removed; its client logs in again";
        let changes = vec![Change::Delete(keys::refresh_token(sha256))];
        found.change(FaultKind::RowUnreadable, At::default(), what, how, changes);
        return Ok(());
    };
    let subject = keys::subject_sha256(&row.subject);
    let index = [
        keys::refresh_token_of(&subject, row.created, sha256),
        keys::refresh_token_expiry(row.expires, sha256),
    ];
    let present = tx.get_many(&index).await?;
    let missing = index.into_iter().zip(present).filter(|(_, row)| row.is_none());
    let changes: Vec<_> = missing.map(|(key, _)| Change::Put(key, Vec::new())).collect();
    if !changes.is_empty() {
        let what = format!("the refresh token {} is not found by its subject and expiry", short(sha256));
        found.change(FaultKind::RefreshTokenIndexMissing, At::default(), what, "it is found", changes);
    }
    Ok(())
}

pub(super) async fn refresh_token_of(
    tx: &mut ReadTx,
    (subject, created, sha256): (&[u8; 32], Timestamp, &[u8; 32]),
    found: &mut Findings,
) -> Result<()> {
    let right =
        |row: &rows::RefreshToken| keys::subject_sha256(&row.subject) == *subject && row.created == created;
    stray(tx, sha256, right, keys::refresh_token_of(subject, created, sha256), found).await
}

pub(super) async fn refresh_token_expiry(
    tx: &mut ReadTx,
    (expires, sha256): (Timestamp, &[u8; 32]),
    found: &mut Findings,
) -> Result<()> {
    let right = |row: &rows::RefreshToken| row.expires == expires;
    stray(tx, sha256, right, keys::refresh_token_expiry(expires, sha256), found).await
}

/// Finds that an index leads to a token which is not there, or is another.
async fn stray(
    tx: &mut ReadTx,
    sha256: &[u8; 32],
    right: impl Fn(&rows::RefreshToken) -> bool,
    key: Vec<u8>,
    found: &mut Findings,
) -> Result<()> {
    match hold::<rows::RefreshToken>(tx, &keys::refresh_token(sha256)).await? {
        Held::Row(row) if right(&row) => return Ok(()),
        // Told of by itself.
        Held::Unreadable => return Ok(()),
        Held::Row(_) | Held::Absent => {}
    }
    let what = format!("the refresh token {} is found where it is not", short(sha256));
    let changes = vec![Change::Delete(key)];
    found.change(FaultKind::RefreshTokenIndexStray, At::default(), what, "it is not found there", changes);
    Ok(())
}

/// Enough of a sha256 to tell tokens apart.
fn short(sha256: &[u8; 32]) -> String {
    hex::encode(&sha256[..8])
}
