// SPDX-License-Identifier: AGPL-3.0-only
//! The engine on sled 0.34 (cargo feature `sled`): for one machine where no C compiler is wanted.
//!
//! One thread writes (`queue.rs`); a batch of transactions is one `apply_batch`, which sled recovers as a
//! whole or not at all, then `flush()`, then fsync. Readers get snapshots of the last durable commit: sled
//! has none, so the writer lists in memory what a commit replaces before it applies it, and a reader
//! looks first at the tree, then at what was replaced since its snapshot ([`Versions`]).
//!
//! Why this is not the default. What we found and what we do about it:
//!
//! - `flush()` is `sync_file_range`, which neither empties the disk's cache nor writes the file's size:
//!   each commit here also syncs sled's file.
//! - Tree nodes over 128 KiB go into files of their own, which sled never syncs, and whose predecessors
//!   it removes: a power cut could take acknowledged rows. Large values are cut into pieces here
//!   ([`PIECE`]), so that no such file comes to be.
//! - Its cache limit is not one: 13.7 GB were measured while loading 300 000 manifests.
//! - After a full disk it could not be opened again ("corruption"), and any I/O error is for ever until
//!   the process is restarted. Keep `limits.disk_reserve`, and keep backups.
//! - Its transactions cannot scan, its last stable release is of 2021, and crates that it needs are no
//!   longer maintained.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::sled::{Batch, Db, Tree};

use super::overlay::{Overlay, bounds, merge};
use super::queue::{Queue, Queued, stopped};
use super::{Base, CommitStats, Row, WriteTx};
use crate::disk::sync_file;
use crate::error::{Error, Result};
use crate::local::sync_folder;

/// The version of what we write into sled's folder.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
/// The first byte of a row's key in the tree, and the one after it, which ends the rows.
const ROW: u8 = b'r';
const ROWS_END: u8 = b's';
/// The first byte of a piece's key: then the number of its value, then its place.
const PIECES: u8 = b'p';
/// The most bytes of a value in one place. A leaf of sled's has about 16 entries and must stay far below
/// 128 KiB.
const PIECE: usize = 4096;
/// The first byte of a stored value: all of it follows, or the number and length of its pieces.
const WHOLE: u8 = 0;
const PIECED: u8 = 1;
/// Rows that are read at once when all are.
const DUMP_PAGE: usize = 64;

/// How to open the engine.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// The folder; created when absent.
    pub path: PathBuf,
    /// What sled is told to use as its cache, in bytes. It takes more.
    pub cache: usize,
}

/// An engine in one folder of sled's.
pub struct Sled {
    // Ends, with all that waits in it, before the tree is closed.
    queue: Queue,
    shared: Arc<Shared>,
}

struct Shared {
    tree: Tree,
    versions: Mutex<Versions>,
    path: PathBuf,
    // Closes sled's file when the last user has gone.
    _db: Db,
}

/// Rows that a state has otherwise than another; `None` is a row that it lacks.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Which commits there were, and what they replaced, as long as somebody reads the state before.
#[derive(Default)]
struct Versions {
    /// The last durable commit.
    current: u64,
    /// What each commit replaced: the values before it, by key.
    replaced: BTreeMap<u64, Changes>,
    /// How many snapshots there are of each version.
    readers: BTreeMap<u64, usize>,
}

impl Sled {
    /// Opens the folder, or creates it, and starts the writer thread.
    pub fn open(options: &SledOptions) -> Result<Self> {
        let path = &options.path;
        let failed = |error: ::sled::Error| failure("open", path, &error);
        let cache = u64::try_from(options.cache).unwrap_or(u64::MAX);
        // Keys that sign tokens are among the rows.
        let private = DirBuilder::new().recursive(true).mode(0o700).create(path);
        private.map_err(|error| Error::io("create", path, error))?;
        let db = ::sled::Config::new().path(path).cache_capacity(cache).open().map_err(failed)?;
        check_format(&db, path)?;
        let tree = db.open_tree("rows").map_err(failed)?;
        db.flush().map_err(failed)?;
        let file = path.join("db");
        let file =
            File::options().write(true).open(&file).map_err(|error| Error::io("open", &file, error))?;
        sync_file(&file).map_err(|error| Error::io("sync", path, error))?;
        sync_folder(path)?;
        if let Some(above) = path.parent() {
            sync_folder(above)?;
        }
        let next_number = match tree.scan_prefix([PIECES]).next_back() {
            None => 0,
            Some(last) => number_of(&last.map_err(failed)?.0)? + 1,
        };
        let shared = Arc::new(Shared { tree, versions: Mutex::default(), path: path.clone(), _db: db });
        let mut writer = Writer { shared: Arc::clone(&shared), file, next_number, broken: None };
        let queue = Queue::start(move |batch| writer.commit(batch))
            .map_err(|error| Error::io("start the writer of", path, error))?;
        Ok(Sled { queue, shared })
    }

    pub(super) fn health(&self) -> Result<()> {
        self.queue.health()
    }

    pub(super) fn commit_stats(&self) -> CommitStats {
        self.queue.commit_stats()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut versions = self.shared.versions();
        let version = versions.current;
        *versions.readers.entry(version).or_default() += 1;
        Snapshot { shared: Arc::clone(&self.shared), view: View::Reader { version } }
    }

    pub(super) async fn write<T, F>(&self, weight: usize, function: F) -> Result<T>
    where
        F: AsyncFn(&mut WriteTx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.queue.write(weight, function).await
    }
}

impl Shared {
    fn versions(&self) -> MutexGuard<'_, Versions> {
        // Every change of it is whole before anything can panic.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the tree has for a row now, which is a commit under way by half.
    fn get(&self, key: &[u8]) -> Result<Stored> {
        match self.tree.get(row_key(key)).map_err(|error| self.failed(&error))? {
            None => Ok(Stored::Absent),
            Some(stored) => self.value_of(&stored),
        }
    }

    fn value_of(&self, stored: &[u8]) -> Result<Stored> {
        let Some((number, len)) = read_stored(stored)? else {
            return Ok(Stored::Value(stored[1..].to_vec()));
        };
        let mut value = Vec::new();
        for piece in self.tree.scan_prefix(piece_prefix(number)) {
            value.extend_from_slice(&piece.map_err(|error| self.failed(&error))?.1);
        }
        Ok(if value.len() as u64 == len { Stored::Value(value) } else { Stored::Torn })
    }

    /// Up to `limit` rows from `from` to before `to`, and whether that is all of them.
    fn page(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<(Vec<Found>, bool)> {
        let to = to.map_or_else(|| vec![ROWS_END], row_key);
        let mut rows = Vec::new();
        for row in self.tree.range(row_key(from)..to).take(limit) {
            let (key, stored) = row.map_err(|error| self.failed(&error))?;
            rows.push((key[1..].to_vec(), self.value_of(&stored)?));
        }
        let all = rows.len() < limit;
        Ok((rows, all))
    }

    fn failed(&self, error: &::sled::Error) -> Error {
        failure("read", &self.path, error)
    }

    fn torn(&self, key: &[u8]) -> Error {
        Error::Corrupt(format!("{}: the value of {key:?} is not whole", self.path.display()))
    }
}

/// A row of the tree.
type Found = (Vec<u8>, Stored);

/// A row's value as the tree has it.
enum Stored {
    Absent,
    Value(Vec<u8>),
    /// Some of its pieces are gone: a commit is replacing it, and has listed it before.
    Torn,
}

/// The state after one commit; or, for the writer, after the functions of its batch so far.
pub(super) struct Snapshot {
    shared: Arc<Shared>,
    view: View,
}

enum View {
    Reader { version: u64 },
    Writer { pending: Changes },
}

impl Snapshot {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let View::Writer { pending } = &self.view
            && let Some(value) = pending.get(key)
        {
            return Ok(value.clone());
        }
        // First the tree, then what was replaced: a commit does it the other way round.
        let stored = self.shared.get(key)?;
        if let View::Reader { version } = self.view
            && let Some(value) = self.shared.versions().before(version, key)
        {
            return Ok(value.clone());
        }
        match stored {
            Stored::Absent => Ok(None),
            Stored::Value(value) => Ok(Some(value)),
            Stored::Torn => Err(self.shared.torn(key)),
        }
    }

    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>> {
        let (mut rows, mut from) = (Vec::new(), from.to_vec());
        loop {
            let (page, all) = self.shared.page(&from, to, limit)?;
            // Beyond the last row that was read the tree may have more.
            let end = match page.last() {
                Some(last) if !all => Some([&last.0, [0].as_slice()].concat()),
                _ => to.map(<[u8]>::to_vec),
            };
            let changes = self.changes(&from, end.as_deref());
            let mut below = Vec::with_capacity(page.len());
            for (key, stored) in page {
                match stored {
                    Stored::Value(value) => below.push((key, value)),
                    Stored::Absent | Stored::Torn if changes.contains_key(&key) => {}
                    Stored::Absent | Stored::Torn => return Err(self.shared.torn(&key)),
                }
            }
            rows.extend(merge(below, changes.iter(), limit - rows.len()));
            match end {
                Some(end) if !all && rows.len() < limit => from = end,
                _ => return Ok(rows),
            }
        }
    }

    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut from = Vec::new();
        loop {
            let page = self.range(&from, None, DUMP_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            from = [&last.0, [0].as_slice()].concat();
            page.iter().try_for_each(|(key, value)| each(key, value))?;
        }
    }

    /// What this snapshot has otherwise than the tree, from `from` to before `to`.
    fn changes(&self, from: &[u8], to: Option<&[u8]>) -> Changes {
        let mut changes = Changes::new();
        if to.is_some_and(|to| to <= from) {
            return changes;
        }
        match &self.view {
            View::Writer { pending } => {
                let rows = pending.range::<[u8], _>(bounds(from, to));
                changes.extend(rows.map(|(key, value)| (key.clone(), value.clone())));
            }
            View::Reader { version } => {
                let versions = self.shared.versions();
                for replaced in versions.replaced.range(version + 1..).rev().map(|(_, replaced)| replaced) {
                    // The oldest comes last and wins.
                    let rows = replaced.range::<[u8], _>(bounds(from, to));
                    changes.extend(rows.map(|(key, value)| (key.clone(), value.clone())));
                }
            }
        }
        changes
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let View::Reader { version } = self.view else { return };
        let mut versions = self.shared.versions();
        if let Some(readers) = versions.readers.get_mut(&version) {
            *readers -= 1;
            if *readers == 0 {
                versions.readers.remove(&version);
                versions.forget();
            }
        }
    }
}

impl Versions {
    /// The value that a key had at `version`, if it was replaced since.
    fn before(&self, version: u64, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.replaced.range(version + 1..).find_map(|(_, replaced)| replaced.get(key))
    }

    /// Drops what no snapshot needs. A commit under way is above the current version, and stays.
    fn forget(&mut self) {
        let oldest = self.readers.keys().next().map_or(self.current, |oldest| *oldest);
        self.replaced = self.replaced.split_off(&(oldest + 1));
    }
}

struct Writer {
    shared: Arc<Shared>,
    /// sled's own file, to sync it.
    file: File,
    /// Of the next value that is cut into pieces.
    next_number: u64,
    /// Why nothing is written any more: after an error sled's memory and its file may differ.
    broken: Option<Error>,
}

impl Writer {
    fn commit(&mut self, batch: &mut [Queued]) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(Error::Unavailable(format!("{error}; restart to open sled again")));
        }
        let view = View::Writer { pending: BTreeMap::new() };
        let mut snapshot = Snapshot { shared: Arc::clone(&self.shared), view };
        for queued in batch {
            let mut tx = WriteTx::new(Base::Sled(snapshot));
            let wanted = queued.run(&mut tx);
            let (base, overlay) = tx.into_parts();
            let Base::Sled(returned) = base else { return Err(stopped()) };
            snapshot = returned;
            if wanted {
                snapshot.lay_down(overlay);
            }
        }
        let View::Writer { pending } = &mut snapshot.view else { return Err(stopped()) };
        let pending = std::mem::take(pending);
        if pending.is_empty() {
            return Ok(());
        }
        let (batch, replaced) = self.prepare(pending)?;
        self.apply(batch, replaced).inspect_err(|error| self.broken = Some(error.clone()))
    }

    /// What to tell sled, and what that replaces.
    fn prepare(&mut self, pending: Changes) -> Result<(Batch, Changes)> {
        let shared = Arc::clone(&self.shared);
        let (mut batch, mut replaced) = (Batch::default(), Changes::new());
        for (key, value) in pending {
            let row = row_key(&key);
            let before = shared.tree.get(&row).map_err(|error| shared.failed(&error))?;
            if let Some(before) = &before
                && let Some((number, _)) = read_stored(before)?
            {
                for piece in shared.tree.scan_prefix(piece_prefix(number)).keys() {
                    batch.remove(piece.map_err(|error| shared.failed(&error))?);
                }
            }
            let before = match before.map(|before| shared.value_of(&before)).transpose()? {
                None | Some(Stored::Absent) => None,
                Some(Stored::Value(value)) => Some(value),
                Some(Stored::Torn) => return Err(shared.torn(&key)),
            };
            match value {
                None => batch.remove(row),
                Some(value) => {
                    let stored = self.store(&mut batch, &value);
                    batch.insert(row, stored);
                }
            }
            replaced.insert(key, before);
        }
        Ok((batch, replaced))
    }

    /// A value as its row has it; if it is large its pieces go into `batch`.
    fn store(&mut self, batch: &mut Batch, value: &[u8]) -> Vec<u8> {
        if value.len() <= PIECE {
            return [&[WHOLE], value].concat();
        }
        let prefix = piece_prefix(self.next_number);
        for (place, piece) in (0u32..).zip(value.chunks(PIECE)) {
            batch.insert([prefix.as_slice(), &place.to_be_bytes()].concat(), piece);
        }
        let number = self.next_number.to_be_bytes();
        self.next_number += 1;
        [[PIECED].as_slice(), &number, &(value.len() as u64).to_be_bytes()].concat()
    }

    fn apply(&self, batch: Batch, replaced: Changes) -> Result<()> {
        let Shared { tree, path, .. } = &*self.shared;
        // Readers must know what is replaced before it is.
        let version = {
            let mut versions = self.shared.versions();
            let version = versions.current + 1;
            versions.replaced.insert(version, replaced);
            version
        };
        // Whether sled finds the batch when it is opened again is open, also after a full disk.
        let unknown = |error: &dyn std::fmt::Display| {
            Error::CommitUnknown(format!("cannot write to {}: {error}", path.display()))
        };
        tree.apply_batch(batch).map_err(|error| unknown(&error))?;
        tree.flush().map_err(|error| unknown(&error))?;
        sync_file(&self.file).map_err(|error| unknown(&error))?;
        let mut versions = self.shared.versions();
        versions.current = version;
        versions.forget();
        Ok(())
    }
}

impl Snapshot {
    /// Takes what a function of the writer's batch wrote.
    fn lay_down(&mut self, overlay: Overlay) {
        if let View::Writer { pending } = &mut self.view {
            pending.extend(overlay.into_rows());
        }
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    [&[ROW], key].concat()
}

fn piece_prefix(number: u64) -> Vec<u8> {
    [[PIECES].as_slice(), &number.to_be_bytes()].concat()
}

/// The number of the value to which a piece belongs.
fn number_of(piece: &[u8]) -> Result<u64> {
    piece.get(1..9).and_then(read_number).ok_or_else(unreadable)
}

/// The number and length of a value in pieces; `None` for one that is stored as a whole.
fn read_stored(stored: &[u8]) -> Result<Option<(u64, u64)>> {
    match stored.split_first() {
        Some((&WHOLE, _)) => Ok(None),
        Some((&PIECED, rest)) if rest.len() == 16 => {
            read_number(&rest[..8]).zip(read_number(&rest[8..])).map(Some).ok_or_else(unreadable)
        }
        _ => Err(unreadable()),
    }
}

fn read_number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().map(u64::from_be_bytes).ok()
}

fn unreadable() -> Error {
    Error::Corrupt("a value in sled's tree cannot be read".to_owned())
}

fn check_format(db: &Db, path: &Path) -> Result<()> {
    let failed = |error: ::sled::Error| failure("open", path, &error);
    let found = db.get(FORMAT_KEY).map_err(failed)?;
    match found.map(|found| found.as_ref().try_into().map(u32::from_be_bytes)) {
        Some(Ok(FORMAT)) => Ok(()),
        Some(Ok(found)) if found > FORMAT => Err(Error::NewerSchema { found, supported: FORMAT }),
        None if db.is_empty() && db.tree_names().len() == 1 => {
            db.insert(FORMAT_KEY, &FORMAT.to_be_bytes()).map_err(failed)?;
            db.flush().map(drop).map_err(failed)
        }
        _ => Err(Error::Corrupt(format!("{} is a database of another program", path.display()))),
    }
}

fn failure(doing: &str, path: &Path, error: &::sled::Error) -> Error {
    match error {
        ::sled::Error::Io(cause) if cause.kind() == ErrorKind::StorageFull => Error::Full,
        ::sled::Error::Corruption { .. } => Error::Corrupt(format!("{}: {error}", path.display())),
        _ => Error::Unavailable(format!("cannot {doing} {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests;
