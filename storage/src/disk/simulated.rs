// SPDX-License-Identifier: AGPL-3.0-only
//! A disk in memory that tests cut from its power and break.
//!
//! Each file and folder has two states: what programs see, and what is on the platter. Changes since
//! the last sync are kept one by one. [`Machine::cut`] makes the machine as it may be after a power cut:
//! of the changes that were not synced any may have reached the platter, a write also in part. Which
//! ones is decided by a seed. Real file systems lose less than this one; code that survives here
//! relies on no more than what POSIX promises.
//!
//! A sync of a file that fails forgets what it should have written, as Linux does: later ones succeed and
//! do not bring it back. A failed sync of a folder forgets nothing, because a journalling file
//! system whose journal fails stops altogether.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::io::Errno;

use super::PAGE;

/// What a disk writes at once, or not at all.
const SECTOR: u64 = 512;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Open,
    Create,
    Read,
    Write,
    /// A write past the page cache.
    WriteDirect,
    Sync,
    SyncFolder,
    Remove,
}

/// What a power cut does with changes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    Lost,
    Kept,
    Mixed(u64),
}

/// A machine with one disk.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    state: Arc<Mutex<State>>,
    watcher: Arc<OnceLock<Watcher>>,
}

/// Is told right before and right after each sync.
type Watcher = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    files: Vec<FileNode>,
    folders: Vec<FolderNode>,
    failing: BTreeMap<Call, Errno>,
    /// Bytes that can still be written, if that is limited.
    room: Option<u64>,
    syncs: usize,
    /// Bytes that were written past the page cache.
    direct: usize,
}

#[derive(Clone, Default)]
struct FileNode {
    // Shared with the machines that cuts have made.
    seen: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Len(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    File(usize),
    Folder(usize),
}

#[derive(Clone, Default)]
struct FolderNode {
    seen: BTreeMap<OsString, Node>,
    durable: BTreeMap<OsString, Node>,
    changes: Vec<(OsString, Option<Node>)>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Machine::default();
        machine.lock().folders.push(FolderNode::default());
        machine
    }

    /// Calls `watcher` right before and right after each sync, once.
    pub(crate) fn watch(&self, watcher: impl Fn() + Send + Sync + 'static) {
        assert!(self.watcher.set(Box::new(watcher)).is_ok(), "a machine has one watcher");
    }

    /// Lets every call of a kind fail, or no more.
    pub(crate) fn fail(&self, call: Call, error: Option<Errno>) {
        let mut state = self.lock();
        match error {
            Some(error) => state.failing.insert(call, error),
            None => state.failing.remove(&call),
        };
    }

    /// Sets how many bytes can still be written before the disk is full.
    pub(crate) fn set_room(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// Syncs so far, of files and folders.
    pub(crate) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Bytes that were written past the page cache.
    pub(crate) fn written_directly(&self) -> usize {
        self.lock().direct
    }

    /// The machine as it may come up if its power fails now.
    pub(crate) fn cut(&self, unsynced: Unsynced) -> Machine {
        let mut choice = Choice(unsynced);
        let state = self.lock();
        let files = state.files.iter().map(|file| file.after_cut(&mut choice)).collect();
        let folders = state.folders.iter().map(|folder| folder.after_cut(&mut choice)).collect();
        let state = State { files, folders, ..State::default() };
        Machine { state: Arc::new(Mutex::new(state)), watcher: Arc::default() }
    }

    pub(super) fn open(&self, path: &Path, create: bool) -> io::Result<Open> {
        let mut state = self.lock();
        state.may(Call::Open)?;
        let (parent, name) = state.parent(path)?;
        let file = match state.folders[parent].seen.get(name) {
            Some(Node::File(file)) => *file,
            Some(Node::Folder(_)) => return Err(Errno::ISDIR.into()),
            None if create => {
                state.may(Call::Create)?;
                state.files.push(FileNode::default());
                let file = state.files.len() - 1;
                state.folders[parent].set(name, Some(Node::File(file)));
                file
            }
            None => return Err(Errno::NOENT.into()),
        };
        Ok(Open { machine: self.clone(), file })
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.may(Call::Remove)?;
        let (parent, name) = state.parent(path)?;
        match state.folders[parent].seen.get(name) {
            Some(Node::File(_)) => state.folders[parent].set(name, None),
            Some(Node::Folder(_)) => return Err(Errno::ISDIR.into()),
            None => return Err(Errno::NOENT.into()),
        }
        Ok(())
    }

    pub(super) fn size(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        match state.find(path)? {
            Node::File(file) => Ok(state.files[file].seen.len() as u64),
            Node::Folder(_) => Ok(0),
        }
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>> {
        let state = self.lock();
        let size = |node: &Node| match node {
            Node::File(file) => state.files[*file].seen.len() as u64,
            Node::Folder(_) => 0,
        };
        let folder = &state.folders[state.folder(folder)?];
        Ok(folder.seen.iter().map(|(name, node)| (name.clone(), size(node))).collect())
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.lock().folder(path).is_ok()
    }

    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.may(Call::Create)?;
        let mut at = 0;
        for name in path.strip_prefix("/").map_err(io::Error::other)? {
            at = match state.folders[at].seen.get(name) {
                Some(Node::Folder(folder)) => *folder,
                Some(Node::File(_)) => return Err(Errno::NOTDIR.into()),
                None => {
                    state.folders.push(FolderNode::default());
                    let folder = state.folders.len() - 1;
                    state.folders[at].set(name, Some(Node::Folder(folder)));
                    folder
                }
            };
        }
        Ok(())
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.sync(|state| {
            state.may(Call::SyncFolder)?;
            let folder = state.folder(path)?;
            let folder = &mut state.folders[folder];
            folder.durable = folder.seen.clone();
            folder.changes.clear();
            Ok(())
        })
    }

    fn sync(&self, sync: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let tell = || {
            if let Some(watcher) = self.watcher.get() {
                watcher();
            }
        };
        // Not while the state is locked: a watcher looks at it.
        tell();
        let mut state = self.lock();
        state.syncs += 1;
        let synced = sync(&mut state);
        drop(state);
        tell();
        synced
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may(&self, call: Call) -> io::Result<()> {
        self.failing.get(&call).map_or(Ok(()), |error| Err((*error).into()))
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Folder(0);
        for name in path.strip_prefix("/").map_err(io::Error::other)? {
            let Node::Folder(folder) = node else { return Err(Errno::NOTDIR.into()) };
            node = *self.folders[folder].seen.get(name).ok_or(Errno::NOENT)?;
        }
        Ok(node)
    }

    fn folder(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }

    fn parent<'p>(&self, path: &'p Path) -> io::Result<(usize, &'p OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or(Errno::INVAL)?;
        Ok((self.folder(parent)?, name))
    }
}

impl FileNode {
    fn after_cut(&self, choice: &mut Choice) -> FileNode {
        let mut shared = Arc::clone(&self.durable);
        for change in &self.changes {
            let durable = Arc::make_mut(&mut shared);
            match change {
                Change::Len(len) => {
                    if choice.keeps() {
                        durable.resize(usize::try_from(*len).unwrap(), 0);
                    }
                }
                Change::Write { at, bytes } => {
                    let (mut at, mut rest) = (*at, bytes.as_slice());
                    while !rest.is_empty() {
                        let sector = usize::try_from(SECTOR - at % SECTOR).unwrap();
                        let (piece, after) = rest.split_at(sector.min(rest.len()));
                        if choice.keeps() {
                            write(durable, at, piece);
                        }
                        at += piece.len() as u64;
                        rest = after;
                    }
                }
            }
        }
        FileNode { seen: Arc::clone(&shared), durable: shared, changes: Vec::new() }
    }
}

impl FolderNode {
    fn set(&mut self, name: &OsStr, node: Option<Node>) {
        put(&mut self.seen, name, node);
        self.changes.push((name.to_owned(), node));
    }

    fn after_cut(&self, choice: &mut Choice) -> FolderNode {
        let mut durable = self.durable.clone();
        let names: BTreeSet<&OsString> = self.changes.iter().map(|(name, _)| name).collect();
        for name in names {
            // Changes to one name reach the disk in their order.
            for (_, node) in self.changes.iter().filter(|(changed, _)| changed == name) {
                if !choice.keeps() {
                    break;
                }
                put(&mut durable, name, *node);
            }
        }
        FolderNode { seen: durable.clone(), durable, changes: Vec::new() }
    }
}

fn put(entries: &mut BTreeMap<OsString, Node>, name: &OsStr, node: Option<Node>) {
    match node {
        Some(node) => entries.insert(name.to_owned(), node),
        None => entries.remove(name),
    };
}

fn write(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap();
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

struct Choice(Unsynced);

impl Choice {
    fn keeps(&mut self) -> bool {
        match &mut self.0 {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Mixed(state) => {
                // splitmix64
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) & 1 == 1
            }
        }
    }
}

/// An open file of a machine.
pub(crate) struct Open {
    machine: Machine,
    file: usize,
}

impl Open {
    pub(super) fn len(&self) -> u64 {
        self.machine.lock().files[self.file].seen.len() as u64
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.machine.lock();
        state.may(Call::Write)?;
        let file = &mut state.files[self.file];
        Arc::make_mut(&mut file.seen).resize(usize::try_from(len).unwrap(), 0);
        file.changes.push(Change::Len(len));
        Ok(())
    }

    pub(super) fn write_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.machine.lock();
        state.may(Call::Write)?;
        let mut bytes = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect::<Vec<u8>>();
        if let Some(room) = &mut state.room {
            bytes.truncate(usize::try_from(*room).unwrap_or(usize::MAX));
            *room -= bytes.len() as u64;
            if bytes.is_empty() {
                return Err(Errno::NOSPC.into());
            }
        }
        // A write may always be a short one.
        bytes.truncate(bytes.len().min(5000));
        let file = &mut state.files[self.file];
        write(Arc::make_mut(&mut file.seen), offset, &bytes);
        let written = bytes.len();
        file.changes.push(Change::Write { at: offset, bytes });
        Ok(written)
    }

    /// As a disk does that wants whole pages; a short write ends where one ends.
    pub(super) fn write_direct_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.machine.lock().may(Call::WriteDirect)?;
        let whole = |size: usize| size.is_multiple_of(PAGE);
        let aligned = |buffer: &IoSlice<'_>| whole(buffer.as_ptr().addr()) && whole(buffer.len());
        if !whole(usize::try_from(offset).unwrap()) || !buffers.iter().all(aligned) {
            return Err(Errno::INVAL.into());
        }
        let pages: Vec<_> = buffers.iter().flat_map(|buffer| buffer.chunks(PAGE)).map(IoSlice::new).collect();
        let written = self.write_at(&pages[..pages.len().min(1)], offset)?;
        self.machine.lock().direct += written;
        Ok(written)
    }

    /// Every other piece is in memory.
    pub(super) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if (offset / 4096).is_multiple_of(2) {
            Err(Errno::AGAIN.into())
        } else {
            self.read_at(buffer, offset)
        }
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.machine.lock();
        state.may(Call::Read)?;
        let file = &state.files[self.file].seen;
        let rest = file.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len()).min(3000);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.machine.sync(|state| {
            let may = state.may(Call::Sync);
            let file = &mut state.files[self.file];
            let changes = std::mem::take(&mut file.changes);
            if may.is_ok() {
                let durable = Arc::make_mut(&mut file.durable);
                for change in changes {
                    match change {
                        Change::Len(len) => durable.resize(usize::try_from(len).unwrap(), 0),
                        Change::Write { at, bytes } => write(durable, at, &bytes),
                    }
                }
            }
            may
        })
    }
}

#[cfg(test)]
mod tests;
