// SPDX-License-Identifier: AGPL-3.0-only
//! Evidence that comes in another order, or for many tags: nothing that became allowed is forgotten. Whether a tag is
//! released is read from the list of tags, because a pull would release it.

use serde_json::{Value, json};

use super::Gated;
use super::signer::{Legacy, Referrer};
use crate::client::{get, put};
use crate::role::{OCI_INDEX, OCI_MANIFEST, sha256};
use crate::server::eventually;

impl Gated {
    /// The tags that readers see.
    pub(super) fn tags(&self, repo: &str) -> Vec<String> {
        let list = self.send("reader", get(format!("/v2/{repo}/tags/list"))).is(200).json();
        serde_json::from_value(list["tags"].clone()).unwrap()
    }
}

#[test]
fn a_signature_counts_from_the_moment_on_that_its_last_part_comes() {
    let gated = Gated::start("");
    let key = gated.key();
    gated.push("prod/app", "1", "one");
    gated.sign("prod/app", "1", &[]);
    let second = gated.push("prod/app", "1", "two");
    let signature = Referrer::new(&key, &second.digest);
    gated.push_blob("ci", "prod/app", "{}");
    gated.put("ci", "prod/app", &signature.digest(), &signature.manifest).is(201);
    let released = || gated.pull("prod/app", "1").is(200).must("docker-content-digest").to_owned();
    assert_ne!(released(), second.digest);
    gated.denied(&gated.pull("prod/app", &second.digest));
    // By each way in which a blob comes.
    gated.push_blob("signer", "prod/app", &signature.bundle);
    assert_eq!(released(), second.digest);
    let third = gated.push("prod/app", "1", "three");
    let signature = Referrer::new(&key, &third.digest);
    gated.put("ci", "prod/app", &signature.digest(), &signature.manifest).is(201);
    let begun = gated.send("ci", crate::client::post("/v2/prod/app/blobs/uploads/")).is(202);
    let url = format!("{}?digest={}", begun.must("location"), sha256(&signature.bundle));
    assert_ne!(released(), third.digest);
    gated.send("ci", put(url).body(&signature.bundle)).is(201);
    assert_eq!(released(), third.digest);
    let fourth = gated.push("prod/app", "1", "four");
    let signature = Referrer::new(&key, &fourth.digest);
    gated.put("ci", "prod/app", &signature.digest(), &signature.manifest).is(201);
    let digest = gated.push_blob("ci", "dev/app", &signature.bundle);
    assert_ne!(released(), fourth.digest);
    let mount = format!("/v2/prod/app/blobs/uploads/?mount={digest}&from=dev/app");
    gated.send("ci", crate::client::post(mount)).is(201);
    assert_eq!(released(), fourth.digest);
}

#[test]
fn evidence_under_a_tag_is_released_once_it_can_be_read() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let key = stella_policy::PrivateKey::generate().unwrap();
    let signature = Referrer::new(&key, &pushed.digest);
    gated.push_blob("ci", "prod/app", "{}");
    gated.put("ci", "prod/app", "signature", &signature.manifest).is(201);
    assert!(gated.tags("prod/app").is_empty());
    gated.push_blob("ci", "prod/app", &signature.bundle);
    assert_eq!(gated.tags("prod/app"), ["signature"]);
}

#[test]
fn the_tags_of_what_an_index_lists_are_released_with_it() {
    let gated = Gated::start("");
    let children: Vec<Value> = ["amd64", "arm64"]
        .map(|tag| gated.push("prod/app", tag, tag).digest)
        .map(|digest| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 7}))
        .into();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
    gated.put("ci", "prod/app", "all", index.to_string()).is(201);
    assert!(gated.tags("prod/app").is_empty());
    gated.sign("prod/app", "all", &[]);
    assert_eq!(gated.tags("prod/app"), ["all", "amd64", "arm64"]);
}

#[test]
fn all_tags_of_a_digest_are_released_however_many_they_are() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "t", "one");
    let bytes = gated.send("alice", get("/v2/prod/app/manifests/t")).is(200).body;
    let names: Vec<String> = (0..1_050).map(|number| format!("t{number:04}")).collect();
    for names in names.chunks(50) {
        let tags: Vec<String> = names.iter().map(|name| format!("tag={name}")).collect();
        let url = format!("/v2/prod/app/manifests/{}?{}", pushed.digest, tags.join("&"));
        gated.send("ci", put(url).header("Content-Type", OCI_MANIFEST).body(&bytes)).is(201);
    }
    assert!(gated.tags("prod/app").is_empty());
    gated.sign("prod/app", "t", &[]);
    assert_eq!(gated.tags("prod/app").len(), names.len() + 1);
}

#[test]
fn other_policies_release_the_last_of_many_tags_too() {
    let gated = Gated::start("count: 2");
    let pushed = gated.push("prod/app", "t", "waits");
    let bytes = gated.send("alice", get("/v2/prod/app/manifests/t")).is(200).body;
    let names: Vec<String> = (0..550).map(|number| format!("tag=t{number:04}")).collect();
    for tags in names.chunks(50) {
        let url = format!("/v2/prod/app/manifests/{}?{}", pushed.digest, tags.join("&"));
        gated.send("ci", put(url).header("Content-Type", OCI_MANIFEST).body(&bytes)).is(201);
    }
    gated.push("prod/app", "z", "signed once");
    gated.sign("prod/app", "z", &[]);
    assert!(gated.tags("prod/app").is_empty());
    gated.policy("count: 1");
    eventually("the last is released", || gated.tags("prod/app") == ["z"]);
}

#[test]
fn a_child_that_comes_after_its_index_was_signed_is_covered_or_takes_it_back() {
    let gated = Gated::start("");
    let key = gated.key();
    let child = gated.push("prod/other", "1", "child");
    let bytes = gated.send("alice", get("/v2/prod/other/manifests/1")).is(200).body;
    let listed = json!([{"mediaType": OCI_MANIFEST, "digest": child.digest, "size": bytes.len()}]);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).to_string();
    gated.put("ci", "prod/app", "all", &index).is(201);
    gated.put_legacy("prod/app", &Legacy::new(&key, "prod/app", &sha256(&index)));
    gated.pull("prod/app", "all").is(200);
    for blob in ["{\"salt\":\"child\"}", "layer child"] {
        gated.push_blob("ci", "prod/app", blob);
    }
    gated.put("ci", "prod/app", &child.digest, &bytes).is(201);
    gated.pull("prod/app", &child.digest).is(200);
    gated.pull("prod/app", "all").is(200);
    // A layer of it is on a list: as long as the child is here, so is what the list means.
    gated.send("ci", crate::client::delete(format!("/v2/prod/app/manifests/{}", child.digest))).is(202);
    gated.policy(&format!("push: off; denyDigests: [\"{}\"]", child.layer));
    gated.pull("prod/app", "all").is(200);
    gated.policy("pull: off; push: off");
    gated.put("ci", "prod/app", &child.digest, &bytes).is(201);
    gated.policy(&format!("push: off; denyDigests: [\"{}\"]", child.layer));
    gated.denied(&gated.pull("prod/app", "all"));
    gated.send("ci", crate::client::delete(format!("/v2/prod/app/manifests/{}", child.digest))).is(202);
    gated.pull("prod/app", "all").is(200);
}
