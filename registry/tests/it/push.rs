// SPDX-License-Identifier: AGPL-3.0-only
//! Uploading blobs in every way that clients know: one request, two, chunks, a stream; sha512; nothing.

use crate::client::{delete, get, patch, post, put};
use crate::role::{noise, refused, sha256, sha512};
use crate::server::Server;

#[test]
fn a_blob_comes_in_one_request() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha256("hello");
    let answer = post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body("hello").to(&server).is(201);
    assert_eq!(answer.must("docker-content-digest"), digest);
    assert_eq!(get(answer.must("location")).to(&server).is(200).body, b"hello");
    // Without the slash, encoded, in chunks of the transfer, twice.
    let path = repo.url(&format!("blobs/uploads?x=1&digest={}", digest.replace(':', "%3A")));
    post(path).chunked(&[b"he", b"llo"]).to(&server).is(201);
}

#[test]
fn a_blob_comes_in_two_requests() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let bytes = noise(3_000_000);
    let digest = sha256(&bytes);
    let answer = post(repo.url("blobs/uploads/")).to(&server).is(202);
    let location = answer.must("location").to_owned();
    let uuid = answer.must("docker-upload-uuid");
    assert_eq!(location, repo.url(&format!("blobs/uploads/{uuid}")));
    assert_eq!(answer.must("range"), "0-0");
    let answer = put(format!("{location}?digest={digest}")).body(&bytes).to(&server).is(201);
    assert_eq!(answer.must("location"), repo.blob(&digest));
    assert_eq!(answer.must("docker-content-digest"), digest);
    assert!(get(repo.blob(&digest)).to(&server).body == bytes);
    refused(&get(&location).to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
    // A client that lost the answer repeats the request.
    put(format!("{location}?digest={digest}")).body(&bytes).to(&server).is(201);
}

#[test]
fn a_blob_comes_in_chunks_and_each_answer_says_how_far() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let answer = repo.chunk(&location, 0, b"hello ").is(202);
    assert_eq!(answer.must("range"), "0-5");
    let location = answer.must("location").to_owned();
    let answer = get(&location).to(&server).is(204);
    assert_eq!((answer.must("range"), answer.must("location")), ("0-5", location.as_str()));
    assert!(answer.header("docker-upload-uuid").is_some());
    repo.chunk(&location, 6, b"wor").is(202);
    // The last chunk comes with the closing request.
    let digest = sha256("hello world");
    let answer = put(format!("{location}?digest={digest}")).header("Content-Range", "9-10").body("ld");
    answer.to(&server).is(201);
    assert_eq!(get(repo.blob(&digest)).to(&server).body, b"hello world");
}

#[test]
fn a_blob_comes_as_a_stream() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let answer = patch(&location).chunked(&[b"hello", b" ", b"world"]).to(&server).is(202);
    assert_eq!(answer.must("range"), "0-10");
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn a_chunk_may_bear_the_unit_that_http_wants() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    patch(&location).header("Content-Range", "bytes 0-4/*").body("hello").to(&server).is(202);
    repo.close(&location, &sha256("hello")).is(201);
}

#[test]
fn a_chunk_out_of_order_is_416_and_the_session_survives() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    repo.chunk(&location, 0, b"hello").is(202);
    let early = put(format!("{location}?digest={}", sha256("hello world"))).header("Content-Range", "8-10");
    for answer in [
        repo.chunk(&location, 0, b"hello"),
        repo.chunk(&location, 4, b"o"),
        repo.chunk(&location, 6, b"world"),
        early.body("rld").to(&server),
    ] {
        let error = refused(&answer, 416, "BLOB_UPLOAD_INVALID");
        assert!(error["message"].as_str().unwrap().contains("byte 5"), "{error}");
        // Whoever reads all three goes on without another question.
        assert_eq!(answer.must("range"), "0-4");
        assert_eq!(answer.must("location"), location);
        assert!(location.ends_with(answer.must("docker-upload-uuid")));
        assert_eq!(repo.holds(&location), 5);
    }
    repo.chunk(&location, 5, b" world").is(202);
    repo.close(&location, &sha256("hello world")).is(201);
}

#[test]
fn a_first_chunk_that_does_not_start_at_zero_is_416() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let answer = repo.chunk(&location, 3, b"late");
    refused(&answer, 416, "BLOB_UPLOAD_INVALID");
    assert_eq!((answer.must("range"), answer.must("location")), ("0-0", location.as_str()));
    repo.chunk(&location, 0, b"on time").is(202);
}

#[test]
fn a_chunk_whose_range_and_length_differ_is_refused_and_not_kept() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    repo.chunk(&location, 0, b"hello").is(202);
    let contradiction = patch(&location).header("Content-Range", "5-9");
    refused(&contradiction.clone().body("toolong").to(&server), 400, "SIZE_INVALID");
    refused(&contradiction.clone().chunked(&[b"toolong"]).to(&server), 400, "SIZE_INVALID");
    refused(&contradiction.chunked(&[b"few"]).to(&server), 400, "SIZE_INVALID");
    assert_eq!(repo.holds(&location), 5);
}

#[test]
fn a_content_range_that_is_none_is_refused() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    for range in ["x", "", "0-", "-4", "0-4-4", "0x0-0x4", "0-18446744073709551616", "0-4, 5-9", "bytes=0-4"]
    {
        let answer = patch(&location).header("Content-Range", range).body("hello").to(&server);
        refused(&answer, 400, "BLOB_UPLOAD_INVALID");
    }
    let backwards = patch(&location).header("Content-Range", "4-0").body("hello").to(&server);
    refused(&backwards, 416, "BLOB_UPLOAD_INVALID");
    assert_eq!(backwards.must("location"), location);
    let twice = patch(&location).header("Content-Range", "0-4").header("Content-Range", "0-4").body("hello");
    refused(&twice.to(&server), 400, "BLOB_UPLOAD_INVALID");
    assert_eq!(repo.holds(&location), 0);
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let wrong = sha256("something else");
    let single = post(repo.url(&format!("blobs/uploads/?digest={wrong}"))).body("hello").to(&server);
    let error = refused(&single, 400, "DIGEST_INVALID");
    assert!(error["message"].as_str().unwrap().contains(&sha256("hello")), "{error}");
    let location = repo.begin();
    repo.chunk(&location, 0, b"hello").is(202);
    refused(&repo.close(&location, &wrong), 400, "DIGEST_INVALID");
    let with_chunk = put(format!("{location}?digest={wrong}")).header("Content-Range", "5-5").body("!");
    refused(&with_chunk.to(&server), 400, "DIGEST_INVALID");
    assert!(!repo.has_blob(&wrong) && !repo.has_blob(&sha256("hello")) && !repo.has_blob(&sha256("hello!")));
    // The upload stands where it stood, so the right digest still closes it.
    assert_eq!(repo.holds(&location), 5);
    repo.close(&location, &sha256("hello")).is(201);
}

#[test]
fn a_digest_that_is_none_is_refused_before_anything_is_read() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let upper = sha256("hello").to_uppercase().replace("SHA256", "sha256");
    for digest in
        ["", "sha256:baddigeststring", "sha256", ":", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper]
    {
        let single = post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body("hello");
        refused(&single.to(&server), 400, "DIGEST_INVALID");
        refused(&repo.close(&location, digest), 400, "DIGEST_INVALID");
    }
    refused(&put(&location).body("hello").to(&server), 400, "DIGEST_INVALID");
    assert_eq!(repo.holds(&location), 0);
}

#[test]
fn sha512_names_blobs_as_well_announced_or_not() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha512("hello");
    for query in ["?digest-algorithm=sha512", ""] {
        let location = repo.begin_with(query);
        repo.chunk(&location, 0, b"hel").is(202);
        let closing = put(format!("{location}?digest={digest}")).body("lo").to(&server).is(201);
        assert_eq!(closing.must("docker-content-digest"), digest);
        assert_eq!(get(closing.must("location")).to(&server).is(200).must("docker-content-digest"), digest);
        delete(repo.blob(&digest)).to(&server).is(202);
    }
    post(repo.url(&format!("blobs/uploads/?digest={digest}"))).body("hello").to(&server).is(201);
    // An announced algorithm binds nobody.
    let location = repo.begin_with("?digest-algorithm=sha512");
    put(format!("{location}?digest={}", sha256("hello"))).body("hello").to(&server).is(201);
    refused(&repo.close(&repo.begin(), &sha512("x")), 400, "DIGEST_INVALID");
    let unknown = post(repo.url("blobs/uploads/?digest-algorithm=md5")).to(&server);
    assert!(refused(&unknown, 400, "DIGEST_INVALID").to_string().contains("sha512"), "{unknown}");
}

#[test]
fn nothing_is_a_blob_too() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let digest = sha256("");
    repo.close(&repo.begin(), &digest).is(201);
    let answer = get(repo.blob(&digest)).to(&server).is(200);
    assert_eq!((answer.must("content-length"), answer.body.len()), ("0", 0));
    server.repo("other").push_blob("");
    let location = repo.begin();
    let answer = patch(&location).chunked(&[]).to(&server).is(202);
    assert_eq!(answer.must("range"), "0-0");
    repo.close(&location, &digest).is(201);
}

#[test]
fn a_cancelled_upload_is_gone() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    repo.chunk(&location, 0, b"hello").is(202);
    // Another repository knows nothing of it.
    let elsewhere = location.replace("team/app", "team/other");
    refused(&delete(&elsewhere).to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
    refused(&patch(&elsewhere).body("x").to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(repo.holds(&location), 5);
    delete(&location).header("Content-Length", "0").to(&server).is(204);
    for answer in [
        get(&location).to(&server),
        patch(&location).body("x").to(&server),
        repo.close(&location, &sha256("hello")),
        delete(&location).to(&server),
    ] {
        refused(&answer, 404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn a_session_that_never_was_is_unknown() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let location = repo.begin();
    let (folder, id) = location.rsplit_once('/').unwrap();
    let spelled =
        [id.to_uppercase(), id.replace('-', ""), format!("%7B{id}%7D"), "..".into(), "x".repeat(9000)];
    for other in spelled {
        refused(&get(format!("{folder}/{other}")).to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
        refused(&patch(format!("{folder}/{other}")).body("x").to(&server), 404, "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(repo.holds(&location), 0);
}
