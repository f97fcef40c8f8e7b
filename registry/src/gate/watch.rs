// SPDX-License-Identifier: AGPL-3.0-only
//! Policies come into force, and stay in force until better ones come.
//!
//! They are read at start, at SIGHUP, and when the content of their files changes. A set that does not load changes nothing
//! but the log, a counter and the status. After a change a pass over all tags of enforced repositories judges them anew:
//! it releases what is allowed now, and warms what readers will ask for. Nobody waits for it; a request judges for itself.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use stella_storage::{RepoName, Store};

use super::active::{Active, Places};
use super::{Gate, grants, places};
use crate::app::App;
use crate::config::Config;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(3);
/// How soon what did not load is read again though no file changed: what stood in the way may be gone.
const RETRY: Duration = Duration::from_secs(30);
/// How often all tags are judged without any change: verdicts end with time.
const AGAIN: Duration = Duration::from_mins(10);
/// Tags, and repositories, that are read at once.
const AT_ONCE: usize = 500;
/// Files of a folder that are looked at for changes.
const FILES: usize = 20_000;

impl Gate {
    /// Reads a set and puts it into force.
    pub(super) async fn load_from(
        &self,
        store: &Store,
        places: Places,
        config: Option<&Config>,
        app: Option<&Arc<App>>,
    ) -> anyhow::Result<bool> {
        let _alone = self.loading.lock().await;
        let active = tokio::task::spawn_blocking(move || Active::load(&places)).await?;
        let active = active.map_err(anyhow::Error::msg)?;
        // A file that is away for a moment must not open the gate; who means it says so.
        if config.is_none()
            && let Some(present) = self.active.load_full()
            && let Some(name) = grants::opened(&present.set, &active.set)
        {
            anyhow::bail!(
                "pulls would no longer be enforced in repositories such as {name}; if that is meant, send SIGHUP"
            );
        }
        let known = || self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = config.cloned().or_else(known);
        let most = config.as_ref().and_then(|config| config.policy.max_impact);
        if let Some(config) = config {
            for warning in grants::check(&config, &active.set).map_err(anyhow::Error::msg)? {
                tracing::warn!("{warning}");
            }
            *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        }
        if self.active.load().as_ref().is_some_and(|present| present.hash == active.hash) {
            return Ok(false);
        }
        let active = Arc::new(active);
        // At start there is nothing yet that readers get.
        if let (Some(app), Some(most)) = (app, most) {
            self.within_limit(app, &active, most).await?;
        }
        let active =
            Arc::into_inner(active).ok_or_else(|| anyhow::anyhow!("the policies are still in use"))?;
        let mut active = active;
        active.epoch = store.policy_epoch(&active.hash).await?;
        let (epoch, set) = (active.epoch, active.set.hash().to_string());
        // Not nothing, until the pass has counted.
        self.metrics.set_pending(1);
        self.active.store(Some(Arc::new(active)));
        self.changed.notify_one();
        tracing::info!(epoch, set, "policies are in force");
        Ok(true)
    }

    /// Reads the policies again, from where the configuration says now. Those from before stay if these are wrong.
    pub(crate) async fn reload(&self, app: &Arc<App>, config: &Config) -> anyhow::Result<()> {
        let outcome = match places(config) {
            Ok(new) => {
                self.places.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&new);
                self.reload_from(app, new, Some(config)).await
            }
            Err(error) => Err(error.into()),
        };
        self.note(outcome)
    }

    async fn reload_from(
        &self,
        app: &Arc<App>,
        places: Option<Places>,
        config: Option<&Config>,
    ) -> anyhow::Result<()> {
        if let Some(places) = places {
            return self.load_from(&app.store, places, config, Some(app)).await.map(drop);
        }
        let _alone = self.loading.lock().await;
        if self.active.swap(None).is_some() {
            tracing::warn!("no policies are in force any more: the configuration names none");
        }
        Ok(())
    }

    /// Says to whoever asks how reading went.
    fn note(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        self.metrics.reloaded(outcome.is_ok());
        let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        outcome
    }

    /// Looks after the files, and passes over all tags after each change.
    pub(crate) async fn watch(app: Arc<App>) {
        let gate = &app.gate;
        let mut seen = gate.fingerprint().await;
        let mut passing: Option<tokio::task::JoinHandle<()>> = None;
        let mut swept = None;
        let mut read = tokio::time::Instant::now();
        loop {
            // Whatever time it is has been: most requests need not ask.
            gate.judgements.now();
            let epoch = gate.epoch();
            let is_due = swept.is_none_or(|(of, at): (Option<u64>, tokio::time::Instant)| {
                of != epoch || at.elapsed() > AGAIN
            });
            if is_due && epoch.is_some() {
                // One that is under way judges by policies that are no longer in force.
                if let Some(passing) = passing.take() {
                    passing.abort();
                }
                let app = Arc::clone(&app);
                passing = Some(tokio::spawn(async move {
                    if let Err(error) = app.gate.pass(&app).await {
                        tracing::warn!(?error, "cannot judge all tags; the next pass tries again");
                    }
                }));
                swept = Some((epoch, tokio::time::Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = gate.changed.notified() => continue,
            }
            let now = gate.fingerprint().await;
            let before = gate.wrong();
            let is_again = before.is_some() && read.elapsed() > RETRY;
            if now == seen && !is_again {
                continue;
            }
            // Files are seldom written at the same moment: what changes still is left until it does not.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if gate.fingerprint().await != now {
                continue;
            }
            (seen, read) = (now, tokio::time::Instant::now());
            let places = gate.places.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let outcome = gate.reload_from(&app, places, None).await;
            if let Err(error) = gate.note(outcome) {
                let error = format!("{error:#}");
                if before.as_ref() != Some(&error) {
                    tracing::error!(
                        error,
                        "the policies were not read again, and those from before stay in force"
                    );
                }
            }
        }
    }

    /// What is wrong with the policies on disk, while others are in force.
    pub(super) fn wrong(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the files are, as far as that can be told without reading them.
    async fn fingerprint(&self) -> u64 {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let look = move || {
            let mut hasher = DefaultHasher::new();
            let baseline = places.iter().filter_map(|places| places.baseline.as_ref());
            let baseline = baseline.flat_map(|baseline| [&baseline.0, &baseline.1]);
            let policies =
                places.iter().flat_map(|places| places.paths.iter().chain(places.trust_roots.values()));
            for path in policies.chain(baseline) {
                for (path, modified, size) in files(path) {
                    (path, modified, size).hash(&mut hasher);
                }
            }
            hasher.finish()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(0)
    }

    /// Judges every tag of every enforced repository, and releases what is allowed.
    async fn pass(&self, app: &Arc<App>) -> anyhow::Result<()> {
        let epoch = self.epoch();
        let mut repositories = Vec::new();
        let mut after = None;
        loop {
            let page = app.store.repositories(after, AT_ONCE).await?;
            after = page.last().cloned();
            for name in page.iter().filter_map(|name| name.parse::<RepoName>().ok()) {
                let gated = self.gated(&name);
                repositories.extend(gated.filter(super::Gated::enforces_pull).map(|_| name));
            }
            if page.len() < AT_ONCE {
                break;
            }
        }
        let mut pending = 0;
        for repo in &repositories {
            pending += app.store.count_tags(repo).await?;
        }
        self.metrics.set_pending(pending);
        for repo in &repositories {
            let mut after = None;
            loop {
                let page = app.store.tag_states(repo, after.as_ref(), AT_ONCE).await?;
                after = page.last().map(|state| state.tag.clone());
                let is_last = page.len() < AT_ONCE;
                for state in page {
                    // Policies that came meanwhile begin another pass.
                    let Some(gated) = self.gated(repo) else { break };
                    for digest in [&state.candidate, &state.released].into_iter().flatten() {
                        if let Err(error) = self.settle(app, &gated, repo, digest).await {
                            tracing::warn!(%repo, %digest, ?error, "cannot judge; the next pass tries again");
                        }
                        if state.released == state.candidate {
                            break;
                        }
                    }
                    self.metrics.one_less_pending();
                    tokio::task::yield_now().await;
                }
                if is_last {
                    break;
                }
            }
        }
        if self.epoch().is_none_or(|now| Some(now) == epoch) {
            self.metrics.set_pending(0);
        }
        Ok(())
    }
}

/// The files under a path, by name, with what changes when they do.
fn files(path: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let of = |path: PathBuf| {
        let meta = fs::metadata(&path).ok();
        let size = meta.as_ref().map_or(0, fs::Metadata::len);
        (path, meta.and_then(|meta| meta.modified().ok()), size)
    };
    let mut found: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).take(FILES).collect(),
        Err(_) => Vec::new(),
    };
    found.push(path.to_owned());
    found.sort();
    found.into_iter().map(of).collect()
}
