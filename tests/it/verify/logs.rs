// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures that went into a transparency log, a test's own, of both versions of Rekor; with keys that sign in another
//! way than P-256 does.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use stella_tests::{Client, Image, Rekor};

use super::stage::Stage;

const KEYS: [&str; 3] = ["p256", "p384", "ed25519"];

/// Makes keys, a log, trust roots with it and with another log, and files that tell cosign to use it.
fn furnish(stage: &Stage) -> Rekor {
    let (rekor, strange) = (Rekor::new(), Rekor::new());
    let cosign = stage.cosign(Client::Cosign);
    let algorithms = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
    for (name, algorithm) in KEYS.into_iter().zip(algorithms) {
        stage.bench.write(&format!("{name}.pem"), KeyPair::generate_for(algorithm).unwrap().serialize_pem());
        cosign.run(&format!("import-key-pair --key {name}.pem --output-key-prefix {name}"));
    }
    for (name, log) in [("logged.json", &rekor), ("elsewhere.json", &strange)] {
        stage.bench.write("log.pem", log.key());
        // The same address: what differs is the key alone.
        let log = format!("--rekor url={},public-key=log.pem,start-time=2024-01-01T00:00:00Z", rekor.url());
        cosign.run(&format!("trusted-root create --out {name} {log}"));
    }
    for version in [1, 2] {
        let log = format!(
            "url={},api-version={version},start-time=2024-01-01T00:00:00Z,operator=test",
            rekor.url()
        );
        let config = "signing-config create --with-default-services=false";
        cosign.run(&format!("{config} --out log{version}.json --rekor {log} --rekor-config ANY"));
    }
    stage.bench.write("file", "hello\n");
    stage.bench.write("another", "hallo\n");
    rekor
}

#[test]
fn what_cosign_signs_of_files_and_logs_stella_verifies() {
    let Some(stage) = Stage::enter_without_registry() else { return };
    let rekor = furnish(&stage);
    let verifies = |name: &str| {
        let verify = format!("verify-blob --bundle signed.json --key {name}.pub");
        stage.stella.run(&format!("{verify} --trusted-root logged.json file"));
        stage.refuses(7, "wrong-subject", &format!("{verify} --trusted-root logged.json another"));
        stage.refuses(8, "tlog-invalid", &format!("{verify} --trusted-root elsewhere.json file"));
    };
    // With Ed25519 cosign 3 says of its own signature that it is none: so of a file for Rekor v1 and an image for v2.
    for name in ["p256", "p384"] {
        for version in [1, 2] {
            let services = format!("--signing-config log{version}.json --trusted-root logged.json");
            let sign = format!("sign-blob -y --key {name}.key {services} --bundle signed.json file");
            stage.cosign(Client::Cosign).run(&sign);
            // Nor does it verify what it signed with P-384.
            if name == "p256" {
                let verify =
                    "verify-blob --bundle signed.json --key p256.pub --trusted-root logged.json file";
                stage.cosign(Client::Cosign).run(verify);
            }
            verifies(name);
        }
    }
    // cosign 2 logs with all of them: SHA-384 with P-384, Ed25519ph with Ed25519.
    for name in KEYS {
        let log = format!("--rekor-url {} --new-bundle-format --trusted-root logged.json", rekor.url());
        stage
            .cosign(Client::Cosign2)
            .run(&format!("sign-blob -y --key {name}.key {log} --bundle signed.json file"));
        verifies(name);
    }
}

#[test]
fn what_cosign_signs_of_images_and_logs_stella_verifies() {
    let Some(stage) = Stage::enter() else { return };
    let _rekor = furnish(&stage);
    // cosign itself makes no entry of Rekor v1 of an envelope that is signed in another way than with P-256, and signs no
    // image at all with Ed25519 for a log: it then says that its own signature is none.
    let cases = [("p256", 1), ("p256", 2), ("p384", 2)];
    for (number, (name, version)) in cases.into_iter().enumerate() {
        let image = stage.push(&format!("bundle/{number}"), &Image::sample(1).build(), "1");
        let services = format!("--signing-config log{version}.json --trusted-root logged.json");
        stage.cosign(Client::Cosign).run(&format!("sign -y --key {name}.key {services} {image}"));
        let key = format!("--key {name}.pub");
        stage.stella.run(&format!("verify {key} --trusted-root logged.json {image}"));
        stage.refuses(8, "tlog-invalid", &format!("verify {key} --trusted-root elsewhere.json {image}"));
    }
}

#[test]
fn what_cosign_2_signs_of_images_and_logs_stella_verifies() {
    let Some(stage) = Stage::enter() else { return };
    let rekor = furnish(&stage);
    let log = format!("--rekor-url {}", rekor.url());
    let cosign = stage.cosign(Client::Cosign2);
    let image = stage.push("legacy/image", &Image::sample(1).build(), "1");
    cosign.run(&format!("sign -y --key p256.key {log} {image}"));
    let verify = "verify --key p256.pub";
    stage.stella.run(&format!("{verify} --trusted-root logged.json {image}"));
    stage.refuses(8, "tlog-invalid", &format!("{verify} --trusted-root elsewhere.json {image}"));
    // With P-384 it signs with SHA-384, and tells the log SHA-256. Rekor takes no such entry; nor do we, had it one.
    let image = stage.push("legacy/other-hash", &Image::sample(1).build(), "1");
    cosign.run(&format!("sign -y --key p384.key {log} {image}"));
    stage.refuses(8, "another hash", &format!("verify --key p384.pub --trusted-root logged.json {image}"));
    stage.stella.run(&format!("verify --key p384.pub --insecure-ignore-tlog {image}"));
    stage.bench.write("predicate", "any text\n");
    // Envelopes that are signed with P-384 it refuses itself before they are logged (`dsse`; `intoto` was not tried).
    for kind in ["dsse", "intoto"] {
        let image = stage.push(&format!("legacy/{kind}"), &Image::sample(1).build(), "1");
        let what = format!("--type custom --predicate predicate --rekor-entry-type {kind}");
        cosign.run(&format!("attest -y --key p256.key {log} {what} {image}"));
        let verify = "verify-attestation --type custom --key p256.pub";
        stage.stella.run(&format!("{verify} --trusted-root logged.json {image}"));
        stage.refuses(8, "tlog-invalid", &format!("{verify} --trusted-root elsewhere.json {image}"));
    }
}
