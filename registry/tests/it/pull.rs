// SPDX-License-Identifier: AGPL-3.0-only
//! Reading: the base, blobs and manifests with their headers, HEAD as GET without the body.

use crate::client::{get, head};
use crate::role::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, index, noise, refused, sha256};
use crate::server::Server;

#[test]
fn the_base_is_an_empty_object_with_and_without_its_slash() {
    let server = Server::start();
    for path in ["/v2/", "/v2"] {
        let answer = get(path).to(&server).is(200);
        assert_eq!(answer.body, b"{}");
        assert_eq!(answer.must("content-type"), "application/json");
        assert_eq!(answer.must("docker-distribution-api-version"), "registry/2.0");
        let answer = head(path).to(&server).is(200);
        assert_eq!(answer.must("content-length"), "2");
    }
}

#[test]
fn a_blob_is_served_as_octets_with_its_digest_and_length() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(1_000_003);
    let digest = repo.push_blob(&bytes);
    for request in [get(repo.blob(&digest)), head(repo.blob(&digest))] {
        let answer = request.to(&server).is(200);
        assert_eq!(answer.must("docker-content-digest"), digest);
        assert_eq!(answer.must("content-length"), "1000003");
        assert_eq!(answer.must("content-type"), "application/octet-stream");
        assert_eq!(answer.must("accept-ranges"), "bytes");
        assert_eq!(answer.must("etag"), format!("\"{digest}\""));
        assert_eq!(answer.must("docker-distribution-api-version"), "registry/2.0");
    }
    assert!(get(repo.blob(&digest)).to(&server).body == bytes);
    assert!(head(repo.blob(&digest)).to(&server).body.is_empty());
    // Clients encode the colon, and ask for compression that would lose the length.
    let encoded = digest.replace(':', "%3A");
    let answer = get(repo.blob(&encoded)).header("Accept-Encoding", "gzip, zstd").to(&server).is(200);
    assert_eq!((answer.header("content-encoding"), answer.body == bytes), (None, true));
}

#[test]
fn a_manifest_is_served_exactly_as_pushed_by_tag_and_by_digest() {
    let server = Server::start();
    let repo = server.repo("team/app");
    // Spaces, unknown fields and null lists are the pusher's business.
    let image = repo.draft_image("spaced");
    let text = String::from_utf8(image.bytes).unwrap().replacen('{', "{ \"x-unknown\" : [1, 2],\n", 1);
    let text = text.replace(crate::role::OCI_MANIFEST, DOCKER_MANIFEST);
    let digest = sha256(&text);
    let answer = repo.put_manifest("v1", &format!("{DOCKER_MANIFEST}; charset=utf-8"), &text).is(201);
    assert_eq!(answer.must("location"), repo.manifest(&digest));
    assert_eq!(answer.must("docker-content-digest"), digest);
    for reference in ["v1", &digest, &digest.replace(':', "%3a")] {
        for request in [get(repo.manifest(reference)), head(repo.manifest(reference))] {
            // What a client accepts changes nothing.
            let answer = request.header("Accept", OCI_INDEX).to(&server).is(200);
            assert_eq!(answer.must("content-type"), DOCKER_MANIFEST);
            assert_eq!(answer.must("content-length"), text.len().to_string());
            assert_eq!(answer.must("docker-content-digest"), digest);
            assert_eq!(answer.must("etag"), format!("\"{digest}\""));
        }
    }
    assert_eq!(get(repo.manifest("v1")).to(&server).body, text.as_bytes());
}

#[test]
fn docker_lists_and_empty_indexes_keep_their_types() {
    let server = Server::start();
    let repo = server.repo("lists");
    let empty = index(&[]).to_string();
    repo.put_manifest("empty", OCI_INDEX, &empty).is(201);
    assert_eq!(get(repo.manifest("empty")).to(&server).must("content-type"), OCI_INDEX);
    let list = empty.replace(OCI_INDEX, DOCKER_LIST);
    repo.put_manifest("list", DOCKER_LIST, &list).is(201);
    assert_eq!(get(repo.manifest("list")).to(&server).must("content-type"), DOCKER_LIST);
}

#[test]
fn what_is_not_there_is_404_and_says_what_is_missing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let absent = sha256("absent");
    for path in [repo.blob(&absent), repo.manifest(&absent), repo.manifest("v1"), repo.url("tags/list")] {
        refused(&get(&path).to(&server), 404, "NAME_UNKNOWN");
    }
    repo.push_image("v1", "x");
    refused(&get(repo.blob(&absent)).to(&server), 404, "BLOB_UNKNOWN");
    refused(&get(repo.manifest(&absent)).to(&server), 404, "MANIFEST_UNKNOWN");
    refused(&get(repo.manifest("v2")).to(&server), 404, "MANIFEST_UNKNOWN");
    // A manifest is not a blob, a blob not a manifest, and neither is in another repository.
    let image = repo.push_image("v1", "x");
    refused(&get(repo.blob(&image.digest)).to(&server), 404, "BLOB_UNKNOWN");
    refused(&get(repo.manifest(&image.layer)).to(&server), 404, "MANIFEST_UNKNOWN");
    let other = server.repo("team/other");
    other.push_blob("something");
    refused(&get(other.blob(&image.layer)).to(&server), 404, "BLOB_UNKNOWN");
    refused(&get(other.manifest(&image.digest)).to(&server), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_refused_head_has_a_status_and_no_body() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let mut wire = server.connect();
    for (path, status) in [
        (repo.blob(&sha256("absent")), 404),
        (repo.manifest("v1"), 404),
        (repo.manifest("sha256:bad"), 400),
        ("/v2/UPPER/manifests/v1".into(), 400),
        ("/v2/nothing".into(), 404),
    ] {
        let answer = head(&path).on(&mut wire);
        assert_eq!(answer.status, status, "{path}");
    }
    // Had there been a body, it would stand before this answer.
    get("/v2/").on(&mut wire).is(200);
}

#[test]
fn names_that_look_like_endpoints_are_names() {
    let server = Server::start();
    for name in ["a/tags/list", "a/blobs/uploads", "manifests", "uploads", "a/manifests/b"] {
        let repo = server.repo(name);
        for tag in ["index", "current", "_", "latest.."] {
            repo.push_image(tag, name);
        }
        assert_eq!(repo.tags(), ["_", "current", "index", "latest.."], "{name}");
        assert!(repo.has_manifest("index"), "{name}");
    }
}

#[test]
fn several_requests_on_one_connection_are_answered_in_order() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let mut wire = server.connect();
    // Pipelined: nobody waits for an answer.
    wire.send(get(repo.manifest("v1")).bytes());
    wire.send(head(repo.manifest("v1")).bytes());
    wire.send(get(repo.blob(&image.layer)).bytes());
    assert_eq!(wire.answer().body, image.bytes);
    assert!(wire.answer_to("HEAD").body.is_empty());
    assert_eq!(wire.answer().body, b"layer x");
}
