// SPDX-License-Identifier: AGPL-3.0-only
//! `GET /v2/_catalog`: the repositories, as Docker registries list them.

use serde_json::json;

use super::{Answer, Call, json as answer, paging, set_next};
use crate::query::encode;

const DEFAULT: usize = 1_000;

pub(super) async fn list(call: Call<'_>) -> Answer {
    let fetch = |after, limit| call.app.store.repositories(after, limit);
    let page = paging::page(&call.query, DEFAULT, fetch).await?;
    let mut response = answer(call.method, json!({"repositories": page.names}).to_string())?;
    if let Some(next) = page.next {
        set_next(&mut response, &format!("/v2/_catalog?last={}&n={}", encode(&next), page.names.len()));
    }
    Ok(response)
}
