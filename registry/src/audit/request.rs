// SPDX-License-Identifier: AGPL-3.0-only
//! What a request changed, or wanted to change: told by its method and path, the answer, and what the
//! handler added to that. Names that break their grammar are told as they came, clipped.

use http::{Method, Uri};

use super::{Changed, Entry, TagChange};
use crate::query::Query;
use crate::route::{Split, TAG_ROLLBACK, Template};

/// Longer than any name, reference or digest that is right.
const CLIPPED: usize = 512;
/// Tags that a line names; the deletion of a manifest may remove more.
const MOST_TAGS: usize = 200;

/// The line for a request, if it is about a change, one that happened or that failed, or if it was refused. `changed` is
/// what its handler knows of it.
pub(crate) fn of_request(
    method: &Method,
    uri: &Uri,
    status: u16,
    changed: Option<&Changed>,
    refused: bool,
) -> Option<Entry> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if reads && !refused {
        return None;
    }
    let failed = status >= 400;
    if uri.path() == TAG_ROLLBACK {
        return Some(of_rollback(uri, status, changed));
    }
    let Some(split) = Split::of(uri.path()) else {
        // Nothing can be changed anywhere else.
        let action = if uri.path() == "/metrics" { "metrics.get" } else { "login" };
        return refused.then(|| Entry { action, status: Some(status), ..Entry::default() });
    };
    let query = Query::parse(uri.query()).ok();
    let parameter = |name: &str| query.as_ref().and_then(|query| query.get(name)).map(clip);
    let mut entry = Entry {
        repository: Some(split.name).filter(|name| !name.is_empty()).map(clip),
        status: Some(status),
        ..Entry::default()
    };
    match (split.template, method) {
        (Template::Manifest, _) if reads => {
            name_reference(&mut entry, split.last);
            entry.action = "manifest.get";
        }
        (Template::Blob | Template::Referrers, _) if reads => {
            entry.digest = Some(decoded(split.last));
            entry.action = if split.template == Template::Blob { "blob.get" } else { "referrers.list" };
        }
        (Template::Tags, _) if reads => entry.action = "tags.list",
        // What clients ask for to log in.
        (Template::Base, _) if reads => entry.action = "login",
        (Template::Catalog, _) if reads => entry.action = "catalog.list",
        (Template::Manifest, &Method::PUT) => {
            entry.action = "manifest.put";
            name_reference(&mut entry, split.last);
            let named = query.iter().flat_map(|query| query.all("tag")).take(MOST_TAGS);
            entry.tags.extend(named.map(|tag| TagChange { tag: clip(tag), previous: None }));
        }
        (Template::Manifest, &Method::DELETE) => {
            name_reference(&mut entry, split.last);
            entry.action = if entry.tags.is_empty() { "manifest.delete" } else { "tag.delete" };
        }
        (Template::Blob, &Method::DELETE) => {
            entry.action = "blob.delete";
            entry.digest = Some(decoded(split.last));
        }
        (Template::Uploads, &Method::POST) => {
            let (mount, digest) = (parameter("mount"), parameter("digest"));
            match (mount, digest) {
                (Some(mount), _) if status == 201 || failed => {
                    entry.action = "blob.mount";
                    entry.digest = Some(mount);
                    entry.from = parameter("from");
                }
                (None, Some(digest)) if status == 201 || failed => {
                    entry.action = "blob.push";
                    entry.digest = Some(digest);
                }
                _ if failed => entry.action = "upload.begin",
                // An upload that was begun changes nothing that anyone could read.
                _ => return None,
            }
        }
        (Template::Upload, method) => {
            entry.upload = Some(decoded(split.last));
            match *method {
                Method::PUT => {
                    entry.action = "blob.push";
                    entry.digest = parameter("digest");
                }
                Method::DELETE => entry.action = "upload.cancel",
                Method::PATCH if failed => entry.action = "upload.append",
                _ if failed => entry.action = "other",
                _ => return None,
            }
        }
        _ if failed => entry.action = "other",
        _ => return None,
    }
    add(&mut entry, changed);
    Some(entry)
}

/// What the handler knows beats what was asked for.
fn add(entry: &mut Entry, changed: Option<&Changed>) {
    let Some(Changed { digest, tags }) = changed else { return };
    if let Some(digest) = digest {
        entry.digest = Some(digest.to_string());
    }
    let change = |(tag, previous): &(stella_storage::Tag, Option<stella_storage::Digest>)| TagChange {
        tag: tag.to_string(),
        previous: previous.as_ref().map(ToString::to_string),
    };
    entry.tags = tags.iter().take(MOST_TAGS).map(change).collect();
    entry.more_tags = tags.len().checked_sub(MOST_TAGS).filter(|more| *more > 0);
}

fn of_rollback(uri: &Uri, status: u16, changed: Option<&Changed>) -> Entry {
    let query = Query::parse(uri.query()).ok();
    let parameter = |name: &str| query.as_ref().and_then(|query| query.get(name)).map(clip);
    let name = parameter("ref").unwrap_or_default();
    let (repository, tag) = name.split_once(':').unwrap_or((&name, "latest"));
    let mut entry = Entry {
        action: "tag.rollback",
        repository: Some(repository.to_owned()),
        digest: parameter("digest"),
        tags: vec![TagChange { tag: tag.to_owned(), previous: None }],
        status: Some(status),
        ..Entry::default()
    };
    add(&mut entry, changed);
    entry
}

/// A reference is a digest if it has a colon, which no tag may have.
fn name_reference(entry: &mut Entry, reference: &str) {
    let reference = decoded(reference);
    if reference.contains(':') {
        entry.digest = Some(reference);
    } else {
        entry.tags.push(TagChange { tag: reference, previous: None });
    }
}

fn decoded(text: &str) -> String {
    clip(&percent_encoding::percent_decode_str(text).decode_utf8_lossy())
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(CLIPPED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(method: &str, uri: &str, status: u16) -> Option<String> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let entry = of_request(&method, &uri.parse().unwrap(), status, None, false)?;
        let tags: Vec<_> = entry.tags.iter().map(|change| change.tag.as_str()).collect();
        let text = |field: &Option<String>| field.clone().unwrap_or("-".to_owned());
        Some(format!(
            "{} {} {} {} {}",
            entry.action,
            text(&entry.repository),
            text(&entry.digest),
            tags.join(","),
            text(&entry.from)
        ))
    }

    #[test]
    fn each_change_has_its_action() {
        for (method, uri, status, expected) in [
            ("PUT", "/v2/a/b/manifests/v1?tag=v2&tag=v3", 201, "manifest.put a/b - v1,v2,v3 -"),
            ("PUT", "/v2/a/manifests/sha256%3Aab", 400, "manifest.put a sha256:ab  -"),
            ("DELETE", "/v2/a/manifests/v1", 202, "tag.delete a - v1 -"),
            ("DELETE", "/v2/a/manifests/sha256:ab", 404, "manifest.delete a sha256:ab  -"),
            ("DELETE", "/v2/a/blobs/sha256:ab", 202, "blob.delete a sha256:ab  -"),
            ("POST", "/v2/a/blobs/uploads/?mount=sha256:ab&from=b", 201, "blob.mount a sha256:ab  b"),
            ("POST", "/v2/a/blobs/uploads/?digest=sha256:ab", 201, "blob.push a sha256:ab  -"),
            ("POST", "/v2/a/blobs/uploads/", 507, "upload.begin a -  -"),
            ("PUT", "/v2/a/blobs/uploads/id?digest=sha256:ab", 201, "blob.push a sha256:ab  -"),
            ("PATCH", "/v2/a/blobs/uploads/id", 416, "upload.append a -  -"),
            ("DELETE", "/v2/a/blobs/uploads/id", 204, "upload.cancel a -  -"),
            ("POST", "/v2/a/tags/list", 405, "other a -  -"),
            (
                "POST",
                "/api/stella/v1/tags/rollback?ref=a/b:v1&digest=sha256:ab",
                403,
                "tag.rollback a/b sha256:ab v1 -",
            ),
        ] {
            assert_eq!(entry(method, uri, status).as_deref(), Some(expected), "{method} {uri}");
        }
    }

    #[test]
    fn what_changes_nothing_has_no_line() {
        for (method, uri, status) in [
            ("GET", "/v2/a/manifests/v1", 404),
            ("HEAD", "/v2/a/blobs/sha256:ab", 200),
            ("POST", "/v2/a/blobs/uploads/", 202),
            // A mount that became an upload.
            ("POST", "/v2/a/blobs/uploads/?mount=sha256:ab", 202),
            ("PATCH", "/v2/a/blobs/uploads/id", 202),
            ("POST", "/metrics", 405),
        ] {
            assert_eq!(entry(method, uri, status), None, "{method} {uri}");
        }
    }

    #[test]
    fn what_a_client_makes_up_stays_on_its_line() {
        let uri: Uri = format!("/v2/a/manifests/%0a%22forged%1b?tag={}", "x".repeat(9_000)).parse().unwrap();
        let entry = of_request(&Method::PUT, &uri, 400, None, false).unwrap();
        let line = crate::audit::line(&entry);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{1b}') && line.len() < 2_000, "{line}");
    }
}
