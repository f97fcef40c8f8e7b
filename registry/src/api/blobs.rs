// SPDX-License-Identifier: AGPL-3.0-only
//! Blobs: reading all or parts of one, and deleting (end-2, end-10).

use std::ops::Range;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use stella_storage::{Blob, Digest, RepoName};
use uuid::Uuid;

use super::reading::gated_headers;
use super::{Answer, Call, empty, set, set_digest, set_etag};
use crate::access::Action;
use crate::conditional;
use crate::direct::Pieces;
use crate::error::ApiError;
use crate::gate::{Gated, Judged, OfBlob};
use crate::range::{self, Wanted};

const OCTETS: &str = "application/octet-stream";

pub(super) async fn get(call: Call<'_>, repo: RepoName, digest: &str) -> Answer {
    let digest: Digest = digest.parse()?;
    let head = *call.method == Method::HEAD;
    // A client that asks with HEAD will skip its upload if we say yes, so yes is a promise to who may push.
    let (gated, found) = loop {
        let epoch = call.app.gate.epoch();
        let gated = call.gated(&repo).filter(Gated::enforces_pull);
        let found = match &gated {
            _ if head && call.may(Action::Push, &repo) => call
                .app
                .store
                .blob_for_push(&repo, &digest)
                .await
                .map(|blob| (blob, None))
                .map_err(ApiError::from),
            Some(gated) => judged(&call, gated, &repo, &digest).await,
            None => {
                call.app.store.blob(&repo, &digest).await.map(|blob| (blob, None)).map_err(ApiError::from)
            }
        };
        // As for manifests (`reading.rs`).
        if call.app.gate.epoch() == epoch {
            break (gated, found);
        }
    };
    let (blob, judged) = found?;
    let mut response = empty(StatusCode::OK);
    set_digest(&mut response, &digest);
    set_etag(&mut response, &digest);
    if gated.is_some() {
        gated_headers(&mut response);
    } else {
        set(&mut response, CACHE_CONTROL, "max-age=31536000");
    }
    if let Some(judged) = judged {
        response.extensions_mut().insert(judged);
    }
    set(&mut response, ACCEPT_RANGES, "bytes");
    if conditional::not_modified(call.headers, &digest) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_LENGTH);
        return Ok(response);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    if head {
        response.headers_mut().insert(CONTENT_LENGTH, blob.size.into());
        return Ok(response);
    }
    match range::wanted(call.headers, response.headers(), blob.size) {
        Wanted::Whole => send(&call, &blob, 0..blob.size, response).await,
        Wanted::Unsatisfiable => Err(ApiError::range_unsatisfiable(blob.size)),
        Wanted::Parts(parts) => match parts.as_slice() {
            [part] => one_part(&call, &blob, part.clone(), response).await,
            _ => several_parts(&call, &blob, &parts, response).await,
        },
    }
}

/// A blob where the policy gate decides who gets it; what is written down if it is a preview.
async fn judged(
    call: &Call<'_>,
    gated: &Gated,
    repo: &RepoName,
    digest: &Digest,
) -> Result<(Blob, Option<Judged>), ApiError> {
    let gate = &call.app.gate;
    let (blob, of) = match gate.blob(call.app, gated, repo, digest).await {
        // Who may preview gets it also when it cannot be judged now.
        Err(_) if call.previews(repo) => (call.app.store.blob(repo, digest).await?, OfBlob::Unnamed),
        found => found?,
    };
    let denial = match of {
        OfBlob::Yes => return Ok((blob, None)),
        OfBlob::No(manifest, why) if call.previews(repo) => {
            return Ok((blob, Some(Judged::preview(&manifest, &why))));
        }
        OfBlob::Unnamed if call.previews(repo) => return Ok((blob, Some(Judged::sight()))),
        OfBlob::No(manifest, why) => gate.denial(gated, repo, &manifest, &why),
        OfBlob::Unnamed => gate.unnamed(gated, repo, digest),
    };
    Err(call.refused(repo, denial))
}

async fn send(call: &Call<'_>, blob: &Blob, part: Range<u64>, mut response: Response<Body>) -> Answer {
    response.headers_mut().insert(CONTENT_LENGTH, (part.end - part.start).into());
    let readers = call.app.store.read_blob(blob, &[part]).await?;
    let direct = call.direct.cloned();
    let pieces = readers.into_iter().map(move |reader| Pieces::new(reader, direct.clone()));
    *response.body_mut() = Body::from_stream(stream::iter(pieces).flatten());
    Ok(response)
}

async fn one_part(call: &Call<'_>, blob: &Blob, part: Range<u64>, mut response: Response<Body>) -> Answer {
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    set(&mut response, CONTENT_RANGE, &content_range(&part, blob.size));
    send(call, blob, part, response).await
}

/// RFC 9110, section 14.6: `multipart/byteranges`.
async fn several_parts(
    call: &Call<'_>,
    blob: &Blob,
    parts: &[Range<u64>],
    mut response: Response<Body>,
) -> Answer {
    let boundary = Uuid::new_v4().simple().to_string();
    let end = format!("\r\n--{boundary}--\r\n");
    let mut length = end.len() as u64;
    let mut body: Vec<BoxStream<'static, stella_storage::Result<Bytes>>> =
        Vec::with_capacity(parts.len() * 2 + 1);
    for (part, reader) in parts.iter().zip(call.app.store.read_blob(blob, parts).await?) {
        let range = content_range(part, blob.size);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {OCTETS}\r\nContent-Range: {range}\r\n\r\n");
        length += head.len() as u64 + (part.end - part.start);
        body.push(text(head));
        body.push(Pieces::new(reader, call.direct.cloned()).boxed());
    }
    body.push(text(end));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.headers_mut().remove(CONTENT_TYPE);
    set(&mut response, CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    *response.body_mut() = Body::from_stream(stream::iter(body).flatten());
    Ok(response)
}

fn text(text: String) -> BoxStream<'static, stella_storage::Result<Bytes>> {
    stream::iter([Ok(Bytes::from(text))]).boxed()
}

fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end - 1)
}

pub(super) async fn delete(call: Call<'_>, repo: RepoName, digest: &str) -> Answer {
    call.app.store.delete_blob(&repo, &digest.parse()?).await?;
    Ok(empty(StatusCode::ACCEPTED))
}
