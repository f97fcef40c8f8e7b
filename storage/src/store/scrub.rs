// SPDX-License-Identifier: AGPL-3.0-only
//! Scrubbing: reading all bytes again and again, slowly, to learn of damage before a client does.
//!
//! Contents come first, then the documents of manifests, each in the order of their keys; how far it came
//! is written now and then, so that a restart goes on near there. Damage is logged and counted, nothing
//! is changed: `stella fsck --repair` does that. A pass begins at most once a day, so that a small store
//! is not read without a pause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fsck::{Brake, Examined, examine, linked_in};
use super::{Store, repositories};
use crate::clock::Timestamp;
use crate::digest::{Algorithm, Digest};
use crate::error::Result;
use crate::keys::{self, Key, RepoId};
use crate::kv::{ReadTx, Row, WriteTx};
use crate::local::Location;
use crate::rows;

/// A pass begins this long after the one before began, or when that ends.
const PASS: Duration = Duration::from_hours(24);
/// How often its place is written.
const SAVED: Duration = Duration::from_mins(10);
/// Contents, and manifests, of one step.
const CONTENTS: usize = 32;
const MANIFESTS: usize = 4;

/// What scrubbing has done since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Contents that were read.
    pub blobs: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Damaged contents and manifests that were met; each counts once a pass.
    pub damaged: u64,
    /// Passes that came to their end.
    pub passes: u64,
    /// When a pass last came to its end, also before the store was opened.
    pub ended: Option<Timestamp>,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubNext {
    /// The next step.
    Go,
    /// Nothing, for so long.
    Wait(Duration),
}

/// Where scrubbing stands, and its counters.
#[derive(Default)]
pub(super) struct Scrubber {
    place: Mutex<Option<Place>>,
    blobs: AtomicU64,
    manifests: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
    passes: AtomicU64,
}

#[derive(Clone)]
pub(super) struct Place {
    row: rows::Scrub,
    /// When it was written last.
    saved: Timestamp,
    /// Whether this pass has come to its end.
    over: bool,
}

impl Scrubber {
    pub(super) fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Reads the next few contents or manifests, at most `rate` bytes a second.
    pub async fn scrub(&self, rate: u64) -> Result<ScrubNext> {
        let mut place = self.scrub_place().await?;
        let now = self.now();
        if place.over {
            let next = place.row.began.plus(PASS);
            if next > now && place.row.began <= now {
                return Ok(ScrubNext::Wait(Duration::from_millis(next.0 - now.0)));
            }
            place.row = rows::Scrub { done: Vec::new(), began: now, ..place.row };
            place.over = false;
        }
        let done = place.row.done.clone();
        let page = self.engine.scan(async move |tx: &mut ReadTx| next_page(tx, &done).await).await?;
        let mut brake = Brake::to(rate);
        for (key, value) in &page {
            match Key::read(key) {
                Ok(Key::Content(sha256)) => self.scrub_content(sha256, value, &mut brake).await?,
                Ok(Key::ManifestBytes(repo, digest)) => {
                    let fine = digest.algorithm().is_some_and(|one| one.digest(value) == digest);
                    if !fine {
                        let name = self.repository_name(repo).await;
                        self.scrubber.damaged.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(%digest, repository = name, "a manifest is damaged: push it again");
                    }
                    self.scrubber.manifests.fetch_add(1, Ordering::Relaxed);
                    self.scrubber.bytes.fetch_add(value.len() as u64, Ordering::Relaxed);
                    brake.wait(value.len() as u64).await;
                }
                // A damaged key is for `stella fsck`.
                _ => {}
            }
        }
        if let Some((key, _)) = page.into_iter().last() {
            place.row.done = key;
        } else {
            place.over = true;
            place.row.ended = Some(self.now());
        }
        if place.over || self.now() > place.saved.plus(SAVED) || self.now() < place.saved {
            place.saved = self.now();
            let row = rows::encode(&place.row)?;
            let write = async move |tx: &mut WriteTx| tx.put(keys::SCRUB.to_vec(), row.clone());
            self.engine.write(0, write).await?;
        }
        let over = place.over;
        *self.scrubber.place() = Some(place);
        if over {
            // Last, so that whoever sees it counted also sees when it ended.
            self.scrubber.passes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ScrubNext::Go)
    }

    /// What scrubbing has done.
    pub fn scrub_stats(&self) -> ScrubStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Scrubber { place, blobs, manifests, bytes, damaged, passes } = &self.scrubber;
        let place = place.lock().unwrap_or_else(PoisonError::into_inner);
        ScrubStats {
            blobs: read(blobs),
            manifests: read(manifests),
            bytes: read(bytes),
            damaged: read(damaged),
            passes: read(passes),
            ended: place.as_ref().and_then(|place| place.row.ended),
        }
    }

    async fn repository_name(&self, repo: RepoId) -> String {
        let name = self.engine.read(async move |tx: &mut ReadTx| repositories::name(tx, repo).await).await;
        name.map_or_else(|_| format!("repository {}", repo.0), |name| name.to_string())
    }

    async fn scrub_place(&self) -> Result<Place> {
        let known = self.scrubber.place().clone();
        if let Some(place) = known {
            return Ok(place);
        }
        let row = self.engine.read(async |tx: &mut ReadTx| tx.get(keys::SCRUB).await).await?;
        // One that cannot be read costs a pass from the beginning.
        let row = row.and_then(|row| rows::decode::<rows::Scrub>(&row).ok());
        let fresh = rows::Scrub { done: Vec::new(), began: self.now(), ended: None };
        let row = row.unwrap_or(fresh);
        let over = row.ended.is_some_and(|ended| ended >= row.began);
        Ok(Place { row, saved: self.now(), over })
    }

    async fn scrub_content(&self, sha256: [u8; 32], value: &[u8], brake: &mut Brake) -> Result<()> {
        // What cannot be read is for `stella fsck`, and what is marked is known.
        let Ok(row) = rows::decode::<rows::Content>(value) else { return Ok(()) };
        if row.damaged.is_some() {
            return Ok(());
        }
        let examined = examine(&self.blobs, row.location, row.size, Algorithm::Sha256, brake).await?;
        self.scrubber.blobs.fetch_add(1, Ordering::Relaxed);
        if let Examined::Read { len, .. } = &examined {
            self.scrubber.bytes.fetch_add(*len, Ordering::Relaxed);
        }
        let what = match examined {
            Examined::Read { prefix: Some(prefix), .. } if prefix.sha256 == sha256 => return Ok(()),
            Examined::Read { len, .. } => format!("its file holds {len} other bytes"),
            Examined::Gone => "its file is gone".to_owned(),
            Examined::Unreadable(error) => error.to_string(),
        };
        let (key, value) = (keys::content(&sha256), value.to_vec());
        let confirmed = self.engine.scan(async move |tx: &mut ReadTx| {
            let same = tx.get(&key).await?.as_ref() == Some(&value);
            Ok(if same { Some(linked_in(tx, &sha256).await?) } else { None })
        });
        // It may have been deleted, or healed, meanwhile.
        let Some(repositories) = confirmed.await? else { return Ok(()) };
        self.scrubber.damaged.fetch_add(1, Ordering::Relaxed);
        let (digest, location): (_, Location) = (Digest::Sha256(sha256), row.location);
        tracing::error!(
            %digest,
            %location,
            repositories,
            what,
            "a blob is damaged: run `stella fsck --repair`, then push it again"
        );
        Ok(())
    }
}

/// The next contents, or behind the last of them the next manifests.
async fn next_page(tx: &mut ReadTx, done: &[u8]) -> Result<Vec<Row>> {
    const CONTENT: &[u8] = b"c";
    const DOCUMENT: &[u8] = b"b";
    if !done.starts_with(DOCUMENT) {
        let page = tx.range(CONTENT, Some(done), CONTENTS).await?;
        if !page.is_empty() {
            return Ok(page);
        }
    }
    tx.range(DOCUMENT, Some(done).filter(|done| done.starts_with(DOCUMENT)), MANIFESTS).await
}
