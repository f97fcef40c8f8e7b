// SPDX-License-Identifier: AGPL-3.0-only
//! What other policies would take from readers: `stella policy impact`, and the limit on it (`policy.max_impact`).
//!
//! The others are judged by a gate of their own, beside the one in force and with nothing of its memory, so that asking
//! changes nothing. It looks at every released tag, so it takes as long as a pass over all of them does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwapOption;
use stella_storage::{RepoName, Timestamp};

use super::active::{Active, Places};
use super::read::Readable;
use super::{Gate, Gated};
use crate::app::App;
use crate::error::ApiError;

/// Repositories, and tags, that are read at once.
const AT_ONCE: usize = 500;

/// A tag that readers would get nothing under any more.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) repository: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) reason: String,
    pub(crate) why: String,
    pub(crate) fix: Option<String>,
    pub(crate) last_pull: Option<Timestamp>,
}

impl Gate {
    /// Which released tags would stop under the policies in `paths`; the one that was pulled last comes first. Without
    /// `roots` the trust roots are those of the configuration.
    pub(crate) async fn impact(
        &self,
        app: &Arc<App>,
        paths: Vec<PathBuf>,
        roots: BTreeMap<String, PathBuf>,
        host: Option<String>,
    ) -> anyhow::Result<Vec<Stopped>> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = config.ok_or_else(|| anyhow::anyhow!("the server has no configuration yet"))?;
        let trust_roots = if roots.is_empty() { config.policy.trust_roots.clone() } else { roots };
        let host = match host {
            Some(host) => host,
            None => config.policy_host()?,
        };
        let places = Places {
            host,
            paths,
            trust_roots,
            max_evidence: config.policy.max_evidence,
            baseline: config.baseline()?,
        };
        let active = tokio::task::spawn_blocking(move || Active::load(&places)).await?;
        self.stopped(app, Arc::new(active.map_err(anyhow::Error::msg)?)).await
    }

    /// What policies call this registry.
    pub(crate) fn host(&self) -> anyhow::Result<String> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = config.ok_or_else(|| anyhow::anyhow!("the server has no configuration yet"))?;
        Ok(config.policy_host()?)
    }

    /// Fails if `active` would take more from readers than the configuration allows.
    pub(super) async fn within_limit(
        &self,
        app: &Arc<App>,
        active: &Arc<Active>,
        most: usize,
    ) -> anyhow::Result<()> {
        let stopped = self.stopped(app, Arc::clone(active)).await?;
        let Some(first) = stopped.first().filter(|_| stopped.len() > most) else { return Ok(()) };
        anyhow::bail!(
            "these policies would stop {} tags that readers get now, more than policy.max_impact ({most}) allows: {}:{} \
             ({}) and others; `stella policy impact --policy PATH` lists them; sign them, or raise policy.max_impact",
            stopped.len(),
            first.repository,
            first.tag,
            first.reason
        )
    }

    async fn stopped(&self, app: &Arc<App>, active: Arc<Active>) -> anyhow::Result<Vec<Stopped>> {
        app.store.flush_pulls().await?;
        let other = Gate::of(ArcSwapOption::new(Some(active)), self.base.clone());
        let (mut stopped, mut after) = (Vec::new(), None);
        loop {
            let page = app.store.repositories(after, AT_ONCE).await?;
            after = page.last().cloned();
            for repo in page.iter().filter_map(|name| name.parse::<RepoName>().ok()) {
                let Some(then) = other.gated(&repo).filter(Gated::enforces_pull) else {
                    continue;
                };
                let now = self.gated(&repo).filter(Gated::enforces_pull);
                self.stopped_in(app, &repo, (now.as_ref(), &other, &then), &mut stopped).await?;
            }
            if page.len() < AT_ONCE {
                break;
            }
        }
        // What nobody ever pulled comes last.
        stopped.sort_by(|a, b| {
            let order = b.last_pull.cmp(&a.last_pull);
            order.then_with(|| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)))
        });
        Ok(stopped)
    }

    async fn stopped_in(
        &self,
        app: &Arc<App>,
        repo: &RepoName,
        (now, other, then): (Option<&Gated>, &Gate, &Gated),
        stopped: &mut Vec<Stopped>,
    ) -> anyhow::Result<()> {
        let failed = |error: ApiError| anyhow::anyhow!("{error:?}");
        let mut after = None;
        loop {
            let page = app.store.tag_states(repo, after.as_ref(), AT_ONCE).await?;
            after = page.last().map(|state| state.tag.clone());
            let is_last = page.len() < AT_ONCE;
            for tag in page {
                let Some(digest) = &tag.released else { continue };
                let waits = tag.candidate != tag.released;
                if let Some(now) = now {
                    let is_hidden = waits && now.denies_while_waiting();
                    if is_hidden || !self.may_read(app, now, repo, digest).await.map_err(failed)? {
                        continue;
                    }
                }
                let Some(state) = app.store.manifest_state(repo, digest).await? else { continue };
                let told =
                    match other.readable(app, &then.matter(repo, digest), &state).await.map_err(failed)? {
                        Readable::No(why) => {
                            (why.reason.as_str().to_owned(), why.why.clone(), why.fix.clone())
                        }
                        Readable::Yes if waits && then.denies_while_waiting() => {
                            let why = "its candidate waits, and whileWaiting is deny".to_owned();
                            ("waiting".to_owned(), why, None)
                        }
                        Readable::Yes => continue,
                    };
                let (reason, why, fix) = told;
                stopped.push(Stopped {
                    repository: repo.to_string(),
                    tag: tag.tag.to_string(),
                    digest: digest.to_string(),
                    reason,
                    why,
                    fix,
                    last_pull: app.store.last_pull(repo, &tag.tag).await?,
                });
            }
            if is_last {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
