// SPDX-License-Identifier: AGPL-3.0-only
//! Cross-repository mounts in plain HTTP: a client falls back to an upload in silence, so only here is it
//! seen whether a mount was one.

use stella_tests::{Server, digest, noise};

#[test]
fn a_blob_is_mounted_from_the_repository_that_is_named() {
    let server = Server::start();
    let bytes = noise(1, 100_000);
    let digest = server.repository("a/b").push_blob(&bytes);

    let mounted = server.repository("c").mount(&digest, Some("a/b")).must_be(201);
    assert!(server.repository("c").blob(&digest) == bytes);
    let location = mounted.must_have("location");
    let at_location = server.send(&stella_tests::Request::get(location)).must_be(200);
    assert!(at_location.body == bytes);
}

#[test]
fn a_mount_without_from_mounts_or_begins_an_upload() {
    let server = Server::start();
    let bytes = noise(2, 100_000);
    let digest = server.repository("a").push_blob(&bytes);

    let repository = server.repository("c");
    let answer = repository.mount(&digest, None).must_be_one_of(&[201, 202]);
    if answer.status == 202 {
        let mut upload = repository.upload();
        upload.go_on(&answer);
        upload.finish(&bytes, &digest);
    }
    assert!(repository.blob(&digest) == bytes);
}

#[test]
fn a_mount_of_what_is_not_there_begins_an_upload() {
    let server = Server::start();
    let bytes = noise(3, 1000);
    server.repository("a").push_blob(b"something else");

    for from in [Some("a"), Some("no/such/repository"), None] {
        let bytes = [bytes.as_slice(), from.unwrap_or_default().as_bytes()].concat();
        let repository = server.repository("c");
        let answer = repository.mount(&digest(&bytes), from).must_be(202);
        let mut upload = repository.upload();
        upload.go_on(&answer);
        upload.finish(&bytes, &digest(&bytes));
        assert_eq!(repository.blob(&digest(&bytes)), bytes);
    }
}

#[test]
fn a_mounted_blob_outlives_its_source_and_a_restart() {
    let mut server = Server::start();
    let bytes = noise(4, 100_000);
    let digest = server.repository("a").push_blob(&bytes);
    server.repository("c").mount(&digest, Some("a")).must_be(201);
    let delete = server.repository("a").request("DELETE", &format!("blobs/{digest}"));
    server.send(&delete).must_be(202);

    for _ in 0..2 {
        assert_eq!(server.repository("a").blob_status(&digest), 404);
        assert!(server.repository("c").blob(&digest) == bytes);
        server.restart();
    }
}
