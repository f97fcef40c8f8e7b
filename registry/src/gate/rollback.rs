// SPDX-License-Identifier: AGPL-3.0-only
//! `stella tag rollback`: a tag goes back to an earlier image, which is judged again, and by today's policies.
//!
//! That is the one way back: a release never moves back by itself. What `noRollback` forbids is a release of something old
//! by a new push; who may roll back may delete the tag and push the old image again.

use std::sync::Arc;

use stella_storage::{Deleter, Digest, Error, Release, RepoName, Tag, TagState, What};

use super::judge::Asked;
use super::read::Readable;
use super::release::{TRIES, timestamp};
use super::{Gate, Gated};
use crate::app::App;
use crate::error::ApiError;

impl Gate {
    /// Points a tag at `digest`, if readers may have that now. Gives where the tag stood before.
    pub(crate) async fn roll_back(
        &self,
        app: &Arc<App>,
        repo: &RepoName,
        tag: &Tag,
        digest: &Digest,
        mover: &Deleter,
    ) -> Result<TagState, ApiError> {
        if tag.subject().is_some() {
            let why = format!("{tag} holds signatures or attestations, which are only ever added to");
            return Err(ApiError::unsupported(why));
        }
        for _ in 0..TRIES {
            let before = app.store.tag_state(repo, tag).await?;
            let state = app.store.manifest_state(repo, digest).await?;
            let state = state.ok_or(Error::NotFound(What::Manifest))?;
            let (mut signed_at, mut epoch) = (None, None);
            if let Some(gated) = self.gated(repo).filter(Gated::enforces_pull) {
                let matter = gated.matter(repo, digest);
                if let Readable::No(why) = self.readable(app, &matter, &state).await? {
                    return Err(self.denial(&gated, repo, digest, &why));
                }
                let mut judgement = self.judge(app, &matter, &state).await?;
                if gated.local.rules.max_age.is_some() {
                    // Its age counts anew from this release on.
                    let asked = Asked { now: self.judgements.now(), last_released: None, released_at: None };
                    judgement = Arc::new(self.examine(app, &matter, &state, asked).await?.0);
                    if !judgement.is_allowed() {
                        return Err(self.denial(&gated, repo, digest, &judgement));
                    }
                }
                signed_at = judgement.signed_at.map(timestamp);
                epoch = Some(gated.active.epoch);
            }
            let release = Release {
                digest: digest.clone(),
                generation: before.generation,
                stamp: state.stamp,
                epoch,
                signed_at,
            };
            if app.store.roll_back(repo, tag, &release, mover).await? {
                return Ok(before);
            }
        }
        Err(ApiError::unavailable_because("the tag changes while it is judged; try again"))
    }
}
