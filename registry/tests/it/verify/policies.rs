// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy check` and `stella policy test`.

use std::fs;

use super::{Desk, json};

fn document(desk: &Desk, name: &str, key: &str) {
    let key = fs::read_to_string(desk.path(key)).unwrap();
    let key: String = key.lines().flat_map(|line| ["\n        ", line]).collect();
    desk.write(
        name,
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: signed}}\nspec:\n  images: \
             [{{glob: \"**\"}}]\n  authorities:\n  - name: us\n    key:\n      data: |{key}\n"
        ),
    );
}

#[test]
fn a_decision_is_told_as_a_tree_and_as_json_and_nine_is_not_allowed() {
    let desk = Desk::new();
    document(&desk, "p.yaml", "cosign.pub");
    document(&desk, "other.yaml", "other.pub");
    let [image, by_digest] = desk.push("app", "1");
    let digest = by_digest.split_once('@').unwrap().1;
    let test = |arguments: &str| {
        let output = desk.run(&format!("policy test {arguments}"));
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = test(&format!("--policy p.yaml {image}"));
    assert!(
        code == 9 && said.contains("waiting: no-evidence") && said.contains("fix: cosign sign"),
        "{said}"
    );
    desk.ok(&format!("sign --key cosign.key {image}"));
    let (code, said) = test(&format!("--policy p.yaml {image}"));
    assert!(code == 0 && said.contains("allowed"), "{said}");
    let (code, said) = test(&format!("--policy p.yaml --output json {image}"));
    let decision = json(&said);
    assert_eq!((code, &decision["verdict"], &decision["reason"]), (0, &json("\"allowed\""), &json("\"ok\"")));
    assert_eq!(
        (&decision["ref"], &decision["digest"]),
        (&json(&format!("{image:?}")), &json(&format!("{digest:?}")))
    );
    assert_eq!(decision["repository"], "app");
    let evidence = &decision["policies"][0]["authorities"][0]["evidence"][0];
    assert_eq!((&evidence["form"], &evidence["passed"]), (&json("\"bundle\""), &json("true")), "{said}");
    let (code, said) = test(&format!("--policy other.yaml --output json {image}"));
    let decision = json(&said);
    assert_eq!((code, &decision["reason"]), (9, &json("\"bad-signature\"")), "{said}");
    // Both must be satisfied; two of one name in one set are an error.
    assert!(
        desk.fails(&format!("policy test --policy p.yaml --policy other.yaml {image}"), 2).contains("signed")
    );

    // The same in a layout, under the name that it would have.
    desk.ok(&format!("copy --referrers {image} oci:saved:1"));
    let (code, said) = test("--policy p.yaml --repository r.test/prod/app --output json oci-layout:saved");
    assert_eq!((code, &json(&said)["repository"]), (0, &json("\"prod/app\"")), "{said}");

    // What is denied by its digest cannot be mended by evidence.
    desk.write(
        "deny.yaml",
        format!(
            "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {{name: deny}}\nspec:\n  repositories: \
             [\"**\"]\n  transparency: ignored\n  denyDigests: [\"{digest}\"]\n"
        ),
    );
    let (code, said) = test(&format!("--policy p.yaml --policy deny.yaml {image}"));
    assert!(code == 9 && said.contains("denied: denied-digest"), "{said}");
}

#[test]
fn documents_are_told_by_what_they_demand_and_faults_by_their_place() {
    let desk = Desk::new();
    document(&desk, "p.yaml", "cosign.pub");
    let said = desk.ok("policy check p.yaml");
    assert!(said.contains("p.yaml:3:") && said.contains("ClusterImagePolicy \"signed\""), "{said}");
    assert!(
        said.contains("us: a signature by the P-256 key ") && said.contains("no log is asked for"),
        "{said}"
    );
    let text = fs::read_to_string(desk.path("p.yaml")).unwrap();
    desk.write("bad.yaml", text.replace("  images:", "  unknown: 1\n  images:"));
    let said = desk.fails("policy check p.yaml bad.yaml", 2);
    assert!(said.contains("bad.yaml:5:3: spec.unknown"), "{said}");
}
