// SPDX-License-Identifier: AGPL-3.0-only
//! What a denied client is told: one error `DENIED` whose message, one short ASCII line, has the rule, the reason, the
//! digest and what mends it, because that is what clients show; a link to a page that says all of it; and the same in the
//! reason phrase, which is all that some show of a HEAD (`clients-and-airgap.md` §6.3).

use std::sync::Arc;

use http::HeaderName;
use serde_json::{Value, json};
use stella_policy::Verdict;
use stella_storage::{Digest, RepoName};

use super::judge::Judgement;
use super::{Gate, Gated};
use crate::error::ApiError;

pub(crate) const DECISION: HeaderName = HeaderName::from_static("stella-decision");
pub(crate) const VERDICT: HeaderName = HeaderName::from_static("stella-verdict");
pub(crate) const CANDIDATE: HeaderName = HeaderName::from_static("stella-tag-candidate");

/// As much of why something is so is told in one line.
const WHY: usize = 100;
/// Of what mends it: a command with a long name in it must stay whole.
const FIX: usize = 400;

/// A decision, for the audit trail.
#[derive(Clone, Debug)]
pub(crate) struct Judged(pub(crate) Value);

impl Judged {
    /// Somebody saw a list, or bytes that are nobody's yet, as readers do not.
    pub(crate) fn sight() -> Self {
        Judged(json!({"preview": true}))
    }

    /// Somebody saw what readers do not get, which is said of `digest`.
    pub(crate) fn preview(digest: &Digest, judgement: &Judgement) -> Self {
        Judged(json!({
            "preview": true,
            "verdict": judgement.verdict,
            "reason": judgement.reason,
            "judged": digest.to_string(),
        }))
    }
}

impl Gate {
    /// The answer to a reader who may not have a manifest.
    pub(crate) fn denial(
        &self,
        gated: &Gated,
        repo: &RepoName,
        digest: &Digest,
        judgement: &Arc<Judgement>,
    ) -> ApiError {
        let by = judgement.policy.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
        let word = match judgement.verdict {
            Verdict::Waiting => "waits for",
            _ => "is blocked by",
        };
        let reason = judgement.reason.as_str();
        let name = format!("{}/{repo}@{digest}", gated.active.set.host());
        let why = clip(&judgement.why, WHY);
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let fix = judgement.fix.as_deref().map_or(String::new(), |fix| format!(". Fix: {}", clip(fix, FIX)));
        let message =
            format!("{name} {word} policy{by} ({reason}){why}{fix}. Why: {}", self.page(repo, digest));
        let judged = json!({
            "verdict": judgement.verdict,
            "reason": reason,
            "policy": judgement.policy,
            "policySet": gated.active.set.hash(),
            "judged": digest.to_string(),
        });
        self.metrics.denied(reason);
        let phrase = format!("Blocked by policy{by} ({reason})");
        ApiError::denied(ascii(&message)).judged(Judged(judged), &ascii(&phrase))
    }

    /// The answer to a reader who asks for a blob that nothing names.
    pub(crate) fn unnamed(&self, gated: &Gated, repo: &RepoName, digest: &Digest) -> ApiError {
        let message = format!(
            "no image in {}/{repo} that may be pulled has the blob {digest}. Fix: push the manifest that names it, and \
             have it signed",
            gated.active.set.host()
        );
        let judged = json!({"verdict": "denied", "reason": "no-policy", "judged": digest.to_string()});
        self.metrics.denied("no-policy");
        ApiError::denied(ascii(&message)).judged(Judged(judged), "Blocked by policy")
    }

    /// Where a person reads all of it.
    fn page(&self, repo: &RepoName, digest: &Digest) -> String {
        format!("{}/d/{repo}@{digest}", self.base)
    }

    /// What a pusher is told of something that readers do not get, or not yet.
    pub(crate) fn warning(&self, repo: &RepoName, digest: &Digest, judgement: &Judgement) -> String {
        let by = judgement.policy.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
        let what = match judgement.verdict {
            Verdict::Waiting => "stored, and not released yet: it waits for",
            _ => "stored, and not released: it is denied by",
        };
        let fix = judgement.fix.as_deref().map_or(String::new(), |fix| format!(". Fix: {}", clip(fix, FIX)));
        let (reason, why) = (judgement.reason.as_str(), clip(&judgement.why, WHY));
        format!("{what} policy{by} ({reason}): {why}{fix}. Why: {}", self.page(repo, digest))
    }
}

/// Clients show one line, and some of them only ASCII.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
