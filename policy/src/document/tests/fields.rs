// SPDX-License-Identifier: AGPL-3.0-only
//! Every field of both kinds of document, walked one by one.

use crate::testing::{KEY_A, block, load};

/// All fields that are honoured.
pub(super) fn whole_images() -> String {
    format!(
        r#"apiVersion: policy.sigstore.dev/v1alpha1
kind: ClusterImagePolicy
metadata:
  name: whole
spec:
  mode: warn
  images:
  - glob: "registry.example/prod/**"
  - glob: "registry.example/test/*"
  authorities:
  - name: build
    key:
      hashAlgorithm: sha256
      validFrom: "2026-01-01T00:00:00Z"
      validUntil: "2027-01-01T00:00:00Z"
      compromisedAt: "2026-12-01T00:00:00Z"
      data: |{}
    ctlog:
      url: https://log.example
      trustRootRef: private
    rfc3161timestamp:
      trustRootRef: private
    signatureFormat: bundle
    attestations:
    - name: scan
      predicateType: vuln
      policy:
        type: rego
        data: |
          package sigstore
          isCompliant = true
    - name: bom
      predicateType: https://spdx.dev/Document
  - name: people
    keyless:
      trustRootRef: private
      insecureIgnoreSCT: true
      identities:
      - issuer: https://issuer.example
        subject: joe@example.com
      - issuerRegExp: https://.*
        subjectRegExp: .*@example.com
  - name: robots
    keyless:
      url: https://ca.example
      identities:
      - issuer: https://issuer.example
        subject: robot@example.com
  - name: never
    static:
      action: fail
      message: not this one
  policy:
    type: rego
    data: |
      package sigstore
      isCompliant = 1 == 1
"#,
        block(KEY_A, 6)
    )
}

pub(super) const WHOLE_REGISTRY: &str = r#"apiVersion: policy.stella-ops.org/v1
kind: RegistryPolicy
metadata:
  name: whole
spec:
  repositories:
  - "prod/**"
  - "test"
  push: warn
  pull: warn
  whileWaiting: deny
  noMatch: allow
  count: 2
  transparency: ignored
  bindRepository: true
  noRollback: true
  maxAge: 90d
  attachments:
  - spdx
  - vex
  denyDigests:
  - sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  - sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
"#;

/// The document without line `index` and what is below it.
fn without(lines: &[&str], index: usize) -> String {
    let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let begins_item = lines[index].trim_start().starts_with("- ");
    let of = depth(lines[index]) + usize::from(begins_item) * 2;
    let below = lines[index + 1..].iter().take_while(|line| {
        // A list may stand as deep as its key.
        depth(line) > depth(lines[index]) && (!begins_item || depth(line) >= of)
            || (lines[index].ends_with(':') && depth(line) == of && line.trim_start().starts_with("- "))
    });
    let end = index + 1 + below.count();
    let kept = lines.iter().enumerate().filter(|(at, _)| *at < index || *at >= end);
    kept.flat_map(|(_, line)| [*line, "\n"]).collect()
}

/// CVE-2025-29778: a condition that is silently ignored. Whatever is taken away, renamed or emptied, the document means
/// something else or does not load.
#[test]
fn cve_2025_29778_no_field_is_ignored() {
    for whole in [whole_images(), WHOLE_REGISTRY.to_owned()] {
        let set = load(&whole).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let mut walked = 0;
        for (index, line) in lines.iter().enumerate() {
            let Some((key, value)) =
                line.split_once(':').filter(|(key, _)| !key.trim_start().starts_with('#'))
            else {
                let gone = without(&lines, index);
                assert!(
                    load(&gone).is_ok_and(|gone| gone.hash() != set.hash()) || load(&gone).is_err(),
                    "{line}"
                );
                continue;
            };
            walked += 1;
            let gone = load(&without(&lines, index));
            assert!(gone.map_or(true, |gone| gone.hash() != set.hash()), "without {line:?}");
            if key.trim_start().starts_with("- sha256") {
                continue;
            }
            let with = |line: String| {
                let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                lines[index] = line;
                load(&lines.join("\n"))
            };
            assert!(with(format!("{key}x:{value}")).is_err(), "{key}x is taken");
            let is_leaf = !value.is_empty() && !value.ends_with('|');
            if is_leaf && key.trim() != "maxAge" {
                assert!(with(format!("{key}:")).is_err(), "{key} without a value is taken");
            }
        }
        assert!(walked > 15, "{walked}");
    }
}

#[test]
fn another_value_means_something_else_or_does_not_load() {
    for (whole, from, to) in [
        (true, "name: whole", "name: other"),
        (true, "mode: warn", "mode: enforce"),
        (true, "prod/**", "prod/*"),
        (true, "- name: build", "- name: builds"),
        (true, "sha256\n", "sha384\n"),
        (true, "validFrom: \"2026-01-01T00:00:00Z\"", "validFrom: \"2026-01-01T00:00:01Z\""),
        (true, "validUntil: \"2027-01-01T00:00:00Z\"", "validUntil: \"2027-01-01T00:00:01Z\""),
        (true, "compromisedAt: \"2026-12-01T00:00:00Z\"", "compromisedAt: \"2026-12-01T00:00:01Z\""),
        (true, "bundle", "legacy"),
        (true, "name: scan", "name: scans"),
        (true, "predicateType: vuln", "predicateType: custom"),
        (true, "          isCompliant = true", "          isCompliant = false"),
        (true, "1 == 1", "1 == 2"),
        (true, "insecureIgnoreSCT: true", "insecureIgnoreSCT: false"),
        (true, "issuer: https://issuer.example", "issuer: https://other.example"),
        (true, "subject: joe", "subject: ann"),
        (true, "issuerRegExp: https", "issuerRegExp: http"),
        (true, "subjectRegExp: .*@", "subjectRegExp: .+@"),
        (true, "action: fail", "action: pass"),
        (true, "message: not", "message: never"),
        (true, "https://log.example", "https://rekor.sigstore.dev"),
        (true, "https://ca.example", "https://fulcio.sigstore.dev"),
        (false, "prod/**", "prod/*"),
        (false, "push: warn", "push: off"),
        (false, "pull: warn", "pull: enforce"),
        (false, "whileWaiting: deny", "whileWaiting: previous"),
        (false, "noMatch: allow", "noMatch: deny"),
        (false, "count: 2", "count: 3"),
        (false, "transparency: ignored", "transparency: required"),
        (false, "bindRepository: true", "bindRepository: false"),
        (false, "noRollback: true", "noRollback: false"),
        (false, "maxAge: 90d", "maxAge: 90h"),
        (false, "maxAge: 90d", "maxAge: null"),
        (false, "- vex", "- in-toto"),
        (false, "- sha256:e3", "- sha256:e4"),
    ] {
        let text = if whole { whole_images() } else { WHOLE_REGISTRY.to_owned() };
        let set = load(&text).unwrap();
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        assert!(load(&other).map_or(true, |other| other.hash() != set.hash()), "{from} -> {to}");
    }
}
