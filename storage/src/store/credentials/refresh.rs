// SPDX-License-Identifier: AGPL-3.0-only
//! Refresh tokens, found by their sha256, by their subject, and by when they expire.
//!
//! The three rows of a token come and go together. A token that has expired is none, whether or not it
//! was swept.

use std::fmt;

use super::{HIDDEN, MAX_TEXT, check_size};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::rows;
use crate::store::Store;

/// Live tokens of one subject; one more takes the place of the oldest.
const MAX_LIVE: usize = 100;
/// Tokens that one transaction removes: three rows each.
const REMOVED_AT_ONCE: usize = 300;

/// What a client shows to get new access tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whom it stands for.
    pub subject: String,
    /// How the subject proved itself when the token was made.
    pub proof: String,
    /// What must still be the same of that proof, such as a hash of the password's entry.
    pub stamp: Vec<u8>,
    /// Which client asked for it.
    pub client: String,
    /// For which service.
    pub service: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is none.
    pub expires: Timestamp,
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RefreshToken { subject, proof: _, stamp: _, client, service, created, expires } = self;
        f.debug_struct("RefreshToken")
            .field("subject", subject)
            .field("proof", &HIDDEN)
            .field("stamp", &HIDDEN)
            .field("client", client)
            .field("service", service)
            .field("created", created)
            .field("expires", expires)
            .finish()
    }
}

impl Store {
    /// Stores a token under its sha256. When its subject has 100 others that live, the oldest goes.
    pub async fn add_refresh_token(&self, sha256: [u8; 32], token: RefreshToken) -> Result<()> {
        let RefreshToken { subject, proof, stamp, client, service, .. } = &token;
        for (what, bytes) in [
            ("the subject of a refresh token", subject.len()),
            ("the proof of a refresh token", proof.len()),
            ("the stamp of a refresh token", stamp.len()),
            ("the client of a refresh token", client.len()),
            ("the service of a refresh token", service.len()),
        ] {
            check_size(what, bytes, MAX_TEXT)?;
        }
        let (row, now) = (rows::RefreshToken::from(token), self.now());
        let value = rows::encode(&row)?;
        self.engine
            .write(value.len(), async move |tx: &mut WriteTx| {
                if let Some(before) = find(tx, &sha256).await? {
                    remove(tx, &sha256, &before)?;
                }
                make_room(tx, &keys::subject_sha256(&row.subject), now).await?;
                let subject = keys::subject_sha256(&row.subject);
                tx.put(keys::refresh_token_of(&subject, row.created, &sha256), Vec::new())?;
                tx.put(keys::refresh_token_expiry(row.expires, &sha256), Vec::new())?;
                tx.put(keys::refresh_token(&sha256), value.clone())
            })
            .await
    }

    /// A token that has not expired.
    pub async fn refresh_token(&self, sha256: &[u8; 32]) -> Result<Option<RefreshToken>> {
        let now = self.now();
        let row = self.engine.read(async |tx: &mut ReadTx| find(tx, sha256).await).await?;
        Ok(row.filter(|row| row.expires > now).map(RefreshToken::from))
    }

    /// At most `limit` tokens after `after`, in the order of their sha256, without those that have expired. A
    /// page may be shorter than `limit` although more follow: only an empty one is the end.
    pub async fn refresh_tokens(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<Vec<([u8; 32], RefreshToken)>> {
        let now = self.now();
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let mut after = after.map(|sha256| keys::refresh_token(&sha256));
                // A page of expired ones only must not look like the end.
                loop {
                    let page = tx.range(keys::REFRESH_TOKENS, after.as_deref(), limit).await?;
                    let mut live = Vec::with_capacity(page.len());
                    for (key, row) in &page {
                        let row: rows::RefreshToken = rows::decode(row)?;
                        if row.expires > now {
                            live.push((keys::read_refresh_token(key)?, row.into()));
                        }
                    }
                    match page.into_iter().last() {
                        Some((key, _)) if live.is_empty() => after = Some(key),
                        _ => return Ok(live),
                    }
                }
            })
            .await
    }

    /// Removes a token; false if there is none.
    pub async fn revoke_refresh_token(&self, sha256: &[u8; 32]) -> Result<bool> {
        let sha256 = *sha256;
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let Some(row) = find(tx, &sha256).await? else { return Ok(false) };
                remove(tx, &sha256, &row)?;
                Ok(true)
            })
            .await
    }

    /// Removes every token of a subject; returns how many there were.
    pub async fn revoke_refresh_tokens_of(&self, subject: &str) -> Result<u64> {
        let (subject, mut revoked) = (keys::subject_sha256(subject), 0);
        loop {
            let removed = self.engine.write(0, async move |tx: &mut WriteTx| {
                let tokens = tokens_of(tx, &subject, REMOVED_AT_ONCE).await?;
                for (created, sha256) in &tokens {
                    remove_indexed(tx, &subject, *created, sha256).await?;
                }
                Ok(tokens.len())
            });
            let removed = removed.await?;
            revoked += removed as u64;
            if removed < REMOVED_AT_ONCE {
                return Ok(revoked);
            }
        }
    }

    /// Removes tokens that have expired; returns how many. Its cost follows their number.
    pub async fn sweep_refresh_tokens(&self) -> Result<u64> {
        let (now, mut swept) = (self.now(), 0);
        let due = self.engine.scan(async move |tx: &mut ReadTx| {
            let mut shards = Vec::new();
            for shard in 0..keys::SHARDS {
                if !expired(tx, shard, now, 1).await?.is_empty() {
                    shards.push(shard);
                }
            }
            Ok(shards)
        });
        for shard in due.await? {
            loop {
                let removed = self.engine.write(0, async move |tx: &mut WriteTx| {
                    let due = expired(tx, shard, now, REMOVED_AT_ONCE).await?;
                    for (expires, sha256) in &due {
                        match find(tx, sha256).await? {
                            Some(row) if row.expires <= now => remove(tx, sha256, &row)?,
                            _ => {}
                        }
                        tx.delete(keys::refresh_token_expiry(*expires, sha256))?;
                    }
                    Ok(due.len())
                });
                let removed = removed.await?;
                swept += removed as u64;
                if removed < REMOVED_AT_ONCE {
                    break;
                }
            }
        }
        Ok(swept)
    }
}

async fn find(tx: &mut ReadTx, sha256: &[u8; 32]) -> Result<Option<rows::RefreshToken>> {
    tx.get(&keys::refresh_token(sha256)).await?.map(|row| rows::decode(&row)).transpose()
}

/// At most `limit` tokens of a subject, the oldest first: when each was made, and which.
async fn tokens_of(tx: &mut ReadTx, subject: &[u8; 32], limit: usize) -> Result<Vec<(Timestamp, [u8; 32])>> {
    let prefix = keys::refresh_tokens_of(subject);
    let rows = tx.range(&prefix, None, limit).await?;
    rows.iter().map(|(key, _)| keys::read_refresh_token_of(key, &prefix)).collect()
}

/// At most `limit` rows of a part of the queue that are due.
async fn expired(
    tx: &mut ReadTx,
    shard: u8,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(Timestamp, [u8; 32])>> {
    let rows = tx.range(&keys::refresh_token_expiries(shard), None, limit).await?;
    let mut due =
        rows.iter().map(|(key, _)| keys::read_refresh_token_expiry(key)).collect::<Result<Vec<_>>>()?;
    due.retain(|(expires, _)| *expires <= now);
    Ok(due)
}

/// Removes tokens of a subject until one more has room: those that have expired, else the oldest.
async fn make_room(tx: &mut WriteTx, subject: &[u8; 32], now: Timestamp) -> Result<()> {
    let mut tokens = tokens_of(tx, subject, REMOVED_AT_ONCE).await?;
    if tokens.len() < MAX_LIVE {
        return Ok(());
    }
    let rows: Vec<_> = tokens.iter().map(|(_, sha256)| keys::refresh_token(sha256)).collect();
    let rows = tx.get_many(&rows).await?;
    let mut live = Vec::with_capacity(tokens.len());
    for ((created, sha256), row) in tokens.drain(..).zip(rows) {
        let row = row.map(|row| rows::decode::<rows::RefreshToken>(&row)).transpose()?;
        match row {
            Some(row) if row.expires > now => live.push((created, sha256)),
            _ => remove_indexed(tx, subject, created, &sha256).await?,
        }
    }
    for (created, sha256) in live.iter().take((live.len() + 1).saturating_sub(MAX_LIVE)) {
        remove_indexed(tx, subject, *created, sha256).await?;
    }
    Ok(())
}

/// Removes a token that its subject knows, and that row in any case.
async fn remove_indexed(
    tx: &mut WriteTx,
    subject: &[u8; 32],
    created: Timestamp,
    sha256: &[u8; 32],
) -> Result<()> {
    match find(tx, sha256).await? {
        Some(row) if keys::subject_sha256(&row.subject) == *subject => remove(tx, sha256, &row)?,
        _ => {}
    }
    tx.delete(keys::refresh_token_of(subject, created, sha256))
}

fn remove(tx: &mut WriteTx, sha256: &[u8; 32], row: &rows::RefreshToken) -> Result<()> {
    tx.delete(keys::refresh_token_of(&keys::subject_sha256(&row.subject), row.created, sha256))?;
    tx.delete(keys::refresh_token_expiry(row.expires, sha256))?;
    tx.delete(keys::refresh_token(sha256))
}

impl From<RefreshToken> for rows::RefreshToken {
    fn from(token: RefreshToken) -> Self {
        let RefreshToken { subject, proof, stamp, client, service, created, expires } = token;
        rows::RefreshToken { subject, proof, stamp, client, service, created, expires }
    }
}

impl From<rows::RefreshToken> for RefreshToken {
    fn from(row: rows::RefreshToken) -> Self {
        let rows::RefreshToken { subject, proof, stamp, client, service, created, expires } = row;
        RefreshToken { subject, proof, stamp, client, service, created, expires }
    }
}
