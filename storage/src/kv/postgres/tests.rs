// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of what only the PostgreSQL engine does: its hold, lost connections, conflicts, its URL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::server::PostgresServer;
use super::*;
use crate::kv::{Engine, suite};

async fn open(url: &str) -> Result<Postgres> {
    Postgres::open(PostgresOptions::new(url).unwrap()).await
}

async fn engine(url: &str) -> Engine {
    Engine::Postgres(open(url).await.unwrap())
}

fn inner(engine: &Engine) -> &Shared {
    let Engine::Postgres(postgres) = engine else { panic!("another engine") };
    &postgres.shared
}

async fn put(engine: &Engine, key: &[u8]) -> Result<()> {
    let key = key.to_vec();
    engine.write(0, async move |tx: &mut WriteTx| tx.put(key.clone(), b"v".to_vec())).await
}

async fn get(engine: &Engine, key: &[u8]) -> Result<Option<Vec<u8>>> {
    engine.read(async |tx: &mut ReadTx| tx.get(key).await).await
}

/// Polls until something is so; fails when it takes too long.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn the_postgres_engine_keeps_the_contract() {
    let Some(server) = PostgresServer::start("the suite on PostgreSQL") else { return };
    // Thousands of commits, and no crash.
    server.sql("ALTER SYSTEM SET fsync = off");
    server.sql("SELECT pg_reload_conf()");
    let count = AtomicU32::new(0);
    suite::run(&async || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        engine(&server.schema(&format!("s{number}"))).await
    });
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let Some(server) = PostgresServer::start("reopening on PostgreSQL") else { return };
    let url = server.schema("s");
    suite::reopens(&async || engine(&url).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_keeps_what_was_acknowledged_and_is_found_again() {
    let Some(server) = PostgresServer::start("a killed PostgreSQL") else { return };
    let engine = Arc::new(engine(&server.schema("s")).await);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..3u8 {
        let stop = Arc::new(Notify::new());
        let tasks: Vec<_> = (0..4u8)
            .map(|task| {
                let (engine, acknowledged) = (Arc::clone(&engine), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    for number in 0u32.. {
                        let key = [&[round, task], number.to_be_bytes().as_slice()].concat();
                        match put(&engine, &key).await {
                            Ok(()) => lock(&acknowledged).push(key),
                            Err(Error::Unavailable(_) | Error::CommitUnknown(_)) => return,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        let before = lock(&acknowledged).len();
        until("writes", async || lock(&acknowledged).len() >= before + 50).await;
        tokio::task::block_in_place(|| server.kill());
        for task in tasks {
            task.await.unwrap();
        }
        until("the loss is noticed", async || engine.health().is_err()).await;
        assert!(matches!(get(&engine, b"k").await, Err(Error::Unavailable(_))));
        assert!(matches!(put(&engine, b"k").await, Err(Error::Unavailable(_))));
        drop(stop);
        tokio::task::block_in_place(|| server.start_again());
        until("writes succeed again", async || put(&engine, b"k").await.is_ok()).await;
        engine.health().unwrap();
        let keys = lock(&acknowledged).clone();
        for chunk in keys.chunks(1000) {
            let found = engine.read(async |tx: &mut ReadTx| tx.get_many(chunk).await).await.unwrap();
            let lost: Vec<_> = chunk.iter().zip(found).filter(|(_, value)| value.is_none()).collect();
            assert!(lost.is_empty(), "{lost:?} were acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_and_told_who_holds_the_database() {
    let Some(server) = PostgresServer::start("two processes on PostgreSQL") else { return };
    let url = server.schema("s");
    let first = engine(&url).await;
    let error = open(&url).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, Error::DatabaseLocked { .. }), "{text}");
    let holder = format!("stella process {} on ", std::process::id());
    assert!(text.contains(&holder) && text.contains("PostgreSQL's process "), "{text}");
    put(&first, b"k").await.unwrap();
    // Another schema is another database to us.
    put(&engine(&server.schema("other")).await, b"k").await.unwrap();
    drop(first);
    put(&engine(&url).await, b"k").await.unwrap();
}

/// Ends the connection that holds the schema's lock; somebody else waits for it, and has it next.
async fn usurp(server: &PostgresServer, url: &str) -> Postgres {
    let next = {
        let url = url.to_owned();
        tokio::spawn(async move { open(&url).await.unwrap() })
    };
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    until("somebody waits", async || server.sql(waiting) == "1").await;
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
    next.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_hold_writes_nothing_until_it_is_regained() {
    let Some(server) = PostgresServer::start("a lost hold on PostgreSQL") else { return };
    let url = server.schema("s");
    let first = Arc::new(engine(&url).await);
    put(&first, b"before").await.unwrap();
    let second = Engine::Postgres(usurp(&server, &url).await);
    put(&second, b"second").await.unwrap();
    until("the loss is noticed", async || first.health().is_err()).await;
    let error = put(&first, b"k").await.unwrap_err().to_string();
    assert!(error.contains("does not hold the PostgreSQL database postgres at "), "{error}");
    assert_eq!(get(&second, b"k").await.unwrap(), None);
    // Even if it had not noticed: the epoch is another.
    *lock(&inner(&first).epoch) = Ok(1);
    let error = put(&first, b"k").await.unwrap_err().to_string();
    assert!(error.contains("taken over"), "{error}");
    assert_eq!(get(&second, b"k").await.unwrap(), None);
    drop(second);
    until("the hold is regained", async || put(&first, b"k").await.is_ok()).await;
    assert_eq!(get(&first, b"second").await.unwrap(), Some(b"v".to_vec()));
    first.health().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_had_begun_is_waited_for_before_another_process_takes_over() {
    let Some(server) = PostgresServer::start("a takeover on PostgreSQL") else { return };
    let url = server.schema("s");
    let first = Arc::new(engine(&url).await);
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let writing = tokio::spawn({
        let (first, begun, go) = (Arc::clone(&first), Arc::clone(&begun), Arc::clone(&go));
        async move {
            let slow = async move |tx: &mut WriteTx| {
                tx.get(b"k").await?;
                begun.notify_one();
                go.notified().await;
                tx.put(b"k".to_vec(), b"v".to_vec())
            };
            first.write(0, slow).await
        }
    });
    begun.notified().await;
    let usurping = usurp(&server, &url);
    let mut usurping = pin!(usurping);
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'";
    tokio::select! {
        _ = &mut usurping => panic!("the takeover did not wait"),
        () = until("the takeover waits", async || server.sql(blocked) == "1") => {}
    }
    go.notify_one();
    writing.await.unwrap().unwrap();
    let second = Engine::Postgres(usurping.await);
    assert_eq!(get(&second, b"k").await.unwrap(), Some(b"v".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_at_commit_leaves_the_outcome_unknown_and_nothing_is_repeated() {
    let Some(server) = PostgresServer::start("an unknown commit on PostgreSQL") else { return };
    let engine = engine(&server.schema("s")).await;
    // A server that never answers COMMIT: it waits for a standby that does not exist.
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.sql("SELECT pg_reload_conf()");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let function = async move |tx: &mut WriteTx| {
        counted.fetch_add(1, Ordering::SeqCst);
        tx.put(b"k".to_vec(), b"v".to_vec())
    };
    let write = engine.write(0, function);
    let ending = async {
        until("the commit waits", async || server.sql(waiting) == "1").await;
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    };
    let (written, ()) = tokio::join!(write, ending);
    assert!(matches!(written, Err(Error::CommitUnknown(_))), "{written:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(engine.health().is_err());
    server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    server.sql("SELECT pg_reload_conf()");
    // It did happen, this time.
    assert_eq!(get(&engine, b"k").await.unwrap(), Some(b"v".to_vec()));
    put(&engine, b"k").await.unwrap();
    engine.health().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_ended_are_replaced_without_an_error() {
    let Some(server) = PostgresServer::start("ended connections on PostgreSQL") else { return };
    let engine = engine(&server.schema("s")).await;
    for _ in 0..3 {
        put(&engine, b"k").await.unwrap();
        assert!(!lock(&inner(&engine).idle).is_empty());
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'stella%' \
             AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')",
        );
        assert_eq!(get(&engine, b"k").await.unwrap(), Some(b"v".to_vec()));
        put(&engine, b"k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_panics_hurts_only_its_caller() {
    let Some(server) = PostgresServer::start("a panic on PostgreSQL") else { return };
    let engine = engine(&server.schema("s")).await;
    let bad = async |tx: &mut WriteTx| -> Result<()> {
        tx.put(b"bad".to_vec(), vec![])?;
        panic!("expected by this test")
    };
    for _ in 0..2 * WRITERS {
        assert!(matches!(engine.write(0, bad).await, Err(Error::Unavailable(_))));
    }
    put(&engine, b"k").await.unwrap();
    assert_eq!(get(&engine, b"bad").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused() {
    let Some(server) = PostgresServer::start("a newer format on PostgreSQL") else { return };
    let url = server.schema("s");
    drop(open(&url).await.unwrap());
    server.sql(&format!("UPDATE s.stella_holder SET format = {}", 2));
    let error = open(&url).await.err().unwrap();
    assert!(matches!(error, Error::NewerSchema { found: 2, supported: 1 }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_reads_the_whole_table() {
    let Some(server) = PostgresServer::start("plans of PostgreSQL") else { return };
    let url = server.schema("s");
    let scans = |what: &str, table: &str| {
        server.sql(&format!("SELECT {what} FROM pg_stat_all_tables WHERE relname = '{table}'"))
    };
    // Counted when a connection ends. The one is the making of the index.
    drop(engine(&url).await);
    until("the first scan is counted", async || scans("seq_scan", "stella_rows") == "1").await;
    let engine = engine(&url).await;
    put(&engine, b"k").await.unwrap();
    get(&engine, b"k").await.unwrap();
    let many = [b"k".to_vec(), b"l".to_vec()];
    engine.read(async |tx: &mut ReadTx| tx.get_many(&many).await).await.unwrap();
    for prefix in [b"k".as_slice(), b"", b"\xff"] {
        engine.scan(async move |tx: &mut ReadTx| tx.range(prefix, None, 5).await).await.unwrap();
    }
    engine.dump((), |(), _, _| Ok(())).await.unwrap();
    engine.write(0, async |tx: &mut WriteTx| tx.delete(b"k".to_vec())).await.unwrap();
    drop(engine);
    until("the scans are counted", async || scans("idx_scan > 6", "stella_rows") == "t").await;
    assert_eq!(scans("seq_scan", "stella_rows"), "1");
    assert_eq!(scans("seq_scan", "stella_holder"), "1");
}

#[test]
fn a_url_that_cannot_be_used_is_refused_and_never_repeated() {
    for (url, why) in [
        ("mysql://u:secret@localhost/db", "does not begin"),
        ("postgres://u:secret@localhost:port/db", "cannot be read"),
        ("postgres://u:secret@localhost/db?sslmode=require", "does not speak"),
        ("postgres://u:secret@localhost/db?sslmode=verify-full", "does not speak"),
        ("postgres://u:secret@db.example.org/db", "`sslmode=disable`"),
        ("postgres://u:secret@localhost/db?cret=1", "cannot be read"),
        ("postgres:///db", "names no host"),
    ] {
        let error = PostgresOptions::new(url).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains("cret"), "{url}: {error}");
    }
    for (url, place) in [
        ("postgres://u:secret@localhost/db", "db at localhost:5432"),
        ("postgres://u:secret@[::1]:6000/db", "db at ::1:6000"),
        ("postgresql://u:secret@db.example.org/db?sslmode=disable", "db at db.example.org:5432"),
        ("postgres:///db?host=/run/postgresql&user=u&password=secret", "db at /run/postgresql:5432"),
    ] {
        let options = PostgresOptions::new(url).unwrap();
        assert_eq!(format!("{options:?}"), format!("the PostgreSQL database {place}"));
    }
}
