// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of what only SQLite does: its file, its batches, its errors.

use std::time::Duration;

use super::connection::{APPLICATION_ID, FORMAT};
use super::*;
use crate::error::DataFault;
use crate::kv::{Engine, suite};

fn options(folder: &tempfile::TempDir) -> SqliteOptions {
    SqliteOptions { path: folder.path().join("metadata.sqlite"), cache: 4 << 20 }
}

#[test]
fn the_sqlite_engine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    suite::run(&async || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let path = folder.path().join(format!("{number}.sqlite"));
        Engine::Sqlite(Sqlite::open(&SqliteOptions { path, cache: 4 << 20 }).unwrap())
    });
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    suite::reopens(&async || Engine::Sqlite(Sqlite::open(&options(&folder)).unwrap()));
}

#[test]
fn nobody_else_on_the_machine_can_read_it() {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("metadata.sqlite-wal");
    for _ in 0..2 {
        let _open = Sqlite::open(&options(&folder)).unwrap();
        for file in [&options(&folder).path, &log] {
            assert_eq!(metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
            // As an older version made it.
            set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
    }
}

#[test]
fn a_newer_file_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sqlite::open(&options(&folder)).unwrap());
    let connection = Connection::open(&options(&folder).path).unwrap();
    connection.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    drop(connection);
    let error = Sqlite::open(&options(&folder)).err().unwrap();
    assert!(matches!(error, Error::NewerSchema { found: 2, supported: 1 }), "{error}");
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(&options(&folder).path).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let before = std::fs::read(options(&folder).path).unwrap();
    assert!(matches!(Sqlite::open(&options(&folder)).err().unwrap(), Error::Corrupt(_)));
    assert!(std::fs::read(options(&folder).path).unwrap() == before, "their file was changed");
    std::fs::write(options(&folder).path, vec![b'x'; 8192]).unwrap();
    assert!(Sqlite::open(&options(&folder)).is_err());
}

#[test]
fn a_file_whose_making_was_interrupted_is_made_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(&options(&folder).path).unwrap();
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    drop(connection);
    drop(Sqlite::open(&options(&folder)).unwrap());
    drop(Sqlite::open(&options(&folder)).unwrap());
}

#[tokio::test]
async fn a_function_that_panics_hurts_only_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sqlite(Sqlite::open(&options(&folder)).unwrap());
    let good = |number: u8| engine.write(0, async move |tx: &mut WriteTx| tx.put(vec![number], vec![]));
    let bad = engine.write(0, async |tx: &mut WriteTx| -> Result<()> {
        tx.put(b"bad".to_vec(), vec![])?;
        panic!("expected by this test")
    });
    let (first, bad, second) = tokio::join!(good(1), bad, good(2));
    first.unwrap();
    second.unwrap();
    assert!(matches!(bad, Err(Error::Unavailable(_))));
    let rows = engine.scan(async |tx: &mut crate::kv::ReadTx| tx.range(b"", None, 9).await).await.unwrap();
    assert_eq!(rows.len(), 2);
    engine.health().unwrap();
}

#[tokio::test]
async fn scans_wait_for_one_another_before_they_exhaust_memory() {
    use std::sync::Condvar;
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(Engine::Sqlite(Sqlite::open(&options(&folder)).unwrap()));
    let running = Arc::new((Mutex::new(0usize), Condvar::new()));
    let scans: Vec<_> = (0..3 * IDLE_READERS)
        .map(|_| {
            let (engine, running) = (Arc::clone(&engine), Arc::clone(&running));
            tokio::spawn(async move {
                let crowd = async move |_: &mut crate::kv::ReadTx| {
                    let (count, changed) = &*running;
                    *count.lock().unwrap() += 1;
                    changed.notify_all();
                    // As long as others may still come in.
                    let wait = Duration::from_millis(100);
                    let (mut count, _) = changed
                        .wait_timeout_while(count.lock().unwrap(), wait, |count| *count <= IDLE_READERS)
                        .unwrap();
                    let seen = *count;
                    *count -= 1;
                    Ok(seen)
                };
                engine.scan(crowd).await.unwrap()
            })
        })
        .collect();
    for scan in scans {
        assert!(scan.await.unwrap() <= IDLE_READERS);
    }
}

#[tokio::test]
async fn after_a_failed_commit_the_engine_says_so_and_reopens() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::Sqlite(Sqlite::open(&options(&folder)).unwrap());
    let put = async |tx: &mut WriteTx| tx.put(b"k".to_vec(), b"v".to_vec());
    engine.write(0, put).await.unwrap();
    // Another connection that holds the write lock makes the next commit fail after its timeout.
    let other = Connection::open(&options(&folder).path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(engine.write(0, put).await, Err(Error::Unavailable(_))));
    assert!(engine.health().is_err());
    other.execute_batch("ROLLBACK").unwrap();
    engine.write(0, put).await.unwrap();
    engine.health().unwrap();
}

const PUT: fn(&mut WriteTx) -> Result<()> = |tx| tx.put(b"k".to_vec(), b"v".to_vec());

async fn put(engine: &Engine) -> Result<()> {
    engine.write(0, async |tx: &mut WriteTx| PUT(tx)).await
}

/// An engine in a folder that can be moved away and back.
fn movable() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let (here, away) = (folder.path().join("here"), folder.path().join("away"));
    std::fs::create_dir(&here).unwrap();
    let options = SqliteOptions { path: here.join("metadata.sqlite"), cache: 4 << 20 };
    let engine = Engine::Sqlite(Sqlite::open(&options).unwrap());
    (folder, here, away, engine)
}

#[tokio::test]
async fn nothing_is_written_to_a_file_that_was_taken_away() {
    let (_folder, here, away, engine) = movable();
    put(&engine).await.unwrap();
    std::fs::rename(&here, &away).unwrap();
    for _ in 0..2 {
        assert!(matches!(put(&engine).await, Err(Error::Data(DataFault::Gone))));
        assert!(matches!(engine.health(), Err(Error::Data(DataFault::Gone))));
    }
    std::fs::create_dir(&here).unwrap();
    drop(Sqlite::open(&SqliteOptions { path: here.join("metadata.sqlite"), cache: 0 }).unwrap());
    for _ in 0..2 {
        // Its log went when it was closed.
        assert!(matches!(put(&engine).await, Err(Error::Data(_))));
    }
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    put(&engine).await.unwrap();
    engine.health().unwrap();
}

#[tokio::test]
async fn what_was_committed_to_a_file_that_goes_away_meanwhile_is_not_acknowledged() {
    let (_folder, here, away, engine) = movable();
    put(&engine).await.unwrap();
    let (from, to) = (here.clone(), away.clone());
    // Between the look before the commit and the commit.
    let late = async move |tx: &mut WriteTx| {
        std::fs::rename(&from, &to).unwrap();
        PUT(tx)
    };
    assert!(matches!(engine.write(0, late).await, Err(Error::CommitUnknown(_))));
    assert!(engine.health().is_err());
    std::fs::rename(&away, &here).unwrap();
    put(&engine).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_reopens_makes_no_new_file_and_takes_no_other() {
    let (_folder, here, away, engine) = movable();
    put(&engine).await.unwrap();
    let path = here.join("metadata.sqlite");
    // A commit that fails makes it close its file.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(put(&engine).await, Err(Error::Unavailable(_))));
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    std::fs::rename(&here, &away).unwrap();
    std::fs::create_dir(&here).unwrap();
    assert!(matches!(put(&engine).await, Err(Error::Data(DataFault::Gone))));
    assert_eq!(std::fs::read_dir(&here).unwrap().count(), 0);
    drop(Sqlite::open(&SqliteOptions { path, cache: 0 }).unwrap());
    assert!(matches!(put(&engine).await, Err(Error::Data(DataFault::Replaced))));
    let Engine::Sqlite(sqlite) = &engine else { panic!("another engine") };
    sqlite.readers.idle.lock().unwrap().clear();
    let read = engine.read(async |tx: &mut crate::kv::ReadTx| tx.get(b"k").await).await;
    assert!(matches!(read, Err(Error::Data(DataFault::Replaced))), "{read:?}");
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    put(&engine).await.unwrap();
    let read = engine.read(async |tx: &mut crate::kv::ReadTx| tx.get(b"k").await).await;
    assert_eq!(read.unwrap(), Some(b"v".to_vec()));
}

#[test]
fn a_range_costs_what_it_holds_and_not_what_lies_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sqlite::open(&options(&folder)).unwrap());
    let connection = Connection::open(&options(&folder).path).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO kv SELECT CAST(printf('b%06d', i) AS BLOB), x'00' FROM n",
        )
        .unwrap();
    for (from, to, expected) in [("a", "b", 0), ("b000010", "b000013", 3)] {
        let mut select = connection.prepare(RANGE).unwrap();
        let rows = select.query_map(params![from.as_bytes(), 100, to.as_bytes()], |_| Ok(())).unwrap();
        assert_eq!(rows.count(), expected);
        let steps = select.get_status(rusqlite::StatementStatus::VmStep);
        assert!(steps < 200, "{steps} steps of SQLite's machine for {expected} rows");
    }
}
