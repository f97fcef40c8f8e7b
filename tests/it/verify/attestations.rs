// SPDX-License-Identifier: AGPL-3.0-only
//! Attestations of images. cosign 3 in the older form stamps the signature where cosign 2 stamps the whole envelope, and
//! where both look for a timestamp of the whole envelope: what it attests so with a timestamp neither verifies, and stella
//! does.

use serde_json::Value;
use stella_tests::{Client, Image};

use super::stage::{By, Stage, TRUST, WAYS, Way, json};

/// A type, the URI for it, and a predicate.
const PREDICATES: [(&str, &str); 4] = [
    ("custom", "any text\n"),
    ("cyclonedx", r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "n": 1.5}"#),
    ("slsaprovenance1", r#"{"buildDefinition": {"buildType": "https://b.test"}, "runDetails": {}}"#),
    ("https://example.test/checked", r#"{"by": ["us"]}"#),
];

impl Way {
    /// Whether cosign itself can verify what it attests in this way.
    fn is_read_by_cosign(self) -> bool {
        self.is_bundle || self.client == Client::Cosign2
    }
}

/// One envelope in each line.
fn envelopes(said: &str) -> Vec<Value> {
    let mut envelopes: Vec<_> = said.lines().filter(|line| !line.is_empty()).map(json).collect();
    envelopes.sort_by_key(ToString::to_string);
    envelopes
}

#[test]
fn what_cosign_attests_stella_verifies_and_prints_as_cosign_does() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        let other = stage.push(&way.word(), &Image::sample(2).build(), "2");
        let wanted = way.by.wanted();
        for (kind, predicate) in PREDICATES {
            let verify = format!("verify-attestation --type {kind}");
            // What says another thing is not what is asked for.
            let (code, said) = stage.stella.failure(&format!("{verify} {wanted} {TRUST} {image}"));
            assert!(
                code == 7 && (said.contains("no-evidence") || said.contains("wrong-predicate")),
                "{said}"
            );
            stage.bench.write("predicate", predicate);
            stage.sign(way, &format!("attest --type {kind} --predicate predicate {image}"));
            let said = envelopes(&stage.verifies(way, &format!("{verify} {image}")));
            assert_eq!(said.len(), 1, "{way:?} {kind}: {said:#?}");
            if way.is_read_by_cosign() {
                for reader in [Client::Cosign, Client::Cosign2] {
                    let command = Stage::cosign_verify(reader, way, &verify);
                    let theirs = stage.cosign(reader).run(&format!("{command} {image}"));
                    assert_eq!(envelopes(&theirs), said, "{way:?} {kind} by {reader:?}");
                }
            }
            for unwanted in way.by.unwanted() {
                stage.refuses(7, "", &format!("{verify} {unwanted} {TRUST} {image}"));
            }
            stage.refuses(7, "no-evidence", &format!("{verify} {wanted} {TRUST} {other}"));
            stage.refuses(8, "tlog-missing", &format!("{verify} {wanted} --trusted-root root.json {image}"));
            if way.by == By::Certificate {
                let strange = "--trusted-root strange-root.json --insecure-ignore-tlog";
                stage.refuses(7, "bad-signature", &format!("{verify} {wanted} {strange} {image}"));
            }
        }
        // An attestation is no signature, and to stella the other way round neither.
        stage.refuses(7, "wrong-predicate", &format!("verify {wanted} {TRUST} {image}"));
        // Two that say the same kind of thing, in two lines.
        stage.bench.write("predicate", "another text\n");
        stage.sign(way, &format!("attest --type custom --predicate predicate {image}"));
        let said = envelopes(&stage.verifies(way, &format!("verify-attestation --type custom {image}")));
        assert_eq!(said.len(), 2, "{way:?}");
        assert_ne!(said[0]["payload"], said[1]["payload"]);
    }
}

#[test]
fn a_rule_is_asked_what_cosign_asks_it() {
    let Some(stage) = Stage::enter() else { return };
    let rule = |wanted: &str| {
        format!(
            "package signature\nimport rego.v1\ndefault allow := false\n\
             allow if input.predicate.specVersion == \"{wanted}\"\n"
        )
    };
    let ours = |wanted: &str| {
        rule(wanted).replace("package signature", "package sigstore").replace("allow", "isCompliant")
    };
    for way in WAYS {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        stage.bench.write("predicate", PREDICATES[1].1);
        stage.sign(way, &format!("attest --type cyclonedx --predicate predicate {image}"));
        for (version, passes) in [("1.6", true), ("1.5", false)] {
            stage.bench.write("theirs.rego", rule(version));
            stage.bench.write("ours.rego", ours(version));
            let verify = "verify-attestation --type cyclonedx --policy";
            if passes {
                stage.verifies(way, &format!("{verify} ours.rego {image}"));
            } else {
                let wanted = way.by.wanted();
                stage.refuses(
                    9,
                    "predicate-rejected",
                    &format!("{verify} ours.rego {wanted} {TRUST} {image}"),
                );
            }
            if way.is_read_by_cosign() {
                let reader = way.client;
                let command = Stage::cosign_verify(reader, way, &format!("{verify} theirs.rego"));
                let outcome = stage.cosign(reader).try_run(&format!("{command} {image}"));
                assert_eq!(outcome.status.success(), passes, "{outcome}");
            }
        }
    }
}
