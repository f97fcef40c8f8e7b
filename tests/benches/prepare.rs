// SPDX-License-Identifier: AGPL-3.0-only
//! Filling servers before the clock runs, through their API, and looking at whole answers, so that later only
//! statuses and lengths need to be checked.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stella_tests::media_type;

use crate::content::{Blob, Image};
use crate::wire::{Talk, broken};

/// How many connections fill a server.
const CLIENTS: u64 = 16;

/// Pushes a blob.
pub(crate) fn blob(talk: &mut Talk, repository: &str, blob: &Blob) -> io::Result<()> {
    let session = talk.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])?.must_be(202)?;
    let headers = [("Content-Type", "application/octet-stream")];
    let target = session.next(&format!("digest={}", blob.digest))?;
    talk.ask("PUT", &target, &headers, &[&blob.bytes])?.must_be(201)?;
    Ok(())
}

/// Pushes a blob that need not fit into memory.
pub(crate) fn large_blob(
    talk: &mut Talk,
    repository: &str,
    digest: &str,
    length: u64,
    content: impl Read,
) -> io::Result<()> {
    let session = talk.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])?.must_be(202)?;
    let target = session.next(&format!("digest={digest}"))?;
    talk.send_from("PUT", &target, length, content)?.must_be(201)?;
    Ok(())
}

/// Pushes an image's blobs.
pub(crate) fn image(host: &str, repository: &str, image: &Image) -> io::Result<()> {
    let mut talk = Talk::open(host)?;
    image.blobs().try_for_each(|part| blob(&mut talk, repository, part))
}

/// Pushes a manifest by tag or digest.
pub(crate) fn manifest(talk: &mut Talk, repository: &str, reference: &str, bytes: &[u8]) -> io::Result<()> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    talk.ask("PUT", &target, &[("Content-Type", media_type::MANIFEST)], &[bytes])?.must_be(201)?;
    Ok(())
}

/// Mounts a blob of another repository.
pub(crate) fn mount(talk: &mut Talk, repository: &str, from: &str, digest: &str) -> io::Result<()> {
    let target = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={from}");
    talk.ask("POST", &target, &[], &[])?.must_be(201)?;
    Ok(())
}

/// Fails unless a GET of `target` gives exactly `bytes`.
pub(crate) fn expect(
    talk: &mut Talk,
    target: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
) -> io::Result<()> {
    let answer = talk.ask("GET", target, headers, &[])?.must_be(200)?;
    if answer.body == bytes { Ok(()) } else { Err(broken("an answer has other bytes than were pushed")) }
}

/// A request without a body, as bytes.
pub(crate) fn request(method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Does `work` for each number below `count` on several connections. Gives `Err` with the reason if it fails, or if
/// it has not done all within `patience`.
pub(crate) fn fill(
    host: &str,
    count: u64,
    patience: Duration,
    work: impl Fn(&mut Talk, u64) -> io::Result<()> + Sync,
) -> anyhow::Result<()> {
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let filled: anyhow::Result<Vec<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut talk = Talk::open(host)?;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        if began.elapsed() > patience {
                            anyhow::bail!("only {number} of {count} were prepared in {patience:?}");
                        }
                        work(&mut talk, number)?;
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| broken("a client failed"))?).collect()
    });
    filled.map(|_| ())
}
