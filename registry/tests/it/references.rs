// SPDX-License-Identifier: AGPL-3.0-only
//! What a manifest may name before it is there, by default and with `push.allow_missing`.

use serde_json::json;

use crate::role::{OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Repo, descriptor, image, index, refused, sha256};
use crate::server::Server;

const ALLOW: (&str, &str) = ("STELLA_PUSH__ALLOW_MISSING", "true");

fn put(repo: Repo<'_>, tag: &str, manifest: &serde_json::Value) -> crate::client::Answer {
    let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
    repo.put_manifest(tag, &media_type, manifest.to_string())
}

#[test]
fn each_missing_blob_is_an_error_that_names_it() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let here = repo.push_blob("here");
    let elsewhere = server.repo("team/other").push_blob("elsewhere");
    let (config, layer) = (sha256("config"), sha256("layer"));
    let manifest = image((&config, 6), &[(&here, 4), (&layer, 5), (&elsewhere, 9), (&layer, 5)]);
    let answer = put(repo, "v1", &manifest);
    refused(&answer, 400, "MANIFEST_BLOB_UNKNOWN");
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    let details: Vec<_> = errors.iter().map(|error| error["detail"].as_str().unwrap()).collect();
    assert_eq!(details, [config.as_str(), &layer, &elsewhere]);
    assert!(repo.tags().is_empty() && !repo.has_manifest(&sha256(manifest.to_string())));
    // Once they are pushed, the same manifest is fine.
    for blob in ["config", "layer", "elsewhere"] {
        repo.push_blob(blob);
    }
    put(repo, "v1", &manifest).is(201);
}

#[test]
fn a_refused_manifest_does_not_make_a_repository() {
    let server = Server::start();
    let repo = server.repo("never/was");
    refused(&put(repo, "v1", &image((&sha256("c"), 1), &[])), 400, "MANIFEST_BLOB_UNKNOWN");
    refused(&crate::client::get(repo.url("tags/list")).to(&server), 404, "NAME_UNKNOWN");
    let catalog = crate::client::get("/v2/_catalog").to(&server).is(200).json();
    assert_eq!(catalog, json!({"repositories": []}));
}

#[test]
fn children_may_be_missing_or_be_blobs() {
    let server = Server::start();
    let repo = server.repo("team/app");
    put(repo, "sparse", &index(&[(&sha256("absent"), 7)])).is(201);
    // BuildKit's cache is an index of layers.
    let layer = repo.push_blob("layer");
    let mut cache = index(&[]);
    cache["manifests"] = json!([descriptor(OCI_LAYER, &layer, 5)]);
    put(repo, "cache", &cache).is(201);
    assert_eq!(repo.tags(), ["cache", "sparse"]);
}

#[test]
fn blobs_that_live_elsewhere_may_be_missing() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let config = repo.push_blob("{}");
    for (tag, media_type) in [
        ("a", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        ("b", "application/vnd.docker.image.rootfs.foreign.diff.tar"),
        ("c", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        ("d", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        ("e", "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"),
    ] {
        let mut manifest = image((&config, 2), &[]);
        manifest["layers"] = json!([descriptor(media_type, &sha256(tag), 1)]);
        put(repo, tag, &manifest).is(201);
    }
    let mut manifest = image((&config, 2), &[(&sha256("linked"), 1)]);
    manifest["layers"][0]["urls"] = json!(["https://example.org/layer"]);
    put(repo, "urls", &manifest).is(201);
    manifest["layers"][0]["urls"] = json!([]);
    refused(&put(repo, "no-urls", &manifest), 400, "MANIFEST_BLOB_UNKNOWN");
    // What we cannot compute we cannot miss.
    let manifest =
        image((&config, 2), &[(&format!("blake3:{}", "0".repeat(64)), 1), ("multihash+base58:Qm", 1)]);
    put(repo, "unknown-algorithms", &manifest).is(201);
    assert!(!repo.tags().contains(&"no-urls".to_owned()));
}

#[test]
fn a_subject_and_the_blobs_beside_it_may_come_later() {
    let server = Server::start();
    let repo = server.repo("team/app");
    let mut manifest = image((&sha256("late config"), 11), &[(&sha256("late layer"), 10)]);
    let subject = sha256("late subject");
    manifest["subject"] = descriptor(OCI_MANIFEST, &subject, 12);
    let answer = put(repo, "signature", &manifest).is(201);
    assert_eq!(answer.must("oci-subject"), subject);
    assert_eq!(repo.tags(), ["signature"]);
}

#[test]
fn everything_may_be_missing_where_that_is_allowed() {
    let server = Server::with(&[ALLOW]);
    let repo = server.repo("team/app");
    put(repo, "image", &image((&sha256("config"), 6), &[(&sha256("layer"), 5)])).is(201);
    put(repo, "index", &index(&[(&sha256("child"), 5)])).is(201);
    assert_eq!(repo.tags(), ["image", "index"]);
    // The rules of form hold all the same.
    refused(&repo.put_manifest("bad", OCI_INDEX, "{}"), 400, "MANIFEST_INVALID");
    refused(&repo.put_manifest(&sha256("x"), OCI_INDEX, index(&[]).to_string()), 400, "DIGEST_INVALID");
}
