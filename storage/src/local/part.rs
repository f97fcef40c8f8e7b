// SPDX-License-Identifier: AGPL-3.0-only
//! A part of a blob's file that goes to a socket straight from the kernel's memory (`sendfile`).
//!
//! `sendfile` waits for the disk where a page is missing, and would hold up the thread's other
//! connections. So before it is sent, and again after its client has kept it waiting, a part is looked
//! for, and what is missing is fetched in the blocking pool.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

use super::open::{OpenBlob, PIECE};

/// One byte of so many is looked for: the kernel reads and drops files in larger steps than pages, and a page that
/// is missed is waited for on the calling thread, no worse.
const STEP: u64 = 128 << 10;

/// EINVAL, EOPNOTSUPP and ENOSYS: some file systems and sandboxes have no `sendfile`.
const UNABLE: [io::ErrorKind; 2] = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];
/// What is sent there at once.
const LITTLE: usize = 64 << 10;

/// A part of a blob's file, which is sent without a copy in this process.
pub struct FilePart {
    blob: Arc<OpenBlob>,
    rest: Range<u64>,
    /// Whether what comes next was in memory when it was last looked for.
    found: bool,
    fetching: Option<JoinHandle<io::Result<()>>>,
}

impl FilePart {
    pub(super) fn new(blob: Arc<OpenBlob>, range: Range<u64>) -> Self {
        FilePart { blob, rest: range, found: false, fetching: None }
    }

    /// Bytes that were not sent yet.
    pub fn len(&self) -> u64 {
        self.rest.end.saturating_sub(self.rest.start)
    }

    /// Whether all was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_in_memory(&self) -> bool {
        let mut places = self.rest.clone().step_by(usize::try_from(STEP).unwrap_or(usize::MAX));
        places.all(|place| matches!(self.blob.file.read_cached(&mut [0], place), Ok(1)))
    }

    /// Ready once sending will not wait for the disk.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.found && self.fetching.is_none() {
            self.found = self.is_in_memory();
        }
        if self.found {
            return Poll::Ready(Ok(()));
        }
        let fetching = self.fetching.get_or_insert_with(|| {
            let (blob, rest) = (Arc::clone(&self.blob), self.rest.clone());
            tokio::task::spawn_blocking(move || fetch(&blob, rest))
        });
        let fetched = ready!(std::pin::Pin::new(fetching).poll(context));
        self.fetching = None;
        fetched.map_err(io::Error::other)??;
        // What is dropped again before it is sent is waited for: a disk that is this slow must end somewhere.
        self.found = true;
        Poll::Ready(Ok(()))
    }

    /// Sends up to `most` bytes, as many as the socket takes now, and returns how many.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket takes none; `InvalidData` if the file ends too early; else those of the file or
    /// of the socket.
    pub fn send(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(most);
        let sent = match self.blob.file.send(&socket, self.rest.start, most) {
            Err(error) if UNABLE.contains(&error.kind()) => self.copy(socket, most),
            sent => sent,
        };
        match sent {
            Ok(0) if most > 0 => {
                let (path, end) = (self.blob.path.display(), self.rest.start);
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} ends at byte {end}")))
            }
            Ok(sent) => {
                self.rest.start += sent as u64;
                Ok(sent)
            }
            Err(error) => {
                // Who waits may wait for long.
                self.found &= error.kind() != io::ErrorKind::WouldBlock;
                Err(error)
            }
        }
    }

    /// Sends a little by way of a buffer.
    fn copy(&self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let mut buffer = vec![0; most.min(LITTLE)];
        let read = self.blob.file.read_full_at(&mut buffer, self.rest.start)?;
        Ok(rustix::io::write(socket, &buffer[..read])?)
    }
}

/// Brings a range into the kernel's memory.
fn fetch(blob: &OpenBlob, mut range: Range<u64>) -> io::Result<()> {
    let mut buffer = blob.buffers.take(&blob.memory);
    while range.start < range.end {
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(PIECE);
        let want = left.min(buffer.bytes.len());
        match blob.file.read_full_at(&mut buffer.bytes[..want], range.start)? {
            0 => break,
            read => range.start += read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use bytes::Bytes;

    use super::super::{LocalBlobs, Location};
    use crate::budget::Share;
    use crate::disk::{Disk, simulated};

    /// What comes out of a socket that takes little at a time, of a range of some content.
    async fn sent(blobs: &LocalBlobs, location: Location, range: std::ops::Range<u64>) -> Vec<u8> {
        let mut reader = blobs.read(location, Some(range), &Share::of(1 << 20)).unwrap().remove(0);
        let (socket, mut other) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        while let Some(mut part) = reader.next_part(100_000) {
            while !part.is_empty() {
                std::future::poll_fn(|context| part.poll_ready(context)).await.unwrap();
                if let Err(error) = part.send(&socket, 70_000) {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    let _blocked = other.read_to_end(&mut all).unwrap_err();
                }
            }
        }
        drop(socket);
        other.read_to_end(&mut all).unwrap();
        all
    }

    #[tokio::test]
    async fn what_is_sent_is_what_the_file_holds_with_and_without_the_kernels_help() {
        let folder = tempfile::tempdir().unwrap();
        let real = LocalBlobs::open(folder.path()).unwrap();
        let machine = simulated::Machine::new();
        let simulated = LocalBlobs::open_on(Disk::Simulated(machine), Path::new("/blobs")).unwrap();
        let content: Vec<u8> = (0..700_003u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for blobs in [real, simulated] {
            let location = Location::new();
            blobs.draft(location, 0).unwrap().append(&[Bytes::from(content.clone())]).unwrap();
            for range in [0..700_003usize, 5..6, 131_071..262_145, 700_002..700_003] {
                let bytes = sent(&blobs, location, range.start as u64..range.end as u64).await;
                assert!(bytes == content[range.clone()], "{range:?}");
            }
        }
    }
}
