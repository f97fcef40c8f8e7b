// SPDX-License-Identifier: AGPL-3.0-only
//! Documents and decisions for a person, as trees. What others wrote is printed without control characters.

use std::fmt::Write as _;

use stella_policy::{AuthorityOutcome, Decision, EvidenceOutcome, PolicySet, Reason, Verdict};

/// What documents demand.
pub(super) fn documents(policies: &PolicySet) -> String {
    let mut text = String::new();
    for one in policies.summary() {
        line(&mut text, 0, &format!("{}: {}", one.at, one.title));
        one.lines.iter().for_each(|demand| line(&mut text, 1, demand));
    }
    line(&mut text, 0, &format!("policy set {}", policies.hash()));
    text
}

/// A decision, from what came out to what it came from.
pub(super) fn decision(decision: &Decision) -> String {
    let mut text = String::new();
    let verdict = match decision.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Waiting => "waiting",
        Verdict::Denied => "denied",
    };
    line(&mut text, 0, &format!("{} {}", decision.reference, decision.digest));
    line(&mut text, 0, &told(verdict, decision.reason, &decision.why));
    if let Some(fix) = &decision.fix {
        line(&mut text, 0, &format!("fix: {fix}"));
    }
    if let Some(until) = decision.valid_until {
        line(&mut text, 0, &format!("valid until {until}"));
    }
    for policy in &decision.policies {
        let warns = if policy.enforced { "" } else { " (only warns)" };
        let name = format!("policy {:?}{warns}: {}", policy.name, passed(policy.passed));
        line(&mut text, 1, &told(&name, policy.reason, &policy.why));
        policy.authorities.iter().for_each(|one| authority(&mut text, one));
    }
    line(&mut text, 0, &format!("policy set {}, trust root {}", decision.policy_set, decision.trust_root));
    text
}

fn authority(text: &mut String, authority: &AuthorityOutcome) {
    let name = format!("authority {:?}: {}", authority.name, passed(authority.passed));
    line(text, 2, &told(&name, authority.reason, &authority.why));
    authority.evidence.iter().for_each(|one| evidence(text, one));
}

fn evidence(text: &mut String, evidence: &EvidenceOutcome) {
    let form = serde_json::to_value(evidence.form).ok().and_then(|form| form.as_str().map(str::to_owned));
    let signer = evidence.signer.as_deref().unwrap_or("nobody who is named");
    let name = format!("{} {} by {signer}", evidence.digest, form.unwrap_or_default());
    line(text, 3, &told(&name, evidence.reason, &evidence.why));
}

fn passed(passed: bool) -> &'static str {
    if passed { "satisfied" } else { "not satisfied" }
}

fn told(what: &str, reason: Reason, why: &str) -> String {
    match (reason, why) {
        (Reason::Ok, "") => what.to_owned(),
        (Reason::Ok, why) => format!("{what}: {why}"),
        (reason, "") => format!("{what}: {}", reason.as_str()),
        (reason, why) => format!("{what}: {}: {why}", reason.as_str()),
    }
}

fn line(text: &mut String, depth: usize, what: &str) {
    let clean: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _infallible = writeln!(text, "{:1$}{clean}", "", depth * 2);
}
