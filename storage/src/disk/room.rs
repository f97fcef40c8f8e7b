// SPDX-License-Identifier: AGPL-3.0-only
//! Whether the data directory is there and takes writes, and how much room its disk has left.
//!
//! Below the reserve nothing is uploaded, so that deletes and collection can still commit. The file
//! system is asked about once a second, and after much was written; whatever was written since
//! counts as taken. A refusal always asks anew.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;
use tokio::time::Instant;

use super::ballast::Ballast;
use super::place::Place;
use crate::error::{DataFault, Error, Result};

/// For how long a measurement is good.
const FRESH: Duration = Duration::from_secs(1);
/// Bytes after which it is repeated however new it is.
const MUCH: u64 = 64 << 20;
/// With less than this a registry is not ready, whatever the reserve.
const LEAST: u64 = 1 << 20;

/// The room below a data directory. The default has no directory, and room for everything.
#[derive(Default)]
pub(crate) struct Room {
    /// A file in the data directory and the folder of blobs, which may be on another disk.
    paths: Vec<PathBuf>,
    place: Option<Place>,
    reserve: AtomicU64,
    ballast: Option<Arc<Ballast>>,
    measured: Mutex<Measured>,
    /// Instead of a disk's.
    #[cfg(test)]
    free: Option<AtomicU64>,
}

#[derive(Clone, Copy, Default)]
struct Measured {
    free: u64,
    read_only: bool,
    at: Option<Instant>,
    /// Bytes that were let through since.
    taken: u64,
    /// Whether the last push that asked was refused.
    refused: bool,
}

impl Room {
    /// `file` is one in the data directory that nobody replaces.
    pub(crate) fn below(
        file: PathBuf,
        blobs: &Path,
        reserve: u64,
        ballast: Option<Arc<Ballast>>,
    ) -> Result<Self> {
        let paths = vec![file, blobs.to_owned()];
        let place = Some(Place::of(paths.clone())?);
        Ok(Room { paths, place, reserve: reserve.into(), ballast, ..Room::default() })
    }

    /// Room for so many bytes beside a reserve of one.
    #[cfg(test)]
    pub(crate) fn leaving(free: u64) -> Self {
        Room { reserve: 1.into(), free: Some((free + 1).into()), ..Room::default() }
    }

    pub(crate) fn set_reserve(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Relaxed);
    }

    /// The file in the data directory.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.paths.first().map(PathBuf::as_path)
    }

    /// Fails if the data directory or the folder of blobs is gone or another.
    pub(crate) fn stays(&self) -> Result<()> {
        self.place.as_ref().map_or(Ok(()), Place::check)
    }

    /// Fails unless there is room for an upload of so many bytes.
    pub(crate) fn check(&self, coming: u64) -> Result<()> {
        self.take(0, coming)
    }

    /// Fails unless there is room for these bytes, and counts them as written if there is.
    pub(crate) fn take_for(&self, bytes: u64) -> Result<()> {
        self.take(bytes, 0)
    }

    fn take(&self, bytes: u64, coming: u64) -> Result<()> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.saturating_add(coming);
        let fresh = measured.taken < MUCH && measured.at.is_some_and(|at| at.elapsed() < FRESH);
        if !fresh || self.judge(&measured, more).is_err() {
            self.renew(&mut measured)?;
            let (judged, refused) = (self.judge(&measured, more), measured.refused);
            measured.refused = judged.is_err();
            match &judged {
                Err(error) if !refused => tracing::warn!(%error, "pushes are refused"),
                Ok(()) if refused => tracing::info!(free = measured.free, "pushes are accepted again"),
                _ => {}
            }
            judged?;
        }
        measured.taken += bytes;
        Ok(())
    }

    /// Whether pushes are possible; the reason when they are not. Always asks anew.
    pub(crate) fn ready(&self) -> Result<()> {
        self.stays()?;
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut measured)?;
        if measured.read_only {
            return Err(Error::Data(DataFault::ReadOnly));
        }
        self.paths.iter().try_for_each(|path| touch(path))?;
        if measured.free < LEAST {
            return Err(Error::Full);
        }
        self.judge(&measured, 0)
    }

    fn judge(&self, measured: &Measured, more: u64) -> Result<()> {
        let free = measured.free.saturating_sub(measured.taken);
        let reserve = self.reserve.load(Ordering::Relaxed);
        if reserve > 0 && free < reserve.saturating_add(more) {
            return Err(Error::Reserve { free, reserve });
        }
        let Some(ballast) = &self.ballast else { return Ok(()) };
        match ballast.missing() {
            0 => Ok(()),
            missing if free < reserve.max(LEAST) + missing => Err(Error::Full),
            _ => ballast.restore(),
        }
    }

    fn renew(&self, measured: &mut Measured) -> Result<()> {
        let (mut free, mut read_only) = (u64::MAX, false);
        #[cfg(test)]
        if let Some(left) = &self.free {
            use std::sync::atomic::Ordering::SeqCst;
            free = left.fetch_sub(measured.taken, SeqCst) - measured.taken;
        }
        for path in &self.paths {
            let system = rustix::fs::statvfs(path).map_err(|error| match error {
                Errno::NOENT | Errno::NOTDIR => Error::Data(DataFault::Gone),
                error => Error::io("ask for the free space of", path, error.into()),
            })?;
            free = free.min(system.f_bavail.saturating_mul(system.f_frsize));
            read_only |= system.f_flag.contains(StatVfsMountFlags::RDONLY);
        }
        *measured = Measured { free, read_only, at: Some(Instant::now()), taken: 0, ..*measured };
        Ok(())
    }
}

/// A file system that stopped taking writes after an error does not always say so when it is asked.
fn touch(path: &Path) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, path, &times, AtFlags::empty()).map_err(|error| match error {
        Errno::ROFS => Error::Data(DataFault::ReadOnly),
        error => Error::io("touch", path, error.into()),
    })
}
