// SPDX-License-Identifier: AGPL-3.0-only
//! What a client gets to see of a manifest that it asks for: what the policy gate let through, or, if it may preview,
//! what was pushed last. Also what its answer says of that.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, HeaderValue, VARY};
use stella_storage::{Digest, Error, ManifestHead, Reference, RepoName, View};

use super::manifests::warn;
use super::{Call, blank, set};
use crate::access::Action;
use crate::error::ApiError;
use crate::gate::{CANDIDATE, Gated, Judged, Readable, Unreleased};

/// A request for a manifest.
pub(super) struct Reading<'c, 'r> {
    call: &'c Call<'r>,
    repo: &'c RepoName,
    reference: &'c Reference,
    gated: Option<Gated>,
}

/// What an answer says of the gate.
#[derive(Default)]
pub(super) struct Told {
    /// Whether it depends on who asks, and on when.
    is_gated: bool,
    candidate: Option<Digest>,
    warning: Option<String>,
    judged: Option<Judged>,
}

impl<'c, 'r> Reading<'c, 'r> {
    /// A manifest, its bytes if they are at most `most`, and what the answer says of the gate; or why the client may not
    /// have it. Comes before anything is told of it, a 304 too.
    pub(super) async fn read(
        call: &Call<'_>,
        repo: &RepoName,
        reference: &Reference,
        most: u64,
    ) -> Result<(ManifestHead, Option<Bytes>, Told), ApiError> {
        let gate = &call.app.gate;
        loop {
            let epoch = gate.epoch();
            let outcome = Reading::new(call, repo, reference).once(most).await;
            // Those policies may not have been in force any more when the evidence came that they allow it for, or went that
            // they deny it for.
            if gate.epoch() == epoch {
                return outcome;
            }
        }
    }

    async fn once(&self, most: u64) -> Result<(ManifestHead, Option<Bytes>, Told), ApiError> {
        let (head, bytes) = self.find(most).await?;
        let told = self.pass(&head).await?;
        Ok((head, bytes, told))
    }

    fn new(call: &'c Call<'r>, repo: &'c RepoName, reference: &'c Reference) -> Self {
        Reading { call, repo, reference, gated: call.gated(repo) }
    }

    /// Whether the client sees what is not released. Asked only where that makes a difference: most of what is asked for is
    /// everyone's.
    fn previews(&self) -> bool {
        self.call.previews(self.repo)
    }

    fn is_enforced(&self) -> bool {
        self.gated.as_ref().is_some_and(Gated::enforces_pull)
    }

    /// The manifest, with its bytes if they are at most `most`.
    async fn find(&self, most: u64) -> Result<(ManifestHead, Option<Bytes>), ApiError> {
        let store = &self.call.app.store;
        let find = |view| store.manifest_within(self.repo, self.reference, view, most);
        if !self.is_enforced() {
            return Ok(find(View::Pushed).await?);
        }
        match find(View::Released).await {
            Ok((head, bytes)) if head.candidate.is_none() => Ok((head, bytes)),
            Ok(_) | Err(Error::Unreleased(_)) if self.previews() => Ok(find(View::Pushed).await?),
            Err(Error::Unreleased(candidate)) => match Box::pin(self.waits(&candidate)).await? {
                Unreleased::NowReleased => Ok(find(View::Released).await?),
                Unreleased::Denied(error) => Err(error),
            },
            found => Ok(found?),
        }
    }

    /// Whether the client pushed this with the very token that it asks with: helm and oras push a manifest by its digest and
    /// get it back, to put the same bytes under a tag. Blobs, and what a tag means, are as for every reader.
    fn gets_back(&self, head: &ManifestHead) -> bool {
        let session = self.call.who.session.as_ref();
        matches!(self.reference, Reference::Digest(_))
            && session.is_some()
            && session == head.state.session.as_ref()
            && self.call.may(Action::Push, self.repo)
    }

    /// What becomes of a tag whose candidate waits.
    async fn waits(&self, candidate: &Digest) -> Result<Unreleased, ApiError> {
        let (Some(gated), Reference::Tag(tag)) = (&self.gated, self.reference) else {
            return Ok(Unreleased::Denied(Error::Unreleased(candidate.clone()).into()));
        };
        let gate = &self.call.app.gate;
        Ok(match gate.unreleased(self.call.app, gated, self.repo, tag, candidate).await? {
            Unreleased::Denied(error) => Unreleased::Denied(self.call.refused(self.repo, error)),
            released @ Unreleased::NowReleased => released,
        })
    }

    /// Fails if the client may not have it.
    async fn pass(&self, head: &ManifestHead) -> Result<Told, ApiError> {
        let Some(gated) = &self.gated else { return Ok(Told::default()) };
        if !gated.enforces_pull() && !gated.warns_of_pulls() {
            return Ok(Told::default());
        }
        // Who previews sees the candidate itself.
        if gated.denies_while_waiting()
            && let Some(candidate) = &head.candidate
        {
            // What was released meanwhile is there the next time.
            return Err(match Box::pin(self.waits(candidate)).await? {
                Unreleased::Denied(error) => error,
                Unreleased::NowReleased => {
                    ApiError::unavailable_because("it was released just now; try again")
                }
            });
        }
        let gate = &self.call.app.gate;
        let told =
            Told { is_gated: gated.enforces_pull(), candidate: head.candidate.clone(), ..Told::default() };
        if gate.allows(gated, self.repo, &head.digest, (&head.state).into()) {
            return Ok(told);
        }
        Ok(match Box::pin(gate.check(self.call.app, gated, self.repo, head)).await? {
            Readable::Yes => told,
            Readable::No(_) if self.gets_back(head) => told,
            Readable::No(why) if gated.enforces_pull() && !self.previews() => {
                return Err(self.call.refused(self.repo, gate.denial(gated, self.repo, &head.digest, &why)));
            }
            // Who may preview sees it, or who pushes, and that is written down.
            Readable::No(why) if gated.enforces_pull() => {
                Told { judged: Some(Judged::preview(&head.digest, &why)), ..told }
            }
            Readable::No(why) => Told { warning: Some(gate.warning(self.repo, &head.digest, &why)), ..told },
        })
    }
}

impl Told {
    /// An answer that says this, to be filled.
    pub(super) fn answer(self) -> Response<Body> {
        let mut response = blank();
        if self.is_gated {
            gated_headers(&mut response);
        }
        if let Some(candidate) = self.candidate {
            set(&mut response, CANDIDATE, &candidate.to_string());
        }
        if let Some(warning) = self.warning {
            warn(&mut response, &[warning]);
        }
        if let Some(judged) = self.judged {
            response.extensions_mut().insert(judged);
        }
        response
    }
}

/// An answer that depends on who asks, and on when: no cache between may give it to others.
pub(super) fn gated_headers(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Authorization"));
}
