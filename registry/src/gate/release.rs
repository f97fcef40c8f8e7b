// SPDX-License-Identifier: AGPL-3.0-only
//! From a verdict to what readers see under a tag.
//!
//! After everything that may make a manifest allowed (its push, evidence about it, a blob of such evidence, other policies)
//! it is judged, and the tags whose candidate it is are released by compare and set. Whoever pushed evidence gets the
//! answer after that, so that a pull right after a signature works; only where judging is slow, because there is much
//! junk, it comes later, so that pushing junk costs its pusher more than it costs us.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stella_policy::{Time, Verdict};
use stella_storage::{Clock as _, Digest, Release, RepoName, SystemClock, TagState, Timestamp};

use super::judge::{Asked, Judgement, Kind, Matter};
use super::read::Readable;
use super::{Gate, Gated};
use crate::app::App;
use crate::error::ApiError;

/// What takes longer is judged later.
const SLOW: Duration = Duration::from_millis(100);
/// How many times what it took last it waits then.
const PACE: u32 = 10;
/// How often a tag is tried that changes while it is judged.
pub(super) const TRIES: usize = 4;

/// Manifests that will be judged later.
#[derive(Default)]
pub(super) struct Later(Mutex<HashSet<(RepoName, Digest)>>);

impl Gate {
    /// Judges a manifest and releases the tags that wait for it. What it says of it; nothing if it is not here.
    pub(crate) async fn settle(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<Option<Arc<Judgement>>, ApiError> {
        let matter = gated.matter(repo, digest);
        let Some(state) = app.store.manifest_state(repo, digest).await? else { return Ok(None) };
        let own = self.judge(app, &matter, &state).await?;
        if !gated.enforces_pull() {
            return Ok(Some(own));
        }
        // Asked once for all tags, which may be thousands: what came since is settled by whoever brought it.
        if let Readable::Yes = self.readable(app, &matter, &state).await? {
            for tag in app.store.tags_waiting_for(repo, digest).await? {
                self.release(app, &matter, tag).await?;
            }
        }
        // An allowed index covers what it lists, under tags too.
        if own.is_allowed() && own.kind == Kind::Image {
            for child in app.store.children(repo, digest).await? {
                let waiting = app.store.tags_waiting_for(repo, &child).await?;
                let matter = gated.matter(repo, &child);
                for tag in waiting {
                    self.release(app, &matter, tag).await?;
                }
            }
        }
        Ok(Some(own))
    }

    /// Releases a tag's candidate if it is allowed. Whether it is released now.
    pub(super) async fn release(
        &self,
        app: &Arc<App>,
        matter: &Matter,
        mut tag: TagState,
    ) -> Result<bool, ApiError> {
        for _ in 0..TRIES {
            if tag.candidate.as_ref() != Some(&matter.digest) {
                return Ok(false);
            }
            let Some(state) = app.store.manifest_state(&matter.repo, &matter.digest).await? else {
                return Ok(false);
            };
            let Readable::Yes = self.readable(app, matter, &state).await? else { return Ok(false) };
            let own = self.judge(app, matter, &state).await?;
            // What is no image does not take the place of one.
            if own.kind != Kind::Image && tag.released.is_some() && tag.tag.subject().is_none() {
                return Ok(false);
            }
            let mut signed_at = own.signed_at;
            let asks_more = matter.local.rules.no_rollback || matter.local.rules.max_age.is_some();
            if own.kind == Kind::Image && asks_more {
                let (judgement, _) = self.examine(app, matter, &state, self.asked_to_release(&tag)).await?;
                if judgement.verdict != Verdict::Allowed {
                    return Ok(false);
                }
                signed_at = judgement.signed_at;
            }
            let release = Release {
                digest: matter.digest.clone(),
                generation: tag.generation,
                stamp: state.stamp,
                epoch: Some(matter.active.epoch),
                signed_at: signed_at.map(timestamp),
            };
            if app.store.release(&matter.repo, &tag.tag, &release).await? {
                let after = SystemClock.now().0.saturating_sub(tag.updated.0);
                self.metrics.released(Duration::from_millis(after));
                tracing::info!(repository = %matter.repo, tag = %tag.tag, digest = %matter.digest, "released");
                return Ok(true);
            }
            tag = match app.store.tag_state(&matter.repo, &tag.tag).await {
                Ok(tag) => tag,
                Err(stella_storage::Error::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(false)
    }

    /// A release is judged by what the tag released before, and as of now.
    pub(super) fn asked_to_release(&self, tag: &TagState) -> Asked {
        let last_released = tag.signed_at.map(time);
        Asked { now: self.judgements.now(), last_released, released_at: None }
    }

    /// Something was said of a manifest: judges it, at once or soon.
    pub(crate) async fn evidence_came(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        subject: &Digest,
    ) -> Result<(), ApiError> {
        let cost = self.last_cost(repo, subject);
        if cost < SLOW {
            return self.settle(app, gated, repo, subject).await.map(drop);
        }
        let key = (repo.clone(), subject.clone());
        let is_new = self.later.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if is_new {
            let app = Arc::clone(app);
            tokio::spawn(async move {
                tokio::time::sleep(cost * PACE).await;
                let gate = &app.gate;
                gate.later.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                let (repo, subject) = key;
                let settled = match gate.gated(&repo) {
                    Some(gated) => gate.settle(&app, &gated, &repo, &subject).await.map(drop),
                    None => Ok(()),
                };
                if let Err(error) = settled {
                    tracing::warn!(%repo, digest = %subject, ?error, "cannot judge; the next pass tries again");
                }
            });
        }
        Ok(())
    }
}

pub(super) fn timestamp(time: Time) -> Timestamp {
    Timestamp(u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000))
}

pub(super) fn time(timestamp: Timestamp) -> Time {
    Time(i64::try_from(timestamp.0 / 1_000).unwrap_or(i64::MAX))
}
