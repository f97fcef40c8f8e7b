// SPDX-License-Identifier: AGPL-3.0-only
//! Who may only sign pushes what signatures are made of, and nothing else.

use serde_json::{Value, json};

use super::{Guarded, claims};
use crate::client::{get, patch, post, put};
use crate::role::{OCI_MANIFEST, refused, sha256};

const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn payload(digest: &str) -> String {
    json!({"critical": {"identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature"}, "optional": null})
    .to_string()
}

fn push_blob(guarded: &Guarded, who: &str, bytes: &str) -> Value {
    let digest = sha256(bytes);
    guarded.send(who, post(format!("/v2/dev/app/blobs/uploads/?digest={digest}")).body(bytes)).is(201);
    json!({"digest": digest, "size": bytes.len()})
}

/// A manifest of one layer, as somebody pushes it.
fn manifest(guarded: &Guarded, who: &str, media_type: &str, layer: &str) -> Vec<u8> {
    let (mut config, mut layer) = (push_blob(guarded, who, "{}"), push_blob(guarded, who, layer));
    config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    layer["mediaType"] = json!(media_type);
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]})
        .to_string()
        .into_bytes()
}

fn put_as(guarded: &Guarded, who: &str, tag: &str, manifest: &[u8]) -> crate::client::Answer {
    let target = format!("/v2/dev/app/manifests/{tag}");
    guarded.send(who, put(target).header("Content-Type", OCI_MANIFEST).body(manifest))
}

#[test]
fn who_may_only_sign_pushes_signatures_and_nothing_else() {
    let guarded = Guarded::start();
    let (digest, layer) = guarded.image("dev/app", "v1");
    let tag = format!("{}.sig", digest.replace(':', "-"));
    guarded.send("signer", get("/v2/dev/app/manifests/v1")).is(200);
    guarded.send("signer", get(format!("/v2/dev/app/blobs/{layer}"))).is(200);
    let signature = manifest(&guarded, "signer", SIMPLE, &payload(&digest));
    put_as(&guarded, "signer", &tag, &signature).is(201);
    put_as(&guarded, "signer", &tag, &signature).is(201);
    // What is no signature, whatever it is called.
    for (media_type, bytes) in [
        ("application/vnd.oci.image.layer.v1.tar", "layer".to_owned()),
        (SIMPLE, "layer".to_owned()),
        (SIMPLE, "{}".to_owned()),
        ("application/vnd.dsse.envelope.v1+json", payload(&digest)),
    ] {
        let other = manifest(&guarded, "signer", media_type, &bytes);
        let answer = put_as(&guarded, "signer", &tag, &other);
        let message = refused(&answer, 403, "DENIED")["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("signer may push to dev/app only signatures"), "{message}");
    }
    // A signature in the place of an image would take the image away.
    refused(&put_as(&guarded, "signer", "v1", &signature), 403, "DENIED");
    refused(&put_as(&guarded, "signer", "v1?tag=x", &signature), 403, "DENIED");
    // One that waits for an image is not taken either.
    refused(&put_as(&guarded, "signer", "v2", &signature), 403, "DENIED");
    // A config of a system makes an image of it.
    let config = push_blob(&guarded, "signer", r#"{"os":"linux","architecture":"amd64"}"#);
    let mut image: Value = serde_json::from_slice(&signature).unwrap();
    image["config"]["digest"] = config["digest"].clone();
    image["config"]["size"] = config["size"].clone();
    refused(&put_as(&guarded, "signer", &tag, image.to_string().as_bytes()), 403, "DENIED");
    guarded.send("alice", get("/v2/dev/app/manifests/v1")).is(200);
    guarded.send("signer", crate::client::delete("/v2/dev/app/manifests/v1")).is(403);
    guarded.send("signer", post("/v2/prod/app/blobs/uploads/")).is(403);
}

#[test]
fn the_uploads_of_who_may_only_sign_are_small() {
    let guarded = Guarded::start();
    let large = vec![b'x'; (8 << 20) + 1];
    let digest = sha256(&large);
    let target = format!("/v2/dev/app/blobs/uploads/?digest={digest}");
    refused(&guarded.send("signer", post(&target).body(&large)), 413, "DENIED");
    guarded.send("ci", post(&target).body(&large)).is(201);
    // Nor by a mount of what others have pushed: it is as if that were not there.
    for from in ["&from=dev/app", ""] {
        let mount = |repo: &str| post(format!("/v2/{repo}/blobs/uploads/?mount={digest}{from}"));
        guarded.send("signer", mount("dev/signatures")).is(202);
        guarded.send("ci", mount("dev/other")).is(201);
    }
    let small = push_blob(&guarded, "signer", "{}")["digest"].as_str().unwrap().to_owned();
    let target = format!("/v2/dev/signatures/blobs/uploads/?mount={small}&from=dev/app");
    guarded.send("signer", post(target)).is(201);
    // Nor in pieces.
    let upload =
        guarded.send("signer", post("/v2/dev/app/blobs/uploads/")).is(202).must("location").to_owned();
    guarded.send("signer", patch(&upload).body(&large[..8 << 20])).is(202);
    refused(&guarded.send("signer", patch(&upload).body("x")), 413, "DENIED");
}

/// The most memory that the server has had, in bytes.
fn peak(guarded: &Guarded) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guarded.server.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn many_large_and_deep_documents_at_once_are_read_within_bounds() {
    const AT_ONCE: usize = 12;
    const SIZE: usize = 4 << 20;
    let guarded = Guarded::start();
    let digest = sha256("x");
    let fill = SIZE - 400;
    let large = payload(&digest).replace("null", &format!("[{}0]", "0,".repeat(fill / 2)));
    let deep = payload(&digest).replace("null", &format!("{}{}", "[".repeat(fill / 2), "]".repeat(fill / 2)));
    let long = payload(&"x".repeat(fill));
    assert!([&large, &deep, &long].iter().all(|text| text.len() > fill && text.len() <= SIZE));
    let manifests = [(&large, 201), (&deep, 201), (&long, 403)]
        .map(|(text, status)| (manifest(&guarded, "ci", SIMPLE, text), status));
    let before = peak(&guarded);
    std::thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (guarded, (manifest, status)) = (&guarded, &manifests[number % manifests.len()]);
            let tag = format!("sha256-{}.sig", sha256(number.to_string()).trim_start_matches("sha256:"));
            scope.spawn(move || {
                let answer = put_as(guarded, "signer", &tag, manifest);
                assert!([*status, 503].contains(&answer.status), "{answer}");
            });
        }
    });
    let grown = peak(&guarded).saturating_sub(before);
    // Two are read at once, each with what is found in it, and the allocator keeps something for each thread; all at
    // once would take more than twelve.
    assert!(grown < 10 * SIZE as u64, "{grown}");
    guarded.send("signer", get("/v2/dev/app/tags/list")).is(200);
}

#[test]
fn a_token_of_who_may_only_sign_says_so() {
    let guarded = Guarded::start();
    let private = |who: &str| claims(&guarded.token(who, "repository:dev/app:pull,push"))["stella"].clone();
    let signer = private("signer");
    assert_eq!((&signer["sign"], &signer["preview"]), (&json!(["dev/app"]), &json!(["dev/app"])));
    let ci = private("ci");
    assert!(ci.get("sign").is_none() && ci.get("preview").is_none(), "{ci}");
}
