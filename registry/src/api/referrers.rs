// SPDX-License-Identifier: AGPL-3.0-only
//! `GET /v2/<name>/referrers/<digest>` (end-12): which manifests have this digest as their subject.
//!
//! Never 404: a subject that does not exist, in a repository that does not exist, has no referrers.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use stella_storage::manifest::media_type::OCI_INDEX;
use stella_storage::{Digest, RepoName};

use super::reading::gated_headers;
use super::{Answer, Call, bytes, set, set_next};
use crate::error::ApiError;
use crate::gate::{Gated, Judged};
use crate::query::encode;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Clients read at most 4 MiB, and containerd does not follow links: fill that, not more.
const MAX_BYTES: usize = 4_000_000;
const MAX_DESCRIPTORS: usize = 10_000;
const MAX_TYPES: usize = 16;

pub(super) async fn list(call: Call<'_>, repo: RepoName, digest: &str) -> Answer {
    let subject: Digest = digest.parse()?;
    // Several types mean any of them.
    let types: Vec<String> =
        call.query.all("artifactType").filter(|text| !text.is_empty()).map(str::to_owned).collect();
    if types.len() > MAX_TYPES {
        return Err(ApiError::unsupported(format!(
            "at most {MAX_TYPES} artifact types can be asked for at once"
        )));
    }
    let after =
        match call.query.get("last") {
            None => None,
            Some(cursor) => Some(BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| {
                ApiError::unsupported("?last= is not from a Link of this registry".to_owned())
            })?),
        };
    let limit = call.query.number("n")?.filter(|&n| n > 0).unwrap_or(usize::MAX).min(MAX_DESCRIPTORS);
    let mut page = call.app.store.referrers(&repo, &subject, &types, after, limit, MAX_BYTES).await?;
    let gated = call.gated(&repo);
    let is_reader = call.is_reader(gated.as_ref(), &repo);
    if let Some(gated) = gated.as_ref().filter(|_| is_reader) {
        page.descriptors = readable(&call, gated, &repo, page.descriptors).await;
    }
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":["#);
    let body = [head.as_bytes(), &page.descriptors.join(&b','), b"]}"].concat();
    let mut response = bytes(call.method, HeaderValue::from_static(OCI_INDEX), body);
    if gated.is_some_and(|gated| gated.enforces_pull()) {
        gated_headers(&mut response);
        if !is_reader {
            response.extensions_mut().insert(Judged::sight());
        }
    }
    if !types.is_empty() {
        set(&mut response, FILTERS_APPLIED, "artifactType");
    }
    if let Some(next) = page.next {
        let mut target =
            format!("/v2/{repo}/referrers/{subject}?last={}", BASE64_URL_SAFE_NO_PAD.encode(next));
        let n = call.query.number("n")?.map(|n| format!("&n={n}"));
        let kept = types.iter().map(|artifact_type| format!("&artifactType={}", encode(artifact_type)));
        target.extend(n.into_iter().chain(kept));
        set_next(&mut response, &target);
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Named {
    digest: String,
}

/// Those that a reader may have.
async fn readable(
    call: &Call<'_>,
    gated: &Gated,
    repo: &RepoName,
    descriptors: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let mut shown = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        let digest =
            serde_json::from_slice::<Named>(&descriptor).ok().and_then(|named| named.digest.parse().ok());
        if let Some(digest) = digest
            // One that cannot be judged now is not shown, and hides no other.
            && call.app.gate.may_read(call.app, gated, repo, &digest).await.unwrap_or(false)
        {
            shown.push(descriptor);
        }
    }
    shown
}
