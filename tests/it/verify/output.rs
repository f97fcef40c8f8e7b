// SPDX-License-Identifier: AGPL-3.0-only
//! What `stella verify` prints, field by field, beside what cosign prints of the same image.

use serde_json::{Value, json as value};
use stella_tests::{Client, Image};

use super::stage::{By, Stage, TRUST, WAYS, Way, json};

/// What cosign prints, as stella prints it: cosign 2 keeps no annotations of bundles, and says so with `null` where
/// cosign 3 has an object. That is the only difference.
fn as_ours(mut theirs: Value, reader: Client, is_bundle: bool, annotations: &Value) -> Value {
    if reader == Client::Cosign2 && is_bundle {
        for signature in theirs.as_array_mut().unwrap() {
            assert!(signature["optional"].is_null(), "{signature}");
            signature["optional"] = annotations.clone();
        }
    }
    theirs
}

#[test]
fn the_json_of_a_signature_is_cosigns_field_by_field() {
    let Some(stage) = Stage::enter() else { return };
    for (way, annotations) in
        WAYS.into_iter().flat_map(|way| ["", "-a by=us -a build=7"].map(|with| (way, with)))
    {
        let repository = format!("{}/{}", way.word(), annotations.len());
        let image = stage.push(&repository, &Image::sample(1).build(), "1.0");
        stage.push(&repository, &Image::sample(1).build(), "latest");
        stage.sign(way, &format!("sign {annotations} {image}"));
        let is_lost = way.is_bundle && way.client == Client::Cosign2;
        let kept =
            if is_lost || annotations.is_empty() { value!({}) } else { value!({"by": "us", "build": "7"}) };
        let place = format!("{}/{repository}", stage.bench.server.host());
        for name in [&image, &format!("{place}:1.0"), &place] {
            let ours = json(&stage.verifies(way, &format!("verify --output json {name}")));
            assert_eq!(ours.as_array().map(Vec::len), Some(1), "{ours:#}");
            for reader in [Client::Cosign, Client::Cosign2] {
                let command = Stage::cosign_verify(reader, way, "verify");
                let theirs = json(&stage.cosign(reader).run(&format!("{command} {name}")));
                assert_eq!(
                    as_ours(theirs, reader, way.is_bundle, &kept),
                    ours,
                    "{way:?} by {reader:?}: {name}"
                );
            }
        }
    }
}

/// Without a time, and with a payload whose optional part is `null`.
#[test]
fn the_json_of_what_stella_signed_is_the_same() {
    let Some(stage) = Stage::enter() else { return };
    for (is_bundle, annotations) in [(true, ""), (true, "-a a=b"), (false, ""), (false, "-a a=b")] {
        let repository = format!("ours/{is_bundle}/{}", annotations.len());
        let image = stage.push(&repository, &Image::sample(1).build(), "1");
        let form = format!("--new-bundle-format={is_bundle}");
        stage.stella.run(&format!("sign --key theirs.key {form} {annotations} {image}"));
        let ours =
            json(&stage.stella.run(&format!("verify --key theirs.pub --insecure-ignore-tlog {image}")));
        let kept = if annotations.is_empty() { value!({}) } else { value!({"a": "b"}) };
        for reader in [Client::Cosign, Client::Cosign2] {
            let way = Way { client: reader, is_bundle, by: By::Key };
            let command = Stage::cosign_verify(reader, way, "verify").replace("--use-signed-timestamps", "");
            let command = command.replace("--timestamp-certificate-chain clock.pem", "");
            let theirs = json(&stage.cosign(reader).run(&format!("{command} {image}")));
            assert_eq!(as_ours(theirs, reader, is_bundle, &kept), ours, "{is_bundle} by {reader:?}");
        }
    }
}

/// Two signatures of one image, by two signers; who asks for one of them sees the one.
#[test]
fn each_signature_is_an_object_of_its_own() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        stage.sign(way, &format!("sign -a n=1 {image}"));
        stage.sign_as(way, way.stranger(), &format!("sign -a n=2 {image}"));
        stage.sign(way, &format!("sign -a n=3 {image}"));
        let sorted = |said: &str| {
            let Value::Array(mut all) = json(said) else { panic!("{said}") };
            all.sort_by_key(ToString::to_string);
            all
        };
        let ours = sorted(&stage.stella.run(&format!("verify {} {TRUST} {image}", way.by.wanted())));
        let reader = Client::Cosign;
        let command = Stage::cosign_verify(reader, way, "verify");
        let theirs = sorted(&stage.cosign(reader).run(&format!("{command} {image}")));
        assert_eq!(theirs, ours, "{way:?}");
    }
}
