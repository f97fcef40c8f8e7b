// SPDX-License-Identifier: AGPL-3.0-only
//! Backups through the store's methods: what comes back, what is copied, what is refused.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::error::What;

mod drill;
mod hostile;

/// The items of an operation, gathered.
pub(super) async fn gather<T>(
    operation: impl AsyncFnOnce(mpsc::Sender<BackupItem>) -> T,
) -> (T, Vec<BackupItem>) {
    let (sender, mut receiver) = mpsc::channel(4);
    let gathering = async {
        let mut items = Vec::new();
        while let Some(item) = receiver.recv().await {
            items.push(item);
        }
        items
    };
    tokio::join!(operation(sender), gathering)
}

async fn back_up(store: &Store, to: &Path) -> Result<BackupSummary> {
    gather(async |items| store.backup(to, items).await).await.0
}

async fn check(from: &Path) -> (VerifySummary, Vec<BackupItem>) {
    let (summary, items) = gather(async |items| verify(from, None, items).await).await;
    (summary.unwrap(), items)
}

async fn bring_back(from: &Path, data: &Path) -> Result<RestoreSummary> {
    let options = StoreOptions { memory: Budget::of(1 << 20, 4 << 20), ..StoreOptions::new(data.to_owned()) };
    gather(async |items| restore(from, None, &options, items).await).await.0
}

/// The kinds of faults that a check of everything finds.
async fn faults(store: &Store) -> Vec<&'static str> {
    let (sender, mut found) = mpsc::channel(100);
    store.fsck(false, sender).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(fault) = found.recv().await {
        kinds.push(fault.kind.code());
    }
    kinds
}

async fn open(data: &Path) -> Result<Store> {
    Store::open(&StoreOptions { memory: Budget::of(1 << 20, 4 << 20), ..StoreOptions::new(data.to_owned()) })
        .await
}

/// All rows, but where contents lie.
async fn rows(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let insert = |rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], value: &[u8]| {
        let mut value = value.to_vec();
        if keys::read_content(key)?.is_some() {
            let content: rows::Content = rows::decode(&value)?;
            value = rows::encode(&rows::Content { location: Location::from_bytes([0; 16]), ..content })?;
        }
        rows.insert(key.to_vec(), value);
        Ok(())
    };
    store.engine.dump(BTreeMap::new(), insert).await.unwrap()
}

/// Every file below a folder, with its size.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), entry.metadata().unwrap().len());
        }
    }
    found
}

fn blob_file(backup: &Path, content: &[u8]) -> PathBuf {
    let hex = hex::encode(raw256(content));
    backup.join("blobs").join(&hex[..2]).join(hex)
}

#[tokio::test]
async fn a_restored_store_has_every_row_and_every_byte() {
    on_both(async |lab| {
        let (store, name) = (&lab.store, repo("a"));
        let image = lab.put_image(&name, b"config", &["t", "u"]).await;
        store.delete_tag(&name, &tag("u"), &deleter("ci")).await.unwrap();
        let long = sha512(b"long");
        store.push_blob(&name, &long, None, body(b"long"), &actor("ci")).await.unwrap();
        store.mount(&repo("b"), None, &long, &actor("ci")).await.unwrap();
        lab.push(&name, &vec![7; 700_000]).await;
        lab.push(&name, b"").await;
        // Neither garbage nor uploads are part of a backup.
        let gone = lab.push(&name, b"gone").await;
        store.delete_blob(&name, &gone).await.unwrap();
        let upload = store.begin_upload(&name, Algorithm::Sha256, &actor("ci")).await.unwrap();
        lab.put_raw(keys::PROBE.to_vec(), vec![]).await;

        let backup = lab.folder.path().join("backup");
        let summary = back_up(store, &backup).await.unwrap();
        assert_eq!((summary.blobs, summary.bytes), (4, 6 + 4 + 700_000));
        assert_eq!((summary.copied, summary.copied_bytes, summary.damaged), (4, summary.bytes, 0));
        let (verified, items) = check(&backup).await;
        assert_eq!((verified.snapshots, verified.blobs, verified.bytes), (1, 4, summary.bytes));
        assert_eq!(verified.damaged + verified.damaged_snapshots + verified.strays, 0, "{items:?}");

        let data = lab.folder.path().join("new/data");
        let restored = bring_back(&backup, &data).await.unwrap();
        assert_eq!((restored.blobs, restored.bytes, restored.rows), (4, summary.bytes, summary.rows));
        let after = open(&data).await.unwrap();
        let mut expected = rows(store).await;
        expected.retain(|key, _| keys::in_backup(key));
        assert!(!expected.contains_key(&keys::upload(upload)));
        let mut found = rows(&after).await;
        let reason = String::from_utf8(found.remove(keys::COLLECTION_OFF).unwrap()).unwrap();
        assert!(reason.contains(&summary.snapshot), "{reason}");
        assert_eq!(found, expected);
        for content in [b"config".to_vec(), vec![7; 700_000], vec![]] {
            assert!(read(&after, &name, &sha256(&content)).await.unwrap() == content);
        }
        assert_eq!(read(&after, &repo("b"), &long).await.unwrap(), b"long");
        assert_eq!(after.manifest(&name, &by_tag("t")).await.unwrap().head.digest, image);
        assert_eq!(faults(&after).await, <[&str; 0]>::default());
        // Nothing lies there that no row names.
        assert_eq!(files(&data.join("blobs")).len(), 4);
        assert!(!data.join("restoring").exists());
        after.push_blob(&name, &sha256(b"new"), None, body(b"new"), &actor("ci")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_second_backup_copies_only_what_is_new() {
    let lab = Lab::new(Kind::Sqlite).await;
    let (store, name) = (&lab.store, repo("a"));
    let backup = lab.folder.path().join("backup");
    for number in 0..20u8 {
        lab.push(&name, &[number; 1000]).await;
    }
    let first = back_up(store, &backup).await.unwrap();
    assert_eq!((first.blobs, first.copied, first.copied_bytes), (20, 20, 20_000));
    let written = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        let file = fs::metadata(path).unwrap();
        (file.ino(), file.mtime_nsec(), file.ctime_nsec())
    };
    let blobs = || files(&backup.join("blobs")).into_keys();
    let before: Vec<_> = blobs().map(|path| (written(&path), path)).collect();
    lab.push(&name, b"new").await;
    store.delete_blob(&name, &sha256(&[3; 1000])).await.unwrap();
    let second = back_up(store, &backup).await.unwrap();
    assert_eq!((second.blobs, second.copied, second.copied_bytes), (20, 1, 3));
    assert!(second.snapshot > first.snapshot, "the clock stands, the names do not");
    for (was, path) in before {
        assert_eq!(written(&path), was, "{} was touched", path.display());
    }
    assert_eq!(blobs().count(), 21);
    let (verified, items) = check(&backup).await;
    assert_eq!((verified.snapshots, verified.blobs, verified.strays), (2, 21, 0), "{items:?}");
    // Each snapshot is what the registry was then.
    let options = StoreOptions::new(lab.folder.path().join("first"));
    let snapshot = first.snapshot.parse().unwrap();
    gather(async |items| restore(&backup, Some(&snapshot), &options, items).await).await.0.unwrap();
    let old = open(&options.data).await.unwrap();
    assert!(read(&old, &name, &sha256(b"new")).await.is_err());
    assert_eq!(read(&old, &name, &sha256(&[3; 1000])).await.unwrap(), [3; 1000]);
}

#[tokio::test]
async fn a_damaged_blob_is_named_and_everything_else_is_saved() {
    on_both(async |lab| {
        let (store, name) = (&lab.store, repo("a"));
        let backup = lab.folder.path().join("backup");
        for content in ["whole", "short", "wrong", "lost"] {
            lab.put_image(&name, content.as_bytes(), &[content]).await;
        }
        store.push_blob(&name, &sha512(b"lost"), None, body(b"lost"), &actor("ci")).await.unwrap();
        let file = async |content: &str| {
            let row: rows::Content = lab.row(keys::content(&raw256(content.as_bytes()))).await.unwrap();
            let file = row.location.to_string().replace('-', "");
            lab.folder.path().join("blobs").join(&file[..2]).join(file)
        };
        fs::write(file("short").await, "shor").unwrap();
        fs::write(file("wrong").await, "Wrong").unwrap();
        fs::remove_file(file("lost").await).unwrap();
        let (summary, items) = gather(async |items| store.backup(&backup, items).await).await;
        let summary = summary.unwrap();
        assert_eq!((summary.blobs, summary.copied, summary.damaged), (4, 1, 3));
        let whys: BTreeMap<_, _> = items
            .into_iter()
            .filter_map(|item| match item {
                BackupItem::DamagedBlob { digest, why } => Some((digest, why)),
                _ => None,
            })
            .collect();
        assert_eq!(whys[&sha256(b"short")], "it has 4 of its 5 bytes");
        assert_eq!(whys[&sha256(b"wrong")], format!("its bytes have the digest {}", sha256(b"Wrong")));
        assert!(whys[&sha256(b"lost")].contains("its file is gone"), "{whys:?}");
        let manifest =
            fs::read_to_string(backup.join("snapshots").join(&summary.snapshot).join("manifest.json"));
        let manifest: Value = serde_json::from_str(&manifest.unwrap()).unwrap();
        assert_eq!(manifest["damaged"], 3);
        assert!(whys.keys().all(|digest| {
            manifest["damaged_blobs"].as_array().unwrap().contains(&json!(digest.to_string()))
        }));
        assert_eq!(check(&backup).await.0.damaged, 3);

        let data = lab.folder.path().join("data");
        assert_eq!(bring_back(&backup, &data).await.unwrap().damaged, 3);
        let after = open(&data).await.unwrap();
        assert_eq!(read(&after, &name, &sha256(b"whole")).await.unwrap(), b"whole");
        let missing = [sha256(b"short"), sha256(b"wrong"), sha256(b"lost"), sha512(b"lost")];
        for digest in &missing {
            let error = read(&after, &name, digest).await.unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)), "{error}");
            let error = after.blob_for_push(&name, digest).await.unwrap_err();
            assert!(matches!(error, Error::NotFound(What::Blob)), "{error}");
            assert_eq!(after.mount(&repo("b"), None, digest, &actor("ci")).await.unwrap(), Mounted::No);
        }
        assert_eq!(faults(&after).await, ["content-file-missing"; 3]);
        // Their images are there, and whole again once the blobs are pushed again.
        for content in ["short", "wrong", "lost"] {
            after.manifest(&name, &by_tag(content)).await.unwrap();
            let digest = sha256(content.as_bytes());
            let body = body(content.as_bytes());
            after.push_blob(&name, &digest, None, body, &actor("ci")).await.unwrap();
            assert_eq!(read(&after, &name, &digest).await.unwrap(), content.as_bytes());
        }
        assert_eq!(read(&after, &name, &sha512(b"lost")).await.unwrap(), b"lost");
        assert_eq!(faults(&after).await, <[&str; 0]>::default());
    })
    .await;
}

/// A backup that has read its metadata and waits for somebody to listen.
async fn stalled(
    lab: &Lab,
    backup: &Path,
) -> (tokio::task::JoinHandle<Result<BackupSummary>>, mpsc::Receiver<BackupItem>) {
    let (sender, items) = mpsc::channel(1);
    sender.try_send(BackupItem::Progress { blobs: 0, bytes: 0 }).unwrap();
    let (store, to) = (Arc::clone(&lab.store), backup.to_owned());
    let running = tokio::spawn(async move { store.backup(&to, sender).await });
    // The dump is complete once its end is there.
    until(async || backup.join("tmp").is_dir() && files(&backup.join("tmp")).values().any(|size| *size > 60))
        .await;
    (running, items)
}

#[tokio::test]
async fn what_a_backup_names_is_held_until_it_ends() {
    on_both(async |lab| {
        let (store, name) = (&lab.store, repo("a"));
        let (kept, lost) = (lab.push(&name, b"kept").await, lab.push(&name, b"lost").await);
        let older = lab.push(&name, b"older").await;
        store.delete_blob(&name, &older).await.unwrap();
        lab.clock.advance(Duration::from_hours(3));
        let backup = lab.folder.path().join("backup");
        let (running, mut items) = stalled(&lab, &backup).await;
        store.delete_blob(&name, &lost).await.unwrap();
        lab.clock.advance(Duration::from_hours(30));
        store.delete_blob(&name, &kept).await.unwrap();
        lab.clock.advance(Duration::from_hours(30));
        // What was garbage before is no part of the snapshot, and goes.
        assert_eq!(store.collect().await.unwrap().files, 1);
        assert_eq!(lab.files().len(), 2);
        while items.recv().await.is_some() {}
        assert_eq!(running.await.unwrap().unwrap().damaged, 0);
        assert_eq!(fs::read(blob_file(&backup, b"lost")).unwrap(), b"lost");
        assert_eq!(store.collect().await.unwrap().files, 2);
        assert_eq!(lab.files(), []);
    })
    .await;
}

#[tokio::test]
async fn a_backup_that_nobody_waits_for_any_more_holds_nothing() {
    let lab = Lab::new(Kind::Memory).await;
    let (running, items) = stalled(&lab, &lab.folder.path().join("backup")).await;
    assert!(lab.store.holds.before().is_some());
    drop(items);
    assert!(matches!(running.await.unwrap(), Err(Error::Abandoned)));
    assert_eq!(lab.store.holds.before(), None);
    let (running, _items) = stalled(&lab, &lab.folder.path().join("backup")).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(lab.store.holds.before(), None);
}

#[tokio::test]
async fn an_operation_that_nobody_listens_to_stops() {
    let lab = Lab::new(Kind::Sqlite).await;
    lab.push(&repo("a"), b"x").await;
    let backup = lab.folder.path().join("backup");
    let deaf = || mpsc::channel(1).0;
    assert!(matches!(lab.store.backup(&backup, deaf()).await, Err(Error::Abandoned)));
    assert_eq!(files(&backup).len(), 1, "but for the lock nothing is left: {:?}", files(&backup));
    back_up(&lab.store, &backup).await.unwrap();
    assert!(matches!(verify(&backup, None, deaf()).await, Err(Error::Abandoned)));
    let options = StoreOptions::new(lab.folder.path().join("data"));
    assert!(matches!(restore(&backup, None, &options, deaf()).await, Err(Error::Abandoned)));
}

#[tokio::test]
async fn only_an_empty_directory_is_restored_into() {
    let lab = Lab::new(Kind::Sqlite).await;
    lab.push(&repo("a"), b"x").await;
    let backup = lab.folder.path().join("backup");
    back_up(&lab.store, &backup).await.unwrap();
    let data = lab.folder.path().join("data");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    fs::write(data.join("mine"), "mine").unwrap();
    let refused = bring_back(&backup, &data).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    fs::remove_file(data.join("mine")).unwrap();
    bring_back(&backup, &data).await.unwrap();
    assert!(matches!(bring_back(&backup, &data).await.unwrap_err(), Error::Refused(_)));
}

#[tokio::test]
async fn an_unfinished_restore_is_not_served() {
    let lab = Lab::new(Kind::Sqlite).await;
    lab.push(&repo("a"), b"x").await;
    let backup = lab.folder.path().join("backup");
    back_up(&lab.store, &backup).await.unwrap();
    let options = StoreOptions::new(lab.folder.path().join("data"));
    // It has something to tell, and somebody who listens only to the first.
    let blob = blob_file(&backup, b"x");
    fs::write(&blob, "y").unwrap();
    let (sender, items) = mpsc::channel(1);
    let restoring = tokio::spawn({
        let (backup, options) = (backup.clone(), options.clone());
        async move { restore(&backup, None, &options, sender).await }
    });
    until(async || options.data.join("metadata.sqlite").exists()).await;
    drop(items);
    assert!(matches!(restoring.await.unwrap(), Err(Error::Abandoned)));
    fs::write(&blob, "x").unwrap();
    let refused = Store::open(&options).await.err().unwrap();
    assert!(matches!(&refused, Error::Restoring(data) if *data == options.data), "{refused}");
    assert!(refused.to_string().contains("remove the directory and restore again"), "{refused}");
    assert!(matches!(bring_back(&backup, &options.data).await.unwrap_err(), Error::Restoring(_)));
    fs::remove_dir_all(&options.data).unwrap();
    bring_back(&backup, &options.data).await.unwrap();
    open(&options.data).await.unwrap();
}

#[tokio::test]
async fn a_backup_inside_the_data_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data).await.unwrap();
    symlink(&data, folder.path().join("link")).unwrap();
    for inside in [data.clone(), data.join("backups/mine"), folder.path().join("link/backup")] {
        let refused = back_up(&store, &inside).await.unwrap_err();
        assert!(matches!(refused, Error::Refused(_)), "{refused}");
    }
    assert!(!data.join("backups").exists());
    back_up(&store, &folder.path().join("data2/backup")).await.unwrap();
}

#[tokio::test]
async fn two_backups_into_one_folder_do_not_run_at_once() {
    let lab = Lab::new(Kind::Memory).await;
    lab.push(&repo("a"), b"x").await;
    let backup = lab.folder.path().join("backup");
    let (first, mut items) = stalled(&lab, &backup).await;
    assert!(matches!(back_up(&lab.store, &backup).await, Err(Error::Busy(_))));
    while items.recv().await.is_some() {}
    first.await.unwrap().unwrap();
    back_up(&lab.store, &backup).await.unwrap();
}
