// SPDX-License-Identifier: AGPL-3.0-only
//! The keys with which tokens are signed, shared by all replicas.

use std::fmt;

use super::{HIDDEN, MAX_TEXT, check_name, check_size};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::rows;
use crate::store::Store;

/// Keys that are kept at most, so that one page holds them.
const MAX_KEYS: usize = 64;
/// The largest private key, in bytes; one of RSA with 8192 bits has fewer.
const MAX_PRIVATE: usize = 16 << 10;

/// A key with which tokens are signed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name in what it signs.
    pub kid: String,
    /// The algorithm of its signatures.
    pub algorithm: String,
    /// The private key: PKCS#8, DER.
    pub private: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it signs; until then only its public part is told.
    pub signs_from: Timestamp,
    /// From when on it signs no more.
    pub retired: Option<Timestamp>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SigningKey { kid, algorithm, private: _, created, signs_from, retired } = self;
        f.debug_struct("SigningKey")
            .field("kid", kid)
            .field("algorithm", algorithm)
            .field("private", &HIDDEN)
            .field("created", created)
            .field("signs_from", signs_from)
            .field("retired", retired)
            .finish()
    }
}

impl Store {
    /// Every signing key, the oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>> {
        self.engine.scan(async |tx: &mut ReadTx| all(tx).await).await
    }

    /// Adds a key if the newest one of its algorithm is still `only_if_newest`, or if there is none yet: of
    /// several replicas that rotate at once, one wins. Adding the same key again is told as the first time.
    pub async fn add_signing_key(&self, key: SigningKey, only_if_newest: Option<&str>) -> Result<bool> {
        check_name("the name of a signing key", &key.kid)?;
        check_size("the algorithm of a signing key", key.algorithm.len(), MAX_TEXT)?;
        check_size("a private key", key.private.len(), MAX_PRIVATE)?;
        let only_if_newest = only_if_newest.map(str::to_owned);
        self.engine
            .write(key.private.len(), async move |tx: &mut WriteTx| {
                let present = all(tx).await?;
                if let Some(same) = present.iter().find(|present| present.kid == key.kid) {
                    return Ok(*same == key);
                }
                let newest = present.iter().rfind(|present| present.algorithm == key.algorithm);
                if newest.map(|newest| &newest.kid) != only_if_newest.as_ref() {
                    return Ok(false);
                }
                if present.len() >= MAX_KEYS {
                    let sentence =
                        format!("there are {MAX_KEYS} signing keys; remove one that signs no more");
                    return Err(Error::TooLarge(sentence));
                }
                put(tx, &key)?;
                Ok(true)
            })
            .await
    }

    /// Notes that a key signs no more from now on; false if there is none, or it was retired before.
    pub async fn retire_signing_key(&self, kid: &str) -> Result<bool> {
        let (kid, now) = (kid.to_owned(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let Some(row) = tx.get(&keys::signing_key(&kid)).await? else { return Ok(false) };
                let key = SigningKey::from_row(&kid, &row)?;
                if key.retired.is_some() {
                    return Ok(false);
                }
                put(tx, &SigningKey { retired: Some(now), ..key })?;
                Ok(true)
            })
            .await
    }

    /// Removes a key: what it signed cannot be checked any more. False if there is none.
    pub async fn remove_signing_key(&self, kid: &str) -> Result<bool> {
        let key = keys::signing_key(kid);
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let present = tx.get(&key).await?.is_some();
                tx.delete(key.clone())?;
                Ok(present)
            })
            .await
    }
}

/// All keys by the time when they were made, then by name.
async fn all(tx: &mut ReadTx) -> Result<Vec<SigningKey>> {
    let found = tx.range(keys::SIGNING_KEYS, None, crate::kv::MAX_PAGE_ROWS).await?;
    let found = found.iter().map(|(key, row)| SigningKey::from_row(keys::read_signing_key(key)?, row));
    let mut found = found.collect::<Result<Vec<_>>>()?;
    found.sort_by(|a, b| (a.created, &a.kid).cmp(&(b.created, &b.kid)));
    Ok(found)
}

fn put(tx: &mut WriteTx, key: &SigningKey) -> Result<()> {
    let row = rows::SigningKey {
        algorithm: key.algorithm.clone(),
        private: key.private.clone(),
        created: key.created,
        signs_from: key.signs_from,
        retired: key.retired,
    };
    tx.put(keys::signing_key(&key.kid), rows::encode(&row)?)
}

impl SigningKey {
    fn from_row(kid: &str, row: &[u8]) -> Result<Self> {
        let row: rows::SigningKey = rows::decode(row)?;
        Ok(SigningKey {
            kid: kid.to_owned(),
            algorithm: row.algorithm,
            private: row.private,
            created: row.created,
            signs_from: row.signs_from,
            retired: row.retired,
        })
    }
}
