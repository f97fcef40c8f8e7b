// SPDX-License-Identifier: AGPL-3.0-only
//! The default engine: one SQLite file, written by one thread.
//!
//! Callers queue transaction functions; the writer thread takes what waits, runs each function on an
//! overlay over the open SQLite transaction, lays the successful ones down, and commits them all
//! with ONE durable commit. Every answer follows that commit. After an I/O error the engine stops
//! writing, reports it through [`Sqlite::health`], and reopens the file before the next batch.
//! Readers have connections of their own and see the last commit as a snapshot (WAL).
//!
//! `ADR/0001` says why SQLite; the pragmas below are what makes a commit survive a power cut.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Base, Row, WriteTx, complete};
use crate::error::{Error, Result};
use crate::kv::overlay::Overlay;

/// "STEL": tells our files from other programs' SQLite files.
const APPLICATION_ID: i32 = 0x5354_454c;
const FORMAT: i32 = 1;
/// Bytes that may wait for a commit; whoever brings more waits for a place in the queue.
const QUEUE_BYTES: usize = 64 << 20;
/// Transactions in one commit. Each is bounded on its own, so is what a commit writes.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 32 << 20;
const IDLE_READERS: usize = 8;
/// Faults that a check tells of.
const MOST_FAULTS: usize = 20;

/// How to open the engine.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; created when absent.
    pub path: PathBuf,
    /// Page cache in bytes, shared out over the connections.
    pub cache: usize,
}

/// An engine on one SQLite file.
pub struct Sqlite {
    queue: Option<Sender<Queued>>,
    space: Arc<Semaphore>,
    /// Turns for scans: each holds a connection with a cache of its own, and a page.
    turns: Arc<Semaphore>,
    readers: Arc<Readers>,
    health: Arc<Mutex<Result<()>>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Sqlite {
    /// Opens the file, or creates it, and starts the writer thread.
    pub fn open(options: &SqliteOptions) -> Result<Self> {
        let connection = open_writer(options)?;
        let health = Arc::new(Mutex::new(Ok(())));
        let (queue, jobs) = mpsc::channel();
        let writer =
            Writer { connection: Some(connection), options: options.clone(), health: Arc::clone(&health) };
        let thread = std::thread::Builder::new()
            .name("metadata-writer".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|error| Error::io("start the writer of", &options.path, error))?;
        Ok(Sqlite {
            queue: Some(queue),
            space: Arc::new(Semaphore::new(QUEUE_BYTES)),
            turns: Arc::new(Semaphore::new(IDLE_READERS)),
            readers: Arc::new(Readers { options: options.clone(), idle: Mutex::default() }),
            health,
            writer: Some(thread),
        })
    }

    pub(super) fn health(&self) -> Result<()> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::begin(&self.readers)
    }

    /// SQLite's own check of the file, on a connection of its own.
    pub(super) async fn check(&self) -> Result<Vec<String>> {
        let turn = self.turn().await?;
        let options = self.readers.options.clone();
        let check = move || {
            let _turn = turn;
            let connection = open_reader(&options)?;
            let lines = || {
                let mut check = connection.prepare(&format!("PRAGMA integrity_check({MOST_FAULTS})"))?;
                let lines = check.query_map([], |row| row.get(0))?;
                lines.collect::<rusqlite::Result<Vec<String>>>()
            };
            let lines = match lines() {
                Ok(lines) => lines,
                Err(error) => match failure("check", &options.path, &error) {
                    Error::Corrupt(fault) => vec![fault],
                    error => return Err(error),
                },
            };
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|error| Error::Unavailable(format!("a metadata check ended abnormally: {error}")))?
    }

    /// A turn for a scan, to be kept until it ends.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.map_err(|_| stopped())
    }

    pub(super) async fn write<T, F>(&self, weight: usize, function: F) -> Result<T>
    where
        F: AsyncFn(&mut WriteTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let weight = weight.clamp(1024, QUEUE_BYTES);
        let permits = u32::try_from(weight).unwrap_or(u32::MAX);
        let space = Arc::clone(&self.space).acquire_many_owned(permits).await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending { function, result: None, reply: Some(reply) });
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(Queued { job, weight, _space: space }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // What was queued is still committed; its callers may no longer listen.
            let _ended = writer.join();
        }
    }
}

fn stopped() -> Error {
    Error::Unavailable("the metadata writer has stopped".to_owned())
}

struct Queued {
    job: Box<dyn Job>,
    weight: usize,
    _space: OwnedSemaphorePermit,
}

/// One queued transaction, whatever its type.
trait Job: Send {
    /// Runs the function; true when it succeeded and its writes are wanted.
    fn run(&mut self, tx: &mut WriteTx) -> bool;
    /// Answers the caller, after the commit.
    fn answer(&mut self, commit: &Result<()>);
}

struct Pending<F, T> {
    function: F,
    result: Option<Result<T>>,
    reply: Option<oneshot::Sender<Result<T>>>,
}

impl<F, T> Job for Pending<F, T>
where
    F: AsyncFn(&mut WriteTx) -> Result<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut WriteTx) -> bool {
        // A panic in one function must not end the writer for all the others.
        let run = std::panic::AssertUnwindSafe(|| complete((self.function)(tx)));
        let result = std::panic::catch_unwind(run)
            .unwrap_or_else(|_| Err(Error::Unavailable("a transaction function panicked".to_owned())));
        self.result.insert(result).is_ok()
    }

    fn answer(&mut self, commit: &Result<()>) {
        let result = match commit {
            Ok(()) => self.result.take().unwrap_or_else(|| Err(stopped())),
            Err(error) => Err(error.clone()),
        };
        if let Some(reply) = self.reply.take() {
            // The caller may have gone; the change stands all the same.
            let _gone = reply.send(result);
        }
    }
}

struct Writer {
    connection: Option<Connection>,
    options: SqliteOptions,
    health: Arc<Mutex<Result<()>>>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Queued>) {
        while let Ok(first) = jobs.recv() {
            let mut bytes = first.weight;
            let mut batch = vec![first];
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(next) = jobs.try_recv() else { break };
                bytes += next.weight;
                batch.push(next);
            }
            let commit = self.commit(&mut batch);
            if let Err(error) = &commit {
                tracing::error!(%error, "metadata commit failed");
            }
            *self.health.lock().unwrap_or_else(PoisonError::into_inner) = match &commit {
                // A full disk heals by itself, and reading goes on.
                Ok(()) | Err(Error::Full) => Ok(()),
                Err(error) => Err(error.clone()),
            };
            for queued in &mut batch {
                queued.job.answer(&commit);
            }
        }
    }

    fn commit(&mut self, batch: &mut [Queued]) -> Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => reopen_writer(&self.options)?,
        };
        let failed = |doing: &str, error: &rusqlite::Error| failure(doing, &self.options.path, error);
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| failed("write to", &error))?;
        let mut snapshot = Snapshot::writer(connection);
        let mut outcome = Ok(());
        for queued in batch {
            let mut tx = WriteTx::new(Base::Sqlite(snapshot));
            let wanted = queued.job.run(&mut tx);
            let (base, overlay) = tx.into_parts();
            let Base::Sqlite(returned) = base else { return Err(stopped()) };
            snapshot = returned;
            if wanted && outcome.is_ok() {
                outcome =
                    lay_down(snapshot.connection()?, overlay).map_err(|error| failed("write to", &error));
            }
        }
        let connection = snapshot.into_connection()?;
        let begun = outcome.is_ok();
        if begun {
            outcome = connection.execute_batch("COMMIT").map_err(|error| match failed("commit to", &error) {
                Error::Full => Error::Full,
                other => Error::CommitUnknown(other.to_string()),
            });
        }
        match &outcome {
            Ok(()) => self.connection = Some(connection),
            // SQLite goes on with the same handle once there is room.
            Err(Error::Full) => {
                if connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok() {
                    self.connection = Some(connection);
                }
            }
            // After any other error what this handle believes may differ from the disk: reopen.
            Err(_) => drop(connection),
        }
        outcome
    }
}

fn lay_down(connection: &Connection, overlay: Overlay) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO kv (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM kv WHERE k = ?1")?;
    for (key, value) in overlay.into_rows() {
        match value {
            Some(value) => put.execute(params![key, value])?,
            None => delete.execute(params![key])?,
        };
    }
    Ok(())
}

/// Connections for readers; idle ones are kept, more are opened when all are in use.
struct Readers {
    options: SqliteOptions,
    idle: Mutex<Vec<Connection>>,
}

/// A connection inside a transaction.
pub(super) struct Snapshot {
    connection: Option<Connection>,
    // Where a reader's connection goes back to; the writer's has none.
    readers: Option<Arc<Readers>>,
}

impl Snapshot {
    fn begin(readers: &Arc<Readers>) -> Result<Self> {
        let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&readers.options)?,
        };
        connection
            .prepare_cached("BEGIN DEFERRED")
            .and_then(|mut begin| begin.execute([]))
            .map_err(|error| failure("read", &readers.options.path, &error))?;
        Ok(Snapshot { connection: Some(connection), readers: Some(Arc::clone(readers)) })
    }

    fn writer(connection: Connection) -> Self {
        Snapshot { connection: Some(connection), readers: None }
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or_else(stopped)
    }

    fn into_connection(mut self) -> Result<Connection> {
        self.connection.take().ok_or_else(stopped)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let get = |connection: &Connection| {
            let mut select = connection.prepare_cached("SELECT v FROM kv WHERE k = ?1")?;
            select.query_row(params![key], |row| row.get(0)).optional()
        };
        get(self.connection()?).map_err(|error| failure("read", Path::new("the metadata"), &error))
    }

    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>> {
        let range = |connection: &Connection| {
            let mut select = connection.prepare_cached(
                "SELECT k, v FROM kv WHERE k >= ?1 AND (?2 IS NULL OR k < ?2) ORDER BY k LIMIT ?3",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = select.query_map(params![from, to, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<Row>>>()
        };
        range(self.connection()?).map_err(|error| failure("read", Path::new("the metadata"), &error))
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let failed = |error: rusqlite::Error| failure("read", Path::new("the metadata"), &error);
        let mut select = self.connection()?.prepare("SELECT k, v FROM kv ORDER BY k").map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let key_and_value = || Ok((row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?));
            let (key, value) = key_and_value().map_err(failed)?;
            each(key, value)?;
        }
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let (Some(connection), Some(readers)) = (self.connection.take(), &self.readers) else { return };
        let ended = connection.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([])).is_ok();
        let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if ended && idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }
}

fn open_writer(options: &SqliteOptions) -> Result<Connection> {
    let path = &options.path;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error: rusqlite::Error| failure("open", path, &error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    // First of all: the pragmas below would change a file that is not ours.
    check_format(&connection, path)?;
    let configure = || {
        connection.pragma_update(None, "journal_mode", "wal")?;
        // FULL: each commit syncs the log, so an acknowledged write survives a power cut.
        connection.pragma_update(None, "synchronous", "full")?;
        // The writer checkpoints inside its own commits; 1 000 pages gave the best p99 (ADR/0001).
        connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        set_cache(&connection, options.cache / 2)
    };
    configure().map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(16);
    check_pragmas(&connection, path)?;
    let create = "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID";
    connection.execute_batch(create).map_err(failed)?;
    Ok(connection)
}

/// Opens the file after an error. What the log holds may be in memory only, although the next sync of
/// it would report success: all of it is written to the database anew before anything builds on it.
fn reopen_writer(options: &SqliteOptions) -> Result<Connection> {
    let connection = open_writer(options)?;
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|error| failure("checkpoint", &options.path, &error))?;
    if busy == 0 {
        Ok(connection)
    } else {
        Err(Error::Unavailable(format!("{} is still being read; writing waits", options.path.display())))
    }
}

fn open_reader(options: &SqliteOptions) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(&options.path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        set_cache(&connection, options.cache / 2 / IDLE_READERS)?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(connection)
    };
    open().map_err(|error| failure("open", &options.path, &error))
}

fn set_cache(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    // Negative: the unit is KiB, not pages.
    let kib = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib)
}

/// A pragma that a file system or build does not support is ignored silently: look.
fn check_pragmas(connection: &Connection, path: &Path) -> Result<()> {
    let journal: String = pragma(connection, path, "journal_mode")?;
    let synchronous: i64 = pragma(connection, path, "synchronous")?;
    if journal != "wal" || synchronous != 2 {
        return Err(Error::Unavailable(format!(
            "{} cannot be written durably (journal mode {journal}, synchronous {synchronous}): \
             put the data directory on a local file system",
            path.display()
        )));
    }
    Ok(())
}

fn check_format(connection: &Connection, path: &Path) -> Result<()> {
    let application: i32 = pragma(connection, path, "application_id")?;
    let format: i32 = pragma(connection, path, "user_version")?;
    match (application, format) {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(Error::NewerSchema {
            found: u32::try_from(newer).unwrap_or(u32::MAX),
            supported: FORMAT.unsigned_abs(),
        }),
        // A new file, or one whose marking was interrupted between its two commits.
        (0 | APPLICATION_ID, 0) if pragma::<i64>(connection, path, "schema_version")? == 0 => {
            let mark = |name, value| connection.pragma_update(None, name, value);
            mark("application_id", APPLICATION_ID)
                .and_then(|()| mark("user_version", FORMAT))
                .map_err(|error| failure("create", path, &error))
        }
        _ => Err(Error::Corrupt(format!("{} is a database of another program", path.display()))),
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, path: &Path, name: &str) -> Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| failure("open", path, &error))
}

fn failure(doing: &str, path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt(format!("{}: {error}", path.display()))
        }
        _ => Error::Unavailable(format!("cannot {doing} {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests;
