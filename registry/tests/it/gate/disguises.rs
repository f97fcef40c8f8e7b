// SPDX-License-Identifier: AGPL-3.0-only
//! Things that run, dressed as evidence or as attachments, and each single thing that gives them away.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::signer::{Legacy, Referrer};
use super::{Gated, Pushed};
use crate::client::{delete, get, post};
use crate::role::{OCI_INDEX, OCI_MANIFEST, sha256};

const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SPDX: &str = "application/spdx+json";
const DOCUMENT: &str = "{\"spdxVersion\": \"SPDX-2.3\"}";

/// A repository with something signed, to which documents are attached.
struct Attaching {
    gated: Gated,
    pushed: Pushed,
    empty: String,
}

impl Attaching {
    fn start() -> Self {
        let gated = Gated::start("");
        let pushed = gated.push("prod/app", "1", "one");
        gated.sign("prod/app", "1", &[]);
        let empty = gated.push_blob("ci", "prod/app", "{}");
        Attaching { gated, pushed, empty }
    }

    /// An SBOM, well attached, of these layers.
    fn of(&self, layers: &[Value]) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": SPDX, "layers": layers,
            "subject": {"mediaType": OCI_MANIFEST, "digest": self.pushed.digest, "size": 10},
            "config": {"mediaType": EMPTY, "digest": self.empty, "size": 2},
        })
    }

    fn layer(&self, bytes: impl AsRef<[u8]>) -> Value {
        let size = bytes.as_ref().len();
        json!({"mediaType": SPDX, "digest": self.gated.push_blob("ci", "prod/app", bytes), "size": size})
    }

    fn sbom(&self) -> Value {
        self.of(&[self.layer(DOCUMENT)])
    }

    /// Pushes it and has a reader get it.
    fn status(&self, manifest: &Value) -> u16 {
        let manifest = manifest.to_string();
        self.gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
        self.gated.pull("prod/app", &sha256(&manifest)).status
    }

    #[track_caller]
    fn is_image(&self, what: &str, manifest: &Value) {
        assert_eq!(self.status(manifest), 403, "{what}");
    }
}

/// JSON whose first 512 bytes are the head of a file in a tar archive.
fn tar(document: &str) -> Vec<u8> {
    let mut bytes = document.replacen('{', &format!("{{\"x\":\"{}\",", "y".repeat(1_000)), 1).into_bytes();
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}  ").as_bytes());
    bytes
}

#[test]
fn an_attachment_has_nothing_in_it_but_documents() {
    let at = Attaching::start();
    assert_eq!(at.status(&at.sbom()), 200, "an SBOM");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut sbom = at.sbom();
        change(&mut sbom);
        sbom
    };
    let config = at.gated.push_blob("ci", "prod/app", "{\"os\":\"linux\"}");
    let script = at.layer("#!/bin/sh\n");
    at.is_image("a script", &at.of(std::slice::from_ref(&script)));
    at.is_image("a script beside a document", &at.of(&[at.layer(DOCUMENT), script]));
    at.is_image("a list", &at.of(&[at.layer("[{\"spdxVersion\": \"SPDX-2.3\"}]")]));
    at.is_image("what is cut off", &at.of(&[at.layer("{\"spdxVersion\": ")]));
    at.is_image("with something after it", &at.of(&[at.layer(format!("{DOCUMENT}\u{7f}ELF"))]));
    at.is_image("an archive", &at.of(&[at.layer(tar(DOCUMENT))]));
    let kinds = ["application/vnd.oci.image.layer.v1.tar+gzip", "application/json", "text/plain"];
    for kind in kinds {
        at.is_image(kind, &with(&|sbom| sbom["layers"][0]["mediaType"] = kind.into()));
        at.is_image(kind, &with(&|sbom| sbom["artifactType"] = kind.into()));
        at.is_image(kind, &with(&|sbom| sbom["config"]["mediaType"] = kind.into()));
    }
    at.is_image(
        "a config that runs",
        &with(&|sbom| {
            sbom["config"] = json!({"mediaType": EMPTY, "digest": config, "size": 14});
        }),
    );
    at.is_image("no layer", &at.of(&[]));
    at.is_image("another size", &with(&|sbom| sbom["layers"][0]["size"] = 7.into()));
    for place in ["/layers/0", "/config"] {
        at.is_image(
            "elsewhere too",
            &with(&|sbom| {
                sbom.pointer_mut(place).unwrap()["urls"] = json!(["https://elsewhere.test/layer"]);
            }),
        );
        at.is_image(
            "other data",
            &with(&|sbom| {
                sbom.pointer_mut(place).unwrap()["data"] = BASE64_STANDARD.encode("#!/bin/sh").into();
            }),
        );
    }
    let layers: Vec<_> = (0..17).map(|number| at.layer(format!("{{\"number\": {number}}}"))).collect();
    assert_eq!(at.status(&at.of(&layers[..16])), 200, "sixteen layers");
    at.is_image("seventeen layers", &at.of(&layers));
    let mut orphan = at.sbom();
    orphan.as_object_mut().unwrap().remove("subject");
    at.is_image("of nothing", &orphan);
    let missing = json!({"mediaType": SPDX, "digest": sha256("late"), "size": 4});
    at.is_image("a layer that is not here", &at.of(&[missing]));
    let listed = json!({"mediaType": OCI_MANIFEST, "digest": sha256("x"), "size": 1});
    let mut index = at.sbom();
    index["mediaType"] = OCI_INDEX.into();
    for name in ["config", "layers"] {
        index.as_object_mut().unwrap().remove(name);
    }
    index["manifests"] = json!([listed]);
    at.is_image("an index", &index);
}

#[test]
fn an_attachment_weighs_no_more_than_documents_do() {
    let at = Attaching::start();
    let large = |size: usize| format!("{{\"x\":\"{}\"}}", "y".repeat(size - 8));
    let (half, rest) = (at.layer(large(16 << 20)), at.layer(large((16 << 20) + 1)));
    assert_eq!(at.status(&at.of(std::slice::from_ref(&half))), 200);
    at.is_image("more than 32 MiB", &at.of(&[half.clone(), rest]));
    // Who says less than there is gets nowhere.
    let mut small = half;
    small["size"] = 10.into();
    at.is_image("larger than it says", &at.of(&[small]));
    let config = large((64 << 10) + 1);
    let mut sbom = at.sbom();
    sbom["config"] = at.layer(&config);
    at.is_image("a large config", &sbom);
}

#[test]
fn an_attachment_is_for_who_may_have_its_subject_however_far_up() {
    let at = Attaching::start();
    let waits = at.gated.push("prod/app", "2", "two");
    let about = |digest: &str, text: &str| {
        let mut sbom = at.of(&[at.layer(format!("{{\"about\": \"{text}\"}}"))]);
        sbom["subject"]["digest"] = digest.into();
        sbom
    };
    for (subject, status) in [(&at.pushed.digest, 200), (&waits.digest, 403)] {
        let first = about(subject, "first");
        assert_eq!(at.status(&first), status);
        let second = about(&sha256(first.to_string()), "second");
        assert_eq!(at.status(&second), status, "an attachment of an attachment");
        let url = format!("/v2/prod/app/blobs/{}", second["layers"][0]["digest"].as_str().unwrap());
        // The same bytes are attached to both.
        at.gated.send("reader", get(url)).is(200);
    }
    at.is_image("of what is not here", &about(&sha256("nothing"), "nothing"));
    // It is listed for those who may read it.
    let listed = |digest: &str| {
        let url = format!("/v2/prod/app/referrers/{digest}?artifactType={}", SPDX.replace('+', "%2B"));
        at.gated.send("reader", get(url)).is(200).json()["manifests"].as_array().unwrap().len()
    };
    assert_eq!((listed(&at.pushed.digest), listed(&waits.digest)), (1, 0));
    // What evidence is about is nobody's subject.
    let url = format!("/v2/prod/app/referrers/{}", at.pushed.digest);
    let referrers = at.gated.send("reader", get(url)).is(200).json();
    let signature = referrers["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["artifactType"].as_str().unwrap().contains("bundle"));
    at.is_image("of a signature", &about(signature.unwrap()["digest"].as_str().unwrap(), "signature"));
}

#[test]
fn evidence_has_nothing_in_it_but_evidence() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let key = stella_policy::PrivateKey::generate().unwrap();
    let good = Legacy::new(&key, "prod/app", &pushed.digest);
    gated.put_legacy("prod/app", &good);
    // Anybody may read it, whoever made it.
    gated.pull("prod/app", &good.tag).is(200);
    let base: Value = serde_json::from_slice(&gated.pull("prod/app", &good.tag).body).unwrap();
    let blob = |bytes: &[u8]| gated.push_blob("ci", "prod/app", bytes);
    let status = |manifest: &Value| {
        let manifest = manifest.to_string();
        gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
        gated.pull("prod/app", &sha256(&manifest)).status
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest = base.clone();
        change(&mut manifest);
        manifest["annotations"] = json!({"x": "y"});
        manifest
    };
    assert_eq!(status(&with(&|_| {})), 200, "as it is");
    let layer =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": blob(bytes), "size": bytes.len()});
    let simple = "application/vnd.dev.cosign.simplesigning.v1+json";
    let payload = String::from_utf8(good.payload.clone()).unwrap();
    let archive = tar(&payload);
    // As much is in a list of the values, for who reads both.
    let values = json!([serde_json::from_str::<Value>(&payload).unwrap()["critical"]]).to_string();
    for (what, layers) in [
        ("a script", json!([layer(simple, b"#!/bin/sh\n")])),
        (
            "another kind",
            json!([base["layers"][0], layer("application/vnd.oci.image.layer.v1.tar", b"runs")]),
        ),
        ("a script beside a signature", json!([base["layers"][0], layer(simple, b"runs")])),
        ("a list", json!([layer(simple, format!("[{payload}]").as_bytes())])),
        ("a list of the values", json!([layer(simple, values.as_bytes())])),
        ("an archive", json!([layer(simple, &archive)])),
        ("none", json!([])),
    ] {
        assert_eq!(status(&with(&|manifest| manifest["layers"] = layers.clone())), 403, "{what}");
    }
    for place in ["/layers/0", "/config"] {
        for (name, value) in [("urls", json!(["https://elsewhere.test/layer"])), ("data", json!("e30="))] {
            let odd = with(&|manifest| manifest.pointer_mut(place).unwrap()[name] = value.clone());
            assert_eq!(status(&odd), 403, "{place} with {name}");
        }
    }
    for config in ["{\"os\":\"linux\"}", "{\"config\":{\"Cmd\":[\"sh\"]}}", "[]", "#!/bin/sh"] {
        let config = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": blob(config.as_bytes()), "size": config.len(),
        });
        assert_eq!(status(&with(&|manifest| manifest["config"] = config.clone())), 403, "{config}");
    }
    let twice = with(&|manifest| manifest["config"] = manifest["layers"][0].clone());
    assert_eq!(status(&twice), 403, "one content as config and as layer");
    let many: Vec<_> = (0..101)
        .map(|number| layer(simple, payload.replace('{', &format!("{{{}", " ".repeat(number))).as_bytes()))
        .collect();
    assert_eq!(status(&with(&|manifest| manifest["layers"] = json!(many[..99]))), 200);
    assert_eq!(status(&with(&|manifest| manifest["layers"] = json!(many))), 403, "too many");
    // What is missing is no evidence, until it comes.
    let late = payload.replace('{', "{\n");
    let missing = json!({"mediaType": simple, "digest": sha256(&late), "size": late.len()});
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": pushed.digest, "size": 1});
    let with_late = with(&|manifest| {
        manifest["layers"] = json!([missing]);
        manifest["subject"] = subject.clone();
    });
    assert_eq!(status(&with_late), 403);
    blob(late.as_bytes());
    assert_eq!(gated.pull("prod/app", &sha256(with_late.to_string())).status, 200);
    // What is denied is denied as evidence too.
    gated.policy(&format!("denyDigests: [\"{}\"]", sha256(&good.payload)));
    gated.denied(&gated.pull("prod/app", &good.tag));
}

#[test]
fn evidence_weighs_no_more_than_signatures_do() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let key = stella_policy::PrivateKey::generate().unwrap();
    let signature = Legacy::new(&key, "prod/app", &pushed.digest);
    gated.put_legacy("prod/app", &signature);
    let payload = String::from_utf8(signature.payload.clone()).unwrap();
    let layer = |size: usize| {
        let bytes = payload.replacen('{', &format!("{{{}", " ".repeat(size - payload.len())), 1);
        let digest = gated.push_blob("ci", "prod/app", &bytes);
        json!({"mediaType": signature.manifest["layers"][0]["mediaType"], "digest": digest, "size": size})
    };
    let status = |layers: &[Value]| {
        let mut manifest = signature.manifest.clone();
        manifest["layers"] = json!(layers);
        let manifest = manifest.to_string();
        gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
        gated.pull("prod/app", &sha256(&manifest)).status
    };
    let layers = [8 << 20, 7 << 20, (7 << 20) + 1, (8 << 20) + 1].map(layer);
    assert_eq!(status(&layers[..2]), 200);
    assert_eq!(status(&layers[..3]), 403, "more than 16 MiB");
    assert_eq!(status(&layers[3..]), 403, "more than 8 MiB");
    let with_config = |size: usize| {
        let bytes = format!("{{{}}}", " ".repeat(size - 2));
        let mut manifest = signature.manifest.clone();
        manifest["config"]["digest"] = gated.push_blob("ci", "prod/app", bytes).into();
        manifest["config"]["size"] = size.into();
        let manifest = manifest.to_string();
        gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
        gated.pull("prod/app", &sha256(&manifest)).status
    };
    assert_eq!((with_config(64 << 10), with_config((64 << 10) + 1)), (200, 403), "a config");
}

#[test]
fn an_index_is_evidence_only_if_all_that_it_lists_is() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let key = stella_policy::PrivateKey::generate().unwrap();
    let signature = Referrer::new(&key, &pushed.digest);
    gated.refer("prod/app", &signature);
    let child =
        |digest: &str, size: usize| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
    let good = child(&signature.digest(), signature.manifest.len());
    let index =
        |children: &[Value]| json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children});
    let status = |index: &Value| {
        let bytes = index.to_string();
        gated.put("ci", "prod/app", &sha256(&bytes), &bytes).is(201);
        gated.pull("prod/app", &sha256(&bytes)).status
    };
    let all = index(std::slice::from_ref(&good));
    assert_eq!(status(&all), 200);
    let image = gated.send("alice", get(format!("/v2/prod/app/manifests/{}", pushed.digest))).is(200).body;
    for (what, children) in [
        ("an image", vec![good.clone(), child(&pushed.digest, image.len())]),
        ("what is not here", vec![good.clone(), child(&sha256("nothing"), 7)]),
        ("an index of evidence", vec![good.clone(), child(&sha256(all.to_string()), all.to_string().len())]),
        ("nothing", Vec::new()),
        ("too much", vec![good.clone(); 101]),
    ] {
        assert_eq!(status(&index(&children)), 403, "{what}");
    }
    // What came later is looked at then.
    let later = Referrer::new(&key, &pushed.digest);
    let waits = index(&[child(&later.digest(), later.manifest.len())]);
    assert_eq!(status(&waits), 403);
    gated.refer("prod/app", &later);
    assert_eq!(gated.pull("prod/app", &sha256(waits.to_string())).status, 200);
    // A layer of its own makes it something else; a manifest is not both.
    let mut odd = all;
    odd["layers"] = json!([]);
    assert_eq!(gated.put("ci", "prod/app", "odd", odd.to_string()).status, 400);
}

#[test]
fn a_tag_for_evidence_releases_no_image() {
    let gated = Gated::start("");
    let first = gated.push("prod/app", "1", "one");
    let tag = format!("{}.sig", first.digest.replace(':', "-"));
    let evil = gated.push("prod/app", &tag, "evil");
    gated.denied(&gated.pull("prod/app", &tag));
    gated.denied(&gated.pull("prod/app", &evil.digest));
    assert!(gated.tags("prod/app").is_empty(), "it waits");
    gated.send("ci", delete(format!("/v2/prod/app/manifests/{tag}"))).is(202);
    // Evidence takes the place of evidence at once, and of an image not.
    gated.sign("prod/app", "1", &["--new-bundle-format=false"]);
    let signature = gated.pull("prod/app", &tag).is(200).body;
    gated.put("ci", "prod/app", "1", &signature).is(201);
    assert_eq!(gated.pull("prod/app", "1").is(200).must("docker-content-digest"), first.digest);
    // Nor is a tag rolled back that holds evidence.
    let digest = sha256(&signature);
    let back = format!("/api/stella/v1/tags/rollback?ref=prod/app:{tag}&digest={digest}");
    assert_eq!(gated.send("ci", post(back)).status, 400);
    // What is larger than a verifier reads takes no signature's place.
    let mut large: Value = serde_json::from_slice(&signature).unwrap();
    large["annotations"] = json!({"x": "y".repeat(1 << 20)});
    let answer = gated.put("signer", "prod/app", &tag, large.to_string());
    assert_eq!(answer.status, 400, "{answer}");
    // Nor does one that has a signature twice in the place of two.
    gated.sign("prod/app", &first.digest, &["--new-bundle-format=false", "-a", "more=1"]);
    let mut twice = gated.pull("prod/app", &tag).is(200).json();
    twice["layers"][1] = twice["layers"][0].clone();
    assert_eq!(gated.put("signer", "prod/app", &tag, twice.to_string()).status, 409);
}
