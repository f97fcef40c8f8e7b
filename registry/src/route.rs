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

/// Reads a path; `Ok(None)` is a path that the API does not have.
pub(crate) fn parse(path: &str) -> Result<Option<Route<'_>>, ApiError> {
    if path == "/v2" || path == "/v2/" {
        return Ok(Some(Route::Base));
    }
    let Some(path) = path.strip_prefix("/v2/") else { return Ok(None) };
    if path == "_catalog" {
        return Ok(Some(Route::Catalog));
    }
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Ok(Some(Route::Tags(repo(name)?)));
    }
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
        return Ok(Some(Route::Uploads(repo(name)?)));
    }
    let Some((head, last)) = path.rsplit_once('/') else { return Ok(None) };
    let Some(last) = decode(last) else { return Ok(None) };
    let route = if let Some(name) = head.strip_suffix("/manifests") {
        Route::Manifest(repo(name)?, last)
    } else if let Some(name) = head.strip_suffix("/blobs/uploads") {
        Route::Upload(repo(name)?, last)
    } else if let Some(name) = head.strip_suffix("/blobs") {
        Route::Blob(repo(name)?, last)
    } else if let Some(name) = head.strip_suffix("/referrers") {
        Route::Referrers(repo(name)?, last)
    } else {
        return Ok(None);
    };
    Ok(Some(route))
}

fn repo(name: &str) -> Result<RepoName, ApiError> {
    Ok(name.parse()?)
}

fn decode(last: &str) -> Option<Cow<'_, str>> {
    if last.is_empty() { None } else { percent_decode_str(last).decode_utf8().ok() }
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
