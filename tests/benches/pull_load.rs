// SPDX-License-Identifier: AGPL-3.0-only
//! The client that pulls blobs: a thread for each connection, blocking sockets, and nothing done with the bytes but
//! what the mode says.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::net::{RecvFlags, recv};

use crate::rounds::Tally;
use crate::wire::{Body, broken, connect, head};
use std::io::Write as _;

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

/// Pulls `targets`, each of `length` bytes, one after the other on each of `clients` connections, and counts the
/// bytes that came within `time`.
pub(crate) fn pull(
    host: &str,
    targets: &[String],
    length: u64,
    clients: usize,
    mode: Mode,
    time: Duration,
) -> anyhow::Result<Tally> {
    let barrier = Barrier::new(clients);
    let pulled: anyhow::Result<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let stream = connect(host);
                    // Also who could not connect comes here, or the others would wait for ever.
                    barrier.wait();
                    let mut puller = Puller { host, stream: stream?, buffer: vec![0; BUFFER], mode, length };
                    puller.pull(targets.iter().cycle().skip(number), Instant::now() + time)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a client failed"))?).collect()
    });
    let pulled = pulled?;
    Ok(Tally {
        seconds: time.as_secs_f64(),
        bytes: pulled.iter().map(|(bytes, _)| bytes).sum(),
        requests: pulled.iter().map(|(_, requests)| requests).sum(),
        latencies: Vec::new(),
    })
}

struct Puller<'a> {
    host: &'a str,
    stream: TcpStream,
    buffer: Vec<u8>,
    mode: Mode,
    length: u64,
}

impl Puller<'_> {
    /// Pulls until the deadline, and gives how many bytes came and how many requests were begun.
    fn pull<'t>(
        &mut self,
        targets: impl Iterator<Item = &'t String>,
        deadline: Instant,
    ) -> anyhow::Result<(u64, u64)> {
        let (mut bytes, mut requests) = (0, 0);
        for target in targets {
            let mut left = self.length - self.begin(target)?;
            requests += 1;
            bytes += self.length - left;
            while left > 0 {
                if Instant::now() >= deadline {
                    return Ok((bytes, requests));
                }
                let count = self.take(left)?;
                ensure!(count > 0, "the server closed a connection in the middle of a blob");
                bytes += count;
                left -= count;
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok((bytes, requests))
    }

    /// Asks for a blob, and gives how much of it came with the head.
    fn begin(&mut self, target: &str) -> anyhow::Result<u64> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes())?;
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
