// SPDX-License-Identifier: AGPL-3.0-only
//! `GET /v2/_catalog`: the repositories that the client may pull from, as Docker registries list them.

use serde_json::json;
use stella_storage::RepoName;

use super::{Answer, Call, json as answer, paging, set_next};
use crate::access::Action;
use crate::query::encode;

const DEFAULT: usize = 1_000;

pub(super) async fn list(call: Call<'_>) -> Answer {
    let fetch = async |after, limit| {
        let names = call.app.store.repositories(after, limit).await?;
        Ok(names.into_iter().map(|name| (name, true)).collect())
    };
    let readable = |name: &str| name.parse().is_ok_and(|repo| readable(&call, &repo));
    let page = paging::page(&call.query, DEFAULT, fetch, readable).await?;
    let mut response = answer(call.method, json!({"repositories": page.names}).to_string())?;
    if let Some(next) = page.next {
        set_next(&mut response, &format!("/v2/_catalog?last={}&n={}", encode(&next), page.names.len()));
    }
    Ok(response)
}

/// By the rules alone: a token for the list is for no repository.
fn readable(call: &Call<'_>, repo: &RepoName) -> bool {
    let may = |action| call.app.access.decide(call.who, action, Some(repo)).allowed;
    may(Action::Pull) || may(Action::Preview)
}
