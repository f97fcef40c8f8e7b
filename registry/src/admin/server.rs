// SPDX-License-Identifier: AGPL-3.0-only
//! The server's side of the socket: one request a connection, one operation of a kind at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Done, Failed, ITEMS, Operation, Request, socket};
use crate::app::App;
use crate::audit::Entry;
use crate::exit;

/// A request has a few words and a path.
const MAX_REQUEST: u64 = 64 << 10;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take for the last line once the server is to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Connections at once.
const CONNECTIONS: u32 = 16;

/// The socket of a server.
pub(crate) struct Admin {
    data: PathBuf,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    app: Arc<App>,
    /// One for each connection that may be open.
    places: Arc<Semaphore>,
    /// Whether operations are to end.
    stop: watch::Sender<bool>,
    gc: AtomicBool,
    resume: AtomicBool,
    fsck: AtomicBool,
    backup: AtomicBool,
    credentials: AtomicBool,
    allowances: AtomicBool,
    impact: AtomicBool,
    released: AtomicBool,
}

impl Admin {
    /// Listens in the data directory `data`, which this process holds.
    pub(crate) fn listen(data: &Path, app: Arc<App>) -> io::Result<Self> {
        let listener = UnixListener::from_std(socket::listen(data)?)?;
        let shared = Arc::new(Shared {
            app,
            places: Arc::new(Semaphore::new(CONNECTIONS as usize)),
            stop: watch::Sender::new(false),
            gc: AtomicBool::default(),
            resume: AtomicBool::default(),
            fsck: AtomicBool::default(),
            backup: AtomicBool::default(),
            credentials: AtomicBool::default(),
            allowances: AtomicBool::default(),
            impact: AtomicBool::default(),
            released: AtomicBool::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Admin { data: data.to_owned(), shared, accepting })
    }

    /// Takes no more requests, and tells what runs to stop.
    pub(crate) fn stop(&self) {
        self.accepting.abort();
        self.shared.stop.send_replace(true);
        if let Err(error) = socket::remove(&self.data) {
            tracing::warn!(%error, "cannot remove the administration socket");
        }
    }

    /// Returns once nothing runs any more.
    pub(crate) async fn stopped(&self) {
        let _all = self.shared.places.acquire_many(CONNECTIONS).await;
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &shared).await {
                        tracing::debug!(%error, "an administration client went away");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an administration client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut stop = shared.stop.subscribe();
    let actor = stream.peer_cred().map_or(String::new(), |who| format!("uid:{}", who.uid()));
    let (read, write) = stream.into_split();
    let mut client = Client { read: BufReader::new(read), write, unsent: Bytes::new(), actor };
    let request = tokio::select! {
        request = client.request() => request,
        _ = stop.wait_for(|stop| *stop) => Err(shutting_down()),
    };
    match request {
        Err(failed) => client.end(&failed, stop).await,
        Ok(Request::Gc(gc)) => run(gc, &shared.gc, shared, client).await,
        Ok(Request::Resume(resume)) => run(resume, &shared.resume, shared, client).await,
        Ok(Request::Fsck(fsck)) => run(fsck, &shared.fsck, shared, client).await,
        Ok(Request::Backup(backup)) => run(backup, &shared.backup, shared, client).await,
        Ok(Request::Credentials(credentials)) => run(credentials, &shared.credentials, shared, client).await,
        Ok(Request::Released(released)) => run(released, &shared.released, shared, client).await,
        Ok(Request::Impact(impact)) => run(impact, &shared.impact, shared, client).await,
        Ok(Request::Allowances(allowances)) => run(allowances, &shared.allowances, shared, client).await,
    }
}

/// Runs an operation, unless one of its kind runs.
async fn run<O: Operation>(
    operation: O,
    running: &AtomicBool,
    shared: &Shared,
    mut client: Client,
) -> io::Result<()> {
    let stop = shared.stop.subscribe();
    if running.swap(true, Ordering::AcqRel) {
        let error = format!("a {} is already running in this server; try again when it has ended", O::NAME);
        return client.end(&Failed { error, exit: exit::RETRY }, stop).await;
    }
    let _slot = Slot(running);
    tracing::info!(operation = O::NAME, "administration begins");
    let (sender, items) = mpsc::channel(ITEMS);
    let (outcome, told) =
        tokio::join!(operation.serve(&shared.app, sender), client.tell(items, stop.clone()));
    if let Some(action) = operation.audited() {
        let outcome = match &outcome {
            Ok(summary) => serde_json::to_value(summary).ok(),
            Err(error) => Some(serde_json::json!({ "error": error.to_string() })),
        };
        let (client, actor) = ("admin.sock".to_owned(), client.actor.clone());
        shared.app.audit.record(Entry { action, client, actor, outcome, ..Entry::default() }).await;
    }
    match (outcome, told) {
        // It has nobody who could be told.
        (_, Err(gone)) => {
            tracing::info!(operation = O::NAME, "administration ended: its client went away");
            Err(gone)
        }
        (Ok(summary), Ok(_)) => {
            tracing::info!(operation = O::NAME, %summary, "administration ended");
            client.end(&Done { summary }, stop).await
        }
        (Err(error), Ok(told)) => {
            tracing::warn!(operation = O::NAME, %error, "administration failed");
            let stopped = matches!(told, Told::Stopped);
            client.end(&if stopped { shutting_down() } else { error.into() }, stop).await
        }
    }
}

fn shutting_down() -> Failed {
    Failed { error: "the server is shutting down".to_owned(), exit: exit::RETRY }
}

/// The right to run an operation.
struct Slot<'s>(&'s AtomicBool);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How far a client was told what an operation does.
enum Told {
    All,
    /// The server is to end.
    Stopped,
}

struct Client {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// The rest of a line; kept here so that a line which was begun is never left in its middle.
    unsent: Bytes,
    /// Who it is, as the system says.
    actor: String,
}

impl Client {
    async fn request(&mut self) -> Result<Request, Failed> {
        let refused = |error: String| Failed { error, exit: exit::USAGE };
        let mut line = Vec::new();
        let mut limited = (&mut self.read).take(MAX_REQUEST);
        match tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await {
            Err(_) => return Err(refused("no request came in time".to_owned())),
            Ok(Err(error)) => return Err(refused(format!("the request cannot be read: {error}"))),
            Ok(Ok(_)) if line.last() != Some(&b'\n') => {
                return Err(refused(format!("a request is one line of at most {MAX_REQUEST} bytes")));
            }
            Ok(Ok(_)) => {}
        }
        serde_json::from_slice(&line).map_err(|error| {
            refused(format!("the server does not know this request, it may be of another version: {error}"))
        })
    }

    /// Sends items until there are no more, the client is gone or the server ends. After that nobody
    /// receives items, which ends the operation that sends them.
    async fn tell<I: Serialize>(
        &mut self,
        mut items: mpsc::Receiver<I>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<Told> {
        let Client { read, write, unsent, .. } = self;
        let sending = async {
            while let Some(item) = items.recv().await {
                *unsent = line(&item)?;
                flush(write, unsent).await?;
            }
            Ok(Told::All)
        };
        tokio::select! {
            sent = sending => sent,
            gone = gone(read) => Err(gone),
            _ = stop.wait_for(|stop| *stop) => Ok(Told::Stopped),
        }
    }

    /// Sends the last line.
    async fn end(&mut self, last: &impl Serialize, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Client { read, write, unsent, .. } = self;
        *unsent = [&unsent[..], &line(last)?].concat().into();
        let in_time = async {
            let _told = stop.wait_for(|stop| *stop).await.is_ok();
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            // First of all: who sent too much is to learn so.
            biased;
            sent = flush(write, unsent) => sent,
            gone = gone(read) => Err(gone),
            () = in_time => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn line(value: &impl Serialize) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line.into())
}

async fn flush(write: &mut OwnedWriteHalf, unsent: &mut Bytes) -> io::Result<()> {
    while !unsent.is_empty() {
        if write.write_buf(unsent).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Returns once the client has closed its side, or says more than its request.
async fn gone(read: &mut BufReader<OwnedReadHalf>) -> io::Error {
    match read.read(&mut [0]).await {
        Err(error) => error,
        Ok(0) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => io::Error::other("the client sent more than one request"),
    }
}
