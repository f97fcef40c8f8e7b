// SPDX-License-Identifier: AGPL-3.0-only
//! File systems of their own, which tests fill up, break and take away. Only root may mount any.

#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The kinds on which a registry may lie.
pub(crate) const KINDS: [&str; 2] = ["tmpfs", "ext4"];

/// A mounted file system; unmounted with the value that stands for it.
pub(crate) struct Mounted {
    // What is mounted there goes first.
    point: PathBuf,
    folder: TempDir,
}

impl Mounted {
    /// Mounts a new file system, or says that the test is skipped and why.
    pub(crate) fn new(kind: &str, mebibytes: u64) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let (point, image) = (folder.path().join("mounted"), folder.path().join("image"));
        fs::create_dir(&point).unwrap();
        if kind == "ext4" {
            File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
            let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
            if let Err(why) = made {
                println!("SKIPPED: cannot make a file system: {why}");
                return None;
            }
        }
        let mounted = Mounted { point, folder };
        match mounted.mount(kind, mebibytes) {
            Ok(()) => Some(mounted),
            Err(why) => {
                println!("SKIPPED: cannot mount {kind}, which needs root: {why}");
                None
            }
        }
    }

    fn mount(&self, kind: &str, mebibytes: u64) -> Result<(), String> {
        let mut command = Command::new("mount");
        if kind == "tmpfs" {
            command.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]);
        } else {
            command.args(["-o", "loop"]).arg(self.folder.path().join("image"));
        }
        run(command.arg(&self.point))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// What `mount -o remount,…` does.
    pub(crate) fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.point)).unwrap();
    }

    /// Moves the mount to another folder, as if it were unmounted here.
    pub(crate) fn move_to(&self, other: &Path) {
        move_mount(&self.point, other);
    }

    /// Moves it here again.
    pub(crate) fn move_back(&self, other: &Path) {
        move_mount(other, &self.point);
    }

    /// Takes the file system away from under whoever uses it.
    pub(crate) fn take_away(&self) {
        run(Command::new("umount").arg("-l").arg(&self.point)).unwrap();
    }

    /// Fills the file system to the last byte with files of others.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.point.join("foreign")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![1; size];
            while file.write_all(&piece).and_then(|()| file.sync_data()).is_ok() {}
        }
        // What is free in blocks that are begun.
        for number in 0..1000 {
            let path = self.point.join(format!("foreign-{number}"));
            let written = File::create(path).and_then(|mut file| {
                file.write_all(&[1; 4096])?;
                file.sync_all()
            });
            if written.is_err() {
                return;
            }
        }
        panic!("it does not fill up");
    }

    /// Bytes free.
    pub(crate) fn free(&self) -> u64 {
        let system = rustix::fs::statvfs(&self.point).unwrap();
        system.f_bavail * system.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test may have unmounted it itself.
        let _unmounted = run(Command::new("umount").arg("-l").arg(&self.point));
    }
}

fn move_mount(from: &Path, to: &Path) {
    // A mount inside a shared one cannot be moved, but shown in two places.
    run(Command::new("mount").arg("--bind").arg(from).arg(to)).unwrap();
    run(Command::new("umount").arg("-l").arg(from)).unwrap();
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
