// SPDX-License-Identifier: AGPL-3.0-only
//! The fold: policies, facts, subject and time to a decision. Pure: it reads nothing and remembers nothing, the order of
//! facts does not matter, and a fact more never makes an allowed artifact less than allowed. What denies is written in a
//! policy: a digest on a list, an authority that is `static: fail`, a repository that no policy is about.

mod binding;
mod examine;
mod fix;
mod policy;

pub use examine::Examined;

use crate::decision::{Decision, PolicyOutcome, Verdict};
use crate::registry_policy::{NoMatch, Rules, Transparency};
use crate::{Digest, Fact, PolicySet, Reason, Rejected, Signer, Time, Verified};

use binding::Question;
use policy::Judged;

/// What is judged.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As it was asked for; only told.
    pub reference: String,
    /// The repository's name, without the host.
    pub repository: String,
    /// The manifest's digest, which evidence must name.
    pub digest: Digest,
    /// Other digests that it is known by or made of: SHA-256 of the manifest, where `digest` is none, of its
    /// configuration and of its layers. For lists of denied digests.
    pub parts: Vec<Digest>,
    /// When what the tag released before this was signed (`Decision::signed_at` of then), if it did.
    pub last_released: Option<Time>,
    /// When this was released, if it was: its age is that of then.
    pub released_at: Option<Time>,
}

impl PolicySet {
    /// Decides, from what is proven (`facts`), what is said but not proven (`rejected`), and the time.
    pub fn judge(
        &self,
        subject: &Subject,
        facts: &[Verified<Fact>],
        rejected: &[Rejected],
        now: Time,
    ) -> Decision {
        let rules = self.rules(&subject.repository);
        let name = format!("{}/{}", self.host, subject.repository);
        let question = Question {
            artifact: &subject.digest,
            repository: rules.bind_repository.then_some(name.as_str()),
            logged: rules.transparency == Transparency::Required,
            max_age: rules.max_age,
            now,
            aged_at: subject.released_at.unwrap_or(now),
            strikes: Question::no_strikes(),
        };
        let facts = examine::in_order(facts);
        let rejected = examine::rejected_in_order(rejected);
        let about = self.images.iter().filter(|policy| policy.is_about(&name, &subject.digest));
        let judged: Vec<Judged<'_>> =
            about.map(|policy| policy::judge(policy, &question, &facts, &rejected)).collect();
        let image = format!("{name}@{}", subject.digest);
        let decided = decide(&rules, subject, &judged, &image);
        let enforced = judged.iter().filter(|judged| judged.outcome.enforced);
        let signed_at = enforced.flat_map(Judged::counted).filter_map(|found| found.signed_at).max();
        // Past its age evidence no longer counts; the released keep the age they had.
        let oldest = judged.iter().filter_map(|judged| judged.oldest).min();
        let flips = match (rules.max_age, oldest, subject.released_at) {
            (Some(age), Some(at), None) => Some(Time(at.0.saturating_add(age))),
            _ => None,
        };
        // A time that is later than now counts once the clock here has caught up with it.
        let caught_up = facts
            .iter()
            .flat_map(|fact| &fact.times)
            .filter(|time| binding::is_ahead(time.at, now))
            .map(|time| Time(time.at.0 - binding::LEEWAY - 1))
            .min();
        Decision {
            reference: subject.reference.clone(),
            repository: subject.repository.clone(),
            digest: subject.digest.clone(),
            verdict: decided.verdict,
            reason: decided.reason,
            fix: decided.fix,
            policy_set: self.hash().clone(),
            trust_root: self.trust_root().clone(),
            valid_until: flips.into_iter().chain(caught_up).min(),
            policies: judged.into_iter().map(|judged| judged.outcome).collect(),
            why: decided.why,
            signed_at,
        }
    }
}

/// What comes out, without what it came from.
struct Decided {
    verdict: Verdict,
    reason: Reason,
    why: String,
    fix: Option<String>,
}

fn decide(rules: &Rules, subject: &Subject, judged: &[Judged<'_>], image: &str) -> Decided {
    let waiting =
        |reason, why: String, fix| Decided { verdict: Verdict::Waiting, reason, why, fix: Some(fix) };
    let denied = |reason, why: String, fix| Decided { verdict: Verdict::Denied, reason, why, fix: Some(fix) };
    let allowed =
        |why: &str| Decided { verdict: Verdict::Allowed, reason: Reason::Ok, why: why.to_owned(), fix: None };
    let listed =
        std::iter::once(&subject.digest).chain(&subject.parts).find(|d| rules.deny_digests.contains(d));
    if let Some(listed) = listed {
        let why = format!("{listed} is on a list of denied digests");
        return denied(Reason::DeniedDigest, why, fix::denied_digest());
    }
    if judged.is_empty() {
        return match rules.no_match {
            NoMatch::Allow => allowed("no ClusterImagePolicy is about it, and noMatch is allow"),
            NoMatch::Deny => denied(
                Reason::NoPolicy,
                "no ClusterImagePolicy is about it".to_owned(),
                fix::no_policy(image),
            ),
        };
    }
    let mut failing = judged.iter().filter(|judged| judged.outcome.enforced && !judged.outcome.passed);
    if let Some(hopeless) = failing.clone().find(|judged| judged.is_hopeless) {
        return denied(
            Reason::DeniedDigest,
            told(&hopeless.outcome),
            fix::always_fails(&hopeless.outcome.name),
        );
    }
    if let Some(failed) = failing.next() {
        let fix = failed.fix(image);
        return waiting(failed.outcome.reason, told(&failed.outcome), fix);
    }
    // What follows is asked of evidence, so not of what passes without any.
    let enforced = || judged.iter().filter(|judged| judged.outcome.enforced);
    if enforced().all(Judged::passed_without_evidence) {
        return allowed("its policies ask for no evidence");
    }
    let found: Vec<_> = enforced().flat_map(Judged::counted).collect();
    let signers = distinct(found.iter().map(|found| &found.fact.signer));
    if signers < rules.count as usize {
        let why = format!("{signers} of {} distinct signers", rules.count);
        return waiting(Reason::TooFewSigners, why, fix::another_signer(image));
    }
    if rules.no_rollback {
        let Some(signed_at) = found.iter().filter_map(|found| found.signed_at).max() else {
            let why = "noRollback needs a verified time, and nothing proves one".to_owned();
            return waiting(Reason::NoTrustedTime, why, fix::with_time(image));
        };
        if subject.last_released.is_some_and(|last| signed_at < last) {
            let why = "it was signed before what was released last".to_owned();
            return waiting(Reason::Rollback, why, fix::sign_again(image));
        }
    }
    allowed("all policies about it are satisfied")
}

fn told(outcome: &PolicyOutcome) -> String {
    format!("policy {:?}: {}", outcome.name, outcome.why)
}

/// How many different signers these are: by key, or by issuer and subject. Not by signature: who signs twice counts once
/// (GHSA-9vcr-p3rj-q5q6).
fn distinct<'a>(signers: impl Iterator<Item = &'a Signer>) -> usize {
    let known_by = |signer: &'a Signer| match signer {
        Signer::Key { fingerprint } => ("", fingerprint.as_str()),
        Signer::Certificate { issuer, subject, .. } => (issuer.as_str(), subject.as_str()),
    };
    signers.map(known_by).collect::<std::collections::BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests;
