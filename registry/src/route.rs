// SPDX-License-Identifier: AGPL-3.0-only
//! What a path below `/v2/` means.
//!
//! Repository names contain slashes, so paths are read from the right: a repository may be called
//! `a/blobs/uploads` and still have manifests. Only the last part may be percent-encoded (clients
//! write `sha256%3A…`); a name that needs decoding breaks the grammar and is refused as it stands.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use stella_storage::RepoName;

use crate::error::ApiError;

/// Where a tag is rolled back: the one change outside of that API.
pub(crate) const TAG_ROLLBACK: &str = "/api/stella/v1/tags/rollback";

/// A path of the OCI distribution API. Last parts are text: what a malformed one means depends on
/// the method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    /// `/v2/` (end-1).
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/<name>/tags/list` (end-8).
    Tags(RepoName),
    /// `/v2/<name>/manifests/<tag-or-digest>` (end-3, 7, 9).
    Manifest(RepoName, Cow<'p, str>),
    /// `/v2/<name>/blobs/<digest>` (end-2, 10).
    Blob(RepoName, Cow<'p, str>),
    /// `/v2/<name>/blobs/uploads/` (end-4, 11).
    Uploads(RepoName),
    /// `/v2/<name>/blobs/uploads/<id>` (end-5, 6, 13, 14).
    Upload(RepoName, Cow<'p, str>),
    /// `/v2/<name>/referrers/<digest>` (end-12).
    Referrers(RepoName, Cow<'p, str>),
}

/// The form of a path, for counting: a closed set, whatever clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Base,
    Catalog,
    Tags,
    Manifest,
    Blob,
    Uploads,
    Upload,
    Referrers,
    /// Metrics and health.
    Monitoring,
    Other,
}

impl Template {
    pub(crate) const ALL: [Template; 10] = [
        Template::Base,
        Template::Catalog,
        Template::Tags,
        Template::Manifest,
        Template::Blob,
        Template::Uploads,
        Template::Upload,
        Template::Referrers,
        Template::Monitoring,
        Template::Other,
    ];

    /// How it is shown.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Template::Base => "/v2/",
            Template::Catalog => "/v2/_catalog",
            Template::Tags => "/v2/{name}/tags/list",
            Template::Manifest => "/v2/{name}/manifests/{reference}",
            Template::Blob => "/v2/{name}/blobs/{digest}",
            Template::Uploads => "/v2/{name}/blobs/uploads/",
            Template::Upload => "/v2/{name}/blobs/uploads/{id}",
            Template::Referrers => "/v2/{name}/referrers/{digest}",
            Template::Monitoring => "monitoring",
            Template::Other => "other",
        }
    }

    /// The form of a path, be its parts well-formed or not.
    pub(crate) fn of(path: &str) -> Self {
        match Split::of(path) {
            Some(split) => split.template,
            None if ["/metrics", "/livez", "/readyz", "/startupz", "/healthz"].contains(&path) => {
                Template::Monitoring
            }
            None => Template::Other,
        }
    }
}

/// A path of the API in its parts, which nobody has looked at yet; absent ones are empty.
#[derive(Clone, Copy)]
pub(crate) struct Split<'p> {
    pub(crate) template: Template,
    pub(crate) name: &'p str,
    pub(crate) last: &'p str,
}

impl<'p> Split<'p> {
    pub(crate) fn of(path: &'p str) -> Option<Self> {
        let found = |template, name, last| Some(Split { template, name, last });
        if path == "/v2" || path == "/v2/" {
            return found(Template::Base, "", "");
        }
        let path = path.strip_prefix("/v2/")?;
        if path == "_catalog" {
            return found(Template::Catalog, "", "");
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return found(Template::Tags, name, "");
        }
        if let Some(name) =
            path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads"))
        {
            return found(Template::Uploads, name, "");
        }
        let (head, last) = path.rsplit_once('/')?;
        if last.is_empty() {
            return None;
        }
        for (suffix, template) in [
            ("/manifests", Template::Manifest),
            ("/blobs/uploads", Template::Upload),
            ("/blobs", Template::Blob),
            ("/referrers", Template::Referrers),
        ] {
            if let Some(name) = head.strip_suffix(suffix) {
                return found(template, name, last);
            }
        }
        None
    }
}

/// Reads a path; `Ok(None)` is a path that the API does not have.
pub(crate) fn parse(path: &str) -> Result<Option<Route<'_>>, ApiError> {
    let Some(Split { template, name, last }) = Split::of(path) else { return Ok(None) };
    let route = match template {
        Template::Base => Route::Base,
        Template::Catalog => Route::Catalog,
        Template::Tags => Route::Tags(repo(name)?),
        Template::Uploads => Route::Uploads(repo(name)?),
        Template::Manifest | Template::Upload | Template::Blob | Template::Referrers => {
            let Some(last) = decode(last) else { return Ok(None) };
            let repo = repo(name)?;
            match template {
                Template::Manifest => Route::Manifest(repo, last),
                Template::Upload => Route::Upload(repo, last),
                Template::Blob => Route::Blob(repo, last),
                _ => Route::Referrers(repo, last),
            }
        }
        Template::Monitoring | Template::Other => return Ok(None),
    };
    Ok(Some(route))
}

fn repo(name: &str) -> Result<RepoName, ApiError> {
    Ok(name.parse()?)
}

fn decode(last: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(last).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> RepoName {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_read_from_the_right() {
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags(name("a/b"))),
            ("/v2/a/manifests/latest", Route::Manifest(name("a"), "latest".into())),
            ("/v2/a/manifests/sha256%3Aab", Route::Manifest(name("a"), "sha256:ab".into())),
            ("/v2/a/blobs/sha256:ab", Route::Blob(name("a"), "sha256:ab".into())),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/id", Route::Upload(name("a"), "id".into())),
            ("/v2/a/referrers/sha256:ab", Route::Referrers(name("a"), "sha256:ab".into())),
            // Repositories whose names look like endpoints.
            ("/v2/a/blobs/uploads/manifests/index", Route::Manifest(name("a/blobs/uploads"), "index".into())),
            ("/v2/a/tags/list/tags/list", Route::Tags(name("a/tags/list"))),
            ("/v2/manifests/manifests/blobs", Route::Manifest(name("manifests"), "blobs".into())),
        ] {
            assert_eq!(parse(path).unwrap(), Some(route), "{path}");
        }
    }

    #[test]
    fn the_form_of_a_path_is_told_whatever_its_parts_are() {
        for (path, template) in [
            ("/v2/", Template::Base),
            ("/v2/A//b/manifests/x", Template::Manifest),
            ("/v2/a/blobs/%ff", Template::Blob),
            ("/v2/a/blobs/uploads/x", Template::Upload),
            ("/v2/a/tags/list", Template::Tags),
            ("/v2/a/manifests/", Template::Other),
            ("/readyz", Template::Monitoring),
            ("/readyz/", Template::Other),
            ("/v1/_ping", Template::Other),
        ] {
            assert_eq!(Template::of(path), template, "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_no_route() {
        for path in [
            "/",
            "/v1/_ping",
            "/v2x",
            "/v2/a",
            "/v2/a/b",
            "/v2/a/manifests/",
            "/v2/a/tags/list/x",
            "/v2/a/blobs/%ff",
        ] {
            assert_eq!(parse(path).ok(), Some(None), "{path}");
        }
    }

    #[test]
    fn path_tricks_break_the_name_grammar() {
        for path in [
            "/v2/../manifests/x",
            "/v2/a/../b/manifests/x",
            "/v2/a/%2e%2e/b/manifests/x",
            "/v2/a//b/manifests/x",
            "/v2//manifests/x",
            "/v2/a\\b/manifests/x",
            "/v2/a%2fb/manifests/x",
            "/v2/A/blobs/uploads/",
            "/v2/_catalog/tags/list",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_never_yields_a_bad_name(path in "/v2(/[a-z.%\\\\2e:_-]{0,9}){0,6}|\\PC{0,60}") {
            if let Ok(Some(Route::Manifest(name, _) | Route::Blob(name, _) | Route::Tags(name))) = parse(&path) {
                prop_assert!(name.as_str().parse::<RepoName>().is_ok());
            }
        }
    }
}
