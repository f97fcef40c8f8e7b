// SPDX-License-Identifier: AGPL-3.0-only
//! Reading and hashing a blob file, piece by piece on the blocking pool.
//!
//! Between the pieces the caller may wait, so reading can be held to a rate, and whoever drops the
//! future is rid of it at the next piece.

use std::time::Duration;

use rustix::io::Errno;

use crate::digest::{Algorithm, Hasher, Hashes};
use crate::error::{Error, Result};
use crate::local::{LocalBlobs, Location};

/// Bytes that are read and hashed at once.
const PIECE: usize = 1 << 20;
/// Sleeping for less is not worth it.
const NAP: Duration = Duration::from_millis(10);

/// What was found in a file.
pub(in crate::store) enum Examined {
    /// There is no such file.
    Gone,
    /// The disk does not give its bytes.
    Unreadable(Error),
    /// It was read to its end.
    Read {
        /// Bytes.
        len: u64,
        /// The hashes of the first bytes, as many as were asked for; absent if there are fewer.
        prefix: Option<Hashes>,
        /// The hashes of all bytes.
        whole: Hashes,
    },
}

/// Holds reading to a rate.
pub(in crate::store) struct Brake {
    rate: u64,
    owed: Duration,
}

impl Brake {
    /// Bytes a second.
    pub(in crate::store) fn to(rate: u64) -> Self {
        Brake { rate, owed: Duration::ZERO }
    }

    /// No rate.
    pub(super) fn off() -> Self {
        Self::to(u64::MAX)
    }

    /// Waits for as long as reading so many bytes should take.
    pub(in crate::store) async fn wait(&mut self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        self.owed += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        if self.owed >= NAP {
            tokio::time::sleep(std::mem::take(&mut self.owed)).await;
        }
    }
}

/// Reads a file, and hashes its first `size` bytes and all of them. Waits at each piece as the brake demands.
pub(in crate::store) async fn examine(
    blobs: &LocalBlobs,
    location: Location,
    size: u64,
    algorithm: Algorithm,
    brake: &mut Brake,
) -> Result<Examined> {
    let opening = blobs.clone();
    let opened = run(move || opening.inspect(location)).await?;
    let mut file = match opened {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Examined::Gone),
        Err(error) => return unreadable(error),
    };
    let (mut buffer, mut hasher) = (vec![0; PIECE], Hasher::new(algorithm));
    let (mut len, mut prefix) = (0u64, None);
    loop {
        let step = run(move || {
            let read = file.read(&mut buffer)?;
            // Where the wanted bytes end inside this piece, if they do.
            match usize::try_from(size.saturating_sub(len)) {
                Ok(inside) if prefix.is_none() && size >= len && inside <= read => {
                    hasher.update(&buffer[..inside]);
                    prefix = Hasher::resume(&hasher.state()).map(Hasher::finish);
                    hasher.update(&buffer[inside..read]);
                }
                _ => hasher.update(&buffer[..read]),
            }
            Ok((file, buffer, hasher, prefix, read))
        });
        let read;
        match step.await? {
            Ok(step) => (file, buffer, hasher, prefix, read) = step,
            Err(error) => return unreadable(error),
        }
        len += read as u64;
        brake.wait(read as u64).await;
        if read < PIECE {
            return Ok(Examined::Read { len, prefix, whole: hasher.finish() });
        }
    }
}

/// Says that a file is unreadable, unless it is the process that lacks something.
fn unreadable(error: Error) -> Result<Examined> {
    const OURS: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    match &error {
        Error::Io { cause, .. } if Errno::from_io_error(cause).is_some_and(|errno| OURS.contains(&errno)) => {
            Err(error)
        }
        _ => Ok(Examined::Unreadable(error)),
    }
}

/// Runs something that blocks.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Unavailable(format!("reading a file ended abnormally: {error}")))
}
