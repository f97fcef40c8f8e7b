// SPDX-License-Identifier: AGPL-3.0-only
//! Requests that are too large, cut short or answered early: bounded, readable, and without a trace.

use std::time::Duration;

use crate::client::{get, patch, post, put};
use crate::role::{OCI_MANIFEST, noise, refused, sha256};
use crate::server::{Server, eventually};

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    repo.push_image("v1", "x");
    // Below the limit all is well.
    get("/v2/").header("X-Padding", "x".repeat(50_000)).to(&server).is(200);
    for request in [
        get("/v2/").header("X-Padding", "x".repeat(300_000)),
        get("/v2/").header("X-Padding", "x".repeat(5_000_000)),
        get(format!("/v2/{}", "x".repeat(70_000))),
        (0..2000).fold(get("/v2/"), |request, number| request.header(&format!("X-{number}"), "x")),
    ] {
        let mut wire = server.connect();
        // The server need not read it all.
        let _cut = wire.try_send(request.bytes());
        let answer = wire.answer();
        assert!(matches!(answer.status, 414 | 431), "{answer}");
        assert!(wire.is_closed_within(Duration::from_secs(7)));
    }
    assert_eq!(repo.tags(), ["v1"]);
}

#[test]
fn an_endless_head_is_cut_off() {
    let server = Server::start();
    let mut wire = server.connect();
    wire.send("GET /v2/ HTTP/1.1\r\nHost: x\r\n");
    let line = format!("X-More: {}\r\n", "x".repeat(1000));
    let sent = (0..100_000).take_while(|_| wire.try_send(&line).is_ok()).count();
    // Buffers of the kernel and what a closing connection drops, not all of it.
    assert!(sent < 100_000, "100 MB of header were read");
    get("/v2/").to(&server).is(200);
}

#[test]
fn a_truncated_body_stores_nothing() {
    for server in [Server::start(), Server::over_tls(&[])] {
        truncated_bodies(&server);
    }
}

fn truncated_bodies(server: &Server) {
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let next = repo.draft_image("next");
    let digest = sha256("hello world");
    let single = post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body("hello world").bytes();
    let chunked =
        post(repo.url(&format!("blobs/uploads/?digest={digest}"))).chunked(&[b"hello", b" world"]).bytes();
    let manifest = put(repo.manifest("v1")).header("Content-Type", OCI_MANIFEST).body(&next.bytes).bytes();
    for request in [single, chunked, manifest] {
        // One byte short, with an end that can be answered, and with none.
        let mut wire = server.connect();
        wire.send(&request[..request.len() - 6]);
        wire.finish();
        refused(&wire.answer(), 400, "SIZE_INVALID");
        let mut wire = server.connect();
        wire.send(&request[..request.len() - 6]);
        drop(wire);
    }
    assert!(!repo.has_blob(&digest) && !repo.has_manifest(&next.digest));
    assert_eq!(repo.resolve("v1"), Some(image.digest));
}

#[test]
fn broken_chunks_store_nothing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha256("hello");
    for body in [
        "5\r\nhello\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "zz\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut wire = server.connect();
        let path = repo.url(&format!("blobs/uploads/?digest={digest}"));
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        wire.finish();
        let answer = wire.answer();
        assert_eq!(answer.status, 400, "{body:?}: {answer}");
        assert!(!repo.has_blob(&digest), "{body:?}");
    }
}

#[test]
fn an_early_answer_is_readable_while_the_client_still_sends() {
    for server in [Server::start(), Server::over_tls(&[])] {
        early_answers(&server);
    }
}

fn early_answers(server: &Server) {
    let repo = server.repo("team/app");
    let location = repo.begin();
    let body = noise(20 << 20);
    for (request, status, code) in [
        (put(repo.manifest("v1")).body(&body), 413, "MANIFEST_INVALID"),
        (put(repo.manifest("v1")).chunked(&[&body]), 413, "MANIFEST_INVALID"),
        (patch("/v2/UPPER/blobs/uploads/x").body(&body), 400, "NAME_INVALID"),
        (patch(format!("{location}x")).body(&body), 404, "BLOB_UPLOAD_UNKNOWN"),
        (
            patch(&location).header("Content-Range", format!("5-{}", body.len() + 4)).body(&body),
            416,
            "BLOB_UPLOAD_INVALID",
        ),
        (post(repo.url("blobs/uploads/?digest=sha256:bad")).body(&body), 400, "DIGEST_INVALID"),
    ] {
        // Everything is sent before anything is read, as simple clients do.
        let mut wire = server.connect();
        wire.send(request.bytes());
        refused(&wire.answer(), status, code);
        // What was not read must not be taken for a request.
        let _cut = wire.try_send(get("/v2/").bytes());
        assert!(wire.is_closed_within(Duration::from_secs(7)), "the connection cannot go on");
    }
    assert_eq!(repo.holds(&location), 0);
    assert!(repo.tags().is_empty());
}

#[test]
fn a_small_unread_body_is_never_the_next_request() {
    for server in [Server::start(), Server::over_tls(&[])] {
        small_unread_bodies(&server);
    }
}

fn small_unread_bodies(server: &Server) {
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    let inner = format!("DELETE {} HTTP/1.1\r\nHost: x\r\n\r\n", repo.manifest(&image.digest));
    for outer in [
        put("/v2/UPPER/manifests/v1").body(&inner),
        post("/v2/").body(&inner),
        post(repo.url("blobs/uploads/")).body(&inner),
        get(repo.manifest("v1")).body(&inner),
        crate::client::delete(repo.manifest("absent")).body(&inner),
        put("/v2/UPPER/manifests/v1").chunked(&[inner.as_bytes()]),
    ] {
        let mut wire = server.connect();
        outer.on(&mut wire);
        // Either the connection goes on, with this request and no other, or it is closed.
        if wire.try_send(get("/v2/").bytes()).is_ok()
            && let Ok(answer) = wire.try_answer_to("GET")
        {
            assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
        }
        assert!(repo.has_manifest(&image.digest));
    }
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha256("hello");
    let ask = |path: &str, length: usize| {
        let mut wire = server.connect();
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ));
        wire
    };
    // Refused: the body never needs to be sent.
    let mut wire = ask(&repo.url("blobs/uploads/?digest=sha256:bad"), 1 << 30);
    let answer = wire.answer();
    refused(&answer, 400, "DIGEST_INVALID");
    assert!(answer.interim.is_empty());
    let mut wire = ask(&repo.url(&format!("blobs/uploads/?digest={digest}")), 5);
    let mut first = [0; 25];
    std::io::Read::read_exact(&mut wire.stream(), &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("hello");
    wire.answer().is(201);
}

#[test]
fn two_writers_on_one_session_cannot_mix() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let mut first = server.connect();
    let request = patch(&location).body("hello world").bytes();
    first.send(&request[..request.len() - 6]);
    eventually("the first writer is at work", || repo.holds(&location) == 5);
    let late = repo.chunk(&location, 0, b"HELLO");
    refused(&late, 416, "BLOB_UPLOAD_INVALID");
    assert_eq!((late.must("range"), late.must("location")), ("0-4", location.as_str()));
    let streamed = patch(&location).body("HELLO").to(&server);
    refused(&streamed, 416, "BLOB_UPLOAD_INVALID");
    refused(&repo.close(&location, &sha256("hello")), 416, "BLOB_UPLOAD_INVALID");
    first.send(" world");
    assert_eq!(first.answer().is(202).must("range"), "0-10");
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn an_upload_cancelled_under_its_writer_ends_both() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let mut writer = server.connect();
    let request = patch(&location).body("hello world").bytes();
    writer.send(&request[..request.len() - 6]);
    eventually("the writer is at work", || repo.holds(&location) == 5);
    crate::client::delete(&location).to(&server).is(204);
    writer.send(" world");
    let answer = writer.answer();
    assert!(matches!(answer.status, 404 | 416), "{answer}");
    refused(&get(&location).to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
}
