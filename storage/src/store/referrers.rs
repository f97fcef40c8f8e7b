// SPDX-License-Identifier: AGPL-3.0-only
//! Referrers: the manifests whose `subject` is a given digest, as finished descriptors.
//!
//! A subject need not exist to have referrers. Rows are ordered by artifact type, then digest, so a
//! page is one scan with or without a filter.

use super::{Store, repositories};
use crate::digest::Digest;
use crate::error::Result;
use crate::keys;
use crate::kv::{MAX_PAGE_ROWS, ReadTx, Row};
use crate::name::RepoName;

/// One page of a referrers list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersPage {
    /// Descriptors as JSON.
    pub descriptors: Vec<Vec<u8>>,
    /// Where the next page begins, if there is one: opaque bytes.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// The referrers of a digest, after the cursor of an earlier page. A page has at most `limit`
    /// descriptors of `max_bytes` together, but always one if there is any. With `types`, only
    /// those whose artifact type is among them.
    pub async fn referrers(
        &self,
        repo: &RepoName,
        subject: &Digest,
        types: &[String],
        after: Option<Vec<u8>>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<ReferrersPage> {
        let mut types: Vec<Option<String>> = types.iter().cloned().map(Some).collect();
        types.sort();
        types.dedup();
        if types.is_empty() {
            types.push(None);
        }
        let (mut page, mut bytes, mut cursor) = (ReferrersPage::default(), 0, after);
        for artifact_type in types {
            loop {
                let rows = self.referrer_rows(repo, subject, artifact_type.clone(), cursor.clone()).await?;
                let last = rows.len() < MAX_PAGE_ROWS;
                for (position, descriptor) in rows {
                    if !page.descriptors.is_empty()
                        && (page.descriptors.len() >= limit || bytes + descriptor.len() > max_bytes)
                    {
                        page.next = cursor;
                        return Ok(page);
                    }
                    bytes += descriptor.len() + 1;
                    page.descriptors.push(descriptor);
                    cursor = Some(position);
                }
                if last {
                    break;
                }
            }
        }
        Ok(page)
    }

    /// Positions (keys without their common prefix) and descriptors.
    async fn referrer_rows(
        &self,
        repo: &RepoName,
        subject: &Digest,
        artifact_type: Option<String>,
        after: Option<Vec<u8>>,
    ) -> Result<Vec<Row>> {
        let (repo, subject) = (repo.clone(), subject.clone());
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok(Vec::new()) };
                let all = keys::referrers(repo, &subject);
                let prefix = match &artifact_type {
                    None => all.clone(),
                    Some(artifact_type) => keys::referrers_of_type(repo, &subject, artifact_type),
                };
                let after = after.as_ref().map(|after| [all.as_slice(), after].concat());
                let rows = tx.range(&prefix, after.as_deref(), MAX_PAGE_ROWS).await?;
                Ok(rows.into_iter().map(|(key, value)| (key[all.len()..].to_vec(), value)).collect())
            })
            .await
    }
}
