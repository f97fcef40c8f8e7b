// SPDX-License-Identifier: AGPL-3.0-only
//! What a run leaves is removed, however it ends. The program that was called only waits: the work is done by a
//! second process in a group of its own, to which all servers belong. When the work is done, fails, panics, is
//! killed, or is interrupted, the janitor ends the whole group and removes the run's folder.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;

/// Runs the benches in a process of their own, and cleans up behind them.
pub(crate) fn guard(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = arguments.data.join(format!("run-{}", process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = fs::canonicalize(&folder)?;
    let worked = work(&folder);
    remove(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    worked
}

fn work(folder: &Path) -> anyhow::Result<ExitCode> {
    let mut command = process::Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).arg("--within").arg(folder).process_group(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the work begins, so that no signal finds nobody.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut child = command.spawn().context("cannot start the work")?;
        let group = Pid::from_child(&child);
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        let status = tokio::select! {
            status = &mut ended => Ok(status??),
            _ = interrupt.recv() => Err(130),
            _ = terminate.recv() => Err(143),
            _ = hangup.recv() => Err(129),
        };
        // Also what the work left behind. Nobody there is no error.
        let _ = kill_process_group(group, Signal::KILL);
        Ok(match status {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(code) => ExitCode::from(code),
        })
    })
}

/// Removes `folder`; processes that are still ending may write there for a moment.
fn remove(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
