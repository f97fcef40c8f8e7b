// SPDX-License-Identifier: AGPL-3.0-only
//! What the gate counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stella_policy::Verdict;
use stella_storage::Histogram;

use super::Judgement;
use crate::metrics::text::{Kind, Page};

/// Decisions that are told apart; policies are named by an operator, so there are few.
const DISTINCT: usize = 1_000;

/// Upper bounds of how long judging takes, in microseconds.
const MICROS: &[u64; 10] = &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];
/// Upper bounds of the time from a push to its release, in milliseconds.
const MILLIS: &[u64; 10] =
    &[10, 100, 1_000, 10_000, 60_000, 300_000, 1_800_000, 7_200_000, 86_400_000, 604_800_000];

/// A policy's name, a reason and a verdict.
type Decided = (String, &'static str, &'static str);

/// Counters of the gate.
pub(crate) struct GateMetrics {
    judged: Mutex<BTreeMap<Decided, u64>>,
    denied: Mutex<BTreeMap<&'static str, u64>>,
    took: Histogram<10>,
    to_release: Histogram<10>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    pending: AtomicU64,
}

impl Default for GateMetrics {
    fn default() -> Self {
        GateMetrics {
            judged: Mutex::default(),
            denied: Mutex::default(),
            took: Histogram::new(MICROS),
            to_release: Histogram::new(MILLIS),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            pending: AtomicU64::new(0),
        }
    }
}

impl GateMetrics {
    pub(super) fn judged(&self, judgement: &Judgement) {
        self.took.observe(u64::try_from(judgement.cost.as_micros()).unwrap_or(u64::MAX));
        let verdict = match judgement.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Waiting => "waiting",
            Verdict::Denied => "denied",
        };
        let policy = judgement.policy.clone().unwrap_or_default();
        let key = (policy, judgement.reason.as_str(), verdict);
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if judged.len() < DISTINCT || judged.contains_key(&key) {
            *judged.entry(key).or_default() += 1;
        }
    }

    pub(super) fn denied(&self, reason: &'static str) {
        *self.denied.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    pub(super) fn released(&self, after: Duration) {
        self.to_release.observe(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }

    pub(super) fn reloaded(&self, succeeded: bool) {
        let counter = if succeeded { &self.reloads } else { &self.failed_reloads };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_pending(&self, pending: u64) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    pub(super) fn one_less_pending(&self) {
        let less = |pending: u64| pending.checked_sub(1);
        let _none = self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Tags that are still to be judged under the policies in force.
    pub(super) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Writes all of it; `kept` judgements are in memory.
    pub(crate) fn write(&self, page: &mut Page, kept: usize) {
        let name = "stella_policy_judgements_total";
        page.family(
            name,
            Kind::Counter,
            "Manifests that were judged, by the policy that failed, reason and verdict.",
        );
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((policy, reason, verdict), count) in &judged {
            page.sample(name, &[("policy", policy), ("reason", reason), ("verdict", verdict)], count);
        }
        let name = "stella_policy_denials_total";
        page.family(name, Kind::Counter, "Requests that the policy gate denied, by reason.");
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (reason, count) in denied {
            page.sample(name, &[("reason", reason)], count);
        }
        let name = "stella_policy_judgement_seconds";
        page.family(name, Kind::Histogram, "How long one judgement takes: gathering, verifying, folding.");
        page.histogram(name, &[], &self.took.read(), 1_000_000);
        let name = "stella_policy_release_seconds";
        page.family(name, Kind::Histogram, "From a tag's push to its release by the policy gate.");
        page.histogram(name, &[], &self.to_release.read(), 1_000);
        let name = "stella_policy_reloads_total";
        page.family(
            name,
            Kind::Counter,
            "Times that policies were read again; after an error those from before hold.",
        );
        page.sample(name, &[("result", "success")], self.reloads.load(Ordering::Relaxed));
        page.sample(name, &[("result", "failure")], self.failed_reloads.load(Ordering::Relaxed));
        let help = "Tags that are still to be judged under the policies in force.";
        page.gauge("stella_policy_pending", help, self.pending());
        page.gauge("stella_policy_judgements_kept", "Judgements that are kept in memory.", kept);
    }
}
