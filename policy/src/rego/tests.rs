// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of rules in Rego: both versions, what they may say, and that none runs away.

use super::*;
use std::time::{Duration, Instant};

fn ask(rule: &str, input: &str) -> Answer {
    Rego::parse(rule).unwrap().ask(input)
}

const V0: &str = r#"
package sigstore
default isCompliant = false
isCompliant {
  input.predicateType == "https://cosign.sigstore.dev/attestation/v1"
  input.predicate.Data == "foobar e2e test"
}
"#;

#[test]
fn rules_of_policy_controller_are_v0() {
    let good = r#"{"predicateType": "https://cosign.sigstore.dev/attestation/v1", "predicate": {"Data": "foobar e2e test"}}"#;
    assert_eq!(ask(V0, good), Answer::Compliant);
    assert!(matches!(ask(V0, &good.replace("foobar", "other")), Answer::Not(_)));
    assert!(matches!(ask(V0, "{}"), Answer::Not(_)));
    assert!(matches!(ask(V0, "{"), Answer::Not(_)));
}

#[test]
fn rules_of_version_1_are_known_by_their_import_or_their_form() {
    let import =
        "package sigstore\nimport rego.v1\ndefault isCompliant := false\nisCompliant if { input.a == 1 }";
    let form = "package sigstore\nisCompliant if { input.a == 1 }";
    for rule in [import, form] {
        assert_eq!(ask(rule, r#"{"a": 1}"#), Answer::Compliant, "{rule}");
        assert!(matches!(ask(rule, r#"{"a": 2}"#), Answer::Not(_)), "{rule}");
    }
    assert!(Rego::parse("package sigstore\nimport rego.v1\nisCompliant { true }").is_err());
}

#[test]
fn a_keyword_of_version_1_is_never_taken_for_a_name() {
    // The helper is v0, so it is no v1; as v0 the rule would be true for everything.
    let mixed = "package sigstore\nhelper { input.a == 1 }\nisCompliant if { helper }";
    assert!(Rego::parse(mixed).unwrap_err().contains("`if`"), "{:?}", Rego::parse(mixed));
    let imported =
        "package sigstore\nimport future.keywords.if\nhelper { input.a == 1 }\nisCompliant if { helper }";
    assert!(matches!(ask(imported, "{}"), Answer::Not(_)));
    assert_eq!(ask(imported, r#"{"a": 1}"#), Answer::Compliant);
    // Words in texts and comments are none, nor are parts of names, nor the function `contains`.
    let harmless = "package sigstore\n# if in\nisCompliant { x := \"if \\\" in\"; contains(x, input.if_in) }";
    assert_eq!(ask(harmless, r#"{"if_in": "if"}"#), Answer::Compliant);
}

#[test]
fn a_rule_may_answer_with_a_list() {
    for (value, good) in [
        ("true", true),
        ("false", false),
        (r#"[{"result": true}]"#, true),
        (r#"{"result": true, "warning": "old", "error": ""}"#, true),
        (r#"[{"result": true}, {"result": false, "error": "too old"}]"#, false),
        (r#"[{"result": true, "error": "but"}]"#, false),
        ("[]", false),
        ("[true]", false),
        ("1", false),
        (r#""true""#, false),
        ("null", false),
        ("{}", false),
        (r#"[{"result": "true"}]"#, false),
    ] {
        let answer = ask(&format!("package sigstore\nisCompliant = {value}"), "{}");
        assert_eq!(answer == Answer::Compliant, good, "{value}: {answer:?}");
    }
    let answer = ask(
        r#"package sigstore
        isCompliant = {"result": false, "error": "too old"}"#,
        "{}",
    );
    assert_eq!(answer, Answer::Not("too old".to_owned()));
}

#[test]
fn a_rule_that_cannot_be_used_is_a_load_error() {
    for (rule, says) in [
        ("isCompliant = true", "not Rego"),
        ("package other\nisCompliant = true", "package sigstore"),
        ("package sigstore\nallow = true", "isCompliant"),
        ("package sigstore\nisCompliant { x == 1 }", "not Rego"),
        ("package sigstore\nisCompliant {", "not Rego"),
        ("package sigstore\nisCompliant = rand.intn(\"a\", 2) == 1", "same each time"),
    ] {
        let why = Rego::parse(rule).unwrap_err();
        assert!(why.contains(says), "{rule}: {why}");
    }
    assert!(Rego::parse(&format!("package sigstore\nisCompliant = true\n#{}", "x".repeat(70_000))).is_err());
}

#[test]
fn a_rule_is_pure() {
    for call in [
        "time.now_ns() > 0",
        "uuid.rfc4122(\"x\") != \"\"",
        "http.send({\"url\": \"http://localhost\", \"method\": \"get\"}).status_code == 200",
        "opa.runtime().env != {}",
        "net.lookup_ip_addr(\"localhost\") != set()",
    ] {
        let rule = Rego::parse(&format!("package sigstore\nisCompliant {{ {call} }}"));
        let refused = rule.map_or(true, |rule| rule.ask("{}") != Answer::Compliant);
        assert!(refused, "{call}");
    }
    // Not even by another name.
    let alias =
        "package sigstore\nisCompliant { x := data.y with data.y as 1; rand[\"intn\"](\"a\", 1) == 0 }";
    assert!(Rego::parse(alias).map_or(true, |rule| rule.ask("{}") != Answer::Compliant));
}

#[test]
fn a_rule_that_runs_away_is_stopped() {
    let began = Instant::now();
    let loops = r"package sigstore
        isCompliant {
          x := numbers.range(1, 9999)
          count([1 | a := x[_]; b := x[_]; c := x[_]; a + b + c == 0]) == 0
        }";
    let answer = ask(loops, "{}");
    assert!(matches!(answer, Answer::OverLimit(_)), "{answer:?}");
    for (call, good) in [
        ("numbers.range(1, 3) == [1, 2, 3]", true),
        ("numbers.range(3, 1) == [3, 2, 1]", true),
        ("numbers.range_step(1, 5, 2) == [1, 3, 5]", true),
        ("count(numbers.range(1, 1000000000)) > 1", false),
        ("count(numbers.range_step(1, 1000000000, 3)) > 1", false),
        ("count(numbers.range(-9223372036854775808, 9223372036854775807)) > 1", false),
    ] {
        let answer = ask(&format!("package sigstore\nisCompliant {{ {call} }}"), "{}");
        assert_eq!(answer == Answer::Compliant, good, "{call}: {answer:?}");
    }
    let input = format!("\"{}\"", "x".repeat(5 << 20));
    assert!(matches!(ask(V0, &input), Answer::OverLimit(_)));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn deep_input_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(ask(V0, &deep), Answer::Not(_)));
}

#[test]
fn asking_is_cheap() {
    let rule = Rego::parse(V0).unwrap();
    let began = Instant::now();
    for _ in 0..200 {
        rule.ask("{}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
