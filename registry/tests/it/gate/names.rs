// SPDX-License-Identifier: AGPL-3.0-only
//! Other names for what is judged: of its bytes, of its kind, of the registry.

use serde_json::{Value, json};

use super::Gated;
use crate::client::{delete, get, head, post, put};
use crate::role::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, image, sha256, sha512};

const FUTURE: &str = "application/vnd.example.manifest.v9+json";

fn push_as(gated: &Gated, repo: &str, digest: &str, bytes: &str) {
    let url = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
    gated.send("ci", post(url).body(bytes)).is(201);
}

#[test]
fn a_layer_that_is_denied_is_denied_by_every_name() {
    let gated = Gated::start("");
    let layer = "layer of many names";
    let config = gated.push_blob("ci", "prod/app", "{}");
    push_as(&gated, "prod/app", &sha512(layer), layer);
    let image = image((&config, 2), &[(&sha512(layer), layer.len())]).to_string();
    let put = |tag: &str, bytes: &str| gated.put("ci", "prod/app", tag, bytes);
    put("1", &image).is(201);
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", "1").is(200);
    // An index lists it, and another one names the layer as if it were a manifest.
    let index = |digest: &str, size: usize| {
        let listed = json!([{"mediaType": OCI_MANIFEST, "digest": digest, "size": size}]);
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).to_string()
    };
    let (above, beside) = (index(&sha256(&image), image.len()), index(&sha512(layer), layer.len()));
    for (tag, bytes) in [("above", &above), ("beside", &beside)] {
        put(tag, bytes).is(201);
        gated.sign("prod/app", tag, &[]);
        gated.pull("prod/app", tag).is(200);
    }
    gated.policy(&format!("denyDigests: [\"{}\"]", sha256(layer)));
    for reference in ["1", "above", "beside", &sha256(&image), &sha256(&above), &sha256(&beside)] {
        let message = gated.denied(&gated.pull("prod/app", reference));
        assert!(message.contains("denied-digest"), "{reference}: {message}");
    }
    gated.denied(&gated.send("reader", get(format!("/v2/prod/app/blobs/{}", sha512(layer)))));
    // What names it is not even stored, under whatever name it does.
    for bytes in [&image, &beside] {
        assert_eq!(
            put("2", &bytes.replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"x\":1")).status,
            403
        );
    }
}

#[test]
fn the_same_bytes_under_another_media_type_are_judged_the_same() {
    let gated = Gated::start("");
    let config = gated.push_blob("ci", "prod/app", "{\"os\":\"linux\"}");
    let layer = gated.push_blob("ci", "prod/app", "runs");
    let mut bytes = image((&config, 14), &[(&layer, 4)]);
    bytes.as_object_mut().unwrap().remove("mediaType");
    let bytes = bytes.to_string();
    let url = format!("/v2/prod/app/manifests/{}", sha256(&bytes));
    let push = |kind: &str| gated.send("ci", put(&url).header("Content-Type", kind).body(&bytes));
    // An image is no index, whatever it is called.
    for kind in [OCI_INDEX, DOCKER_LIST] {
        assert_eq!(push(kind).status, 400, "{kind}");
    }
    for kind in [OCI_MANIFEST, DOCKER_MANIFEST, FUTURE] {
        assert_eq!(push(kind).is(201).must("stella-verdict"), "waiting", "{kind}");
        gated.denied(&gated.send("reader", get(&url)));
        // While it is here it stays what it was pushed as first.
        for other in [OCI_MANIFEST, DOCKER_MANIFEST, FUTURE].into_iter().filter(|other| *other != kind) {
            assert_eq!(push(other).status, 400, "{kind}, then {other}");
        }
        let answer = gated.send("alice", get(&url).header("Accept", OCI_INDEX)).is(200);
        assert_eq!(answer.must("content-type"), kind);
        gated.send("ci", delete(&url)).is(202);
    }
    // What one client takes for an image and another for an index is neither.
    let mut both: Value = serde_json::from_str(&bytes).unwrap();
    both["manifests"] = json!([]);
    for kind in [OCI_MANIFEST, OCI_INDEX, FUTURE] {
        let request = put("/v2/prod/app/manifests/both").header("Content-Type", kind);
        assert_eq!(gated.send("ci", request.body(both.to_string())).status, 400, "{kind}");
    }
    // An index of a type that nobody knows is judged with all that it lists.
    push(FUTURE).is(201);
    let listed = json!([{"mediaType": FUTURE, "digest": sha256(&bytes), "size": bytes.len()}]);
    let index = json!({"schemaVersion": 2, "manifests": listed}).to_string();
    let request = put("/v2/prod/app/manifests/index").header("Content-Type", FUTURE).body(&index);
    gated.send("ci", request).is(201);
    gated.sign("prod/app", "index", &[]);
    gated.pull("prod/app", "index").is(200);
    gated.policy(&format!("denyDigests: [\"{layer}\"]"));
    gated.denied(&gated.pull("prod/app", "index"));
}

#[test]
fn what_a_client_calls_the_registry_changes_nothing() {
    // By another name of the registry no policy would be about it, and that would be no reason to deny it.
    let gated = Gated::start("noMatch: allow");
    let pushed = gated.push("prod/app", "1", "one");
    let manifest = format!("/v2/prod/app/manifests/{}", pushed.digest);
    let blob = format!("/v2/prod/app/blobs/{}", pushed.layer);
    for (name, value) in [
        ("X-Forwarded-Host", "elsewhere.test"),
        ("X-Forwarded-Server", "elsewhere.test"),
        ("X-Forwarded-Prefix", "/elsewhere"),
        ("X-Original-URL", "/v2/dev/elsewhere/manifests/1"),
        ("Forwarded", "host=elsewhere.test;proto=https"),
    ] {
        for url in [&manifest, &blob] {
            let message = gated.denied(&gated.send("reader", get(url).header(name, value)));
            assert!(message.contains("http://r.test/d/") && !message.contains("elsewhere"), "{message}");
            assert_eq!(gated.send("reader", head(url).header(name, value)).status, 403, "{name}");
        }
    }
    let login = crate::access::basic("reader", "redaer");
    for target in [&manifest, &blob, &format!("{manifest}?ns=elsewhere.test")] {
        let mut wire = gated.guarded.server.connect();
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: elsewhere.test\r\nAuthorization: {login}\r\n\r\n"));
        let message = gated.denied(&wire.answer_to("GET"));
        assert!(message.contains("http://r.test/d/") && !message.contains("elsewhere"), "{message}");
    }
    // Nor does a repository that is called so.
    for name in ["elsewhere.test/prod/app", "r.test/prod/app"] {
        gated.send("reader", get(format!("/v2/{name}/manifests/1"))).is(404);
    }
}
