// SPDX-License-Identifier: AGPL-3.0-only
//! Deleting: at once, no more than was asked, and never a blob from under a manifest.

use crate::client::{delete, get};
use crate::role::{OCI_MANIFEST, refused, sha256};
use crate::server::Server;

#[test]
fn a_deleted_tag_leaves_its_manifest() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    repo.push_image("v2", "x");
    let answer = repo.delete_manifest("v1").is(202);
    assert!(answer.body.is_empty());
    refused(&get(repo.manifest("v1")).to(&server), 404, "MANIFEST_UNKNOWN");
    assert_eq!(repo.tags(), ["v2"]);
    assert!(repo.has_manifest(&image.digest));
    refused(&repo.delete_manifest("v1"), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_deleted_manifest_takes_every_tag_with_it() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let (image, other) = (repo.draft_image("x"), repo.push_image("other", "other"));
    // More than go in one transaction.
    for many in 0..6 {
        let query = (0..50).map(|n| format!("tag=t{many}-{n}")).collect::<Vec<_>>().join("&");
        repo.put_manifest(&format!("{}?{query}", image.digest), OCI_MANIFEST, &image.bytes).is(201);
    }
    assert_eq!(repo.tags().len(), 301);
    repo.delete_manifest(&image.digest.replace(':', "%3A")).is(202);
    for reference in [image.digest.as_str(), "t0-0", "t5-49"] {
        refused(&get(repo.manifest(reference)).to(&server), 404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(repo.tags(), ["other"]);
    assert!(repo.has_blob(&image.layer) && repo.has_manifest(&other.digest));
    refused(&repo.delete_manifest(&image.digest), 404, "MANIFEST_UNKNOWN");
    // What was deleted can come again.
    repo.put_manifest("back", OCI_MANIFEST, &image.bytes).is(201);
}

#[test]
fn a_blob_that_a_manifest_names_stays() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let image = repo.push_image("v1", "x");
    for blob in [&image.config, &image.layer] {
        let answer = delete(repo.blob(blob)).to(&server);
        let error = refused(&answer, 405, "UNSUPPORTED");
        assert!(error["message"].as_str().unwrap().contains(&image.digest), "{error}");
        // RFC 9110, section 15.5.6.
        assert_eq!(answer.must("allow"), "GET, HEAD");
        assert!(repo.has_blob(blob));
    }
    repo.delete_manifest(&image.digest).is(202);
    for blob in [&image.config, &image.layer] {
        delete(repo.blob(blob)).to(&server).is(202);
        refused(&get(repo.blob(blob)).to(&server), 404, "BLOB_UNKNOWN");
        refused(&delete(repo.blob(blob)).to(&server), 404, "BLOB_UNKNOWN");
    }
}

#[test]
fn a_blob_deleted_in_one_repository_stays_in_another() {
    let server = Server::start();
    let (one, other) = (server.repo("one"), server.repo("other"));
    let digest = one.push_blob("shared");
    other.push_blob("shared");
    delete(one.blob(&digest)).to(&server).is(202);
    assert!(!one.has_blob(&digest));
    assert_eq!(get(other.blob(&digest)).to(&server).is(200).body, b"shared");
}

#[test]
fn what_is_not_there_cannot_be_deleted() {
    let server = Server::start();
    let repo = server.repo("team/app");
    refused(&repo.delete_manifest("v1"), 404, "NAME_UNKNOWN");
    refused(&delete(repo.blob(&sha256("x"))).to(&server), 404, "NAME_UNKNOWN");
    repo.push_image("v1", "x");
    refused(&repo.delete_manifest("v2"), 404, "MANIFEST_UNKNOWN");
    refused(&repo.delete_manifest("sha256:bad"), 400, "DIGEST_INVALID");
    refused(&delete(repo.blob("sha256:bad")).to(&server), 400, "DIGEST_INVALID");
    refused(&delete(repo.blob(&sha256("x"))).to(&server), 404, "BLOB_UNKNOWN");
    assert_eq!(repo.tags(), ["v1"]);
}
