// SPDX-License-Identifier: AGPL-3.0-only
//! Conditional requests: what a client has is not sent again, and a tag moves only as it expected.

use crate::client::{get, head, put};
use crate::role::{OCI_MANIFEST, refused, sha256};
use crate::server::Server;

#[test]
fn what_the_client_has_is_not_sent_again() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let mut wire = server.connect();
    for (path, digest) in [
        (repo.manifest("v1"), &image.digest),
        (repo.manifest(&image.digest), &image.digest),
        (repo.blob(&image.layer), &image.layer),
    ] {
        for tag in [
            format!("\"{digest}\""),
            digest.clone(),
            format!("W/\"{digest}\""),
            format!("\"x\", \"{digest}\""),
            "*".into(),
        ] {
            for request in [get(&path), head(&path)] {
                let answer = request.header("If-None-Match", &tag).on(&mut wire).is(304);
                assert_eq!(answer.must("etag"), format!("\"{digest}\""));
                assert_eq!(answer.must("docker-content-digest"), digest);
                assert_eq!(answer.must("docker-distribution-api-version"), "registry/2.0");
            }
        }
        for tag in ["\"x\"", &format!("\"{}\"", sha256("other")), ""] {
            get(&path).header("If-None-Match", tag).on(&mut wire).is(200);
        }
        let lines =
            get(&path).header("If-None-Match", "\"x\"").header("If-None-Match", format!("\"{digest}\""));
        lines.on(&mut wire).is(304);
    }
    // Not even then does something exist that does not.
    get(repo.manifest("v2")).header("If-None-Match", "*").on(&mut wire).is(404);
}

#[test]
fn a_tag_is_created_once() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let (first, second) = (repo.draft_image("first"), repo.draft_image("second"));
    let create = |bytes: &[u8]| {
        let request = put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST);
        request.header("If-None-Match", "*").body(bytes).to(&server)
    };
    create(&first.bytes).is(201);
    refused(&create(&second.bytes), 412, "DENIED");
    refused(&create(&first.bytes), 412, "DENIED");
    assert_eq!(repo.resolve("v1"), Some(first.digest));
    assert!(!repo.has_manifest(&second.digest), "the refused manifest is not stored either");
}

#[test]
fn a_tag_moves_only_from_where_the_client_saw_it() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "first");
    let next = repo.draft_image("next");
    let update = |reference: &str, header: &str, value: &str| {
        let request = put(repo.manifest(reference)).header("Content-Type", OCI_MANIFEST);
        request.header(header, value).body(&next.bytes).to(&server)
    };
    let (here, other) = (format!("\"{}\"", image.digest), format!("\"{}\"", sha256("other")));
    for (reference, header, value) in [
        ("v1", "If-Match", other.as_str()),
        ("v1", "If-Match", "\"x\""),
        ("v1", "If-Match", ""),
        ("v1", "If-None-Match", &here),
        ("v1", "If-None-Match", "*"),
        ("new", "If-Match", "*"),
        ("new", "If-Match", &here),
    ] {
        refused(&update(reference, header, value), 412, "DENIED");
        assert_eq!(repo.resolve("v1"), Some(image.digest.clone()), "{header}: {value}");
        assert_eq!(repo.tags(), ["v1"]);
        assert!(!repo.has_manifest(&next.digest));
    }
    let answer = update("v1", "If-Match", &here).is(201);
    // Whoever moves a tag again needs to know where it is.
    assert_eq!(answer.must("etag"), format!("\"{}\"", next.digest));
    update("v1", "If-Match", "*").is(201);
    update("new", "If-None-Match", &other).is(201);
    assert_eq!(repo.tags(), ["new", "v1"]);
}

#[test]
fn a_condition_that_cannot_be_read_is_never_taken_for_none() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "first");
    let next = repo.draft_image("next");
    let mut head = format!("PUT {} HTTP/1.1\r\nHost: x\r\nIf-Match: ", repo.manifest("v1")).into_bytes();
    head.extend(b"\"\xff\xfe\"\r\n");
    head.extend(format!("Content-Length: {}\r\n\r\n", next.bytes.len()).into_bytes());
    let mut wire = server.connect();
    wire.send([head, next.bytes.clone()].concat());
    let answer = wire.answer();
    assert!(matches!(answer.status, 400 | 412), "{answer}");
    assert_eq!(repo.resolve("v1"), Some(image.digest));
}

#[test]
fn conditions_that_cannot_be_meant_are_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.draft_image("x");
    let both = put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST).header("If-Match", "*");
    refused(&both.header("If-None-Match", "*").body(&image.bytes).to(&server), 400, "UNSUPPORTED");
    for header in ["If-Match", "If-None-Match"] {
        let request = put(repo.manifest(&format!("{}?tag=v1&tag=v2", image.digest)));
        refused(&request.header(header, "*").body(&image.bytes).to(&server), 400, "UNSUPPORTED");
    }
    assert!(repo.tags().is_empty() && !repo.has_manifest(&image.digest));
}
