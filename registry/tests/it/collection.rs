// SPDX-License-Identifier: AGPL-3.0-only
//! The running server removes by itself what nothing names any more, and only that.

use std::path::Path;

use tempfile::TempDir;

use crate::client::{delete, get, put};
use crate::role::{OCI_MANIFEST, sha256};
use crate::server::{Server, eventually};

/// Periods short enough for a test. Asking by HEAD is a push's question and renews a lease; tests that
/// wait for something to go ask by GET.
const SHORT: [(&str, &str); 4] = [
    ("STELLA_COLLECTION__INTERVAL", "1s"),
    ("STELLA_COLLECTION__LEASE", "1s"),
    ("STELLA_COLLECTION__GRACE", "1s"),
    ("STELLA_COLLECTION__UPLOADS", "1s"),
];

fn files(data: &Path) -> usize {
    let parts = std::fs::read_dir(data.join("blobs")).unwrap();
    parts.map(|part| std::fs::read_dir(part.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn what_nothing_names_goes_and_what_is_named_stays() {
    let server = Server::with(&SHORT);
    let (app, other) = (server.repo("team/app"), server.repo("team/other"));
    let kept = app.push_image("v1", "kept");
    let gone = app.push_image("v2", "gone");
    other.push_image("v1", "gone");
    app.push_blob("never named");
    let upload = app.begin();
    app.chunk(&upload, 0, b"abandoned").is(202);
    delete(app.manifest(&gone.digest)).to(&server).is(202);
    let missing = |url: String| get(url).to(&server).status == 404;
    eventually("the blobs of the deleted image go", || missing(app.blob(&gone.layer)));
    eventually("the blob that was never named goes", || missing(app.blob(&sha256("never named"))));
    eventually("the abandoned upload goes", || missing(upload.clone()));
    // Two images of two blobs each.
    eventually("the files go", || files(server.data()) == 4);
    assert_eq!(get(other.blob(&gone.layer)).to(&server).is(200).body, b"layer gone");
    assert_eq!(get(app.manifest("v1")).to(&server).is(200).body, kept.bytes);
    assert_eq!(get(app.blob(&kept.layer)).to(&server).is(200).body, b"layer kept");
}

#[test]
fn evidence_goes_with_its_subject_and_untagged_images_by_the_rule_of_their_repository() {
    let folder = TempDir::new().unwrap();
    let rules = ("STELLA_REPOSITORIES", "[{match: 'dev/**', untagged: 1s, released: 1s}]");
    let env = [SHORT.as_slice(), &[rules]].concat();
    let server = Server::on(folder.path(), &env);
    let (dev, prod) = (server.repo("dev/app"), server.repo("prod/app"));
    for repo in [&dev, &prod] {
        let first = repo.push_image("latest", "first");
        repo.push_image("latest", "second");
        let sbom = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/spdx+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256("{}"), "size": 2},
            "layers": [], "subject": {"mediaType": OCI_MANIFEST, "digest": first.digest, "size": first.bytes.len()},
        });
        let sbom = sbom.to_string();
        repo.push_blob("{}");
        repo.put_manifest(&sha256(&sbom), OCI_MANIFEST, &sbom).is(201);
        if repo.url("").contains("dev") {
            let missing = |digest: &str| get(repo.manifest(digest)).to(&server).status == 404;
            eventually("the untagged image goes", || missing(&first.digest));
            eventually("its SBOM goes", || missing(&sha256(&sbom)));
        } else {
            // Whatever was due elsewhere has gone, and this is still there.
            get(repo.manifest(&first.digest)).to(&server).is(200);
            get(repo.manifest(&sha256(&sbom))).to(&server).is(200);
        }
        get(repo.manifest("latest")).to(&server).is(200);
    }
}

#[test]
fn a_push_that_was_told_that_a_blob_is_there_can_finish() {
    let server = Server::with(&[("STELLA_COLLECTION__INTERVAL", "1s"), ("STELLA_COLLECTION__GRACE", "1s")]);
    let app = server.repo("team/app");
    let image = app.push_image("v1", "x");
    delete(app.manifest(&image.digest)).to(&server).is(202);
    // Asked again and again, over several rounds: the lease of a day holds.
    let started = std::time::Instant::now();
    eventually("several rounds were", || {
        get(app.blob(&image.layer)).to(&server).is(200);
        started.elapsed() > std::time::Duration::from_secs(3)
    });
    put(app.manifest("v1")).header("Content-Type", OCI_MANIFEST).body(&image.bytes).to(&server).is(201);
}
