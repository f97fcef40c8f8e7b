// SPDX-License-Identifier: AGPL-3.0-only
//! One of several clients that work at the same time. Each has repositories of its own, where it knows
//! exactly what every request must answer, and all share two more, where they push the same digests,
//! delete them under each other's hands and move the same tags. A client goes on until its server is gone.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::journal::{Document, End, Journal, Key, Kind, Value};
use super::rng::Rng;
use super::session::Recipe;
use super::wire::Wire;
use crate::http::{Request, Response};

/// Repositories in which all clients work.
pub(crate) const SHARED: [&str; 2] = ["shared/x", "shared/y"];
/// Manifests of one client over which it deletes rather than pushes.
const MANY: usize = 60;

/// What all clients of a round have in common.
#[derive(Debug)]
pub(crate) struct Round<'c> {
    pub(crate) host: &'c str,
    pub(crate) journal: &'c Journal,
    /// For how long an upload session stays after it was last touched.
    pub(crate) uploads: Duration,
    /// Contents that everybody pushes in this round.
    pub(crate) common: &'c [Recipe],
    /// Whether the disk has begun to fail, or will in a moment.
    pub(crate) interrupted: &'c AtomicBool,
    pub(crate) stop: &'c AtomicBool,
    /// Whether the server lives on, failing, when its disk does; else an error ends the client's work.
    pub(crate) survives: bool,
}

/// A client and what it has in the registry.
pub(crate) struct Worker<'c> {
    pub(crate) number: usize,
    pub(crate) round: &'c Round<'c>,
    pub(crate) journal: &'c Journal,
    pub(crate) wire: Wire,
    pub(crate) rng: Rng,
    pub(crate) images: Vec<Arc<Document>>,
    /// Manifests that it has deleted and that nothing referred to.
    pub(crate) deleted: Vec<Arc<Document>>,
    /// Repository, tag and the digest that it points at.
    pub(crate) tags: Vec<(String, String, String)>,
    /// Repository and digest of what it pushed, named by a manifest or not.
    pub(crate) blobs: Vec<(String, String)>,
    /// Once something failed, what the registry holds is known no longer until the next check.
    pub(crate) unsure: bool,
    made: u64,
}

impl<'c> Worker<'c> {
    /// Takes up what the last check found of client `number`.
    pub(crate) fn new(number: usize, round: &'c Round<'c>, rng: Rng) -> Self {
        let journal = round.journal;
        let documents = journal.documents();
        let subjects: BTreeSet<_> = documents.iter().filter_map(|image| image.subject.clone()).collect();
        let (images, gone): (Vec<_>, Vec<_>) = documents
            .into_iter()
            .filter(|image| image.owner == number)
            .partition(|image| journal.settled(&image.key()).is_some());
        let deleted =
            gone.into_iter().filter(|image| image.subject.is_none() && !subjects.contains(&image.digest));
        let own = |key: &Key| key.repo.starts_with(&format!("w{number}/"));
        let prefix = format!("w{number}-");
        let there = |kind| {
            let with_value = |key: Key| journal.settled(&key).map(|value| (key, value));
            journal.keys(kind).into_iter().filter_map(with_value)
        };
        Self {
            number,
            round,
            journal,
            wire: Wire::new(round.host),
            rng,
            images,
            deleted: deleted.collect(),
            tags: there(Kind::Tag)
                .filter(|(key, _)| key.name.starts_with(&prefix))
                .map(|(key, value)| (key.repo, key.name, value))
                .collect(),
            blobs: there(Kind::Blob)
                .filter(|(key, _)| own(key))
                .map(|(key, _)| (key.repo, key.name))
                .collect(),
            unsure: false,
            made: 0,
        }
    }

    /// Works until the server is gone or the round ends.
    pub(crate) fn run(mut self) {
        // All begin with the same bytes in the same repository.
        let mut worked = self.push_common(0);
        loop {
            if let Err(error) = worked
                && (!self.round.survives || error.kind() == io::ErrorKind::ConnectionRefused)
            {
                return;
            }
            if self.round.stop.load(Ordering::Relaxed) {
                return;
            }
            worked = self.act();
        }
    }

    fn act(&mut self) -> io::Result<()> {
        if self.images.len() > MANY && self.rng.chance(40) {
            return self.delete_image();
        }
        match self.rng.below(100) {
            0..28 => self.push_image(),
            28..34 => self.push_unnamed(),
            34..44 => self.advance_session(),
            44..52 => self.move_tag(),
            52..58 => self.delete_tag(),
            58..65 => self.delete_image(),
            65..72 => self.delete_blob(),
            72..78 => self.mount(),
            78..83 => self.push_referrer(),
            83..86 => self.push_index(),
            86..89 => self.push_again(),
            89..92 => {
                let which = usize::try_from(self.rng.below(self.round.common.len() as u64)).unwrap_or(0);
                self.push_common(which)
            }
            _ => self.read(),
        }
    }

    /// Sends a request that gives registers new values when it is answered with `done`.
    pub(crate) fn change(
        &mut self,
        request: &Request,
        writes: Vec<(Key, Value)>,
        done: u16,
    ) -> io::Result<Response> {
        let asked = self.journal.ask(&request.line(), writes);
        let response = self.exchange(request)?;
        let end = match response.status {
            status if status == done => End::Done,
            500.. => End::Unclear,
            _ => End::Refused,
        };
        self.journal.end(&asked, end);
        Ok(response)
    }

    /// Sends a request; a server that is well never fails.
    pub(crate) fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        let answer = self.wire.exchange(request);
        match &answer {
            Ok(response) if response.status >= 500 => {
                self.unsure = true;
                if !self.round.survives || !self.round.interrupted.load(Ordering::SeqCst) {
                    self.fault(response, "a server that is well must not fail");
                }
            }
            Ok(_) => {}
            Err(_) => self.unsure = true,
        }
        answer
    }

    /// Notes a fault unless the answer has one of these statuses. Once something failed only a wrong
    /// success is one.
    pub(crate) fn must_be(&self, response: &Response, statuses: &[u16]) {
        if !statuses.contains(&response.status) && !self.unsure {
            self.fault(response, &format!("must be one of {statuses:?}"));
        }
    }

    pub(crate) fn fault(&self, response: &Response, wrong: &str) {
        let body: String = String::from_utf8_lossy(&response.body).chars().take(300).collect();
        let (number, what, status) = (self.number, &response.what, response.status);
        self.journal.fault(format!("client {number}: {what}: {status}, {wrong}: {body}"));
    }

    /// Whether a blob of a repository of its own has to be there: it was pushed, and a manifest names
    /// it or the promise holds. To be asked after the answer, and always false where others delete.
    pub(crate) fn must_stay(&self, repo: &str, digest: &str) -> bool {
        let key = Key::new(Kind::Blob, repo, digest);
        !self.unsure
            && !SHARED.contains(&repo)
            && self.journal.possible(&key).iter().all(Option::is_some)
            && (self.named(repo, digest) || self.journal.holds(&key))
    }

    /// Whether a manifest of its own holds a blob. Evidence may come before its blobs, so it proves nothing.
    pub(crate) fn named(&self, repo: &str, digest: &str) -> bool {
        self.images.iter().any(|image| {
            let names = image.repo == repo && image.blobs.iter().any(|blob| blob == digest);
            names && image.subject.is_none()
        })
    }

    /// Whether collection lets a manifest be: evidence goes after its subject.
    pub(crate) fn stays(&self, image: &Document) -> bool {
        let Some(subject) = &image.subject else { return true };
        self.images.iter().any(|other| other.repo == image.repo && other.digest == *subject)
    }

    /// A repository: mostly one of its own.
    pub(crate) fn some_repo(&mut self) -> String {
        if self.rng.chance(30) {
            return (*self.rng.pick(&SHARED).unwrap_or(&SHARED[0])).to_owned();
        }
        self.own_repo()
    }

    pub(crate) fn own_repo(&mut self) -> String {
        format!("w{}/{}", self.number, if self.rng.chance(70) { "a" } else { "b" })
    }

    /// Bytes that were never there before.
    pub(crate) fn new_content(&mut self) -> (Recipe, Vec<u8>) {
        let most = match self.rng.below(100) {
            0..50 => 4 << 10,
            50..88 => 128 << 10,
            88..99 => 1 << 20,
            _ => 6 << 20,
        };
        let len = 2 + self.rng.below(most);
        let made = Recipe::new(self.rng.next(), usize::try_from(len).unwrap_or(2));
        self.journal.remember(&made.0);
        made
    }

    /// The name of a tag that it has not used in this round.
    pub(crate) fn new_tag(&mut self) -> String {
        self.made += 1;
        format!("w{}-{:x}-{}", self.number, self.rng.next() >> 40, self.made)
    }

    /// Reads something of its own, which must be there as it was pushed.
    fn read(&mut self) -> io::Result<()> {
        let Some(image) = self.rng.pick(&self.images).map(Arc::clone) else { return Ok(()) };
        let request = Request::get(&format!("/v2/{}/manifests/{}", image.repo, image.digest));
        let response = self.exchange(&request)?;
        let stays = self.stays(&image);
        if response.status == 200 && response.body != image.bytes {
            self.fault(&response, "these are not the bytes that were pushed");
        } else if stays {
            self.must_be(&response, &[200]);
        }
        let Some(blob) = self.rng.pick(&image.blobs) else { return Ok(()) };
        let response = self.exchange(&Request::get(&format!("/v2/{}/blobs/{blob}", image.repo)))?;
        if response.status == 200 && crate::digest(&response.body) != *blob {
            self.fault(&response, "these are not the bytes of the digest");
        } else if self.named(&image.repo, blob) {
            self.must_be(&response, &[200]);
        }
        Ok(())
    }

    pub(crate) fn expired(&self, touched: Instant) -> bool {
        touched.elapsed() >= self.round.uploads
    }
}
