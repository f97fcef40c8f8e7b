// SPDX-License-Identifier: AGPL-3.0-only
//! What one `ClusterImagePolicy` says: any authority is enough, and then its own rule must agree.

use serde_json::{Map, Value, json};

use crate::authority::{Authority, Demand, Who};
use crate::decision::PolicyOutcome;
use crate::image_policy::{ImagePolicy, Mode};
use crate::{Fact, Reason, Rejected, Signer};

use super::binding::Question;
use super::examine::{Found, Opinion, answered, examine, nearness};
use super::fix;

/// A policy's outcome, and what it came from.
pub(super) struct Judged<'f> {
    pub(super) outcome: PolicyOutcome,
    /// Whether no evidence can satisfy it.
    pub(super) is_hopeless: bool,
    /// What to do, as a function of the image's name.
    nearest: Option<Authority>,
    found: Vec<Found<'f>>,
    without_evidence: bool,
    /// When the oldest fact was signed that counts for any authority.
    pub(super) oldest: Option<crate::Time>,
}

impl<'f> Judged<'f> {
    /// The facts that count; none if the policy is not satisfied.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Found<'f>> + Clone {
        self.found.iter()
    }

    pub(super) fn passed_without_evidence(&self) -> bool {
        self.without_evidence
    }

    /// The command that mends it.
    pub(super) fn fix(&self, image: &str) -> String {
        fix::of_authority(self.nearest.as_ref(), self.outcome.reason, image)
    }
}

pub(super) fn judge<'f>(
    policy: &ImagePolicy,
    question: &Question<'_>,
    facts: &[&'f Fact],
    rejected: &[&Rejected],
) -> Judged<'f> {
    let opinions: Vec<(&Authority, Opinion<'f>)> = policy
        .authorities
        .iter()
        .map(|authority| (authority, examine(authority, question, facts, rejected)))
        .collect();
    let any = opinions.iter().any(|(_, opinion)| opinion.outcome.passed);
    let ruled = match &policy.rule {
        Some(rule) if any => answered(question, || rule.ask(&input(&opinions).to_string())),
        _ => Ok(()),
    };
    let nearest = opinions
        .iter()
        .filter(|(authority, opinion)| !opinion.outcome.passed && !authority.is_static())
        .reduce(|a, b| if nearness(b.1.outcome.reason) > nearness(a.1.outcome.reason) { b } else { a });
    let (passed, reason, why) = match (any, ruled) {
        (true, Ok(())) => (true, Reason::Ok, String::new()),
        (true, Err(refusal)) => (false, refusal.reason, format!("its rule: {}", refusal.why)),
        (false, _) => match nearest.or(opinions.first().as_ref().copied()) {
            Some((authority, opinion)) => (
                false,
                opinion.outcome.reason,
                format!("authority {:?}: {}", authority.name, opinion.outcome.why),
            ),
            None => (false, Reason::NoEvidence, "it has no authority".to_owned()),
        },
    };
    let is_static_pass = |(authority, _): &(&Authority, Opinion<'f>)| matches!(authority.who, Who::Pass);
    let outcome = PolicyOutcome {
        name: policy.name.clone(),
        passed,
        authorities: opinions.iter().map(|(_, opinion)| opinion.outcome.clone()).collect(),
        enforced: policy.mode == Mode::Enforce,
        reason,
        why,
    };
    Judged {
        oldest: opinions.iter().filter_map(|(_, opinion)| opinion.oldest).min(),
        is_hopeless: policy.authorities.iter().all(|authority| matches!(authority.who, Who::Fail(_))),
        nearest: nearest.map(|(authority, _)| (*authority).clone()),
        without_evidence: passed && opinions.iter().any(is_static_pass),
        found: if passed {
            opinions.into_iter().flat_map(|(_, opinion)| opinion.found).collect()
        } else {
            Vec::new()
        },
        outcome,
    }
}

/// What the rule of a whole policy is given: `{authorityMatches: {NAME: {signatures, attestations, static}}}`, of the
/// authorities that are satisfied.
fn input(opinions: &[(&Authority, Opinion<'_>)]) -> Value {
    let mut matches = Map::new();
    for (authority, opinion) in opinions.iter().filter(|(_, opinion)| opinion.outcome.passed) {
        let value = match &authority.demand {
            _ if authority.is_static() => json!({"static": true}),
            Demand::Attestations(list) => {
                let named = list.iter().enumerate().map(|(index, one)| {
                    let of = opinion.found.iter().filter(|found| found.attestations.contains(&index));
                    let entries = of.map(|found| {
                        let mut entry = signature(found.fact);
                        entry.insert("predicateType".to_owned(), json!(one.predicate_type));
                        Value::Object(entry)
                    });
                    (one.name.clone(), Value::Array(entries.collect()))
                });
                json!({"attestations": named.collect::<Map<_, _>>()})
            }
            Demand::Signature | Demand::Artifact => {
                let entries = opinion.found.iter().map(|found| Value::Object(signature(found.fact)));
                json!({"signatures": entries.collect::<Vec<_>>()})
            }
        };
        matches.insert(authority.name.clone(), value);
    }
    json!({"authorityMatches": matches})
}

fn signature(fact: &Fact) -> Map<String, Value> {
    let mut entry = Map::new();
    if let Signer::Certificate { issuer, subject, extensions, .. } = &fact.signer {
        entry.extend(extensions.iter().map(|(name, value)| (name.clone(), json!(value))));
        entry.insert("issuer".to_owned(), json!(issuer));
        entry.insert("subject".to_owned(), json!(subject));
    }
    entry.insert("id".to_owned(), json!(fact.evidence));
    entry
}
