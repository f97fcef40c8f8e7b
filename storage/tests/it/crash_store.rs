// SPDX-License-Identifier: AGPL-3.0-only
//! The store after `kill -9`: blobs, manifests and tags that were acknowledged are there with their
//! bytes, and unfinished uploads go on where they were acknowledged.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use stella_storage::{
    Actor, Algorithm, Budget, Chunk, Digest, Error, Location, Manifest, NewManifest, Reference, RepoName,
    Store, StoreOptions,
};

use crate::crash::{ROUNDS, acknowledge, child, content, run_and_kill};

const TASKS: u32 = 4;

async fn open(folder: &Path) -> Store {
    let options =
        StoreOptions { memory: Budget::of(8 << 20, 4 << 20), ..StoreOptions::new(folder.join("data")) };
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Store::open(&options).await {
            // A process that another test is starting holds our open files, hence the lock, until its exec.
            Err(Error::Locked { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

fn repo() -> RepoName {
    "a/b".parse().unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

fn body(content: &[u8]) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin + use<> {
    let pieces: Vec<_> = content.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

/// An image whose config is the content of this name.
fn image(name: &str) -> Bytes {
    let config = content(name);
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{}","size":{}}},"layers":[],"annotations":{{"name":"{name}"}}}}"#,
        sha256(&config),
        config.len()
    ))
}

#[test]
fn store_child() {
    let Some((folder, round)) = child() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(&folder).await);
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for number in 0u32.. {
                        push(&store, round, task, number).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// A blob, an image with it under the task's tag, and an upload of which some are finished.
async fn push(store: &Store, round: u32, task: u32, number: u32) {
    let name = format!("{round}-{task}-{number}");
    let config = content(&name);
    store.push_blob(&repo(), &sha256(&config), None, body(&config), &Actor::default()).await.unwrap();
    acknowledge(&format!("blob {name}"));
    let bytes = image(&name);
    let new = NewManifest {
        repo: repo(),
        digest: sha256(&bytes),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes,
        tags: vec![format!("t{task}").parse().unwrap()],
        condition: None,
        actor: Actor::default(),
        evidence: false,
        held: false,
        rights: stella_storage::TagRights::default(),
    };
    store.put_manifest(new).await.unwrap();
    acknowledge(&format!("image {name}"));
    let name = format!("upload-{name}");
    let whole = content(&name);
    let id = store.begin_upload(&repo(), Algorithm::Sha256, &Actor::default()).await.unwrap();
    acknowledge(&format!("begun {name} {id} 0"));
    let half = whole.len() / 2;
    let status = store.append_upload(&repo(), id, Chunk::default(), body(&whole[..half])).await.unwrap();
    acknowledge(&format!("begun {name} {id} {}", status.offset));
    if number.is_multiple_of(2) {
        let digest = sha256(&whole);
        store.finish_upload(&repo(), id, Chunk::default(), body(&whole[half..]), &digest).await.unwrap();
        acknowledge(&format!("blob {name}"));
    }
}

async fn read(store: &Store, digest: &Digest) -> Vec<u8> {
    let blob = store.blob(&repo(), digest).await.unwrap();
    let pieces: Vec<Bytes> = store
        .read_blob(&blob, std::slice::from_ref(&(0..u64::MAX)))
        .await
        .unwrap()
        .remove(0)
        .try_collect()
        .await
        .unwrap();
    pieces.concat()
}

async fn check_upload(store: &Store, name: &str, id: Location, offset: u64) {
    let whole = content(name);
    let start = match store.upload_status(&repo(), id).await {
        Ok(status) => {
            assert!(
                status.offset >= offset,
                "{name} stands at {}, {offset} were acknowledged",
                status.offset
            );
            status.offset
        }
        // Its end was committed, whether acknowledged or not.
        Err(Error::NotFound(_)) => whole.len() as u64,
        Err(error) => panic!("{name}: {error}"),
    };
    let rest = &whole[usize::try_from(start).unwrap()..];
    let chunk = Chunk { start: Some(start), len: Some(rest.len() as u64) };
    store.finish_upload(&repo(), id, chunk, body(rest), &sha256(&whole)).await.unwrap();
    assert!(read(store, &sha256(&whole)).await == whole, "{name} is damaged");
}

/// The number of an image in its round and task, such that later pushes have greater ones.
fn place(name: &str) -> (u32, u32) {
    let mut parts = name.split('-').map(|part| part.parse().unwrap());
    let (round, _, number) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
    (round, number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut tags = BTreeMap::<String, (u32, u32)>::new();
    let mut all = Vec::new();
    for (round, lines) in (0..).zip(ROUNDS) {
        all.extend(run_and_kill("crash_store::store_child", folder.path(), round, lines));
        let store = open(folder.path()).await;
        let mut uploads = BTreeMap::new();
        for line in &all {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["blob", name] => {
                    let expected = content(name);
                    assert!(read(&store, &sha256(&expected)).await == expected, "{name} is damaged");
                }
                ["image", name] => {
                    let expected = image(name);
                    let digest = Reference::Digest(sha256(&expected));
                    assert_eq!(store.manifest(&repo(), &digest).await.unwrap().bytes, expected);
                    let task = name.split('-').nth(1).unwrap();
                    tags.insert(format!("t{task}"), place(name));
                }
                ["begun", name, id, offset] => {
                    uploads.insert(name.to_owned(), (id.parse().unwrap(), offset.parse().unwrap()));
                }
                _ => panic!("{line:?}"),
            }
        }
        for (name, (id, offset)) in uploads {
            check_upload(&store, &name, id, offset).await;
        }
        for (tag, acknowledged) in &tags {
            let found = store.manifest(&repo(), &Reference::Tag(tag.parse().unwrap())).await.unwrap();
            let found: serde_json::Value = serde_json::from_slice(&found.bytes).unwrap();
            let found = place(found["annotations"]["name"].as_str().unwrap());
            assert!(found >= *acknowledged, "{tag} fell back from {acknowledged:?} to {found:?}");
        }
    }
    assert!(all.len() >= ROUNDS.iter().sum());
}
