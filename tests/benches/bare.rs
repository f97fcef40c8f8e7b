// SPDX-License-Identifier: AGPL-3.0-only
//! What a push is compared with: a program that receives, hashes, writes and syncs, and does nothing else that a
//! registry does. It runs on tokio, as the registry does, reads sockets directly, and answers the same requests, so
//! that the same client pushes to it: a `POST` gets a `Location` (nothing is kept of it), a `PUT` brings a blob.
//! A token is compared with what `sign.rs` does here when a `GET` tells it to, and with what it answers beside this.
//!
//! A blob is received in pieces of up to 1 MiB; a thread for each blob hashes and writes a piece while the next arrives.
//! It becomes one file, named by its digest; file and folder are synced before the answer.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::sign::{self, Order};
use crate::wire::{broken, header};

/// How much is hashed and written at once.
const PIECE: usize = 1 << 20;
/// How many pieces of a blob are in memory besides the one that arrives.
const WAITING: usize = 2;

/// Serves until it is ended.
pub(crate) fn serve(data: &Path) -> anyhow::Result<()> {
    let handle = File::open(data).context("no data folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let signing = TcpListener::bind("127.0.0.1:0").await?;
        let signs_at = signing.local_addr()?.to_string();
        tokio::spawn(sign::answer(signing));
        let folder = Arc::new(Folder { path: data.to_owned(), handle, signs_at });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = io::stdout();
        writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of files, most likely: others will be closed.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let folder = Arc::clone(&folder);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let connection = Connection { stream, buffer: Vec::with_capacity(PIECE), spare: Vec::new() };
                // The client sees that the connection is gone.
                let _ = connection.serve(&folder).await;
            });
        }
    })
}

struct Folder {
    path: PathBuf,
    handle: File,
    /// Where answers are signatures.
    signs_at: String,
}

struct Connection {
    stream: TcpStream,
    /// What has arrived and belongs to no earlier request.
    buffer: Vec<u8>,
    /// Pieces to be used again.
    spare: Vec<Vec<u8>>,
}

/// What is needed of a request's head.
struct Request {
    size: usize,
    line: String,
    length: usize,
}

impl Connection {
    async fn serve(mut self, folder: &Arc<Folder>) -> io::Result<()> {
        while let Some(request) = self.request().await? {
            self.buffer.drain(..request.size);
            let mut words = request.line.split(' ');
            let (method, target) = (words.next(), words.next());
            let mut body = String::new();
            if let Some(order) = target.and_then(Order::of) {
                let signed = spawn_blocking(move || order.carry_out()).await;
                body = signed.map_err(io::Error::other)??.to_string();
            } else if target == Some(sign::ADDRESS) {
                body.clone_from(&folder.signs_at);
            }
            let answer = match (method, target) {
                (Some("POST"), _) => "202 Accepted\r\nLocation: /upload",
                (Some("PUT"), Some(target)) => {
                    let (_, digest) = target.split_once("digest=").ok_or_else(|| broken("no digest"))?;
                    let kept = self.receive(folder, digest.to_owned(), request.length).await?;
                    if kept { "201 Created" } else { "400 Bad Request" }
                }
                _ => "200 OK",
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: {length}\r\n\r\n{body}");
            self.stream.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    /// The head of the next request; `None` when there is none.
    async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = parse(&self.buffer)? {
                return Ok(Some(request));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Receives a blob of `length` bytes; whether it is what `digest` says, and kept.
    async fn receive(&mut self, folder: &Arc<Folder>, digest: String, length: usize) -> io::Result<bool> {
        let (to_writer, from_here) = mpsc::channel(WAITING);
        let (to_here, mut used) = mpsc::unbounded_channel();
        let folder = Arc::clone(folder);
        let writer = spawn_blocking(move || write(&folder, &digest, from_here, &to_here));
        let mut left = length;
        // What came with the head begins the first piece.
        let more = self.buffer.split_off(left.min(self.buffer.len()));
        let mut piece = std::mem::replace(&mut self.buffer, more);
        piece.reserve(PIECE - piece.len().min(PIECE));
        left -= piece.len();
        loop {
            while piece.len() < PIECE && left > 0 {
                let most = (PIECE - piece.len()).min(left);
                let count = (&mut self.stream).take(most as u64).read_buf(&mut piece).await?;
                if count == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                left -= count;
            }
            // When the writer is gone it says below why.
            let _ = to_writer.send(piece).await;
            if left == 0 {
                break;
            }
            while let Ok(buffer) = used.try_recv() {
                self.spare.push(buffer);
            }
            piece = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE));
        }
        drop(to_writer);
        let kept = writer.await.map_err(io::Error::other)??;
        while let Ok(buffer) = used.try_recv() {
            self.spare.push(buffer);
        }
        if self.buffer.capacity() == 0 {
            self.buffer = self.spare.pop().unwrap_or_default();
        }
        Ok(kept)
    }
}

/// Hashes and writes pieces as they come; whether all of them have the digest that was named.
fn write(
    folder: &Folder,
    digest: &str,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    used: &mpsc::UnboundedSender<Vec<u8>>,
) -> io::Result<bool> {
    let path = folder.path.join(digest);
    let mut file = File::create(&path)?;
    let mut hash = Sha256::new();
    while let Some(mut piece) = pieces.blocking_recv() {
        hash.update(&piece);
        file.write_all(&piece)?;
        piece.clear();
        // Nobody takes it when the client is gone.
        let _ = used.send(piece);
    }
    if digest.strip_prefix("sha256:") != Some(hex::encode(hash.finalize()).as_str()) {
        std::fs::remove_file(path)?;
        return Ok(false);
    }
    file.sync_data()?;
    folder.handle.sync_all()?;
    Ok(true)
}

/// Reads the head of a request, if it is there up to its end.
fn parse(bytes: &[u8]) -> io::Result<Option<Request>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let mut lines = bytes[..end].split(|&byte| byte == b'\n');
    let text = |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned).map_err(|_| broken("not text"));
    let line = text(lines.next().unwrap_or_default())?;
    let length = lines.find_map(|line| header(line, b"content-length:"));
    let length = length.map_or(Ok(0), |value| text(value)?.parse().map_err(|_| broken("not a length")))?;
    Ok(Some(Request { size: end + 4, line, length }))
}
