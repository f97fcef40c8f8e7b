// SPDX-License-Identifier: AGPL-3.0-only
//! Ways around the gate, each of which is closed.

use serde_json::json;
use sha2::{Digest as _, Sha512};

use super::Gated;
use crate::client::{get, head, post, put};
use crate::role::{OCI_MANIFEST, image, sha256};

#[test]
fn conditions_ranges_and_heads_are_no_way_around() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let manifest = format!("/v2/prod/app/manifests/{}", pushed.digest);
    let etag = format!("\"{}\"", pushed.digest);
    gated.denied(&gated.send("reader", get(&manifest).header("If-None-Match", &etag)));
    gated.denied(&gated.send("reader", get("/v2/prod/app/manifests/1").header("If-None-Match", &etag)));
    assert_eq!(gated.send("reader", head(&manifest).header("If-None-Match", &etag)).status, 403);
    let layer = format!("/v2/prod/app/blobs/{}", pushed.layer);
    gated.denied(&gated.send("reader", get(&layer)));
    gated.denied(&gated.send("reader", get(&layer).header("Range", "bytes=0-1")));
    let etag = format!("\"{}\"", pushed.layer);
    gated.denied(&gated.send("reader", get(&layer).header("If-None-Match", &etag)));
    assert_eq!(gated.send("reader", head(&layer)).status, 403);
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", pushed.config))));
    // Nor what a client claims that we are called.
    for header in ["X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded"] {
        gated.denied(&gated.send("reader", get(&manifest).header(header, "elsewhere.test")));
    }
    gated.denied(&gated.send("reader", get(format!("{manifest}?ns=elsewhere.test"))));
    // Who says nothing of itself is asked, and told why as nobody.
    let asked = gated.send("anonymous", get(&manifest)).is(401);
    assert!(
        asked.must("www-authenticate").starts_with("Bearer ")
            && String::from_utf8_lossy(&asked.body).contains("no-evidence"),
        "{asked}"
    );
    let nobody = format!("Bearer {}", gated.guarded.token("anonymous", "repository:prod/app:pull"));
    gated.denied(&get(&manifest).header("Authorization", nobody).to(&gated.guarded.server));
}

#[test]
fn nothing_leaves_through_another_repository_or_as_another_kind_of_thing() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    // A mount out of it: `nobody` pushes and pulls everywhere, and previews nowhere.
    for from in ["&from=prod/app", ""] {
        let mount = format!("/v2/dev/other/blobs/uploads/?mount={}{from}", pushed.layer);
        assert_eq!(gated.send("nobody", post(mount)).status, 202, "mounted{from}");
    }
    // The manifest as a blob.
    let bytes = gated.send("alice", get("/v2/prod/app/manifests/1")).is(200).body;
    gated.push_blob("ci", "prod/app", &bytes);
    let blob = || gated.send("reader", get(format!("/v2/prod/app/blobs/{}", pushed.digest)));
    gated.denied(&blob());
    // Not either as the layer of something that is signed.
    let empty = gated.push_blob("ci", "prod/app", "{}");
    let wrapped = image((&empty, 2), &[(&pushed.digest, bytes.len())]).to_string();
    gated.put("ci", "prod/app", &sha256(&wrapped), &wrapped).is(201);
    gated.sign("prod/app", &sha256(&wrapped), &[]);
    gated.pull("prod/app", &sha256(&wrapped)).is(200);
    assert!(gated.denied(&blob()).contains(&pushed.digest));
    // Lists do not tell.
    let tags = gated.send("reader", get("/v2/prod/app/tags/list")).is(200).json();
    assert_eq!(tags["tags"], json!([]));
    let tags = gated.send("signer", get("/v2/prod/app/tags/list")).is(200).json();
    assert_eq!(tags["tags"], json!(["1"]));
    // A blob that nothing names.
    let lonely = gated.push_blob("ci", "prod/app", "lonely");
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{lonely}"))));
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", sha256("not there")))).is(404);
}

#[test]
fn what_is_dressed_as_evidence_or_as_an_attachment_is_judged_as_an_image() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let evil = gated.push("prod/app", "evil", "evil");
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": pushed.digest, "size": 10});
    let empty = gated.push_blob("ci", "prod/app", "{}");
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    for (artifact_type, layer_type) in [
        (bundle, bundle),
        ("application/spdx+json", "application/spdx+json"),
        ("application/spdx+json", "application/vnd.oci.image.layer.v1.tar"),
        ("application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json"),
    ] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": artifact_type, "subject": subject,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [{"mediaType": layer_type, "digest": evil.layer, "size": 10}],
        })
        .to_string();
        let url = format!("/v2/prod/app/manifests/{}", sha256(&manifest));
        let request = put(&url).header("Content-Type", OCI_MANIFEST).body(&manifest);
        assert_eq!(gated.send("ci", request).is(201).must("stella-verdict"), "waiting", "{layer_type}");
        gated.denied(&gated.send("reader", get(&url)));
        gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", evil.layer))));
        let listed = get(format!("/v2/prod/app/referrers/{}", pushed.digest));
        let listed = gated.send("reader", listed).is(200).json();
        assert_eq!(listed["manifests"].as_array().unwrap().len(), 1, "the signature alone: {listed}");
    }
    // An SBOM with the config of an image, and one with none.
    let document = "{\"spdxVersion\": \"SPDX-2.3\"}";
    let sbom = gated.push_blob("ci", "prod/app", document);
    let attach = |config_type: &str, config: &str, size: usize, data: Option<&str>| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/spdx+json", "subject": subject,
            "config": {"mediaType": config_type, "digest": config, "size": size},
            "layers": [{"mediaType": "application/spdx+json", "digest": sbom, "size": document.len()}],
        });
        if let Some(data) = data {
            manifest["config"]["data"] = data.into();
        }
        let manifest = manifest.to_string();
        let url = format!("/v2/prod/app/manifests/{}", sha256(&manifest));
        gated.send("ci", put(&url).header("Content-Type", OCI_MANIFEST).body(&manifest)).is(201);
        gated.send("reader", get(&url)).status
    };
    assert_eq!(attach("application/vnd.oci.image.config.v1+json", &evil.config, 15, None), 403);
    let none = "application/vnd.oci.empty.v1+json";
    assert_eq!(attach(none, &empty, 2, None), 200, "an SBOM of what may be pulled");
    // oras writes into the manifest what an empty config is made of; it must be just that.
    assert_eq!(attach(none, &empty, 2, Some("e30=")), 200, "an SBOM as oras attaches it");
    for other in ["e30", "eyJhIjoxfQ==", "", "e30=e30="] {
        assert_eq!(attach(none, &empty, 2, Some(other)), 403, "{other}");
    }
    gated.send("reader", get(format!("/v2/prod/app/blobs/{sbom}"))).is(200);
    // The attachment of what may not be pulled may not be either.
    gated.policy(&format!("denyDigests: [\"{}\"]", pushed.digest));
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{sbom}"))));
}

#[test]
fn other_names_of_denied_bytes_are_denied() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let bytes = gated.send("alice", get("/v2/prod/app/manifests/1")).is(200).body;
    gated.policy(&format!("denyDigests: [\"{}\"]", pushed.digest));
    let other = format!("sha512:{}", hex::encode(Sha512::digest(&bytes)));
    let url = format!("/v2/prod/app/manifests/{other}");
    let again = || put(&url).header("Content-Type", OCI_MANIFEST).body(&bytes);
    assert_eq!(gated.send("ci", again()).status, 403);
    // Also where it was stored before it was denied.
    gated.policy("");
    gated.send("ci", again()).is(201);
    gated.policy(&format!("denyDigests: [\"{}\"]", pushed.digest));
    let message = gated.denied(&gated.send("reader", get(&url)));
    assert!(message.contains("denied-digest"), "{message}");
}

#[test]
fn a_signature_by_another_key_or_in_another_repository_releases_nothing() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    std::fs::rename(gated.path("cosign.key"), gated.path("kept.key")).unwrap();
    std::fs::copy(gated.path("other.key"), gated.path("cosign.key")).unwrap();
    gated.sign("prod/app", "1", &[]);
    std::fs::rename(gated.path("kept.key"), gated.path("cosign.key")).unwrap();
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("bad-signature"), "{message}");
    // What is signed elsewhere is not signed here.
    gated.push("prod/elsewhere", "1", "one");
    gated.sign("prod/elsewhere", "1", &[]);
    gated.pull("prod/elsewhere", "1").is(200);
    gated.denied(&gated.pull("prod/app", &pushed.digest));
}

#[test]
fn signatures_are_only_added_to_and_a_token_to_pull_previews_for_a_signer() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &["--new-bundle-format=false"]);
    gated.sign("prod/app", "1", &["--new-bundle-format=false", "-a", "more=1"]);
    let tag = format!("{}.sig", pushed.digest.replace(':', "-"));
    let mut manifest = gated.pull("prod/app", &tag).is(200).json();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    manifest["layers"].as_array_mut().unwrap().pop();
    let dropped = put(format!("/v2/prod/app/manifests/{tag}")).header("Content-Type", OCI_MANIFEST);
    let answer = gated.send("signer", dropped.body(manifest.to_string()));
    assert_eq!(answer.status, 409, "{answer}");
    // A token that was asked for pulling alone shows a signer what is not released, and a reader not.
    let second = gated.push("prod/app", "2", "two");
    for (who, status) in [("signer", 200), ("reader", 403)] {
        let token = gated.guarded.token(who, "repository:prod/app:pull");
        let url = format!("/v2/prod/app/manifests/{}", second.digest);
        let request = get(&url).header("Authorization", format!("Bearer {token}"));
        assert_eq!(request.to(&gated.guarded.server).status, status, "{who}");
    }
}

#[test]
fn what_was_released_last_is_not_replaced_by_something_older() {
    // Without trusted times nothing can be released where time matters.
    let gated = Gated::start("noRollback: true");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("no-trusted-time"), "{message}");
    let explain = format!("/api/stella/v1/policy/explain?ref=prod/app@{}", pushed.digest);
    assert_eq!(gated.send("reader", get(explain)).is(200).json()["reason"], "no-trusted-time");
}
