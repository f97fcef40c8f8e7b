// SPDX-License-Identifier: AGPL-3.0-only
//! A client of registries, ours and others: what `stella tags`, `digest`, `inspect` and `copy` work with.
//!
//! A [`Remote`] is one repository at one registry. Below it: `registry.rs` sends one request with all that
//! belongs to it (logging in by `auth.rs` with what `credentials.rs` finds, redirects, trying again),
//! `content.rs` lets no byte out that does not have its digest. What always holds: whatever was received has
//! been verified, or is an error; nothing is read without a limit; no secret is shown to anyone but the
//! registry that it is for, and to no person. This is not the server, and shares nothing with it but names.

use std::sync::Arc;

use http::Method;
use reqwest::Url;
use stella_storage::RepoName;

mod auth;
mod blobs;
mod challenge;
mod content;
mod credentials;
mod document;
mod error;
mod health;
mod helper;
mod manifests;
mod paging;
mod push;
mod reference;
mod referrers;
mod registry;
mod stella;
#[cfg(test)]
mod tests;
mod text;
mod wire;

pub(crate) use content::Content;
pub(crate) use document::{Descriptor, Document, Platform};
pub(crate) use error::{Error, Result};
pub(crate) use health::{Health, health};
pub(crate) use manifests::Manifest;
pub(crate) use push::Pushed;
pub(crate) use reference::ImageName;
pub(crate) use referrers::fallback_tag;
pub(crate) use registry::Options;
pub(crate) use stella::policy_status;
pub(crate) use text::printable;

use auth::Scopes;
use registry::{Call, Registry};

/// A repository at a registry.
#[derive(Clone)]
pub(crate) struct Remote {
    registry: Arc<Registry>,
    repository: RepoName,
}

/// What a request does, as token services name it.
#[derive(Clone, Copy)]
enum Access {
    Pull,
    Push,
}

impl Remote {
    /// Prepares to speak with the repository that `name` names.
    pub(crate) async fn connect(options: &Options, name: &ImageName) -> Result<Self> {
        let registry = Registry::connect(options, name).await?;
        Ok(Remote { registry: Arc::new(registry), repository: name.repository.clone() })
    }

    /// The same, and shows the login from the first request on. A registry with a gate tells who says nothing of itself what
    /// anonymous gets, and does not ask: of a tag the release, not what was pushed last.
    pub(crate) async fn introduced(options: &Options, name: &ImageName) -> Result<Self> {
        let remote = Self::connect(options, name).await?;
        remote.registry.introduce().await?;
        Ok(remote)
    }

    /// Another repository at the same registry, by the same connections and login.
    pub(crate) fn sibling(&self, repository: RepoName) -> Self {
        Remote { registry: Arc::clone(&self.registry), repository }
    }

    /// The repository's name.
    pub(crate) fn repository(&self) -> &RepoName {
        &self.repository
    }

    /// Whether the other repository is at the same registry, which can then mount blobs of one in the other.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry) && self.repository != other.repository
    }

    fn call(&self, method: Method, access: Access, rest: &str) -> Result<Call> {
        let url = self.url(rest)?;
        Ok(Call::new(method, url, self.scopes(access)))
    }

    fn url(&self, rest: &str) -> Result<Url> {
        let path = format!("/v2/{}/{rest}", self.repository);
        self.registry.base.join(&path).map_err(|error| Error::Failed(format!("{path}: {error}")))
    }

    fn scopes(&self, access: Access) -> Scopes {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        Scopes::from([format!("repository:{}:{actions}", self.repository)])
    }
}
