// SPDX-License-Identifier: AGPL-3.0-only
//! What the rules allow and deny, by each kind of request.

use serde_json::json;

use super::Guarded;
use crate::client::{delete, get, head, patch, post, put};
use crate::role::{refused, sha256};
use crate::server::{Server, eventually};

#[test]
fn each_request_needs_its_action() {
    let guarded = Guarded::start();
    let (digest, layer) = guarded.image("dev/app", "v1");
    let (manifest, blob) = ("/v2/dev/app/manifests/v1", format!("/v2/dev/app/blobs/{layer}"));
    let uploads = "/v2/dev/app/blobs/uploads/";
    let referrers = format!("/v2/dev/app/referrers/{digest}");
    let upload = guarded.send("ci", post(uploads)).is(202).must("location").to_owned();
    let closing = format!("{upload}?digest={}", sha256("x"));
    let no = 403;
    // nobody, reader, ci
    for (request, statuses) in [
        (get(manifest), [no, 200, 200]),
        (head(manifest), [no, 200, 200]),
        (get(&blob), [no, 200, 200]),
        (head(&blob), [no, 200, 200]),
        (get("/v2/dev/app/tags/list"), [no, 200, 200]),
        (get(&referrers), [no, 200, 200]),
        (post(uploads), [no, no, 202]),
        (get(&upload), [no, no, 204]),
        (patch(&upload).body("x"), [no, no, 202]),
        (put(&closing), [no, no, 201]),
        (delete(&upload), [no, no, 404]),
        (put(manifest).body("{}"), [no, no, 400]),
        (delete(manifest), [no, no, no]),
        (delete(&blob), [no, no, no]),
    ] {
        for (who, status) in ["nobody", "reader", "ci"].into_iter().zip(statuses) {
            let answer = guarded.send(who, request.clone());
            assert_eq!(answer.status, status, "{who}: {answer}");
            if status == no && !answer.body.is_empty() {
                refused(&answer, no, "DENIED");
            }
        }
        // Who may log in is asked to.
        let answer = guarded.send("anonymous", request);
        assert_eq!(answer.status, 401, "{answer}");
        assert!(answer.must("www-authenticate").starts_with("Bearer realm=\"http://registry.test/token\""));
    }
    guarded.send("alice", delete(manifest)).is(202);
}

#[test]
fn a_refusal_says_who_what_where_and_why() {
    let guarded = Guarded::start();
    guarded.image("prod/app", "v1");
    let answer = guarded.send("alice", delete("/v2/prod/app/manifests/v1"));
    assert_eq!(
        refused(&answer, 403, "DENIED")["message"],
        "alice may not delete in prod/app: rule 1 of the registry's access rules denies it"
    );
    let answer = guarded.send("reader", get("/v2/prod/app/manifests/v1"));
    assert_eq!(
        refused(&answer, 403, "DENIED")["message"],
        "reader may not pull in prod/app: none of the registry's access rules allows it"
    );
    let answer = guarded.send("anonymous", get("/v2/prod/app/manifests/v1"));
    assert_eq!(refused(&answer, 401, "UNAUTHORIZED")["message"], "to pull in prod/app, log in first");
}

#[test]
fn everyone_reads_what_is_public_and_lists_show_what_may_be_read() {
    let guarded = Guarded::start();
    for repo in ["dev/app", "prod/app", "public/app", "public/base"] {
        guarded.image(repo, "v1");
    }
    guarded.send("anonymous", get("/v2/public/app/manifests/v1")).is(200);
    guarded.send("anonymous", put("/v2/public/app/manifests/v2").body("{}")).is(401);
    let catalog = |who: &str, query: &str| {
        guarded.send(who, get(format!("/v2/_catalog{query}"))).is(200).json()["repositories"].clone()
    };
    assert_eq!(catalog("alice", ""), json!(["dev/app", "prod/app", "public/app", "public/base"]));
    assert_eq!(catalog("reader", ""), json!(["dev/app", "public/app", "public/base"]));
    assert_eq!(catalog("anonymous", ""), json!(["public/app", "public/base"]));
    // A page is full although most is hidden, and nothing hidden stands in its link.
    let answer = guarded.send("anonymous", get("/v2/_catalog?n=1")).is(200);
    assert_eq!(answer.json()["repositories"], json!(["public/app"]));
    assert_eq!(answer.must("link"), "</v2/_catalog?last=public/app&n=1>; rel=\"next\"");
    assert_eq!(catalog("anonymous", "?n=5&last=dev/app"), json!(["public/app", "public/base"]));
}

#[test]
fn rules_are_taken_over_while_the_server_runs() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("stella.yaml");
    std::fs::write(&file, "access: [{allow: [pull], to: everyone}]\n").unwrap();
    let server = Server::configured(&folder.path().join("data"), &file, &[]);
    post("/v2/a/blobs/uploads/").to(&server).is(401);
    std::fs::write(&file, "access: [{allow: [pull, push], to: everyone}]\n").unwrap();
    server.hang_up();
    eventually("the rule holds", || post("/v2/a/blobs/uploads/").to(&server).status == 202);
    // What is wrong changes nothing.
    std::fs::write(&file, "access: [{allow: [pull], deny: [push], to: everyone}]\n").unwrap();
    server.hang_up();
    eventually("it is told", || server.log().contains("must have one of `allow` and `deny`"));
    post("/v2/a/blobs/uploads/").to(&server).is(202);
}

#[test]
fn an_operator_is_told_which_rule_decides() {
    let guarded = Guarded::start();
    for (args, code, text) in [
        (["--as", "alice", "--action", "push", "prod/app"].as_slice(), 0, "allowed by rule 2: "),
        (&["--as", "alice", "--action", "delete", "prod/app"], 3, "denied by rule 1: "),
        (&["--as", "anonymous", "--action", "pull", "public/x"], 0, "allowed by rule 6: "),
        (&["--as", "anonymous", "--action", "pull", "dev/x"], 3, "denied: none of the 6 rules is about it"),
        (&["--as", "signer", "--action", "preview", "dev/x"], 0, "allowed by rule 5: "),
    ] {
        let outcome = guarded.stella(&[&["access", "test"], args].concat());
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.stdout.starts_with(text), "{outcome:?}");
    }
}

#[test]
fn metrics_beside_the_registry_are_for_admins() {
    let guarded = Guarded::start();
    guarded.send("anonymous", get("/metrics")).is(401);
    guarded.send("reader", get("/metrics")).is(403);
    guarded.send("alice", get("/metrics")).is(200);
    for open in ["/livez", "/readyz", "/startupz"] {
        guarded.send("anonymous", get(open)).is(200);
    }
}
