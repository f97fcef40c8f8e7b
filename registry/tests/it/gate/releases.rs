// SPDX-License-Identifier: AGPL-3.0-only
//! From a push to a release, and back.

use serde_json::{Value, json};

use super::{ACCESS, Gated, HOST};
use crate::client::{delete, get, put};
use crate::role::{OCI_INDEX, OCI_MANIFEST, sha256};
use crate::server::eventually;

#[test]
fn what_is_pushed_waits_until_it_is_signed_and_the_last_release_is_served_meanwhile() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    assert_eq!(first.answer.must("stella-verdict"), "waiting");
    let warning = first.answer.must("warning");
    assert!(warning.starts_with("299 - \"") && warning.contains("cosign sign"), "{warning}");
    // regctl shows such a text up to the first quote in it.
    let text = warning.trim_start_matches("299 - \"").trim_end_matches('"');
    assert!(text.contains("policy 'signed'") && !text.contains(['"', '\\']), "{warning}");
    // Nothing was released yet.
    let message = gated.denied(&gated.pull("prod/app", "1"));
    let page = "Why: http://r.test/d/prod/app@";
    for part in [first.digest.as_str(), "no-evidence", "Fix: cosign sign --key KEY", HOST, page] {
        assert!(message.contains(part), "{part}: {message}");
    }
    gated.denied(&gated.pull("prod/app", &first.digest));
    assert_eq!(gated.look("reader", "prod/app", "1").status, 403);
    // Who pushes may look, who signs may read.
    gated.look("ci", "prod/app", "1").is(200);
    gated.send("signer", get("/v2/prod/app/manifests/1")).is(200);
    gated.denied(&gated.send("nobody", get("/v2/prod/app/manifests/1")));
    gated.look("nobody", "prod/app", "1").is(200);

    gated.sign("prod/app", "1", &[]);
    let pulled = gated.pull("prod/app", "1").is(200);
    assert_eq!(pulled.must("docker-content-digest"), first.digest);
    assert_eq!(pulled.must("cache-control"), "private, no-cache");
    assert!(pulled.header("stella-tag-candidate").is_none());
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", first.layer))).is(200);
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", first.config))).is(200);

    // The next one waits, and the release stays.
    let second = gated.push("prod/app", "1", "two");
    assert_eq!(second.answer.must("stella-verdict"), "waiting");
    let pulled = gated.pull("prod/app", "1").is(200);
    assert_eq!(pulled.must("docker-content-digest"), first.digest);
    assert_eq!(pulled.must("stella-tag-candidate"), second.digest);
    assert_eq!(gated.look("reader", "prod/app", "1").must("docker-content-digest"), first.digest);
    assert_eq!(gated.look("ci", "prod/app", "1").must("docker-content-digest"), second.digest);
    gated.denied(&gated.pull("prod/app", &second.digest));
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", second.layer))));
    gated.sign("prod/app", &second.digest, &["--new-bundle-format=false"]);
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), second.digest);

    // What is signed already is released at once, wherever it is tagged.
    let bytes = gated.pull("prod/app", "1").body;
    let again = put("/v2/prod/app/manifests/2").header("Content-Type", OCI_MANIFEST).body(&bytes);
    assert_eq!(gated.send("ci", again).is(201).must("stella-verdict"), "allowed");
    gated.pull("prod/app", "2").is(200);
    // Elsewhere nothing is asked.
    let free = gated.push("dev/app", "1", "free");
    assert!(free.answer.header("stella-verdict").is_none());
    gated.pull("dev/app", "1").is(200);
}

#[test]
fn who_pushes_gets_its_manifest_back_with_the_token_that_pushed_it_and_nothing_else() {
    // helm and oras push a digest, get it, and put it under a tag.
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let manifest = format!("/v2/prod/app/manifests/{}", pushed.digest);
    gated.denied(&gated.send("nobody", get(&manifest)));
    let token = |scope: &str| gated.guarded.token("nobody", &format!("repository:prod/app:{scope}"));
    let with = |request: crate::client::Request, token: &str| {
        request.header("Authorization", format!("Bearer {token}")).to(&gated.guarded.server)
    };
    let holder = token("pull,push");
    // Who pushes the same again has not pushed it.
    gated.denied(&with(get(&manifest), &holder));
    let bytes = String::from_utf8(gated.send("alice", get(&manifest)).is(200).body).unwrap();
    let other = bytes.replace('{', "{ ");
    let manifest = format!("/v2/prod/app/manifests/{}", sha256(&other));
    with(put(&manifest).header("Content-Type", OCI_MANIFEST).body(&other), &holder).is(201);
    assert_eq!(with(get(&manifest), &holder).is(200).must("cache-control"), "private, no-cache");
    gated.denied(&with(get("/v2/prod/app/manifests/1"), &holder));
    for blob in [&pushed.layer, &pushed.config] {
        gated.denied(&with(get(format!("/v2/prod/app/blobs/{blob}")), &holder));
    }
    for scope in ["pull", "pull,push"] {
        gated.denied(&with(get(&manifest), &token(scope)));
    }
    gated.denied(&gated.pull("prod/app", &sha256(&other)));
    // Nor is it what a tag gives, once that is denied.
    with(put("/v2/prod/app/manifests/2").header("Content-Type", OCI_MANIFEST).body(&other), &holder).is(201);
    gated.sign("prod/app", "2", &["--new-bundle-format=false"]);
    with(get("/v2/prod/app/manifests/2"), &holder).is(200);
    let signature = format!("{}.sig", sha256(&other).replace(':', "-"));
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{signature}"))).is(202);
    gated.denied(&with(get("/v2/prod/app/manifests/2"), &holder));
    with(get(&manifest), &holder).is(200);
}

#[test]
fn who_may_push_no_more_gets_nothing_back_though_its_token_lives() {
    let folder = tempfile::TempDir::new().unwrap();
    let rules = folder.path().join("rules");
    std::fs::write(&rules, ACCESS).unwrap();
    let gated = Gated::with("", &[("STELLA_ACCESS_FILE", rules.to_str().unwrap())]);
    let pushed = gated.push("prod/app", "1", "one");
    let image = gated.send("alice", get(format!("/v2/prod/app/manifests/{}", pushed.digest))).is(200).body;
    let image = String::from_utf8(image).unwrap().replace('{', "{ ");
    let manifest = format!("/v2/prod/app/manifests/{}", sha256(&image));
    let token = gated.guarded.token("nobody", "repository:prod/app:pull,push");
    let with = |request: crate::client::Request| {
        request.header("Authorization", format!("Bearer {token}")).to(&gated.guarded.server)
    };
    with(put(&manifest).header("Content-Type", OCI_MANIFEST).body(&image)).is(201);
    with(get(&manifest)).is(200);
    let fewer = ACCESS.replace("{allow: [push, pull], to: {subject: nobody}}, ", "");
    assert_ne!(fewer, ACCESS);
    std::fs::write(&rules, fewer).unwrap();
    gated.guarded.server.reload();
    eventually("the rules are read", || with(get(&manifest)).status != 200);
    gated.denied(&with(get(&manifest)));
}

#[test]
fn a_release_ends_when_its_signature_goes_or_its_digest_is_denied_or_policies_change() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", "1").is(200);
    // The signature goes.
    let referrers = format!("/v2/prod/app/referrers/{}", pushed.digest);
    let referrers = gated.send("reader", get(referrers)).is(200).json();
    let signature = referrers["manifests"][0]["digest"].as_str().unwrap().to_owned();
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{signature}"))).is(202);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", pushed.layer))));
    gated.sign("prod/app", "1", &["--new-bundle-format=false"]);
    gated.pull("prod/app", "1").is(200);
    // Its digest, or that of a layer, is denied.
    for denied in [&pushed.digest, &pushed.layer, &pushed.config] {
        gated.policy(&format!("denyDigests: [\"{denied}\"]"));
        let message = gated.denied(&gated.pull("prod/app", "1"));
        assert!(message.contains("denied-digest"), "{message}");
        let bytes = gated.send("alice", get("/v2/prod/app/manifests/1")).is(200).body;
        let again = put("/v2/prod/app/manifests/2").header("Content-Type", OCI_MANIFEST).body(&bytes);
        assert_eq!(gated.send("ci", again).status, 403, "a denied digest is not even stored");
        gated.policy("");
        gated.pull("prod/app", "1").is(200);
    }
    // Two signers are demanded.
    gated.policy("count: 2");
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains("too-few-signers"), "{message}");
    // And nothing at all.
    gated.policy("pull: off");
    gated.pull("prod/app", "1").is(200);
    let unsigned = gated.push("prod/app", "1", "two");
    assert_eq!(gated.pull("prod/app", "1").must("docker-content-digest"), unsigned.digest);
    gated.policy("pull: warn");
    let warned = gated.pull("prod/app", "1").is(200);
    assert!(warned.must("warning").contains("no-evidence"), "{warned}");
}

#[test]
fn while_a_candidate_waits_a_tag_may_answer_nothing() {
    let gated = Gated::start("whileWaiting: deny");
    gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", "1").is(200);
    let second = gated.push("prod/app", "1", "two");
    let message = gated.denied(&gated.pull("prod/app", "1"));
    assert!(message.contains(&second.digest), "{message}");
    gated.sign("prod/app", "1", &[]);
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), second.digest);
}

#[test]
fn policies_that_do_not_load_change_nothing_and_are_told_of() {
    let gated = Gated::start("");
    gated.push("prod/app", "1", "one");
    let before = gated.status();
    assert_eq!(before["error"], Value::Null);
    std::fs::write(gated.path("policies/prod.yaml"), "kind: RegistryPolicy\nnonsense: 1\n").unwrap();
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("the error is told", || gated.status()["error"].is_string());
    let after = gated.status();
    assert!(after["error"].as_str().unwrap().contains("prod.yaml:1:"), "{after}");
    assert_eq!(after["policySet"], before["policySet"]);
    gated.denied(&gated.pull("prod/app", "1"));
    gated.guarded.send("alice", get("/readyz")).is(200);
    gated.policy("noMatch: allow");
    assert_eq!(gated.status()["error"], Value::Null);
}

#[test]
fn a_decision_is_explained_in_json_and_on_a_page_to_who_may_pull() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    for reference in [":1".to_owned(), format!("@{}", pushed.digest)] {
        let explain = format!("/api/stella/v1/policy/explain?ref=prod/app{reference}");
        let decision = gated.send("reader", get(&explain)).is(200).json();
        assert_eq!(decision["verdict"], "waiting", "{decision}");
        assert_eq!(decision["reason"], "no-evidence");
        assert_eq!(decision["digest"], pushed.digest);
        assert_eq!(decision["readable"], false);
        assert_eq!(decision["policies"][0]["name"], "signed");
        let page = gated.send("reader", get(format!("/d/prod/app{reference}"))).is(200);
        let html = String::from_utf8(page.body.clone()).unwrap();
        assert!(html.contains("waiting") && html.contains("cosign sign"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }
    gated.sign("prod/app", "1", &[]);
    let explain = "/api/stella/v1/policy/explain?ref=prod/app:1";
    let decision = gated.send("reader", get(explain)).is(200).json();
    assert_eq!((&decision["verdict"], &decision["released"]), (&"allowed".into(), &decision["candidate"]));
    assert_eq!(decision["policies"][0]["authorities"][0]["evidence"][0]["form"], "bundle", "{decision}");
    gated.send("reader", get("/api/stella/v1/policy/explain?ref=prod/app:missing")).is(404);
    gated.send("reader", get("/api/stella/v1/policy/explain")).is(400);
}

#[test]
fn an_index_covers_what_it_lists_and_nothing_covers_the_index() {
    let gated = Gated::start("");
    let one = gated.push("prod/app", "one", "one");
    let two = gated.push("prod/app", "two", "two");
    let child = |digest: &str| {
        let bytes = gated.send("alice", get(format!("/v2/prod/app/manifests/{digest}"))).is(200).body;
        json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()})
    };
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child(&one.digest), child(&two.digest)],
    })
    .to_string();
    let request = put("/v2/prod/app/manifests/all").header("Content-Type", OCI_INDEX).body(&index);
    assert_eq!(gated.send("ci", request).is(201).must("stella-verdict"), "waiting");
    // A signed child is readable, its sibling and the index are not.
    gated.sign("prod/app", &one.digest, &[]);
    gated.pull("prod/app", &one.digest).is(200);
    gated.denied(&gated.pull("prod/app", &two.digest));
    gated.denied(&gated.pull("prod/app", "all"));
    // A signed index covers both, and their layers.
    gated.sign("prod/app", "all", &[]);
    gated.pull("prod/app", "all").is(200);
    gated.pull("prod/app", &two.digest).is(200);
    gated.send("reader", get(format!("/v2/prod/app/blobs/{}", two.layer))).is(200);
    // But a denied child stays denied, and takes the index with it.
    gated.policy(&format!("denyDigests: [\"{}\"]", two.layer));
    gated.denied(&gated.pull("prod/app", &two.digest));
    gated.denied(&gated.pull("prod/app", "all"));
    gated.pull("prod/app", &one.digest).is(200);
    gated.policy("");
    gated.pull("prod/app", "all").is(200);
    gated.send("ci", delete("/v2/prod/app/manifests/all")).is(202);
    gated.pull("prod/app", &two.digest).is(200);
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{}", sha256(&index)))).is(202);
    gated.denied(&gated.pull("prod/app", &two.digest));
}

#[test]
fn laxer_policies_release_what_waited_without_a_signal() {
    let gated = Gated::start("noMatch: allow");
    let pushed = gated.push("prod/app", "1", "one");
    gated.denied(&gated.pull("prod/app", "1"));
    let signed = std::fs::read_to_string(gated.path("policies/signed.yaml")).unwrap();
    let elsewhere = signed.replace("r.test/**", "elsewhere.test/**");
    std::fs::write(gated.path("policies/signed.yaml"), elsewhere).unwrap();
    eventually("it is released", || gated.pull("prod/app", "1").status == 200);
    assert_eq!(gated.pull("prod/app", "1").must("docker-content-digest"), pushed.digest);
}
