// SPDX-License-Identifier: AGPL-3.0-only
//! Writes that the operating system refuses in the middle of a commit: the store says so, keeps what it
//! acknowledged, and goes on when they succeed again.
//!
//! The refusals are real: a process may be forbidden to let files grow beyond a size. It is a process of
//! its own, because the limit is one of the whole process; its shell ignores the signal that comes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stella_storage::{
    Actor, Algorithm, Budget, Digest, Error, Manifest, NewManifest, Reference, RepoName, Store, StoreOptions,
};

const FOLDER: &str = "STELLA_IO_ERRORS_FOLDER";

/// Sets how large files may grow.
fn limit(bytes: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}

fn repo() -> RepoName {
    "a/b".parse().unwrap()
}

fn document(name: &str) -> Bytes {
    let filler = "x".repeat(name.len() * 700);
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"{name}":"{filler}"}}}}"#
    ))
}

async fn put(store: &Store, name: &str) -> Result<(), Error> {
    let bytes = document(name);
    let new = NewManifest {
        repo: repo(),
        digest: Algorithm::Sha256.digest(&bytes),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes,
        tags: vec![name.parse().unwrap()],
        condition: None,
        actor: Actor::default(),
        evidence: false,
        held: false,
        rights: stella_storage::TagRights::default(),
    };
    store.put_manifest(new).await.map(|_| ())
}

async fn push(store: &Store, content: &[u8]) -> Result<Digest, Error> {
    let digest = Algorithm::Sha256.digest(content);
    let pieces = content.chunks(10_000).map(|piece| Ok::<_, Error>(Bytes::copy_from_slice(piece)));
    let body = futures_util::stream::iter(pieces.collect::<Vec<_>>());
    store.push_blob(&repo(), &digest, None, body, &Actor::default()).await.map(|()| digest)
}

async fn is_whole(store: &Store, name: &str) -> bool {
    let tag = Reference::Tag(name.parse().unwrap());
    match store.manifest(&repo(), &tag).await {
        Ok(found) => {
            assert_eq!(found.bytes, document(name));
            true
        }
        Err(Error::NotFound(_)) => false,
        Err(error) => panic!("{name}: {error}"),
    }
}

async fn ready(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.ready().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[test]
fn io_errors_child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let options = StoreOptions {
        memory: Budget::of(8 << 20, 4 << 20),
        disk_reserve: 0,
        ..StoreOptions::new(folder.join("data"))
    };
    let log = options.data.join("metadata.sqlite-wal");
    runtime.block_on(async {
        let store = Arc::new(Store::open(&options).await.unwrap());
        let before = push(&store, b"before").await.unwrap();
        let (mut known, mut refused, mut unready) = (BTreeMap::new(), 0, 0);
        for round in 0u64..24 {
            // Somewhere in the log of the next commit.
            limit(Some(size(&log) + round * 1100));
            let puts: Vec<_> = (0..8)
                .map(|task| {
                    let (store, name) = (Arc::clone(&store), format!("t{round}-{task}"));
                    tokio::spawn(async move { (put(&store, &name).await, name) })
                })
                .collect();
            for put in puts {
                let (put, name) = put.await.unwrap();
                if let Err(error) = &put {
                    let clear =
                        matches!(error, Error::Unavailable(_) | Error::CommitUnknown(_) | Error::Full);
                    assert!(clear, "{error}");
                    refused += 1;
                }
                known.insert(name, put.is_ok());
            }
            unready += usize::from(store.ready().await.is_err());
            for (name, acknowledged) in &known {
                assert!(is_whole(&store, name).await || !acknowledged, "{name} was acknowledged");
            }
            let large = vec![round.to_be_bytes()[7]; 300_000];
            limit(Some(100_000));
            assert!(push(&store, &large).await.is_err());
            limit(None);
            ready(&store).await;
            push(&store, &large).await.unwrap();
            let name = format!("well-{round}");
            put(&store, &name).await.unwrap();
            known.insert(name, true);
        }
        assert!(refused > 20 && unready > 5, "{refused} refused, {unready} times not ready");
        drop(store);
        let store = Store::open(&options).await.unwrap();
        store.blob(&repo(), &before).await.unwrap();
        for (name, acknowledged) in &known {
            assert!(is_whole(&store, name).await || !acknowledged, "{name} was acknowledged");
        }
    });
}

#[test]
fn what_was_acknowledged_survives_writes_that_fail_inside_commits() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "io_errors::io_errors_child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
}
