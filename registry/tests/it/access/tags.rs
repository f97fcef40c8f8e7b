// SPDX-License-Identifier: AGPL-3.0-only
//! Immutable and protected tags.

use super::Guarded;
use crate::client::{delete, get, put};
use crate::role::{OCI_MANIFEST, refused};

const REPOSITORIES: (&str, &str) =
    ("STELLA_REPOSITORIES", "[{match: dev/**, immutable_tags: ['v*'], protected_tags: [latest]}]");

#[test]
fn an_immutable_tag_stays_where_it_is() {
    let guarded = Guarded::with(&[REPOSITORIES]);
    let (first, _) = guarded.image("dev/app", "v1");
    let (second, _) = guarded.image("dev/app", "main");
    assert_ne!(first, second);
    let bytes = guarded.send("ci", get("/v2/dev/app/manifests/main")).is(200).body;
    let move_to = |who: &str, target: &str| {
        guarded.send(
            who,
            put(format!("/v2/dev/app/manifests/{target}")).header("Content-Type", OCI_MANIFEST).body(&bytes),
        )
    };
    for who in ["ci", "alice"] {
        let message = refused(&move_to(who, "v1"), 403, "DENIED")["message"].clone();
        assert!(message.as_str().unwrap().contains("immutable_tags"), "{message}");
        refused(&move_to(who, "other?tag=v2&tag=v1"), 403, "DENIED");
    }
    guarded.send("alice", get("/v2/dev/app/manifests/v2")).is(404);
    for target in ["v1", first.as_str()] {
        refused(&guarded.send("alice", delete(format!("/v2/dev/app/manifests/{target}"))), 403, "DENIED");
    }
    let answer = guarded.send("ci", get("/v2/dev/app/manifests/v1")).is(200);
    assert_eq!(answer.must("docker-content-digest"), first);
    move_to("ci", "v2").is(201);
    // Elsewhere it is a tag like any other.
    guarded.image("prod/app", "v1");
}

#[test]
fn a_protected_tag_is_for_admins() {
    let guarded = Guarded::with(&[REPOSITORIES]);
    guarded.image("dev/app", "latest");
    let bytes = guarded.send("ci", get("/v2/dev/app/manifests/latest")).is(200).body;
    let set = |request: crate::client::Request| request.header("Content-Type", OCI_MANIFEST).body(&bytes);
    let answer = guarded.send("ci", set(put("/v2/dev/app/manifests/latest")));
    let message = refused(&answer, 403, "DENIED")["message"].clone();
    assert!(message.as_str().unwrap().contains("protected_tags"), "{message}");
    guarded.send("alice", set(put("/v2/dev/app/manifests/latest"))).is(201);
    let token = guarded.token("alice", "repository:dev/app:pull,push");
    super::bearer(set(put("/v2/dev/app/manifests/latest")), &token).to(&guarded.server).is(201);
    guarded.send("ci", set(put("/v2/dev/app/manifests/main"))).is(201);
}
