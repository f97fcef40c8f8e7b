// SPDX-License-Identifier: AGPL-3.0-only
//! What the embedded engines share: one thread that writes, and the queue before it.
//!
//! Callers queue transaction functions, bounded in bytes; the thread takes what waits and commits it
//! with ONE durable commit. Every answer follows that commit.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::commits::{CommitStats, Commits};
use super::{WriteTx, complete};
use crate::error::{Error, Result};

/// Bytes that may wait for a commit; whoever brings more waits for a place in the queue.
const QUEUE_BYTES: usize = 64 << 20;
/// Transactions in one commit. Each is bounded on its own, so is what a commit writes.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 32 << 20;

/// The queue before the thread that writes.
pub(super) struct Queue {
    sender: Option<Sender<Queued>>,
    space: Arc<Semaphore>,
    health: Arc<Mutex<Result<()>>>,
    commits: Arc<Commits>,
    thread: Option<JoinHandle<()>>,
}

impl Queue {
    /// Starts the thread, which hands each batch to `commit`.
    pub(super) fn start(
        commit: impl FnMut(&mut [Queued]) -> Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let health = Arc::new(Mutex::new(Ok(())));
        let (sender, queue) = mpsc::channel();
        let commits = Arc::new(Commits::default());
        let writer = Writer { commit, health: Arc::clone(&health), commits: Arc::clone(&commits) };
        let thread = std::thread::Builder::new()
            .name("metadata-writer".to_owned())
            .spawn(move || writer.run(&queue))?;
        let space = Arc::new(Semaphore::new(QUEUE_BYTES));
        Ok(Queue { sender: Some(sender), space, health, commits, thread: Some(thread) })
    }

    /// How the last commit went.
    pub(super) fn health(&self) -> Result<()> {
        // Only a panic ends it earlier: an engine's own, for no function's gets so far.
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(stopped());
        }
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn commit_stats(&self) -> CommitStats {
        self.commits.read()
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
        let sender = self.sender.as_ref().ok_or_else(stopped)?;
        sender.send(Queued { job, weight, _space: space }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            // What was queued is still committed; its callers may no longer listen.
            let _ended = thread.join();
        }
    }
}

pub(super) fn stopped() -> Error {
    Error::Unavailable("the metadata writer has stopped".to_owned())
}

/// A transaction that waits for its commit.
pub(super) struct Queued {
    job: Box<dyn Job>,
    weight: usize,
    _space: OwnedSemaphorePermit,
}

impl Queued {
    /// Runs the function; true when it succeeded and its writes are wanted.
    pub(super) fn run(&mut self, tx: &mut WriteTx) -> bool {
        self.job.run(tx)
    }
}

/// One queued transaction, whatever its type.
trait Job: Send {
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

struct Writer<C> {
    commit: C,
    health: Arc<Mutex<Result<()>>>,
    commits: Arc<Commits>,
}

impl<C: FnMut(&mut [Queued]) -> Result<()>> Writer<C> {
    fn run(mut self, queue: &Receiver<Queued>) {
        while let Ok(first) = queue.recv() {
            let mut bytes = first.weight;
            let mut batch = vec![first];
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.weight;
                batch.push(next);
            }
            let began = Instant::now();
            let commit = (self.commit)(&mut batch);
            self.commits.count(batch.len(), began.elapsed(), commit.is_ok());
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
}
