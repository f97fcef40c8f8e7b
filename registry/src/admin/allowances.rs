// SPDX-License-Identifier: AGPL-3.0-only
//! Break-glass: a digest that an operator lets through for a while, whatever policies ask of it. What is on a list of denied
//! digests stays denied.

use std::fmt::{self, Display};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stella_storage::{
    Allowance, Clock as _, Digest, Error, RepoName, Result, Store, SystemClock, Timestamp, What,
};
use tokio::sync::mpsc;

use super::{Operation, Request};
use crate::app::App;
use crate::unseen::visible;

/// Rows that are read at once.
const PAGE: usize = 500;
/// Longer than any emergency.
const LONGEST: u64 = 30 * 86_400_000;

/// Something that is done with allowances.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Allowances {
    /// Allows a digest.
    Allow(NewAllowance),
    /// Lists what is allowed.
    List,
    /// Takes an allowance back.
    Revoke { digest: String, repository: Option<String> },
}

/// What to allow.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewAllowance {
    pub(crate) digest: String,
    pub(crate) repository: Option<String>,
    pub(crate) reason: String,
    /// Who says so, as far as the command knows; the audit trail has who it was for the system.
    pub(crate) by: String,
    /// Milliseconds from now.
    pub(crate) expires: u64,
}

/// A line of the list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Allowed {
    digest: String,
    repository: Option<String>,
    active: bool,
    created: String,
    expires: String,
    by: String,
    reason: String,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    did: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Where the digest is.
    #[serde(default)]
    repositories: Vec<String>,
}

impl Operation for Allowances {
    const NAME: &'static str = "allowance";

    type Item = Allowed;
    type Summary = Settled;

    fn request(self) -> Request {
        Request::Allowances(self)
    }

    fn audited(&self) -> Option<&'static str> {
        match self {
            Allowances::Allow(_) => Some("policy.allow"),
            Allowances::Revoke { .. } => Some("policy.allow.revoke"),
            Allowances::List => None,
        }
    }

    async fn run(&self, store: &Store, items: mpsc::Sender<Allowed>) -> Result<Settled> {
        match self {
            Allowances::Allow(new) => allow(store, new).await,
            Allowances::List => list(store, &items).await,
            Allowances::Revoke { digest, repository } => {
                let (parsed, place) = parse(digest, repository.as_deref())?;
                let found = store.disallow(&parsed, place.as_ref()).await?;
                let found = found.ok_or(Error::NotFound(What::Allowance))?;
                let did = format!("{digest}{} is allowed no longer", within(repository.as_deref()));
                Ok(Settled { did, digest: Some(digest.clone()), repositories: names(&found) })
            }
        }
    }

    fn faults(_: &Settled) -> bool {
        false
    }

    async fn serve(&self, app: &Arc<App>, items: mpsc::Sender<Allowed>) -> Result<Settled> {
        let summary = self.run(&app.store, items).await?;
        let Some(Ok(digest)) = summary.digest.as_deref().map(str::parse::<Digest>) else {
            return Ok(summary);
        };
        for repo in summary.repositories.iter().filter_map(|name| name.parse::<RepoName>().ok()) {
            let settled = match app.gate.gated(&repo) {
                Some(gated) => app.gate.settle(app, &gated, &repo, &digest).await.map(drop),
                None => Ok(()),
            };
            if let Err(error) = settled {
                tracing::warn!(%repo, %digest, ?error, "cannot judge; the next pass tries again");
            }
        }
        Ok(summary)
    }
}

async fn allow(store: &Store, new: &NewAllowance) -> Result<Settled> {
    let (digest, repository) = parse(&new.digest, new.repository.as_deref())?;
    if new.reason.trim().is_empty() {
        return Err(Error::Refused("say why: an allowance needs a reason".to_owned()));
    }
    if new.expires == 0 || new.expires > LONGEST {
        return Err(Error::Refused("an allowance lasts at most 30d".to_owned()));
    }
    let now = SystemClock.now();
    let expires = Timestamp(now.0.saturating_add(new.expires));
    let allowance = Allowance {
        digest,
        repository,
        reason: new.reason.clone(),
        by: new.by.clone(),
        created: now,
        expires,
    };
    let found = store.allow(allowance).await?;
    let (name, place, until) = (&new.digest, within(new.repository.as_deref()), expires.rfc3339());
    let here = match found.as_slice() {
        [] => "; it is not here yet".to_owned(),
        [one] => format!("; it is in {one}"),
        [one, more @ ..] => format!("; it is in {one} and {} more repositories", more.len()),
    };
    let did = format!("{name} is allowed{place} until {until}{here}");
    Ok(Settled { did, digest: Some(new.digest.clone()), repositories: names(&found) })
}

async fn list(store: &Store, items: &mpsc::Sender<Allowed>) -> Result<Settled> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.allowances(after.take(), PAGE).await?;
        after = page.last().map(|last| (last.digest.clone(), last.repository.clone()));
        if page.is_empty() {
            return Ok(Settled {
                did: format!("{count} allowances"),
                digest: None,
                repositories: Vec::new(),
            });
        }
        count += page.len();
        for Allowance { digest, repository, reason, by, created, expires } in page {
            let listed = Allowed {
                digest: digest.to_string(),
                repository: repository.map(|name| name.to_string()),
                active: SystemClock.now() < expires,
                created: created.rfc3339(),
                expires: expires.rfc3339(),
                by,
                reason,
            };
            if items.send(listed).await.is_err() {
                return Ok(Settled { did: String::new(), digest: None, repositories: Vec::new() });
            }
        }
    }
}

fn parse(digest: &str, repository: Option<&str>) -> Result<(Digest, Option<RepoName>)> {
    let refused = |what: &str| Error::Refused(format!("{what} is not what it must be"));
    let digest: Digest = digest.parse().map_err(|_| refused(&format!("the digest {digest:?}")))?;
    if matches!(digest, Digest::Other(_)) {
        return Err(Error::Refused(format!("{digest}: nothing is stored under such a digest")));
    }
    Ok((digest, repository.map(str::parse).transpose()?))
}

fn names(found: &[RepoName]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn within(repository: Option<&str>) -> String {
    repository.map_or(String::new(), |name| format!(" in {name}"))
}

impl Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allowed { digest, repository, active, expires, by, reason, .. } = self;
        let place = repository.as_deref().unwrap_or("everywhere");
        let state = if *active { "until" } else { "over since" };
        write!(f, "{digest}  {place}  {state} {expires}  by {}: {}", visible(by), visible(reason))
    }
}

impl Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.did))
    }
}
