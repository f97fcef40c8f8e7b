// SPDX-License-Identifier: AGPL-3.0-only
//! The process that reads and asks rules for another one: a loop over its stdin and stdout, within bounds that the
//! system keeps. It opens nothing and is told nothing but a rule and its input. What overruns a bound ends the process,
//! which the other side takes for a refusal.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::engine::Ready;
use super::{Answer, MOST_INPUT, MOST_RULE};

/// The most memory for rules and their inputs, in bytes. With the program itself it stays below 64 MiB.
const MOST_MEMORY: u64 = 40 << 20;
/// Processor time for one question, in seconds; the engine's own limit is reached long before, if it is reached at all.
const MOST_SECONDS: u64 = 1;
/// How many rules stay ready.
const MOST_READY: usize = 8;

/// What is asked: a rule alone (can it be read?), or a rule about an input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) rule: String,
    pub(super) input: Option<String>,
}

/// The answer to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Said(Answer),
    /// The rule cannot be read, and why.
    NoRule(String),
}

/// Serves another process on stdin and stdout until it closes them. For [`super::confine_rules`].
///
/// # Errors
///
/// That the bounds cannot be set, or that the other side does not speak as agreed.
pub fn serve_rules() -> io::Result<()> {
    confine()?;
    let (mut questions, mut replies) = (io::stdin().lock(), io::stdout().lock());
    let mut ready = HashMap::new();
    while let Some(question) = Question::receive(&mut questions)? {
        more_time()?;
        reply(&mut ready, &question).send(&mut replies)?;
    }
    Ok(())
}

fn reply(ready: &mut HashMap<String, Ready>, question: &Question) -> Reply {
    if !ready.contains_key(&question.rule) {
        if ready.len() >= MOST_READY {
            ready.clear();
        }
        match Ready::new(&question.rule) {
            Ok(rule) => drop(ready.insert(question.rule.clone(), rule)),
            Err(why) => return Reply::NoRule(why),
        }
    }
    match (ready.get(&question.rule), &question.input) {
        (Some(rule), Some(input)) => Reply::Said(rule.ask(input)),
        _ => Reply::Said(Answer::Compliant),
    }
}

/// Bounds that hold from here on. Memory is bounded twice, because not every system counts mapped memory as data.
fn confine() -> io::Result<()> {
    let only = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Core, only(0))?;
    setrlimit(Resource::Fsize, only(0))?;
    let mapped = mapped()?;
    setrlimit(Resource::As, only(mapped.saturating_add(MOST_MEMORY)))?;
    setrlimit(Resource::Data, only(MOST_MEMORY))?;
    setrlimit(Resource::Nofile, only(3))?;
    Ok(())
}

/// How much address space there is already, in bytes.
fn mapped() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let size = size.and_then(|size| size.trim().parse::<u64>().ok());
    size.map(|size| size * 1024).ok_or_else(|| io::Error::other("/proc/self/status says no VmSize"))
}

/// Each question has its own time.
fn more_time() -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let until = u64::try_from(used).unwrap_or(0) + 1 + MOST_SECONDS;
    setrlimit(Resource::Cpu, Rlimit { current: Some(until), maximum: None })?;
    Ok(())
}

const NO_INPUT: u32 = u32::MAX;

impl Question {
    pub(super) fn send(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&length(self.rule.len())?)?;
        out.write_all(&match &self.input {
            Some(input) => length(input.len())?,
            None => NO_INPUT.to_be_bytes(),
        })?;
        out.write_all(self.rule.as_bytes())?;
        out.write_all(self.input.as_deref().unwrap_or_default().as_bytes())?;
        out.flush()
    }

    /// The next one; none at the end.
    fn receive(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut first = [0; 4];
        if from.read(&mut first[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut first[1..])?;
        let mut second = [0; 4];
        from.read_exact(&mut second)?;
        let rule = text(from, u32::from_be_bytes(first), MOST_RULE)?;
        let input = match u32::from_be_bytes(second) {
            NO_INPUT => None,
            length => Some(text(from, length, MOST_INPUT)?),
        };
        Ok(Some(Question { rule, input }))
    }
}

/// More than any explanation has.
const MOST_TEXT: usize = 64 << 10;

impl Reply {
    fn send(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, text) = match self {
            Reply::Said(Answer::Compliant) => (0, ""),
            Reply::Said(Answer::Not(why)) => (1, why.as_str()),
            Reply::Said(Answer::OverLimit(why)) => (2, why.as_str()),
            Reply::NoRule(why) => (3, why.as_str()),
        };
        let text = text.get(..text.floor_char_boundary(MOST_TEXT)).unwrap_or_default();
        out.write_all(&[kind])?;
        out.write_all(&length(text.len())?)?;
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    pub(super) fn receive(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [kind, a, b, c, d] = head;
        let text = text(from, u32::from_be_bytes([a, b, c, d]), MOST_TEXT)?;
        match kind {
            0 => Ok(Reply::Said(Answer::Compliant)),
            1 => Ok(Reply::Said(Answer::Not(text))),
            2 => Ok(Reply::Said(Answer::OverLimit(text))),
            3 => Ok(Reply::NoRule(text)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    u32::try_from(length).map(u32::to_be_bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn text(from: &mut impl Read, length: u32, most: usize) -> io::Result<String> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_nothing_else_is() {
        for input in [None, Some(String::new()), Some("{\"a\": \"é\"}".to_owned())] {
            let question = Question { rule: "package sigstore".to_owned(), input };
            let mut bytes = Vec::new();
            question.send(&mut bytes).unwrap();
            assert_eq!(Question::receive(&mut bytes.as_slice()).unwrap(), Some(question));
            for cut in 1..bytes.len() {
                assert!(Question::receive(&mut &bytes[..cut]).is_err(), "{cut}");
            }
        }
        assert_eq!(Question::receive(&mut [].as_slice()).unwrap(), None);
        assert!(Question::receive(&mut [0xff; 8].as_slice()).is_err());
        let (not, over) = (Answer::Not("no".to_owned()), Answer::OverLimit("much".to_owned()));
        let said = [Answer::Compliant, not, over].map(Reply::Said);
        for reply in said.into_iter().chain([Reply::NoRule("x".repeat(9))]) {
            let mut bytes = Vec::new();
            reply.send(&mut bytes).unwrap();
            assert_eq!(Reply::receive(&mut bytes.as_slice()).unwrap(), reply);
            assert!(Reply::receive(&mut &bytes[..bytes.len() - 1]).is_err());
        }
        assert!(Reply::receive(&mut [4, 0, 0, 0, 0].as_slice()).is_err());
        assert!(Reply::receive(&mut [1, 0xff, 0, 0, 0].as_slice()).is_err());
    }

    #[test]
    fn rules_stay_ready_and_are_not_mixed_up() {
        let mut ready = HashMap::new();
        for round in 0..3 {
            for number in 0..MOST_READY + 2 {
                let rule = format!("package sigstore\nisCompliant {{ input.a == {number} }}");
                let input = Some(format!("{{\"a\": {}}}", number + round % 2));
                let said = reply(&mut ready, &Question { rule, input });
                assert_eq!(said == Reply::Said(Answer::Compliant), round % 2 == 0, "{number}: {said:?}");
                assert!(ready.len() <= MOST_READY);
            }
        }
        let broken = Question { rule: "package other".to_owned(), input: None };
        assert!(matches!(reply(&mut ready, &broken), Reply::NoRule(_)));
    }
}
