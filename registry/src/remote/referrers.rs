// SPDX-License-Identifier: AGPL-3.0-only
//! What refers to a manifest (end-12): signatures, SBOMs, attestations. A registry without that API keeps the
//! list under a tag instead, which its clients write themselves (OCI distribution-spec, "Referrers Tag Schema").

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};
use stella_storage::manifest::media_type::OCI_INDEX;
use stella_storage::{Digest, Reference, Tag};

use super::document::Descriptor;
use super::error::{Error, Result};
use super::manifests::Manifest;
use super::text::printable;
use super::{Access, Remote};

/// More than anything has.
const MAX_REFERRERS: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    manifests: Option<Vec<Descriptor>>,
}

impl Remote {
    /// What refers to `subject`.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let all = self.first_referrers(subject, MAX_REFERRERS + 1).await?;
        if all.len() > MAX_REFERRERS {
            return Err(Error::Failed(format!("{subject} has more than {MAX_REFERRERS} referrers")));
        }
        Ok(all)
    }

    /// What refers to `subject`, as far as the first `limit` of it.
    pub(crate) async fn first_referrers(&self, subject: &Digest, limit: usize) -> Result<Vec<Descriptor>> {
        let mut all = self.paged_referrers(subject, limit).await?;
        all.truncate(limit);
        Ok(all)
    }

    async fn paged_referrers(&self, subject: &Digest, limit: usize) -> Result<Vec<Descriptor>> {
        let call = self.call(Method::GET, Access::Pull, &format!("referrers/{subject}"))?;
        let mut pages = self.pages(call.header(header::ACCEPT, HeaderValue::from_static(OCI_INDEX)));
        let mut all = Vec::new();
        loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(all),
                // No such API. 400 and 405 occur too, from registries that look no further than the path.
                Err(Error::NotFound(_) | Error::Failed(_)) if all.is_empty() => {
                    return self.fallback_referrers(subject).await;
                }
                Err(error) => return Err(error),
            };
            // A registry that answers every path, such as by a web page, has no such API either.
            let is_index = page.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
                kind.to_str().is_ok_and(|kind| kind.split(';').next().unwrap_or_default().trim() == OCI_INDEX)
            });
            if !is_index && all.is_empty() {
                return self.fallback_referrers(subject).await;
            }
            let page: Page = serde_json::from_slice(&page.body).map_err(|error| not_understood(&error))?;
            all.extend(page.manifests.unwrap_or_default());
            if all.len() >= limit {
                return Ok(all);
            }
        }
    }

    async fn fallback_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        match self.manifest(&Reference::Tag(fallback_tag(subject)?)).await {
            Ok(index) => Ok(index.document.manifests().to_vec()),
            Err(Error::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Adds a referrer to the list under the tag, for a registry that does not keep it itself.
    pub(crate) async fn add_to_fallback(&self, subject: &Digest, referrer: &Descriptor) -> Result<()> {
        let reference = Reference::Tag(fallback_tag(subject)?);
        let mut index: Value = match self.manifest(&reference).await {
            Ok(index) => serde_json::from_slice(&index.bytes).map_err(|error| not_understood(&error))?,
            Err(Error::NotFound(_)) => {
                json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
            }
            Err(error) => return Err(error),
        };
        let wanted = referrer.digest.to_string();
        // Entries of others stay as they are, with all that we do not know.
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(Error::Failed(format!(
                "the tag {reference} is something else than a list of referrers"
            )));
        };
        if entries.iter().any(|entry| entry["digest"] == wanted.as_str()) {
            return Ok(());
        }
        entries.push(serde_json::to_value(referrer).map_err(|error| not_understood(&error))?);
        let bytes = Bytes::from(index.to_string());
        let manifest = Manifest::checked(None, Some(OCI_INDEX), bytes)?;
        self.put_manifest(&reference, &manifest).await.map(|_| ())
    }
}

/// The tag under which clients keep the referrers of `subject`.
pub(crate) fn fallback_tag(subject: &Digest) -> Result<Tag> {
    let text = subject.to_string();
    let (algorithm, encoded) = text.split_once(':').unwrap_or((&text, ""));
    let cut = |text: &str, length: usize| -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        text.chars().map(word).take(length).collect()
    };
    let tag = format!("{}-{}", cut(algorithm, 32), cut(encoded, 64));
    tag.parse().map_err(|error: stella_storage::Error| Error::Failed(error.to_string()))
}

fn not_understood(error: &serde_json::Error) -> Error {
    Error::Failed(format!("the list of referrers is not understood: {}", printable(&error.to_string(), 200)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_that_of_the_specification() {
        let tag = |digest: &str| fallback_tag(&digest.parse().unwrap()).unwrap().to_string();
        let hex = "0123456789abcdef".repeat(8);
        assert_eq!(tag(&format!("sha256:{}", &hex[..64])), format!("sha256-{}", &hex[..64]));
        assert_eq!(tag(&format!("sha512:{hex}")), format!("sha512-{}", &hex[..64]));
        assert_eq!(tag("a+b:c=d"), "a-b-c-d");
    }
}
