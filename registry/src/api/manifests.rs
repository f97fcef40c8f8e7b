// SPDX-License-Identifier: AGPL-3.0-only
//! Manifests: reading, storing under a digest and tags, deleting (end-3, 7, 9).

use axum::body::Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, WARNING};
use http::{HeaderMap, Response, StatusCode};
use stella_storage::{
    Algorithm, Deleter, Digest, Manifest, ManifestHead, NewManifest, Reference, RepoName, Tag, TagRights,
    Taken,
};

use super::{Answer, Call, empty, fill, set, set_digest, set_etag};
use crate::access::Action;
use crate::audit::Changed;
use crate::body::RequestBody;
use crate::conditional;
use crate::error::ApiError;
use crate::evidence;
use crate::gate::{Gated, VERDICT};

use super::reading::{Reading, Told};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags in one PUT; the specification asks for at least ten. Each is a header of the answer, of which
/// clients take a hundred.
const MAX_TAGS: usize = 50;
/// From this size on a manifest is parsed on the blocking pool, where it holds up nobody, and read only
/// once there is memory for it.
const LARGE: usize = 64 << 10;
/// The specification limits all warnings of an answer to 4 096 bytes.
const MAX_WARNING_BYTES: usize = 4096;

pub(super) async fn get(call: Call<'_>, repo: RepoName, reference: &str) -> Answer {
    let reference: Reference = reference.parse()?;
    let (head, small, told) = Reading::read(&call, &repo, &reference, LARGE as u64).await?;
    note_pull(&call, &repo, &reference);
    if conditional::not_modified(call.headers, &head.digest) {
        return Ok(not_modified(told, &head.digest));
    }
    let room = call.app.answer_memory(head.size).await?;
    let body = match small {
        Some(bytes) => bytes,
        None => call.app.store.manifest(&repo, &Reference::Digest(head.digest.clone())).await?.bytes,
    };
    let mut response = told.answer();
    fill(&mut response, call.method, media_type(&head), room.hold(body));
    set_digest(&mut response, &head.digest);
    set_etag(&mut response, &head.digest);
    Ok(response)
}

pub(super) async fn head(call: Call<'_>, repo: RepoName, reference: &str) -> Answer {
    let reference: Reference = reference.parse()?;
    // Only to who may push it is a promise, and only a promise is written down. Clients look before they push, so the
    // gate does not stop them.
    let (head, told) = if call.may(Action::Push, &repo) {
        (call.app.store.manifest_for_push(&repo, &reference).await?, Told::default())
    } else {
        let (head, _, told) = Reading::read(&call, &repo, &reference, 0).await?;
        (head, told)
    };
    // docker and containerd resolve a tag with HEAD and then pull its digest.
    note_pull(&call, &repo, &reference);
    if conditional::not_modified(call.headers, &head.digest) {
        return Ok(not_modified(told, &head.digest));
    }
    let mut response = told.answer();
    response.headers_mut().insert(CONTENT_TYPE, media_type(&head));
    response.headers_mut().insert(CONTENT_LENGTH, head.size.into());
    set_digest(&mut response, &head.digest);
    set_etag(&mut response, &head.digest);
    Ok(response)
}

pub(super) async fn put(call: Call<'_>, repo: RepoName, reference: &str, body: RequestBody) -> Answer {
    let reference: Reference = reference.parse()?;
    let parameters: Vec<Tag> = call.query.all("tag").map(str::parse).collect::<Result<_, _>>()?;
    if parameters.len() > MAX_TAGS {
        return Err(ApiError::too_many_tags(MAX_TAGS));
    }
    let condition = conditional::tag_condition(call.headers)?;
    if condition.is_some() && !parameters.is_empty() {
        let message = "a condition cannot be combined with ?tag=; put the tags one by one";
        return Err(ApiError::unsupported(message.to_owned()));
    }
    let content_type = content_type(call.headers)?;
    let (bytes, _memory) = receive(&call, body).await?;
    let claimed = claimed(&call, &reference)?;
    let (digest, manifest) = understand(bytes.clone(), claimed, content_type.map(str::to_owned)).await?;
    let subject = manifest.subject.clone();
    let only_evidence = !call.may(Action::Push, &repo);
    let evidence = evidence::is_evidence(call.app, &repo, &bytes).await?;
    if only_evidence && !evidence {
        return Err(call.not_evidence(&repo));
    }
    let gated = call.gated(&repo);
    if let Some(gated) = &gated {
        let sha256 = Algorithm::Sha256.digest(&bytes);
        let named: Vec<&Digest> = std::iter::once(&sha256).chain(manifest.named()).collect();
        call.app.gate.may_push(call.app, gated, &repo, &named).await?;
    }
    let mut tags = match reference {
        Reference::Tag(tag) => vec![tag],
        Reference::Digest(_) => Vec::new(),
    };
    tags.extend(parameters.iter().cloned());
    let tagged = tags.clone();
    let new = NewManifest {
        repo: repo.clone(),
        digest: digest.clone(),
        bytes,
        manifest,
        tags,
        condition,
        actor: call.actor(),
        evidence,
        held: gated.as_ref().is_some_and(Gated::enforces_pull),
        rights: TagRights {
            may_change_protected: call.is_admin(&repo),
            only_evidence,
            append_only: gated.is_some() && !call.may(Action::Delete, &repo),
        },
    };
    let stored = call.app.store.put_manifest(new).await?;
    let mut response = empty(StatusCode::CREATED);
    set(&mut response, LOCATION, &format!("/v2/{repo}/manifests/{digest}"));
    set_digest(&mut response, &digest);
    set_etag(&mut response, &digest);
    if let Some(subject) = &subject {
        set(&mut response, OCI_SUBJECT, &subject.to_string());
    }
    for tag in parameters {
        set(&mut response, OCI_TAG, tag.as_str());
    }
    let mut warnings = stored.warnings;
    // By the policies of now: those that came after it was stored judge it in their pass, which those from before do not.
    if let Some(gated) = call.gated(&repo).filter(Gated::tells_pushers) {
        let outcome =
            call.app.gate.pushed(call.app, &gated, &repo, (&digest, subject.as_ref()), &tagged).await;
        match outcome {
            Ok(Some(outcome)) => {
                set(&mut response, VERDICT, outcome.verdict);
                warnings.extend(outcome.warning);
            }
            Ok(None) => {}
            // It is stored all the same, and will be judged when it is asked for.
            Err(error) => tracing::warn!(%repo, %digest, ?error, "cannot judge what was pushed"),
        }
    }
    warn(&mut response, &warnings);
    let tags = tagged.into_iter().zip(stored.previous).collect();
    response.extensions_mut().insert(Changed { digest: Some(digest), tags });
    Ok(response)
}

pub(super) async fn delete(call: Call<'_>, repo: RepoName, reference: &str) -> Answer {
    let deleter = Deleter { actor: call.actor(), may_change_protected: call.is_admin(&repo) };
    let changed = match reference.parse()? {
        Reference::Tag(tag) => {
            let previous = call.app.store.delete_tag(&repo, &tag, &deleter).await?;
            Changed { digest: None, tags: vec![(tag, previous)] }
        }
        Reference::Digest(digest) => {
            let tags = call.app.store.delete_manifest(&repo, &digest, &deleter).await?;
            let tags = tags.into_iter().map(|tag| (tag, Some(digest.clone()))).collect();
            Changed { digest: Some(digest), tags }
        }
    };
    let mut response = empty(StatusCode::ACCEPTED);
    response.extensions_mut().insert(changed);
    Ok(response)
}

/// The request's media type without parameters.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let value = value
        .to_str()
        .map_err(|_| ApiError::manifest_invalid("Content-Type is not a media type".to_owned()))?;
    Ok(value.split(';').next().map(str::trim).filter(|text| !text.is_empty()))
}

async fn receive(call: &Call<'_>, body: RequestBody) -> Result<(bytes::Bytes, Option<Taken>), ApiError> {
    let limit = call.app.max_manifest;
    let announced =
        call.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(ApiError::manifest_too_large(limit));
    }
    body.collect(limit, call.app.store.memory().manifests()).await
}

/// The digest by which the client names the manifest, if it does.
fn claimed(call: &Call<'_>, reference: &Reference) -> Result<Option<Digest>, ApiError> {
    match reference {
        Reference::Digest(digest) => Ok(Some(digest.clone())),
        // Clients that cannot use ?tag= send a tag and name the digest beside it.
        Reference::Tag(_) => Ok(call.query.get("digest").map(str::parse).transpose()?),
    }
}

/// Checks a manifest's digest and reads it.
async fn understand(
    bytes: bytes::Bytes,
    claimed: Option<Digest>,
    content_type: Option<String>,
) -> Result<(Digest, Manifest), ApiError> {
    let large = bytes.len() >= LARGE;
    let work = move || -> Result<_, stella_storage::Error> {
        let algorithm = claimed.as_ref().map_or(Ok(Algorithm::Sha256), Digest::supported)?;
        let actual = algorithm.digest(&bytes);
        if let Some(expected) = claimed
            && expected != actual
        {
            let (expected, actual) = (expected.into(), actual.into());
            return Err(stella_storage::Error::DigestMismatch { expected, actual });
        }
        Ok((actual, Manifest::parse(&bytes, content_type.as_deref())?))
    };
    if large {
        Ok(tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::panicked())??)
    } else {
        Ok(work()?)
    }
}

fn note_pull(call: &Call<'_>, repo: &RepoName, reference: &Reference) {
    if let Reference::Tag(tag) = reference {
        call.app.store.note_pull(repo, tag);
    }
}

fn media_type(head: &ManifestHead) -> HeaderValue {
    HeaderValue::from_str(&head.media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn not_modified(told: Told, digest: &Digest) -> Response<Body> {
    let mut response = told.answer();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    set_digest(&mut response, digest);
    set_etag(&mut response, digest);
    response
}

/// `Warning: 299 - "text"`, as the distribution specification wants it.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut left = MAX_WARNING_BYTES;
    for warning in warnings {
        let text: String = warning.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        // Quotes within could be escaped, but regctl takes the first one for the end.
        let value = format!("299 - \"{}\"", text.replace('\\', "/").replace('"', "'"));
        let Some(after) = left.checked_sub(value.len()) else { return };
        left = after;
        set(response, WARNING, &value);
    }
}
