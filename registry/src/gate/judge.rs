// SPDX-License-Identifier: AGPL-3.0-only
//! From a stored manifest to a judgement, and where judgements are kept.
//!
//! A judgement is kept in memory under the stamp of its manifest and the epoch of the policies, and is found by nobody once
//! either has changed, or its time is over. It is made on demand, once for all who wait for it, on the blocking pool,
//! without a write.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use stella_policy::{self as policy, Decision, PolicySet, Reason, Subject, Time, Verdict};
use stella_storage::{Clock as _, Digest, ManifestState, Reference, RepoName, Stamp, SystemClock, Timestamp};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::active::{Active, Judging, Local};
use super::source::{LocalSource, Parts, parts};
use super::{Gate, Hints, attachment};
use crate::app::App;
use crate::error::ApiError;
use crate::evidence;
use crate::source::theirs;

/// Judgements that are kept; each takes a few hundred bytes.
const KEPT: usize = 150_000;
/// Judgements of one manifest are made one after another; so many of different ones at once.
const STRIPES: usize = 64;
const AT_ONCE: usize = 4;
/// So many are made for people, or took long before: they hold nobody up but each other.
const SLOW_AT_ONCE: usize = 2;
/// Blobs of one manifest that are noted.
const REMEMBERED: usize = 500;
/// What took longer before is slow.
const SLOW: Duration = Duration::from_millis(100);
/// How long somebody waits for a turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a manifest is judged again because something was said of it meanwhile: who signs for ever holds up nobody.
const TRIES: usize = 3;

/// What something is, for the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A signature, an attestation or a bundle, by its content: anybody may read it.
    Evidence,
    /// A document about this manifest: who may read that may read it.
    Attachment(Digest),
    /// Everything else is judged.
    Image,
}

/// What the policies say of a manifest by itself.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) kind: Kind,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    /// The policy that is not satisfied.
    pub(crate) policy: Option<String>,
    pub(crate) why: String,
    pub(crate) fix: Option<String>,
    /// When it was signed, if that was proven.
    pub(crate) signed_at: Option<Time>,
    /// How long it took to make.
    pub(super) cost: Duration,
    pub(super) holds: Holds,
}

/// Under what a judgement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holds {
    epoch: u64,
    stamp: u64,
    /// When it had been released: where age matters, it is that of then.
    released_at: Option<Timestamp>,
    ages: bool,
    valid_until: Option<Time>,
}

impl Judgement {
    /// Whether readers may have it for its own sake.
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    /// Whether readers may have it whatever is around it.
    pub(super) fn is_for_its_own_sake(&self) -> bool {
        self.is_allowed() && !matches!(self.kind, Kind::Attachment(_))
    }

    /// The same of an attachment whose subject is not here, or nothing that has attachments: by itself it is allowed, and
    /// that says nothing to who is denied.
    pub(super) fn attached_to_nothing(&self) -> Self {
        let subject = match &self.kind {
            Kind::Attachment(subject) => subject.to_string(),
            Kind::Evidence | Kind::Image => String::new(),
        };
        Judgement {
            verdict: Verdict::Waiting,
            reason: Reason::WrongSubject,
            why: format!("it is attached to {subject}, and no image is there"),
            fix: Some("push what it is attached to, and have that signed".to_owned()),
            ..self.clone()
        }
    }

    /// Whether nothing around it helps: it is on a list of denied digests, or something below it.
    pub(crate) fn is_listed(&self) -> bool {
        self.reason == Reason::DeniedDigest
    }
}

impl Holds {
    /// Whether that is so of a manifest as it stands in `state`.
    pub(super) fn now(&self, epoch: u64, state: Stamp, time: impl FnOnce() -> Time) -> bool {
        self.stamp == state.stamp
            && (!self.ages || self.released_at == state.released_at)
            && self.still(epoch, time)
    }

    /// Whether that is so of a manifest that stands as it did. The time is asked only where it matters.
    pub(super) fn still(&self, epoch: u64, time: impl FnOnce() -> Time) -> bool {
        self.epoch == epoch && self.valid_until.is_none_or(|until| time() <= until)
    }
}

type Key = (RepoName, Digest);

/// A key that is only looked up: most requests find what they look for.
#[derive(Hash)]
pub(super) struct Named<'a>(pub(super) &'a RepoName, pub(super) &'a Digest);

impl Equivalent<Key> for Named<'_> {
    fn equivalent(&self, (repo, digest): &Key) -> bool {
        self.0 == repo && self.1 == digest
    }
}

/// Judgements that were made.
pub(super) struct Judgements {
    kept: Cache<Key, Arc<Judgement>>,
    stripes: Vec<Arc<Mutex<()>>>,
    /// Not to be chosen from outside.
    hasher: RandomState,
    turns: Arc<Semaphore>,
    slow_turns: Arc<Semaphore>,
    /// The latest time that was seen, every few seconds at least (`gate/watch.rs`): a clock that is set back makes nothing
    /// valid again.
    latest: AtomicI64,
}

impl Default for Judgements {
    fn default() -> Self {
        Judgements {
            kept: Cache::new(KEPT),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            slow_turns: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
            latest: AtomicI64::new(0),
        }
    }
}

impl Judgements {
    pub(super) fn now(&self) -> Time {
        let now = i64::try_from(SystemClock.now().0 / 1_000).unwrap_or(i64::MAX);
        // Most requests of a moment only look: a write would take the line from all other cores.
        match self.latest.load(Ordering::Relaxed) {
            latest if latest >= now => Time(latest),
            _ => Time(self.latest.fetch_max(now, Ordering::Relaxed).max(now)),
        }
    }

    fn stripe(&self, key: &Key) -> Option<Arc<Mutex<()>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        self.stripes.get(index).cloned()
    }

    async fn turn(&self, is_slow: bool) -> Result<OwnedSemaphorePermit, ApiError> {
        let turns = Arc::clone(if is_slow { &self.slow_turns } else { &self.turns });
        match tokio::time::timeout(PATIENCE, turns.acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ApiError::unavailable()),
        }
    }

    /// What was made of a manifest last, whether or not it still holds.
    pub(super) fn last(&self, repo: &RepoName, digest: &Digest) -> Option<Arc<Judgement>> {
        self.kept.get(&Named(repo, digest))
    }

    /// What was made of a manifest, if that holds for it as it stands in `state`.
    pub(super) fn holding(
        &self,
        repo: &RepoName,
        digest: &Digest,
        epoch: u64,
        state: Stamp,
    ) -> Option<Arc<Judgement>> {
        let kept = self.last(repo, digest)?;
        kept.holds.now(epoch, state, || self.now()).then_some(kept)
    }

    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// What is judged, for whom and under what.
#[derive(Clone)]
pub(super) struct Matter {
    pub(super) active: Arc<Active>,
    pub(super) local: Arc<Local>,
    pub(super) repo: RepoName,
    pub(super) digest: Digest,
}

impl Gate {
    /// What the policies say of a manifest as it stands in `state`; what was known a moment ago, where that still holds.
    pub(super) async fn judge(
        &self,
        app: &Arc<App>,
        matter: &Matter,
        state: &ManifestState,
    ) -> Result<Arc<Judgement>, ApiError> {
        let held =
            || self.judgements.holding(&matter.repo, &matter.digest, matter.active.epoch, state.into());
        if let Some(kept) = held() {
            return Ok(kept);
        }
        let key = (matter.repo.clone(), matter.digest.clone());
        let alone = match self.judgements.stripe(&key) {
            Some(stripe) => Some(stripe.lock_owned().await),
            None => None,
        };
        if let Some(kept) = held() {
            return Ok(kept);
        }
        let is_slow = self.judgements.kept.get(&key).is_some_and(|last| last.cost > SLOW);
        let turn = self.judgements.turn(is_slow).await?;
        let now = self.judgements.now();
        let (app, matter, mut state) = (Arc::clone(app), matter.clone(), state.clone());
        let (judgements, hints) = (Arc::clone(&self.judgements), Arc::clone(&self.hints));
        // Whoever asked may go away: the work goes on, keeps its turn until it is done, and is of use to who asks next.
        on_a_thread_for_work(async move {
            let _held = (alone, turn);
            let mut tries = TRIES;
            loop {
                let asked = Asked { now, last_released: None, released_at: state.released_at };
                let made = fold(&app, &matter, &state, asked).await;
                // It was read piece by piece. What was so at one moment has the same stamp before and after.
                let Some(after) = app.store.manifest_state(&matter.repo, &matter.digest).await? else {
                    return Err(stella_storage::Error::NotFound(stella_storage::What::Manifest).into());
                };
                let is_whole = after.stamp == state.stamp;
                if !is_whole && tries > 0 {
                    (state, tries) = (after, tries - 1);
                    continue;
                }
                let Folded { judgement, direct, .. } = made?;
                app.gate.metrics.judged(&judgement);
                let judgement = Arc::new(judgement);
                if is_whole {
                    if judgement.is_allowed() {
                        remember(&hints, &matter, direct);
                    }
                    judgements.kept.insert(key, Arc::clone(&judgement));
                }
                return Ok(judgement);
            }
        })
        .await
    }

    /// The same anew, with all that is known: for people, and for a release that is judged by more than the manifest.
    pub(super) async fn examine(
        &self,
        app: &Arc<App>,
        matter: &Matter,
        state: &ManifestState,
        asked: Asked,
    ) -> Result<(Judgement, Decision), ApiError> {
        let turn = self.judgements.turn(true).await?;
        let (app, matter, state) = (Arc::clone(app), matter.clone(), state.clone());
        on_a_thread_for_work(async move {
            let _held = turn;
            let Folded { judgement, decision, .. } = fold(&app, &matter, &state, asked).await?;
            Ok((judgement, decision))
        })
        .await
    }
}

/// Notes what an allowed manifest is made of, for who asks for that next.
fn remember(hints: &Hints, matter: &Matter, parts: Vec<Digest>) {
    for part in parts.into_iter().take(REMEMBERED) {
        hints.insert((matter.repo.clone(), part), matter.digest.clone());
    }
}

/// What a judgement depends on beside the manifest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) now: Time,
    /// When what the tag released before was signed.
    pub(super) last_released: Option<Time>,
    pub(super) released_at: Option<Timestamp>,
}

/// Off the runtime's threads: signatures cost milliseconds, and junk costs more.
async fn on_a_thread_for_work<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Handle::current();
    let job = tokio::task::spawn_blocking(move || runtime.block_on(work));
    job.await.map_err(|_| ApiError::panicked())?
}

/// What came of it.
struct Folded {
    judgement: Judgement,
    decision: Decision,
    /// Its config and its layers.
    direct: Vec<Digest>,
}

async fn fold(app: &App, matter: &Matter, state: &ManifestState, asked: Asked) -> Result<Folded, ApiError> {
    let began = Instant::now();

    let Matter { active, local, repo, digest } = matter;
    let Judging { set, verifier } = active.judging(local, repo)?;
    let stored = app.store.manifest(repo, &Reference::Digest(digest.clone())).await?;
    let subject = Subject {
        reference: format!("{repo}@{digest}"),
        repository: repo.as_str().to_owned(),
        digest: theirs(digest).map_err(|error| ApiError::failed(error.to_string()))?,
        parts: Vec::new(),
        last_released: asked.last_released,
        released_at: asked.released_at.map(|at| Time(i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX))),
    };
    // What is on a list of denied digests is denied whatever it is.
    let parts = parts(&app.store, repo, digest).await;
    let is_listed =
        |parts: &[policy::Digest]| parts.iter().any(|part| local.rules.deny_digests.contains(part));
    let mut direct = Vec::new();
    let (kind, decision) = match parts {
        Ok(Parts { all: parts, direct: named }) => {
            direct = named;
            let kind = match () {
                () if is_listed(&parts) => Kind::Image,
                () if state.evidence || evidence::is_evidence(app, repo, &stored.bytes).await? => {
                    Kind::Evidence
                }
                () => match attachment::subject(app, repo, &stored.bytes, &local.rules).await? {
                    Some(subject) => Kind::Attachment(subject),
                    None => Kind::Image,
                },
            };
            let subject = Subject { parts, ..subject };
            match kind {
                Kind::Image => {
                    let source = LocalSource { store: &app.store, repo };
                    let found = verifier.examine(&source, &subject.digest).await;
                    match found {
                        Ok(found) => {
                            let decision = set.judge(&subject, &found.facts, &found.rejected, asked.now);
                            (kind, allowed_by_hand(app, matter, decision, asked.now).await?)
                        }
                        Err(error) => (kind, refused(set, &subject, &error)?),
                    }
                }
                other => (other, plain(set, &subject, Verdict::Allowed, Reason::Ok, "")),
            }
        }
        Err(error) => (Kind::Image, refused(set, &subject, &error)?),
    };
    let failed = decision.policies.iter().find(|policy| policy.enforced && !policy.passed);
    let judgement = Judgement {
        kind,
        verdict: decision.verdict,
        reason: decision.reason,
        policy: failed.map(|policy| policy.name.clone()),
        why: decision.why.clone(),
        fix: decision.fix.clone(),
        signed_at: decision.signed_at,
        cost: began.elapsed(),
        holds: Holds {
            epoch: active.epoch,
            stamp: state.stamp,
            released_at: state.released_at,
            ages: local.rules.max_age.is_some(),
            valid_until: decision.valid_until,
        },
    };
    Ok(Folded { judgement, decision, direct })
}

/// The same, if an operator let it through for a while; what is on a list of denied digests stays denied.
async fn allowed_by_hand(
    app: &App,
    matter: &Matter,
    decision: Decision,
    now: Time,
) -> Result<Decision, ApiError> {
    if decision.verdict == Verdict::Allowed || decision.reason == Reason::DeniedDigest {
        return Ok(decision);
    }
    let Matter { active, repo, digest, .. } = matter;
    let listed = active.baseline.as_ref().and_then(|baseline| baseline.lets_through(repo, digest, now));
    if let Some(until) = listed {
        let why = format!(
            "it was released before, and is on the baseline until {until}; policies do not ({}: {})",
            decision.reason.as_str(),
            decision.why
        );
        return Ok(through(decision, until, why));
    }
    let Some(allowance) = app.store.allowance(&matter.repo, &matter.digest).await? else {
        return Ok(decision);
    };
    let last = Time(i64::try_from(allowance.expires.0.saturating_sub(1) / 1_000).unwrap_or(i64::MAX));
    if now > last {
        return Ok(decision);
    }
    let why = format!(
        "{} lets it through until {}: {}; policies do not ({}: {})",
        allowance.by,
        allowance.expires.rfc3339(),
        allowance.reason,
        decision.reason.as_str(),
        decision.why
    );
    Ok(through(decision, last, why))
}

/// Allowed until then, though policies are not satisfied.
fn through(decision: Decision, until: Time, why: String) -> Decision {
    let valid_until = decision.valid_until.into_iter().chain([until]).min();
    Decision { verdict: Verdict::Allowed, reason: Reason::Ok, fix: None, valid_until, why, ..decision }
}

/// What cannot be looked at whole is not allowed; a store that fails is no verdict.
fn refused(set: &PolicySet, subject: &Subject, error: &policy::Error) -> Result<Decision, ApiError> {
    let reason = match error {
        policy::Error::OverLimit(_) => Reason::OverLimit,
        policy::Error::Malformed(_) => Reason::Malformed,
        policy::Error::Source(cause) => {
            return Err(match cause.downcast_ref::<stella_storage::Error>() {
                Some(error) => error.clone().into(),
                None => ApiError::failed(cause.to_string()),
            });
        }
        other => return Err(ApiError::failed(other.to_string())),
    };
    Ok(plain(set, subject, Verdict::Denied, reason, &error.to_string()))
}

fn plain(set: &PolicySet, subject: &Subject, verdict: Verdict, reason: Reason, why: &str) -> Decision {
    Decision {
        reference: subject.reference.clone(),
        repository: subject.repository.clone(),
        digest: subject.digest.clone(),
        verdict,
        reason,
        fix: (verdict != Verdict::Allowed).then(|| "push an artifact within the limits".to_owned()),
        policy_set: set.hash().clone(),
        trust_root: set.trust_root().clone(),
        valid_until: None,
        policies: Vec::new(),
        why: why.to_owned(),
        signed_at: None,
    }
}

#[cfg(test)]
mod tests;
