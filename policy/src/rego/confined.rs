// SPDX-License-Identifier: AGPL-3.0-only
//! The side that asks a process for rules (`rego/worker.rs`). A process that ends, does not answer in time or answers
//! nonsense has refused; the next question gets a new one.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Answer;
use super::worker::{Question, Reply};

/// How long an answer may take. The process is ended by its own limits before, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many processes wait for the next question.
const MOST_IDLE: usize = 2;
const TOO_MUCH: &str = "the rule needs more time, memory or depth than there is";

static KEEPER: OnceLock<Keeper> = OnceLock::new();

/// From now on rules in Rego are read and asked in processes of their own: `program` with `argument`, which must do
/// nothing but call [`super::serve_rules`]. Without this they run within the caller, bounded in time alone.
pub fn confine_rules(program: impl Into<PathBuf>, argument: impl Into<OsString>) {
    // Whoever says it first has said it.
    let _again =
        KEEPER.set(Keeper { program: program.into(), argument: argument.into(), idle: Mutex::default() });
}

pub(super) fn keeper() -> Option<&'static Keeper> {
    KEEPER.get()
}

/// Starts processes and keeps those that wait.
pub(super) struct Keeper {
    program: PathBuf,
    argument: OsString,
    idle: Mutex<Vec<Worker>>,
}

struct Worker {
    process: Child,
    questions: ChildStdin,
    replies: Receiver<io::Result<Reply>>,
}

impl Keeper {
    /// Whether this is a rule.
    pub(super) fn read(&self, rule: &str) -> Result<(), String> {
        match self.put(&Question { rule: rule.to_owned(), input: None })? {
            Reply::Said(_) => Ok(()),
            Reply::NoRule(why) => Err(why),
        }
    }

    /// What the rule says.
    pub(super) fn ask(&self, rule: &str, input: &str) -> Answer {
        match self.put(&Question { rule: rule.to_owned(), input: Some(input.to_owned()) }) {
            Ok(Reply::Said(answer)) => answer,
            Ok(Reply::NoRule(why)) => Answer::Not(why),
            Err(why) => Answer::OverLimit(why),
        }
    }

    fn put(&self, question: &Question) -> Result<Reply, String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // One that has waited may have been ended by somebody else.
        let mut worker = match idle.filter(Worker::is_there) {
            Some(worker) => worker,
            None => self.start().map_err(|error| format!("no process can be started for rules: {error}"))?,
        };
        let reply = worker.put(question)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(worker);
        }
        Ok(reply)
    }

    fn start(&self) -> io::Result<Worker> {
        let mut command = Command::new(&self.program);
        command.arg(&self.argument).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let questions = process.stdin.take().ok_or_else(missing)?;
        let mut from = process.stdout.take().ok_or_else(missing)?;
        let (told, replies) = channel();
        // A pipe has no deadline, so a thread waits for it. It ends with the process.
        std::thread::Builder::new().name("rules".to_owned()).spawn(move || {
            loop {
                let reply = Reply::receive(&mut from);
                let is_last = reply.is_err();
                if told.send(reply).is_err() || is_last {
                    break;
                }
            }
        })?;
        Ok(Worker { process, questions, replies })
    }
}

impl Worker {
    fn is_there(self: &Worker) -> bool {
        // Nothing was asked, so whatever has come is the end.
        matches!(self.replies.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }

    fn put(&mut self, question: &Question) -> Result<Reply, String> {
        let sent = question.send(&mut self.questions);
        match self.replies.recv_timeout(PATIENCE) {
            Ok(Ok(reply)) if sent.is_ok() => Ok(reply),
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(TOO_MUCH.to_owned())
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}
