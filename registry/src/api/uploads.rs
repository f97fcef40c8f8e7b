// SPDX-License-Identifier: AGPL-3.0-only
//! Uploads: begin, mount, send in one request, in chunks or as a stream, ask, cancel
//! (end-4, 5, 6, 11, 13, 14).

use std::sync::Arc;

use http::header::{HeaderName, LOCATION, RANGE};
use http::{Response, StatusCode};
use stella_storage::{Algorithm, Chunk, Digest, Error, Location, Mounted, RepoName};

use axum::body::Body;

use super::{Answer, Answering, Call, blob_created, empty, set};
use crate::access::{Action, Wanted};
use crate::body::RequestBody;
use crate::content_range;
use crate::error::ApiError;
use crate::evidence;
use crate::gate::{Gated, OfBlob};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

pub(super) async fn post(call: Call<'_>, repo: RepoName, mut body: RequestBody) -> Answer {
    let (store, actor) = (&call.app.store, call.actor());
    if let Some(digest) = call.query.get("mount") {
        let digest: Digest = digest.parse()?;
        // A source that cannot exist is one that does not: the client uploads instead.
        let from = call.query.get("from").map(str::parse::<RepoName>);
        // Neither does one that is too large for who may only sign: its upload is refused, and says why.
        let most = call.most(&repo, 0);
        let mounted = match from {
            Some(Err(_)) => Mounted::No,
            Some(Ok(from)) => {
                call.require_source(&from, &repo)?;
                if may_take(&call, &from, &digest).await? {
                    store
                        .mount_readable(&repo, Some(&from), &digest, &actor, most, readable(&call, true))
                        .await?
                } else {
                    Mounted::No
                }
            }
            None => store.mount_readable(&repo, None, &digest, &actor, most, readable(&call, false)).await?,
        };
        if mounted == Mounted::Yes {
            came(&call, &repo, &digest).await;
            return Ok(blob_created(&repo, &digest));
        }
    } else if let Some(digest) = call.query.get("digest") {
        let digest: Digest = digest.parse()?;
        let Chunk { len, .. } = content_range::chunk(call.headers)?;
        body.limit(call.most(&repo, 0));
        let pushed = store.push_blob(&repo, &digest, len, &mut body, &actor).await;
        pushed.map_err(|error| refine(error, &body))?;
        came(&call, &repo, &digest).await;
        return Ok(blob_created(&repo, &digest));
    }
    let algorithm = match call.query.get("digest-algorithm") {
        None => Algorithm::Sha256,
        Some(name) => name.parse()?,
    };
    let id = store.begin_upload(&repo, algorithm, &actor).await?;
    Ok(describe(empty(StatusCode::ACCEPTED), &repo, id, 0))
}

impl Call<'_> {
    /// A client that may read the source, with a token that is not for it, is told so, and gets a wider one. Whoever may
    /// not read it goes on as if it were not there.
    fn require_source(&self, from: &RepoName, repo: &RepoName) -> Result<(), ApiError> {
        let narrow = |action| {
            let allowed = self.app.access.decide(self.who, action, Some(from)).allowed;
            allowed && !self.who.scope_has(action, Some(from))
        };
        if from != repo && narrow(Action::Pull) {
            let wanted = Wanted::of(Action::Push, repo).and_pull(from).insufficient();
            return Err(ApiError::unauthorized("the token is not for the repository to mount from", wanted));
        }
        Ok(())
    }
}

/// Which repositories the client may mount from: those that it may pull from, whatever its token was given for,
/// because clients ask for tokens for the target alone.
fn readable(call: &Call<'_>, is_named: bool) -> Arc<dyn Fn(&RepoName) -> bool + Send + Sync> {
    let (app, who) = (Arc::clone(call.app), call.who.clone());
    Arc::new(move |repo| {
        let may = |action| app.access.decide(&who, action, Some(repo)).allowed;
        let previews = !who.is_anonymous() && may(Action::Preview);
        // What is in an enforced repository is only taken from there by who names it.
        let is_open = || !app.gate.gated(repo).is_some_and(|gated| gated.enforces_pull());
        previews || may(Action::Pull) && (is_named || is_open())
    })
}

/// Whether the policy gate lets the client have what it wants to mount. What it may not pull is not asked about.
async fn may_take(call: &Call<'_>, from: &RepoName, digest: &Digest) -> Result<bool, ApiError> {
    let may = |action| call.app.access.decide(call.who, action, Some(from)).allowed;
    let Some(gated) = call.gated(from).filter(Gated::enforces_pull) else { return Ok(true) };
    if !call.who.is_anonymous() && may(Action::Preview) || !may(Action::Pull) {
        return Ok(true);
    }
    match call.app.gate.blob(call.app, &gated, from, digest).await {
        Ok((_, of)) => Ok(matches!(of, OfBlob::Yes)),
        Err(error) if error.status.is_client_error() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Evidence may have waited for this blob.
async fn came(call: &Call<'_>, repo: &RepoName, digest: &Digest) {
    if let Err(error) = call.app.gate.blob_came(call.app, repo, digest).await {
        tracing::warn!(%repo, %digest, ?error, "cannot judge what this blob is evidence of; the next pass tries again");
    }
}

pub(super) async fn status(call: Call<'_>, repo: RepoName, id: Location) -> Answer {
    let status = call.app.store.upload_status(&repo, id).await?;
    Ok(describe(empty(StatusCode::NO_CONTENT), &repo, id, status.offset))
}

/// An `async fn` would hold what it is given twice for as long as the client takes; so here, and in [`put`].
pub(super) fn patch(call: Call<'_>, repo: RepoName, id: Location, mut body: RequestBody) -> Answering<'_> {
    Box::pin(async move {
        let chunk = match content_range::chunk(call.headers) {
            Ok(chunk) => chunk,
            Err(error) => return Err(where_it_stands(&call, &repo, id, error).await),
        };
        limit(&call, &repo, id, &mut body).await?;
        match call.app.store.append_upload(&repo, id, chunk, &mut body).await {
            Ok(status) => Ok(describe(empty(StatusCode::ACCEPTED), &repo, id, status.offset)),
            Err(error) => Err(where_it_stands(&call, &repo, id, refine(error, &body)).await),
        }
    })
}

pub(super) fn put(call: Call<'_>, repo: RepoName, id: Location, mut body: RequestBody) -> Answering<'_> {
    Box::pin(async move {
        let digest: Digest = call
            .query
            .get("digest")
            .ok_or_else(|| {
                ApiError::digest_invalid(
                    "the request needs ?digest=, the digest of the whole blob".to_owned(),
                )
            })?
            .parse()?;
        let chunk = match content_range::chunk(call.headers) {
            Ok(chunk) => chunk,
            Err(error) => return Err(where_it_stands(&call, &repo, id, error).await),
        };
        limit(&call, &repo, id, &mut body).await?;
        match call.app.store.finish_upload(&repo, id, chunk, &mut body, &digest).await {
            Ok(_) => {
                came(&call, &repo, &digest).await;
                Ok(blob_created(&repo, &digest))
            }
            Err(error) => Err(where_it_stands(&call, &repo, id, refine(error, &body)).await),
        }
    })
}

pub(super) async fn cancel(call: Call<'_>, repo: RepoName, id: Location) -> Answer {
    call.app.store.cancel_upload(&repo, id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Says with an upload's answer where to go on: docker needs a `Range` it can parse, so nothing at
/// all is `0-0`.
fn describe(mut response: Response<Body>, repo: &RepoName, id: Location, offset: u64) -> Response<Body> {
    set(&mut response, LOCATION, &location(repo, id));
    set(&mut response, RANGE, &range(offset));
    set(&mut response, UPLOAD_UUID, &id.to_string());
    response
}

fn location(repo: &RepoName, id: Location) -> String {
    format!("/v2/{repo}/blobs/uploads/{id}")
}

fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// A refused chunk's error says where the upload stands: clients resume from `Location` and `Range`.
async fn where_it_stands(call: &Call<'_>, repo: &RepoName, id: Location, error: ApiError) -> ApiError {
    if !error.can_resume() {
        return error;
    }
    match call.app.store.upload_status(repo, id).await {
        Ok(status) => error
            .with_header(LOCATION, &location(repo, id))
            .with_header(RANGE, &range(status.offset))
            .with_header(UPLOAD_UUID, &id.to_string()),
        // It was cancelled meanwhile: there is nothing to go on with.
        Err(gone @ Error::NotFound(_)) => gone.into(),
        Err(_) => error,
    }
}

/// Lets who may only sign bring no more than signatures are.
async fn limit(
    call: &Call<'_>,
    repo: &RepoName,
    id: Location,
    body: &mut RequestBody,
) -> Result<(), ApiError> {
    if call.most(repo, 0).is_some() {
        let brought = match call.app.store.upload_status(repo, id).await {
            Ok(status) => status.offset,
            // A repeated request: what it brings is there.
            Err(Error::NotFound(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        body.limit(call.most(repo, brought));
    }
    Ok(())
}

fn refine(error: Error, body: &RequestBody) -> ApiError {
    if body.timed_out() {
        ApiError::body_timeout()
    } else if body.too_large() {
        ApiError::signature_too_large(evidence::MAX_LAYER)
    } else {
        error.into()
    }
}
