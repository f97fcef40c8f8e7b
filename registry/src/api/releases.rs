// SPDX-License-Identifier: AGPL-3.0-only
//! Where a tag has been, and its way back: `GET /api/stella/v1/tags/history?ref=REPO:TAG`, which needs `pull`, and
//! `POST /api/stella/v1/tags/rollback?ref=REPO:TAG&digest=DIGEST`, which needs `push` and, beside it, `delete` or `admin`:
//! who has them can delete the tag and push the old image again.

use std::sync::Arc;

use axum::body::Body;
use http::header::ORIGIN;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use stella_storage::{Actor, Deleter, Digest, Error, Reference, RepoName, Tag, TagMoved, What};

use super::policy::{json_answer, parse};
use super::{LOOK, READ};
use crate::access::{Action, Identity};
use crate::app::App;
use crate::audit::Changed;
use crate::error::ApiError;
use crate::query::Query;
use crate::route::TAG_ROLLBACK;

const HISTORY: &str = "/api/stella/v1/tags/history";

/// Whether a path is answered here.
pub(super) fn is_for(path: &str) -> bool {
    path == HISTORY || path == TAG_ROLLBACK
}

pub(super) async fn found(
    app: &Arc<App>,
    who: &Identity,
    request: &Request<()>,
) -> Result<Response<Body>, ApiError> {
    let query = Query::parse(request.uri().query())?;
    let name =
        query.get("ref").ok_or_else(|| ApiError::unsupported("name a tag: ?ref=REPO:TAG".to_owned()))?;
    let (repo, Reference::Tag(tag)) = parse(name)? else {
        return Err(ApiError::unsupported(format!("{name} names no tag; write REPO:TAG")));
    };
    let method = request.method();
    if request.uri().path() == HISTORY {
        if method != Method::GET && method != Method::HEAD {
            return Err(ApiError::method_not_allowed("GET, HEAD"));
        }
        app.access.require(who, READ, &repo)?;
        return Ok(json_answer(method, &history(app, who, &repo, &tag).await?));
    }
    if method != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    // A browser may send its user's password along with what another site's page asks of it.
    if request.headers().contains_key(ORIGIN) {
        return Err(ApiError::denied("a tag is not rolled back from a page".to_owned()));
    }
    app.access.require(who, &[Action::Push], &repo)?;
    let is_admin = app.access.decide(who, Action::Admin, Some(&repo)).allowed;
    if !is_admin {
        app.access.require(who, &[Action::Delete], &repo)?;
    }
    let to =
        query.get("digest").ok_or_else(|| ApiError::unsupported("name a digest: &digest=".to_owned()))?;
    let to: Digest = to.parse()?;
    let actor = Actor { subject: who.subject.clone(), session: who.session.clone() };
    let mover = Deleter { actor, may_change_protected: is_admin };
    let before = app.gate.roll_back(app, &repo, &tag, &to, &mover).await?;
    let told = json!({
        "repository": repo.as_str(),
        "tag": tag.as_str(),
        "from": before.released.as_ref().map(ToString::to_string),
        "candidateWas": before.candidate.as_ref().map(ToString::to_string),
        "to": to.to_string(),
    });
    let mut response = json_answer(method, &told);
    response.extensions_mut().insert(Changed { digest: Some(to), tags: vec![(tag, before.released)] });
    Ok(response)
}

async fn history(app: &Arc<App>, who: &Identity, repo: &RepoName, tag: &Tag) -> Result<Value, ApiError> {
    let moves = app.store.tag_history(repo, tag).await?;
    // A tag that was deleted has moves still.
    let state = match app.store.tag_state(repo, tag).await {
        Ok(state) => Some(state),
        Err(Error::NotFound(_)) if !moves.is_empty() => None,
        Err(error) => return Err(error.into()),
    };
    if state.is_none() && moves.is_empty() {
        return Err(Error::NotFound(What::Manifest).into());
    }
    let text = |digest: &Digest| digest.to_string();
    // Who pushed is for those who work here.
    let names = !who.is_anonymous()
        && LOOK.iter().any(|&action| action != Action::Pull && app.access.allowed(who, action, Some(repo)));
    let told = |moved: &TagMoved| {
        json!({
            "from": moved.from.as_ref().map(text),
            "to": moved.to.as_ref().map(text),
            "at": moved.at.rfc3339(),
            "by": names.then_some(&moved.by),
        })
    };
    Ok(json!({
        "repository": repo.as_str(),
        "tag": tag.as_str(),
        "released": state.as_ref().and_then(|state| state.released.as_ref().map(text)),
        "candidate": state.as_ref().and_then(|state| state.candidate.as_ref().map(text)),
        "moves": moves.iter().map(told).collect::<Vec<_>>(),
    }))
}
