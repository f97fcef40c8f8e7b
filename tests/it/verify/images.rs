// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures of images and of indexes.

use serde_json::json;
use stella_tests::{Client, Content, Image, Repository, digest, media_type};

use super::stage::{By, Stage, TRUST, WAYS};

#[test]
fn what_cosign_signs_stella_verifies_and_nothing_else() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let repository = way.word();
        let image = stage.push(&repository, &Image::sample(1).build(), "1");
        let other = stage.push(&repository, &Image::sample(2).build(), "2");
        stage.refuses(7, "no-evidence", &format!("verify {} {TRUST} {image}", way.by.wanted()));
        stage.sign(way, &format!("sign -a build=7 {image}"));
        // cosign 2 leaves annotations out of its bundles.
        let said = if way.is_bundle && way.client == Client::Cosign2 { "" } else { "-a build=7" };
        stage.verifies(way, &format!("verify {said} {image}"));
        let text = stage
            .verifies(way, &format!("verify --output text {}/{repository}:1", stage.bench.server.host()));
        assert!(text.contains("(timestamp, http://"), "{way:?}: {text}");
        for unwanted in way.by.unwanted() {
            stage.refuses(7, "", &format!("verify {unwanted} {TRUST} {image}"));
        }
        let wanted = way.by.wanted();
        stage.refuses(7, "no-evidence", &format!("verify {wanted} {TRUST} {other}"));
        stage.refuses(9, "annotation", &format!("verify {wanted} {TRUST} -a build=8 {image}"));
        stage.refuses(8, "tlog-missing", &format!("verify {wanted} --trusted-root root.json {image}"));
        // Who asks for one form is not given the other.
        let form = format!("--new-bundle-format={}", !way.is_bundle);
        stage.refuses(7, "no-evidence", &format!("verify {wanted} {TRUST} {form} {image}"));
        // Another root's authorities; then no clock at all.
        let with = |root: &str| {
            format!(
                "verify {wanted} --trusted-root {root} --insecure-ignore-tlog --use-signed-timestamps {image}"
            )
        };
        stage.refuses(8, "", &with("timeless-root.json"));
        if way.by == By::Certificate {
            stage.refuses(7, "bad-signature", &with("strange-root.json"));
        }
    }
}

/// A signature by somebody else, whose certificate says the same, beside the right one and without it.
#[test]
fn a_stranger_is_nobody_and_does_not_spoil_what_is_right() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        stage.sign_as(way, way.stranger(), &format!("sign {image}"));
        let wanted = way.by.wanted();
        stage.refuses(7, "bad-signature", &format!("verify {wanted} {TRUST} {image}"));
        stage.sign(way, &format!("sign {image}"));
        stage.verifies(way, &format!("verify {image}"));
    }
}

#[test]
fn an_index_is_verified_with_all_below_it_where_all_was_signed() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let repository = way.word();
        let children = [Image::sample(1).build(), Image::sample(2).architecture("arm64").build()];
        let index = stage.push(&repository, &Content::index(&children), "1");
        stage.sign(way, &format!("sign {index}"));
        stage.verifies(way, &format!("verify {index}"));
        for child in &children {
            let child = stage.name(&repository, child);
            stage.refuses(7, "no-evidence", &format!("verify {} {TRUST} {child}", way.by.wanted()));
        }
        stage.sign(way, &format!("sign -r {index}"));
        stage.verifies(way, &format!("verify {index}"));
        for child in &children {
            stage.verifies(way, &format!("verify {}", stage.name(&repository, child)));
        }
    }
}

/// Whoever may write to a repository can hang a signature on another image there.
#[test]
fn a_signature_that_was_moved_to_another_image_is_of_the_wrong_subject() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let name = way.word();
        let (content, other) = (Image::sample(1).build(), Image::sample(2).build());
        let image = stage.push(&name, &content, "1");
        let target = stage.push(&name, &other, "2");
        stage.sign(way, &format!("sign {image}"));
        let repository = stage.bench.server.repository(&name);
        if way.is_bundle {
            move_referrer(&repository, &content, &other);
        } else {
            move_tag(&repository, &content, &other);
        }
        stage.refuses(7, "wrong-subject", &format!("verify {} {TRUST} {target}", way.by.wanted()));
        stage.verifies(way, &format!("verify {image}"));
    }
}

fn move_tag(repository: &Repository, from: &Content, to: &Content) {
    let tag = |content: &Content| format!("{}.sig", content.digest().replace(':', "-"));
    let found = repository.send(&repository.request("GET", &format!("manifests/{}", tag(from)))).must_be(200);
    repository.put_manifest(&tag(to), media_type::MANIFEST, &found.body);
}

fn move_referrer(repository: &Repository, from: &Content, to: &Content) {
    let listed = repository.referrers(from.digest());
    let signature = listed[0]["digest"].as_str().unwrap();
    let found = repository.send(&repository.request("GET", &format!("manifests/{signature}"))).must_be(200);
    let mut manifest = found.json();
    manifest["subject"] =
        json!({"mediaType": to.media_type(), "digest": to.digest(), "size": to.bytes().len()});
    let bytes = manifest.to_string().into_bytes();
    repository.put_manifest(&digest(&bytes), media_type::MANIFEST, &bytes);
}
