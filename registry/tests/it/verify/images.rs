// SPDX-License-Identifier: AGPL-3.0-only
//! Images that `stella` signed, at a server and in a layout on disk.

use super::{Desk, KEY, json};

#[test]
fn an_image_is_verified_in_each_form_at_a_server_and_in_a_layout() {
    let desk = Desk::new();
    for (number, form) in ["", "--new-bundle-format=false"].into_iter().enumerate() {
        let repository = format!("app{number}");
        let [tag, digest] = desk.push(&repository, "1");
        let said = desk.fails(&format!("verify {KEY} {tag}"), 7);
        assert!(said.contains("no-evidence") && said.contains("stella sign"), "{said}");
        desk.ok(&format!("sign --key cosign.key {form} -a build=7 {tag}"));
        desk.ok(&format!("copy --referrers {tag} oci:saved{number}:1"));
        for image in
            [&tag, &digest, &format!("oci-layout:saved{number}:1"), &format!("oci-layout:saved{number}")]
        {
            let said = json(&desk.ok(&format!("verify {KEY} -a build=7 {image}")));
            assert_eq!(said.as_array().unwrap().len(), 1, "{image}: {said}");
            let critical = &said[0]["critical"];
            assert_eq!(critical["image"]["docker-manifest-digest"], digest.split_once('@').unwrap().1);
            assert_eq!(said[0]["optional"]["build"], "7", "{image}: {said}");
            desk.fails(&format!("verify {KEY} -a build=8 {image}"), 9);
            desk.fails(&format!("verify --key other.pub --insecure-ignore-tlog {image}"), 7);
            desk.fails(&format!("verify --key cosign.pub {image}"), 8);
        }
        let text = desk.ok(&format!("verify {KEY} --output text {tag}"));
        assert!(text.contains("signed by key") && text.contains("build="), "{text}");
    }
    desk.fails(&format!("verify {KEY} {}/app0:missing", desk.server.address()), 4);
    desk.fails(&format!("verify {KEY} oci-layout:saved0:missing"), 4);
    desk.fails(&format!("verify {KEY} oci-layout:missing"), 4);
}

#[test]
fn a_bundle_that_does_not_verify_keeps_older_forms_from_being_asked() {
    let desk = Desk::new();
    let [image, _] = desk.push("app", "1");
    desk.ok(&format!("sign --key cosign.key --new-bundle-format=false {image}"));
    desk.ok(&format!("verify {KEY} {image}"));
    desk.ok(&format!("sign --key other.key {image}"));
    let said = desk.fails(&format!("verify {KEY} {image}"), 7);
    assert!(said.contains("--new-bundle-format=false"), "{said}");
    desk.ok(&format!("verify {KEY} --new-bundle-format=false {image}"));
    desk.fails(&format!("verify {KEY} --new-bundle-format {image}"), 7);
    // What is said beside a signature, in a bundle, is no bad signature.
    let [image, _] = desk.push("attested", "1");
    desk.ok(&format!("sign --key cosign.key --new-bundle-format=false {image}"));
    desk.ok(&format!("attest --key cosign.key --type custom --predicate file {image}"));
    desk.ok(&format!("verify {KEY} {image}"));
    // And no signature by itself.
    let [image, _] = desk.push("only", "1");
    desk.ok(&format!("attest --key cosign.key --type custom --predicate file {image}"));
    let said = desk.fails(&format!("verify {KEY} {image}"), 7);
    assert!(said.contains("wrong-predicate"), "{said}");
}

#[test]
fn attestations_are_printed_one_in_a_line_if_their_type_and_rule_fit() {
    let desk = Desk::new();
    desk.write("sbom", r#"{"spdxVersion": "SPDX-2.3"}"#);
    desk.write("yes.rego", "package sigstore\nisCompliant { input.predicate.spdxVersion == \"SPDX-2.3\" }\n");
    desk.write("no.rego", "package sigstore\nisCompliant { input.predicate.spdxVersion == \"SPDX-3.0\" }\n");
    for (number, form) in ["", "--new-bundle-format=false"].into_iter().enumerate() {
        let [image, _] = desk.push(&format!("app{number}"), "1");
        let attest = format!("attest --key cosign.key {form} --type spdxjson --predicate sbom {image}");
        desk.fails(&format!("verify-attestation {KEY} --type spdxjson {image}"), 7);
        desk.ok(&attest);
        let said = desk.ok(&format!("verify-attestation {KEY} --type spdxjson {image}"));
        assert_eq!(said.lines().count(), 1, "{said}");
        let envelope = json(&said);
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        assert!(envelope["payload"].is_string() && envelope["signatures"][0]["sig"].is_string(), "{said}");
        desk.ok(&format!("verify-attestation {KEY} --type https://spdx.dev/Document {image}"));
        desk.ok(&format!("verify-attestation {KEY} --type spdxjson --policy yes.rego {image}"));
        let said =
            desk.fails(&format!("verify-attestation {KEY} --type spdxjson --policy no.rego {image}"), 9);
        assert!(said.contains("predicate-rejected"), "{said}");
        desk.fails(&format!("verify-attestation {KEY} --type cyclonedx {image}"), 7);
        desk.fails(
            &format!("verify-attestation --key other.pub --insecure-ignore-tlog --type spdxjson {image}"),
            7,
        );
    }
}
