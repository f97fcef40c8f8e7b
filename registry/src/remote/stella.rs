// SPDX-License-Identifier: AGPL-3.0-only
//! What only a Stella registry can be asked (`/api/stella/v1/`): what its policies say of an image, and where its tags
//! have been.

use std::collections::BTreeSet;

use http::Method;
use reqwest::Url;
use serde_json::Value;
use stella_storage::{Digest, Reference, Tag};

use super::auth::Scopes;
use super::error::{Error, Result};
use super::reference::{Host, ImageName};
use super::registry::{Call, Options, Registry};
use super::text::printable;
use super::{Access, Remote};

/// A decision with all its evidence, or the moves of a tag, are far smaller.
const MAX_ANSWER: usize = 16 << 20;

impl Remote {
    /// What policies say of an image.
    pub(crate) async fn explain(&self, reference: &Reference) -> Result<Value> {
        let name = match reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.repository),
            Reference::Digest(digest) => format!("{}@{digest}", self.repository),
        };
        let url = url(&self.registry, "policy/explain", &[("ref", &name)])?;
        ask(&self.registry, Method::GET, url, self.scopes(Access::Pull)).await
    }

    /// What readers of a tag have seen, newest first.
    pub(crate) async fn tag_history(&self, tag: &Tag) -> Result<Value> {
        let name = format!("{}:{tag}", self.repository);
        let url = url(&self.registry, "tags/history", &[("ref", &name)])?;
        ask(&self.registry, Method::GET, url, self.scopes(Access::Pull)).await
    }

    /// Points a tag at another digest, for readers and pushers.
    pub(crate) async fn roll_back(&self, tag: &Tag, to: &Digest) -> Result<Value> {
        let (name, digest) = (format!("{}:{tag}", self.repository), to.to_string());
        let url = url(&self.registry, "tags/rollback", &[("ref", &name), ("digest", &digest)])?;
        let scopes = BTreeSet::from([format!("repository:{}:pull,push,delete", self.repository)]);
        ask(&self.registry, Method::POST, url, scopes).await
    }
}

/// How the policies of a registry fare.
pub(crate) async fn policy_status(options: &Options, host: &str) -> Result<Value> {
    let host: Host = host.parse()?;
    // A login for the whole registry is found whatever the repository is called.
    let repository = "policy".parse().map_err(|error| Error::Failed(format!("{error}")))?;
    let registry =
        Registry::connect(options, &ImageName { host, repository, tag: None, digest: None }).await?;
    // Who may administer the registry is told more.
    registry.introduce().await?;
    let url = url(&registry, "policy/status", &[])?;
    ask(&registry, Method::GET, url, BTreeSet::from(["registry:catalog:*".to_owned()])).await
}

fn url(registry: &Registry, path: &str, query: &[(&str, &str)]) -> Result<Url> {
    let path = format!("/api/stella/v1/{path}");
    let mut url = registry.base.join(&path).map_err(|error| Error::Failed(format!("{path}: {error}")))?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

async fn ask(registry: &Registry, method: Method, url: Url, scopes: Scopes) -> Result<Value> {
    let call = Call::new(method, url, scopes);
    let answer = registry.exchange(&call, MAX_ANSWER).await?;
    serde_json::from_slice(&answer.body).map_err(|error| {
        let error = printable(&error.to_string(), 200);
        Error::Failed(format!("the answer is not understood; is it a Stella registry? {error}"))
    })
}
