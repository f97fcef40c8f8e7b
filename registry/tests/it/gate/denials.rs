// SPDX-License-Identifier: AGPL-3.0-only
//! What a denial says: one short line that every client can show, with what mends it whole.

use std::fs;

use serde_json::json;

use super::{Gated, HOST};
use crate::client::get;
use crate::role::{OCI_MANIFEST, sha256};

#[test]
fn a_denial_is_one_line_of_ascii_whose_fix_can_be_typed() {
    let gated = Gated::start("");
    let repo = format!("prod/{}", "long-name/".repeat(20)) + "app";
    let pushed = gated.push(&repo, "1", "one");
    let name = format!("{HOST}/{repo}@{}", pushed.digest);
    for answer in [gated.pull(&repo, "1"), gated.pull(&repo, &pushed.digest)] {
        let message = gated.denied(&answer);
        assert!(message.starts_with(&name), "{message}");
        let (_, fix) = message.split_once(". Fix: ").unwrap();
        assert!(fix.starts_with(&format!("cosign sign --key KEY {name}. Why: ")), "{message}");
        assert!(message.ends_with(&format!("http://{HOST}/d/{repo}@{}", pushed.digest)), "{message}");
    }
    // A blob is denied for the image that names it.
    let message = gated.denied(&gated.send("reader", get(format!("/v2/{repo}/blobs/{}", pushed.layer))));
    assert!(message.starts_with(&name), "{message}");
    // What a policy says is told, as far as there is room, and as every terminal shows it.
    let text = format!("nicht für\\n die Öffentlichkeit \\u001b[31m{}", "x".repeat(500));
    let policy = format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: never}}\nspec:\n  images: \
         [{{glob: \"{HOST}/prod/never\"}}]\n  authorities:\n  - name: nobody\n    static: {{action: fail, message: \
         \"{text}\"}}\n"
    );
    fs::write(gated.path("never.yaml"), policy).unwrap();
    fs::rename(gated.path("never.yaml"), gated.path("policies/never.yaml")).unwrap();
    gated.policy("noMatch: allow");
    gated.push("prod/never", "1", "one");
    let message = gated.denied(&gated.pull("prod/never", "1"));
    assert!(message.contains("nicht f?r") && message.contains("..."), "{message}");
    assert!(message.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{message}");
    assert!(message.len() < 1_000, "{message}");
}

#[test]
fn a_denied_attachment_says_what_it_hangs_on() {
    let gated = Gated::start("");
    let pushed = gated.push("prod/app", "1", "one");
    let document = "{\"spdxVersion\": \"SPDX-2.3\"}";
    let layer = gated.push_blob("ci", "prod/app", document);
    let empty = gated.push_blob("ci", "prod/app", "{}");
    let attach = |subject: &str| {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/spdx+json",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [{"mediaType": "application/spdx+json", "digest": layer, "size": document.len()}],
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 7},
        })
        .to_string();
        let answer = gated.put("ci", "prod/app", &sha256(&manifest), &manifest).is(201);
        assert_eq!(answer.must("stella-verdict"), "waiting", "{answer}");
        sha256(&manifest)
    };
    // Its subject, with what mends that, is named.
    let waits = attach(&pushed.digest);
    let message = gated.denied(&gated.pull("prod/app", &waits));
    assert!(message.contains("no-evidence") && message.contains("Fix: cosign sign"), "{message}");
    assert!(message.contains(&format!("prod/app@{}. Why", pushed.digest)), "{message}");
    let missing = sha256("nothing");
    let orphan = attach(&missing);
    let message = gated.denied(&gated.pull("prod/app", &orphan));
    assert!(message.contains("waits for policy (wrong-subject)") && message.contains(&missing), "{message}");
    // Nobody is told that readers get it.
    for digest in [&waits, &orphan] {
        let explain = format!("/api/stella/v1/policy/explain?ref=prod/app@{digest}");
        let decision = gated.send("reader", get(explain)).is(200).json();
        assert_eq!(
            (&decision["readable"], &decision["verdict"]),
            (&json!(false), &json!("waiting")),
            "{decision}"
        );
        assert_eq!(decision["kind"], "attachment");
        gated.run("reader", &["status", &gated.at(&format!("prod/app@{digest}"))]).is(9);
    }
    gated.sign("prod/app", "1", &[]);
    gated.pull("prod/app", &waits).is(200);
    let explain = format!("/api/stella/v1/policy/explain?ref=prod/app@{waits}");
    assert_eq!(gated.send("reader", get(explain)).is(200).json()["readable"], true);
}
