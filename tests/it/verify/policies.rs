// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy test` with documents of policy-controller, about what cosign signed.

use stella_tests::Image;

use super::stage::{By, ISSUER, SUBJECT, Stage, WAYS, json};

const ROOTS: &str = "--trusted-root ours=root.json --trusted-root strange=strange-root.json";

fn policy(authority: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\n\
         spec:\n  images: [{{glob: \"**\"}}]\n  authorities:\n  - name: us\n{authority}"
    )
}

fn keyed(stage: &Stage, name: &str) -> String {
    let pem = String::from_utf8(stage.bench.read(name)).unwrap();
    let lines = pem.replace('\n', "\n        ");
    policy(&format!(
        "    key:\n      data: |\n        {lines}\n    rfc3161timestamp: {{trustRootRef: ours}}\n"
    ))
}

fn keyless(root: &str, subject: &str, issuer: &str) -> String {
    policy(&format!(
        "    keyless:\n      trustRootRef: {root}\n      insecureIgnoreSCT: true\n\
         \u{20}     identities: [{{subject: \"{subject}\", issuer: \"{issuer}\"}}]\n\
         \u{20}   rfc3161timestamp: {{trustRootRef: {root}}}\n"
    ))
}

#[test]
fn a_policy_allows_what_cosign_signed_and_denies_all_else() {
    let Some(stage) = Stage::enter() else { return };
    for way in WAYS {
        let image = stage.push(&way.word(), &Image::sample(1).build(), "1");
        let other = stage.push(&way.word(), &Image::sample(2).build(), "2");
        stage.sign(way, &format!("sign {image}"));
        stage.bench.write("predicate", "{}");
        stage.sign(way, &format!("attest --type cyclonedx --predicate predicate {image}"));
        let (good, bad) = match way.by {
            By::Key => (
                keyed(&stage, "theirs.pub"),
                vec![keyed(&stage, "other.pub"), keyless("ours", SUBJECT, ISSUER)],
            ),
            By::Certificate => (
                keyless("ours", SUBJECT, ISSUER),
                vec![
                    keyless("ours", "https://git.test/other", ISSUER),
                    keyless("ours", SUBJECT, "https://other.test"),
                    keyless("strange", SUBJECT, ISSUER),
                    keyed(&stage, "theirs.pub"),
                ],
            ),
        };
        stage.bench.write("policy.yaml", &good);
        let test = format!("policy test --policy policy.yaml {ROOTS} --output json");
        let decision = json(&stage.stella.run(&format!("{test} {image}")));
        assert_eq!(
            (&decision["verdict"], &decision["reason"]),
            (&"allowed".into(), &"ok".into()),
            "{decision:#}"
        );
        assert_eq!(decision["policies"][0]["authorities"][0]["passed"], true, "{decision:#}");
        let waits = |image: &str| {
            let outcome = stage.stella.try_run(&format!("{test} {image}"));
            assert_eq!(outcome.status.code(), Some(9), "{way:?}: {outcome}");
            let decision = json(&String::from_utf8_lossy(&outcome.stdout));
            assert_ne!(decision["verdict"], "allowed", "{decision:#}");
            decision["reason"].as_str().unwrap().to_owned()
        };
        assert_eq!(waits(&other), "no-evidence");
        for wrong in bad {
            stage.bench.write("policy.yaml", &wrong);
            let reason = waits(&image);
            assert!(
                ["bad-signature", "wrong-identity"].contains(&reason.as_str()),
                "{way:?} {reason}: {wrong}"
            );
        }
        // What is said counts, not only that something is.
        for (kind, is_said) in [("cyclonedx", true), ("vuln", false)] {
            let demand = format!("    attestations: [{{name: said, predicateType: {kind}}}]\n");
            stage.bench.write("policy.yaml", good.clone() + &demand);
            if is_said {
                stage.stella.run(&format!("{test} {image}"));
            } else {
                assert_eq!(waits(&image), "wrong-predicate");
            }
        }
    }
}
