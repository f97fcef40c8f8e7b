// SPDX-License-Identifier: AGPL-3.0-only
//! Running a client's command to its end, with a deadline. When it does not do what the test expects, the
//! test fails with the whole command and all that it said.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A client's program with the environment and the flags that each of its commands gets.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    flags: Vec<String>,
    instead: Vec<(&'static str, &'static str)>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    input: Option<PathBuf>,
    patience: Duration,
}

impl Tool {
    pub(crate) fn new(program: PathBuf, directory: &Path) -> Self {
        let patience = Duration::from_mins(3);
        let directory = directory.to_owned();
        let (flags, instead, environment) = (Vec::new(), Vec::new(), Vec::new());
        Self { program, flags, instead, environment, directory, input: None, patience }
    }

    /// Gives every command this file on stdin.
    #[must_use]
    pub fn input(mut self, file: &Path) -> Self {
        self.input = Some(file.to_owned());
        self
    }

    /// Puts `flags`, separated by spaces, in front of the arguments of every command.
    #[must_use]
    pub fn flags(mut self, flags: &str) -> Self {
        self.flags.extend(flags.split_whitespace().map(str::to_owned));
        self
    }

    /// Puts other arguments, or none, in the place of `argument` wherever a test writes it.
    #[must_use]
    pub(crate) fn instead(mut self, argument: &'static str, others: &'static str) -> Self {
        self.instead.push((argument, others));
        self
    }

    /// Sets a variable of every command's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs one command, its arguments separated by spaces, in the scratch directory; it must succeed.
    /// Gives what it said on stdout, without blanks around it.
    #[track_caller]
    pub fn run(&self, arguments: &str) -> String {
        String::from_utf8_lossy(&self.run_for_bytes(arguments)).trim().to_owned()
    }

    /// Runs one command that must succeed, and gives exactly what it said on stdout.
    #[track_caller]
    pub fn run_for_bytes(&self, arguments: &str) -> Vec<u8> {
        let outcome = self.try_run(arguments);
        assert!(outcome.status.success(), "a command failed:\n{outcome}");
        outcome.stdout
    }

    /// Runs one command, which must fail. Gives what it said on stderr.
    #[track_caller]
    pub fn fails(&self, arguments: &str) -> String {
        let outcome = self.try_run(arguments);
        assert!(!outcome.status.success(), "a command succeeded that must fail:\n{outcome}");
        outcome.stderr
    }

    /// Runs one command, which must fail; gives its exit code and what it says on stderr.
    #[track_caller]
    pub fn failure(&self, arguments: &str) -> (i32, String) {
        let outcome = self.try_run(arguments);
        assert!(!outcome.status.success(), "{outcome}");
        (outcome.status.code().unwrap(), outcome.stderr)
    }

    /// Runs one command, whatever comes of it.
    #[track_caller]
    pub fn try_run(&self, arguments: &str) -> Outcome {
        let mut command = self.command_line(arguments);
        // Files, not pipes: nobody has to read along, and a grandchild cannot keep them open for us.
        let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let input = self.input.as_ref().map_or(Stdio::null(), |file| File::open(file).unwrap().into());
        command.stdin(input).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
        // A group of its own, so that what it starts can be ended with it.
        command.process_group(0);
        let began = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (status, late) = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break (status, false);
            }
            if began.elapsed() > self.patience {
                kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
                break (child.wait().unwrap(), true);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let stdout = fs::read(out.path()).unwrap();
        let stderr = String::from_utf8_lossy(&fs::read(err.path()).unwrap()).into_owned();
        let words = command.get_args().map(|argument| argument.to_string_lossy());
        let line = [self.program.to_string_lossy()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let outcome = Outcome { line, status, stdout, stderr };
        assert!(!late, "a command did not end within {:?}:\n{outcome}", self.patience);
        outcome
    }

    /// One command, its arguments separated by spaces, for what is to run beside the test.
    pub fn command_line(&self, arguments: &str) -> Command {
        let mut command = self.command();
        for argument in arguments.split_whitespace() {
            let other = self.instead.iter().find(|(unwanted, _)| *unwanted == argument);
            command.args(other.map_or(argument, |(_, others)| others).split_whitespace());
        }
        command
    }

    /// The program with its environment and flags, for what is to run beside the test.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.flags).current_dir(&self.directory);
        command
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on stdout.
    pub stdout: Vec<u8>,
    /// What it said on stderr.
    pub stderr: String,
}

impl Outcome {
    /// All that it said.
    pub fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }

    /// Itself, as a result.
    pub fn succeeded(self) -> Result<Self, Self> {
        if self.status.success() { Ok(self) } else { Err(self) }
    }

    /// Panics, showing everything, unless the command succeeded.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "often the success is all that matters")]
    pub fn must_succeed(self) -> Self {
        assert!(self.status.success(), "a command failed:\n{self}");
        self
    }

    /// Panics, showing everything, unless the command failed and said one of these on the way, in small letters
    /// or capitals.
    #[track_caller]
    pub fn must_fail_saying(&self, words: &[&str]) {
        assert!(!self.status.success(), "a command succeeded that must fail:\n{self}");
        let said = self.said().to_lowercase();
        let fits = words.iter().any(|words| said.contains(&words.to_lowercase()));
        assert!(fits, "a command failed and said none of {words:?}:\n{self}");
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, status, stderr, .. } = self;
        let stdout: String = String::from_utf8_lossy(&self.stdout).chars().take(4000).collect();
        write!(f, "$ {line}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}
