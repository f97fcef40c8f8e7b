// SPDX-License-Identifier: AGPL-3.0-only
//! What readers may have under enforcement: manifests that are allowed, those that an allowed index covers, evidence,
//! attachments of what they may have, and the blobs of all these.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::StatusCode;
use stella_storage::{Blob, Digest, ManifestState, RepoName};

use super::judge::{Judgement, Kind, Matter, Named};
use super::{Gate, Gated};
use crate::app::App;
use crate::error::ApiError;

/// How far up indexes are asked, and subjects of attachments (DESIGN §5.1).
const LEVELS: usize = 3;
/// Manifests that are asked for one blob, or indexes for one manifest.
const ASKED: usize = 10_000;

/// Whether readers may have something.
#[derive(Clone, Debug)]
pub(crate) enum Readable {
    /// They may.
    Yes,
    /// They may not; this says why.
    No(Arc<Judgement>),
}

impl Gate {
    /// Whether readers may have a manifest as it stands in `state`: what most requests ask, without a copy of anything.
    pub(super) async fn readable_in(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        (repo, digest): (&RepoName, &Digest),
        state: &ManifestState,
    ) -> Result<Readable, ApiError> {
        match self.judgements.holding(repo, digest, gated.active.epoch, state) {
            Some(known) if known.is_for_its_own_sake() => Ok(Readable::Yes),
            _ => self.readable(app, &gated.matter(repo, digest), state).await,
        }
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
        self.through_others(app, matter.clone(), own, LEVELS).await
    }

    /// By what it is attached to, or by an index that lists it.
    fn through_others<'g>(
        &'g self,
        app: &'g Arc<App>,
        matter: Matter,
        own: Arc<Judgement>,
        levels: usize,
    ) -> BoxFuture<'g, Result<Readable, ApiError>> {
        Box::pin(async move {
            if own.is_listed() || levels == 0 {
                return Ok(Readable::No(own));
            }
            if let Kind::Attachment(subject) = &own.kind {
                let Some(state) = app.store.manifest_state(&matter.repo, subject).await? else {
                    return Ok(Readable::No(own));
                };
                let matter = Matter { digest: subject.clone(), ..matter };
                let above = self.judge(app, &matter, &state).await?;
                if above.is_allowed() && above.kind == Kind::Image {
                    return Ok(Readable::Yes);
                }
                return self.through_others(app, matter, above, levels - 1).await;
            }
            let (mut after, mut asked) = (None, 0);
            while asked < ASKED {
                let page = app.store.naming(&matter.repo, &matter.digest, false, after.as_ref()).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                asked += page.len();
                for (index, state) in page {
                    let above = Matter { digest: index, ..matter.clone() };
                    let Some(judgement) = unless_gone(self.judge(app, &above, &state).await)? else {
                        continue;
                    };
                    // Evidence lists evidence, which needs nobody's word.
                    if judgement.kind != Kind::Image {
                        continue;
                    }
                    if judgement.is_allowed() {
                        return Ok(Readable::Yes);
                    }
                    if let Readable::Yes = self.through_others(app, above, judgement, levels - 1).await? {
                        return Ok(Readable::Yes);
                    }
                }
            }
            Ok(Readable::No(own))
        })
    }

    /// A blob, if readers may have it: a manifest that they may have must name it. Bytes that are also a manifest here are
    /// for who may have that.
    pub(crate) async fn blob(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<Blob, ApiError> {
        // A manifest says for ever what it names; whether it is here, and allowed, is asked each time.
        let hint = self.hints.get(&Named(repo, digest));
        let (blob, itself, hinted) = app.store.blob_and(repo, digest, hint.as_ref()).await?;
        if let Some(state) = &itself
            && let Some(Readable::No(why)) =
                unless_gone(self.readable_in(app, gated, (repo, digest), state).await)?
        {
            return Err(self.denial(gated, repo, digest, &why));
        }
        let mut nearest = None;
        if let (Some(hint), Some(state)) = (&hint, &hinted) {
            match unless_gone(self.readable_in(app, gated, (repo, hint), state).await)? {
                Some(Readable::Yes) => return Ok(blob),
                Some(Readable::No(why)) => nearest = Some((hint.clone(), why)),
                None => {}
            }
        }
        let (mut after, mut asked) = (None, 0);
        while asked < ASKED {
            let page = app.store.naming(repo, digest, true, after.as_ref()).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            asked += page.len();
            for (manifest, state) in page {
                match unless_gone(self.readable_in(app, gated, (repo, &manifest), &state).await)? {
                    Some(Readable::Yes) => {
                        self.hints.insert((repo.clone(), digest.clone()), manifest);
                        return Ok(blob);
                    }
                    Some(Readable::No(why)) => {
                        nearest.get_or_insert((manifest, why));
                    }
                    None => {}
                }
            }
        }
        Err(match nearest {
            Some((manifest, why)) => self.denial(gated, repo, &manifest, &why),
            None => self.unnamed(gated, repo, digest),
        })
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
