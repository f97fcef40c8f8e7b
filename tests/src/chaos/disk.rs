// SPDX-License-Identifier: AGPL-3.0-only
//! A disk whose power can be cut: a file system in a file, over a loop device. Shut down without flushing
//! its log, it behaves as after a power cut: what was not made durable is gone when it is mounted again.
//! Needs root. Invariant: only what was mounted here is unmounted, and that always.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::client::{find, path_variable, skip};
use crate::process::poll;

/// The size of the disk; its file takes what is written.
const SIZE: u64 = 2 << 30;

/// What the disk is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// XFS.
    Xfs,
    /// ext4.
    Ext4,
}

/// A mounted disk.
#[derive(Debug)]
pub struct Disk {
    mounted: bool,
    directory: TempDir,
}

impl Disk {
    /// A fresh disk, or `None`, once that was said, where none can be mounted.
    #[track_caller]
    pub fn new(file_system: FileSystem) -> Option<Self> {
        let mkfs = match file_system {
            FileSystem::Xfs => "mkfs.xfs",
            FileSystem::Ext4 => "mkfs.ext4",
        };
        if !geteuid().is_root() {
            skip("cutting the power of a disk needs root");
            return None;
        }
        for program in [mkfs, "xfs_io", "mount", "umount"] {
            if find(program).is_none() {
                skip(&format!("{program} is not installed; run tests/clients/install.sh xfs_io"));
                return None;
            }
        }
        let directory = TempDir::with_prefix("stella-disk-").unwrap();
        let mut disk = Self { mounted: false, directory };
        File::create(disk.image()).unwrap().set_len(SIZE).unwrap();
        fs::create_dir(disk.path()).unwrap();
        let made = run(mkfs, &["-q".as_ref(), &disk.image()]).and_then(|()| disk.mount());
        if let Err(error) = made {
            skip(&error);
            return None;
        }
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Cuts its power: from now on everything fails, and what was not durable is lost.
    pub fn cut(&self) {
        run("xfs_io", &["-x".as_ref(), "-c".as_ref(), "shutdown".as_ref(), &self.path()]).unwrap();
    }

    /// Unmounts it and mounts it again. No program may use it.
    pub fn power_on(&mut self) {
        // The kernel may take a moment to let go of what a killed process had open.
        poll("the disk to be unused", Duration::from_secs(30), || self.unmount(&[]).ok());
        self.mount().unwrap();
        // An error of the dead disk that nobody was told of goes to whoever syncs first: not to the server, which
        // would rightly refuse to start.
        let sync = || File::open(self.path()).and_then(|root| root.sync_all()).ok();
        poll("the disk to be whole", Duration::from_secs(10), sync);
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image(), &self.path()])?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self, options: &[&Path]) -> Result<(), String> {
        run("umount", &[options, &[&self.path()]].concat())?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for _ in 0..50 {
            if !self.mounted || self.unmount(&[]).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Out of sight at once, and gone with its loop device when the last user ends.
        if let Err(error) = self.unmount(&["-l".as_ref()]) {
            eprintln!("{error}");
        }
    }
}

/// Runs a program of the system; its complaint if it fails.
fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(find(program).unwrap_or_else(|| program.into()))
        .args(arguments)
        .env("PATH", path_variable())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} failed with {}: {}", output.status, said.trim()))
}
