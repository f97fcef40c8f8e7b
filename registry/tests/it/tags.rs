// SPDX-License-Identifier: AGPL-3.0-only
//! Tags: several in one request, the list and its pages, the catalog.

use serde_json::json;

use crate::client::{Answer, get, head};
use crate::role::{OCI_INDEX, OCI_MANIFEST, index, refused, sha512};
use crate::server::Server;

/// The target of a `Link` to the next page, to be used as it stands.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("{link}")).to_owned())
}

#[test]
fn one_request_sets_several_tags() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let digest = sha512(&image.bytes);
    let names: Vec<_> = (10..30).map(|number| format!("v{number}")).collect();
    let query = names.iter().map(|name| format!("tag={name}")).collect::<Vec<_>>().join("&");
    let answer = repo.put_manifest(&format!("{digest}?{query}"), OCI_MANIFEST, &image.bytes).is(201);
    assert_eq!(answer.all("oci-tag"), names);
    assert_eq!(answer.must("docker-content-digest"), digest);
    assert_eq!(repo.tags(), names);
    assert_eq!(repo.resolve("v29"), Some(digest));
}

#[test]
fn several_tags_are_set_all_or_none() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let put =
        |query: &str| repo.put_manifest(&format!("{}?{query}", image.digest), OCI_MANIFEST, &image.bytes);
    for bad in ["tag=good&tag=.bad", "tag=good&tag=", "tag=good&tag=a/b", "tag=good&tag=sha256:x"] {
        refused(&put(bad), 400, "MANIFEST_INVALID");
    }
    refused(&put(&format!("tag=good&tag={}", "x".repeat(129))), 400, "MANIFEST_INVALID");
    let many = (0..101).map(|number| format!("tag=t{number}")).collect::<Vec<_>>().join("&");
    refused(&put(&many), 414, "UNSUPPORTED");
    assert!(repo.tags().is_empty() && !repo.has_manifest(&image.digest));
    put(&format!("tag={}", "x".repeat(128))).is(201);
}

#[test]
fn tags_are_listed_in_byte_order() {
    let server = Server::start();
    let repo = server.repo("team/app");
    for tag in ["b", "A", "a", "_", "1.10", "1.9", "B", "a-b", "a.b"] {
        repo.put_manifest(tag, OCI_INDEX, index(&[]).to_string()).is(201);
    }
    let answer = get(repo.url("tags/list")).to(&server).is(200);
    assert_eq!(answer.must("content-type"), "application/json");
    assert_eq!(
        answer.json(),
        json!({"name": "team/app", "tags": ["1.10", "1.9", "A", "B", "_", "a", "a-b", "a.b", "b"]})
    );
    let length = head(repo.url("tags/list")).to(&server).is(200).must("content-length").to_owned();
    assert_eq!(length, answer.body.len().to_string());
}

#[test]
fn pages_follow_each_other_by_their_links() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let names: Vec<_> = (10..17).map(|number| format!("v{number}")).collect();
    for name in &names {
        repo.put_manifest(name, OCI_INDEX, index(&[]).to_string()).is(201);
    }
    for n in 1..=8 {
        let (mut seen, mut target) = (Vec::new(), Some(repo.url(&format!("tags/list?n={n}"))));
        while let Some(path) = target {
            let answer = get(path).to(&server).is(200);
            let tags = answer.json()["tags"].as_array().unwrap().clone();
            target = next(&answer);
            assert!(tags.len() == n || target.is_none(), "a short page is the last");
            assert!(!tags.is_empty(), "no page is empty but the only one");
            seen.extend(tags.iter().map(|tag| tag.as_str().unwrap().to_owned()));
        }
        assert_eq!(seen, names, "n={n}");
    }
}

#[test]
fn the_edges_of_paging_are_as_specified() {
    let server = Server::start();
    let repo = server.repo("team/app");
    for name in ["a", "c"] {
        repo.put_manifest(name, OCI_INDEX, index(&[]).to_string()).is(201);
    }
    for (query, expected) in [
        ("n=0", json!([])),
        ("n=2", json!(["a", "c"])),
        ("last=a", json!(["c"])),
        ("last=b", json!(["c"])),
        ("last=c", json!([])),
        ("last=", json!(["a", "c"])),
        ("last=%00", json!(["a", "c"])),
        ("last=%F0%9F%A6%80", json!([])),
        ("n=1&last=a", json!(["c"])),
        ("n=99999999999999999999", json!(["a", "c"])),
    ] {
        let answer = get(repo.url(&format!("tags/list?{query}"))).to(&server).is(200);
        assert_eq!(answer.json()["tags"], expected, "{query}");
        assert_eq!(next(&answer), None, "{query}");
    }
    for query in ["n=-1", "n=x", "n=", "n=1.5", "n=%31x"] {
        refused(&get(repo.url(&format!("tags/list?{query}"))).to(&server), 400, "UNSUPPORTED");
    }
    let unknown = server.repo("unknown");
    refused(&get(unknown.url("tags/list?n=0")).to(&server), 404, "NAME_UNKNOWN");
}

#[test]
fn a_repository_that_lost_its_last_tag_lists_none() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    repo.delete_manifest(&image.digest).is(202);
    assert_eq!(get(repo.url("tags/list")).to(&server).is(200).json()["tags"], json!([]));
}

#[test]
fn the_catalog_lists_repositories_in_pages() {
    let server = Server::start();
    assert_eq!(get("/v2/_catalog").to(&server).is(200).json(), json!({"repositories": []}));
    let names = ["a", "a-b", "a/b", "a/b/c", "b"];
    for name in names {
        server.repo(name).push_image("v1", name);
    }
    // An upload that never ended makes no repository.
    server.repo("c").begin();
    assert_eq!(get("/v2/_catalog").to(&server).is(200).json(), json!({"repositories": names}));
    let (mut seen, mut target) = (Vec::new(), Some("/v2/_catalog?n=2".to_owned()));
    while let Some(path) = target {
        let answer = get(path).to(&server).is(200);
        let page = answer.json()["repositories"].as_array().unwrap().clone();
        seen.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
        target = next(&answer);
    }
    assert_eq!(seen, names);
    refused(&get("/v2/_catalog?n=x").to(&server), 400, "UNSUPPORTED");
}
