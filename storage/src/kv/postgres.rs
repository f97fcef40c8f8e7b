// SPDX-License-Identifier: AGPL-3.0-only
//! The engine in a PostgreSQL database (cargo feature `postgres`).
//!
//! One table of keys and values. Writes are SERIALIZABLE: a function reads inside the open transaction
//! and writes into its overlay, which is sent together with COMMIT in one round trip. Conflicts run the
//! function again. Reads are REPEATABLE READ READ ONLY. Sequential scans are off (`session.rs`), because
//! for serializability one counts as a read of the whole table.
//!
//! Blobs lie on the disk of one process, so one process at a time holds the database (`holder.rs`), and
//! each write transaction proves in itself that it is still this one: it locks the row of the epoch that
//! began when the process got hold, and who comes next must change that row first.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{join, join3};
use futures_util::{FutureExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, Semaphore};
use tokio::task::JoinHandle;
use tokio_postgres::Row as Found;

use super::commits::{CommitStats, Commits};
use super::overlay::Overlay;
use super::{Base, ReadTx, Row, WriteTx};
use crate::error::{Error, Result};

mod holder;
mod replay;
#[cfg(any(test, feature = "testing"))]
pub mod server;
mod session;

pub(super) use replay::Replay;
pub use session::PostgresOptions;

use session::{Failure, Session, answered};

/// Connections for reading and for writing; one more holds the database.
const READERS: usize = 8;
const WRITERS: usize = 6;
/// How often a write is tried again when others were in its way.
const RETRIES: u32 = 10;

/// An engine in a PostgreSQL database.
pub struct Postgres {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    options: PostgresOptions,
    idle: Mutex<Vec<Session>>,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    /// Shared by writes. After a conflict a write takes it alone: then no other one of this process, which
    /// are all there should be, can be in its way.
    lane: RwLock<()>,
    /// The epoch in which this process holds the database, or why it does not.
    epoch: Mutex<Result<i64, String>>,
    /// Tells the keeper that a transaction found another epoch.
    fenced: Notify,
    /// How the last write went.
    health: Mutex<Result<()>>,
    commits: Commits,
}

impl Postgres {
    /// Connects, takes hold of the database and makes the tables. Other processes are refused.
    pub async fn open(options: PostgresOptions) -> Result<Self> {
        let shared = Arc::new(Shared {
            options,
            idle: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            writers: Arc::new(Semaphore::new(WRITERS)),
            lane: RwLock::new(()),
            epoch: Mutex::new(Ok(0)),
            fenced: Notify::new(),
            health: Mutex::new(Ok(())),
            commits: Commits::default(),
        });
        let (hold, epoch) = holder::take(&shared.options).await?;
        *lock(&shared.epoch) = Ok(epoch);
        let keeper = tokio::spawn(holder::keep(Arc::clone(&shared), hold));
        Ok(Postgres { shared, keeper })
    }

    pub(super) fn health(&self) -> Result<()> {
        self.shared.epoch()?;
        lock(&self.shared.health).clone()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { shared: Arc::clone(&self.shared), epoch: None, open: None, failure: None }
    }

    pub(super) async fn read<T, F>(&self, function: &F) -> Result<T>
    where
        F: AsyncFn(&mut ReadTx) -> Result<T>,
    {
        replay::read(self.snapshot(), function).await
    }

    /// Runs on the blocking pool: a function's future need not be `Send`, and once begun a write goes to
    /// its end, whether its caller waits or not.
    pub(super) fn commit_stats(&self) -> CommitStats {
        self.shared.commits.read()
    }

    pub(super) async fn write<T, F>(&self, function: F) -> Result<T>
    where
        F: AsyncFn(&mut WriteTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        // Before it takes a thread.
        let turn = Arc::clone(&shared.writers).acquire_owned().await.map_err(|_| stopped())?;
        let runtime = Handle::current();
        let write = move || {
            let _turn = turn;
            runtime.block_on(shared.write(&function))
        };
        tokio::task::spawn_blocking(write)
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("a transaction function panicked".to_owned())))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // With the keeper goes its connection, and with that the hold.
        self.keeper.abort();
    }
}

/// How a try ended that did not succeed.
enum Tried {
    /// Nothing happened; it may be tried again.
    Again(Failure),
    Failed(Error),
}

impl Shared {
    fn epoch(&self) -> Result<i64> {
        lock(&self.epoch).clone().map_err(|reason| {
            Error::Unavailable(format!("this process does not hold {}: {reason}", self.options.database))
        })
    }

    async fn write<T>(self: &Arc<Self>, function: &impl AsyncFn(&mut WriteTx) -> Result<T>) -> Result<T> {
        let (mut conflicts, began) = (0, std::time::Instant::now());
        loop {
            let tried = if conflicts == 0 {
                let _others = self.lane.read().await;
                self.try_write(function).await
            } else {
                let _alone = self.lane.write().await;
                self.try_write(function).await
            };
            let outcome = match tried {
                Ok(value) => Ok(value),
                Err(Tried::Again(_)) if conflicts < RETRIES => {
                    if conflicts > 0 {
                        tokio::time::sleep(pause(conflicts)).await;
                    }
                    conflicts += 1;
                    continue;
                }
                Err(Tried::Again(failure)) => Err(failure.into()),
                Err(Tried::Failed(error)) => Err(error),
            };
            let reached = match &outcome {
                Err(error @ (Error::Unavailable(_) | Error::CommitUnknown(_))) => Err(error.clone()),
                _ => Ok(()),
            };
            // A function that refused made no commit.
            if outcome.is_ok() || reached.is_err() {
                self.commits.count(1, began.elapsed(), outcome.is_ok());
            }
            *lock(&self.health) = reached;
            return outcome;
        }
    }

    async fn try_write<T>(
        self: &Arc<Self>,
        function: &impl AsyncFn(&mut WriteTx) -> Result<T>,
    ) -> Result<T, Tried> {
        let epoch = Some(self.epoch().map_err(Tried::Failed)?);
        let mut snapshot = Snapshot { shared: Arc::clone(self), epoch, open: None, failure: None };
        if let Err(error) = snapshot.begin().await.map(drop) {
            return Err(snapshot.failure.take().map_or(Tried::Failed(error), Tried::of));
        }
        let mut tx = WriteTx::new(Base::Postgres(snapshot));
        let result = function(&mut tx).await;
        let (Base::Postgres(mut snapshot), overlay) = tx.into_parts() else {
            return Err(Tried::Failed(stopped()));
        };
        // Whatever the function made of it: the transaction has failed.
        if let Some(failure) = snapshot.failure.take() {
            return Err(Tried::of(failure));
        }
        match result {
            Ok(value) => snapshot.commit(overlay).await.map(|()| value),
            // What it saw, and failed by, counts only if that too could be committed.
            Err(error) => match snapshot.commit(Overlay::default()).await {
                Err(again @ Tried::Again(_)) => Err(again),
                _ => Err(Tried::Failed(error)),
            },
        }
    }

    /// An idle connection, which may have ended meanwhile, or a new one; and whether it is new.
    async fn session(&self) -> Result<(Session, bool), Failure> {
        while let Some(session) = { lock(&self.idle).pop() } {
            if !session.client.is_closed() {
                return Ok((session, false));
            }
        }
        Ok((Session::connect(&self.options).await?, true))
    }
}

impl Tried {
    fn of(failure: Failure) -> Self {
        match failure {
            // Before COMMIT was sent nothing can have happened.
            Failure::Conflict(_) | Failure::Lost(_) => Tried::Again(failure),
            failure => Tried::Failed(failure.into()),
        }
    }
}

/// A transaction, begun when it is first asked something: one that reads, or one that will write.
pub(super) struct Snapshot {
    shared: Arc<Shared>,
    /// Of the process, when it will write.
    epoch: Option<i64>,
    open: Option<Open>,
    /// Why the transaction can no longer be asked.
    failure: Option<Failure>,
}

/// A connection inside a transaction.
struct Open {
    session: Option<Session>,
    shared: Arc<Shared>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Snapshot {
    pub(super) async fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let session = self.begin().await?;
        let found = answered(session.client.query_opt(&session.statements.get, &[&key])).await;
        let found = found.and_then(|row| row.map(|row| read(&row, 0)).transpose());
        self.note(found)
    }

    /// The values of several keys, in their order.
    pub(super) async fn get_many(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let session = self.begin().await?;
        let found = answered(session.client.query(&session.statements.get_many, &[&keys])).await;
        let found = found.and_then(|rows| {
            let row = |row| Ok((read(&row, 0)?, read(&row, 1)?));
            rows.into_iter().map(row).collect::<Result<std::collections::HashMap<_, _>, _>>()
        });
        let found = self.note(found)?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    pub(super) async fn range(&mut self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let session = self.begin().await?;
        let (client, statements) = (&session.client, &session.statements);
        let found = match to {
            Some(to) => answered(client.query(&statements.range, &[&from, &to, &limit])).await,
            None => answered(client.query(&statements.rest, &[&from, &limit])).await,
        };
        let row = |row: &Found| Ok((read(row, 0)?, read(row, 1)?));
        let found = found.and_then(|rows| rows.iter().map(row).collect());
        self.note(found)
    }

    pub(super) async fn for_each(mut self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let session = self.begin().await?;
        // As long as it takes; each row is waited for by itself.
        let unlimited = answered(session.client.batch_execute("SET LOCAL statement_timeout = 0")).await;
        let none: [&[u8]; 0] = [];
        let rows = match unlimited {
            Ok(()) => answered(session.client.query_raw(&session.statements.all, none)).await,
            Err(failure) => Err(failure),
        };
        let mut rows = pin!(self.note(rows)?);
        let outcome = loop {
            match answered(rows.try_next()).await {
                Ok(Some(row)) => match (row.try_get(0), row.try_get(1)) {
                    (Ok(key), Ok(value)) => {
                        if let Err(error) = each(key, value) {
                            break Err(error);
                        }
                    }
                    (Err(error), _) | (_, Err(error)) => break Err(Failure::of(&error).into()),
                },
                Ok(None) => return Ok(()),
                Err(failure) => break Err(failure.into()),
            }
        };
        // The rest of the rows may be on its way: this connection is of no more use.
        self.open.as_mut().and_then(|open| open.session.take());
        outcome
    }

    /// The connection, inside the transaction.
    async fn begin(&mut self) -> Result<&Session> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        if self.open.is_none() {
            let turn = match self.epoch {
                // A write has its turn already.
                Some(_) => None,
                None => Some(Arc::clone(&self.shared.readers).acquire_owned().await.map_err(|_| stopped())?),
            };
            let begun = loop {
                let (session, new) = match self.shared.session().await {
                    Ok(session) => session,
                    Err(failure) => break Err(failure),
                };
                match begin(&session, self.epoch).await {
                    // It waited idle, and the server has gone: nothing was asked yet.
                    Err(Failure::Lost(_)) if !new => {}
                    Ok(()) => {
                        break Ok(Open {
                            session: Some(session),
                            shared: Arc::clone(&self.shared),
                            _turn: turn,
                        });
                    }
                    Err(failure) => break Err(failure),
                }
            };
            if let Err(Failure::Fenced) = begun {
                *lock(&self.shared.epoch) = Err("another process has taken it over".to_owned());
                self.shared.fenced.notify_one();
            }
            let begun = self.note(begun)?;
            self.open = Some(begun);
        }
        self.open.as_ref().and_then(|open| open.session.as_ref()).ok_or_else(stopped)
    }

    /// Remembers a failure: after it PostgreSQL answers nothing more in this transaction.
    fn note<T>(&mut self, answer: Result<T, Failure>) -> Result<T> {
        answer.map_err(|failure| {
            if let Failure::Lost(_) = failure {
                // It may hang: nobody shall get it next.
                self.open.as_mut().and_then(|open| open.session.take());
            }
            self.failure = Some(failure.clone());
            failure.into()
        })
    }

    async fn commit(mut self, overlay: Overlay) -> Result<(), Tried> {
        let Some(mut open) = self.open.take() else { return Err(Tried::Failed(stopped())) };
        let Some(session) = open.session.take() else { return Err(Tried::Failed(stopped())) };
        let (mut keys, mut values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in overlay.into_rows() {
            match value {
                Some(value) => {
                    keys.push(key);
                    values.push(value);
                }
                None => gone.push(key),
            }
        }
        let Session { client, statements, .. } = &session;
        let delete = async {
            if gone.is_empty() { Ok(0) } else { client.execute(&statements.delete, &[&gone]).await }
        };
        let put = async {
            if keys.is_empty() { Ok(0) } else { client.execute(&statements.put, &[&keys, &values]).await }
        };
        // All three are on their way before the first answer: COMMIT after an error is a rollback, and
        // says so only in a tag that the client library hides. So each answer counts.
        let sent = join3(delete, put, client.batch_execute("COMMIT"));
        let (delete, put, commit) = match answered(sent.map(Ok)).await {
            Ok((delete, put, commit)) => (delete.map(drop), put.map(drop), commit),
            Err(failure) => return Err(Tried::Failed(Error::CommitUnknown(failure.to_string()))),
        };
        let failures = [delete, put, commit].map(|answer| answer.err().map(|error| Failure::of(&error)));
        let refused = failures.iter().flatten().find(|failure| failure.is_refusal());
        let outcome = match (refused, failures.iter().flatten().next()) {
            (Some(refusal), _) => Err(Tried::of(refusal.clone())),
            (None, Some(lost)) => return Err(Tried::Failed(Error::CommitUnknown(lost.to_string()))),
            (None, None) => Ok(()),
        };
        // Outside of a transaction again.
        lock(&self.shared.idle).push(session);
        outcome
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Queued before whatever is asked next on this connection; its answer is of no interest, since
        // what is asked next would fail too.
        let _queued = session.client.batch_execute("ROLLBACK").now_or_never();
        lock(&self.shared.idle).push(session);
    }
}

/// Begins a transaction; one that writes proves that the process still holds the database.
async fn begin(session: &Session, epoch: Option<i64>) -> Result<(), Failure> {
    let Session { client, statements, .. } = session;
    let Some(epoch) = epoch else {
        return answered(client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await;
    };
    let serializable = client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE");
    let (begun, ours) =
        answered(join(serializable, client.query_opt(&statements.fence, &[&epoch])).map(Ok)).await?;
    begun.map_err(|error| Failure::of(&error))?;
    match ours.map_err(|error| Failure::of(&error))? {
        Some(_) => Ok(()),
        None => Err(Failure::Fenced),
    }
}

fn read(row: &Found, column: usize) -> Result<Vec<u8>, Failure> {
    row.try_get(column).map_err(|error| Failure::of(&error))
}

/// Before the next try: longer each time, and different for each of those that met.
fn pause(tries: u32) -> Duration {
    let longest = 2u64 << tries.min(7);
    let share = uuid::Uuid::new_v4().as_u64_pair().1 % 1000;
    Duration::from_micros(longest * share)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is changed by one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped() -> Error {
    Error::Unavailable("the metadata engine has stopped".to_owned())
}

#[cfg(test)]
mod tests;
