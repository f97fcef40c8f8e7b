// SPDX-License-Identifier: AGPL-3.0-only
//! What readers may have under enforcement: manifests that are allowed, those that an allowed index covers, evidence,
//! attachments of what they may have, and the blobs of all these.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use stella_storage::{Around, Blob, Digest, ManifestState, RepoName, Stamp};

use super::judge::{Holds, Judgement, Kind, Matter, Named};
use super::memo::Namer;
use super::{Gate, Gated};
use crate::app::App;
use crate::error::ApiError;

/// How far up indexes are asked, and subjects of attachments (DESIGN §5.1).
const LEVELS: usize = 3;
/// Manifests that are asked for one blob, or indexes for one manifest.
pub(super) const ASKED: usize = if cfg!(test) { 200 } else { 10_000 };

/// Whether readers may have something.
#[derive(Clone, Debug)]
pub(crate) enum Readable {
    /// They may.
    Yes,
    /// They may not; this says why.
    No(Arc<Judgement>),
}

/// Whether readers may have a blob.
#[derive(Clone, Debug)]
pub(crate) enum OfBlob {
    /// They may.
    Yes,
    /// They may not, for this is said of a manifest that names it.
    No(Digest, Arc<Judgement>),
    /// They may not: no manifest names it.
    Unnamed,
}

impl Gate {
    /// Whether it is known that readers may have a manifest, as it stands in `state`, for its own sake: what most requests
    /// ask, and then without waiting, and without a copy of anything.
    pub(crate) fn allows(&self, gated: &Gated, repo: &RepoName, digest: &Digest, state: Stamp) -> bool {
        self.allowed_under(gated, repo, digest, state).is_some()
    }

    /// The same, and under what.
    fn allowed_under(&self, gated: &Gated, repo: &RepoName, digest: &Digest, state: Stamp) -> Option<Holds> {
        let epoch = gated.active.epoch;
        if let Some(holds) = gated.local.known_allowed(digest)
            && holds.now(epoch, state, || self.judgements.now())
        {
            return Some(holds);
        }
        let known = self.judgements.holding(repo, digest, epoch, state)?;
        known.is_for_its_own_sake().then(|| {
            gated.local.keep_allowed(digest, known.holds);
            known.holds
        })
    }

    /// Whether readers may have a manifest as it stands in `state`.
    pub(super) async fn readable_in(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        (repo, digest): (&RepoName, &Digest),
        state: &ManifestState,
    ) -> Result<Readable, ApiError> {
        if self.allows(gated, repo, digest, state.into()) {
            return Ok(Readable::Yes);
        }
        self.readable(app, &gated.matter(repo, digest), state).await
    }

    /// Whether readers may have a manifest as it stands in `state`.
    pub(super) async fn readable(
        &self,
        app: &Arc<App>,
        matter: &Matter,
        state: &ManifestState,
    ) -> Result<Readable, ApiError> {
        let own = self.judge(app, matter, state).await?;
        if own.is_for_its_own_sake() {
            return Ok(Readable::Yes);
        }
        let Kind::Attachment(subject) = &own.kind else {
            return self.through_indexes(app, matter, own).await;
        };
        // An attachment is for who may have what it is attached to, a few steps up.
        let mut subject = subject.clone();
        for _ in 0..LEVELS {
            let Some(state) = app.store.manifest_state(&matter.repo, &subject).await? else { break };
            let above = Matter { digest: subject, ..matter.clone() };
            let judgement = self.judge(app, &above, &state).await?;
            match &judgement.kind {
                Kind::Attachment(next) => subject = next.clone(),
                Kind::Image if judgement.is_allowed() => return Ok(Readable::Yes),
                Kind::Image => return self.through_indexes(app, &above, judgement).await,
                Kind::Evidence => break,
            }
        }
        Ok(Readable::No(Arc::new(own.attached_to_nothing())))
    }

    /// By an index that lists it and is allowed, however far up. Each index is asked once.
    async fn through_indexes(
        &self,
        app: &Arc<App>,
        matter: &Matter,
        own: Arc<Judgement>,
    ) -> Result<Readable, ApiError> {
        if own.is_listed() {
            return Ok(Readable::No(own));
        }
        let mut seen = HashSet::from([matter.digest.clone()]);
        let mut level = vec![matter.digest.clone()];
        for _ in 0..LEVELS {
            let mut above = Vec::new();
            for digest in &level {
                let mut after = None;
                loop {
                    let (page, next) = app.store.naming(&matter.repo, digest, false, after.as_ref()).await?;
                    for (index, state) in page {
                        if seen.len() > ASKED {
                            return Ok(Readable::No(own));
                        }
                        if !seen.insert(index.clone()) {
                            continue;
                        }
                        let asked = Matter { digest: index.clone(), ..matter.clone() };
                        // One that cannot be judged now hides no other.
                        let Ok(judgement) = self.judge(app, &asked, &state).await else { continue };
                        match judgement.kind {
                            Kind::Image if judgement.is_allowed() => return Ok(Readable::Yes),
                            Kind::Image if !judgement.is_listed() => above.push(index),
                            // Evidence lists evidence, which needs nobody's word.
                            _ => {}
                        }
                    }
                    after = next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            level = above;
        }
        Ok(Readable::No(own))
    }

    /// A blob, and whether readers may have it: a manifest that they may have must name it. Bytes that are also a manifest
    /// here are for who may have that.
    pub(crate) async fn blob(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<(Blob, OfBlob), ApiError> {
        // A manifest says for ever what it names; whether it is here, and allowed, is asked each time, unless nothing was
        // committed since it was asked last.
        let known = gated.local.known_namer(digest);
        let hint = match &known {
            Some(namer) => Some(namer.manifest.clone()),
            None => self.hints.get(&Named(repo, digest)),
        };
        let (epoch, time) = (gated.active.epoch, || self.judgements.now());
        let is_new = known.is_none();
        let allowed = known.and_then(|namer| namer.allowed).filter(|(_, holds)| holds.still(epoch, time));
        let since = allowed.map(|(commit, _)| commit);
        let (blob, around) = app.store.blob_and(repo, digest, hint.as_ref(), since).await?;
        match (around, &hint) {
            (Around::AsKnown, _) => return Ok((blob, OfBlob::Yes)),
            (Around::Found { commit, itself: None, other: Some(stamp) }, Some(manifest)) => {
                if let Some(holds) = self.allowed_under(gated, repo, manifest, stamp) {
                    if is_new || commit.is_some() {
                        let (manifest, allowed) = (manifest.clone(), commit.map(|commit| (commit, holds)));
                        gated.local.keep_namer(digest, Namer { manifest, allowed });
                    }
                    return Ok((blob, OfBlob::Yes));
                }
            }
            (Around::Found { .. }, _) => {}
        }
        let of = Box::pin(self.named_by(app, gated, (repo, digest), hint)).await?;
        // Which names it now: what this thread knew may be gone for good.
        if let (OfBlob::Yes, Some(manifest)) = (&of, self.hints.get(&Named(repo, digest))) {
            gated.local.keep_namer(digest, Namer { manifest, allowed: None });
        }
        Ok((blob, of))
    }

    /// The same of a blob for which that is not known yet: what is said of a manifest of the same digest, if there is one, of
    /// a manifest that is known to name it, and of the others that do.
    async fn named_by(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        (repo, digest): (&RepoName, &Digest),
        hint: Option<Digest>,
    ) -> Result<OfBlob, ApiError> {
        if let Some(state) = &app.store.manifest_state(repo, digest).await?
            && let Some(Readable::No(why)) =
                unless_gone(self.readable_in(app, gated, (repo, digest), state).await)?
        {
            return Ok(OfBlob::No(digest.clone(), why));
        }
        let mut nearest = None;
        if let Some(hint) = hint
            && let Some(state) = app.store.manifest_state(repo, &hint).await?
        {
            match unless_gone(self.readable_in(app, gated, (repo, &hint), &state).await)? {
                Some(Readable::Yes) => {
                    self.hints.insert((repo.clone(), digest.clone()), hint);
                    return Ok(OfBlob::Yes);
                }
                Some(Readable::No(why)) => nearest = Some((hint, why)),
                None => {}
            }
        }
        let (mut after, mut asked, mut failed) = (None, 0, None);
        while asked < ASKED {
            let (page, next) = app.store.naming(repo, digest, true, after.as_ref()).await?;
            asked += page.len().max(ASKED / 100);
            for (manifest, state) in page {
                match unless_gone(self.readable_in(app, gated, (repo, &manifest), &state).await) {
                    Ok(Some(Readable::Yes)) => {
                        self.hints.insert((repo.clone(), digest.clone()), manifest);
                        return Ok(OfBlob::Yes);
                    }
                    Ok(Some(Readable::No(why))) => {
                        nearest.get_or_insert((manifest, why));
                    }
                    Ok(None) => {}
                    // One that cannot be judged now hides no other.
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(nearest.map_or(OfBlob::Unnamed, |(manifest, why)| OfBlob::No(manifest, why)))
    }
}

/// Of several manifests one may be deleted while it is judged; then it is for the others to say.
fn unless_gone<T>(judged: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match judged {
        Ok(judged) => Ok(Some(judged)),
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}
