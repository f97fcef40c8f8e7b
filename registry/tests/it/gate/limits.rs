// SPDX-License-Identifier: AGPL-3.0-only
//! What is too much to be looked at is not allowed, signed or not; just below the limits it is.

use serde_json::{Value, json};

use super::Gated;
use super::signer::Legacy;
use crate::role::{OCI_INDEX, OCI_MANIFEST, sha256};

/// A layer that clients fetch elsewhere, so that it need not be here.
const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

struct Pusher {
    gated: Gated,
    key: stella_policy::PrivateKey,
}

impl Pusher {
    fn start() -> Self {
        let gated = Gated::start("");
        Pusher { key: gated.key(), gated }
    }

    fn put(&self, manifest: &Value) -> Value {
        let text = manifest.to_string();
        let digest = sha256(&text);
        self.gated.put("ci", "prod/app", &digest, &text).is(201);
        json!({"mediaType": manifest["mediaType"], "digest": digest, "size": text.len()})
    }

    /// Pushes an index, signs it and has a reader get it.
    fn signed_index(&self, children: &[Value]) -> (Value, crate::client::Answer) {
        let index = self.put(&index(children));
        let digest = index["digest"].as_str().unwrap().to_owned();
        self.gated.put_legacy("prod/app", &Legacy::new(&self.key, "prod/app", &digest));
        (index, self.gated.pull("prod/app", &digest))
    }

    #[track_caller]
    fn is_over(&self, answer: &crate::client::Answer) {
        let message = self.gated.denied(answer);
        assert!(message.contains("over-limit") && message.contains("within the limits"), "{message}");
    }
}

fn index(children: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children})
}

fn nowhere(number: usize) -> Value {
    json!({"mediaType": OCI_MANIFEST, "digest": sha256(number.to_string()), "size": 1})
}

#[test]
fn an_index_lists_no_more_than_is_looked_at() {
    let pusher = Pusher::start();
    let children: Vec<Value> = (0..1_000).map(nowhere).collect();
    pusher.signed_index(&children[..999]).1.is(200);
    pusher.is_over(&pusher.signed_index(&children).1);
}

#[test]
fn indexes_are_no_deeper_than_is_looked_at() {
    let pusher = Pusher::start();
    let config = pusher.gated.push_blob("ci", "prod/app", "{}");
    let mut below = pusher.put(&crate::role::image((&config, 2), &[]));
    let image = below["digest"].as_str().unwrap().to_owned();
    pusher.gated.denied(&pusher.gated.pull("prod/app", &image));
    for level in 1..=4 {
        let (index, answer) = pusher.signed_index(&[below]);
        if level <= 3 {
            answer.is(200);
            // Each level covers what is below it.
            pusher.gated.pull("prod/app", &image).is(200);
        } else {
            pusher.is_over(&answer);
        }
        below = index;
    }
}

#[test]
fn what_an_index_covers_ends_three_levels_down() {
    let pusher = Pusher::start();
    let config = pusher.gated.push_blob("ci", "prod/app", "{}");
    let image = pusher.put(&crate::role::image((&config, 2), &[]));
    let (mut level, mut levels) = (image.clone(), Vec::new());
    for _ in 0..3 {
        level = pusher.put(&index(&[level]));
        levels.push(level["digest"].as_str().unwrap().to_owned());
    }
    let image = image["digest"].as_str().unwrap();
    for digest in levels.iter().map(String::as_str).chain([image]) {
        pusher.gated.denied(&pusher.gated.pull("prod/app", digest));
    }
    pusher.gated.put_legacy("prod/app", &Legacy::new(&pusher.key, "prod/app", &levels[2]));
    for digest in levels.iter().map(String::as_str).chain([image]) {
        pusher.gated.pull("prod/app", digest).is(200);
    }
}

#[test]
fn all_that_is_in_an_index_is_no_more_than_is_looked_at() {
    let pusher = Pusher::start();
    let config = pusher.gated.push_blob("ci", "prod/app", "{}");
    let child = |number: usize| {
        let layer = |at: usize| {
            json!({"mediaType": FOREIGN, "digest": sha256(format!("{number} {at}")), "size": 1,
                "urls": ["https://elsewhere.test/"]})
        };
        let layers: Vec<Value> = (0..4_090).map(layer).collect();
        let config =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2});
        pusher
            .put(&json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}))
    };
    // Each has 4 091 parts, and is one itself.
    let children: Vec<Value> = (0..25).map(child).collect();
    pusher.signed_index(&children[..24]).1.is(200);
    pusher.is_over(&pusher.signed_index(&children).1);
}
