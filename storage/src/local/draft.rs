// SPDX-License-Identifier: AGPL-3.0-only
//! The file of an upload while it is written. Everything here blocks: it runs on the blocking pool.
//!
//! Many bytes at once go past the page cache where they are whole pages, in memory as in the file: the kernel need
//! not find memory for them, copy them and write them out later, and what is read often stays in its cache. The
//! rest, and everything on file systems that do not know such writes, goes through it.

use std::io::{self, IoSlice};
use std::path::PathBuf;

use crate::disk::{Disk, DiskFile, PAGE};
use crate::error::{Error, Result};

/// From how many bytes on it is worth to write past the page cache: small blobs stay in it, because they are likely
/// to be read soon.
const MANY: usize = 128 << 10;

/// An open upload file and where its next byte goes.
pub(crate) struct Draft {
    file: DiskFile,
    disk: Disk,
    path: PathBuf,
    offset: u64,
    /// Whether the file's name is durable.
    named: bool,
    /// Whether the file system knows writes past the page cache; believed until it says no.
    direct: bool,
}

impl Draft {
    pub(super) fn open(disk: &Disk, path: PathBuf, offset: u64) -> Result<Self> {
        let failed = |doing, error| Error::io(doing, &path, error);
        let file = disk.open_or_create(&path).map_err(|error| failed("open", error))?;
        let len = file.len().map_err(|error| failed("read the size of", error))?;
        if len < offset {
            return Err(Error::Corrupt(format!(
                "{} has {len} bytes, {offset} were acknowledged",
                path.display()
            )));
        }
        if len > offset {
            file.set_len(offset).map_err(|error| failed("truncate", error))?;
        }
        Ok(Draft { file, disk: disk.clone(), path, offset, named: offset > 0, direct: true })
    }

    /// Appends buffers as they are.
    pub(crate) fn append(&mut self, buffers: &[impl AsRef<[u8]>]) -> Result<()> {
        let size = buffers.iter().map(|buffer| buffer.as_ref().len()).sum();
        let (head, pages) = self.pages(size);
        self.write(&mut between(buffers, 0, head), Way::Cached)?;
        self.write(&mut between(buffers, head, head + pages), Way::Direct)?;
        self.write(&mut between(buffers, head + pages, size), Way::Cached)
    }

    /// Of the next `size` bytes, how many lie before the first whole page of the file, and how many in whole pages
    /// that are to be written directly.
    fn pages(&self, size: usize) -> (usize, usize) {
        let begun = usize::try_from(self.offset % PAGE as u64).unwrap_or(0);
        let head = (PAGE - begun) % PAGE;
        if !self.direct || size < MANY {
            return (size, 0);
        }
        (head, (size - head) / PAGE * PAGE)
    }

    fn write(&mut self, slices: &mut [IoSlice<'_>], way: Way) -> Result<()> {
        let mut rest = slices;
        while !rest.is_empty() {
            // The kernel takes no more than 1024 at once.
            let some = &rest[..rest.len().min(64)];
            let written = match way {
                Way::Direct if self.direct => self.file.write_direct_at(some, self.offset),
                _ => self.file.write_at(some, self.offset),
            };
            match written {
                Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.direct && way == Way::Direct && is_refusal(&error) => self.direct = false,
                Err(error) => return Err(self.failed("write", error)),
            }
        }
        Ok(())
    }

    /// Bytes in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes what was appended durable, and the file's name, before anything in the catalog relies on them.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync().map_err(|error| self.failed("sync", error))?;
        // After the file: what its sync made durable with it costs nothing more here.
        if let (false, Some(folder)) = (self.named, self.path.parent()) {
            self.disk.sync_folder(folder)?;
            self.named = true;
        }
        Ok(())
    }

    /// Reads the file from its start, for a hash that was not computed on the way.
    pub(crate) fn reread(&self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        let mut at = 0;
        while at < self.offset {
            let want = usize::try_from(self.offset - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.file.read_full_at(&mut buffer[..want], at);
            if read.map_err(|error| self.failed("read", error))? < want {
                return Err(self.failed("read", io::ErrorKind::UnexpectedEof.into()));
            }
            each(&buffer[..want]);
            at += want as u64;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Error {
        Error::io(doing, &self.path, error)
    }
}

/// How bytes get to the disk.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Through the page cache.
    Cached,
    /// Past it.
    Direct,
}

/// Whether a file system says that it does not know direct writes, or not such ones.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// The bytes from `start` to `end` of what the buffers hold together; no slice is empty.
fn between(buffers: &[impl AsRef<[u8]>], start: usize, end: usize) -> Vec<IoSlice<'_>> {
    let mut at = 0;
    let part = |buffer: &'_ [u8]| {
        let (from, to) = (start.saturating_sub(at), end.saturating_sub(at));
        at += buffer.len();
        from.min(buffer.len())..to.min(buffer.len())
    };
    let ranges: Vec<_> = buffers.iter().map(AsRef::as_ref).map(part).collect();
    let slices = buffers.iter().zip(ranges).filter_map(|(buffer, range)| buffer.as_ref().get(range));
    slices.filter(|slice| !slice.is_empty()).map(IoSlice::new).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::*;
    use crate::disk::simulated::{Call, Machine};

    /// Bytes in buffers that lie in pages as they will in the file, but for those that `misplaced` shifts.
    fn buffers(content: &[u8], offset: usize, size: usize, misplaced: usize) -> Vec<(Vec<u8>, usize)> {
        let (mut rest, mut at, mut buffers) = (content, offset, Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((size - at % PAGE).min(rest.len()));
            let mut buffer: Vec<u8> = Vec::with_capacity(size + 3 * PAGE);
            let begin = buffer.as_ptr().align_offset(PAGE) + at % PAGE + misplaced;
            buffer.resize(begin, 0);
            buffer.extend_from_slice(now);
            buffers.push((buffer, begin));
            (rest, at) = (later, at + now.len());
        }
        buffers
    }

    fn noise(seed: usize, size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from((at * 7 + at / 251 + seed) % 256).unwrap()).collect()
    }

    /// Appends these sizes one after the other, opened anew for each, and reads the whole back.
    fn appended(disk: &Disk, path: &Path, sizes: &[usize], block: usize, misplaced: usize) -> Vec<u8> {
        let mut whole = Vec::new();
        for size in sizes {
            let mut draft = Draft::open(disk, path.to_owned(), whole.len() as u64).unwrap();
            let content = noise(whole.len(), *size);
            let owned = buffers(&content, whole.len(), block, misplaced);
            let slices: Vec<&[u8]> = owned.iter().map(|(buffer, begin)| &buffer[*begin..]).collect();
            draft.append(&slices).unwrap();
            whole.extend(content);
            assert_eq!(draft.offset(), whole.len() as u64);
        }
        let mut read = Vec::new();
        let draft = Draft::open(disk, path.to_owned(), whole.len() as u64).unwrap();
        draft.reread(|bytes| read.extend_from_slice(bytes)).unwrap();
        assert!(read == whole, "other bytes than were written");
        read
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_is_appended_is_in_the_file_whichever_way_it_went(
            sizes in prop::collection::vec(prop_oneof![0usize..10_000, MANY - 2..MANY + 9000, 300_000usize..310_000], 1..6),
            blocks in 1usize..20,
            misplaced in prop_oneof![Just(0), 1usize..PAGE],
        ) {
            let folder = tempfile::tempdir().unwrap();
            appended(&Disk::Real, &folder.path().join("file"), &sizes, blocks * PAGE, misplaced);
            // Short writes.
            let machine = Machine::new();
            let disk = Disk::Simulated(machine.clone());
            disk.make_folder(Path::new("/blobs")).unwrap();
            appended(&disk, Path::new("/blobs/file"), &sizes, blocks * PAGE, misplaced);
            prop_assert!(misplaced == 0 || machine.written_directly() == 0);
        }
    }

    #[test]
    fn many_bytes_go_past_the_page_cache_where_the_file_system_knows_how() {
        let machine = Machine::new();
        let disk = Disk::Simulated(machine.clone());
        disk.make_folder(Path::new("/blobs")).unwrap();
        appended(&disk, Path::new("/blobs/small"), &[MANY - 1], 64 << 10, 0);
        assert_eq!(machine.written_directly(), 0);
        appended(&disk, Path::new("/blobs/large"), &[5, 1 << 20, MANY], 64 << 10, 0);
        assert_eq!(machine.written_directly(), (1 << 20) - PAGE + MANY - PAGE, "all whole pages");
        for error in [Errno::INVAL, Errno::OPNOTSUPP] {
            machine.fail(Call::WriteDirect, Some(error));
            appended(&disk, Path::new("/blobs/other"), &[1 << 20], 64 << 10, 0);
            disk.remove(Path::new("/blobs/other")).unwrap();
        }
        machine.fail(Call::WriteDirect, Some(Errno::IO));
        let mut draft = Draft::open(&disk, "/blobs/broken".into(), 0).unwrap();
        let owned = buffers(&noise(0, 1 << 20), 0, 64 << 10, 0);
        let slices: Vec<&[u8]> = owned.iter().map(|(buffer, begin)| &buffer[*begin..]).collect();
        assert!(draft.append(&slices).is_err(), "a disk that fails is no file system that refuses");
    }
}
