// SPDX-License-Identifier: AGPL-3.0-only
//! A program that runs beside the test, such as the server or a client's daemon. What it says goes into a
//! file, which is shown when the test fails. Invariant: when this value is dropped, its process is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running program of the test's own.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    patience: Duration,
}

impl Process {
    /// Starts `command` under the name `name`, and appends what it says on stdout and stderr to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let err = out.try_clone().unwrap();
        let spawned = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = spawned.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), patience: Duration::ZERO }
    }

    /// Lets the process end by itself for up to `patience` when this value is dropped.
    #[must_use]
    pub fn stop_gently(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends it with SIGTERM and waits up to `patience`; panics if it is still there then.
    pub fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let what = format!("{} to end after SIGTERM", self.name);
        poll(&what, patience, || self.ended())
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().unwrap()
    }

    /// Sends it SIGHUP, which tells many programs to read their files again.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    fn signal(&mut self, signal: Signal) {
        // Once waited for, the number may belong to somebody else.
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.patience.is_zero() {
            self.signal(Signal::TERM);
            let deadline = Instant::now() + self.patience;
            while self.ended().is_none() && Instant::now() < deadline {
                thread::sleep(PAUSE);
            }
        }
        self.kill();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<_> = said.lines().collect();
            let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("--- the last that {} said:\n{end}\n---", self.name);
        }
    }
}

/// How many lines of a failed test's processes are shown.
const SHOWN: usize = 60;

const PAUSE: Duration = Duration::from_millis(5);

/// Asks `probe` again and again until it gives something; panics if it gives nothing for `patience`.
/// `what` completes the sentence "waited for …".
#[track_caller]
pub fn poll<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}
