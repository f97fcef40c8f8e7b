// SPDX-License-Identifier: AGPL-3.0-only
//! An issuer's public keys, kept fresh from a file or a URL.
//!
//! Invariant: keys that were good once stay until others are there. A file that is wrong, or an issuer that is away,
//! changes nothing but the log, and nobody waits for them: readers take the keys that are there. Only a token that
//! names an unknown key waits for a look at the URL: one for all such tokens, seldom, and not for long.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use reqwest::{Certificate, Client, Url, redirect};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::keys::{MAX_SIZE, PublicKeys};
use crate::config;

const USER_AGENT: &str = concat!("stella/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 5;

/// How often we look, and how long we wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two looks at a file.
    pub(super) file: Duration,
    /// Between two looks at a URL.
    pub(super) url: Duration,
    /// The same, as long as it fails; and at least so long between two looks because of unknown keys.
    pub(super) pause: Duration,
    /// For an answer, all of it.
    pub(super) patience: Duration,
    /// How long after the begin of a look a token with an unknown key waits for it.
    pub(super) glance: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            file: Duration::from_secs(5),
            url: Duration::from_mins(10),
            pause: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            glance: Duration::from_secs(1),
        }
    }
}

/// The keys of one issuer.
pub(crate) struct KeySource {
    /// What the issuer is called in the log.
    name: String,
    place: Place,
    pace: Pace,
    keys: ArcSwapOption<PublicKeys>,
    generation: AtomicU64,
    /// Held by whoever looks, never by readers.
    state: Mutex<State>,
    /// Held for no longer than it takes to read it.
    looks: std::sync::Mutex<Looks>,
    /// Is told when a look has ended.
    ended: watch::Sender<()>,
}

/// How looking goes.
#[derive(Clone, Copy, Default)]
struct Looks {
    under_way: usize,
    /// When the last one began.
    began: Option<Instant>,
}

enum Place {
    File(PathBuf),
    Url { url: Url, client: Client },
}

#[derive(Default)]
struct State {
    /// Of the bytes that the keys are from.
    digest: Option<[u8; 32]>,
    /// What the log was told is wrong.
    fault: Option<String>,
}

impl KeySource {
    /// Reads a file, which must be right. A URL is not asked yet: who starts must not depend on others.
    pub(crate) fn open(name: &str, source: &config::KeySource, ca: Option<&Path>) -> Result<Self, String> {
        Self::with(name, source, ca, Pace::default())
    }

    pub(super) fn with(
        name: &str,
        source: &config::KeySource,
        ca: Option<&Path>,
        pace: Pace,
    ) -> Result<Self, String> {
        let mut state = State::default();
        let (mut keys, mut generation) = (None, 0);
        let found = match source {
            config::KeySource::File(path) => {
                let bytes = read(path)?;
                keys = Some(Arc::new(parse(&bytes, path.display())?));
                (state.digest, generation) = (Some(Sha256::digest(bytes).into()), 1);
                Place::File(path.clone())
            }
            config::KeySource::Url(text) => {
                let url: Url = text.parse().map_err(|_| format!("{text:?} is no URL"))?;
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(
                        "the URL must not hold a name or a password; public keys need none".to_owned()
                    );
                }
                let client = client(&url, ca, &pace)?;
                Place::Url { url, client }
            }
        };
        Ok(KeySource {
            name: name.to_owned(),
            place: found,
            pace,
            keys: keys.into(),
            generation: generation.into(),
            state: Mutex::new(state),
            looks: std::sync::Mutex::default(),
            ended: watch::Sender::new(()),
        })
    }

    /// The keys, if there were any yet.
    pub(crate) fn keys(&self) -> Option<Arc<PublicKeys>> {
        self.keys.load_full()
    }

    /// The keys for a token that names this one. If it is not there, the URL is looked at first, unless that was just
    /// done. Who comes while a slow look goes on does not wait for it either.
    pub(crate) async fn keys_for(self: &Arc<Self>, kid: Option<&str>) -> Option<Arc<PublicKeys>> {
        if !self.has(kid) && matches!(self.place, Place::Url { .. }) {
            let mut ended = self.ended.subscribe();
            if let Some(until) = self.have_looked() {
                // Whether it has ended or not: the keys that are there decide.
                let _in_time = timeout_at(until, ended.changed()).await;
            }
        }
        self.keys()
    }

    /// Begins to look, unless somebody looks, and says how long to wait for that; none if it was just done.
    fn have_looked(self: &Arc<Self>) -> Option<Instant> {
        let (mut looks, now) = (self.looks(), Instant::now());
        if looks.under_way == 0 {
            if looks.began.is_some_and(|began| now.duration_since(began) < self.pace.pause) {
                return None;
            }
            *looks = Looks { under_way: 1, began: Some(now) };
            let source = Arc::clone(self);
            // A task of its own: a client that goes away does not take with it what others wait for.
            tokio::spawn(async move { source.look_begun().await });
        }
        Some(looks.began.unwrap_or(now) + self.pace.glance)
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another number whenever the keys are others.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks for changes, for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut first = true;
        loop {
            let pause = match &self.place {
                Place::Url { .. } if std::mem::take(&mut first) => Duration::ZERO,
                Place::File(_) => self.pace.file,
                Place::Url { .. } if self.state.lock().await.fault.is_some() => self.pace.pause,
                Place::Url { .. } => self.pace.url,
            };
            sleep(pause).await;
            self.look_now().await;
        }
    }

    /// Looks now, whenever it was last done.
    pub(crate) async fn look_now(&self) {
        {
            let mut looks = self.looks();
            *looks = Looks { under_way: looks.under_way + 1, began: Some(Instant::now()) };
        }
        self.look_begun().await;
    }

    /// Looks, as was noted already.
    async fn look_begun(&self) {
        let mut state = self.state.lock().await;
        self.look(&mut state).await;
        drop(state);
        self.looks().under_way -= 1;
        self.ended.send_replace(());
    }

    fn has(&self, kid: Option<&str>) -> bool {
        self.keys.load().as_ref().is_some_and(|keys| keys.has(kid))
    }

    /// Takes over what is there now, if it is right and new.
    async fn look(&self, state: &mut State) {
        let (place, read) = match &self.place {
            Place::File(path) => {
                let file = path.clone();
                let job = tokio::task::spawn_blocking(move || read(&file)).await;
                (path.display().to_string(), job.unwrap_or_else(|error| Err(error.to_string())))
            }
            Place::Url { url, client } => (url.to_string(), fetch(client, url.clone()).await),
        };
        let fault = match read {
            Err(fault) => fault,
            Ok(bytes) => {
                let digest = Sha256::digest(&bytes).into();
                if state.digest == Some(digest) {
                    self.is_well(state, &place);
                    return;
                }
                match parse(&bytes, &place) {
                    Err(fault) => fault,
                    Ok(keys) => {
                        self.keys.store(Some(Arc::new(keys)));
                        self.generation.fetch_add(1, Ordering::AcqRel);
                        state.digest = Some(digest);
                        tracing::info!(issuer = self.name, place, "the issuer's public keys are new");
                        self.is_well(state, &place);
                        return;
                    }
                }
            }
        };
        // The reasons why something is away change often; what is wrong with a file tells its writer something.
        let is_told = match self.place {
            Place::File(_) => state.fault.as_ref() == Some(&fault),
            Place::Url { .. } => state.fault.is_some(),
        };
        if !is_told {
            let what = if self.keys.load().is_some() {
                "cannot read the issuer's public keys again; those from before are still used"
            } else {
                "cannot read the issuer's public keys; its tokens are refused until they are there"
            };
            tracing::error!(issuer = self.name, error = fault, "{what}");
        }
        state.fault = Some(fault);
    }

    fn is_well(&self, state: &mut State, place: &str) {
        if state.fault.take().is_some() {
            tracing::info!(issuer = self.name, place, "the issuer's public keys can be read again");
        }
    }
}

fn parse(bytes: &[u8], place: impl std::fmt::Display) -> Result<PublicKeys, String> {
    PublicKeys::parse(bytes).map_err(|fault| format!("{place}: {fault}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    // One byte more than is taken, so that more is noticed.
    File::open(path).map_err(wrong)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

async fn fetch(client: &Client, url: Url) -> Result<Vec<u8>, String> {
    let away = |error: reqwest::Error| {
        let error = error.without_url();
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        format!("cannot fetch {url}: {innermost}")
    };
    let mut response = client.get(url.clone()).send().await.map_err(away)?;
    if !response.status().is_success() {
        return Err(format!("cannot fetch {url}: it answers {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_SIZE {
            return Err(format!("cannot fetch {url}: it is larger than {}KiB", MAX_SIZE >> 10));
        }
    }
    Ok(body)
}

fn client(url: &Url, ca: Option<&Path>, pace: &Pace) -> Result<Client, String> {
    let extra = ca.map(authorities).transpose()?.unwrap_or_default();
    let is_loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let builder = || {
        let origin = url.origin();
        // Whoever says where the keys are says who is who, and that is the host that was configured.
        let follow = redirect::Policy::custom(move |attempt| {
            if attempt.url().origin() != origin {
                attempt.error("it redirects to another host, which is not followed")
            } else if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("it redirects too often")
            } else {
                attempt.follow()
            }
        });
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(follow)
            .retry(reqwest::retry::never())
            .referer(false)
            // The next look is minutes away.
            .pool_max_idle_per_host(0)
            .timeout(pace.patience);
        // A proxy cannot reach this machine's own addresses.
        if is_loopback { builder.no_proxy() } else { builder }
    };
    // Where the system has no CAs at all, our own still work.
    let built = builder().tls_certs_merge(extra.clone()).build();
    let built = built.or_else(|_| builder().tls_certs_only(extra).build());
    built.map_err(|error| format!("cannot prepare TLS: {error}"))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let bytes = read(path)?;
    let wrong = || format!("{} holds no CA certificates in PEM", path.display());
    let found = Certificate::from_pem_bundle(&bytes).map_err(|_| wrong())?;
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
