// SPDX-License-Identifier: AGPL-3.0-only
//! The client that pulls blobs: a thread for each connection, blocking sockets, and nothing done with the bytes but
//! what the mode says.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use rustix::net::{RecvFlags, recv};

use crate::load::Limit;
use crate::rounds::Tally;
use crate::wire::{Body, broken, connect, head};

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are read into a buffer, as any client does that wants them.
    Read,
    /// The kernel throws them away (`MSG_TRUNC`), as if the client cost nothing.
    Discard,
}

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// What is pulled, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull<'a> {
    pub(crate) host: &'a str,
    /// Whole requests; each client begins with another one, and goes on in their order.
    pub(crate) requests: &'a [Vec<u8>],
    /// The length of every blob.
    pub(crate) length: u64,
    pub(crate) clients: usize,
    pub(crate) mode: Mode,
    pub(crate) limit: Limit,
}

/// Pulls on each of several connections for as long, or as often, as it is told, and counts the bytes that came until
/// then.
pub(crate) fn pull(pull: Pull<'_>) -> anyhow::Result<Tally> {
    let Pull { host, requests, length, clients, mode, limit } = pull;
    let (barrier, taken) = (Barrier::new(clients), AtomicU64::new(0));
    let began = Instant::now();
    let pulled: anyhow::Result<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let (barrier, taken) = (&barrier, &taken);
                scope.spawn(move || {
                    let stream = connect(host);
                    // Also who could not connect comes here, or the others would wait for ever.
                    barrier.wait();
                    let mut puller = Puller { stream: stream?, buffer: vec![0; BUFFER], mode, length };
                    let requests = requests.iter().cycle().skip(number);
                    match limit {
                        Limit::Time(time) => puller.pull(requests, Some(Instant::now() + time)),
                        Limit::Requests(count) => {
                            let mine = |_: &_| taken.fetch_add(1, Ordering::Relaxed) < count;
                            puller.pull(requests.take_while(mine), None)
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a client failed"))?).collect()
    });
    let pulled = pulled?;
    let seconds = match limit {
        Limit::Time(time) => time,
        Limit::Requests(_) => began.elapsed(),
    };
    Ok(Tally {
        seconds: seconds.as_secs_f64(),
        bytes: pulled.iter().map(|(bytes, _)| bytes).sum(),
        requests: pulled.iter().map(|(_, requests)| requests).sum(),
        latencies: Vec::new(),
    })
}

struct Puller {
    stream: TcpStream,
    buffer: Vec<u8>,
    mode: Mode,
    length: u64,
}

impl Puller {
    /// Pulls until the deadline or the last request, and gives how many bytes came and how many requests were begun.
    fn pull<'r>(
        &mut self,
        requests: impl Iterator<Item = &'r Vec<u8>>,
        deadline: Option<Instant>,
    ) -> anyhow::Result<(u64, u64)> {
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let (mut bytes, mut begun) = (0, 0);
        for request in requests {
            let mut left = self.length - self.begin(request)?;
            begun += 1;
            bytes += self.length - left;
            while left > 0 {
                if is_over() {
                    return Ok((bytes, begun));
                }
                let count = self.take(left)?;
                ensure!(count > 0, "the server closed a connection in the middle of a blob");
                bytes += count;
                left -= count;
            }
            if is_over() {
                break;
            }
        }
        Ok((bytes, begun))
    }

    /// Asks for a blob, and gives how much of it came with the head.
    fn begin(&mut self, request: &[u8]) -> anyhow::Result<u64> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            // Little, so that almost all of a blob is read in the mode that is measured.
            let count = self.stream.read(&mut self.buffer[filled..HEAD])?;
            ensure!(count > 0, "the server closed a connection, or its head is too long");
            filled += count;
            let Some(head) = head(&self.buffer[..filled])? else { continue };
            ensure!(head.status == 200, "a blob was answered with {}", head.status);
            ensure!(head.body == Body::Length(self.length), "a blob has another length: {:?}", head.body);
            return u64::try_from(filled - head.size).context("more than memory");
        }
    }

    /// Receives up to `left` bytes.
    fn take(&mut self, left: u64) -> anyhow::Result<u64> {
        let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let buffer = &mut self.buffer[..most];
        let count = match self.mode {
            Mode::Read => self.stream.read(buffer)?,
            // What this gives is the length before truncation: the buffer itself is not written.
            Mode::Discard => recv(&self.stream, buffer, RecvFlags::TRUNC)?.1,
        };
        Ok(u64::try_from(count)?)
    }
}

const HEAD: usize = 8 << 10;
