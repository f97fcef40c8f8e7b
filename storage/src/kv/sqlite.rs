// SPDX-License-Identifier: AGPL-3.0-only
//! The default engine: one SQLite file, written by one thread.
//!
//! The writer thread (`queue.rs`) runs each function of a batch on an overlay over the open SQLite
//! transaction, lays the successful ones down, and commits them all with ONE durable commit. After an
//! I/O error the engine stops writing, says so, and reopens the file before the next batch.
//! Readers have connections of their own and see the last commit as a snapshot (WAL); rows that are read
//! often they find in memory (`cache.rs`).
//!
//! SQLite goes on writing to a file that was removed or renamed together with its folder. So the writer
//! looks before and after each commit whether the paths still lead to the files that it has open, and a
//! reader whenever it opens one. When a commit finds the disk full, ballast is given up and it runs again.
//!
//! `ADR/0001` says why SQLite; the pragmas in `connection.rs` make a commit survive a power cut.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::overlay::Overlay;
use super::queue::{Queue, Queued, stopped};
use super::{Base, CommitStats, Row, WriteTx};
use crate::disk::{Ballast, Place, believe_sync};
use crate::error::{Error, Result};

mod cache;
mod connection;

use cache::{Known, RowCache, View};
use connection::{failure, open_reader, open_writer};

const IDLE_READERS: usize = 8;
/// Rows from ?1 on and before ?3. A bound that may be absent would be a filter, and SQLite would look at every
/// row up to the end of the table.
const RANGE: &str = "SELECT k, v FROM kv WHERE k >= ?1 AND k < ?3 ORDER BY k LIMIT ?2";
/// Rows from ?1 on.
const REST: &str = "SELECT k, v FROM kv WHERE k >= ?1 ORDER BY k LIMIT ?2";
/// Faults that a check tells of.
const MOST_FAULTS: usize = 20;

/// How to open the engine.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; created when absent.
    pub path: PathBuf,
    /// Bytes for rows in memory (half of them) and for the page caches of the connections.
    pub cache: usize,
}

/// An engine on one SQLite file.
pub struct Sqlite {
    queue: Queue,
    /// Turns for scans: each holds a connection with a cache of its own, and a page.
    turns: Arc<Semaphore>,
    readers: Arc<Readers>,
}

impl Sqlite {
    /// Opens the file, or creates it, and starts the writer thread.
    pub fn open(options: &SqliteOptions) -> Result<Self> {
        Self::open_with(options, None)
    }

    /// As [`Sqlite::open`]; commits that find the disk full may use the ballast.
    pub(crate) fn open_with(options: &SqliteOptions, ballast: Option<Arc<Ballast>>) -> Result<Self> {
        let connection = open_writer(options, OpenFlags::SQLITE_OPEN_CREATE)?;
        let place = Place::of([options.path.clone()])?;
        let files = files(options)?;
        let rows = Arc::new(RowCache::new(options.cache / 2));
        let mut writer = Writer {
            connection: Some(connection),
            options: options.clone(),
            place: place.clone(),
            files,
            log: open_log(options)?,
            ballast,
            rows: Arc::clone(&rows),
        };
        let queue = Queue::start(move |batch| writer.commit(batch))
            .map_err(|error| Error::io("start the writer of", &options.path, error))?;
        Ok(Sqlite {
            queue,
            turns: Arc::new(Semaphore::new(IDLE_READERS)),
            readers: Arc::new(Readers { options: options.clone(), place, idle: Mutex::default(), rows }),
        })
    }

    pub(super) fn health(&self) -> Result<()> {
        self.queue.health()
    }

    pub(super) fn commit_stats(&self) -> CommitStats {
        self.queue.commit_stats()
    }

    /// The last commit, read on a connection from the start.
    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::over(&self.readers, None);
        snapshot.begun()?;
        Ok(snapshot)
    }

    /// The last commit, from memory as far as it is there: for point reads. What was read stands only if
    /// [`Snapshot::stands`] says so at the end.
    pub(super) fn quick_snapshot(&self) -> Snapshot {
        Snapshot::over(&self.readers, self.readers.rows.view())
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
        self.queue.write(weight, function).await
    }
}

struct Writer {
    connection: Option<Connection>,
    options: SqliteOptions,
    /// The database, as it was found at first.
    place: Place,
    /// The database and its log, as the connection has them open.
    files: Place,
    /// The log, to see after a commit whether it can still be written.
    log: File,
    ballast: Option<Arc<Ballast>>,
    rows: Arc<RowCache>,
}

impl Writer {
    /// Commits a batch; on a full disk again and again, as long as there is ballast to give up. Nothing of
    /// a batch has happened then, and functions may run again.
    fn commit(&mut self, batch: &mut [Queued]) -> Result<()> {
        loop {
            let outcome = self.try_commit(batch);
            let Some(ballast) = &self.ballast else { return outcome };
            match &outcome {
                Err(Error::Full) if ballast.release() => {}
                Ok(()) | Err(Error::Full) => return outcome,
                Err(_) => {
                    // SQLite does not always say what it failed for, and reopening needs room too.
                    ballast.release_if_full();
                    return outcome;
                }
            }
        }
    }

    fn try_commit(&mut self, batch: &mut [Queued]) -> Result<()> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen()?,
        };
        if let Err(error) = self.files.check() {
            self.connection = Some(connection);
            return Err(error);
        }
        let failed = |doing: &str, error: &rusqlite::Error| failure(doing, &self.options.path, error);
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| failed("write to", &error))?;
        let mut snapshot = Snapshot::writer(connection);
        let (mut outcome, mut changed) = (Ok(()), Vec::new());
        for queued in batch {
            let mut tx = WriteTx::new(Base::Sqlite(snapshot));
            let wanted = queued.run(&mut tx);
            let (base, overlay) = tx.into_parts();
            let Base::Sqlite(returned) = base else { return Err(stopped()) };
            snapshot = returned;
            if wanted && outcome.is_ok() {
                outcome = lay_down(snapshot.begun()?, overlay, &mut changed)
                    .map_err(|error| failed("write to", &error));
            }
        }
        let connection = snapshot.into_connection()?;
        let rows = Arc::clone(&self.rows);
        let begun = outcome.is_ok();
        // Until it ends readers find nothing in memory; at its end what was changed is gone from there.
        let committing = rows.commit();
        if begun {
            outcome = connection.execute_batch("COMMIT").map_err(|error| match failed("commit to", &error) {
                Error::Full => Error::Full,
                other => Error::CommitUnknown(other.to_string()),
            });
        }
        match &outcome {
            Ok(()) => {
                committing.succeeded(&changed);
                self.connection = Some(connection);
                // What was committed to files that nobody will find again must not be acknowledged.
                self.files.check().map_err(|error| Error::CommitUnknown(error.to_string()))?;
                // Nor what a disk that was failing may have dropped.
                believe_sync(&self.log)
                    .map_err(|error| Error::CommitUnknown(format!("the disk failed: {error}")))?;
            }
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

    /// Opens the file after an error. What the log holds may be in memory only, although the next sync of
    /// it would report success: all of it is written to the database anew before anything builds on it.
    fn reopen(&mut self) -> Result<Connection> {
        // Another file, or a new one, is not ours to go on with.
        self.place.check()?;
        let connection = open_writer(&self.options, OpenFlags::empty())?;
        self.place.check()?;
        let path = &self.options.path;
        let busy: i64 = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(|error| failure("checkpoint", path, &error))?;
        if busy != 0 {
            let path = path.display();
            return Err(Error::Unavailable(format!("{path} is still being read; writing waits")));
        }
        self.files = files(&self.options)?;
        self.log = open_log(&self.options)?;
        Ok(connection)
    }
}

/// The database and its log.
fn files(options: &SqliteOptions) -> Result<Place> {
    Place::of([options.path.clone(), log_path(options)])
}

fn log_path(options: &SqliteOptions) -> PathBuf {
    let mut log = options.path.clone().into_os_string();
    log.push("-wal");
    log.into()
}

/// The log and never the database: to close any handle of that would give up SQLite's locks on it.
fn open_log(options: &SqliteOptions) -> Result<File> {
    let path = log_path(options);
    File::options().write(true).open(&path).map_err(|error| Error::io("open", path, error))
}

/// Writes what a function wanted, and notes which keys that changes.
fn lay_down(connection: &Connection, overlay: Overlay, changed: &mut Vec<Vec<u8>>) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO kv (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM kv WHERE k = ?1")?;
    for (key, value) in overlay.into_rows() {
        match value {
            Some(value) => put.execute(params![key, value])?,
            None => delete.execute(params![key])?,
        };
        changed.push(key);
    }
    Ok(())
}

/// Connections for readers; idle ones are kept, more are opened when all are in use.
struct Readers {
    options: SqliteOptions,
    place: Place,
    idle: Mutex<Vec<Connection>>,
    rows: Arc<RowCache>,
}

impl Readers {
    /// A connection inside a transaction that has yet to read.
    fn begin(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = if let Some(connection) = idle {
            connection
        } else {
            let connection = open_reader(&self.options)?;
            self.place.check()?;
            connection
        };
        connection
            .prepare_cached("BEGIN DEFERRED")
            .and_then(|mut begin| begin.execute([]))
            .map_err(|error| failure("read", &self.options.path, &error))?;
        Ok(connection)
    }

    fn end(&self, connection: Connection) {
        let ended = connection.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([])).is_ok();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if ended && idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }
}

/// The state of the last commit; for the writer, that of its open transaction.
pub(super) struct Snapshot {
    /// Begun when something is first read on it.
    connection: Option<Connection>,
    // Where a reader's connection comes from and goes back to; the writer's has none.
    readers: Option<Arc<Readers>>,
    /// What is found in memory, if this snapshot may look there.
    view: Option<View>,
}

impl Snapshot {
    fn over(readers: &Arc<Readers>, view: Option<View>) -> Self {
        Snapshot { connection: None, readers: Some(Arc::clone(readers)), view }
    }

    fn writer(connection: Connection) -> Self {
        Snapshot { connection: Some(connection), readers: None, view: None }
    }

    fn begun(&mut self) -> Result<&Connection> {
        if self.connection.is_none() {
            let readers = self.readers.as_ref().ok_or_else(stopped)?;
            self.connection = Some(readers.begin()?);
        }
        self.connection.as_ref().ok_or_else(stopped)
    }

    fn into_connection(mut self) -> Result<Connection> {
        self.connection.take().ok_or_else(stopped)
    }

    /// Whether all that was read is of one commit: always, but for rows from memory while the writer went on.
    pub(super) fn stands(&self) -> bool {
        match (&self.view, &self.readers) {
            (Some(view), Some(readers)) => readers.rows.stands(view),
            _ => true,
        }
    }

    /// The number of the commit that this is of, where commits are counted: for readers that look into memory.
    pub(super) fn commit(&mut self) -> Option<u64> {
        self.view.as_mut().map(RowCache::commit_of)
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let (Some(view), Some(readers)) = (&mut self.view, &self.readers) {
            match readers.rows.get(view, key) {
                Known::Row(value) => return Ok(Some(value)),
                Known::Absent => return Ok(None),
                Known::Nothing => {}
            }
        }
        let get = |connection: &Connection| {
            let mut select = connection.prepare_cached("SELECT v FROM kv WHERE k = ?1")?;
            select.query_row(params![key], |row| row.get(0)).optional()
        };
        let value: Option<Vec<u8>> =
            get(self.begun()?).map_err(|error| failure("read", Path::new("the metadata"), &error))?;
        if let (Some(view), Some(readers)) = (&self.view, &self.readers) {
            readers.rows.keep(view, key, value.as_deref());
        }
        Ok(value)
    }

    pub(super) fn range(&mut self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let range = |connection: &Connection| {
            let mut select = connection.prepare_cached(if to.is_some() { RANGE } else { REST })?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let rows = match to {
                Some(to) => select.query_map(params![from, limit, to], row)?,
                None => select.query_map(params![from, limit], row)?,
            };
            rows.collect::<rusqlite::Result<Vec<Row>>>()
        };
        range(self.begun()?).map_err(|error| failure("read", Path::new("the metadata"), &error))
    }

    pub(super) fn for_each(mut self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let failed = |error: rusqlite::Error| failure("read", Path::new("the metadata"), &error);
        let mut select = self.begun()?.prepare("SELECT k, v FROM kv ORDER BY k").map_err(failed)?;
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
        if let (Some(connection), Some(readers)) = (self.connection.take(), &self.readers) {
            readers.end(connection);
        }
    }
}

#[cfg(test)]
mod tests;
