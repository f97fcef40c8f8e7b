// SPDX-License-Identifier: AGPL-3.0-only
//! What one authority makes of all evidence: which facts count, and, if too few do, what came nearest.

use std::cmp::Ordering;

use crate::authority::{Attestation, Authority, Demand, Who};
use crate::decision::{AuthorityOutcome, EvidenceOutcome, told_of};
use crate::rego::Answer;
use crate::{Claim, Digest, Fact, Reason, Rejected, Time, Verified};

use super::binding::{Question, Refusal, bind, refuse};

/// The most evidence that a decision tells of for one authority.
const MOST_TOLD: usize = 64;

/// A fact that counts.
#[derive(Clone, Debug)]
pub(super) struct Found<'f> {
    pub(super) fact: &'f Fact,
    /// The earliest trusted time.
    pub(super) signed_at: Option<Time>,
    /// Which of the authority's attestations it is.
    pub(super) attestations: Vec<usize>,
}

/// What an authority says.
#[derive(Clone, Debug)]
pub(super) struct Opinion<'f> {
    pub(super) outcome: AuthorityOutcome,
    /// All that counts; empty where the authority is not satisfied or asks for no evidence.
    pub(super) found: Vec<Found<'f>>,
    /// When the oldest fact was signed that counts, even if others are missing.
    pub(super) oldest: Option<Time>,
}

/// What an authority by itself makes of evidence, without a policy around it.
#[derive(Clone, Debug)]
pub struct Examined<'f> {
    /// The facts that satisfy it; none if it is not satisfied.
    pub facts: Vec<&'f Fact>,
    /// Why, and what was looked at.
    pub outcome: AuthorityOutcome,
}

impl Authority {
    /// Compares evidence with what this authority asks for of one artifact.
    pub fn examine<'f>(
        &self,
        artifact: &Digest,
        facts: &'f [Verified<Fact>],
        rejected: &[Rejected],
        now: Time,
    ) -> Examined<'f> {
        let question = Question::plain(artifact, now);
        let opinion = examine(self, &question, &in_order(facts), &rejected_in_order(rejected));
        let facts = opinion.found.into_iter().map(|found| found.fact).collect();
        Examined { facts, outcome: opinion.outcome }
    }
}

/// Each fact once, in an order that does not depend on how they came.
pub(super) fn in_order(facts: &[Verified<Fact>]) -> Vec<&Fact> {
    let mut facts: Vec<&Fact> = facts.iter().map(|fact| &**fact).collect();
    facts.sort_by(|a, b| {
        let cheap = (&a.evidence, a.form, &a.signer).cmp(&(&b.evidence, b.form, &b.signer));
        cheap.then_with(|| if a == b { Ordering::Equal } else { text(a).cmp(&text(b)) })
    });
    facts.dedup();
    facts
}

/// Only for facts that differ in what is seldom compared.
fn text(fact: &Fact) -> String {
    serde_json::to_string(fact).unwrap_or_default()
}

pub(super) fn rejected_in_order(rejected: &[Rejected]) -> Vec<&Rejected> {
    let mut rejected: Vec<&Rejected> = rejected.iter().collect();
    rejected.sort_by(|a, b| {
        (nearness(b.reason), &a.evidence, a.form, &a.said_signer, &a.why).cmp(&(
            nearness(a.reason),
            &b.evidence,
            b.form,
            &b.said_signer,
            &b.why,
        ))
    });
    rejected.dedup();
    rejected
}

pub(super) fn examine<'f>(
    authority: &Authority,
    question: &Question<'_>,
    facts: &[&'f Fact],
    rejected: &[&Rejected],
) -> Opinion<'f> {
    let (mut found, mut told) = (Vec::new(), Vec::new());
    match &authority.who {
        Who::Pass => return fixed(authority, true, "static: pass"),
        Who::Fail(message) => return fixed(authority, false, &format!("static: fail: {message}")),
        Who::Keys(_) | Who::Certificates { .. } => {}
    }
    for fact in facts {
        let taken = bind(authority, question, fact).and_then(|signed_at| {
            let attestations = contents(authority, question, fact)?;
            Ok(Found { fact, signed_at, attestations })
        });
        let (passed, reason, why) = match taken {
            Ok(one) => {
                found.push(one);
                (true, Reason::Ok, String::new())
            }
            Err(Refusal { reason, why }) => (false, reason, why),
        };
        let signer = Some(told_of(&fact.signer));
        told.push(EvidenceOutcome {
            digest: fact.evidence.clone(),
            form: fact.form,
            signer,
            passed,
            reason,
            why,
        });
    }
    told.extend(rejected.iter().take(MOST_TOLD).map(|rejected| EvidenceOutcome {
        digest: rejected.evidence.clone(),
        form: rejected.form,
        signer: rejected.said_signer.clone(),
        passed: false,
        reason: rejected.reason,
        why: rejected.why.clone(),
    }));
    let oldest = found.iter().filter_map(|found| found.signed_at).min();
    let missing = missing(authority, &found);
    let (passed, reason, why) = match missing {
        None => (true, Reason::Ok, String::new()),
        Some(what) => {
            let (reason, why) = nearest(&told, &what);
            found.clear();
            (false, reason, why)
        }
    };
    told.sort_by_key(|one| (!one.passed, std::cmp::Reverse(nearness(one.reason))));
    told.truncate(MOST_TOLD);
    let outcome = AuthorityOutcome { name: authority.name.clone(), passed, reason, evidence: told, why };
    Opinion { outcome, found, oldest }
}

fn fixed<'f>(authority: &Authority, passed: bool, why: &str) -> Opinion<'f> {
    let reason = if passed { Reason::Ok } else { Reason::DeniedDigest };
    let (name, why) = (authority.name.clone(), why.to_owned());
    let outcome = AuthorityOutcome { name, passed, reason, evidence: Vec::new(), why };
    Opinion { outcome, found: Vec::new(), oldest: None }
}

/// What the authority still lacks. Each attestation must be there: that others are is nothing (CVE-2022-35929).
fn missing(authority: &Authority, found: &[Found<'_>]) -> Option<String> {
    match &authority.demand {
        Demand::Signature | Demand::Artifact => found.is_empty().then(|| "no signature".to_owned()),
        Demand::Attestations(list) => {
            let lacks = |index: usize| !found.iter().any(|found| found.attestations.contains(&index));
            let first = list.iter().enumerate().find(|(index, _)| lacks(*index));
            match first {
                Some((_, one)) => Some(format!("no attestation {:?} ({})", one.name, one.predicate_type)),
                // A list that asks for nothing is satisfied by nothing.
                None => found.is_empty().then(|| "no attestation".to_owned()),
            }
        }
    }
}

/// Which of the attestations that are asked for this is.
fn contents(authority: &Authority, question: &Question<'_>, fact: &Fact) -> Result<Vec<usize>, Refusal> {
    let Demand::Attestations(list) = &authority.demand else { return Ok(Vec::new()) };
    let Claim::Statement { predicate_type, statement, .. } = &fact.claim else {
        return refuse(Reason::WrongPredicate, "no attestation");
    };
    let mut of = Vec::new();
    let mut no = None;
    for (index, wanted) in list.iter().enumerate().filter(|(_, one)| one.predicate_type == *predicate_type) {
        match content(wanted, question, statement) {
            Ok(()) => of.push(index),
            Err(refusal) => no = no.or(Some(refusal)),
        }
    }
    match no {
        _ if !of.is_empty() => Ok(of),
        Some(refusal) => Err(refusal),
        None => refuse(Reason::WrongPredicate, format!("of the type {predicate_type}")),
    }
}

fn content(wanted: &Attestation, question: &Question<'_>, statement: &[u8]) -> Result<(), Refusal> {
    let Some(rule) = &wanted.rule else { return Ok(()) };
    let Ok(statement) = std::str::from_utf8(statement) else {
        return refuse(Reason::Malformed, "the statement is not UTF-8");
    };
    answered(question, || rule.ask(statement))
}

/// Asks a rule, unless rules have run out of time too often already.
pub(super) fn answered(question: &Question<'_>, ask: impl FnOnce() -> Answer) -> Result<(), Refusal> {
    let left = question.strikes.get();
    if left == 0 {
        return refuse(Reason::OverLimit, "rules took too much time before this one");
    }
    match ask() {
        Answer::Compliant => Ok(()),
        Answer::Not(why) => refuse(Reason::PredicateRejected, why),
        Answer::OverLimit(why) => {
            question.strikes.set(left - 1);
            refuse(Reason::OverLimit, why)
        }
    }
}

/// What came nearest tells most.
fn nearest(told: &[EvidenceOutcome], what: &str) -> (Reason, String) {
    let failed = told.iter().filter(|one| !one.passed);
    let nearest = failed.max_by(|a, b| {
        nearness(a.reason)
            .cmp(&nearness(b.reason))
            .then_with(|| (&b.digest, &b.why).cmp(&(&a.digest, &a.why)))
    });
    match nearest {
        None if told.is_empty() => (Reason::NoEvidence, what.to_owned()),
        None => (Reason::WrongPredicate, what.to_owned()),
        Some(one) => (one.reason, format!("{what}: {}", one.why)),
    }
}

/// How far evidence came before it was refused.
pub(super) fn nearness(reason: Reason) -> u8 {
    match reason {
        Reason::NoPolicy | Reason::NoEvidence => 0,
        Reason::Unsupported => 1,
        Reason::Malformed => 2,
        Reason::WrongIdentity => 3,
        Reason::BadSignature => 4,
        Reason::WrongPredicate => 5,
        Reason::WrongSubject => 6,
        Reason::RepositoryMismatch => 7,
        Reason::TlogMissing => 8,
        Reason::TlogInvalid => 9,
        Reason::NoTrustedTime => 10,
        Reason::Expired => 11,
        Reason::TooOld => 12,
        Reason::PredicateRejected => 13,
        Reason::OverLimit => 14,
        Reason::TooFewSigners | Reason::Rollback | Reason::DeniedDigest => 15,
        Reason::Ok => 16,
    }
}
