// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of the store through its methods, including the rows that they leave.
//!
//! [`on_both`] runs a test on the memory engine, which runs every write function twice, and on
//! SQLite. A [`Lab`] holds a store, the clock that it reads, and ways to look at its raw rows.

use std::fs;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::budget::Share;
use crate::clock::ManualClock;
use crate::digest::{Algorithm, Digest, DigestError};
use crate::keys::{RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, Memory, ReadTx, Row, Sqlite, SqliteOptions};
#[cfg(feature = "postgres")]
use crate::kv::{Postgres, PostgresOptions};
#[cfg(feature = "sled")]
use crate::kv::{Sled, SledOptions};
use crate::local::{FileName, Location};
use crate::manifest::Manifest;
use crate::name::{Reference, RepoName, Tag};
use crate::rows;

mod allowances;
mod backup;
mod blobs;
mod collection;
mod collection_cost;
mod collection_model;
mod collection_races;
mod credentials;
mod disk_faults;
mod disk_reserve;
#[cfg(any(feature = "sled", feature = "postgres"))]
mod engines;
mod evidence;
mod fsck;
mod fsck_files;
mod fsck_manifests;
mod fsck_online;
mod fsck_random;
mod fsck_rows;
mod gate;
mod invariants;
mod leases;
mod manifests;
mod opening;
mod power_cuts;
mod pulls;
mod referrers;
mod rows_left;
mod running;
mod scrub;
mod tag_rules;
mod tag_rules_model;
mod tags;
mod upgrades;
mod uploads;
mod writers;

const START: Timestamp = Timestamp(1_700_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Memory,
    Sqlite,
    #[cfg(feature = "sled")]
    Sled,
    /// On the server of `engines.rs`, in a schema of its own.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Kind {
    /// Those that are opened at once.
    const ALL: &[Kind] = &[
        Kind::Memory,
        Kind::Sqlite,
        #[cfg(feature = "sled")]
        Kind::Sled,
    ];
}

struct Lab {
    store: Arc<Store>,
    clock: Arc<ManualClock>,
    folder: TempDir,
}

async fn on_both(test: impl AsyncFn(Lab)) {
    for &kind in Kind::ALL {
        test(Lab::new(kind).await).await;
    }
}

impl Store {
    /// The tags that a repository has, whoever sees them.
    async fn tags(&self, repo: &RepoName, after: Option<String>, limit: usize) -> Result<Vec<String>> {
        let tags = self.tags_seen(repo, after, limit, View::Pushed).await?;
        Ok(tags.into_iter().map(|(tag, _)| tag).collect())
    }
}

impl Lab {
    async fn new(kind: Kind) -> Lab {
        Self::with(kind, false).await
    }

    async fn with(kind: Kind, allow_missing: bool) -> Lab {
        Self::tuned(kind, |options| options.allow_missing = allow_missing).await
    }

    async fn tuned(kind: Kind, tune: impl FnOnce(&mut StoreOptions)) -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let engine = match kind {
            Kind::Memory => Engine::Memory(Memory::running_twice()),
            Kind::Sqlite => {
                let path = folder.path().join("metadata.sqlite");
                Engine::Sqlite(Sqlite::open(&SqliteOptions { path, cache: 4 << 20 }).unwrap())
            }
            #[cfg(feature = "sled")]
            Kind::Sled => {
                let path = folder.path().join("metadata.sled");
                Engine::Sled(Sled::open(&SledOptions { path, cache: 4 << 20 }).unwrap())
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres => {
                let url = engines::database();
                Engine::Postgres(Postgres::open(PostgresOptions::new(&url).unwrap()).await.unwrap())
            }
        };
        let clock = Arc::new(ManualClock::new(START));
        // The least memory budget, so that every test is one of bounded memory too.
        let mut options =
            StoreOptions { memory: Budget::of(0, 4 << 20), ..StoreOptions::new(folder.path().to_owned()) };
        tune(&mut options);
        let store = Store::with_engine(engine, Arc::clone(&clock) as Arc<dyn Clock>, &options).await.unwrap();
        Lab { store: Arc::new(store), clock, folder }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn rows(&self, prefix: &[u8]) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let (prefix, from) = (prefix.to_vec(), after.clone());
            let page = self
                .store
                .engine
                .scan(async move |tx: &mut ReadTx| tx.range(&prefix, from.as_deref(), MAX_PAGE_ROWS).await);
            let page = page.await.unwrap();
            let Some(last) = page.last() else { return rows };
            after = Some(last.0.clone());
            rows.extend(page);
        }
    }

    async fn raw(&self, key: Vec<u8>) -> Option<Vec<u8>> {
        self.store.engine.read(async |tx: &mut ReadTx| tx.get(&key).await).await.unwrap()
    }

    async fn row<T: for<'b> minicbor::Decode<'b, ()>>(&self, key: Vec<u8>) -> Option<T> {
        self.raw(key).await.map(|row| rows::decode(&row).unwrap())
    }

    async fn put_raw(&self, key: Vec<u8>, value: Vec<u8>) {
        let put = async move |tx: &mut WriteTx| tx.put(key.clone(), value.clone());
        self.store.engine.write(0, put).await.unwrap();
    }

    async fn id(&self, repo: &RepoName) -> RepoId {
        self.row::<rows::Repository>(keys::repository(repo.as_str())).await.unwrap().id
    }

    async fn link(&self, repo: &RepoName, digest: &Digest) -> Option<rows::Link> {
        self.row(keys::link(self.id(repo).await, digest)).await
    }

    async fn upload(&self, id: Location) -> Option<rows::Upload> {
        self.row(keys::upload(id)).await
    }

    async fn reviews(&self) -> Vec<(Timestamp, Review)> {
        self.rows(b"v").await.iter().map(|(key, _)| keys::read_review(key).unwrap()).collect()
    }

    async fn garbage(&self) -> Vec<(Timestamp, Location, u64)> {
        let rows = self.rows(b"g").await;
        rows.iter()
            .map(|(key, value)| {
                let (due, location) = keys::read_garbage(key).unwrap();
                (due, location, rows::decode::<rows::Garbage>(value).unwrap().size)
            })
            .collect()
    }

    /// Files in the blob folder and their sizes.
    fn files(&self) -> Vec<(String, u64)> {
        let listed = (0..=u8::MAX).flat_map(|part| self.store.blobs.list(part).unwrap());
        listed
            .map(|file| match file.name {
                FileName::Blob(location) => (location.to_string().replace('-', ""), file.size),
                FileName::Stray(name) => panic!("{name:?} is not ours"),
            })
            .collect()
    }

    /// The bytes of a file.
    async fn file(&self, location: Location, size: u64) -> Vec<u8> {
        let mut readers = self.store.blobs.read(location, Some(0..size), &Share::of(1 << 20)).unwrap();
        readers.remove(0).try_collect::<Vec<Bytes>>().await.unwrap().concat()
    }

    /// One round of collection.
    async fn collect(&self) -> GcSummary {
        self.store.collect().await.unwrap()
    }

    /// Lets time pass and collects.
    async fn collect_after(&self, hours: u64) -> GcSummary {
        self.clock.advance(Duration::from_hours(hours));
        self.collect().await
    }

    async fn has_blob(&self, repo: &RepoName, digest: &Digest) -> bool {
        self.store.blob(repo, digest).await.is_ok()
    }

    async fn has_manifest(&self, repo: &RepoName, digest: &Digest) -> bool {
        self.store.manifest(repo, &Reference::Digest(digest.clone())).await.is_ok()
    }

    /// Pushes a blob and returns its sha256.
    async fn push(&self, repo: &RepoName, content: &[u8]) -> Digest {
        let digest = sha256(content);
        self.store.push_blob(repo, &digest, None, body(content), &actor("pusher")).await.unwrap();
        digest
    }

    async fn read(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<u8>> {
        read(&self.store, repo, digest).await
    }

    /// Pushes a manifest and returns its digest.
    async fn put(&self, repo: &RepoName, document: &Value, tags: &[&str]) -> Result<Digest> {
        let new = new_manifest(repo, document, tags);
        let digest = new.digest.clone();
        self.store.put_manifest(new).await.map(|_| digest)
    }

    /// Pushes an image whose config is pushed first.
    async fn put_image(&self, repo: &RepoName, config: &[u8], tags: &[&str]) -> Digest {
        let digest = self.push(repo, config).await;
        self.put(repo, &image(&descriptor(&digest, config.len()), &[]), tags).await.unwrap()
    }
}

async fn read(store: &Store, repo: &RepoName, digest: &Digest) -> Result<Vec<u8>> {
    let blob = store.blob(repo, digest).await?;
    let pieces: Vec<Bytes> =
        store.read_blob(&blob, std::slice::from_ref(&(0..u64::MAX))).await?.remove(0).try_collect().await?;
    Ok(pieces.concat())
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn by_tag(name: &str) -> Reference {
    Reference::Tag(tag(name))
}

fn actor(subject: &str) -> Actor {
    Actor { subject: subject.to_owned(), session: Some(format!("session of {subject}")) }
}

/// One who may not change protected tags.
fn deleter(subject: &str) -> Deleter {
    Deleter { actor: actor(subject), may_change_protected: false }
}

fn sha256(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

fn sha512(content: &[u8]) -> Digest {
    Algorithm::Sha512.digest(content)
}

/// The sha256 of some bytes, as rows hold it.
fn raw256(content: &[u8]) -> [u8; 32] {
    match sha256(content) {
        Digest::Sha256(bytes) => bytes,
        other => panic!("{other} is not a sha256"),
    }
}

fn descriptor(digest: &Digest, size: usize) -> Value {
    json!({"mediaType": "application/octet-stream", "digest": digest.to_string(), "size": size})
}

fn image(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "config": config, "layers": layers})
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "manifests": manifests})
}

fn new_manifest(repo: &RepoName, document: &Value, tags: &[&str]) -> NewManifest {
    let bytes = Bytes::from(document.to_string());
    NewManifest {
        repo: repo.clone(),
        digest: sha256(&bytes),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes,
        tags: tags.iter().map(|name| tag(name)).collect(),
        condition: None,
        actor: actor("pusher"),
        evidence: false,
        held: false,
        rights: TagRights::default(),
    }
}

type Piece = io::Result<Bytes>;

/// A request's body: the content in pieces of a few bytes.
fn body(content: &[u8]) -> impl Stream<Item = Piece> + Unpin + Send + use<> {
    let size = (content.len() / 7).max(1);
    let pieces: Vec<Piece> = content.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

/// A body that fails after some bytes.
fn broken_body(content: &[u8]) -> impl Stream<Item = Piece> + Unpin + Send + use<> {
    let piece = Bytes::copy_from_slice(content);
    stream::iter([Ok(piece), Err(io::Error::other("reset"))])
}

/// A body that the test sends piece by piece; dropping the sender ends it.
fn pipe() -> (mpsc::UnboundedSender<Piece>, impl Stream<Item = Piece> + Unpin + Send) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    (sender, stream::poll_fn(move |context| receiver.poll_recv(context)))
}

/// Polls until something is so; fails when it takes too long.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn soon<F: Future>(future: F) -> tokio::time::Timeout<F> {
    tokio::time::timeout(Duration::from_secs(20), future)
}
