// SPDX-License-Identifier: AGPL-3.0-only
//! What holds of the fold for any facts.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::testing::{artifact, image};
use crate::{Digest, Form, Log, PolicySet, Time};

/// Facts of all kinds: right ones and ones that are wrong by one thing.
fn fact() -> impl Strategy<Value = Fact> {
    let signer = prop_oneof![
        Just(signed_by(KEY_A)),
        Just(signed_by(KEY_B)),
        Just(signed_as("joe@x")),
        Just(signed_as("ann@x")),
        Just(signed_as("nobody")),
    ];
    let claim = prop_oneof![
        Just(statement(crate::SIGN_V1, "{}")),
        Just(statement(CUSTOM, r#"{"level": 3}"#)),
        Just(statement(CUSTOM, r#"{"level": 1}"#)),
        Just(image("registry.example/prod/app")),
        Just(image("")),
    ];
    let log = prop_oneof![Just(Log::Absent), Just(logged("private")), Just(Log::Wrong("bad".to_owned()))];
    let form = prop_oneof![Just(Form::Bundle), Just(Form::LegacySignature)];
    let at = proptest::option::of(-200_i64..0);
    (signer, claim, log, form, at, 0_u8..6).prop_map(|(fact, claim, log, form, at, evidence)| Fact {
        evidence: Digest::of(&[evidence]),
        claim,
        log,
        form,
        times: at.map(|at| time(NOW.0 + at, TimeSource::Log, "private")).into_iter().collect(),
        ..fact
    })
}

/// Documents of all kinds.
fn documents() -> impl Strategy<Value = String> {
    let people = with_identity("(joe|ann)@x");
    let authorities = prop_oneof![
        Just(with_key(KEY_A)),
        Just(with_key(&format!("{KEY_A}\n{KEY_B}"))),
        Just(people.clone()),
        Just(format!("{}    attestations: [{{name: a, predicateType: custom}}]\n", with_key(KEY_A))),
        Just(format!("{people}{}", with_key(KEY_B).replace("  authorities:\n", ""))),
        Just("  authorities: [{static: {action: pass}}]".to_owned()),
    ];
    let rules = prop_oneof![
        Just("  transparency: ignored"),
        Just("  transparency: required"),
        Just("  transparency: ignored\n  count: 2"),
        Just("  transparency: ignored\n  maxAge: 100s"),
        Just("  transparency: ignored\n  bindRepository: true"),
        Just("  transparency: ignored\n  noRollback: true"),
    ];
    (authorities.clone(), proptest::option::of(authorities), rules).prop_map(|(one, two, rules)| {
        let two = two.map(|two| images("two", &two)).unwrap_or_default();
        images("one", &one) + &two + &registry("r", rules)
    })
}

fn subjects() -> impl Strategy<Value = Subject> {
    proptest::option::of(-200_i64..0)
        .prop_map(|last| Subject { last_released: last.map(|last| Time(NOW.0 + last)), ..subject() })
}

/// What proves nothing, said to be of anybody.
fn rejected() -> impl Strategy<Value = Rejected> {
    let reason = prop_oneof![
        Just(Reason::Malformed),
        Just(Reason::BadSignature),
        Just(Reason::TlogInvalid),
        Just(Reason::OverLimit),
        Just(Reason::WrongSubject),
    ];
    let form = prop_oneof![Just(Form::Bundle), Just(Form::LegacySignature)];
    (0_u8..6, reason, form, any::<bool>()).prop_map(|(evidence, reason, form, is_said)| Rejected {
        evidence: Digest::of(&[evidence]),
        form,
        said_signer: is_said.then(|| format!("key {}", crate::testing::fingerprint(KEY_A))),
        reason,
        why: "why".to_owned(),
    })
}

fn run(set: &PolicySet, subject: &Subject, facts: &[Fact], now: Time) -> Decision {
    set.judge(subject, &verified(facts.to_vec()), &[], now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_order_of_facts_never_matters(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..8), order in prop::collection::vec(any::<Index>(), 8)) {
        let set = load(&documents).unwrap();
        let mut other = facts.clone();
        for (at, index) in order.iter().enumerate().take(facts.len()) {
            other.swap(at, index.index(facts.len()));
        }
        prop_assert_eq!(run(&set, &subject, &facts, NOW), run(&set, &subject, &other, NOW));
    }

    #[test]
    fn more_facts_never_take_an_allowance_away(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..8), more in prop::collection::vec(fact(), 0..4)) {
        let set = load(&documents).unwrap();
        let before = run(&set, &subject, &facts, NOW).verdict;
        let all: Vec<Fact> = facts.into_iter().chain(more).collect();
        let after = run(&set, &subject, &all, NOW).verdict;
        prop_assert!(after <= before, "{:?} then {:?}", before, after);
    }

    #[test]
    fn what_is_rejected_changes_no_verdict_in_any_order(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..5), rejected in prop::collection::vec(rejected(), 0..8)) {
        let set = load(&documents).unwrap();
        let facts = verified(facts);
        let with = |rejected: &[Rejected]| set.judge(&subject, &facts, rejected, NOW);
        let reversed: Vec<Rejected> = rejected.iter().rev().cloned().collect();
        prop_assert_eq!(with(&rejected).verdict, with(&[]).verdict);
        prop_assert_eq!(with(&rejected), with(&reversed));
    }

    #[test]
    fn facts_that_come_twice_count_once(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..8)) {
        let set = load(&documents).unwrap();
        let twice: Vec<Fact> = facts.iter().chain(&facts).cloned().collect();
        prop_assert_eq!(run(&set, &subject, &facts, NOW), run(&set, &subject, &twice, NOW));
    }

    #[test]
    fn a_decision_holds_until_it_says(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..8), later in 0_i64..400) {
        let set = load(&documents).unwrap();
        let now = run(&set, &subject, &facts, NOW);
        let at = now.valid_until.map_or(NOW.0 + later, |until| until.0.min(NOW.0 + later));
        let then = run(&set, &subject, &facts, Time(at));
        prop_assert_eq!((now.verdict, now.reason, now.signed_at), (then.verdict, then.reason, then.signed_at));
        if let Some(until) = now.valid_until {
            prop_assert!(until >= NOW);
        }
    }

    #[test]
    fn nothing_is_allowed_without_evidence_but_by_a_fixed_answer(documents in documents(), subject in subjects()) {
        let set = load(&documents).unwrap();
        let fixed = !documents.contains("keyless") && !documents.contains("key:");
        prop_assert_eq!(run(&set, &subject, &[], NOW).verdict == Verdict::Allowed, fixed);
    }

    #[test]
    fn facts_about_others_change_nothing(documents in documents(), subject in subjects(), facts in prop::collection::vec(fact(), 0..6)) {
        let set = load(&documents).unwrap();
        let elsewhere = Subject { digest: Digest::of(b"elsewhere"), ..subject };
        prop_assume!(elsewhere.digest != artifact());
        let (with, without) = (run(&set, &elsewhere, &facts, NOW), run(&set, &elsewhere, &[], NOW));
        prop_assert_eq!(with.verdict, without.verdict);
    }

    #[test]
    fn a_denied_digest_is_denied_whatever_is_said(documents in documents(), facts in prop::collection::vec(fact(), 0..8)) {
        let text = documents + &registry("deny", &format!("  denyDigests: [\"{}\"]", artifact()));
        let decision = run(&load(&text).unwrap(), &subject(), &facts, NOW);
        prop_assert_eq!(says(&decision), (Verdict::Denied, Reason::DeniedDigest));
    }
}
