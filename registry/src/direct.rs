// SPDX-License-Identifier: AGPL-3.0-only
//! Sends large blobs over plain HTTP/1.1 straight from the kernel's memory, below hyper.
//!
//! hyper writes bytes, and knows nothing of files. So an answer's body gives it stand-ins: slices of a
//! buffer that nobody reads, as long as the parts of the file that they stand for, which wait in a queue. The
//! [`Connection`](crate::connection::Connection) knows a stand-in by its address, and where one is to be written it
//! sends the queue's next bytes with `sendfile`. Without a copy in this process a pull costs a third less, and
//! answers to slow clients hold no memory. TLS and HTTP/2 must see all bytes and go without.
//!
//! It holds because hyper queues a body's buffers as they are (its vectored writes) and in their order. Nothing rests on
//! trust: what waits in the queue must be what is being written, byte for byte as long, or the connection ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use stella_storage::{BlobReader, FilePart};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What is sent at once: each call ends with a packet that is not full, and holds up its thread.
const LARGEST: usize = 1 << 20;
const CUT: &str = "an answer ends early, because its blob cannot be read";
static STAND_INS: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; LARGEST]));

/// Parts of files on their way to one connection.
#[derive(Clone, Default)]
pub(crate) struct Direct(Arc<Mutex<VecDeque<FilePart>>>);

/// A blob's bytes for a body: stand-ins where possible, itself elsewhere.
pub(crate) struct Pieces {
    reader: BlobReader,
    direct: Option<Direct>,
}

impl Pieces {
    pub(crate) fn new(reader: BlobReader, direct: Option<Direct>) -> Self {
        Pieces { reader, direct }
    }
}

impl Stream for Pieces {
    type Item = stella_storage::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Pieces { reader, direct } = &mut *self;
        if let Some(direct) = direct
            && let Some(part) = reader.next_part(LARGEST)
        {
            let stand_in = STAND_INS.slice(..usize::try_from(part.len()).unwrap_or(LARGEST));
            direct.queue().push_back(part);
            return Poll::Ready(Some(Ok(stand_in)));
        }
        let piece = Pin::new(reader).poll_next(context);
        if let Poll::Ready(Some(Err(error))) = &piece {
            tracing::error!(%error, "{CUT}");
        }
        piece
    }
}

/// Tells the operator of a fault that is not the client's.
fn cut(error: &io::Error) {
    let files = [Errno::IO, Errno::UCLEAN, Errno::BADMSG].map(Errno::raw_os_error);
    let of_the_file = error.kind() == io::ErrorKind::InvalidData
        || error.raw_os_error().is_some_and(|code| files.contains(&code));
    if of_the_file {
        tracing::error!(%error, "{CUT}");
    }
}

fn out_of_step() -> io::Error {
    tracing::error!("internal: hyper writes something else than the parts of files that wait");
    io::Error::other("what is written and what waits to be sent are not the same")
}

fn is_stand_in(slice: &[u8]) -> bool {
    let first = STAND_INS.as_ptr().addr();
    (first..first + LARGEST).contains(&slice.as_ptr().addr()) && !slice.is_empty()
}

impl Direct {
    fn queue(&self) -> MutexGuard<'_, VecDeque<FilePart>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes as `stream` does, and parts of files where `slices` has their stand-ins.
    pub(crate) fn poll_write(
        &self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        use tokio::io::AsyncWrite as _;

        let mut queue = self.queue();
        let Some(at) = slices.iter().position(|slice| is_stand_in(slice)) else {
            // A stand-in that was copied looks like any zeros.
            if !queue.is_empty() {
                return Poll::Ready(Err(out_of_step()));
            }
            return Pin::new(stream).poll_write_vectored(context, slices);
        };
        let before = &slices[..at];
        loop {
            ready!(stream.poll_write_ready(context))?;
            let written = if before.iter().any(|slice| !slice.is_empty()) {
                // What comes before, most often a head, leaves together with the first of the file.
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                let send = || Ok(sendmsg(&*stream, before, &mut SendAncillaryBuffer::default(), flags)?);
                stream.try_io(Interest::WRITABLE, send)
            } else {
                let part = queue.front_mut().filter(|part| part.len() == slices[at].len() as u64);
                let part = part.ok_or_else(out_of_step)?;
                ready!(part.poll_ready(context)).inspect_err(cut)?;
                let sent = stream.try_io(Interest::WRITABLE, || part.send(&*stream, slices[at].len()));
                if part.is_empty() {
                    queue.pop_front();
                }
                sent.inspect_err(cut)
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}
