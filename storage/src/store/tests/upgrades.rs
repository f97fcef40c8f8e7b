// SPDX-License-Identifier: AGPL-3.0-only
//! Data that an older version wrote: it is upgraded, or left alone by who was told to wait.

use super::*;

fn options(folder: &TempDir) -> StoreOptions {
    StoreOptions { memory: Budget::of(1 << 20, 4 << 20), ..StoreOptions::new(folder.path().join("data")) }
}

/// Makes of an engine's rows what a program of schema version 1 would have written.
async fn age(engine: &Engine) {
    let by_id = async |tx: &mut ReadTx| tx.range(keys::REPOSITORIES_BY_ID, None, MAX_PAGE_ROWS).await;
    let rows = engine.read(by_id).await.unwrap();
    let write = async move |tx: &mut WriteTx| {
        rows.iter().try_for_each(|(key, _)| tx.delete(key.clone()))?;
        tx.put(keys::SCHEMA_VERSION.to_vec(), 1u32.to_be_bytes().to_vec())
    };
    engine.write(0, write).await.unwrap();
}

/// A data directory of schema version 1 with a blob in it.
async fn old_data(options: &StoreOptions) {
    let store = Store::open(options).await.unwrap();
    store.push_blob(&repo("a"), &sha256(b"abc"), None, body(b"abc"), &actor("ci")).await.unwrap();
    age(&store.engine).await;
}

#[tokio::test]
async fn a_store_of_the_first_schema_learns_the_names_of_its_repositories_by_their_ids() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::Memory(Memory::new());
    let names: Vec<String> = (0..2_500).map(|number| format!("repo-{number}")).collect();
    let write = async |key: Vec<u8>, value: Vec<u8>| {
        let put = async move |tx: &mut WriteTx| tx.put(key.clone(), value.clone());
        engine.write(0, put).await.unwrap();
    };
    for (id, name) in (0..).zip(&names) {
        let row = rows::encode(&rows::Repository { id: RepoId(id), created: START }).unwrap();
        write(keys::repository(name), row).await;
    }
    write(keys::SCHEMA_VERSION.to_vec(), 1u32.to_be_bytes().to_vec()).await;
    let clock = Arc::new(ManualClock::new(START));
    let store = Store::with_engine(engine, clock, &options(&folder)).await.unwrap();
    let read = async |key: Vec<u8>| {
        store.engine.read(async |tx: &mut ReadTx| tx.get(&key).await).await.unwrap().unwrap()
    };
    for (id, name) in (0..).zip(&names) {
        assert_eq!(read(keys::repository_by_id(RepoId(id))).await, name.as_bytes());
    }
    assert_eq!(read(keys::SCHEMA_VERSION.to_vec()).await, SCHEMA.to_be_bytes());
}

#[tokio::test]
async fn who_is_told_to_wait_changes_nothing_and_says_what_would_change() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    old_data(&options).await;
    let waiting = StoreOptions { upgrade: Upgrade::Wait, ..options.clone() };
    for _ in 0..2 {
        let refused = Store::open(&waiting).await.err().unwrap();
        assert!(matches!(refused, Error::OlderSchema { found: 1, current: SCHEMA, .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("adds a row for each repository") && text.contains("`stella upgrade`"),
            "{text}"
        );
    }
    // And it was the refusal that left version 1 there, not that nobody upgrades.
    let store = Store::open(&options).await.unwrap();
    assert_eq!(read(&store, &repo("a"), &sha256(b"abc")).await.unwrap(), b"abc");
    drop(store);
    Store::open(&waiting).await.unwrap();
}

#[tokio::test]
async fn who_is_told_to_wait_begins_new_data_all_the_same() {
    let folder = TempDir::new().unwrap();
    let waiting = StoreOptions { upgrade: Upgrade::Wait, ..options(&folder) };
    let store = Store::open(&waiting).await.unwrap();
    store.push_blob(&repo("a"), &sha256(b"x"), None, body(b"x"), &actor("ci")).await.unwrap();
}

#[tokio::test]
async fn an_upgraded_store_has_no_faults() {
    let folder = TempDir::new().unwrap();
    let options = options(&folder);
    old_data(&options).await;
    let store = Store::open(&options).await.unwrap();
    let (sender, mut items) = mpsc::channel(64);
    let (summary, first) = tokio::join!(store.fsck(false, sender), items.recv());
    summary.unwrap();
    assert!(first.is_none(), "{}", first.unwrap());
}

#[test]
fn there_is_a_step_to_each_version() {
    let versions: Vec<_> = upgrade::STEPS.iter().map(|&(version, _)| version).collect();
    assert_eq!(versions, (2..=SCHEMA).collect::<Vec<_>>());
}
