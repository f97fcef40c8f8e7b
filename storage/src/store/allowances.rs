// SPDX-License-Identifier: AGPL-3.0-only
//! What an operator lets through for a while, whatever policies ask of it: break-glass.
//!
//! An allowance is of one digest, in one repository or in all. Whoever makes or takes one changes the stamp of the manifests
//! that it is about, after the row: so what was judged without it, or with it, is found by nobody any more, in any process.

use super::{Store, gate, manifests, repositories};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::name::RepoName;
use crate::rows;

/// The longest reason, and name of who gave it, in bytes.
const MAX_TEXT: usize = 1024;
/// Repositories that are looked at in one transaction.
const AT_ONCE: usize = 200;

/// A digest that is allowed until some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What is allowed.
    pub digest: Digest,
    /// Where; everywhere if that is not said.
    pub repository: Option<RepoName>,
    /// Why, in an operator's words.
    pub reason: String,
    /// Who allowed it.
    pub by: String,
    /// When.
    pub created: Timestamp,
    /// From when on it is no longer.
    pub expires: Timestamp,
}

impl Allowance {
    fn from_row(key: &[u8], row: &[u8]) -> Result<Self> {
        let (digest, repository) = keys::read_allowance(key)?;
        let rows::Allowance { reason, by, created, expires } = rows::decode(row)?;
        Ok(Allowance { digest, repository, reason, by, created, expires })
    }
}

impl Store {
    /// Allows a digest, instead of what was said of it before. Gives the repositories where it is.
    pub async fn allow(&self, allowance: Allowance) -> Result<Vec<RepoName>> {
        let Allowance { digest, repository, reason, by, created, expires } = allowance;
        if reason.len() > MAX_TEXT || by.len() > MAX_TEXT {
            return Err(Error::TooLarge(format!(
                "a reason, and who gives it, have at most {MAX_TEXT} bytes"
            )));
        }
        let key = keys::allowance(&digest, repository.as_ref());
        let row = rows::encode(&rows::Allowance { reason, by, created, expires })?;
        self.engine.write(row.len(), async move |tx: &mut WriteTx| tx.put(key.clone(), row.clone())).await?;
        self.touch_everywhere(&digest, repository.as_ref()).await
    }

    /// Takes an allowance back. Gives the repositories where its digest is; nothing if there was none.
    pub async fn disallow(
        &self,
        digest: &Digest,
        repository: Option<&RepoName>,
    ) -> Result<Option<Vec<RepoName>>> {
        let key = keys::allowance(digest, repository);
        let was = self
            .engine
            .write(0, async move |tx: &mut WriteTx| {
                let was = tx.get(&key).await?.is_some();
                if was {
                    tx.delete(key.clone())?;
                }
                Ok(was)
            })
            .await?;
        // Also if there was none: an earlier try may have ended in between, and what it allowed must not stay allowed.
        let touched = self.touch_everywhere(digest, repository).await?;
        Ok(was.then_some(touched))
    }

    /// What allows a digest in a repository, be it over or not; of two, what lasts longer.
    pub async fn allowance(&self, repo: &RepoName, digest: &Digest) -> Result<Option<Allowance>> {
        self.engine
            .read(async |tx: &mut ReadTx| {
                let keys = [keys::allowance(digest, Some(repo)), keys::allowance(digest, None)];
                let found = tx.get_many(&keys).await?;
                let rows = keys.iter().zip(found).filter_map(|(key, row)| Some((key, row?)));
                let all: Vec<_> =
                    rows.map(|(key, row)| Allowance::from_row(key, &row)).collect::<Result<_>>()?;
                Ok(all.into_iter().max_by_key(|allowance| allowance.expires))
            })
            .await
    }

    /// At most `limit` allowances after one of a digest and repository, also those that are over.
    pub async fn allowances(
        &self,
        after: Option<(Digest, Option<RepoName>)>,
        limit: usize,
    ) -> Result<Vec<Allowance>> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let after = after.as_ref().map(|(digest, repo)| keys::allowance(digest, repo.as_ref()));
                let found = tx.range(keys::ALLOWANCES, after.as_deref(), limit).await?;
                found.iter().map(|(key, row)| Allowance::from_row(key, row)).collect()
            })
            .await
    }

    async fn touch_everywhere(
        &self,
        digest: &Digest,
        repository: Option<&RepoName>,
    ) -> Result<Vec<RepoName>> {
        if let Some(repo) = repository {
            return self.touch_in(vec![repo.clone()], digest).await;
        }
        let (mut touched, mut after) = (Vec::new(), None);
        loop {
            let page = self.repositories(after, AT_ONCE).await?;
            let is_last = page.len() < AT_ONCE;
            after = page.last().cloned();
            let repos = page.iter().filter_map(|name| name.parse().ok()).collect();
            touched.extend(self.touch_in(repos, digest).await?);
            if is_last {
                return Ok(touched);
            }
        }
    }

    /// Changes the stamp of a manifest where it is, and says where that is.
    async fn touch_in(&self, repos: Vec<RepoName>, digest: &Digest) -> Result<Vec<RepoName>> {
        let digest = digest.clone();
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let mut touched = Vec::new();
                for name in &repos {
                    let Some(repo) = repositories::find(tx, name).await? else { continue };
                    if manifests::find(tx, repo, &digest).await?.is_some() {
                        gate::touch(tx, repo, &digest).await?;
                        touched.push(name.clone());
                    }
                }
                Ok(touched)
            })
            .await
    }
}
