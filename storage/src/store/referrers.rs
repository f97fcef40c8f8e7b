// SPDX-License-Identifier: AGPL-3.0-only
//! Referrers: the manifests whose `subject` is a given digest, as finished descriptors.
//!
//! A subject need not exist to have referrers. Rows are ordered by artifact type, then digest, so a
//! page is one scan with or without a filter.

use super::{Store, repositories};
use crate::digest::Digest;
use crate::error::Result;
use crate::keys;
use crate::kv::ReadTx;
use crate::name::RepoName;

/// A descriptor carries its manifest's annotations and may be megabytes: what is read at once must
/// not be much more than what a page may hold.
const ROWS_AT_ONCE: usize = 8;

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
        let (repo, subject) = (repo.clone(), subject.clone());
        let mut types = types.to_vec();
        types.sort();
        types.dedup();
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let mut page = ReferrersPage::default();
                let Some(repo) = repositories::find(tx, &repo).await? else { return Ok(page) };
                let all = keys::referrers(repo, &subject);
                let prefixes = if types.is_empty() {
                    vec![all.clone()]
                } else {
                    types.iter().map(|name| keys::referrers_of_type(repo, &subject, name)).collect()
                };
                // A cursor is a key without the prefix that all of them share.
                let mut last = after.as_ref().map(|after| [all.as_slice(), after].concat());
                let mut bytes = 0;
                for prefix in prefixes {
                    loop {
                        let rows = tx.range(&prefix, last.as_deref(), ROWS_AT_ONCE).await?;
                        let end = rows.len() < ROWS_AT_ONCE;
                        for (key, descriptor) in rows {
                            if !page.descriptors.is_empty()
                                && (page.descriptors.len() >= limit || bytes + descriptor.len() > max_bytes)
                            {
                                page.next = last.map(|key| key[all.len()..].to_vec());
                                return Ok(page);
                            }
                            bytes += descriptor.len() + 1;
                            page.descriptors.push(descriptor);
                            last = Some(key);
                        }
                        if end {
                            break;
                        }
                    }
                }
                Ok(page)
            })
            .await
    }
}
