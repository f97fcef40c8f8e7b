// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures that are real, and are brought again: for an older image, from another repository, among junk.

use std::fs;

use serde_json::json;

use super::Gated;
use super::signer::{Legacy, Log, Referrer};
use crate::client::{Wire, delete, get, put};
use crate::role::{OCI_MANIFEST, sha256};
use crate::server::eventually;

#[test]
fn an_older_image_that_was_signed_does_not_take_the_place_of_a_newer_one() {
    let (log, folder) = (Log::new(), tempfile::TempDir::new().unwrap());
    let root = folder.path().join("root.json");
    fs::write(&root, log.trusted_root()).unwrap();
    let roots = format!("{{ours: {}}}", root.display());
    let gated = Gated::with("noRollback: true", &[("STELLA_POLICY__TRUST_ROOTS", &roots)]);
    let key = gated.key();
    let sign = |digest: &str, at: i64| {
        let mut signature = Legacy::new(&key, "prod/app", digest);
        log.stamp(&mut signature, &key, at);
        gated.put_legacy("prod/app", &signature);
    };
    let bytes =
        |digest: &str| gated.send("alice", get(format!("/v2/prod/app/manifests/{digest}"))).is(200).body;
    let released = || gated.pull("prod/app", "1").is(200).must("docker-content-digest").to_owned();
    let first = gated.push("prod/app", "1", "one");
    // The word of a log that nobody trusts is no time.
    let mut forged = Legacy::new(&key, "prod/app", &first.digest);
    Log::new().stamp(&mut forged, &key, 1_900_000_000);
    gated.put_legacy("prod/app", &forged);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{}", forged.tag))).is(202);
    sign(&first.digest, 1_700_000_000);
    assert_eq!(released(), first.digest);
    let second = gated.push("prod/app", "1", "two");
    sign(&second.digest, 1_700_000_100);
    assert_eq!(released(), second.digest);
    // The old one is still signed, and its digest can be pulled; the tag does not go back to it.
    let again = || gated.put("ci", "prod/app", "1", bytes(&first.digest)).is(201);
    let is_held = |answer: crate::client::Answer| {
        assert_eq!(answer.must("stella-verdict"), "waiting", "{answer}");
        assert!(answer.must("warning").contains("rollback"), "{answer}");
    };
    is_held(again());
    assert_eq!(released(), second.digest);
    gated.pull("prod/app", &first.digest).is(200);
    // Nor a second time, when the tag's name is used anew.
    gated.send("ci", delete("/v2/prod/app/manifests/1")).is(202);
    is_held(again());
    gated.denied(&gated.pull("prod/app", "1"));
    // By another tag it was never replaced.
    gated.put("ci", "prod/app", "old", bytes(&first.digest)).is(201);
    gated.pull("prod/app", "old").is(200);
    // Something unrelated that is pushed over it and released by hand forgets nothing either.
    let third = gated.push("prod/app", "1", "three");
    let allow = ["policy", "allow", &third.digest, "--reason", "INC-1", "--expires", "1h"];
    gated.operate(&allow).is(0);
    eventually("it is released", || gated.pull("prod/app", "1").status == 200);
    assert_eq!(released(), third.digest);
    is_held(again());
    assert_eq!(released(), third.digest);
    // Signed again it is new.
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{}", forged.tag))).is(202);
    sign(&first.digest, 1_700_000_200);
    again();
    assert_eq!(released(), first.digest);
}

#[test]
fn a_signature_that_names_another_repository_counts_there_alone() {
    let gated = Gated::start("bindRepository: true");
    let key = gated.key();
    let (app, other) = (gated.push("prod/app", "1", "one"), gated.push("prod/other", "1", "one"));
    assert_eq!(app.digest, other.digest, "the same image");
    let signature = Legacy::new(&key, "prod/other", &app.digest);
    gated.put_legacy("prod/other", &signature);
    gated.pull("prod/other", "1").is(200);
    gated.put_legacy("prod/app", &signature);
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("repository-mismatch"), "{message}");
    gated.denied(&gated.pull("prod/app", &app.digest));
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", app.layer))));
    // A longer name is another one.
    gated.push("prod/other/more", "1", "one");
    gated.put_legacy("prod/other/more", &signature);
    gated.denied(&gated.pull("prod/other/more", "1"));
    // Without that rule what is signed is the digest, wherever it is.
    gated.policy("");
    gated.pull("prod/app", "1").is(200);
}

/// How many: a thousand, or `STELLA_JUNK=10000` for the long run.
fn amount() -> usize {
    std::env::var("STELLA_JUNK").map_or(1_000, |count| count.parse().unwrap())
}

#[test]
fn junk_by_the_thousand_before_a_signature_hides_it_from_nobody() {
    // What the pusher does is not what is measured here: while nothing is enforced nothing is judged.
    let gated = Gated::start("push: off; pull: off");
    let pushed = gated.push("prod/app", "1", "one");
    let other = stella_policy::PrivateKey::generate().unwrap();
    let layers: Vec<Vec<u8>> = (0..200)
        .map(|number| match number % 3 {
            0 => format!("junk {number}").into_bytes(),
            1 => Referrer::new(&other, &sha256(format!("{number}"))).bundle,
            // Real signatures of somebody else.
            _ => Referrer::new(&other, &pushed.digest).bundle,
        })
        .collect();
    gated.push_blob("ci", "prod/app", "{}");
    for layer in &layers {
        gated.push_blob("ci", "prod/app", layer);
    }
    let mut wire = Wire::open(gated.guarded.server.address());
    let kinds = [
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.cosign.artifact.sig.v1+json",
        "application/vnd.in-toto+json",
        // What is no evidence at all.
        "application/spdx+json",
        "application/vnd.aaa",
    ];
    for number in 0..amount() {
        let referrer = Referrer::with(layers[number % layers.len()].clone(), &pushed.digest);
        let mut manifest: serde_json::Value = serde_json::from_slice(&referrer.manifest).unwrap();
        manifest["artifactType"] = kinds[number % kinds.len()].into();
        manifest["annotations"] = json!({"number": number.to_string()});
        let manifest = manifest.to_string();
        let request = put(format!("/v2/prod/app/manifests/{}", sha256(&manifest)));
        let request = request.header("Content-Type", OCI_MANIFEST).body(manifest);
        gated.guarded.authorized("ci", request).on(&mut wire).is(201);
    }
    gated.policy("");
    gated.denied(&gated.pull("prod/app", "1"));
    // It is larger than all of them, so that it is read last.
    gated.sign("prod/app", &pushed.digest, &["-a", &format!("x={}", "y".repeat(500))]);
    gated.pull("prod/app", &pushed.digest).is(200);
    eventually("it is released", || gated.pull("prod/app", "1").status == 200);
    let explain = format!("/api/stella/v1/policy/explain?ref=prod/app@{}", pushed.digest);
    let decision = gated.send("reader", get(explain)).is(200).json();
    assert_eq!(decision["verdict"], "allowed", "{decision}");
}

#[test]
fn referrers_of_other_kinds_take_no_place_from_evidence() {
    let gated = Gated::with("push: off; pull: off", &[("STELLA_POLICY__MAX_EVIDENCE", "100")]);
    let pushed = gated.push("prod/app", "1", "one");
    let refer = |kind: &str, number: usize| {
        let referrer = Referrer::with(b"{}".to_vec(), &pushed.digest);
        let mut manifest: serde_json::Value = serde_json::from_slice(&referrer.manifest).unwrap();
        manifest["artifactType"] = kind.into();
        manifest["annotations"] = json!({"number": number.to_string()});
        let manifest = manifest.to_string();
        gated.put("ci", "prod/app", &sha256(&manifest), manifest).is(201);
    };
    gated.push_blob("ci", "prod/app", "{}");
    for number in 0..150 {
        refer("application/vnd.aaa", number);
    }
    gated.policy("");
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", "1").is(200);
    // Evidence does, in the order in which it is listed: what comes after so much of it is not looked at.
    gated.policy("push: off");
    for number in 0..150 {
        refer("application/vnd.dev.cosign.artifact.att.v1+json", number);
    }
    gated.denied(&gated.pull("prod/app", "1"));
}
