// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of documents: that each field of both kinds is honoured or refused, with the place of what is wrong.

mod fields;

use crate::testing::{KEY_A, KEY_B, images, load, registry, with_key};
use fields::{WHOLE_REGISTRY, whole_images};

fn why(text: &str) -> String {
    load(text).map_or_else(|why| why, |set| panic!("it loads: {:?}", set.images))
}

#[test]
fn what_a_registry_policy_does_not_say_is_as_the_documentation_says() {
    let said = registry(
        "said",
        "  push: enforce\n  pull: enforce\n  whileWaiting: previous\n  noMatch: deny\n  count: 1\n  transparency: \
         required\n  bindRepository: false\n  noRollback: false\n  maxAge: null\n  attachments: [spdx, cyclonedx, \
         in-toto, vex]\n  denyDigests: []",
    );
    assert_eq!(load(&said).unwrap().hash(), load(&registry("said", "")).unwrap().hash());
}

#[test]
fn faults_say_where_they_are() {
    let text = images("app", &format!("{}    sources: []", with_key(KEY_A)));
    let faults = why(&text);
    assert!(faults.starts_with("p.yaml:14:5: spec.authorities[0].sources: not a field here"), "{faults}");
    let two = why(
        "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {name: a}\nspec:\n  count: 0\n",
    );
    let lines: Vec<&str> = two.lines().collect();
    assert_eq!(
        lines,
        ["p.yaml:5:3: spec.repositories: it is missing", "p.yaml:5:10: spec.count: it is 1 to 100"]
    );
    let second = why(&format!("{}---\nkind: X\napiVersion: v1\n", registry("a", "")));
    assert!(second.starts_with("p.yaml:9:7: kind: "), "{second}");
}

#[test]
fn what_is_not_done_here_is_refused_in_words_that_help() {
    let key = with_key(KEY_A);
    let keyless = |more: &str| {
        format!("  authorities:\n  - keyless:\n      identities: [{{issuer: a, subject: b}}]\n{more}")
    };
    let attested = |policy: &str| {
        format!("{key}    attestations:\n    - name: a\n      predicateType: custom\n      policy: {policy}")
    };
    for (spec, field, says) in [
        ("  authorities: [{key: {kms: \"awskms:///arn\"}}]".to_owned(), "key.kms", "data"),
        ("  authorities: [{key: {secretRef: {name: a}}}]".to_owned(), "key.secretRef", "data"),
        (format!("{key}    source: [{{oci: other.example/sigs}}]"), "source", "nowhere else"),
        (format!("{key}  match: [{{resource: pods}}]"), "spec.match", "cluster"),
        (format!("{key}  policy: {{type: cue, data: \"a: 1\"}}"), "policy.type", "rewrite"),
        (attested("{type: cue, data: \"a: 1\"}"), "policy.type", "rego"),
        (attested("{type: rego, remote: {url: \"https://a\"}}"), "policy.remote", "fetched"),
        (attested("{type: rego, configMapRef: {name: a}}"), "policy.configMapRef", "data"),
        (attested("{type: rego, data: x}"), "policy.data", "not Rego"),
        (attested("{type: rego, data: x, includeSpec: false}"), "includeSpec", "whole document"),
        (format!("{key}  policy: {{type: rego, data: x, includeSpec: true}}"), "includeSpec", "leave it out"),
        (
            format!("{key}  policy: {{type: rego, data: x, fetchConfigFile: true}}"),
            "fetchConfigFile",
            "leave",
        ),
        (
            format!("{key}  policy: {{type: rego, data: x, includeObjectMeta: true}}"),
            "includeObjectMeta",
            "leave",
        ),
        (
            format!("{key}  policy: {{type: rego, data: x, includeTypeMeta: true}}"),
            "includeTypeMeta",
            "leave",
        ),
        (keyless("      ca-cert: {data: x}"), "keyless.ca-cert.data", "no certificate in PEM"),
        (keyless("      url: https://nobody.example"), "keyless.url", "no certificate authority"),
        (keyless("      trustRootRef: nobody"), "keyless.trustRootRef", "configured: public, private, copy"),
        (format!("{key}    ctlog: {{url: \"https://nobody.example\"}}"), "ctlog.url", "no transparency log"),
        (format!("{key}    ctlog: {{trustRootRef: nobody}}"), "ctlog.trustRootRef", "no trust root"),
        (
            format!("{key}    ctlog: {{trustRootRef: public, url: \"https://log.example\"}}"),
            "ctlog.url",
            "no transparency log",
        ),
        (format!("{key}    rfc3161timestamp: {{trustRootRef: nobody}}"), "rfc3161timestamp", "no trust root"),
        (
            format!("{}    ctlog: {{trustRootRef: public}}", keyless("      trustRootRef: private\n")),
            "authorities[0]",
            "own trust root",
        ),
        (
            format!(
                "{}    rfc3161timestamp: {{trustRootRef: public}}",
                keyless("      trustRootRef: private\n")
            ),
            "authorities[0]",
            "own trust root",
        ),
    ] {
        let faults = why(&images("app", &spec));
        assert!(faults.contains(field) && faults.contains(says), "{spec}\n{faults}");
    }
    let status = why(&format!("{}status: {{}}\n", images("app", &key)));
    assert!(status.contains("status"), "{status}");
}

/// The documents of policy-controller's own tests (test/testdata/policy-controller/{invalid,valid} at f925c0c), by what
/// is in them.
#[test]
fn what_policy_controller_refuses_is_refused() {
    let identity = |one: &str| {
        format!(
            "  authorities:\n  - keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - {one}"
        )
    };
    for spec in [
        "  authorities: [{keyless: {}, key: {}}]".to_owned(),
        "  authorities: [{key: {}}]".to_owned(),
        "  authorities: [{rfc3161timestamp: {trustRootRef: private}}]".to_owned(),
        "  authorities: []".to_owned(),
        String::new(),
        format!("  mode: garbage\n{}", with_key(KEY_A)),
        "  authorities: [{key: {data: \"---somedata---\"}}]".to_owned(),
        identity("{issuerRegExp: \"****\", subject: a}"),
        identity("{issuer: a, subjectRegExp: \"****\"}"),
        identity("{subject: testsubject}"),
        identity("{issuer: testissuer}"),
        identity("{issuer: a, issuerRegExp: a, subject: a}"),
        identity("{issuer: a, subject: a, subjectRegExp: a}"),
        identity("{}"),
        "  authorities: [{keyless: {url: \"https://fulcio.sigstore.dev\"}}]".to_owned(),
        "  authorities: [{keyless: {url: \"https://fulcio.sigstore.dev\", identities: []}}]".to_owned(),
        "  authorities: [{static: {}}]".to_owned(),
        "  authorities: [{static: {action: maybe}}]".to_owned(),
        "  authorities: [{static: {action: pass, message: no}}]".to_owned(),
        "  authorities: [{static: {action: pass}, attestations: [{name: a, predicateType: custom}]}]"
            .to_owned(),
        "  authorities: [{static: {action: pass}, ctlog: {}}]".to_owned(),
        "  authorities: [{static: {action: pass}, rfc3161timestamp: {}}]".to_owned(),
        format!("{}    attestations: [{{predicateType: custom}}]", with_key(KEY_A)),
        format!("{}    attestations: [{{name: a}}]", with_key(KEY_A)),
        format!("{}    attestations: [{{name: a, predicateType: cyclonDX}}]", with_key(KEY_A)),
        format!("{}    attestations: []", with_key(KEY_A)),
        format!("{}    attestations:", with_key(KEY_A)),
        format!("{}      hashAlgorithm: md5", with_key(KEY_A)),
        format!("{}      hashAlgorithm: sha224", with_key(KEY_A)),
        format!("{}      hashAlgorithm: sha512", with_key(KEY_A)),
        format!("{}      validFrom: yesterday", with_key(KEY_A)),
        format!(
            "{}      validFrom: \"2026-02-01T00:00:00Z\"\n      validUntil: \"2026-01-01T00:00:00Z\"",
            with_key(KEY_A)
        ),
        format!("{}    signatureFormat: any", with_key(KEY_A)),
        "  authorities: [{name: a, static: {action: pass}}, {name: a, static: {action: pass}}]".to_owned(),
    ] {
        assert!(load(&images("app", &spec)).is_err(), "{spec}");
    }
    for globs in ["[{glob: \"[\"}]", "[]", "[{}]", "[{glob: \"\"}]", "[{glob: \"ghcr.io/a:1.0\"}]"] {
        let text = images("app", &with_key(KEY_A)).replace("[{glob: \"**\"}]", globs);
        assert!(load(&text).is_err(), "{globs}");
    }
}

#[test]
fn what_policy_controller_takes_and_is_done_here_loads() {
    for spec in [
        with_key(KEY_A),
        with_key(&format!("{KEY_A}\n{KEY_B}")),
        format!("  mode: enforce\n{}", with_key(KEY_A)),
        format!("{}      hashAlgorithm: sha256", with_key(KEY_A)),
        "  authorities: [{keyless: {identities: [{issuer: a, subject: b}]}}]".to_owned(),
        "  authorities: [{keyless: {url: \"https://fulcio.sigstore.dev/\", identities: [{issuer: a, subject: b}]}}]"
            .to_owned(),
        "  authorities: [{keyless: {trustRootRef: private, identities: [{issuerRegExp: .*kubernetes.default.*, \
         subjectRegExp: .*subject.*}]}, ctlog: {trustRootRef: private}, rfc3161timestamp: {}}]"
            .to_owned(),
        "  authorities: [{static: {action: pass}}]".to_owned(),
        format!("{}    ctlog: {{}}", with_key(KEY_A)),
        format!("{}    rfc3161timestamp: {{}}", with_key(KEY_A)),
    ] {
        let set = load(&images("app", &spec)).unwrap_or_else(|why| panic!("{spec}\n{why}"));
        assert_eq!(set.images.len(), 1);
    }
    let described = images("app", &with_key(KEY_A))
        .replace("{name: app}", "{name: app, labels: {team: a}, annotations: {note: \"x\"}}");
    assert!(load(&described).is_ok());
    assert!(load(&described.replace("labels", "ownerReferences")).is_err());
    assert!(load(&described.replace("team: a", "team: 1")).is_err());
}

#[test]
fn a_registry_policy_takes_its_own_words_only() {
    for spec in [
        "  push: \"on\"",
        "  push: true",
        "  pull: Enforce",
        "  whileWaiting: last",
        "  noMatch: warn",
        "  count: 0",
        "  count: 101",
        "  count: 1.5",
        "  count: \"2\"",
        "  count: -1",
        "  transparency: optional",
        "  bindRepository: yes",
        "  noRollback: 1",
        "  maxAge: 90",
        "  maxAge: 0d",
        "  maxAge: -1d",
        "  maxAge: 90 d",
        "  maxAge: 99999999999999999999d",
        "  maxAge: 40000d",
        "  attachments: spdx",
        "  attachments: [sbom]",
        "  denyDigests: [\"sha256:00\"]",
        "  denyDigests: [\"SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]",
        "  denyDigests: [1]",
        "  mode: warn",
        "  count:",
        "  push: ~",
    ] {
        assert!(load(&registry("r", spec)).is_err(), "{spec}");
    }
    for repositories in ["[]", "[\"Prod/**\"]", "prod", "[\"a**\"]", "[1]"] {
        let text = registry("r", "").replace("[\"**\"]", repositories);
        assert!(load(&text).is_err(), "{repositories}");
    }
    for spec in ["  push: off", "  pull: \"off\"", "  maxAge: 12h", "  attachments: []", "  denyDigests: []"]
    {
        load(&registry("r", spec)).unwrap();
    }
}

#[test]
fn traps_of_yaml_are_closed() {
    let good = registry("r", "  count: 2");
    load(&good).unwrap();
    let bomb = {
        let levels = (1..9).map(|level| {
            format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(","))
        });
        format!("a0: &a0 [x]\n{}", levels.collect::<String>())
    };
    for (bad, what) in [
        (good.replace("  count: 2", "  count: 1\n  count: 2"), "a key that stands twice"),
        (good.replace("  count: 2", "  <<: {count: 2}"), "a merge key"),
        (good.replace("count: 2", "count: !mine 2"), "a tag"),
        (good.replace("count: 2", "count: 2\0"), "a NUL"),
        (good.replace("count: 2", "count: \u{202e}2"), "a character that turns the line"),
        (good.replace("name: r", "name: 1"), "a number for a name"),
        (good.replace("name: r", "name: null"), "nothing for a name"),
        (good.replace("name: r", "name: \"\""), "an empty name"),
        (good.replace("kind: RegistryPolicy", "kind: [RegistryPolicy]"), "a list for a kind"),
        (good.replace("policy.stella-ops.org/v1", "policy.stella-ops.org/v2"), "another version"),
        (good.replace("policy.stella-ops.org/v1", "policy.sigstore.dev/v1beta1"), "another's version"),
        (bomb, "aliases of aliases"),
        (format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000)), "depth"),
        (format!("a: {}", "{b: ".repeat(5_000)), "depth of sections"),
        ("- a\n".repeat(30_000), "many nodes"),
        ("--- a\n".repeat(2_000), "many documents"),
        ("a: [".to_owned(), "no end"),
        (String::new(), "nothing"),
        ("# nothing\n---\n---\n".to_owned(), "nothing but comments"),
        ("just text".to_owned(), "text"),
        ("- a".to_owned(), "a list"),
        (format!("{good}{good}"), "a name twice"),
    ] {
        let began = std::time::Instant::now();
        let faults = load(&bad).map_or_else(|why| why, |_| panic!("{what} loads"));
        assert!(!faults.is_empty(), "{what}");
        assert!(began.elapsed().as_secs() < 5, "{what}: {:?}", began.elapsed());
    }
}

#[test]
fn an_alias_that_repeats_a_little_is_taken() {
    let text = registry("r", "  push: &same warn\n  pull: *same");
    assert_eq!(
        load(&text).unwrap().hash(),
        load(&registry("r", "  push: warn\n  pull: warn")).unwrap().hash()
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(at in 0_usize..2_000, with in "[ -~\n\0é&*!\\[\\]{}]{0,6}", whole in proptest::bool::ANY) {
        let text = if whole { whole_images() } else { WHOLE_REGISTRY.to_owned() };
        let at = at.min(text.len());
        let (before, after) = text.split_at(at);
        let cut: String = after.chars().skip(with.len()).collect();
        let _ = load(&format!("{before}{with}{cut}"));
    }
}
