// SPDX-License-Identifier: AGPL-3.0-only
//! A repository at any registry, as the policy engine reads it ([`stella_policy::Source`]). It asks and hands over;
//! what comes has the digest that was asked for, and nothing else is known of it: a manifest that is no manifest is for
//! the engine to refuse.

use stella_policy as policy;
use stella_policy::Source;
use stella_storage::{Digest, Reference, Tag};

use crate::remote::{Error, Remote, Result};

/// A repository at a registry.
#[derive(Clone)]
pub(crate) struct RemoteSource(pub(crate) Remote);

impl Source for RemoteSource {
    async fn manifest(&self, reference: &policy::Reference) -> policy::Result<Option<policy::Manifest>> {
        let reference = match reference {
            policy::Reference::Digest(digest) => Reference::Digest(ours(digest)?),
            // What no registry takes as a tag names nothing.
            policy::Reference::Tag(tag) => match tag.parse::<Tag>() {
                Ok(tag) => Reference::Tag(tag),
                Err(_) => return Ok(None),
            },
        };
        let Some((digest, media_type, bytes)) = found(self.0.raw_manifest(&reference).await)? else {
            return Ok(None);
        };
        Ok(Some(policy::Manifest { digest: theirs(&digest)?, media_type, bytes: bytes.into() }))
    }

    async fn referrers(
        &self,
        subject: &policy::Digest,
        limit: usize,
    ) -> policy::Result<Vec<policy::Descriptor>> {
        let listed = self.0.first_referrers(&ours(subject)?, limit).await.map_err(failed)?;
        // What is of another algorithm cannot be verified, so it cannot be evidence.
        let known = listed.into_iter().filter_map(|entry| {
            Some(policy::Descriptor {
                media_type: entry.media_type,
                digest: entry.digest.to_string().parse().ok()?,
                size: entry.size,
                artifact_type: entry.artifact_type,
                // Nobody who verifies looks at them, and a registry may send any number.
                annotations: None,
            })
        });
        Ok(known.collect())
    }

    async fn blob(&self, digest: &policy::Digest, most: u64) -> policy::Result<Option<Vec<u8>>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(found(self.0.small_blob(&ours(digest)?, most).await)?.map(Into::into))
    }
}

/// A digest of the engine as one of the client.
pub(crate) fn ours(digest: &policy::Digest) -> policy::Result<Digest> {
    digest.as_str().parse().map_err(|_| policy::Error::Malformed(format!("{digest} is no digest")))
}

/// A digest of the client as one of the engine.
pub(crate) fn theirs(digest: &Digest) -> policy::Result<policy::Digest> {
    let known = digest.to_string().parse();
    known.map_err(|_| policy::Error::Malformed(format!("{digest} is of an algorithm that is not known here")))
}

fn found<T>(outcome: Result<T>) -> policy::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: Error) -> policy::Error {
    match error {
        Error::Integrity(message) => policy::Error::Malformed(message),
        Error::OverLimit(message) => policy::Error::OverLimit(message),
        other => policy::Error::Source(Box::new(other)),
    }
}
