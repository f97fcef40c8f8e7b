// SPDX-License-Identifier: AGPL-3.0-only
//! Who may do what at the gate: mount, look, explain, roll back. Each refusal is of one right that is missing.

use super::Gated;
use super::signer::Referrer;
use crate::client::{delete, get, head, post};
use crate::role::OCI_MANIFEST;
use crate::server::eventually;

/// As for all others, but that `nobody` pushes to `dev` alone, and reads there and in `prod/app`; reader also deletes.
const NARROW: &str = "[{allow: [pull, push, sign, delete], to: {subject: ci}}, {allow: [sign], to: {subject: signer}}, \
                      {allow: [push, pull], to: {subject: nobody}, repositories: [dev/**]}, {allow: all, to: {subject: alice}}, \
                      {allow: [pull], to: {subject: nobody}, repositories: [prod/app]}, \
                      {allow: [pull, delete], to: {subject: reader}}, \
                      {allow: [pull, preview], to: everyone, repositories: [dev/**]}]";

#[test]
fn what_is_mounted_out_of_an_enforced_repository_may_be_pulled_there() {
    let gated = Gated::with("", &[("STELLA_ACCESS", NARROW)]);
    let mount = |who: &str, digest: &str, from: &str| {
        gated.send(who, post(format!("/v2/dev/target/blobs/uploads/?mount={digest}{from}"))).status
    };
    let waits = gated.push("prod/app", "1", "waits");
    assert_eq!(mount("nobody", &waits.layer, "&from=prod/app"), 202);
    assert_eq!(mount("nobody", &waits.layer, ""), 202);
    // Who previews sees it, and so does who signs.
    assert_eq!(mount("alice", &waits.layer, "&from=prod/app"), 201);
    let signed = gated.push("prod/app", "2", "signed");
    gated.sign("prod/app", "2", &[]);
    // Only who says from where gets it.
    assert_eq!(mount("nobody", &signed.config, ""), 202);
    assert_eq!(mount("nobody", &signed.layer, "&from=prod/app"), 201);
    // Nothing comes from where one may not pull, signed or not.
    let other = gated.push("prod/other", "1", "other");
    gated.sign("prod/other", "1", &[]);
    assert_eq!(mount("nobody", &other.layer, "&from=prod/other"), 202);
    assert_eq!(mount("nobody", &other.layer, ""), 202);
    // Not even a judgement, which takes time.
    let judged = || {
        let page = gated.send("alice", get("/metrics")).is(200).body;
        let page = String::from_utf8(page).unwrap();
        let line = page.lines().find(|line| line.starts_with("stella_policy_judgement_seconds_count"));
        line.unwrap().to_owned()
    };
    let lonely = gated.push("prod/other", "2", "lonely");
    let junk = Referrer::with(b"{}".to_vec(), &lonely.digest);
    gated.refer("prod/other", &junk);
    // What was known of it no longer holds once that is gone.
    gated.send("ci", delete(format!("/v2/prod/other/manifests/{}", junk.digest()))).is(202);
    let before = judged();
    assert_eq!(mount("nobody", &lonely.layer, "&from=prod/other"), 202);
    assert_eq!(judged(), before);
}

#[test]
fn who_may_not_pull_is_told_nothing_and_who_may_not_push_rolls_nothing_back() {
    let gated = Gated::with("", &[("STELLA_ACCESS", NARROW)]);
    let pushed = gated.push("prod/secret", "1", "one");
    gated.sign("prod/secret", "1", &[]);
    for reference in [":1".to_owned(), format!("@{}", pushed.digest)] {
        let explain = format!("/api/stella/v1/policy/explain?ref=prod/secret{reference}");
        for url in [explain, format!("/d/prod/secret{reference}")] {
            let answer = gated.send("nobody", get(&url));
            assert_eq!(answer.status, 403, "{answer}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("allowed"), "{answer}");
            gated.send("reader", get(&url)).is(200);
        }
    }
    let back = format!("/api/stella/v1/tags/rollback?ref=prod/secret:1&digest={}", pushed.digest);
    for who in ["nobody", "reader", "signer"] {
        assert_eq!(gated.send(who, post(&back)).status, 403, "{who}");
    }
    gated.send("ci", post(&back)).is(200);
}

#[test]
fn policies_that_would_show_nobody_what_is_hidden_do_not_come_into_force() {
    let gated = Gated::with("", &[("STELLA_ACCESS", NARROW)]);
    gated.push("dev/app", "1", "one");
    let prod = std::fs::read_to_string(gated.path("policies/prod.yaml")).unwrap();
    // Everybody previews in dev.
    let both = prod.replace("[\"prod/**\"]", "[\"prod/**\", \"dev/**\"]");
    std::fs::write(gated.path("prod.yaml"), both).unwrap();
    std::fs::rename(gated.path("prod.yaml"), gated.path("policies/prod.yaml")).unwrap();
    gated.guarded.server.signal(rustix::process::Signal::HUP);
    eventually("it is refused", || gated.status()["error"].is_string());
    let status = gated.status();
    assert!(status["error"].as_str().unwrap().contains("`preview`"), "{status}");
    assert_eq!(status["epoch"], 1);
    gated.pull("dev/app", "1").is(200);
}

#[test]
fn nobody_in_particular_never_sees_what_is_hidden_whatever_rules_say() {
    // Of alternatives the check tries the first; at run time each is as the policy says. Everybody pushes in dev.
    let rules = "[{allow: all, to: {subject: alice}}, {allow: [pull, push, sign], to: {subject: ci}}, {allow: [sign], to: \
                 {subject: signer}}, {allow: [pull, preview], to: everyone, repositories: [\"{dev,prod}/app\"]}, \
                 {allow: [pull, push], to: everyone, repositories: [dev/**]}]";
    let gated = Gated::with("", &[("STELLA_ACCESS", rules)]);
    let pushed = gated.push("prod/app", "1", "one");
    let token = gated.guarded.token("anonymous", "repository:prod/app:pull");
    for (url, status) in [
        (format!("/v2/prod/app/manifests/{}", pushed.digest), 403),
        ("/v2/prod/app/manifests/1".to_owned(), 403),
        (format!("/v2/prod/app/blobs/{}", pushed.layer), 403),
    ] {
        for request in [get(&url), head(&url)] {
            let bearer = request.header("Authorization", format!("Bearer {token}"));
            assert_eq!(bearer.to(&gated.guarded.server).status, status, "{url}");
        }
    }
    let list = get("/v2/prod/app/tags/list").header("Authorization", format!("Bearer {token}"));
    assert_eq!(list.to(&gated.guarded.server).is(200).json()["tags"], serde_json::json!([]));
    for from in ["", "&from=prod/app"] {
        let scope = "repository:dev/target:pull,push&scope=repository:prod/app:pull";
        let token = gated.guarded.token("anonymous", scope);
        let mount = post(format!("/v2/dev/target/blobs/uploads/?mount={}{from}", pushed.layer));
        let mount = mount.header("Authorization", format!("Bearer {token}"));
        assert_eq!(mount.to(&gated.guarded.server).status, 202, "mounted{from}");
    }
    // Who is somebody does.
    gated.pull("prod/app", "1").is(200);
}

#[test]
fn a_token_shows_and_takes_no_more_than_it_was_given_for() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let manifest = format!("/v2/prod/app/manifests/{}", pushed.digest);
    let with = |token: &str, request: crate::client::Request| {
        request.header("Authorization", format!("Bearer {token}")).to(&gated.guarded.server)
    };
    // Of who signs, for pulling: it shows what is not released, and signs nothing.
    let pulls = gated.guarded.token("signer", "repository:prod/app:pull");
    with(&pulls, get(&manifest)).is(200);
    with(&pulls, get(format!("/v2/prod/app/blobs/{}", pushed.layer))).is(200);
    let bytes = gated.send("alice", get(&manifest)).is(200).body;
    let again =
        crate::client::put("/v2/prod/app/manifests/2").header("Content-Type", OCI_MANIFEST).body(&bytes);
    assert_eq!(with(&pulls, again).status, 401);
    assert_eq!(with(&pulls, post("/v2/prod/app/blobs/uploads/")).status, 401);
    // Of another repository: it shows nothing here.
    let other = gated.guarded.token("signer", "repository:dev/app:pull");
    assert_eq!(with(&other, get(&manifest)).status, 401);
    // Of who may only push and pull.
    let narrow = gated.guarded.token("nobody", "repository:prod/app:pull,push");
    gated.denied(&with(&narrow, get(&manifest)));
}
