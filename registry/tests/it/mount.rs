// SPDX-License-Identifier: AGPL-3.0-only
//! Mounting a blob from another repository, named or not; what cannot be mounted becomes an upload.

use crate::client::{get, post};
use crate::role::{refused, sha256};
use crate::server::Server;

#[test]
fn a_blob_is_mounted_from_a_repository_or_from_anywhere() {
    let server = Server::start();
    let digest = server.repo("source").push_blob("hello");
    for (target, query) in
        [("named", format!("mount={digest}&from=source")), ("anon", format!("mount={digest}"))]
    {
        let repo = server.repo(target);
        let answer = post(repo.url(&format!("blobs/uploads/?{query}"))).to(&server).is(201);
        assert_eq!(answer.must("docker-content-digest"), digest);
        assert_eq!(get(answer.must("location")).to(&server).is(200).body, b"hello");
    }
    // A mounted blob is a source too, and one of its own.
    let query = format!("blobs/uploads/?from=named&mount={}", digest.replace(':', "%3A"));
    post(server.repo("chained").url(&query)).to(&server).is(201);
    crate::client::delete(server.repo("source").blob(&digest)).to(&server).is(202);
    assert!(server.repo("chained").has_blob(&digest) && !server.repo("source").has_blob(&digest));
}

#[test]
fn what_cannot_be_mounted_begins_an_upload() {
    let server = Server::start();
    let repo = server.repo("target");
    server.repo("source").push_blob("hello");
    let (there, absent) = (sha256("hello"), sha256("absent"));
    for query in [
        format!("mount={absent}&from=source"),
        format!("mount={absent}"),
        format!("mount={there}&from=nowhere"),
        format!("mount={there}&from=NO/../NAME"),
        format!("mount={there}&from=target"),
        "mount=blake3:".to_owned() + &"0".repeat(64),
    ] {
        let answer = post(repo.url(&format!("blobs/uploads/?{query}"))).to(&server).is(202);
        assert_eq!((answer.must("range"), answer.header("docker-upload-uuid").is_some()), ("0-0", true));
        let location = answer.must("location");
        repo.chunk(location, 0, b"fresh").is(202);
        repo.close(location, &sha256("fresh")).is(201);
        assert!(!repo.has_blob(&there) && !repo.has_blob(&absent), "{query}");
    }
}

#[test]
fn a_mount_of_no_digest_is_refused() {
    let server = Server::start();
    let repo = server.repo("target");
    for digest in ["sha256:bad", "", "latest"] {
        let answer = post(repo.url(&format!("blobs/uploads/?mount={digest}&from=source"))).to(&server);
        refused(&answer, 400, "DIGEST_INVALID");
    }
    refused(&get(repo.url("tags/list")).to(&server), 404, "NAME_UNKNOWN");
}
