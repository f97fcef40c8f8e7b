// SPDX-License-Identifier: AGPL-3.0-only
//! What readers get today, for a baseline. It takes a running server: what its policies deny is not listed.

use std::fmt::{self, Display};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stella_storage::{Error, RepoName, Result, Store};
use tokio::sync::mpsc;

use super::{Operation, Request};
use crate::app::App;
use crate::error::ApiError;
use crate::gate::Gated;

/// Repositories, and tags, that are read at once.
const AT_ONCE: usize = 500;

/// The request for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Released {}

/// An image that readers get by some tag.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) digest: String,
}

/// What policies call this registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Here {
    pub(crate) host: String,
}

impl Operation for Released {
    const NAME: &'static str = "list of releases";

    type Item = Image;
    type Summary = Here;

    fn request(self) -> Request {
        Request::Released(self)
    }

    fn audited(&self) -> Option<&'static str> {
        None
    }

    async fn run(&self, _: &Store, _: mpsc::Sender<Image>) -> Result<Here> {
        Err(Error::Refused("no server runs on this data; start it, and ask then".to_owned()))
    }

    async fn serve(&self, app: &Arc<App>, items: mpsc::Sender<Image>) -> Result<Here> {
        let host = app.gate.host().map_err(|error| Error::Refused(format!("{error:#}")))?;
        let mut after = None;
        loop {
            let page = app.store.repositories(after, AT_ONCE).await?;
            after = page.last().cloned();
            for repo in page.iter().filter_map(|name| name.parse::<RepoName>().ok()) {
                if !list(app, &repo, &items).await? {
                    return Ok(Here { host });
                }
            }
            if page.len() < AT_ONCE {
                return Ok(Here { host });
            }
        }
    }

    fn faults(_: &Here) -> bool {
        false
    }
}

/// Tells what readers get in one repository; false if nobody listens any more.
async fn list(app: &Arc<App>, repo: &RepoName, items: &mpsc::Sender<Image>) -> Result<bool> {
    let failed = |error: ApiError| Error::Unavailable(format!("{error:?}"));
    let gated = app.gate.gated(repo).filter(Gated::enforces_pull);
    let mut after = None;
    loop {
        let page = app.store.tag_states(repo, after.as_ref(), AT_ONCE).await?;
        after = page.last().map(|state| state.tag.clone());
        let is_last = page.len() < AT_ONCE;
        for tag in page {
            let Some(digest) = tag.released else { continue };
            if let Some(gated) = &gated
                && !app.gate.may_read(app, gated, repo, &digest).await.map_err(failed)?
            {
                continue;
            }
            let image = Image { repository: repo.to_string(), digest: digest.to_string() };
            if items.send(image).await.is_err() {
                return Ok(false);
            }
        }
        if is_last {
            return Ok(true);
        }
    }
}

impl Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}
