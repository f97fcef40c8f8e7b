// SPDX-License-Identifier: AGPL-3.0-only
//! Rules in Rego that take all the time or memory there is: each is stopped, and the next rule is answered.

use std::fmt::Write as _;

use super::{Desk, KEY};

/// Each says yes to everything, if only somebody waits for it.
fn hostile() -> Vec<(&'static str, String)> {
    let rule = |body: &str| format!("package sigstore\nisCompliant {{\n{body}\n}}\n");
    // `x1` is `f(x0)`, and so on.
    let chain = |first: &str, length: usize, next: fn(usize) -> String, last: &str| {
        let mut body = format!("x0 := {first}\n");
        for number in 1..=length {
            let _ = writeln!(body, "x{number} := {}", next(number - 1));
        }
        rule(&format!("{body}{}", last.replace("LAST", &format!("x{length}"))))
    };
    let nested = |open: &str, close: &str| {
        let lines = |text: &str| vec![text.repeat(500); 40].join("\n");
        rule(&format!("x := {}1{}", lines(open), lines(close)))
    };
    vec![
        (
            "a loop",
            rule(
                "x := numbers.range(1, 9999)\ncount([1 | a := x[_]; b := x[_]; c := x[_]; a + b + c == 0]) == 0",
            ),
        ),
        (
            "a list without end",
            rule("x := numbers.range(1, 9999)\ncount([{\"a\": a, \"b\": [b]} | a := x[_]; b := x[_]]) > 0"),
        ),
        (
            "a set without end",
            rule(
                "x := numbers.range(1, 9999)\ncount({sprintf(\"%d %d\", [a, b]) | a := x[_]; b := x[_]}) > 0",
            ),
        ),
        (
            "an object without end",
            rule(
                "x := numbers.range(1, 9999)\ncount({y: a | a := x[_]; b := x[_]; y := (a * 10000) + b}) > 0",
            ),
        ),
        (
            "a text that doubles",
            chain("\"xxxxxxxx\"", 40, |n| format!("concat(\"\", [x{n}, x{n}])"), "count(LAST) > 0"),
        ),
        (
            "a list that doubles",
            chain("[1, 2]", 40, |n| format!("array.concat(x{n}, x{n})"), "count(LAST) > 0"),
        ),
        (
            "a format that doubles",
            chain("\"xxxxxxxx\"", 40, |n| format!("sprintf(\"%s%s\", [x{n}, x{n}])"), "LAST != \"\""),
        ),
        (
            "a replacement of each letter by all",
            chain("\"aaaaaaaa\"", 9, |n| format!("replace(x{n}, \"a\", x{n})"), "LAST != \"\""),
        ),
        ("a number that squares", chain("3", 40, |n| format!("x{n} * x{n}"), "LAST > 0")),
        ("a shift", rule("bits.lsh(1, 100000000000) > 0")),
        ("two trees that share", {
            let tree = chain("[1]", 45, |n| format!("[x{n}, x{n}]"), "");
            let other = tree.replace('x', "y").replace("package sigstore\nisCompliant {\n", "");
            format!(
                "{}\n{}x45 == y45\n}}\n",
                tree.trim_end().trim_end_matches('}'),
                other.trim_end().trim_end_matches('}')
            )
        }),
        ("a tree written out", chain("[1]", 45, |n| format!("[x{n}, x{n}]"), "json.marshal(LAST) != \"\"")),
        ("depth in brackets", nested("[", "]")),
        ("depth in sums", nested("1+", "")),
        ("depth in calls", nested("count(", ")")),
    ]
}

fn document(desk: &Desk, rule: &str) {
    let key = std::fs::read_to_string(desk.path("cosign.pub")).unwrap();
    let block = |text: &str, depth: usize| {
        let before = " ".repeat(depth);
        text.lines().flat_map(|line| [&before, line, "\n"]).collect::<String>()
    };
    desk.write(
        "p.yaml",
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {{name: a}}\nspec:\n  images: \
             [{{glob: \"**\"}}]\n  authorities:\n  - key:\n      data: |\n{}  policy:\n    type: rego\n    data: |\n{}",
            block(&key, 8),
            block(rule, 6)
        ),
    );
}

#[test]
fn a_rule_without_end_is_stopped_in_time_and_memory() {
    let desk = Desk::new();
    let [image, _] = desk.push("app", "1");
    desk.ok(&format!("sign --key cosign.key {image}"));
    desk.ok(&format!("attest --key cosign.key --type custom --predicate file {image}"));
    for (name, rule) in hostile() {
        document(&desk, &rule);
        desk.write("rule.rego", &rule);
        for arguments in [
            format!("policy test --policy p.yaml {image}"),
            format!("verify-attestation {KEY} --type custom --policy rule.rego {image}"),
        ] {
            eprintln!("{name}:");
            let output = desk.bounded(&arguments);
            // A rule that cannot be read is wrong usage; one that is stopped has refused.
            let code = output.status.code();
            assert!(matches!(code, Some(2 | 6 | 9)), "{name}: {arguments}: {output:?}");
        }
    }
    let good = "package sigstore\nisCompliant { 1 + 1 == 2 }\n";
    document(&desk, good);
    desk.write("rule.rego", good);
    assert!(desk.bounded(&format!("policy test --policy p.yaml {image}")).status.success());
    desk.ok(&format!("verify-attestation {KEY} --type custom --policy rule.rego {image}"));
}

/// The rule is harmless; what somebody attested is not.
#[test]
fn content_that_a_rule_takes_apart_is_bounded_too() {
    let desk = Desk::new();
    let [image, _] = desk.push("app", "1");
    desk.write("commas", format!("{{\"x\": \"{}\"}}", ",".repeat(3 << 20)));
    desk.write("lists", format!("{{\"x\": [{}[]]}}", "[],".repeat(1 << 20)));
    desk.write(
        "split.rego",
        "package sigstore\nisCompliant { count(split(input.predicate.x, \",\")) > 0 }\n",
    );
    desk.write("any.rego", "package sigstore\nisCompliant { input.predicateType != \"\" }\n");
    for (predicate, rule) in [("commas", "split.rego"), ("lists", "any.rego")] {
        let kind = format!("https://example.org/{predicate}");
        desk.ok(&format!("attest --key cosign.key --type {kind} --predicate {predicate} {image}"));
        let said =
            desk.stopped(&format!("verify-attestation {KEY} --type {kind} --policy {rule} {image}"), 6);
        assert!(said.contains("over-limit"), "{said}");
    }
}

/// Whatever the rule does, it does it where nothing is: no file, no variable, no other process.
#[test]
fn the_process_of_rules_ends_with_its_program() {
    let desk = Desk::new();
    let [image, _] = desk.push("app", "1");
    desk.ok(&format!("sign --key cosign.key {image}"));
    document(&desk, "package sigstore\nisCompliant { true }\n");
    desk.ok(&format!("policy test --policy p.yaml {image}"));
    // By hand it waits for questions, and ends with them.
    let output = desk.run("evaluate-rules");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}
