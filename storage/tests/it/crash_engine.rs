// SPDX-License-Identifier: AGPL-3.0-only
//! The embedded engines after `kill -9`: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use stella_storage::Error;
use stella_storage::kv::{Engine, MAX_PAGE_ROWS, ReadTx, Sqlite, SqliteOptions, WriteTx};
#[cfg(feature = "sled")]
use stella_storage::kv::{Sled, SledOptions};

use crate::crash::{ROUNDS, acknowledge, child, content, run_and_kill};

const TASKS: u32 = 8;

fn sqlite(folder: &Path) -> Engine {
    let options = SqliteOptions { path: folder.join("metadata.sqlite"), cache: 4 << 20 };
    Engine::Sqlite(Sqlite::open(&options).unwrap())
}

#[cfg(feature = "sled")]
fn sled(folder: &Path) -> Engine {
    let options = SledOptions { path: folder.join("metadata.sled"), cache: 4 << 20 };
    Engine::Sled(Sled::open(&options).unwrap())
}

#[test]
fn sqlite_child() {
    work(sqlite);
}

#[cfg(feature = "sled")]
#[test]
fn sled_child() {
    work(sled);
}

/// Writes as a child until it is killed.
fn work(open: fn(&Path) -> Engine) {
    let Some((folder, round)) = child() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let engine = Arc::new(open(&folder));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    for number in 0u32.. {
                        write(&engine, format!("{round}-{task}-{number}"), number % 5 == 4).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Writes a key and its twin, or fails after both.
async fn write(engine: &Engine, name: String, fails: bool) {
    let key = name.clone();
    let result = engine
        .write(0, async move |tx: &mut WriteTx| {
            tx.put(format!("a{key}").into_bytes(), content(&key))?;
            tx.put(format!("b{key}").into_bytes(), Vec::new())?;
            if fails { Err(Error::ConditionFailed) } else { Ok(()) }
        })
        .await;
    match result {
        Ok(()) => acknowledge(&name),
        Err(error) => assert!(fails && matches!(error, Error::ConditionFailed), "{error}"),
    }
}

async fn names(engine: &Engine, table: &'static [u8]) -> BTreeSet<String> {
    let (mut names, mut after) = (BTreeSet::new(), None);
    loop {
        let from: Option<Vec<u8>> = after.clone();
        let scan = async move |tx: &mut ReadTx| tx.range(table, from.as_deref(), MAX_PAGE_ROWS.min(50)).await;
        let page = engine.scan(scan).await.unwrap();
        let Some(last) = page.last() else { return names };
        after = Some(last.0.clone());
        for (key, value) in &page {
            let name = std::str::from_utf8(&key[1..]).unwrap();
            assert!(table == b"b" || *value == content(name), "{name} is damaged");
            names.insert(name.to_owned());
        }
    }
}

#[tokio::test]
async fn what_sqlite_acknowledged_survives_a_kill() {
    acknowledged_survives_a_kill("crash_engine::sqlite_child", sqlite).await;
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn what_sled_acknowledged_survives_a_kill() {
    acknowledged_survives_a_kill("crash_engine::sled_child", sled).await;
}

async fn acknowledged_survives_a_kill(child: &str, open: fn(&Path) -> Engine) {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for (round, lines) in (0..).zip(ROUNDS) {
        acknowledged.extend(run_and_kill(child, folder.path(), round, lines * 4));
        let engine = open(folder.path());
        let found = names(&engine, b"a").await;
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
        assert_eq!(names(&engine, b"b").await, found, "a transaction is there by half");
        for name in &found {
            let number: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
            assert_ne!(number % 5, 4, "{name} failed and is there");
        }
    }
    assert!(acknowledged.len() >= ROUNDS.iter().sum());
}
