// SPDX-License-Identifier: AGPL-3.0-only
//! Refusals in general: methods, unknown paths, the old API, and connections that go on after them.

use crate::client::{Request, get, head, post, put};
use crate::role::{refused, sha256};
use crate::server::Server;

#[test]
fn a_method_that_an_endpoint_does_not_have_is_405_and_names_those_it_has() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    for (path, allowed) in [
        ("/v2/".to_owned(), "GET, HEAD"),
        ("/v2/_catalog".to_owned(), "GET, HEAD"),
        (repo.url("tags/list"), "GET, HEAD"),
        (repo.manifest("v1"), "GET, HEAD, PUT, DELETE"),
        (repo.blob(&sha256("x")), "GET, HEAD, DELETE"),
        (repo.url("blobs/uploads/"), "POST"),
        (location.clone(), "GET, HEAD, PATCH, PUT, DELETE"),
        (repo.url(&format!("referrers/{}", sha256("x"))), "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allowed.split(", ").any(|one| one == method) {
                continue;
            }
            let answer = Request::new(method, &path).to(&server);
            if method == "HEAD" {
                assert_eq!(answer.status, 405, "{path}");
            } else {
                refused(&answer, 405, "UNSUPPORTED");
            }
            assert_eq!(answer.must("allow"), allowed, "{method} {path}");
        }
    }
    assert_eq!(repo.holds(&location), 0);
}

#[test]
fn a_path_that_is_no_endpoint_is_404() {
    let server = Server::start();
    for path in [
        "/",
        "/v3/",
        "/v2x",
        "/v2/a",
        "/v2/a/b/c",
        "/v2/a/tags/list/",
        "/v2/_oci/ext/discover",
        "/favicon.ico",
    ] {
        refused(&get(path).to(&server), 404, "UNSUPPORTED");
        refused(&put(path).body("x").to(&server), 404, "UNSUPPORTED");
        assert_eq!(head(path).to(&server).status, 404);
    }
}

#[test]
fn the_old_api_is_refused_in_so_many_words() {
    let server = Server::start();
    for request in
        [get("/v1/_ping"), post("/v1/users/"), get("/v1/"), get("/v1"), put("/v1/repositories/a/b/")]
    {
        let error = refused(&request.to(&server), 404, "UNSUPPORTED");
        assert!(error["message"].as_str().unwrap().contains("v1 is not supported"), "{error}");
    }
}

#[test]
fn a_repository_name_that_is_none_says_what_a_name_is() {
    let server = Server::start();
    let long = "x".repeat(256);
    for name in ["UPPER", "a//b", "-a", "a-", "a..b", "a___b", "a/", "a b", "ä", &long, "a/_b"] {
        let name = name.replace(' ', "%20").replace('ä', "%C3%A4");
        for request in [
            get(format!("/v2/{name}/tags/list")),
            get(format!("/v2/{name}/manifests/v1")),
            post(format!("/v2/{name}/blobs/uploads/")),
            put(format!("/v2/{name}/manifests/v1")).body("{}"),
        ] {
            let answer = request.to(&server);
            let error = refused(&answer, 400, "NAME_INVALID");
            assert!(error["message"].as_str().unwrap().len() < 300, "{error}");
        }
    }
    assert_eq!(get("/v2/_catalog").to(&server).json()["repositories"].as_array().unwrap().len(), 0);
    let longest = "x".repeat(255);
    server.repo(&longest).push_image("v1", "x");
}

#[test]
fn a_tag_that_is_none_is_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let long = "x".repeat(129);
    for tag in [".a", "-a", "a%20b", "a%2Fb", "%C3%A4", "a%00", "a@b", &long] {
        refused(&repo.put_manifest(tag, crate::role::OCI_MANIFEST, &image.bytes), 400, "MANIFEST_INVALID");
        refused(&get(repo.manifest(tag)).to(&server), 400, "MANIFEST_INVALID");
    }
    assert!(repo.tags().is_empty() && !repo.has_manifest(&image.digest));
}

#[test]
fn a_refusal_on_a_connection_does_not_disturb_the_next_request() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("v1", "x");
    let mut wire = server.connect();
    for _ in 0..3 {
        refused(&get(repo.manifest("v2")).on(&mut wire), 404, "MANIFEST_UNKNOWN");
        refused(&put(repo.manifest("v1")).body("nonsense").on(&mut wire), 400, "MANIFEST_INVALID");
        assert_eq!(head(repo.manifest("v2")).on(&mut wire).status, 404);
        refused(&Request::new("OPTIONS", "/v2/").on(&mut wire), 405, "UNSUPPORTED");
        get(repo.manifest("v1")).on(&mut wire).is(200);
    }
}

#[test]
fn answers_bear_the_version_of_the_api_and_an_id() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let mut ids = std::collections::HashSet::new();
    for request in
        [get("/v2/"), get(repo.manifest("v1")), post(repo.url("blobs/uploads/")), get("/v2/UPPER/tags/list")]
    {
        let answer = request.to(&server);
        assert_eq!(answer.must("docker-distribution-api-version"), "registry/2.0", "{answer}");
        assert!(ids.insert(answer.must("x-request-id").to_owned()), "{answer}");
    }
}
