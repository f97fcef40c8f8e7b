// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of the fold: that each field of a policy can refuse, and what comes out where it does.

mod advisories;
mod fields;
mod properties;

use crate::testing::{
    CUSTOM, KEY_A, KEY_B, NOW, images, load, logged, registry, signed_as, signed_by, statement, subject,
    time, verified, with_identity, with_key,
};
use crate::{
    Authority, Decision, Fact, LogRule, Reason, Rejected, Subject, TimeSource, TrustedKey, Verdict, Window,
};

/// Judges the artifact by these documents.
fn judge(documents: &str, facts: impl IntoIterator<Item = Fact>) -> Decision {
    judge_of(documents, &subject(), facts, &[])
}

fn judge_of(
    documents: &str,
    subject: &Subject,
    facts: impl IntoIterator<Item = Fact>,
    rejected: &[Rejected],
) -> Decision {
    let set = load(documents).unwrap_or_else(|why| panic!("{documents}\n{why}"));
    set.judge(subject, &verified(facts), rejected, NOW)
}

/// What a reader of the JSON sees first.
fn says(decision: &Decision) -> (Verdict, Reason) {
    (decision.verdict, decision.reason)
}

const ALLOWED: (Verdict, Reason) = (Verdict::Allowed, Reason::Ok);

fn waits(reason: Reason) -> (Verdict, Reason) {
    (Verdict::Waiting, reason)
}

/// A key, and a registry that asks for no log.
fn plain(more: &str) -> String {
    images("app", &format!("{}{more}", with_key(KEY_A))) + &registry("r", "  transparency: ignored")
}

#[test]
fn the_decision_has_the_form_that_programs_read() {
    let set = load(&plain("")).unwrap();
    let rejected = Rejected {
        evidence: crate::Digest::of(b"junk"),
        form: crate::Form::LegacySignature,
        said_signer: None,
        reason: Reason::BadSignature,
        why: "not of this key".to_owned(),
    };
    let decision = set.judge(&subject(), &verified([signed_by(KEY_A)]), std::slice::from_ref(&rejected), NOW);
    let key = crate::testing::fingerprint(KEY_A);
    let wanted = serde_json::json!({
        "ref": "registry.example/prod/app:1",
        "repository": "prod/app",
        "digest": crate::testing::artifact(),
        "verdict": "allowed",
        "reason": "ok",
        "fix": null,
        "policySet": set.hash(),
        "trustRoot": set.trust_root(),
        "validUntil": null,
        "policies": [{"name": "app", "passed": true, "authorities": [{
            "name": "authority-0", "passed": true, "reason": "ok", "evidence": [
                {"digest": crate::Digest::of(KEY_A.as_bytes()), "form": "bundle", "signer": format!("key {key}"),
                 "passed": true, "reason": "ok"},
                {"digest": crate::Digest::of(b"junk"), "form": "legacy-signature", "signer": null, "passed": false,
                 "reason": "bad-signature"},
            ],
        }]}],
    });
    assert_eq!(serde_json::to_value(&decision).unwrap(), wanted);
    let aged = load(&(images("app", &with_identity("joe@.*")) + &registry("r", "  maxAge: 1d"))).unwrap();
    let aged = aged.judge(&subject(), &verified([signed_as("joe@x")]), &[], NOW);
    assert_eq!(serde_json::to_value(&aged).unwrap()["validUntil"], "2027-01-16T07:58:20Z");
}

#[test]
fn a_failure_says_what_mends_it() {
    let at = format!("registry.example/prod/app@{}", crate::testing::artifact());
    for (documents, facts, fix) in [
        (plain(""), vec![], format!("cosign sign --key KEY {at}")),
        (images("app", &with_identity("joe@.*")), vec![], format!("cosign sign {at}")),
        (
            plain("    rfc3161timestamp: {}"),
            vec![signed_by(KEY_A)],
            format!("cosign sign --key KEY --timestamp-server-url URL {at}"),
        ),
        (
            plain("    attestations: [{name: a, predicateType: custom}]"),
            vec![],
            format!("cosign attest --key KEY --type {CUSTOM} --predicate FILE {at}"),
        ),
    ] {
        let decision = judge(&documents, facts);
        assert_eq!((decision.verdict, decision.fix), (Verdict::Waiting, Some(fix)));
        assert!(!decision.why.is_empty());
    }
    let bound = registry("r", "  transparency: ignored\n  bindRepository: true");
    let decision = judge(&(images("app", &with_key(KEY_A)) + &bound), [signed_by(KEY_A)]);
    let fix = decision.fix.unwrap();
    assert!(fix.contains("-a org.stella-ops.repository=registry.example/prod/app"), "{fix}");
}

#[test]
fn any_authority_is_enough_and_every_policy_must_pass() {
    let two = format!("{}{}", with_key(KEY_A), with_key(KEY_B).replace("  authorities:\n", ""));
    let either = images("app", &two);
    assert_eq!(says(&judge(&either, [signed_by(KEY_A)])), ALLOWED);
    assert_eq!(says(&judge(&either, [signed_by(KEY_B)])), ALLOWED);
    assert_eq!(says(&judge(&either, [])), waits(Reason::NoEvidence));
    let both = images("one", &with_key(KEY_A)) + &images("two", &with_key(KEY_B));
    assert_eq!(says(&judge(&both, [signed_by(KEY_A)])), waits(Reason::WrongIdentity));
    assert_eq!(says(&judge(&both, [signed_by(KEY_A), signed_by(KEY_B)])), ALLOWED);
}

#[test]
fn a_policy_that_only_warns_is_told_and_does_not_count() {
    let warn = images("warn", &format!("  mode: warn\n{}", with_key(KEY_B)));
    let decision = judge(&warn, []);
    assert_eq!(says(&decision), ALLOWED);
    assert!(!decision.policies[0].passed && !decision.policies[0].enforced);
    let with = images("app", &with_key(KEY_A)) + &warn;
    assert_eq!(says(&judge(&with, [signed_by(KEY_A)])), ALLOWED);
    assert_eq!(says(&judge(&with, [])), waits(Reason::NoEvidence));
    // Nor does whoever satisfies it count as a signer.
    let counted = with + &registry("r", "  count: 2\n  transparency: ignored");
    assert_eq!(says(&judge(&counted, [signed_by(KEY_A), signed_by(KEY_B)])), waits(Reason::TooFewSigners));
}

#[test]
fn what_no_policy_is_about_is_denied_unless_a_document_allows_it() {
    let other = images("app", &with_key(KEY_A)).replace("\"**\"", "registry.example/test/*");
    assert_eq!(says(&judge(&other, [signed_by(KEY_A)])), (Verdict::Denied, Reason::NoPolicy));
    let allow = other.clone() + &registry("r", "  noMatch: allow");
    assert_eq!(says(&judge(&allow, [])), ALLOWED);
    let strict = allow + &registry("s", "");
    assert_eq!(says(&judge(&strict, [])), (Verdict::Denied, Reason::NoPolicy));
}

#[test]
fn a_fixed_answer_looks_at_no_evidence() {
    let pass =
        images("app", "  authorities: [{static: {action: pass}}]") + &registry("r", "  noRollback: true");
    assert_eq!(says(&judge(&pass, [])), ALLOWED);
    let fail = images("app", "  authorities: [{static: {action: fail, message: not this}}]");
    let decision = judge(&fail, [signed_by(KEY_A)]);
    assert_eq!(decision.verdict, Verdict::Denied);
    assert!(decision.why.contains("not this"), "{}", decision.why);
    // Beside another authority it is only one that never helps.
    let beside = images("app", &format!("{}  - static: {{action: fail}}\n", with_key(KEY_A)));
    assert_eq!(says(&judge(&beside, [signed_by(KEY_A)])), ALLOWED);
    assert_eq!(says(&judge(&beside, [])), waits(Reason::NoEvidence));
    // A pass of one policy is none of another.
    let both = pass + &images("key", &with_key(KEY_A));
    assert_eq!(judge(&both, []).verdict, Verdict::Waiting);
}

#[test]
fn an_authority_with_attestations_needs_each_of_them_and_looks_at_no_signature() {
    let documents = plain(
        "    attestations:\n    - {name: a, predicateType: custom}\n    - {name: b, predicateType: spdx}\n",
    );
    let attested = |predicate_type: &str| Fact {
        claim: statement(predicate_type, "{}"),
        evidence: crate::Digest::of(predicate_type.as_bytes()),
        ..signed_by(KEY_A)
    };
    let (custom, spdx) = (attested(CUSTOM), attested("https://spdx.dev/Document"));
    assert_eq!(says(&judge(&documents, [signed_by(KEY_A)])), waits(Reason::WrongPredicate));
    assert_eq!(says(&judge(&documents, [custom.clone()])), waits(Reason::WrongPredicate));
    assert_eq!(says(&judge(&documents, [spdx.clone()])), waits(Reason::WrongPredicate));
    let decision = judge(&documents, [custom.clone(), spdx.clone()]);
    assert_eq!(says(&decision), ALLOWED);
    let wrong = Fact { signer: signed_by(KEY_B).signer, ..spdx };
    assert_ne!(judge(&documents, [custom, wrong]).verdict, Verdict::Allowed);
}

#[test]
fn a_rule_about_an_attestation_decides_by_its_content() {
    let documents = plain(
        "    attestations:\n    - name: a\n      predicateType: custom\n      policy:\n        type: rego\n        \
         data: |\n          package sigstore\n          isCompliant { input.predicate.level >= 3 }\n",
    );
    let attested = |level: u8| Fact {
        claim: statement(CUSTOM, &format!(r#"{{"level": {level}}}"#)),
        evidence: crate::Digest::of(&[level]),
        ..signed_by(KEY_A)
    };
    assert_eq!(says(&judge(&documents, [attested(2)])), waits(Reason::PredicateRejected));
    assert_eq!(says(&judge(&documents, [attested(3)])), ALLOWED);
    assert_eq!(says(&judge(&documents, [attested(2), attested(3)])), ALLOWED, "one is enough");
}

#[test]
fn a_rule_of_a_policy_sees_what_its_authorities_found() {
    let with = |rule: &str| {
        let spec = format!(
            "{}  - name: people\n    keyless:\n      trustRootRef: private\n      identities: [{{issuer: \
             https://issuer.example, subjectRegExp: .*}}]\n  policy:\n    type: rego\n    data: |\n      package \
             sigstore\n      isCompliant {{ {rule} }}\n",
            with_key(KEY_A)
        );
        judge(&images("app", &spec), [signed_by(KEY_A), signed_as("joe@x")])
    };
    for good in [
        "count(input.authorityMatches) == 2",
        "input.authorityMatches[\"authority-0\"].signatures[0].id != \"\"",
        "input.authorityMatches.people.signatures[_].subject == \"joe@x\"",
        "input.authorityMatches.people.signatures[_].issuer == \"https://issuer.example\"",
    ] {
        assert_eq!(says(&with(good)), ALLOWED, "{good}");
    }
    let decision = with("input.authorityMatches.people.signatures[_].subject == \"ann@x\"");
    assert_eq!(says(&decision), waits(Reason::PredicateRejected));
}

#[test]
fn rules_that_run_away_are_stopped_for_all_evidence_together() {
    let rule = "isCompliant { x := numbers.range(1, 9999); count([1 | a := x[_]; b := x[_]; c := x[_]; a + b + c == 0]) == 1 }";
    let documents = plain(&format!(
        "    attestations:\n    - name: a\n      predicateType: custom\n      policy:\n        type: rego\n        data: \
         |\n          package sigstore\n          {rule}\n"
    ));
    let attested = |index: u32| Fact {
        claim: statement(CUSTOM, &format!("{index}")),
        evidence: crate::Digest::of(&index.to_be_bytes()),
        ..signed_by(KEY_A)
    };
    let began = std::time::Instant::now();
    assert_eq!(says(&judge(&documents, (0..200).map(attested))), waits(Reason::OverLimit));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

/// 10 000 items that prove nothing: bounded in time, and in what is told of them.
#[test]
fn junk_neither_hides_a_signature_nor_fills_a_decision() {
    let junk: Vec<Rejected> = (0..10_000_u32)
        .map(|index| Rejected {
            evidence: crate::Digest::of(&index.to_be_bytes()),
            form: crate::Form::Bundle,
            said_signer: Some("key of somebody".to_owned()),
            reason: Reason::Malformed,
            why: "not JSON".to_owned(),
        })
        .collect();
    let began = std::time::Instant::now();
    let decision = judge_of(&plain(""), &subject(), [signed_by(KEY_A)], &junk);
    assert_eq!(says(&decision), ALLOWED);
    let told = &decision.policies[0].authorities[0].evidence;
    assert!(told[0].passed && told.len() <= 64, "{}", told.len());
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn the_command_line_asks_with_the_same_fold() {
    let keys = TrustedKey::all_of_pem(KEY_A, None, Window::default()).unwrap();
    let of_key = Authority::of_keys("--key", keys);
    let facts = verified([signed_by(KEY_A), signed_by(KEY_B)]);
    let artifact = crate::testing::artifact();
    assert_eq!(of_key.examine(&artifact, &facts, &[], NOW).outcome.reason, Reason::TlogMissing);
    let offline = of_key.clone().with_log(LogRule::Ignored);
    let found = offline.examine(&artifact, &facts, &[], NOW);
    assert!(found.outcome.passed && found.facts.len() == 1);
    let wanted = [("team".to_owned(), "a".to_owned())].into();
    let annotated = offline.clone().with_annotations(wanted);
    assert_eq!(annotated.examine(&artifact, &facts, &[], NOW).outcome.reason, Reason::PredicateRejected);
    let mut with = signed_by(KEY_A);
    if let crate::Claim::Statement { subjects, .. } = &mut with.claim {
        subjects[0].1.insert("team".to_owned(), "a".into());
    }
    assert!(annotated.examine(&artifact, &verified([with]), &[], NOW).outcome.passed);
    let stamped = offline.clone().with_timestamp(crate::Roots::Any);
    assert_eq!(stamped.examine(&artifact, &facts, &[], NOW).outcome.reason, Reason::NoTrustedTime);
    let blob = Fact { claim: crate::Claim::Blob { digest: artifact.clone() }, ..signed_by(KEY_A) };
    let blob = verified([blob]);
    assert!(!offline.examine(&artifact, &blob, &[], NOW).outcome.passed);
    let other = crate::Digest::of(b"other");
    assert_eq!(
        offline.clone().for_artifact().examine(&other, &blob, &[], NOW).outcome.reason,
        Reason::WrongSubject
    );
    assert!(offline.clone().for_artifact().examine(&artifact, &blob, &[], NOW).outcome.passed);
    assert!(offline.clone().for_artifact().examine(&artifact, &facts, &[], NOW).outcome.passed);
    let attested = offline.for_attestation("custom", Some("package sigstore\nisCompliant { true }")).unwrap();
    let custom = verified([Fact { claim: statement(CUSTOM, "{}"), ..signed_by(KEY_A) }]);
    assert!(attested.examine(&artifact, &custom, &[], NOW).outcome.passed);
    assert!(!attested.examine(&artifact, &facts, &[], NOW).outcome.passed);
}
