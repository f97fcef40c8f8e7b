// SPDX-License-Identifier: AGPL-3.0-only
//! Upload sessions: begin, append, finish, cancel.
//!
//! A request reads its body into batches of about 1 MiB and passes them to a task of its own, which
//! hashes and writes each on the blocking pool while the next one arrives. The task, not the
//! request, holds the session: when the client goes away it still brings file and catalog in order,
//! and only then may the next request write. Bytes are acknowledged by a checkpoint: file synced,
//! then offset and hash state committed under the epoch of this claim.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::sessions::{Held, Holder};
use super::{Actor, Store, blobs, lease::LEASE, repositories};
use crate::clock::{Clock, Timestamp};
use crate::digest::{Algorithm, Digest, Hasher, Hashes};
use crate::error::{Error, Result, What};
use crate::keys::{self, Review};
use crate::kv::{Engine, WriteTx};
use crate::local::{Draft, LocalBlobs, Location};
use crate::name::RepoName;
use crate::rows;

/// What is hashed and written at once.
pub(super) const BATCH: usize = 1 << 20;
/// Pieces in one batch: a client that sends byte by byte must not fill memory with bookkeeping.
const MAX_PIECES: usize = 1024;
/// A client that does not fill its batch in this time gets its bytes written, and its memory goes to
/// others. Counted from the batch's first byte: else a client that trickles would hold memory for minutes.
const QUIET: Duration = Duration::from_millis(250);
/// A long request acknowledges to itself what it has, so that a crash loses no more than this.
const CHECKPOINT: u64 = 64 << 20;

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

impl Store {
    /// Begins an upload whose content will be named by a digest of `algorithm`.
    pub async fn begin_upload(
        &self,
        repo: &RepoName,
        algorithm: Algorithm,
        actor: &Actor,
    ) -> Result<Location> {
        let (id, now) = (Location::new(), self.now());
        let row = rows::Upload {
            repo: repo.as_str().to_owned(),
            offset: 0,
            epoch: 0,
            hash: Hasher::new(algorithm).state(),
            started: now,
            touched: now,
            pusher: actor.subject.clone(),
            session: actor.session.clone(),
        };
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                tx.put(keys::review(now.plus(LEASE), &Review::Upload(id)), Vec::new())?;
                tx.put(keys::upload(id), rows::encode(&row)?)
            })
            .await?;
        Ok(id)
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
        let writer = self.claim(repo, id, chunk.start).await?;
        let offset = self.receive(writer, chunk, body, None).await?.0;
        Ok(UploadStatus { offset })
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
        match self.claim(repo, id, chunk.start).await {
            Ok(writer) => Ok(self.receive(writer, chunk, body, Some(digest.clone())).await?.1),
            // A client that lost our answer repeats the request: the blob is there, and that is the answer.
            Err(Error::NotFound(What::Upload)) => match self.blob_for_push(repo, digest).await {
                Ok(_) => Ok(Finished { reread: false }),
                Err(Error::NotFound(_)) => Err(Error::NotFound(What::Upload)),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
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
        let id = self.begin_upload(repo, digest.supported()?, actor).await?;
        let writer = self.claim(repo, id, Some(0)).await?;
        let pushed = self.receive(writer, Chunk { start: Some(0), len }, body, Some(digest.clone())).await;
        if pushed.is_err()
            && let Err(error) = self.cancel_upload(repo, id).await
        {
            // The session's review row will end it.
            tracing::warn!(upload = %id, %error, "could not cancel a failed upload");
        }
        pushed.map(|_| ())
    }

    /// Ends an upload and drops its bytes.
    pub async fn cancel_upload(&self, repo: &RepoName, id: Location) -> Result<()> {
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        let _held = self.sessions.seize(id, row.offset).await?;
        let (repo, now) = (repo.clone(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let row = find(tx, &repo, id).await?;
                tx.delete(keys::upload(id))?;
                tx.put(keys::garbage(now, id), rows::encode(&rows::Garbage { size: row.offset })?)
            })
            .await
    }

    /// Takes the session for one request: in this process, then in the catalog by raising its epoch.
    async fn claim(&self, repo: &RepoName, id: Location, start: Option<u64>) -> Result<Writer> {
        // A stranger to the session must not disturb its writer.
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        let held = self.sessions.take(id, start, row.offset).await?;
        let (name, now) = (repo.clone(), self.now());
        let row = self
            .engine
            .write(0, async move |tx: &mut WriteTx| {
                let mut row = find(tx, &name, id).await?;
                if start.is_some_and(|start| start != row.offset) {
                    return Err(Error::OffsetMismatch { have: row.offset });
                }
                row.epoch += 1;
                row.touched = now;
                tx.put(keys::upload(id), rows::encode(&row)?)?;
                Ok(row)
            })
            .await?;
        held.holder.set_written(row.offset);
        Ok(Writer {
            id,
            repo: repo.clone(),
            hasher: Hasher::resume(&row.hash).ok_or_else(damaged_state)?,
            acknowledged: row.offset,
            before: row,
            draft: None,
            engine: Arc::clone(&self.engine),
            blobs: self.blobs.clone(),
            clock: Arc::clone(&self.clock),
            held,
        })
    }

    async fn receive<S, E>(
        &self,
        writer: Writer,
        chunk: Chunk,
        body: S,
        digest: Option<Digest>,
    ) -> Result<(u64, Finished)>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let gone = Gone(Arc::clone(&writer.held.holder));
        let (sender, inbox) = mpsc::channel(1);
        let writing = tokio::spawn(writer.run(inbox, digest));
        let end = forward(body, chunk.len, &self.receive, &sender).await;
        // Fails only when the writer has ended, whose result says why.
        let _ended = sender.send(Message::End(end)).await;
        let result = writing
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(format!("an upload ended abnormally: {error}"))));
        drop(gone);
        result
    }
}

async fn find(tx: &mut crate::kv::ReadTx, repo: &RepoName, id: Location) -> Result<rows::Upload> {
    let row = tx.get(&keys::upload(id)).await?.ok_or(Error::NotFound(What::Upload))?;
    let row: rows::Upload = rows::decode(&row)?;
    if row.repo == repo.as_str() { Ok(row) } else { Err(Error::NotFound(What::Upload)) }
}

fn damaged_state() -> Error {
    Error::Corrupt("the stored hash state of an upload cannot be read".to_owned())
}

/// Tells others when the request goes away before its end.
struct Gone(Arc<Holder>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

enum Message {
    Batch(Vec<Bytes>, OwnedSemaphorePermit),
    End(End),
}

/// How a request's body ended.
enum End {
    Complete,
    /// The client went away: what came counts.
    Cut(Error),
    /// The request contradicts itself: what came does not count.
    Refused(Error),
}

/// Passes a body on in batches. Returns early, with whatever, once the writer has ended.
async fn forward<S, E>(
    mut body: S,
    expected: Option<u64>,
    memory: &Arc<Semaphore>,
    sender: &mpsc::Sender<Message>,
) -> End
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let (mut received, mut ended) = (0u64, false);
    while !ended {
        // One batch is written while the next one arrives; a third would only take memory.
        let Ok(place) = sender.reserve().await else { return End::Complete };
        // Once the writer has ended, its result is the answer; a client may be silent for long.
        let first = tokio::select! {
            biased;
            () = sender.closed() => return End::Complete,
            first = body.next() => first,
        };
        let Some(first) = first else { break };
        let permit = tokio::select! {
            biased;
            () = sender.closed() => return End::Complete,
            permit = Arc::clone(memory).acquire_many_owned(u32::try_from(BATCH).unwrap_or(1)) => permit,
        };
        let Ok(permit) = permit else {
            return End::Cut(Error::Unavailable("the store is closing".to_owned()));
        };
        let full_by = Instant::now() + QUIET;
        let (mut batch, mut bytes, mut next, mut failure) = (Vec::new(), 0, Some(first), None);
        while let Some(piece) = next.take() {
            match piece {
                Err(error) => failure = Some(Error::Body(error.to_string())),
                Ok(piece) => {
                    bytes += piece.len();
                    batch.push(piece);
                    if bytes < BATCH && batch.len() < MAX_PIECES {
                        match tokio::time::timeout_at(full_by, body.next()).await {
                            Ok(Some(piece)) => next = Some(piece),
                            Ok(None) => ended = true,
                            Err(_) => {}
                        }
                    }
                }
            }
        }
        received += bytes as u64;
        if let Some(expected) = expected
            && received > expected
        {
            return End::Refused(Error::SizeMismatch { expected, actual: received });
        }
        place.send(Message::Batch(batch, permit));
        if let Some(failure) = failure {
            return End::Cut(failure);
        }
    }
    match expected {
        Some(expected) if expected != received => {
            End::Refused(Error::SizeMismatch { expected, actual: received })
        }
        _ => End::Complete,
    }
}

/// The holder of a session's current epoch.
struct Writer {
    id: Location,
    repo: RepoName,
    /// The session as this claim found it.
    before: rows::Upload,
    hasher: Hasher,
    acknowledged: u64,
    draft: Option<Draft>,
    engine: Arc<Engine>,
    blobs: LocalBlobs,
    clock: Arc<dyn Clock>,
    held: Held,
}

impl Writer {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        digest: Option<Digest>,
    ) -> Result<(u64, Finished)> {
        let holder = Arc::clone(&self.held.holder);
        let end = loop {
            let message = tokio::select! {
                biased;
                () = holder.stopped() => Some(Message::End(End::Cut(Error::UploadTaken))),
                message = inbox.recv() => message,
            };
            match message {
                Some(Message::Batch(batch, permit)) => {
                    self = self.append(batch).await?;
                    drop(permit);
                    if self.written() - self.acknowledged >= CHECKPOINT {
                        self = self.checkpoint().await?;
                    }
                }
                Some(Message::End(end)) => break end,
                None => break End::Cut(Error::Body("the client has gone".to_owned())),
            }
        };
        match (end, digest) {
            (End::Complete, Some(digest)) => self.finish(digest).await,
            (End::Complete, None) => {
                let writer = self.checkpoint().await?;
                Ok((writer.written(), Finished { reread: false }))
            }
            (End::Cut(error), _) => {
                self.checkpoint().await?;
                Err(error)
            }
            (End::Refused(error), _) => {
                self.undo().await?;
                Err(error)
            }
        }
    }

    fn written(&self) -> u64 {
        self.draft.as_ref().map_or(self.before.offset, Draft::offset)
    }

    /// Runs `work` on the blocking pool with the file open.
    async fn with_draft<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Draft, &mut Hasher) -> Result<T> + Send + 'static,
    ) -> Result<(Self, T)> {
        let job = tokio::task::spawn_blocking(move || {
            let draft = match &mut self.draft {
                Some(draft) => draft,
                None => self.draft.insert(self.blobs.draft(self.id, self.before.offset)?),
            };
            let value = work(draft, &mut self.hasher)?;
            Ok((self, value))
        });
        job.await
            .unwrap_or_else(|error| Err(Error::Unavailable(format!("an upload ended abnormally: {error}"))))
    }

    async fn append(self, batch: Vec<Bytes>) -> Result<Self> {
        let (writer, written) = self
            .with_draft(move |draft, hasher| {
                for piece in &batch {
                    hasher.update(piece);
                }
                draft.append(&batch)?;
                Ok(draft.offset())
            })
            .await?;
        writer.held.holder.set_written(written);
        Ok(writer)
    }

    /// Acknowledges what was written: a restart goes on from here.
    async fn checkpoint(self) -> Result<Self> {
        if self.written() == self.acknowledged {
            return Ok(self);
        }
        let (mut writer, ()) = self.with_draft(|draft, _| draft.sync()).await?;
        let row = rows::Upload {
            offset: writer.written(),
            hash: writer.hasher.state(),
            touched: writer.clock.now(),
            ..writer.before.clone()
        };
        writer.acknowledged = row.offset;
        writer.put_row(row).await?;
        Ok(writer)
    }

    /// Puts the session back to where this claim found it.
    async fn undo(&self) -> Result<()> {
        if self.acknowledged == self.before.offset {
            return Ok(());
        }
        self.put_row(self.before.clone()).await
    }

    async fn put_row(&self, row: rows::Upload) -> Result<()> {
        let (repo, id) = (self.repo.clone(), self.id);
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                own(tx, &repo, id, row.epoch).await?;
                tx.put(keys::upload(id), rows::encode(&row)?)
            })
            .await
    }

    async fn finish(self, digest: Digest) -> Result<(u64, Finished)> {
        let (mut writer, ()) = self.with_draft(|_, _| Ok(())).await?;
        let hasher = std::mem::replace(&mut writer.hasher, Hasher::new(Algorithm::Sha256));
        let mut found = hasher.finish();
        let reread = found.confirm(&digest).is_none();
        if reread {
            let algorithm = digest.supported()?;
            (writer, found) = writer
                .with_draft(move |draft, _| {
                    let mut hasher = Hasher::new(algorithm);
                    draft.reread(|bytes| hasher.update(bytes))?;
                    Ok(hasher.finish())
                })
                .await?;
            tracing::debug!(upload = %writer.id, bytes = writer.written(), "read once more for another digest");
        }
        if found.confirm(&digest) != Some(true) {
            writer.undo().await?;
            let actual = match (&digest, found.sha512) {
                (Digest::Sha512(_), Some(sha512)) => Digest::Sha512(sha512),
                _ => Digest::Sha256(found.sha256),
            };
            return Err(Error::DigestMismatch { expected: Box::new(digest), actual: Box::new(actual) });
        }
        let (writer, ()) = writer.with_draft(|draft, _| draft.sync()).await?;
        let size = writer.written();
        writer.commit(digest, found, size).await?;
        Ok((size, Finished { reread }))
    }

    /// Turns the session into content and a link, in one transaction.
    async fn commit(&self, digest: Digest, hashes: Hashes, size: u64) -> Result<()> {
        let (repo, id, epoch) = (self.repo.clone(), self.id, self.before.epoch);
        let actor = Actor { subject: self.before.pusher.clone(), session: self.before.session.clone() };
        let now = self.clock.now();
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                own(tx, &repo, id, epoch).await?;
                tx.delete(keys::upload(id))?;
                adopt(tx, id, &hashes, size, now).await?;
                let repo = repositories::intern(tx, &repo, now).await?;
                blobs::link(tx, repo, &digest, (hashes.sha256, size), &actor, now).await
            })
            .await
    }
}

/// Fails unless the session is still at this epoch.
async fn own(tx: &mut WriteTx, repo: &RepoName, id: Location, epoch: u64) -> Result<()> {
    if find(tx, repo, id).await?.epoch == epoch { Ok(()) } else { Err(Error::UploadTaken) }
}

/// Makes an upload's bytes the content of their hash, or garbage if there is such content already.
async fn adopt(
    tx: &mut WriteTx,
    location: Location,
    hashes: &Hashes,
    size: u64,
    now: Timestamp,
) -> Result<()> {
    let key = keys::content(&hashes.sha256);
    let mut content = match tx.get(&key).await? {
        Some(row) => {
            tx.put(keys::garbage(now, location), rows::encode(&rows::Garbage { size })?)?;
            rows::decode(&row)?
        }
        None => rows::Content { location, size, sha512: None, created: now },
    };
    if let Some(sha512) = hashes.sha512 {
        content.sha512 = Some(sha512);
        tx.put(keys::alias(&sha512), hashes.sha256.to_vec())?;
    }
    tx.put(key, rows::encode(&content)?)
}
