// SPDX-License-Identifier: AGPL-3.0-only
//! Signatures and attestations of files.

use stella_tests::{Client, digest};

use super::stage::{By, Stage, TRUST, WAYS, Way};

const NOTIME: &str = "--trusted-root root.json --insecure-ignore-tlog";

#[test]
fn what_cosign_signs_of_files_stella_verifies_in_bundles() {
    let Some(stage) = Stage::enter_without_registry() else { return };
    furnish(&stage);
    for way in WAYS.into_iter().filter(|way| way.is_bundle) {
        stage.sign(way, "sign-blob --bundle signed.json file");
        stage.sign(way, "attest-blob --type custom --predicate predicate --bundle attested.json file");
        for bundle in ["signed.json", "attested.json"] {
            let wanted = way.by.wanted();
            for command in ["verify-blob", "verify-bundle"] {
                let verify = format!("{command} --bundle {bundle}");
                stage.verifies(way, &format!("{verify} file"));
                for unwanted in way.by.unwanted() {
                    stage.refuses(7, "", &format!("{verify} {unwanted} {TRUST} file"));
                }
                stage.refuses(7, "wrong-subject", &format!("{verify} {wanted} {TRUST} another"));
                stage.refuses(8, "tlog-missing", &format!("{verify} {wanted} --trusted-root root.json file"));
                if way.by == By::Certificate {
                    let strange = "--trusted-root strange-root.json --insecure-ignore-tlog";
                    stage.refuses(7, "bad-signature", &format!("{verify} {wanted} {strange} file"));
                }
            }
            // Of the bytes only the digest.
            let of_digest = format!("verify-bundle --bundle {bundle} {}", digest(b"hello\n"));
            stage.verifies(way, &of_digest);
            let of_other = format!("verify-bundle --bundle {bundle} {wanted} {TRUST} {}", digest(b"hallo\n"));
            stage.refuses(7, "", &of_other);
        }
    }
}

/// The signature by itself, as both versions still write it where a key signs.
#[test]
fn what_cosign_signs_of_files_stella_verifies_in_older_forms() {
    let Some(stage) = Stage::enter_without_registry() else { return };
    furnish(&stage);
    for client in [Client::Cosign, Client::Cosign2] {
        let way = Way { client, is_bundle: false, by: By::Key };
        let old = if client == Client::Cosign {
            "--new-bundle-format=false --use-signing-config=false"
        } else {
            ""
        };
        let cosign = |what: &str| {
            let (command, rest) = what.split_once(' ').unwrap();
            let alone = format!("-y --key theirs.key --tlog-upload=false {old}");
            stage.cosign(client).run(&format!("{command} {alone} {rest} file"));
        };
        cosign("sign-blob --output-signature file.sig");
        cosign("sign-blob --bundle old.json");
        cosign("attest-blob --type custom --predicate predicate --output-signature file.att");
        for evidence in ["--signature file.sig", "--bundle old.json", "--signature file.att"] {
            let verify = format!("verify-blob {evidence}");
            stage.stella.run(&format!("{verify} --key theirs.pub {NOTIME} file"));
            stage.refuses(7, "bad-signature", &format!("{verify} --key other.pub {NOTIME} file"));
            let (code, _) = stage.stella.failure(&format!("{verify} --key theirs.pub {NOTIME} another"));
            assert_eq!(code, 7, "{way:?} {evidence}");
            stage.refuses(
                8,
                "tlog-missing",
                &format!("{verify} --key theirs.pub --trusted-root root.json file"),
            );
            // There is no time in these.
            stage.refuses(8, "no-trusted-time", &format!("{verify} --key theirs.pub {TRUST} file"));
        }
    }
}

fn furnish(stage: &Stage) {
    stage.bench.write("file", "hello\n");
    stage.bench.write("another", "hallo\n");
    stage.bench.write("predicate", "any text\n");
}
