// SPDX-License-Identifier: AGPL-3.0-only
//! Upload sessions: begin, append, finish, cancel.
//!
//! A request gathers its body into batches (`intake.rs`) and passes them to the session's writer
//! (`resume.rs`), which takes it up where it stands, hashes and writes each while the next one arrives. Who may write when two
//! requests want to is decided in `sessions.rs`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

use super::{Actor, Store};
use crate::clock::{Clock, Timestamp};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, What};
use crate::keys::{self, Review};
use crate::kv::{Engine, MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::local::Location;
use crate::name::RepoName;
use crate::rows;

mod batch;
mod intake;
mod resume;
mod sessions;
mod stats;

pub(super) use batch::Intake;
pub(super) use sessions::Sessions;
pub(super) use stats::Counters;
pub use stats::UploadStats;

use intake::forward;
use resume::{FIRST_EPOCH, Writer, Written, ended_abnormally, find};
use sessions::Holder;

/// What a request says of the bytes that it carries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunk {
    /// Where they belong in the upload; wherever it stands, if absent.
    pub start: Option<u64>,
    /// How many they are.
    pub len: Option<u64>,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// Bytes held.
    pub offset: u64,
}

/// A finished upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whether the bytes had to be read once more, for a digest of another algorithm than the session's.
    pub reread: bool,
}

/// Pages of sessions that are counted.
const COUNTED_PAGES: usize = 10;

impl Store {
    /// How many upload sessions are open; counting stops at 10 000.
    pub async fn open_uploads(&self) -> Result<u64> {
        let (mut count, mut after) = (0, None);
        for _ in 0..COUNTED_PAGES {
            let from: Option<Vec<u8>> = after.take();
            let page =
                async move |tx: &mut ReadTx| tx.range(keys::UPLOADS, from.as_deref(), MAX_PAGE_ROWS).await;
            let page = self.engine.scan(page).await?;
            count += page.len() as u64;
            after = page.into_iter().last().map(|(key, _)| key);
            if after.is_none() {
                break;
            }
        }
        Ok(count)
    }

    /// What became of uploads.
    pub fn upload_stats(&self) -> UploadStats {
        self.uploaded.read()
    }

    /// Begins an upload whose content will be named by a digest of `algorithm`.
    pub async fn begin_upload(
        &self,
        repo: &RepoName,
        algorithm: Algorithm,
        actor: &Actor,
    ) -> Result<Location> {
        let id = Location::new();
        self.begin_as(id, repo, algorithm, actor).await?;
        Ok(id)
    }

    async fn begin_as(
        &self,
        id: Location,
        repo: &RepoName,
        algorithm: Algorithm,
        actor: &Actor,
    ) -> Result<()> {
        self.room.check(0)?;
        let moment = self.moment();
        let (now, expires) = (moment.now, moment.now.plus(moment.periods.uploads));
        let row = rows::Upload {
            repo: repo.as_str().to_owned(),
            offset: 0,
            epoch: FIRST_EPOCH,
            hash: Hasher::new(algorithm).state(),
            started: now,
            touched: now,
            pusher: actor.subject.clone(),
            session: actor.session.clone(),
        };
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                tx.put(keys::review(expires, &Review::Upload(id)), Vec::new())?;
                tx.put(keys::upload(id), rows::encode(&row)?)
            })
            .await?;
        self.uploaded.begun.add(1);
        self.sessions.began(id);
        Ok(())
    }

    /// How far an upload has come.
    pub async fn upload_status(&self, repo: &RepoName, id: Location) -> Result<UploadStatus> {
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        let writing = self.sessions.holder(id).and_then(|holder| holder.written());
        Ok(UploadStatus { offset: writing.unwrap_or(row.offset) })
    }

    /// Appends a request's body to an upload.
    pub async fn append_upload<S, E>(
        &self,
        repo: &RepoName,
        id: Location,
        chunk: Chunk,
        body: S,
    ) -> Result<UploadStatus>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        self.room.check(chunk.len.unwrap_or(0))?;
        // Boxed, as all that is over when the wait for the client begins.
        let writer = Box::pin(self.claim(repo, id, chunk.start)).await?;
        let written = self.receive(writer, chunk, body, None, None).await?;
        Ok(UploadStatus { offset: written.offset })
    }

    /// Appends a request's body to an upload and makes the whole a blob of the repository, if it has
    /// the digest. On a wrong digest the upload stands where it stood before.
    pub async fn finish_upload<S, E>(
        &self,
        repo: &RepoName,
        id: Location,
        chunk: Chunk,
        body: S,
        digest: &Digest,
    ) -> Result<Finished>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        digest.supported()?;
        self.room.check(chunk.len.unwrap_or(0))?;
        let writer = match Box::pin(self.claim(repo, id, chunk.start)).await {
            Ok(writer) => writer,
            // A client that lost our answer repeats the request: the blob is there, and that is the answer.
            Err(Error::NotFound(What::Upload)) => {
                return match Box::pin(self.blob_for_push(repo, digest)).await {
                    Ok(_) => Ok(Finished { reread: false }),
                    Err(Error::NotFound(_)) => Err(Error::NotFound(What::Upload)),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let written = self.receive(writer, chunk, body, Some(digest), None).await?;
        Ok(Finished { reread: written.reread })
    }

    /// Stores a blob that comes in one request. Nothing stays if it fails.
    pub async fn push_blob<S, E>(
        &self,
        repo: &RepoName,
        digest: &Digest,
        len: Option<u64>,
        body: S,
        actor: &Actor,
    ) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        self.room.check(len.unwrap_or(0))?;
        let (id, algorithm) = (Location::new(), digest.supported()?);
        let single = Box::new(Single {
            engine: Arc::clone(&self.engine),
            clock: Arc::clone(&self.clock),
            uploaded: Arc::clone(&self.uploaded),
            repo: repo.clone(),
            id,
            ended: false,
        });
        Box::pin(self.begin_as(id, repo, algorithm, actor)).await?;
        let writer = Box::pin(self.claim(repo, id, Some(0))).await?;
        let chunk = Chunk { start: Some(0), len };
        self.receive(writer, chunk, body, Some(digest), Some(single)).await.map(|_| ())
    }

    /// Ends an upload and drops its bytes.
    pub async fn cancel_upload(&self, repo: &RepoName, id: Location) -> Result<()> {
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        let _held = self.sessions.seize(id, row.offset).await?;
        drop_upload(&self.engine, repo, id, self.now()).await?;
        self.uploaded.cancelled.add(1);
        Ok(())
    }

    /// Passes a body to the session's writer. A session that is only for this request does not outlive
    /// its failure, not even when the client, and with it this future, goes away.
    ///
    /// What it gives waits for clients, and there may be thousands: it holds nothing but what that needs.
    fn receive<S, E>(
        &self,
        writer: Box<Writer>,
        chunk: Chunk,
        body: S,
        digest: Option<&Digest>,
        single: Option<Box<Single>>,
    ) -> impl Future<Output = Result<Written>>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let gone = Gone(Arc::clone(&writer.held.holder));
        let (sender, inbox) = mpsc::channel(1);
        let (whole, digest) = (chunk.start.is_none(), digest.cloned().map(Box::new));
        let writing = tokio::spawn(async move {
            let result = writer.run(inbox, digest, whole).await;
            if let Some(single) = single {
                single.end(result.is_err()).await;
            }
            result
        });
        async move {
            forward(body, chunk.len, &self.intake, &gone.0, &sender).await;
            let result = writing.await.unwrap_or_else(|error| Err(ended_abnormally(&error)));
            drop(gone);
            result
        }
    }
}

/// Ends a session in the catalog; its bytes are garbage.
async fn drop_upload(engine: &Engine, repo: &RepoName, id: Location, now: Timestamp) -> Result<()> {
    let repo = repo.clone();
    engine
        .write(0, async move |tx: &mut WriteTx| {
            let row = find(tx, &repo, id).await?;
            tx.delete(keys::upload(id))?;
            tx.put(keys::garbage(now, id), rows::encode(&rows::Garbage { size: row.offset })?)
        })
        .await
}

/// A session that is only for one request: it does not outlive the request's failure, wherever that is.
struct Single {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    uploaded: Arc<Counters>,
    repo: RepoName,
    id: Location,
    ended: bool,
}

impl Single {
    async fn end(mut self, failed: bool) {
        self.ended = true;
        if failed {
            cancel(&self.engine, &self.uploaded, &self.repo, self.id, self.clock.now()).await;
        }
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The client went away before there was a writer; its session may be there by now.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (engine, uploaded) = (Arc::clone(&self.engine), Arc::clone(&self.uploaded));
        let (repo, id, now) = (self.repo.clone(), self.id, self.clock.now());
        runtime.spawn(async move { cancel(&engine, &uploaded, &repo, id, now).await });
    }
}

/// Ends a session whose request failed. If that fails too, the session's review row ends it.
async fn cancel(engine: &Engine, uploaded: &Counters, repo: &RepoName, id: Location, now: Timestamp) {
    match drop_upload(engine, repo, id, now).await {
        Ok(()) => uploaded.cancelled.add(1),
        Err(Error::NotFound(_)) => {}
        Err(error) => tracing::warn!(upload = %id, %error, "could not cancel a failed upload"),
    }
}

/// Tells others when the request goes away before its end.
struct Gone(Arc<Holder>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Location;
    use crate::store::StoreOptions;

    type Body = futures_util::stream::Empty<std::result::Result<Bytes, std::io::Error>>;

    /// How large the future of a writer is.
    fn size<F>(
        _: impl FnOnce(Box<Writer>, mpsc::Receiver<Box<intake::Message>>, Option<Box<Digest>>, bool) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[tokio::test]
    async fn an_upload_that_waits_for_its_client_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreOptions::new(folder.path().join("data"))).await.unwrap();
        let (repo, id, body): (RepoName, _, Body) =
            ("a".parse().unwrap(), Location::new(), futures_util::stream::empty());
        let digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        let append = size_of_val(&store.append_upload(&repo, id, Chunk::default(), body));
        // 1 056 and 824 bytes before what is over by then was boxed.
        assert!(append <= 800, "{append} bytes");
        assert!(size(Writer::run) <= 640, "{} bytes", size(Writer::run));
        let body: Body = futures_util::stream::empty();
        let finish = size_of_val(&store.finish_upload(&repo, id, Chunk::default(), body, &digest));
        assert!(finish <= 900, "{finish} bytes");
    }
}
