// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a manifest is an attachment: a document about its subject, such as an SBOM, which readers of the subject may
//! read without its being judged as an image. What a manifest declares proves nothing, so each layer must be of a listed
//! type **and** be read as a JSON document, and the config must be none that something could run by. Documents in other
//! forms (tag-value SPDX, XML) are judged as images.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stella_policy::{Attachment, Rules};
use stella_storage::{Digest, Error, RepoName};

use crate::app::App;
use crate::error::ApiError;
use crate::evidence::is_tar;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const MAX_CONFIG: u64 = 64 << 10;
const MAX_LAYERS: usize = 16;
/// What all layers may weigh; large SBOMs have tens of megabytes.
const MAX_TOTAL: u64 = 32 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    artifact_type: Option<String>,
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
    manifests: Option<IgnoredAny>,
    subject: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: String,
    size: u64,
    urls: Option<IgnoredAny>,
    data: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    digest: String,
}

/// The subject of an attachment; none if it is something else, or may not be attached here.
pub(super) async fn subject(
    app: &App,
    repo: &RepoName,
    manifest: &[u8],
    rules: &Rules,
) -> Result<Option<Digest>, ApiError> {
    let Ok(document) = serde_json::from_slice::<Document>(manifest) else { return Ok(None) };
    let Some(subject) = document.subject.as_ref().and_then(|subject| subject.digest.parse().ok()) else {
        return Ok(None);
    };
    if document.manifests.is_some() || document.layers.is_empty() || document.layers.len() > MAX_LAYERS {
        return Ok(None);
    }
    let listed = |name: &str| kind(name).is_some_and(|kind| rules.attachments.contains(&kind));
    let Some(config) = &document.config else { return Ok(None) };
    let is_document = config.size <= MAX_CONFIG && (config.media_type == EMPTY || listed(&config.media_type));
    let is_typed = document.artifact_type.as_deref().is_none_or(&listed);
    let total: u64 = document.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
    if !is_document
        || !is_typed
        || total > MAX_TOTAL
        || !document.layers.iter().all(|p| listed(&p.media_type))
    {
        return Ok(None);
    }
    for part in document.layers.iter().chain([config]) {
        if part.urls.is_some() || !is_json(app, repo, part).await? {
            return Ok(None);
        }
    }
    Ok(Some(subject))
}

/// Whether a part is here, as large as it says, and to its last byte a JSON object and nothing that could be unpacked; and,
/// where the manifest has it within, that it is the same.
async fn is_json(app: &App, repo: &RepoName, part: &Part) -> Result<bool, ApiError> {
    let Ok(digest) = part.digest.parse::<Digest>() else { return Ok(false) };
    let blob = match app.store.blob(repo, &digest).await {
        Ok(blob) => blob,
        Err(Error::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if blob.size != part.size || blob.size > MAX_TOTAL {
        return Ok(false);
    }
    // One at a time is in memory, so that they take little of it, and nothing of what slow readers hold.
    let Ok(_turn) = app.gate.attachments.acquire().await else { return Err(ApiError::unavailable()) };
    let bytes = match app.store.read_small(&blob, MAX_TOTAL).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) | Err(Error::Corrupt(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if let Some(data) = &part.data
        && BASE64_STANDARD.decode(data).ok().as_deref() != Some(&*bytes)
    {
        return Ok(false);
    }
    if part.media_type == EMPTY {
        return Ok(&bytes[..] == b"{}");
    }
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    Ok(is_object && !is_tar(&bytes) && serde_json::from_slice::<IgnoredAny>(&bytes).is_ok())
}

/// What kind of attachment a media type is.
fn kind(media_type: &str) -> Option<Attachment> {
    match media_type {
        "application/spdx+json" | "text/spdx+json" => Some(Attachment::Spdx),
        "application/vnd.cyclonedx+json" => Some(Attachment::Cyclonedx),
        "application/vnd.in-toto+json" | "application/vnd.dsse.envelope.v1+json" => Some(Attachment::InToto),
        "application/openvex+json"
        | "application/vnd.openvex+json"
        | "application/vex+json"
        | "application/csaf+json"
        | "application/vnd.csaf+json" => Some(Attachment::Vex),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_are_attachments() {
        assert_eq!(kind("application/spdx+json"), Some(Attachment::Spdx));
        assert_eq!(kind("application/vnd.cyclonedx+json"), Some(Attachment::Cyclonedx));
        for other in
            ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.cyclonedx+xml", "", "text/spdx"]
        {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
