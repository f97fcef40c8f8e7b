// SPDX-License-Identifier: AGPL-3.0-only
//! The simulated disk loses what it should lose, and only that.

use super::*;
use crate::disk::{Disk, DiskFile};

fn disk() -> (Machine, Disk) {
    let machine = Machine::new();
    (machine.clone(), Disk::Simulated(machine))
}

fn read(machine: &Machine, path: &str) -> io::Result<Vec<u8>> {
    let file = Disk::Simulated(machine.clone()).open(Path::new(path))?;
    let mut content = vec![0; usize::try_from(file.len()?).unwrap()];
    file.read_full_at(&mut content, 0)?;
    Ok(content)
}

fn append(file: &DiskFile, bytes: &[u8]) {
    let (mut at, mut rest) = (file.len().unwrap(), bytes);
    while !rest.is_empty() {
        let written = file.write_at(&[IoSlice::new(rest)], at).unwrap();
        at += written as u64;
        rest = &rest[written..];
    }
}

#[test]
fn what_was_synced_survives_every_cut() {
    let (machine, disk) = disk();
    disk.create_folder(Path::new("/a/b")).unwrap();
    let file = disk.open_or_create(Path::new("/a/b/c")).unwrap();
    append(&file, &[7; 9000]);
    file.sync().unwrap();
    disk.sync_folder(Path::new("/a/b")).unwrap();
    for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed(3)] {
        assert_eq!(read(&machine.cut(unsynced), "/a/b/c").unwrap(), [7; 9000]);
    }
}

#[test]
fn what_was_not_synced_may_be_lost_kept_or_both() {
    let (machine, disk) = disk();
    let file = disk.open_or_create(Path::new("/a")).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    append(&file, &[1; 2000]);
    file.sync().unwrap();
    file.set_len(1500).unwrap();
    append(&file, &[2; 3000]);
    let whole = [vec![1; 1500], vec![2; 3000]].concat();
    assert_eq!(read(&machine, "/a").unwrap(), whole);
    assert_eq!(read(&machine.cut(Unsynced::Lost), "/a").unwrap(), [1; 2000]);
    assert_eq!(read(&machine.cut(Unsynced::Kept), "/a").unwrap(), whole);
    let mixed: BTreeSet<_> =
        (0..40).map(|seed| read(&machine.cut(Unsynced::Mixed(seed)), "/a").unwrap()).collect();
    assert!(mixed.len() > 20, "{} of 40", mixed.len());
    assert!(mixed.iter().all(|content| content[..1500] == [1; 1500]), "synced bytes were touched");
}

#[test]
fn names_that_were_not_synced_may_come_or_stay() {
    let (machine, disk) = disk();
    for name in ["/old", "/older"] {
        disk.open_or_create(Path::new(name)).unwrap();
    }
    disk.sync_folder(Path::new("/")).unwrap();
    disk.remove(Path::new("/old")).unwrap();
    disk.open_or_create(Path::new("/new")).unwrap();
    let names = |machine: &Machine| -> Vec<String> {
        let listed = machine.list(Path::new("/")).unwrap();
        listed.into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    };
    assert_eq!(names(&machine), ["new", "older"]);
    assert_eq!(names(&machine.cut(Unsynced::Lost)), ["old", "older"]);
    let mixed: BTreeSet<_> = (0..40).map(|seed| names(&machine.cut(Unsynced::Mixed(seed)))).collect();
    assert_eq!(mixed.len(), 4, "{mixed:?}");
}

#[test]
fn a_failed_sync_forgets_what_it_should_have_written() {
    let (machine, disk) = disk();
    let file = disk.open_or_create(Path::new("/a")).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    append(&file, b"lost");
    machine.fail(Call::Sync, Some(Errno::IO));
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    machine.fail(Call::Sync, None);
    file.sync().unwrap();
    assert_eq!(read(&machine, "/a").unwrap(), b"lost", "as long as it is in memory");
    assert_eq!(read(&machine.cut(Unsynced::Kept), "/a").unwrap(), b"");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (machine, disk) = disk();
    let file = disk.open_or_create(Path::new("/a")).unwrap();
    machine.set_room(Some(3));
    assert_eq!(file.write_at(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 0).unwrap(), 3);
    let full = file.write_at(&[IoSlice::new(b"d")], 3).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}
