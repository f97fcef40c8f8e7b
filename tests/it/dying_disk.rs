// SPDX-License-Identifier: AGPL-3.0-only
//! A file system that shuts itself down after an error, in the very moment of a commit: ext4 tells a sync
//! that runs then of success and drops its transaction. Needs root and loop devices.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stella_storage::kv::{Engine, ReadTx, Sqlite, SqliteOptions, WriteTx};
use stella_tests::{Campaign, Disk, FileSystem};

/// Stores side by side, so that some commit is under way whenever the disk dies.
const STORES: usize = 12;
/// A value that makes the log grow with each commit, so that its sync needs the journal.
const VALUE: usize = 6000;

/// Commits to a store of its own until that fails; the number of the last commit that was acknowledged.
fn commit_until_it_fails(folder: &Path, opened: &Barrier, dead: &AtomicBool) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let engine = open(folder);
    opened.wait();
    let mut acknowledged = 0u32;
    // A disk that never fails would be a fault of the test.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !dead.load(Ordering::Relaxed) || Instant::now() < deadline {
        let number = acknowledged + 1;
        let write = engine.write(0, async move |tx: &mut WriteTx| {
            tx.put(number.to_be_bytes().to_vec(), vec![number.to_le_bytes()[0]; VALUE])
        });
        if runtime.block_on(write).is_err() {
            return acknowledged;
        }
        acknowledged = number;
    }
    panic!("a disk that was shut down goes on")
}

fn open(folder: &Path) -> Engine {
    Engine::Sqlite(
        Sqlite::open(&SqliteOptions { path: folder.join("metadata.sqlite"), cache: 1 << 20 }).unwrap(),
    )
}

/// The number of the last commit that is there with all before it.
fn last_commit(folder: &Path) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let engine = open(folder);
    let mut last = 0u32;
    while runtime
        .block_on(engine.read(async |tx: &mut ReadTx| tx.get(&(last + 1).to_be_bytes()).await))
        .unwrap()
        .is_some()
    {
        last += 1;
    }
    last
}

fn a_dying_disk_is_not_believed(file_system: FileSystem) {
    let Some(mut disk) = Disk::new(file_system) else { return };
    let rounds = Campaign::rounds("STELLA_DYING_ROUNDS", 15);
    for round in 0..rounds {
        let stores: Vec<_> = (0..STORES).map(|store| disk.path().join(format!("{round}-{store}"))).collect();
        for store in &stores {
            std::fs::create_dir(store).unwrap();
        }
        let (opened, dead) = (Barrier::new(STORES + 1), AtomicBool::new(false));
        let acknowledged: Vec<u32> = thread::scope(|scope| {
            let committing: Vec<_> = stores
                .iter()
                .map(|store| scope.spawn(|| commit_until_it_fails(store, &opened, &dead)))
                .collect();
            opened.wait();
            // Not a wait for something: the moment at which the disk dies.
            thread::sleep(Duration::from_millis(150 + 7 * u64::try_from(round).unwrap() % 100));
            disk.cut();
            dead.store(true, Ordering::Relaxed);
            committing.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        disk.power_on();
        for (store, acknowledged) in stores.iter().zip(acknowledged) {
            let last = last_commit(store);
            assert!(last >= acknowledged, "round {round}: commit {acknowledged} is lost, {last} is the last");
        }
    }
}

/// Nobody has read or written for so long that the system has written everything back; then the disk dies.
/// Whatever a reader is told, there is someone to tell it.
fn a_reader_on_a_dead_disk_is_answered(file_system: FileSystem) {
    let Some(disk) = Disk::new(file_system) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let engine = open(&disk.path());
    let read = || runtime.block_on(engine.read(async |tx: &mut ReadTx| tx.get(b"key").await));
    // A reader that is open already, and has not seen the last commit.
    assert_eq!(read().unwrap(), None);
    let write = engine.write(0, async |tx: &mut WriteTx| tx.put(b"key".to_vec(), b"value".to_vec()));
    runtime.block_on(write).unwrap();
    rustix::fs::syncfs(std::fs::File::open(disk.path()).unwrap()).unwrap();
    disk.cut();
    let read = read();
    assert!(read.as_ref().is_err() || read.as_ref().unwrap().as_deref() == Some(b"value"), "{read:?}");
    let write = engine.write(0, async |tx: &mut WriteTx| tx.put(b"other".to_vec(), Vec::new()));
    assert!(runtime.block_on(write).is_err());
}

#[test]
fn a_reader_on_a_dead_ext4_is_answered() {
    a_reader_on_a_dead_disk_is_answered(FileSystem::Ext4);
}

#[test]
fn a_reader_on_a_dead_xfs_is_answered() {
    a_reader_on_a_dead_disk_is_answered(FileSystem::Xfs);
}

#[test]
fn a_commit_that_a_dying_ext4_calls_durable_is_not_acknowledged() {
    a_dying_disk_is_not_believed(FileSystem::Ext4);
}

#[test]
fn a_commit_that_a_dying_xfs_calls_durable_is_not_acknowledged() {
    a_dying_disk_is_not_believed(FileSystem::Xfs);
}
