// SPDX-License-Identifier: AGPL-3.0-only
//! `GET /v2/<name>/tags/list` (end-8): the tags of a repository, in byte order, in pages.

use serde_json::json;
use stella_storage::{RepoName, View};

use super::reading::gated_headers;
use super::{Answer, Call, json as answer, paging, set_next};
use crate::gate::Judged;
use crate::query::encode;

/// Without `?n=` clients expect everything; beyond this they must follow the link.
const DEFAULT: usize = 10_000;

pub(super) async fn list(call: Call<'_>, repo: RepoName) -> Answer {
    let gated = call.gated(&repo);
    let is_reader = call.is_reader(gated.as_ref(), &repo);
    let view = if is_reader { View::Released } else { View::Pushed };
    let fetch = |after, limit| call.app.store.tags_seen(&repo, after, limit, view);
    let page = paging::page(&call.query, DEFAULT, fetch, |_| true).await?;
    let mut response = answer(call.method, json!({"name": repo.as_str(), "tags": page.names}).to_string())?;
    if gated.is_some_and(|gated| gated.enforces_pull()) {
        gated_headers(&mut response);
        if !is_reader {
            response.extensions_mut().insert(Judged::sight());
        }
    }
    if let Some(next) = page.next {
        let count = page.names.len();
        set_next(&mut response, &format!("/v2/{repo}/tags/list?last={}&n={count}", encode(&next)));
    }
    Ok(response)
}
