// SPDX-License-Identifier: AGPL-3.0-only
//! What was asked of the server and what it acknowledged, and from that what it may hold now.
//!
//! Everything with a name in the registry (a tag, a manifest, a blob in a repository) is a register: it
//! holds a digest or nothing. Each request that changes registers is written down before it is sent and
//! again when its answer came. Several requests may run at once, so a register may hold the value of any
//! request that was not certainly followed by another one; a request that was cut off may have been
//! done or not. A check reads what is really there, and the journal goes on from that.
//!
//! A blob that no manifest names is promised for half a lease after each positive answer (every answer
//! leaves at least that much); then collection may take it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::session::{Recipe, Session};

/// What a register holds: the digest of what is there, or nothing.
pub(crate) type Value = Option<String>;

/// What kind of thing a register stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Manifest,
    Tag,
    Blob,
}

/// The name of a register: a tag, or the digest of a manifest or blob, in a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) repo: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: Kind, repo: &str, name: &str) -> Self {
        Self { kind, repo: repo.to_owned(), name: name.to_owned() }
    }
}

/// A manifest that was pushed at least once.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) owner: usize,
    pub(crate) repo: String,
    pub(crate) digest: String,
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Blobs of its repository without which it cannot be pulled.
    pub(crate) blobs: Vec<String>,
    pub(crate) subject: Option<String>,
    /// Never deleted, so that tags which everybody moves can point at it.
    pub(crate) pinned: bool,
}

/// A request that changes something and has been written down.
#[derive(Debug)]
pub(crate) struct Asked {
    number: u64,
    at: Instant,
    keys: Vec<Key>,
}

/// How a request ended. One that was cut off does not end at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said that it is done.
    Done,
    /// The server said that it is not done.
    Refused,
    /// The server said that it failed: it may be done or not.
    Unclear,
}

#[derive(Clone, Debug)]
struct Write {
    request: u64,
    asked: u64,
    ended: Option<u64>,
    certain: bool,
    value: Value,
}

/// In how many checks an empty register is looked at each time, and then in one of how many.
const OFTEN: u64 = 4;
const RARELY: u64 = 16;
/// Lines of a register's story that are kept.
const STORY: usize = 16;

#[derive(Clone, Debug, Default)]
struct Register {
    settled: Value,
    /// Checks since it was found to hold nothing.
    empty_for: u64,
    writes: Vec<Write>,
    promised: Option<Instant>,
    /// The last requests about it and what came of them, for whoever looks into a fault.
    story: Vec<String>,
}

impl Register {
    fn tell(&mut self, line: String) {
        if self.story.len() == STORY {
            self.story.remove(0);
        }
        self.story.push(line);
    }

    /// The values that it may hold, each with the request that would have brought it.
    fn possible(&self) -> Vec<(&Value, Option<u64>)> {
        let replaced = |ended: u64| self.writes.iter().any(|other| other.certain && other.asked > ended);
        let mut possible = Vec::new();
        if !replaced(0) {
            possible.push((&self.settled, None));
        }
        for write in &self.writes {
            if !write.ended.is_some_and(replaced) {
                possible.push((&write.value, Some(write.request)));
            }
        }
        possible
    }
}

/// How many requests there were, and what came of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) deletes: u64,
    pub(crate) in_flight_done: u64,
    pub(crate) in_flight_not_done: u64,
    pub(crate) in_flight_unknown: u64,
    pub(crate) collected: u64,
}

/// What is written down.
#[derive(Debug)]
pub(crate) struct Journal {
    /// For how long after a positive answer an unnamed blob must stay.
    promise: Duration,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    clock: u64,
    registers: BTreeMap<Key, Register>,
    documents: BTreeMap<(String, String), Arc<Document>>,
    sessions: BTreeMap<String, Session>,
    recipes: BTreeMap<String, Recipe>,
    requests: BTreeMap<u64, (String, End)>,
    faults: Vec<String>,
    counts: Counts,
}

impl Journal {
    pub(crate) fn new(lease: Duration) -> Self {
        Self { promise: lease / 2, pages: Mutex::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down a request that gives registers these values, before it is sent.
    pub(crate) fn ask(&self, what: &str, writes: Vec<(Key, Value)>) -> Asked {
        let mut pages = self.pages();
        pages.clock += 1;
        let number = pages.clock;
        pages.requests.insert(number, (what.to_owned(), End::Unclear));
        let mut keys = Vec::new();
        for (key, value) in writes {
            let write = Write { request: number, asked: number, ended: None, certain: false, value };
            let register = pages.registers.entry(key.clone()).or_default();
            register.writes.push(write);
            register.tell(format!("{number}: {what}"));
            keys.push(key);
        }
        Asked { number, at: Instant::now(), keys }
    }

    /// Writes down how a request ended.
    pub(crate) fn end(&self, asked: &Asked, end: End) {
        let until = asked.at + self.promise;
        let mut pages = self.pages();
        pages.clock += 1;
        let now = pages.clock;
        let mut deletes = false;
        for key in &asked.keys {
            let register = pages.registers.entry(key.clone()).or_default();
            register.tell(format!("{now}: {end:?}, asked at {}", asked.number));
            if end == End::Refused {
                register.writes.retain(|write| write.request != asked.number);
                continue;
            }
            for write in register.writes.iter_mut().filter(|write| write.request == asked.number) {
                (write.ended, write.certain) = (Some(now), end == End::Done);
                deletes |= write.value.is_none();
                if end == End::Done && write.value.is_some() {
                    register.promised = register.promised.max(Some(until));
                }
            }
        }
        match end {
            End::Done if deletes => pages.counts.deletes += 1,
            End::Done => pages.counts.writes += 1,
            _ => {}
        }
        if let Some((_, ended)) = pages.requests.get_mut(&asked.number) {
            *ended = end;
        }
    }

    /// Notes that the server said at a request sent at `at` that something is there.
    pub(crate) fn promised(&self, key: &Key, at: Instant) {
        if let Some(register) = self.pages().registers.get_mut(key) {
            register.promised = register.promised.max(Some(at + self.promise));
        }
    }

    /// Whether a promise made at `at` would still hold.
    pub(crate) fn is_recent(&self, at: Instant) -> bool {
        at.elapsed() < self.promise
    }

    /// Whether the promise that something stays still holds.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        let promised = self.pages().registers.get(key).and_then(|register| register.promised);
        promised.is_some_and(|until| Instant::now() < until)
    }

    /// What was asked about a register and what came of it.
    pub(crate) fn story(&self, key: &Key) -> String {
        let pages = self.pages();
        pages.registers.get(key).map_or_else(String::new, |register| register.story.join("\n    "))
    }

    /// What goes wrong goes here, so that one fault does not hide the next.
    pub(crate) fn fault(&self, fault: String) {
        self.pages().faults.push(fault);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.pages().faults.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.pages().counts
    }

    pub(crate) fn count_collected(&self, count: u64) {
        self.pages().counts.collected += count;
    }

    pub(crate) fn describe(&self, document: Document) -> Arc<Document> {
        let document = Arc::new(document);
        let key = (document.repo.clone(), document.digest.clone());
        Arc::clone(self.pages().documents.entry(key).or_insert(document))
    }

    pub(crate) fn documents(&self) -> Vec<Arc<Document>> {
        self.pages().documents.values().map(Arc::clone).collect()
    }

    /// Remembers how to make the bytes of a digest.
    pub(crate) fn remember(&self, recipe: &Recipe) {
        self.pages().recipes.entry(recipe.digest.clone()).or_insert_with(|| recipe.clone());
    }

    /// How to make the bytes of a digest.
    pub(crate) fn recipe(&self, digest: &str) -> Option<Recipe> {
        self.pages().recipes.get(digest).cloned()
    }

    /// All registers of a kind.
    pub(crate) fn keys(&self, kind: Kind) -> Vec<Key> {
        self.pages().registers.keys().filter(|key| key.kind == kind).cloned().collect()
    }

    /// The registers of a kind that are due for a look: what was found empty in several checks and never
    /// written again is looked at in one of [`RARELY`] only.
    pub(crate) fn keys_due(&self, kind: Kind) -> Vec<Key> {
        let mut pages = self.pages();
        let registers = pages.registers.iter_mut().filter(|(key, _)| key.kind == kind);
        let due = registers.filter_map(|(key, register)| {
            if register.settled.is_some() || !register.writes.is_empty() {
                register.empty_for = 0;
            } else {
                register.empty_for += 1;
            }
            (register.empty_for < OFTEN || register.empty_for % RARELY == 0).then(|| key.clone())
        });
        due.collect()
    }

    /// What a register held at the last check.
    pub(crate) fn settled(&self, key: &Key) -> Value {
        self.pages().registers.get(key).and_then(|register| register.settled.clone())
    }

    /// The values that a register may hold.
    pub(crate) fn possible(&self, key: &Key) -> Vec<Value> {
        let pages = self.pages();
        let Some(register) = pages.registers.get(key) else { return vec![None] };
        register.possible().into_iter().map(|(value, _)| value.clone()).collect()
    }

    /// Changes an upload session, or forgets it when `change` returns false.
    pub(crate) fn session(&self, location: &str, change: impl FnOnce(&mut Session) -> bool) {
        let mut pages = self.pages();
        if let Some(session) = pages.sessions.get_mut(location)
            && !change(session)
        {
            pages.sessions.remove(location);
        }
    }

    pub(crate) fn open_session(&self, location: &str, session: Session) {
        self.pages().sessions.insert(location.to_owned(), session);
    }

    pub(crate) fn sessions(&self) -> Vec<(String, Session)> {
        self.pages().sessions.iter().map(|(location, session)| (location.clone(), session.clone())).collect()
    }

    /// Goes on from what was found: first looks whether each request that was cut off was done wholly or
    /// not at all.
    pub(crate) fn settle(&self, found: &BTreeMap<Key, Value>) {
        let mut pages = self.pages();
        // For each request that was not certain: was what only it could bring found, or missed?
        let mut seen: BTreeMap<u64, (Vec<&Key>, Vec<&Key>)> = BTreeMap::new();
        for (key, value) in found {
            let Some(register) = pages.registers.get(key) else { continue };
            let possible = register.possible();
            for (brought, request) in &possible {
                let Some(request) = request else { continue };
                // That a blob is gone may be the work of collection.
                if brought.is_none() && key.kind == Kind::Blob {
                    continue;
                }
                let uncertain =
                    register.writes.iter().any(|write| write.request == *request && !write.certain);
                let only = possible.iter().filter(|(other, _)| other == brought).count() == 1;
                // Missing says something only if nothing could have come after it.
                let last = possible.len() == 2 && possible.iter().any(|(_, other)| other.is_none());
                if uncertain && only {
                    let (done, missed) = seen.entry(*request).or_default();
                    if *brought == value {
                        done.push(key);
                    } else if last {
                        missed.push(key);
                    }
                }
            }
        }
        let mut counts = pages.counts;
        let mut faults = Vec::new();
        for (number, (what, end)) in &pages.requests {
            if *end != End::Unclear {
                continue;
            }
            match seen.get(number) {
                Some((done, missed)) if !done.is_empty() && !missed.is_empty() => {
                    faults.push(format!("{what} was cut off and done in part: {done:?}, but not {missed:?}"));
                }
                Some((done, _)) if !done.is_empty() => counts.in_flight_done += 1,
                Some((_, missed)) if !missed.is_empty() => counts.in_flight_not_done += 1,
                _ => counts.in_flight_unknown += 1,
            }
        }
        drop(seen);
        pages.counts = counts;
        pages.faults.extend(faults);
        pages.requests.clear();
        for (key, value) in found {
            let register = pages.registers.entry(key.clone()).or_default();
            if register.settled != *value || !register.writes.is_empty() {
                register.tell(format!("found {value:?}"));
            }
            register.settled.clone_from(value);
            register.writes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Kind::Tag, "a", name)
    }

    #[expect(clippy::unnecessary_wraps, reason = "reads as a value where it is used")]
    fn some(value: &str) -> Value {
        Some(value.to_owned())
    }

    fn journal() -> Journal {
        Journal::new(Duration::from_mins(1))
    }

    fn settle(journal: &Journal, found: &[(&str, Value)]) {
        journal.settle(&found.iter().map(|(name, value)| (key(name), value.clone())).collect());
    }

    #[test]
    fn what_was_acknowledged_replaces_what_ended_before_it() {
        let journal = journal();
        for value in ["1", "2"] {
            let asked = journal.ask("put", vec![(key("t"), some(value))]);
            journal.end(&asked, End::Done);
        }
        assert_eq!(journal.possible(&key("t")), [some("2")]);
        let asked = journal.ask("delete", vec![(key("t"), None)]);
        assert_eq!(journal.possible(&key("t")), [some("2"), None]);
        journal.end(&asked, End::Refused);
        assert_eq!(journal.possible(&key("t")), [some("2")]);
    }

    #[test]
    fn of_requests_at_the_same_time_any_may_be_last() {
        let journal = journal();
        let first = journal.ask("put 1", vec![(key("t"), some("1"))]);
        let second = journal.ask("put 2", vec![(key("t"), some("2"))]);
        journal.end(&second, End::Done);
        journal.end(&first, End::Done);
        assert_eq!(journal.possible(&key("t")), [some("1"), some("2")]);
        settle(&journal, &[("t", some("1"))]);
        assert_eq!(journal.possible(&key("t")), [some("1")]);
    }

    #[test]
    fn a_request_that_was_cut_off_may_be_done_or_not() {
        let journal = journal();
        let _cut = journal.ask("put", vec![(key("t"), some("1"))]);
        assert_eq!(journal.possible(&key("t")), [None, some("1")]);
        settle(&journal, &[("t", None)]);
        assert_eq!(journal.possible(&key("t")), [None]);
        assert_eq!(journal.counts().in_flight_not_done, 1);
    }

    #[test]
    fn a_request_that_failed_cannot_follow_what_was_asked_later() {
        let journal = journal();
        let failed = journal.ask("put 1", vec![(key("t"), some("1"))]);
        journal.end(&failed, End::Unclear);
        assert_eq!(journal.possible(&key("t")), [None, some("1")]);
        let asked = journal.ask("put 2", vec![(key("t"), some("2"))]);
        journal.end(&asked, End::Done);
        assert_eq!(journal.possible(&key("t")), [some("2")]);
    }

    #[test]
    fn a_request_that_was_done_in_part_is_a_fault() {
        let found = |a: Value, b: Value| {
            let journal = journal();
            let _cut = journal.ask("put", vec![(key("a"), some("1")), (key("b"), some("1"))]);
            settle(&journal, &[("a", a), ("b", b)]);
            journal.faults().len()
        };
        assert_eq!(found(None, None), 0);
        assert_eq!(found(some("1"), some("1")), 0);
        assert_eq!(found(some("1"), None), 1);
        assert_eq!(found(None, some("1")), 1);
    }
}
