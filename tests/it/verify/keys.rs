// SPDX-License-Identifier: AGPL-3.0-only
//! Encrypted keys: those of either sign with the other.

use stella_tests::{Client, Image};

use super::stage::{By, PASSWORD, Stage, TRUST, Way};

const READERS: [Client; 2] = [Client::Cosign, Client::Cosign2];

/// Both forms, by both versions.
fn ways() -> impl Iterator<Item = Way> {
    let forms = |client| [true, false].map(|is_bundle| Way { client, is_bundle, by: By::Key });
    READERS.into_iter().flat_map(forms)
}

#[test]
fn cosign_signs_with_a_key_that_stella_made() {
    let Some(stage) = Stage::enter() else { return };
    stage.bench.write("file", "hello\n");
    stage.stella.run("generate-key-pair --output-key-prefix ours");
    let wrong = stage.bench.stella().env("COSIGN_PASSWORD", "another");
    let (code, said) = wrong.failure("sign-blob --key ours.key --bundle x.json file");
    assert!(code == 2 && said.contains("password"), "{said}");
    for way in ways() {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        stage.sign_as(way, "--key ours.key", &format!("sign {image}"));
        stage.stella.run(&format!("verify --key ours.pub {TRUST} {image}"));
        stage.refuses(7, "bad-signature", &format!("verify --key theirs.pub {TRUST} {image}"));
        if way.is_bundle {
            stage.sign_as(way, "--key ours.key", "sign-blob --bundle file.json file");
            stage.stella.run(&format!("verify-blob --bundle file.json --key ours.pub {TRUST} file"));
        }
    }
}

/// Generated or imported, of every kind that cosign imports.
#[test]
fn stella_signs_with_a_key_that_cosign_made() {
    let Some(stage) = Stage::enter() else { return };
    stage.bench.write("file", "hello\n");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/src/private_key/fixtures");
    for client in READERS {
        let cosign = stage.cosign(client);
        let version = if client == Client::Cosign { "three" } else { "two" };
        cosign.run(&format!("generate-key-pair --output-key-prefix {version}-made"));
        for kind in ["p256-sec1", "rsa", "ed25519"] {
            cosign.run(&format!(
                "import-key-pair --key {fixtures}/{kind}.key --output-key-prefix {version}-{kind}"
            ));
        }
        for kind in ["made", "p256-sec1", "rsa", "ed25519"] {
            let name = format!("{version}-{kind}");
            let image = stage.push(&name, &Image::sample(1).build(), "1");
            let wrong = stage.bench.stella().env("COSIGN_PASSWORD", format!("not {PASSWORD}"));
            assert_eq!(wrong.failure(&format!("sign --key {name}.key {image}")).0, 2);
            stage.stella.run(&format!("sign --key {name}.key {image}"));
            stage.stella.run(&format!("verify --key {name}.pub --insecure-ignore-tlog {image}"));
            stage.stella.run(&format!("sign-blob --key {name}.key --bundle {name}.json file"));
            stage.stella.run(&format!(
                "verify-blob --bundle {name}.json --key {name}.pub --insecure-ignore-tlog file"
            ));
            for reader in READERS {
                let form = if reader == Client::Cosign2 { "--new-bundle-format" } else { "" };
                let trust =
                    format!("--key {name}.pub --insecure-ignore-tlog --trusted-root root.json {form}");
                stage.cosign(reader).run(&format!("verify {trust} {image}"));
                stage.cosign(reader).run(&format!("verify-blob {trust} --bundle {name}.json file"));
            }
        }
    }
}
