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

fn key_of(name: &str) -> String {
    format!("--key {name}.pub")
}

#[test]
fn what_cosign_signs_of_files_and_logs_stella_verifies() {
    let Some(stage) = Stage::enter_without_registry() else { return };
    let _rekor = furnish(&stage);
    for name in KEYS {
        for version in [1, 2] {
            let services = format!("--signing-config log{version}.json --trusted-root logged.json");
            let sign = format!("sign-blob -y --key {name}.key {services} --bundle signed.json file");
            stage.cosign(Client::Cosign).run(&sign);
            let key = key_of(name);
            let verify = format!("verify-blob --bundle signed.json {key}");
            stage.cosign(Client::Cosign).run(&format!("{verify} --trusted-root logged.json file"));
            stage.stella.run(&format!("{verify} --trusted-root logged.json file"));
            stage.refuses(7, "wrong-subject", &format!("{verify} --trusted-root logged.json another"));
            stage.refuses(8, "tlog-invalid", &format!("{verify} --trusted-root elsewhere.json file"));
        }
    }
}

#[test]
fn what_cosign_signs_of_images_and_logs_stella_verifies() {
    let Some(stage) = Stage::enter() else { return };
    let rekor = furnish(&stage);
    // cosign itself makes no entry of Rekor v1 of an envelope that is signed in another way than with P-256.
    let cases = [("p256", 1), ("p256", 2), ("p384", 2), ("ed25519", 2)];
    for (number, (name, version)) in cases.into_iter().enumerate() {
        let image = stage.push(&format!("bundle/{number}"), &Image::sample(1).build(), "1");
        let services = format!("--signing-config log{version}.json --trusted-root logged.json");
        stage.cosign(Client::Cosign).run(&format!("sign -y --key {name}.key {services} {image}"));
        let key = key_of(name);
        stage.stella.run(&format!("verify {key} --trusted-root logged.json {image}"));
        stage.refuses(8, "tlog-invalid", &format!("verify {key} --trusted-root elsewhere.json {image}"));
    }
    // cosign 2 signs with SHA-256, with P-384 too.
    for name in ["p256", "p384"] {
        let image = stage.push(&format!("legacy/{name}"), &Image::sample(1).build(), "1");
        let cosign = stage.cosign(Client::Cosign2);
        let log = format!("--rekor-url {}", rekor.url());
        let key = key_of(name);
        cosign.run(&format!("sign -y --key {name}.key {log} {image}"));
        stage.stella.run(&format!("verify {key} --trusted-root logged.json {image}"));
        stage.refuses(8, "tlog-invalid", &format!("verify {key} --trusted-root elsewhere.json {image}"));
        stage.bench.write("predicate", "any text\n");
        for kind in ["dsse", "intoto"] {
            let image = stage.push(&format!("legacy/{name}-{kind}"), &Image::sample(1).build(), "1");
            let what = format!("--type custom --predicate predicate --rekor-entry-type {kind}");
            cosign.run(&format!("attest -y --key {name}.key {log} {what} {image}"));
            let verify = format!("verify-attestation --type custom {key}");
            stage.stella.run(&format!("{verify} --trusted-root logged.json {image}"));
            stage.refuses(8, "tlog-invalid", &format!("{verify} --trusted-root elsewhere.json {image}"));
        }
    }
}
