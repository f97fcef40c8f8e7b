// SPDX-License-Identifier: AGPL-3.0-only
//! Repositories: interning their names, and listing them.

use super::Store;
use crate::clock::Timestamp;
use crate::error::{Error, Result, What};
use crate::keys::{self, RepoId};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
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
    tx.put(keys::repository_by_id(id), name.as_str().as_bytes().to_vec())?;
    tx.put(keys::repository(name.as_str()), rows::encode(&rows::Repository { id, created: now })?)?;
    Ok(id)
}

/// The name of a repository.
pub(super) async fn name(tx: &mut ReadTx, id: RepoId) -> Result<RepoName> {
    let row = tx.get(&keys::repository_by_id(id)).await?;
    let name = row.and_then(|row| String::from_utf8(row).ok()).and_then(|name| name.parse().ok());
    name.ok_or_else(|| Error::Corrupt(format!("the name of repository {} cannot be read", id.0)))
}

/// Writes the names by id of the repositories after `after`, which a store of schema version 1 does not
/// have. Returns where to go on.
pub(super) async fn index_names(tx: &mut WriteTx, after: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
    let rows = tx.range(keys::REPOSITORIES, after, MAX_PAGE_ROWS).await?;
    for (key, row) in &rows {
        let id = rows::decode::<rows::Repository>(row)?.id;
        tx.put(keys::repository_by_id(id), keys::read_repository(key)?.as_bytes().to_vec())?;
    }
    Ok(rows.into_iter().last().map(|(key, _)| key))
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
