// SPDX-License-Identifier: AGPL-3.0-only
//! Opening a data directory: who has it, and which version wrote it.

use super::*;
use crate::error::DataFault;

fn options(folder: &TempDir) -> StoreOptions {
    StoreOptions { memory: Budget::of(1 << 20, 4 << 20), ..StoreOptions::new(folder.path().join("data")) }
}

#[tokio::test]
async fn a_directory_in_use_is_refused_naming_the_holder() {
    let folder = tempfile::tempdir().unwrap();
    let holder = Store::open(&options(&folder)).await.unwrap();
    for _ in 0..2 {
        match Store::open(&options(&folder)).await.err().unwrap() {
            Error::Locked { path, holder } => {
                assert_eq!(path, options(&folder).data);
                assert_eq!(holder, format!("process {}", std::process::id()));
            }
            other => panic!("{other}"),
        }
    }
    drop(holder);
    Store::open(&options(&folder)).await.unwrap();
}

#[tokio::test]
async fn a_lock_file_without_a_name_still_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let _holder = Store::open(&options(&folder)).await.unwrap();
    fs::write(options(&folder).data.join("lock"), "").unwrap();
    let refused = Store::open(&options(&folder)).await.err().unwrap();
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
}

#[tokio::test]
async fn an_abandoned_writer_holds_the_directory_until_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let repo = repo("a");
    let store = Arc::new(Store::open(&options(&folder)).await.unwrap());
    let id = store.begin_upload(&repo, Algorithm::Sha256, &actor("ci")).await.unwrap();
    let (more, body) = pipe();
    let (other, name) = (Arc::clone(&store), repo.clone());
    let request = tokio::spawn(async move { other.append_upload(&name, id, Chunk::default(), body).await });
    more.send(Ok(Bytes::from_static(b"abc"))).unwrap();
    until(async || store.upload_status(&repo, id).await.unwrap().offset == 3).await;
    request.abort();
    let _gone = request.await;
    drop(store);
    // On this runtime nothing runs but what is awaited: the writer is not done yet.
    let mut refused = 0;
    let store = loop {
        match soon(Store::open(&options(&folder))).await.unwrap() {
            Ok(store) => break store,
            Err(error) => {
                assert!(matches!(error, Error::Locked { .. }), "{error}");
                refused += 1;
            }
        }
        tokio::task::yield_now().await;
    };
    assert!(refused > 0, "two stores could write to one file");
    assert_eq!(store.upload_status(&repo, id).await.unwrap().offset, 3);
}

#[tokio::test]
async fn rows_of_a_newer_program_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&folder)).await.unwrap();
    let newer =
        async |tx: &mut WriteTx| tx.put(keys::SCHEMA_VERSION.to_vec(), (SCHEMA + 1).to_be_bytes().to_vec());
    store.engine.write(0, newer).await.unwrap();
    drop(store);
    let refused = Store::open(&options(&folder)).await.err().unwrap();
    assert!(matches!(refused, Error::NewerSchema { found: 3, supported: SCHEMA }), "{refused}");
    assert!(refused.to_string().contains("start the newer program"));
}

#[tokio::test]
async fn a_schema_version_that_cannot_be_read_is_damage() {
    on_both(async |lab| {
        lab.put_raw(keys::SCHEMA_VERSION.to_vec(), b"x".to_vec()).await;
        let checked = lab.store.engine.write(0, upgrade::check_schema).await;
        assert!(matches!(checked, Err(Error::Corrupt(_))));
    })
    .await;
}

#[tokio::test]
async fn any_budget_and_any_depth_of_new_folders_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new/newer/newest");
    for memory in [0, usize::MAX] {
        let store = Store::open(&StoreOptions {
            memory: Budget::of(memory, 4 << 20),
            ..StoreOptions::new(data.clone())
        })
        .await
        .unwrap();
        store.push_blob(&repo("a"), &sha256(b"x"), None, body(b"x"), &actor("ci")).await.unwrap();
        store.ready().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let refused = Store::open(&options(&folder)).await.err().unwrap();
    assert!(matches!(refused, Error::Io { .. }), "{refused}");
    assert!(refused.is_internal());
}

#[tokio::test]
async fn a_store_that_could_not_write_notices_by_itself_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&folder)).await.unwrap();
    let other = rusqlite::Connection::open(options(&folder).data.join("metadata.sqlite")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let push = store.push_blob(&repo("a"), &sha256(b"x"), None, body(b"x"), &actor("ci")).await;
    assert!(matches!(push, Err(Error::Unavailable(_))), "{push:?}");
    assert!(store.ready().await.is_err());
    other.execute_batch("ROLLBACK").unwrap();
    // Nobody writes: asking is enough.
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_took_the_place_of_the_blobs_takes_none_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let periods = Periods { grace: Duration::ZERO, ..Periods::default() };
    let store = Store::open(&StoreOptions { periods, ..options(&folder) }).await.unwrap();
    let (app, who) = (repo("app"), actor("ci"));
    let push = async || store.push_blob(&app, &sha256(b"x"), None, body(b"x"), &who).await;
    let (blobs, away) = (options(&folder).data.join("blobs"), folder.path().join("away"));
    push().await.unwrap();
    store.delete_blob(&app, &sha256(b"x")).await.unwrap();
    let id = store.begin_upload(&app, Algorithm::Sha256, &who).await.unwrap();
    fs::rename(&blobs, &away).unwrap();
    // What an administrator makes who mounts another disk there.
    LocalBlobs::open(&blobs).unwrap();
    assert!(matches!(push().await, Err(Error::Data(DataFault::Replaced))));
    let appended = store.append_upload(&app, id, Chunk::default(), body(b"x")).await;
    assert!(matches!(appended, Err(Error::Data(DataFault::Replaced))), "{appended:?}");
    assert_eq!(store.collect().await.unwrap().files, 0);
    assert!(matches!(store.ready().await, Err(Error::Data(DataFault::Replaced))));
    fs::remove_dir_all(&blobs).unwrap();
    fs::rename(&away, &blobs).unwrap();
    store.ready().await.unwrap();
    // The one that was deleted, and the one that failed, which left a row and no file.
    assert_eq!(store.collect().await.unwrap().files, 2);
    assert!((0..=u8::MAX).all(|part| store.blobs.list(part).unwrap().is_empty()));
    push().await.unwrap();
    assert_eq!(read(&store, &app, &sha256(b"x")).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_store_whose_directory_was_replaced_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&options(&folder)).await.unwrap();
    store.ready().await.unwrap();
    let (data, away) = (options(&folder).data, folder.path().join("away"));
    fs::rename(&data, &away).unwrap();
    assert!(matches!(store.ready().await, Err(Error::Data(DataFault::Gone))));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("lock"), "").unwrap();
    assert!(store.ready().await.is_err());
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    store.ready().await.unwrap();
}

#[tokio::test]
async fn what_is_left_of_a_store_is_refused_and_kept() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    let data = &options.data;
    let store = Store::open(&options).await.unwrap();
    store.push_blob(&repo("a"), &sha256(b"abc"), None, body(b"abc"), &actor("ci")).await.unwrap();
    drop(store);
    let refused = async || Store::open(&options).await.err().unwrap().to_string();
    // Without its blobs, or with an empty folder in their place.
    let (blobs, aside) = (data.join("blobs"), data.join("aside"));
    fs::rename(&blobs, &aside).unwrap();
    assert!(refused().await.contains("is gone or empty, and the metadata beside it are there"));
    fs::create_dir(&blobs).unwrap();
    assert!(refused().await.contains("is its disk mounted?"));
    fs::remove_dir(&blobs).unwrap();
    fs::rename(&aside, &blobs).unwrap();
    // Without its metadata: twice, for the first refusal must not make new ones.
    let metadata = data.join("metadata.sqlite");
    fs::rename(&metadata, &aside).unwrap();
    for _ in 0..2 {
        assert!(
            refused().await.contains("the metadata of") && refused().await.contains("are gone, and blobs")
        );
    }
    fs::rename(&aside, &metadata).unwrap();
    let store = Store::open(&options).await.unwrap();
    assert_eq!(read(&store, &repo("a"), &sha256(b"abc")).await.unwrap(), b"abc");
}
