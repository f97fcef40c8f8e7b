// SPDX-License-Identifier: AGPL-3.0-only
//! The metadata contract: ordered keys, snapshots, and serializable transactions.
//!
//! All metadata logic is written once, as functions over [`ReadTx`] and [`WriteTx`]; an engine is
//! one file below this one. What every engine promises, and [`suite`] checks:
//!
//! - a read function sees one consistent snapshot;
//! - a write function sees the state as if it ran alone, and its own writes;
//! - when [`Engine::write`] returns `Ok`, the change is durable; when the function fails, nothing of
//!   it happened and its neighbours in the same commit are untouched;
//! - a function has no side effects, awaits nothing but its transaction, and may run again.
//!
//! A snapshot serves one page and never spans network I/O. A write is bounded in rows and bytes.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;

use crate::error::{Error, Result};
use crate::keys;

mod commits;
mod memory;
mod options;
mod overlay;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
#[cfg(feature = "sled")]
mod sled;
mod sqlite;
#[cfg(any(test, feature = "testing"))]
pub mod suite;

pub use commits::CommitStats;
pub use memory::Memory;
pub use options::EngineOptions;
#[cfg(all(feature = "postgres", any(test, feature = "testing")))]
pub use postgres::server as postgres_server;
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresOptions};
#[cfg(feature = "sled")]
pub use sled::{Sled, SledOptions};
pub use sqlite::{Sqlite, SqliteOptions};

use overlay::Overlay;

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The most rows that one transaction may write.
pub const MAX_WRITE_ROWS: usize = 10_000;
/// The most bytes, keys and values together, that one transaction may write.
pub const MAX_WRITE_BYTES: usize = 16 << 20;
/// The most rows that a rehearsal may write.
pub const MAX_REHEARSED_ROWS: usize = 300_000;
/// The most rows that one range returns.
pub const MAX_PAGE_ROWS: usize = 1_000;

/// Names one commit of an engine since it was opened: what is read of the same commit twice is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit(u64);

/// A metadata engine.
pub enum Engine {
    /// Everything in memory: for tests.
    Memory(Memory),
    /// One SQLite file: the default, for one machine.
    Sqlite(Sqlite),
    /// A folder of sled's: for one machine.
    #[cfg(feature = "sled")]
    Sled(Sled),
    /// Two tables in a PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl Engine {
    /// Runs a function of point reads on a snapshot, on the calling thread: they take microseconds.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "the contract is asynchronous for engines across a network")
    )]
    pub async fn read<T, F>(&self, function: F) -> Result<T>
    where
        F: AsyncFn(&mut ReadTx) -> Result<T>,
    {
        #[cfg(feature = "postgres")]
        if let Engine::Postgres(postgres) = self {
            // On the heap: the callers' own futures stay small.
            return Box::pin(postgres.read(&function)).await;
        }
        if let Engine::Sqlite(sqlite) = self {
            let mut tx = ReadTx::new(Base::Sqlite(sqlite.quick_snapshot()));
            let result = complete(function(&mut tx));
            if tx.stands() {
                return result;
            }
        }
        let mut tx = self.snapshot()?;
        complete(function(&mut tx))
    }

    /// Runs a function that reads ranges on a snapshot, on the blocking pool.
    pub async fn scan<T, F>(&self, function: F) -> Result<T>
    where
        F: AsyncFn(&mut ReadTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let turn = self.turn().await?;
        let (mut tx, run) = (self.snapshot()?, self.runner());
        let scan = move || {
            // Kept by the job, not by the caller, who may go away before it ends.
            let _turn = turn;
            run.run(function(&mut tx))
        };
        tokio::task::spawn_blocking(scan)
            .await
            .map_err(|error| Error::Unavailable(format!("a metadata read ended abnormally: {error}")))?
    }

    /// Shows every row, in the order of keys, of ONE snapshot to `each`, on the blocking pool, and gives
    /// back what it gathered in `state`. For whole copies of the metadata: it holds one row at a time, and
    /// its snapshot lasts as long as `each` takes for all of them, so `each` waits for nothing but a file.
    pub async fn dump<S, F>(&self, mut state: S, each: F) -> Result<S>
    where
        F: Fn(&mut S, &[u8], &[u8]) -> Result<()> + Send + 'static,
        S: Send + 'static,
    {
        let turn = self.turn().await?;
        let snapshot = self.snapshot()?;
        #[cfg(feature = "postgres")]
        let run = self.runner();
        let dump = move || {
            let _turn = turn;
            let each = |key: &[u8], value: &[u8]| each(&mut state, key, value);
            match snapshot.base {
                Base::Memory(snapshot) => snapshot.for_each(each),
                Base::Sqlite(snapshot) => snapshot.for_each(each),
                #[cfg(feature = "sled")]
                Base::Sled(snapshot) => snapshot.for_each(each),
                #[cfg(feature = "postgres")]
                Base::Postgres(snapshot) => run.run(snapshot.for_each(each)),
                #[cfg(feature = "postgres")]
                Base::Replay(_) => Err(Error::Unavailable("a function cannot dump".to_owned())),
            }?;
            Ok(state)
        };
        tokio::task::spawn_blocking(dump)
            .await
            .map_err(|error| Error::Unavailable(format!("a metadata dump ended abnormally: {error}")))?
    }

    /// Runs a function in a serializable transaction; when this returns, the change is durable.
    ///
    /// `weight` is about how many bytes the function holds; it bounds what waits for a commit.
    pub async fn write<T, F>(&self, weight: usize, function: F) -> Result<T>
    where
        F: AsyncFn(&mut WriteTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        match self {
            Engine::Memory(memory) => memory.write(&function),
            Engine::Sqlite(sqlite) => sqlite.write(weight, function).await,
            #[cfg(feature = "sled")]
            Engine::Sled(sled) => sled.write(weight, function).await,
            #[cfg(feature = "postgres")]
            Engine::Postgres(postgres) => postgres.write(function).await,
        }
    }

    /// Runs a function as [`Engine::write`] would, on a snapshot, and forgets what it wrote. It may write
    /// up to [`MAX_REHEARSED_ROWS`].
    pub async fn rehearse<T, F>(&self, function: F) -> Result<T>
    where
        F: AsyncFn(&mut WriteTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let mut tx = WriteTx(ReadTx { overlay: Overlay::wide(), ..self.snapshot()? });
        let run = self.runner();
        tokio::task::spawn_blocking(move || run.run(function(&mut tx)))
            .await
            .map_err(|error| Error::Unavailable(format!("a metadata read ended abnormally: {error}")))?
    }

    /// Checks the engine's own structures, as far as it has any: a sentence for each fault.
    pub async fn check(&self) -> Result<Vec<String>> {
        match self {
            Engine::Memory(_) => Ok(Vec::new()),
            Engine::Sqlite(sqlite) => sqlite.check().await,
            // They check what is read: read everything.
            #[cfg(any(feature = "sled", feature = "postgres"))]
            _ => match self.dump((), |(), _, _| Ok(())).await {
                Ok(()) => Ok(Vec::new()),
                Err(Error::Corrupt(fault)) => Ok(vec![fault]),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether writes are possible; the reason when they are not.
    pub fn health(&self) -> Result<()> {
        match self {
            Engine::Memory(_) => Ok(()),
            Engine::Sqlite(sqlite) => sqlite.health(),
            #[cfg(feature = "sled")]
            Engine::Sled(sled) => sled.health(),
            #[cfg(feature = "postgres")]
            Engine::Postgres(postgres) => postgres.health(),
        }
    }

    /// What commits did since the engine was opened; nothing for the one in memory.
    pub fn commit_stats(&self) -> CommitStats {
        match self {
            Engine::Memory(_) => CommitStats::default(),
            Engine::Sqlite(sqlite) => sqlite.commit_stats(),
            #[cfg(feature = "sled")]
            Engine::Sled(sled) => sled.commit_stats(),
            #[cfg(feature = "postgres")]
            Engine::Postgres(postgres) => postgres.commit_stats(),
        }
    }

    /// A turn for a job that reads much, where the engine has only so many.
    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>> {
        if let Engine::Sqlite(sqlite) = self {
            return sqlite.turn().await.map(Some);
        }
        Ok(None)
    }

    /// How a thread of the blocking pool runs functions of this engine. Only inside the runtime.
    fn runner(&self) -> Runner {
        match self {
            #[cfg(feature = "postgres")]
            Engine::Postgres(_) => Runner::Waits(tokio::runtime::Handle::current()),
            _ => Runner::IsReady,
        }
    }

    fn snapshot(&self) -> Result<ReadTx> {
        let base = match self {
            Engine::Memory(memory) => Base::Memory(memory.snapshot()),
            Engine::Sqlite(sqlite) => Base::Sqlite(sqlite.snapshot()?),
            #[cfg(feature = "sled")]
            Engine::Sled(sled) => Base::Sled(sled.snapshot()),
            #[cfg(feature = "postgres")]
            Engine::Postgres(postgres) => Base::Postgres(postgres.snapshot()),
        };
        Ok(ReadTx::new(base))
    }
}

/// Where a transaction reads what it has not written itself.
enum Base {
    Memory(memory::Snapshot),
    Sqlite(sqlite::Snapshot),
    #[cfg(feature = "sled")]
    Sled(sled::Snapshot),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Snapshot),
    #[cfg(feature = "postgres")]
    Replay(postgres::Replay),
}

/// A consistent snapshot.
pub struct ReadTx {
    base: Base,
    // Empty, except below a `WriteTx`.
    overlay: Overlay,
    /// Rows asked for by key and rows found in ranges, so far.
    rows: u64,
}

#[cfg_attr(
    not(feature = "postgres"),
    expect(clippy::unused_async, reason = "the contract is asynchronous for engines across a network")
)]
impl ReadTx {
    /// The value of a key.
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.rows += 1;
        if let Some(written) = self.overlay.get(key) {
            return Ok(written.map(<[u8]>::to_vec));
        }
        match &mut self.base {
            Base::Memory(snapshot) => Ok(snapshot.get(key)),
            Base::Sqlite(snapshot) => snapshot.get(key),
            #[cfg(feature = "sled")]
            Base::Sled(snapshot) => snapshot.get(key),
            #[cfg(feature = "postgres")]
            Base::Postgres(snapshot) => snapshot.get(key).await,
            #[cfg(feature = "postgres")]
            Base::Replay(replay) => Ok(replay.get(key).await),
        }
    }

    /// The values of several keys, in their order.
    pub async fn get_many(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        // Across a network one question for all of them; what was written here is laid over the answers.
        #[cfg(feature = "postgres")]
        if let Some(found) = match &mut self.base {
            Base::Postgres(snapshot) => Some(snapshot.get_many(keys).await?),
            Base::Replay(replay) => Some(replay.get_many(keys).await),
            _ => None,
        } {
            self.rows += keys.len() as u64;
            let over = |(key, below): (&Vec<u8>, _)| match self.overlay.get(key) {
                Some(written) => written.map(<[u8]>::to_vec),
                None => below,
            };
            return Ok(keys.iter().zip(found).map(over).collect());
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await?);
        }
        Ok(values)
    }

    /// At most `limit` rows (and never more than [`MAX_PAGE_ROWS`]) whose keys begin with `prefix`
    /// and lie after the key `after`, in the order of their keys.
    pub async fn range(&mut self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>> {
        let limit = limit.min(MAX_PAGE_ROWS);
        let from = match after {
            Some(after) if after >= prefix => [after, &[0]].concat(),
            _ => prefix.to_vec(),
        };
        let to = keys::end_of(prefix);
        if limit == 0 || to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(Vec::new());
        }
        // Each key that this transaction wrote hides at most one row below it.
        let hidden = self.overlay.count(&from, to.as_deref());
        let rows = match &mut self.base {
            Base::Memory(snapshot) => snapshot.range(&from, to.as_deref(), limit + hidden),
            Base::Sqlite(snapshot) => snapshot.range(&from, to.as_deref(), limit + hidden)?,
            #[cfg(feature = "sled")]
            Base::Sled(snapshot) => snapshot.range(&from, to.as_deref(), limit + hidden)?,
            #[cfg(feature = "postgres")]
            Base::Postgres(snapshot) => snapshot.range(&from, to.as_deref(), limit + hidden).await?,
            #[cfg(feature = "postgres")]
            Base::Replay(replay) => replay.range(&from, to.as_deref(), limit + hidden).await,
        };
        self.rows += rows.len() as u64;
        Ok(if hidden == 0 { rows } else { self.overlay.merge(rows, &from, to.as_deref(), limit) })
    }
}

impl ReadTx {
    fn new(base: Base) -> Self {
        ReadTx { base, overlay: Overlay::default(), rows: 0 }
    }

    /// Whether all that was read is of one commit.
    fn stands(&self) -> bool {
        let Base::Sqlite(snapshot) = &self.base else { return true };
        snapshot.stands()
    }

    /// Which commit all that is read here is of, if that is known without looking.
    pub(crate) fn commit(&mut self) -> Option<Commit> {
        let Base::Sqlite(snapshot) = &mut self.base else { return None };
        snapshot.commit().map(Commit)
    }

    /// How many rows were looked at so far: the cost of what was done.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows
    }
}

/// A serializable transaction: a snapshot that sees its own writes.
pub struct WriteTx(ReadTx);

impl WriteTx {
    fn new(base: Base) -> Self {
        WriteTx(ReadTx::new(base))
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.0.overlay.set(key, Some(value))
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, key: Vec<u8>) -> Result<()> {
        self.0.overlay.set(key, None)
    }

    /// Rows written so far.
    pub(crate) fn written(&self) -> usize {
        self.0.overlay.len()
    }

    fn into_parts(self) -> (Base, Overlay) {
        (self.0.base, self.0.overlay)
    }
}

impl Deref for WriteTx {
    type Target = ReadTx;

    fn deref(&self) -> &ReadTx {
        &self.0
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut ReadTx {
        &mut self.0
    }
}

/// How a thread of the blocking pool runs transaction functions.
enum Runner {
    /// Those of an embedded engine.
    IsReady,
    /// Those that wait for answers over the network.
    #[cfg(feature = "postgres")]
    Waits(tokio::runtime::Handle),
}

impl Runner {
    fn run<T>(&self, function: impl Future<Output = Result<T>>) -> Result<T> {
        match self {
            Runner::IsReady => complete(function),
            #[cfg(feature = "postgres")]
            Runner::Waits(runtime) => runtime.block_on(function),
        }
    }
}

/// Runs a transaction function on an embedded engine, whose futures are ready at once.
fn complete<T>(function: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(function).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(Error::Unavailable("a transaction function waited for something else".to_owned()))
        }
    }
}
