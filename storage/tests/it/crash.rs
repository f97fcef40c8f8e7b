// SPDX-License-Identifier: AGPL-3.0-only
//! A child process that works until it is killed, and what it said before.
//!
//! The child is this test binary, told by an environment variable to run one test as a worker. It
//! writes a line for each change that was acknowledged to it; a line that reached the pipe was
//! acknowledged before the kill.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const FOLDER: &str = "STELLA_CRASH_FOLDER";
const ROUND: &str = "STELLA_CRASH_ROUND";
const MARK: &str = "ack ";

/// Lines after which the child of each round is killed; 0 is as soon as it has made something.
pub(crate) const ROUNDS: [usize; 6] = [0, 0, 1, 30, 90, 170];

/// The folder and the round, when this process is a child.
pub(crate) fn child() -> Option<(PathBuf, u32)> {
    let folder = std::env::var_os(FOLDER)?;
    Some((folder.into(), std::env::var(ROUND).ok()?.parse().ok()?))
}

/// Says, as a child, that a change was acknowledged.
pub(crate) fn acknowledge(what: &str) {
    let line = format!("{MARK}{what}\n");
    if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
        // The parent has gone, and nobody will end this process.
        std::process::exit(1);
    }
}

/// A child that does not outlive a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Runs `test` as a child on `folder`, kills it after about `lines` lines, and returns all lines.
pub(crate) fn run_and_kill(test: &str, folder: &Path, round: u32, lines: usize) -> Vec<String> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn();
    let mut running = Running(child.unwrap());
    let child = &mut running.0;
    let (sender, said) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in stdout.split(b'\n').map_while(Result::ok) {
            // The test harness may have begun the line.
            let line = String::from_utf8(line).unwrap();
            if let Some((_, what)) = line.split_once(MARK) {
                let _full = sender.send(what.to_owned());
            }
        }
    });
    let mut heard = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    if lines == 0 {
        wait_for_something(child, folder, deadline);
    }
    while heard.len() < lines {
        let left = deadline.saturating_duration_since(Instant::now());
        heard.push(said.recv_timeout(left).expect("the child works too slowly, or ended"));
    }
    // SIGKILL.
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself: {status}");
    reader.join().unwrap();
    heard.extend(said.try_iter());
    heard
}

fn wait_for_something(child: &mut Child, folder: &Path, deadline: Instant) {
    while std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "the child made nothing");
        std::thread::yield_now();
    }
}

/// Content that both sides know by its name: up to some hundred KiB.
pub(crate) fn content(name: &str) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let len = 1 + usize::try_from(state % 150_000).unwrap();
    let mut content = Vec::with_capacity(len + 8);
    while content.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&state.to_be_bytes());
    }
    content.truncate(len);
    content
}
