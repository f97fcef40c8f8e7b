// SPDX-License-Identifier: AGPL-3.0-only
//! The restore drill: a registry is lost while it is in use, and comes back from its backup.

use super::*;

const IMAGES: usize = 1_000;
const PUSHERS: usize = 10;

fn layer(number: usize) -> Vec<u8> {
    let mut bytes = format!("layer {number} ").into_bytes();
    bytes.resize(200 + number % 3000, u8::try_from(number % 251).unwrap());
    bytes
}

/// Pushes an image of a config, a layer of its own and one that it shares with others.
async fn push(store: &Store, number: usize) -> Digest {
    let name = repo(&format!("team/app-{}", number % 7));
    let (config, own, shared) = (format!("config {number}"), layer(number), layer(number % 10 + IMAGES));
    let mut descriptors = Vec::new();
    for bytes in [config.as_bytes(), &own, &shared] {
        let digest = sha256(bytes);
        store.push_blob(&name, &digest, None, body(bytes), &actor("ci")).await.unwrap();
        descriptors.push(descriptor(&digest, bytes.len()));
    }
    let new = new_manifest(&name, &image(&descriptors[0], &descriptors[1..]), &[&format!("v{number}")]);
    let digest = new.digest.clone();
    store.put_manifest(new).await.unwrap();
    digest
}

/// Whether an image is there; if it is, all of it must be.
async fn pull(store: &Store, number: usize) -> Option<Digest> {
    let name = repo(&format!("team/app-{}", number % 7));
    let found = store.manifest(&name, &by_tag(&format!("v{number}"))).await.ok()?;
    assert_eq!(sha256(&found.bytes), found.head.digest);
    for bytes in [format!("config {number}").into_bytes(), layer(number), layer(number % 10 + IMAGES)] {
        assert!(read(store, &name, &sha256(&bytes)).await.unwrap() == bytes, "image {number} lost a blob");
    }
    Some(found.head.digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_lost_during_pushes_comes_back_from_its_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let store = Arc::new(open(&data).await.unwrap());
    let pushed = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let (store, pushed) = (Arc::clone(&store), Arc::clone(&pushed));
            tokio::spawn(async move {
                for number in (pusher..IMAGES).step_by(PUSHERS) {
                    let digest = push(&store, number).await;
                    pushed.lock().unwrap().insert(number, digest);
                }
            })
        })
        .collect();
    // In the middle, and again while the rest is pushed: each has what was acknowledged before it began.
    let mut acknowledged = Vec::new();
    for share in [IMAGES / 5, IMAGES / 2] {
        until(async || pushed.lock().unwrap().len() >= share).await;
        acknowledged.push(pushed.lock().unwrap().clone());
        back_up(&store, &backup).await.unwrap();
    }
    for pusher in pushers {
        pusher.await.unwrap();
    }
    drop(store);
    let last = open(&data).await.unwrap();
    let whole = back_up(&last, &backup).await.unwrap();
    drop(last);
    acknowledged.push(pushed.lock().unwrap().clone());
    assert_eq!(acknowledged[2].len(), IMAGES);

    // The disk is lost.
    fs::remove_dir_all(data.join("blobs")).unwrap();
    fs::write(data.join("metadata.sqlite"), "wrecked").unwrap();
    assert!(open(&data).await.is_err());

    let (verified, items) = check(&backup).await;
    assert_eq!((verified.snapshots, verified.damaged, verified.strays), (3, 0, 0), "{items:?}");
    let mut names: Vec<_> =
        fs::read_dir(backup.join("snapshots")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names[2].to_str().unwrap(), whole.snapshot);
    for (name, acknowledged) in names.iter().zip(acknowledged) {
        let options = StoreOptions {
            memory: Budget::of(1 << 20, 4 << 20),
            ..StoreOptions::new(folder.path().join(name))
        };
        let snapshot = name.to_str().unwrap().parse().unwrap();
        let restored = gather(async |items| restore(&backup, Some(&snapshot), &options, items).await).await.0;
        assert_eq!(restored.unwrap().damaged, 0);
        let restored = Store::open(&options).await.unwrap();
        let mut there = 0;
        for number in 0..IMAGES {
            let digest = pull(&restored, number).await;
            there += usize::from(digest.is_some());
            if let Some(before) = acknowledged.get(&number) {
                assert_eq!(
                    digest.as_ref(),
                    Some(before),
                    "image {number} was acknowledged before the backup"
                );
            }
        }
        assert!(there >= acknowledged.len());
        assert_eq!(faults(&restored).await, <[&str; 0]>::default());
    }
}
