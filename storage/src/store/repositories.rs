// SPDX-License-Identifier: AGPL-3.0-only
//! Repositories: interning their names, and listing them.

use super::Store;
use crate::clock::Timestamp;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId};
use crate::kv::{ReadTx, WriteTx};
use crate::name::RepoName;
use crate::rows;

/// The id of a repository that holds, or held, something.
pub(super) async fn find(tx: &mut ReadTx, name: &RepoName) -> Result<Option<RepoId>> {
    match tx.get(&keys::repository(name.as_str())).await? {
        None => Ok(None),
        Some(row) => Ok(Some(rows::decode::<rows::Repository>(&row)?.id)),
    }
}

/// The id of a repository, or the error that says there is none.
pub(super) async fn expect(tx: &mut ReadTx, name: &RepoName) -> Result<RepoId> {
    find(tx, name).await?.ok_or(Error::NotFound(What::Repository))
}

/// The id of a repository, which comes to exist if it did not.
pub(super) async fn intern(tx: &mut WriteTx, name: &RepoName, now: Timestamp) -> Result<RepoId> {
    if let Some(id) = find(tx, name).await? {
        return Ok(id);
    }
    let next = match tx.get(keys::NEXT_REPOSITORY).await? {
        None => 0,
        Some(bytes) => bytes
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| Error::Corrupt("the next repository id cannot be read".to_owned()))?,
    };
    let after = next.checked_add(1).ok_or_else(|| Error::TooLarge("no repository id is left".to_owned()))?;
    tx.put(keys::NEXT_REPOSITORY.to_vec(), after.to_be_bytes().to_vec())?;
    let id = RepoId(next);
    tx.put(keys::repository(name.as_str()), rows::encode(&rows::Repository { id, created: now })?)?;
    Ok(id)
}

impl Store {
    /// At most `limit` repository names after `after`, in byte order.
    pub async fn repositories(&self, after: Option<String>, limit: usize) -> Result<Vec<String>> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let after = after.as_deref().map(keys::repository);
                let rows = tx.range(keys::REPOSITORIES, after.as_deref(), limit).await?;
                rows.iter().map(|(key, _)| keys::read_repository(key).map(str::to_owned)).collect()
            })
            .await
    }
}
