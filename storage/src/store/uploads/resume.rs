// SPDX-License-Identifier: AGPL-3.0-only
//! Taking an upload up where it stands: the writer of a session, the holder of its current epoch.
//!
//! It runs in a task of its own, not in the request: when the client goes away it still brings file
//! and catalog in order, and only then may the next request write. Bytes are acknowledged by a
//! checkpoint: file synced, then offset and hash state committed under this claim's epoch.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::batch::Batch;
use super::intake::{End, Message};
use super::sessions::Held;
use super::stats::Counters;
use crate::clock::{Clock, Timestamp};
use crate::digest::{Digest, Hasher, Hashes};
use crate::disk::Room;
use crate::error::{Error, Result, What};
use crate::keys;
use crate::kv::{Engine, ReadTx, WriteTx};
use crate::local::{Draft, LocalBlobs, Location};
use crate::name::RepoName;
use crate::rows;
use crate::store::lease::{Moment, Periods};
use crate::store::{Actor, Store, blobs, repositories};

/// A long request acknowledges to itself what it has, so that a crash loses no more than this.
const CHECKPOINT: u64 = 64 << 20;

/// The epoch with which a session begins.
pub(super) const FIRST_EPOCH: u64 = 1;

/// What a request has done to a session.
pub(super) struct Written {
    /// Bytes that the session now holds.
    pub(super) offset: u64,
    /// Whether they were read once more, for a digest of another algorithm.
    pub(super) reread: bool,
}

impl Store {
    /// Takes the session for one request: in this process, then in the catalog by raising its epoch. The
    /// process that began a session has its first epoch already, and needs no write for it.
    pub(super) async fn claim(
        &self,
        repo: &RepoName,
        id: Location,
        start: Option<u64>,
    ) -> Result<Box<Writer>> {
        // A stranger to the session must not disturb its writer.
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        let held = self.sessions.take(id, start, row.offset).await?;
        let (name, now) = (repo.clone(), self.now());
        // Read again: before the session was held, another may have claimed or ended it.
        let row = self.engine.read(async |tx| find(tx, repo, id).await).await?;
        if start.is_some_and(|start| start != row.offset) {
            return Err(Error::OffsetMismatch { have: row.offset });
        }
        if row.epoch == FIRST_EPOCH && self.sessions.is_first_claim(id) {
            return self.writer(row, repo, id, held);
        }
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
        self.writer(row, repo, id, held)
    }

    fn writer(&self, row: rows::Upload, repo: &RepoName, id: Location, held: Held) -> Result<Box<Writer>> {
        held.holder.set_written(row.offset);
        Ok(Box::new(Writer {
            id,
            repo: repo.clone(),
            hasher: Hasher::resume(&row.hash).ok_or_else(damaged)?,
            acknowledged: row.offset,
            before: row,
            draft: None,
            engine: Arc::clone(&self.engine),
            blobs: self.blobs.clone(),
            room: Arc::clone(&self.room),
            uploaded: Arc::clone(&self.uploaded),
            clock: Arc::clone(&self.clock),
            periods: self.periods,
            held,
        }))
    }
}

fn damaged() -> Error {
    Error::Corrupt("the stored hash state of an upload cannot be read".to_owned())
}

/// The holder of a session's current epoch.
pub(super) struct Writer {
    pub(super) id: Location,
    pub(super) repo: RepoName,
    /// The session as this claim found it.
    before: rows::Upload,
    hasher: Hasher,
    acknowledged: u64,
    draft: Option<Draft>,
    engine: Arc<Engine>,
    blobs: LocalBlobs,
    room: Arc<Room>,
    uploaded: Arc<Counters>,
    clock: Arc<dyn Clock>,
    periods: Periods,
    pub(super) held: Held,
}

impl Writer {
    /// Writes what comes; at the end, with a digest, makes the whole a blob. `whole` says that the request
    /// named no place in the upload for its bytes.
    ///
    /// Most of its life this waits for a client. The ends are boxed, so that it is small meanwhile.
    pub(super) async fn run(
        mut self: Box<Self>,
        mut inbox: mpsc::Receiver<Box<Message>>,
        digest: Option<Box<Digest>>,
        whole: bool,
    ) -> Result<Written> {
        let holder = Arc::clone(&self.held.holder);
        let end = loop {
            let message = tokio::select! {
                biased;
                () = holder.stopped() => break End::Cut(Error::UploadTaken),
                message = inbox.recv() => message,
            };
            let Some(message) = message else {
                break End::Cut(Error::Body("the client has gone".to_owned()));
            };
            let Message { batch, end } = *message;
            if let Some(batch) = batch {
                if let Some(refused @ End::Refused(_)) = end {
                    break refused;
                }
                if let Err(error) = self.room.take_for(batch.len() as u64) {
                    break End::Cut(error);
                }
                // Not after the bytes: the last ones are acknowledged by the end.
                if self.written() - self.acknowledged >= CHECKPOINT {
                    self = Box::pin(self.checkpoint()).await?;
                }
                if let (Some(End::Complete), Some(digest)) = (&end, &digest) {
                    return Box::pin(self.finish(Digest::clone(digest), Some(batch))).await;
                }
                self = Box::pin(self.append(batch)).await?;
            }
            if let Some(end) = end {
                break end;
            }
        };
        match (end, digest) {
            (End::Complete, Some(digest)) => Box::pin(self.finish(*digest, None)).await,
            (End::Complete, None) => {
                let writer = Box::pin(self.checkpoint()).await?;
                Ok(Written { offset: writer.written(), reread: false })
            }
            // A whole blob whose sender knows no offsets: the same request again must find the same session.
            (End::Cut(error), Some(_)) if whole => {
                Box::pin(self.undo()).await?;
                Err(error)
            }
            (End::Cut(error), _) => {
                Box::pin(self.checkpoint()).await?;
                Err(error)
            }
            (End::Refused(error), _) => {
                Box::pin(self.undo()).await?;
                Err(error)
            }
        }
    }

    fn written(&self) -> u64 {
        self.draft.as_ref().map_or(self.before.offset, Draft::offset)
    }

    /// Runs `work` on the blocking pool with the file open.
    async fn with_draft<T: Send + 'static>(
        mut self: Box<Self>,
        work: impl FnOnce(&mut Draft, &mut Hasher) -> Result<T> + Send + 'static,
    ) -> Result<(Box<Self>, T)> {
        let job = tokio::task::spawn_blocking(move || {
            let draft = match &mut self.draft {
                Some(draft) => draft,
                None => self.draft.insert(self.blobs.draft(self.id, self.before.offset)?),
            };
            let value = work(draft, &mut self.hasher)?;
            Ok((self, value))
        });
        job.await.unwrap_or_else(|error| Err(ended_abnormally(&error)))
    }

    async fn append(self: Box<Self>, batch: Batch) -> Result<Box<Self>> {
        // Of many uploads another one is hashed meanwhile, and a second thread would only have to be woken.
        if self.held.is_alone() {
            return self.append_alone(batch).await;
        }
        let (writer, ()) = self.with_draft(move |draft, hasher| add(&batch, draft, hasher)).await?;
        Ok(writer.count())
    }

    /// Hashes a batch while it is written.
    async fn append_alone(self: Box<Self>, batch: Batch) -> Result<Box<Self>> {
        let (batch, mut hasher) = (Arc::new(batch), self.hasher.clone());
        let bytes = Arc::clone(&batch);
        let hashing = tokio::task::spawn_blocking(move || {
            hash(&bytes, &mut hasher);
            hasher
        });
        let (mut writer, ()) = self.with_draft(move |draft, _| draft.append(batch.blocks())).await?;
        writer.hasher = hashing.await.map_err(|error| ended_abnormally(&error))?;
        Ok(writer.count())
    }

    /// Tells others how far the file has come.
    fn count(self: Box<Self>) -> Box<Self> {
        let (before, now) = (self.held.holder.written().unwrap_or(0), self.written());
        self.uploaded.received.add(now.saturating_sub(before));
        self.held.holder.set_written(now);
        self
    }

    /// Acknowledges what was written: a restart goes on from here.
    async fn checkpoint(self: Box<Self>) -> Result<Box<Self>> {
        if self.written() == self.acknowledged {
            return Ok(self);
        }
        let (mut writer, ()) = self.with_draft(|draft, _| draft.sync()).await?;
        // A file in a folder that took the place of ours must not be acknowledged.
        writer.room.stays()?;
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

    /// Makes the upload, with its last bytes, a blob.
    async fn finish(self: Box<Self>, digest: Digest, last: Option<Batch>) -> Result<Written> {
        let wanted = digest.clone();
        let seal = move |draft: &mut Draft, hasher: &mut Hasher| seal(draft, hasher, last, &wanted);
        let (writer, sealed) = self.with_draft(seal).await?;
        let (writer, Sealed { found, reread }) = (writer.count(), sealed);
        if found.confirm(&digest) != Some(true) {
            writer.undo().await?;
            let actual = match (&digest, found.sha512) {
                (Digest::Sha512(_), Some(sha512)) => Digest::Sha512(sha512),
                _ => Digest::Sha256(found.sha256),
            };
            return Err(Error::DigestMismatch { expected: Box::new(digest), actual: Box::new(actual) });
        }
        writer.room.stays()?;
        let size = writer.written();
        writer.commit(digest, found, size).await?;
        Ok(Written { offset: size, reread })
    }

    /// Turns the session into content and a link, in one transaction.
    async fn commit(&self, digest: Digest, hashes: Hashes, size: u64) -> Result<()> {
        let (repo, id, epoch) = (self.repo.clone(), self.id, self.before.epoch);
        let actor = Actor { subject: self.before.pusher.clone(), session: self.before.session.clone() };
        let moment = Moment { now: self.clock.now(), periods: self.periods };
        let broken = self.broken_twin(&hashes).await?;
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                own(tx, &repo, id, epoch).await?;
                tx.delete(keys::upload(id))?;
                adopt(tx, id, &hashes, size, broken, moment.now).await?;
                let repo = repositories::intern(tx, &repo, moment.now).await?;
                blobs::link(tx, repo, &digest, (hashes.sha256, size), &actor, moment).await
            })
            .await?;
        self.uploaded.finished.add(1);
        Ok(())
    }

    /// Where the same content lies already, if its file is lost, cut, or known to hold other bytes: then
    /// these replace it.
    async fn broken_twin(&self, hashes: &Hashes) -> Result<Option<Location>> {
        let row = self.engine.read(async |tx| tx.get(&keys::content(&hashes.sha256)).await).await?;
        let Some(row) = row else { return Ok(None) };
        let content: rows::Content = rows::decode(&row)?;
        if content.damaged.is_none() && self.blobs.holds(content.location, content.size) {
            return Ok(None);
        }
        tracing::warn!(location = %content.location, "a damaged blob was pushed again and is replaced");
        Ok(Some(content.location))
    }
}

/// Hashes a batch and writes it.
fn add(batch: &Batch, draft: &mut Draft, hasher: &mut Hasher) -> Result<()> {
    hash(batch, hasher);
    draft.append(batch.blocks())
}

fn hash(batch: &Batch, hasher: &mut Hasher) {
    for block in batch.blocks() {
        hasher.update(block.as_ref());
    }
}

/// A job that panicked, or that the end of the program has cancelled.
pub(super) fn ended_abnormally(error: &tokio::task::JoinError) -> Error {
    Error::Unavailable(format!("an upload ended abnormally: {error}"))
}

/// What became of an upload whose last byte has come.
struct Sealed {
    found: Hashes,
    /// Whether all bytes were read once more, for a digest of another algorithm.
    reread: bool,
}

/// Adds the last batch, and makes the file durable if it has the digest.
fn seal(draft: &mut Draft, hasher: &mut Hasher, last: Option<Batch>, digest: &Digest) -> Result<Sealed> {
    if let Some(batch) = last {
        add(&batch, draft, hasher)?;
    }
    let algorithm = digest.supported()?;
    let mut found = std::mem::replace(hasher, Hasher::new(algorithm)).finish();
    let reread = found.confirm(digest).is_none();
    if reread {
        draft.reread(|bytes| hasher.update(bytes))?;
        found = std::mem::replace(hasher, Hasher::new(algorithm)).finish();
        tracing::debug!(bytes = draft.offset(), "read an upload once more for another digest");
    }
    if found.confirm(digest) == Some(true) {
        draft.sync()?;
    }
    Ok(Sealed { found, reread })
}

/// Fails unless the session is still at this epoch.
async fn own(tx: &mut WriteTx, repo: &RepoName, id: Location, epoch: u64) -> Result<()> {
    if find(tx, repo, id).await?.epoch == epoch { Ok(()) } else { Err(Error::UploadTaken) }
}

/// Makes an upload's bytes the content of their hash, or garbage if there is such content already that
/// does not lie at `broken`.
async fn adopt(
    tx: &mut WriteTx,
    location: Location,
    hashes: &Hashes,
    size: u64,
    broken: Option<Location>,
    now: Timestamp,
) -> Result<()> {
    let garbage = rows::encode(&rows::Garbage { size })?;
    let key = keys::content(&hashes.sha256);
    let mut content = match tx.get(&key).await? {
        Some(row) => {
            let mut present: rows::Content = rows::decode(&row)?;
            let unwanted = if broken == Some(present.location) {
                present.damaged = None;
                std::mem::replace(&mut present.location, location)
            } else {
                location
            };
            tx.put(keys::garbage(now, unwanted), garbage)?;
            present
        }
        None => rows::Content { location, size, sha512: None, created: now, damaged: None },
    };
    if let Some(sha512) = hashes.sha512 {
        content.sha512 = Some(sha512);
        tx.put(keys::alias(&sha512), hashes.sha256.to_vec())?;
    }
    tx.put(key, rows::encode(&content)?)
}

/// The session's row, if it is one of this repository.
pub(super) async fn find(tx: &mut ReadTx, repo: &RepoName, id: Location) -> Result<rows::Upload> {
    let row = tx.get(&keys::upload(id)).await?.ok_or(Error::NotFound(What::Upload))?;
    let row: rows::Upload = rows::decode(&row)?;
    if row.repo == repo.as_str() { Ok(row) } else { Err(Error::NotFound(What::Upload)) }
}
