// SPDX-License-Identifier: AGPL-3.0-only
//! The client that pushes blobs, as most clients push: `POST`, then one `PUT` with the whole blob to the `Location`
//! that came back. A thread for each connection. All blobs are one block of noise with a stamp in front that no
//! other blob has; their digests are known before the clock runs.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use stella_tests::noise;

use crate::rounds::Tally;
use crate::wire::{Talk, broken};

/// Makes blobs that nobody has seen.
#[derive(Debug)]
pub(crate) struct Mint {
    block: Vec<u8>,
    run: u64,
    next: AtomicU64,
}

/// A blob: what stands in front of the block, and the digest of both.
#[derive(Debug)]
pub(crate) struct Blob {
    stamp: [u8; STAMP],
    digest: String,
}

const STAMP: usize = 16;

impl Mint {
    /// For blobs of `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        // Another one in each run, so that a file system cannot have seen it.
        let run = RandomState::new().hash_one("run");
        let block = noise(run, length.saturating_sub(STAMP) as u64);
        Self { block, run, next: AtomicU64::new(0) }
    }

    /// Hashes `count` new blobs.
    pub(crate) fn blobs(&self, count: usize) -> Vec<Blob> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
        thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|number| {
                    let share = (count + number) / threads;
                    scope.spawn(move || (0..share).map(|_| self.blob()).collect::<Vec<_>>())
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
        })
    }

    fn blob(&self) -> Blob {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&self.run.to_le_bytes());
        stamp[8..].copy_from_slice(&number.to_le_bytes());
        let hash = Sha256::new().chain_update(stamp).chain_update(&self.block).finalize();
        Blob { stamp, digest: format!("sha256:{}", hex::encode(hash)) }
    }
}

/// Pushes all of `blobs` into `repository` on `clients` connections, and measures from the first to the last.
pub(crate) fn push(
    host: &str,
    repository: &str,
    mint: &Mint,
    blobs: &[Blob],
    clients: usize,
) -> anyhow::Result<Tally> {
    let barrier = Barrier::new(clients + 1);
    let next = AtomicUsize::new(0);
    let seconds = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let (barrier, next) = (&barrier, &next);
                scope.spawn(move || {
                    let talk = Talk::open(host);
                    // Also who could not connect comes here, or the others would wait for ever.
                    barrier.wait();
                    let mut talk = talk?;
                    while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        push_one(&mut talk, repository, mint, blob)?;
                    }
                    Ok(())
                })
            })
            .collect();
        barrier.wait();
        let began = Instant::now();
        let pushed: anyhow::Result<Vec<()>> =
            threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a client failed"))?).collect();
        pushed.map(|_| began.elapsed().as_secs_f64())
    })?;
    let count = blobs.len() as u64;
    let length = (mint.block.len() + STAMP) as u64;
    Ok(Tally { seconds, requests: count, bytes: count * length, latencies: Vec::new() })
}

/// Pushes one blob.
fn push_one(talk: &mut Talk, repository: &str, mint: &Mint, blob: &Blob) -> anyhow::Result<()> {
    let session = talk.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])?.must_be(202)?;
    let target = session.next(&format!("digest={}", blob.digest))?;
    let headers = [("Content-Type", "application/octet-stream")];
    talk.ask("PUT", &target, &headers, &[&blob.stamp, &mint.block])?.must_be(201)?;
    Ok(())
}
