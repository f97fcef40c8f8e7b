// SPDX-License-Identifier: AGPL-3.0-only
//! The gate: under enforcement readers get what policies allow, and nothing else.
//!
//! The way of a request: [`Gate::gated`] says whether its repository is under policies at all; the store gives manifest and
//! stamp (and the tag) in one snapshot; [`Gate::check`] finds the judgement under that stamp, or makes it; whoever is denied
//! is told why (`gate/denial.rs`). Whoever holds `preview` sees everything. After a push [`Gate::pushed`] judges, releases
//! tags (`gate/release.rs`) and says what the pusher is told. Policies are loaded as a whole or not at all
//! (`gate/active.rs`), at start, at SIGHUP and when their files change (`gate/watch.rs`); the next request is judged by them.
//!
//! Invariants: a judgement is found only under the stamp and epoch that it was made for; no read writes; what cannot be
//! judged is not served; what exempts something is its content, never its name or what it declares.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use serde_json::{Value, json};
use stella_policy::{Decision, Enforcement, Reason, Verdict, WhileWaiting};
use stella_storage::{Digest, ManifestHead, ManifestState, Reference, RepoName, Store, Tag};

use tokio::sync::{Notify, Semaphore};

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::error::ApiError;

mod active;
mod attachment;
mod baseline;
mod denial;
mod grants;
mod impact;
mod judge;
mod memo;
mod metrics;
mod read;
mod release;
mod rollback;
mod source;
mod watch;

use active::{Active, Local, Places};
pub(crate) use baseline::signed_baseline;
pub(crate) use denial::{CANDIDATE, DECISION, Judged, VERDICT};
pub(crate) use impact::Stopped;
use judge::{Asked, Judgements, Matter};
pub(crate) use judge::{Judgement, Kind};
use metrics::GateMetrics;
pub(crate) use read::{OfBlob, Readable};

/// Manifests that are told of a blob that came late.
const TOLD: usize = 100;
/// Blobs of which is known what names them.
const HINTS: usize = 50_000;

type Hints = Cache<(RepoName, Digest), Digest>;

/// Decides what readers get.
pub(crate) struct Gate {
    active: ArcSwapOption<Active>,
    judgements: Arc<Judgements>,
    /// A manifest that may be read, by a blob that it names.
    hints: Arc<Hints>,
    later: release::Later,
    /// Lets one attachment be read at a time.
    attachments: Semaphore,
    /// Held while policies are read: what was read first must not come into force last.
    loading: tokio::sync::Mutex<()>,
    pub(crate) metrics: GateMetrics,
    /// What is wrong with the policies on disk, while others are in force.
    error: Mutex<Option<String>>,
    places: Mutex<Option<Places>>,
    /// What access rules are checked against when policies change.
    config: Mutex<Option<Config>>,
    /// Wakes who watches.
    changed: Notify,
    /// What links begin with.
    base: String,
}

/// A repository that policies are about.
#[derive(Clone)]
pub(crate) struct Gated {
    pub(crate) active: Arc<Active>,
    pub(crate) local: Arc<Local>,
}

impl Gated {
    fn matter(&self, repo: &RepoName, digest: &Digest) -> Matter {
        let (active, local) = (Arc::clone(&self.active), Arc::clone(&self.local));
        Matter { active, local, repo: repo.clone(), digest: digest.clone() }
    }

    /// Whether readers get only what is allowed.
    pub(crate) fn enforces_pull(&self) -> bool {
        self.local.enforces_pull()
    }

    /// Whether readers are only told.
    pub(crate) fn warns_of_pulls(&self) -> bool {
        self.local.rules.pull == Enforcement::Warn
    }

    /// Whether a tag answers readers nothing while its candidate waits.
    pub(crate) fn denies_while_waiting(&self) -> bool {
        self.local.rules.while_waiting == WhileWaiting::Deny
    }

    /// Whether pushers are told what becomes of what they push.
    pub(crate) fn tells_pushers(&self) -> bool {
        self.local.rules.push != Enforcement::Off || self.enforces_pull()
    }

    /// Whether what is denied for good is not even stored.
    fn refuses_pushes(&self) -> bool {
        self.local.rules.push == Enforcement::Enforce || self.enforces_pull()
    }
}

impl Gate {
    /// Reads the policies that the configuration names. A registry with wrong ones must not serve.
    pub(crate) async fn load(config: &Config, store: &Store) -> anyhow::Result<Self> {
        let places = places(config)?;
        let gate = Gate {
            places: Mutex::new(places.clone()),
            config: Mutex::new(Some(config.clone())),
            ..Gate::of(ArcSwapOption::empty(), base(config))
        };
        if let Some(places) = places {
            gate.load_from(store, places, Some(config), None).await?;
        }
        Ok(gate)
    }

    /// With nothing in its memory.
    fn of(active: ArcSwapOption<Active>, base: String) -> Self {
        Gate {
            active,
            judgements: Arc::default(),
            hints: Arc::new(Cache::new(HINTS)),
            later: release::Later::default(),
            attachments: Semaphore::new(1),
            loading: tokio::sync::Mutex::default(),
            metrics: GateMetrics::default(),
            error: Mutex::default(),
            places: Mutex::default(),
            config: Mutex::default(),
            changed: Notify::new(),
            base,
        }
    }

    /// Whether the policies that a configuration names can be used with it; what is dubious about that, in sentences.
    pub(crate) fn check_config(config: &Config) -> Result<Vec<String>, ConfigError> {
        let Some(places) = places(config)? else { return Ok(Vec::new()) };
        let checked = Active::load(&places).and_then(|active| grants::check(config, &active.set));
        checked.map_err(|reason| ConfigError::BadValue {
            origin: config.origin("policy.paths"),
            key: "policy.paths".to_owned(),
            reason,
        })
    }

    /// The number of the policies that are in force; none without any.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.active.load().as_ref().map(|active| active.epoch)
    }

    /// What is about a repository, if there are policies and one of them does something there.
    pub(crate) fn gated(&self, repo: &RepoName) -> Option<Gated> {
        let active = self.active.load_full()?;
        let local = active.local(repo);
        let is_idle = local.rules.push == Enforcement::Off && local.rules.pull == Enforcement::Off;
        (!is_idle).then_some(Gated { active, local })
    }

    /// Whether a reader may have what was found; by digest or by tag. The answer is that of the snapshot that `head` is of.
    pub(crate) async fn check(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        head: &ManifestHead,
    ) -> Result<Readable, ApiError> {
        self.readable_in(app, gated, (repo, &head.digest), &head.state).await
    }

    /// What is to become of a reader who sees nothing under a tag whose candidate is `digest`.
    pub(crate) async fn unreleased(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Unreleased, ApiError> {
        let unknown = || stella_storage::Error::NotFound(stella_storage::What::Manifest);
        let state = app.store.manifest_state(repo, digest).await?.ok_or_else(unknown)?;
        let matter = gated.matter(repo, digest);
        if let Readable::No(why) = self.readable(app, &matter, &state).await? {
            return Ok(Unreleased::Denied(self.denial(gated, repo, digest, &why)));
        }
        // Allowed, and not released: not yet, or by what a release asks for beyond that.
        let tag = app.store.tag_state(repo, tag).await?;
        let asked = self.asked_to_release(&tag);
        if self.release(app, &matter, tag).await? {
            return Ok(Unreleased::NowReleased);
        }
        let (judgement, _) = self.examine(app, &matter, &state, asked).await?;
        Ok(Unreleased::Denied(self.denial(gated, repo, digest, &Arc::new(judgement))))
    }

    /// Refuses to store what nothing can mend: what has a denied digest, or names one.
    pub(crate) async fn may_push(
        &self,
        app: &App,
        gated: &Gated,
        repo: &RepoName,
        named: &[&Digest],
    ) -> Result<(), ApiError> {
        let denied = &gated.local.rules.deny_digests;
        if denied.is_empty() || !gated.refuses_pushes() {
            return Ok(());
        }
        for &digest in named {
            let other = match digest {
                Digest::Sha256(_) => None,
                _ => app.store.sha256_of_blob(repo, digest).await?,
            };
            let listed = [Some(digest), other.as_ref()].into_iter().flatten();
            for digest in listed {
                if crate::source::theirs(digest).is_ok_and(|digest| denied.contains(&digest)) {
                    self.metrics.denied(Reason::DeniedDigest.as_str());
                    let judged =
                        json!({"verdict": "denied", "reason": "denied-digest", "judged": digest.to_string()});
                    let message = format!(
                        "{digest} is on a list of denied digests of this registry's policy (denied-digest). Fix: push \
                         another build, or have the digest taken out of denyDigests"
                    );
                    return Err(ApiError::denied(message).judged(Judged(judged), "Blocked by policy"));
                }
            }
        }
        Ok(())
    }

    /// What became of something that was pushed: judged, and released if it may be. Evidence may release others.
    pub(crate) async fn pushed(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        (digest, subject): (&Digest, Option<&Digest>),
        tags: &[Tag],
    ) -> Result<Option<Pushed>, ApiError> {
        let mut subjects: Vec<Digest> = subject.into_iter().cloned().collect();
        subjects.extend(tags.iter().filter_map(Tag::subject));
        subjects.sort();
        subjects.dedup();
        for subject in &subjects {
            self.evidence_came(app, gated, repo, subject).await?;
        }
        if self.settle(app, gated, repo, digest).await?.is_none() {
            return Ok(None);
        }
        let matter = gated.matter(repo, digest);
        let Some(state) = app.store.manifest_state(repo, digest).await? else { return Ok(None) };
        if let Readable::No(why) = self.readable(app, &matter, &state).await? {
            return Ok(Some(self.told(repo, digest, &why)));
        }
        // Allowed, and yet not released: a release may ask for more.
        for tag in tags.iter().filter(|_| gated.enforces_pull()) {
            let Ok(tag) = app.store.tag_state(repo, tag).await else { continue };
            if tag.candidate.as_ref() == Some(digest) && tag.released != tag.candidate {
                let asked = self.asked_to_release(&tag);
                if !self.release(app, &matter, tag).await? {
                    let (judgement, _) = self.examine(app, &matter, &state, asked).await?;
                    return Ok(Some(self.told(repo, digest, &judgement)));
                }
            }
        }
        Ok(Some(Pushed { verdict: "allowed", warning: None }))
    }

    fn told(&self, repo: &RepoName, digest: &Digest, judgement: &Judgement) -> Pushed {
        let verdict = match judgement.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Waiting => "waiting",
            Verdict::Denied => "denied",
        };
        Pushed { verdict, warning: Some(self.warning(repo, digest, judgement)) }
    }

    /// A blob came that may be part of evidence which came before it.
    pub(crate) async fn blob_came(
        &self,
        app: &Arc<App>,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<(), ApiError> {
        let Some(gated) = self.gated(repo) else { return Ok(()) };
        for subject in app.store.subjects_of_blob(repo, digest).await? {
            self.evidence_came(app, &gated, repo, &subject).await?;
        }
        // What names it may wait under a tag for its content to be read.
        let (named, _) = app.store.naming(repo, digest, true, None).await?;
        for (manifest, _) in named.iter().take(TOLD) {
            if !app.store.tags_waiting_for(repo, manifest).await?.is_empty() {
                self.settle(app, &gated, repo, manifest).await?;
            }
        }
        Ok(())
    }

    /// What policies say of an image, all of it: of what a tag's pushers see, or of a digest.
    pub(crate) async fn explain(
        &self,
        app: &Arc<App>,
        repo: &RepoName,
        reference: &Reference,
    ) -> Result<Explained, ApiError> {
        let Some(active) = self.active.load_full() else {
            return Err(ApiError::unsupported("this registry has no policies (policy.paths)".to_owned()));
        };
        let local = active.local(repo);
        let gated = Gated { active, local };
        let (digest, tag) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => {
                let state = app.store.tag_state(repo, tag).await?;
                let digest = state.candidate.clone().or_else(|| state.released.clone());
                let unknown = stella_storage::Error::NotFound(stella_storage::What::Manifest);
                (digest.ok_or(unknown)?, Some(state))
            }
        };
        let unknown = stella_storage::Error::NotFound(stella_storage::What::Manifest);
        let state = app.store.manifest_state(repo, &digest).await?.ok_or(unknown)?;
        let matter = gated.matter(repo, &digest);
        let asked = match &tag {
            Some(tag) if tag.released != tag.candidate => self.asked_to_release(tag),
            _ => Asked { now: self.judgements.now(), last_released: None, released_at: state.released_at },
        };
        let (judgement, mut decision) = self.examine(app, &matter, &state, asked).await?;
        decision.reference = match &tag {
            Some(tag) => format!("{repo}:{}", tag.tag),
            None => format!("{repo}@{digest}"),
        };
        let through = match self.readable(app, &matter, &state).await? {
            Readable::Yes if !judgement.is_allowed() => {
                Some("an index that lists it, or its subject, is allowed")
            }
            // An attachment is allowed by itself, and readers get it with its subject.
            Readable::No(above) if judgement.is_allowed() => {
                (decision.verdict, decision.reason) = (above.verdict, above.reason);
                (decision.why, decision.fix) = (above.why.clone(), above.fix.clone());
                None
            }
            _ => None,
        };
        let (released, candidate) = match tag {
            Some(tag) => (tag.released, tag.candidate),
            None => (None, None),
        };
        Ok(Explained {
            decision,
            kind: judgement.kind,
            through,
            released,
            candidate,
            enforced: gated.enforces_pull(),
        })
    }

    /// How the policies fare; what is wrong with them only for who may know where they lie.
    pub(crate) fn status(&self, is_admin: bool) -> Value {
        let error = self.wrong();
        let hidden = || "the policies on disk do not load; ask an admin of the registry".to_owned();
        let error = error.map(|error| if is_admin { error } else { hidden() });
        let (set, epoch) = match self.active.load_full() {
            Some(active) => (Some(active.set.hash().to_string()), active.epoch),
            None => (None, 0),
        };
        json!({
            "policySet": set,
            "epoch": epoch,
            "pendingRecompute": self.metrics.pending(),
            "error": error,
        })
    }

    /// Judgements that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.judgements.kept()
    }

    /// How long it took to judge a manifest last, if that is known.
    fn last_cost(&self, repo: &RepoName, digest: &Digest) -> Duration {
        self.judgements.last(repo, digest).map_or(Duration::ZERO, |judgement| judgement.cost)
    }

    /// Whether readers may have a manifest, as it stands now.
    pub(crate) async fn may_read(
        &self,
        app: &Arc<App>,
        gated: &Gated,
        repo: &RepoName,
        digest: &Digest,
    ) -> Result<bool, ApiError> {
        let state: Option<ManifestState> = app.store.manifest_state(repo, digest).await?;
        let Some(state) = state else { return Ok(false) };
        let readable = self.readable(app, &gated.matter(repo, digest), &state).await?;
        Ok(matches!(readable, Readable::Yes))
    }
}

/// What a reader gets who sees nothing under a tag.
pub(crate) enum Unreleased {
    /// It was released a moment ago: the tag can be read again.
    NowReleased,
    /// This.
    Denied(ApiError),
}

/// What a pusher is told.
pub(crate) struct Pushed {
    /// `Stella-Verdict`.
    pub(crate) verdict: &'static str,
    pub(crate) warning: Option<String>,
}

/// A decision with what is around it.
pub(crate) struct Explained {
    pub(crate) decision: Decision,
    pub(crate) kind: Kind,
    /// Why readers may have it although it is not allowed by itself.
    pub(crate) through: Option<&'static str>,
    pub(crate) released: Option<Digest>,
    pub(crate) candidate: Option<Digest>,
    pub(crate) enforced: bool,
}

impl Explained {
    /// Whether readers get it.
    pub(crate) fn is_readable(&self) -> bool {
        !self.enforced || self.decision.verdict == Verdict::Allowed || self.through.is_some()
    }
}

/// Where the configuration says that policies are; nowhere if it names none.
fn places(config: &Config) -> Result<Option<Places>, ConfigError> {
    if config.policy.paths.is_empty() {
        return Ok(None);
    }
    Ok(Some(Places {
        host: config.policy_host()?,
        paths: config.policy.paths.clone(),
        trust_roots: config.policy.trust_roots.clone(),
        max_evidence: config.policy.max_evidence,
        baseline: config.baseline()?,
    }))
}

fn base(config: &Config) -> String {
    match (&config.external_url, &config.policy.host) {
        (Some(url), _) => url.to_string().trim_end_matches('/').to_owned(),
        (None, Some(host)) if config.tls.certificates.is_empty() => format!("http://{host}"),
        (None, Some(host)) => format!("https://{host}"),
        (None, None) => String::new(),
    }
}
