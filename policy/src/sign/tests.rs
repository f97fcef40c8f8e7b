// SPDX-License-Identifier: AGPL-3.0-only
//! Golden bytes: what cosign v2.6.5 and v3.1.3 wrote for one image of a registry at 127.0.0.1:5123, key and all
//! (`private_key/fixtures/README.md`). Only what is random, the signature, is taken from there.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::legacy::Layer;
use super::referrer::rfc3339;
use super::*;
use crate::{Descriptor, Digest, PrivateKey, Time};

const PLACE: &str = "127.0.0.1:5123/app";
const IMAGE: &str = "sha256:5e52742c8ec6d5137108d18815552740864243812d1c6feeed7e9b2ba971c744";
const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"127.0.0.1:5123/app"},"image":{"docker-manifest-digest":"sha256:5e52742c8ec6d5137108d18815552740864243812d1c6feeed7e9b2ba971c744"},"type":"cosign container image signature"},"optional":{"a":"x\u003cy","b":"1"}}"#;
const SIGNATURE: &str =
    "MEUCID16WXorVbsPpZKGIREaPje1egmAGcPFEi3iTFBzqxpeAiEAxdjJ0WN8dNXXgm4glFxd8PG3GS5i5N6XxjvZtn0ulMc=";
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":233,"digest":"sha256:23890e8a7e735b8247441190d8ef469c93c9fadc97b493d2470260f1579ff477"},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","size":254,"digest":"sha256:cadf4618918a32d232c5ec485a4194c237794f47a5c7fd1b8926f2705430f0a4","annotations":{"dev.cosignproject.cosign/signature":"MEUCID16WXorVbsPpZKGIREaPje1egmAGcPFEi3iTFBzqxpeAiEAxdjJ0WN8dNXXgm4glFxd8PG3GS5i5N6XxjvZtn0ulMc="}}]}"#;
const ENVELOPE: &str = r#"{"payloadType":"application/vnd.in-toto+json","payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjAuMSIsInByZWRpY2F0ZVR5cGUiOiJodHRwczovL2N5Y2xvbmVkeC5vcmcvYm9tIiwic3ViamVjdCI6W3sibmFtZSI6IjEyNy4wLjAuMTo1MTIzL2FwcCIsImRpZ2VzdCI6eyJzaGEyNTYiOiI1ZTUyNzQyYzhlYzZkNTEzNzEwOGQxODgxNTU1Mjc0MDg2NDI0MzgxMmQxYzZmZWVlZDdlOWIyYmE5NzFjNzQ0In19XSwicHJlZGljYXRlIjp7ImEiOjF9fQ==","signatures":[{"keyid":"","sig":"MEUCIFfv2t6lAP+Sm6Xt+10kw6v25G3iC4UD2GxetPgRAsQrAiEAzshvDVQMQPZiFYYIbfhKBHaelP/HkedgmGzD713VwGw="}]}"#;
const ATTESTED: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":233,"digest":"sha256:3e88dfd48b3c0be8618ae1af462e81cfbbf37b6db59f24eadc679666867f2054"},"layers":[{"mediaType":"application/vnd.dsse.envelope.v1+json","size":512,"digest":"sha256:f8c7f54facff0283fc375b735347dbe534a5ca0bc65099628044b049535b5fff","annotations":{"dev.cosignproject.cosign/signature":"","predicateType":"https://cyclonedx.org/bom"}}]}"#;
const BUNDLE_JSON: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial":{"publicKey":{"hint":"0r9W7tgWsnE1MGTjr/kFDrUuKaj59F7xiJocoWcRobg="}}, "dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCAic3ViamVjdCI6W3siZGlnZXN0Ijp7InNoYTI1NiI6IjVlNTI3NDJjOGVjNmQ1MTM3MTA4ZDE4ODE1NTUyNzQwODY0MjQzODEyZDFjNmZlZWVkN2U5YjJiYTk3MWM3NDQifSwgImFubm90YXRpb25zIjp7fX1dLCAicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vc2lnc3RvcmUuZGV2L2Nvc2lnbi9zaWduL3YxIiwgInByZWRpY2F0ZSI6e319", "payloadType":"application/vnd.in-toto+json", "signatures":[{"sig":"MEQCIEN8BxOlMI8PVr/RJp8GfrxzHRTAAMKgx2IYW8e8243zAiAU2naAw+kSGTHPyvx348I+VYLOWXJe3zH+Up1QRfFYSA=="}]}}"#;
const REFERRER: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"},"layers":[{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":667,"digest":"sha256:abfc2542f1b497e87ea040b8ba8fbc46c0f72bee19cfcc17f41fc2301ccbbdde"}],"annotations":{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1","org.opencontainers.image.created":"2026-11-26T13:24:41Z"},"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":260,"digest":"sha256:5e52742c8ec6d5137108d18815552740864243812d1c6feeed7e9b2ba971c744"},"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#;
const THEN: Time = Time(1_795_699_481);

fn key() -> PrivateKey {
    PrivateKey::from_pem(include_str!("../private_key/fixtures/cosign3.key"), b"stella-fixture").unwrap()
}

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn decoded(text: &Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn payloads_and_the_manifest_below_a_sig_tag_are_cosigns_to_the_byte() {
    let annotations = [("b", "1"), ("a", "x<y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let payload = payload(PLACE, &image(), &annotations.into()).unwrap();
    assert_eq!(String::from_utf8(payload.clone()).unwrap(), PAYLOAD);
    assert!(key().signed(&payload, &STANDARD.decode(SIGNATURE).unwrap()));

    let mut layer = Layer::signature(&key(), payload).unwrap();
    layer.annotations = [("dev.cosignproject.cosign/signature".to_owned(), SIGNATURE.to_owned())].into();
    let mut manifest = LegacyManifest::default();
    assert!(manifest.is_empty());
    manifest.add(&layer).unwrap();
    assert_eq!(String::from_utf8(manifest.to_json().unwrap()).unwrap(), MANIFEST);
    assert_eq!(legacy_tag(&image(), "sig"), format!("{}.sig", IMAGE.replace(':', "-")));
}

#[test]
fn a_signature_is_added_to_what_is_there_whatever_that_is() {
    let theirs =
        MANIFEST.replace("\"schemaVersion\":2,", "\"schemaVersion\":2,\"annotations\":{\"x\":\"y\"},");
    let theirs = theirs.replace("\"size\":254,", "\"size\":254,\"urls\":[\"https://example.test\"],");
    let config = json!({"architecture": "", "created": "2020-01-01T00:00:00Z", "history": [{"by": "them"}], "os": "",
        "author": "them", "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}, "config": {"Labels": null}});
    let mut manifest = LegacyManifest::read(theirs.as_bytes(), config.to_string().as_bytes()).unwrap();
    assert!(manifest.has_signature(&key(), PAYLOAD.as_bytes()), "cosign's own is known again");
    let other = payload(PLACE, &image(), &none()).unwrap();
    assert!(!manifest.has_signature(&key(), &other));
    assert!(!manifest.has_signature(&PrivateKey::generate().unwrap(), PAYLOAD.as_bytes()));

    let layer = Layer::signature(&key(), other.clone()).unwrap();
    manifest.add(&layer).unwrap();
    assert!(manifest.has_signature(&key(), &other) && manifest.len() == 2);
    let (before, after) = (json_of(theirs.as_bytes()), json_of(&manifest.to_json().unwrap()));
    assert_eq!(after["layers"][0], before["layers"][0]);
    assert_eq!(after["annotations"], before["annotations"]);
    assert_eq!(after["layers"][1]["digest"], Digest::of(&other).as_str());
    let written = json_of(manifest.config());
    assert_eq!(written["rootfs"]["diff_ids"], json!(["sha256:00", Digest::of(&other).as_str()]));
    assert_eq!(written["history"], json!([{"by": "them"}, {"created": "0001-01-01T00:00:00Z"}]));
    assert_eq!((&written["author"], &written["config"]), (&config["author"], &config["config"]));
    assert_eq!(after["config"]["digest"], Digest::of(manifest.config()).as_str());
    assert_eq!(after["config"]["size"], manifest.config().len());
}

#[test]
fn what_is_no_manifest_is_not_replaced_and_there_is_an_end_to_adding() {
    for wrong in ["", "[]", "{}", r#"{"schemaVersion":2,"manifests":[]}"#] {
        assert!(LegacyManifest::read(wrong.as_bytes(), b"{}").is_err(), "{wrong}");
    }
    let mut manifest = LegacyManifest::read(MANIFEST.as_bytes(), b"no JSON").unwrap();
    let layer = Layer::signature(&key(), b"p".to_vec()).unwrap();
    assert!(matches!(manifest.add(&layer), Err(crate::Error::Malformed(_))));
    let mut manifest = LegacyManifest::default();
    for _ in 0..1000 {
        manifest.add(&layer).unwrap();
    }
    assert!(matches!(manifest.add(&layer), Err(crate::Error::OverLimit(_))));
}

#[test]
fn the_manifest_below_an_att_tag_is_cosigns_to_the_byte() {
    let mut layer = Layer::attestation(&key(), b"{}", "https://cyclonedx.org/bom").unwrap();
    let ours = json_of(&layer.bytes);
    let theirs = json_of(ENVELOPE.as_bytes());
    assert_eq!(ours["payloadType"], theirs["payloadType"]);
    assert_eq!(ours["signatures"][0]["keyid"], "");
    assert!(key().signed(&pae(IN_TOTO, b"{}"), &decoded(&ours["signatures"][0]["sig"])));
    let statement = decoded(&theirs["payload"]);
    assert!(key().signed(&pae(IN_TOTO, &statement), &decoded(&theirs["signatures"][0]["sig"])));

    layer.bytes = ENVELOPE.into();
    let mut manifest = LegacyManifest::default();
    manifest.add(&layer).unwrap();
    assert_eq!(String::from_utf8(manifest.to_json().unwrap()).unwrap(), ATTESTED);
    let kind: PredicateType = "cyclonedx".parse().unwrap();
    let ours = attest_statement(PLACE, &image(), &kind, b"{\"a\": 1}", THEN).unwrap();
    assert_eq!(json_of(&ours), json_of(&statement));
}

#[test]
fn a_bundle_says_what_cosigns_says_and_its_manifest_is_the_same_to_the_byte() {
    let statement = sign_statement(&image(), &none()).unwrap();
    let theirs = json_of(BUNDLE_JSON.as_bytes());
    assert_eq!(json_of(&statement), json_of(&decoded(&theirs["dsseEnvelope"]["payload"])));
    let mut ours = json_of(&statement_bundle(&key(), &statement).unwrap());
    let signature = decoded(&ours["dsseEnvelope"]["signatures"][0]["sig"]);
    assert!(key().signed(&pae(IN_TOTO, &statement), &signature));
    for at in ["/dsseEnvelope/payload", "/dsseEnvelope/signatures/0/sig"] {
        *ours.pointer_mut(at).unwrap() = theirs.pointer(at).unwrap().clone();
    }
    assert_eq!(ours, theirs);

    let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    let subject =
        Descriptor { media_type, digest: image(), size: 260, artifact_type: None, annotations: None };
    let manifest = referrer(&subject, BUNDLE_JSON.as_bytes(), SIGN_PREDICATE, THEN).unwrap();
    assert_eq!(String::from_utf8(manifest).unwrap(), REFERRER);
    let signed = sign_statement(&image(), &[("a".to_owned(), "b".to_owned())].into()).unwrap();
    assert_eq!(json_of(&signed)["subject"][0]["annotations"], json!({"a": "b"}));
}

#[test]
fn a_file_gets_a_bundle_a_signature_or_an_old_bundle() {
    let message = b"hello\n";
    let bundle = json_of(&message_bundle(&key(), message).unwrap());
    let signed = &bundle["messageSignature"];
    assert_eq!(signed["messageDigest"]["algorithm"], "SHA2_256");
    assert_eq!(signed["messageDigest"]["digest"], "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=");
    assert!(key().signed(message, &decoded(&signed["signature"])));
    assert_eq!(bundle["mediaType"], BUNDLE);
    let signature = detached_signature(&key(), message).unwrap();
    assert!(key().signed(message, &STANDARD.decode(&signature).unwrap()));
    assert_eq!(json_of(&old_bundle(&signature).unwrap()), json!({"base64Signature": signature}));
}

#[test]
fn predicates_are_read_as_their_short_name_says() {
    let said = |kind: &str, file: &[u8]| {
        let kind: PredicateType = kind.parse().unwrap();
        attest_statement(PLACE, &image(), &kind, file, THEN).map(|bytes| json_of(&bytes))
    };
    let custom = said("custom", b"{\"a\":1}\n").unwrap();
    assert_eq!(custom["predicate"], json!({"Data": "{\"a\":1}\n", "Timestamp": "2026-11-26T13:24:41Z"}));
    assert_eq!(custom["_type"], "https://in-toto.io/Statement/v0.1");
    assert_eq!(custom["subject"], json!([{"name": PLACE, "digest": {"sha256": image().hex()}}]));
    assert_eq!(said("spdx", b"SPDXVersion: 2").unwrap()["predicate"], "SPDXVersion: 2");
    assert_eq!(said("spdxjson", b"{}").unwrap()["predicateType"], "https://spdx.dev/Document");
    assert_eq!(said("https://example.test/p", b"{\"b\":2}").unwrap()["predicate"], json!({"b": 2}));
    for (kind, file) in
        [("cyclonedx", b"no".as_slice()), ("vuln", b"[1]"), ("spdx", b"\xff"), ("custom", b"\xff")]
    {
        assert!(said(kind, file).is_err(), "{kind}");
    }
    for wrong in ["", "sbom", "cyclone dx:x", ":x", "1x:y"] {
        assert!(wrong.parse::<PredicateType>().is_err(), "{wrong}");
    }
    assert!(PredicateType::names().all(|name| name.parse::<PredicateType>().is_ok()));
}

#[test]
fn times_are_written_as_the_calendar_has_them() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (THEN.0, "2026-11-26T13:24:41Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(Time(seconds)), text);
    }
}
