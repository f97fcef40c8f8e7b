// SPDX-License-Identifier: AGPL-3.0-only
//! Compares everything that the server holds with what the journal says it may hold. The server is asked
//! in ways that change nothing, so that collection goes on meanwhile as if nobody looked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::journal::{Document, Journal, Key, Kind, Value};
use super::session::Stage;
use super::uploads::offset;
use super::wire::Wire;
use crate::http::{Request, Response};
use crate::noise::{digest, digest_of};

/// Connections by which a check asks.
const CONNECTIONS: usize = 4;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Registers that were read.
    pub(crate) looked_at: usize,
    /// Those that hold something.
    pub(crate) present: usize,
    /// Upload sessions that can go on.
    pub(crate) sessions: usize,
    /// Blobs and evidence that are still there and that collection may take.
    pub(crate) collectable: usize,
    /// The digests of all blobs that are there, in whatever repository.
    contents: BTreeSet<String>,
}

/// Checks everything, with `all` also what was found to be gone long ago, and lets the journal go on from
/// what was found.
pub(crate) fn check(host: &str, journal: &Journal, uploads: Duration, all: bool) -> io::Result<Found> {
    let mut check = Check {
        host,
        journal,
        keys: if all { Journal::keys } else { Journal::keys_due },
        all: BTreeMap::new(),
        documents: BTreeMap::new(),
    };
    for document in journal.documents() {
        check.documents.insert(document.key(), document);
    }
    check.look_at(Kind::Manifest)?;
    check.look_at(Kind::Tag)?;
    check.tags_lead_somewhere();
    let orphans = check.orphans();
    let mut found = Found { collectable: orphans.len(), ..Found::default() };
    check.look_at(Kind::Blob)?;
    check.blobs_stay(&orphans, &mut found);
    check.lists(&orphans)?;
    found.sessions = check.sessions(uploads)?;
    found.looked_at = check.all.len();
    found.present = check.all.values().flatten().count();
    journal.settle(&check.all);
    Ok(found)
}

struct Check<'c> {
    host: &'c str,
    journal: &'c Journal,
    keys: fn(&Journal, Kind) -> Vec<Key>,
    all: BTreeMap<Key, Value>,
    documents: BTreeMap<Key, Arc<Document>>,
}

impl Check<'_> {
    /// Reads all registers of a kind, over several connections.
    fn look_at(&mut self, kind: Kind) -> io::Result<()> {
        let keys = (self.keys)(self.journal, kind);
        let part = keys.len().div_ceil(CONNECTIONS).max(1);
        let read: Vec<io::Result<Vec<(Key, Value)>>> = thread::scope(|scope| {
            let readers: Vec<_> = keys.chunks(part).map(|keys| scope.spawn(|| self.read(keys))).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        for part in read {
            self.all.extend(part?);
        }
        Ok(())
    }

    fn read(&self, keys: &[Key]) -> io::Result<Vec<(Key, Value)>> {
        let mut wire = Wire::new(self.host);
        keys.iter().map(|key| Ok((key.clone(), self.read_one(&mut wire, key)?))).collect()
    }

    fn read_one(&self, wire: &mut Wire, key: &Key) -> io::Result<Value> {
        let kind = if key.kind == Kind::Blob { "blobs" } else { "manifests" };
        let request = Request::get(&format!("/v2/{}/{kind}/{}", key.repo, key.name));
        let response = match wire.exchange(&request) {
            Ok(response) => response,
            // Where nobody listens any more, the rest need not be asked for.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
            Err(error) => {
                self.journal.fault(format!("{}: {error}:\n    {}", request.line(), self.journal.story(key)));
                return Ok(self.journal.possible(key).pop().flatten());
            }
        };
        let value = match response.status {
            404 => None,
            200 => {
                let read = digest(&response.body);
                let said = response.header("docker-content-digest");
                if said != Some(&read) || (key.kind != Kind::Tag && read != key.name) {
                    self.fault(&response, &format!("these are the bytes of {read}, it says {said:?}"));
                }
                let manifest = Key::new(Kind::Manifest, &key.repo, &read);
                if key.kind != Kind::Blob
                    && let Some(document) = self.documents.get(&manifest)
                    && response.header("content-type") != Some(document.media_type)
                {
                    self.fault(&response, &format!("must have the type {}", document.media_type));
                }
                Some(read)
            }
            _ => {
                self.fault(&response, "cannot be read");
                return Ok(self.journal.possible(key).pop().flatten());
            }
        };
        // Blobs and evidence may be collected; that is judged when all manifests are known.
        let possible = self.journal.possible(key);
        let collected = value.is_none() && self.may_be_collected(key);
        if !collected && !possible.contains(&value) {
            let story = self.journal.story(key);
            let wrong = format!("found {value:?}, possible is {possible:?}:\n    {story}\n   ");
            self.fault(&response, &wrong);
        }
        Ok(value)
    }

    fn may_be_collected(&self, key: &Key) -> bool {
        match key.kind {
            Kind::Tag => false,
            Kind::Blob => true,
            Kind::Manifest => {
                let subject = self.documents.get(key).and_then(|document| document.subject.as_ref());
                let subject = subject.map(|subject| Key::new(Kind::Manifest, &key.repo, subject));
                // A subject that never came cannot go.
                let known = subject.filter(|subject| self.documents.contains_key(subject));
                known.is_some_and(|subject| {
                    self.journal.possible(&subject).contains(&None) && !self.journal.holds(key)
                })
            }
        }
    }

    fn is_there(&self, key: &Key) -> bool {
        self.all.get(key).is_some_and(Option::is_some)
    }

    fn tags_lead_somewhere(&self) {
        for (key, value) in self.all.iter().filter(|(key, _)| key.kind == Kind::Tag) {
            if let Some(digest) = value
                && !self.is_there(&Key::new(Kind::Manifest, &key.repo, digest))
            {
                self.journal.fault(format!("the tag {key:?} leads to {digest}, which is not there"));
            }
        }
    }

    /// Manifests that are there, although their subject has gone: collection may take them at any time.
    fn orphans(&self) -> BTreeSet<Key> {
        let orphan = |document: &Arc<Document>| {
            let subject = Key::new(Kind::Manifest, &document.repo, document.subject.as_ref()?);
            let gone = self.documents.contains_key(&subject) && !self.is_there(&subject);
            (gone && self.is_there(&document.key())).then(|| document.key())
        };
        self.documents.values().filter_map(orphan).collect()
    }

    /// A blob is there if a manifest that stays names it, or if it is promised.
    fn blobs_stay(&self, orphans: &BTreeSet<Key>, found: &mut Found) {
        let mut named = BTreeSet::new();
        for document in self.documents.values() {
            let key = document.key();
            if !self.is_there(&key) || orphans.contains(&key) {
                continue;
            }
            let blobs = document.blobs.iter().map(|blob| Key::new(Kind::Blob, &document.repo, blob));
            if document.subject.is_none() {
                named.extend(blobs);
            } else if self.journal.settled(&key).is_some() {
                // Evidence may come before its blobs; from when both are there it holds them.
                named.extend(blobs.filter(|blob| self.journal.settled(blob).is_some()));
            }
        }
        let mut collected = 0;
        for (key, value) in self.all.iter().filter(|(key, _)| key.kind == Kind::Blob) {
            let possible = self.journal.possible(key);
            match value {
                Some(digest) => {
                    found.contents.insert(digest.clone());
                    found.collectable += usize::from(!named.contains(key));
                }
                None if named.contains(key) => {
                    self.gone(key, "a manifest there names it");
                }
                None if !possible.contains(&None) && self.journal.holds(key) => {
                    self.gone(key, "it was promised");
                }
                None => collected += u64::from(!possible.contains(&None)),
            }
        }
        for key in named.iter().filter(|key| !self.all.contains_key(key)) {
            self.journal.fault(format!("{key:?} is named by a manifest and long gone"));
        }
        self.journal.count_collected(collected);
    }

    fn gone(&self, key: &Key, although: &str) {
        let mut story = vec![self.journal.story(key)];
        for document in self.documents.values().filter(|document| document.blobs.contains(&key.name)) {
            let key = document.key();
            if self.is_there(&key) {
                story.push(format!("{key:?}:\n    {}", self.journal.story(&key)));
            }
        }
        let story = story.join("\n  ");
        self.journal.fault(format!("{key:?} is gone, although {although}:\n    {story}"));
    }

    /// Lists hold what can be read one by one, neither less nor more.
    fn lists(&self, orphans: &BTreeSet<Key>) -> io::Result<()> {
        let mut wire = Wire::new(self.host);
        let mut tags: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (key, value) in self.all.iter().filter(|(key, _)| key.kind == Kind::Tag) {
            let there = tags.entry(&key.repo).or_default();
            there.extend(value.as_ref().map(|_| key.name.as_str()));
        }
        for (repo, there) in tags {
            let response = wire.exchange(&Request::get(&format!("/v2/{repo}/tags/list")))?;
            let listed = match response.status {
                404 => Vec::new(),
                _ => names(&response, |list| list["tags"].as_array(), serde_json::Value::as_str),
            };
            if listed != there {
                self.fault(&response, &format!("must be {there:?}"));
            }
        }
        let mut referrers: BTreeMap<(&str, &str), Vec<&Arc<Document>>> = BTreeMap::new();
        for document in self.documents.values() {
            if let Some(subject) = &document.subject {
                referrers.entry((&document.repo, subject)).or_default().push(document);
            }
        }
        for ((repo, subject), all) in referrers {
            let response = wire.exchange(&Request::get(&format!("/v2/{repo}/referrers/{subject}")))?;
            let mut listed =
                names(&response, |list| list["manifests"].as_array(), |it| it["digest"].as_str());
            let there = all.iter().filter(|document| self.is_there(&document.key()));
            let (loose, firm): (Vec<&Arc<Document>>, Vec<_>) =
                there.partition(|document| orphans.contains(&document.key()));
            let mut firm: Vec<String> = firm.into_iter().map(|it| it.digest.clone()).collect();
            // What may be collected at any time need not be listed any more.
            listed.retain(|listed| !loose.iter().any(|document| document.digest == *listed));
            listed.sort();
            firm.sort();
            if listed != firm {
                self.fault(&response, &format!("must be {firm:?}"));
            }
        }
        Ok(())
    }

    /// Each session stands where the journal says that it may; how many can go on.
    fn sessions(&self, uploads: Duration) -> io::Result<usize> {
        let mut wire = Wire::new(self.host);
        let mut alive = 0;
        for (location, session) in self.journal.sessions() {
            let response = wire.exchange(&Request::get(&location))?;
            let expired = session.touched.elapsed() >= uploads;
            let blob = Key::new(Kind::Blob, &session.repo, &session.recipe.digest);
            let stands = match response.status {
                204 => offset(&response),
                _ => None,
            };
            match (session.stage, response.status) {
                (Stage::Ended | Stage::Cancelling, 404) => {}
                (Stage::Ended, _) => self.fault(&response, "this upload was acknowledged to have ended"),
                (_, 204) if stands.is_none_or(|at| at < session.acknowledged || at > session.sent) => {
                    self.fault(&response, &format!("{stands:?} bytes are not those of {session:?}"));
                }
                (_, 204) => alive += 1,
                (Stage::Finishing, 404)
                    if self.is_there(&blob) || !self.journal.is_recent(session.touched) => {}
                (Stage::Open, 404) if expired => {}
                _ => self.fault(&response, &format!("{session:?} is lost")),
            }
            self.journal.session(&location, |session| {
                let Some(at) = stands else { return false };
                // `0-0` means one byte as well as none.
                (session.acknowledged, session.position, session.sent) = (at, at, at.max(1));
                session.stage = Stage::Open;
                true
            });
        }
        Ok(alive)
    }

    fn fault(&self, response: &Response, wrong: &str) {
        let body: String = String::from_utf8_lossy(&response.body).chars().take(300).collect();
        let headers = response.header("range");
        self.journal.fault(format!("{}: {}, {wrong}: {headers:?} {body}", response.what, response.status));
    }
}

/// Names out of a list in JSON.
fn names(
    response: &Response,
    list: impl Fn(&serde_json::Value) -> Option<&Vec<serde_json::Value>>,
    name: impl Fn(&serde_json::Value) -> Option<&str>,
) -> Vec<String> {
    let json = response.json();
    let items = list(&json).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| name(item).map(str::to_owned)).collect()
}

/// What is wrong with the files of blobs, if anything: each content that can be read has one, and
/// nothing else is there.
pub(crate) fn stray_files(data: &Path, found: &Found) -> io::Result<Option<String>> {
    let mut missing = found.contents.clone();
    for folder in fs::read_dir(data.join("blobs"))? {
        for file in fs::read_dir(folder?.path())? {
            let path = file?.path();
            let digest = match fs::File::open(&path).and_then(|mut file| digest_of(&mut file)) {
                Ok((digest, _)) => digest,
                // Collection was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if !missing.remove(&digest) {
                return Ok(Some(format!("{} with the content {digest} belongs to nothing", path.display())));
            }
        }
    }
    Ok(missing.pop_first().map(|digest| format!("no file has the content {digest}")))
}

/// Asks whether the server is ready, and what it says about it.
pub(crate) fn readiness(host: &str) -> io::Result<(u16, String)> {
    let response = Wire::new(host).exchange(&Request::get("/readyz"))?;
    Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
}

/// Waits until the server is ready; how long that took since `began`.
pub(crate) fn wait_until_ready(host: &str, began: Instant) -> Duration {
    crate::poll("the server to be ready", Duration::from_mins(1), || {
        readiness(host).is_ok_and(|(status, _)| status == 200).then(|| began.elapsed())
    })
}
