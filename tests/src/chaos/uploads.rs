// SPDX-License-Identifier: AGPL-3.0-only
//! How a client brings blobs: in one request, in two, in pieces over several rounds, broken off and
//! resumed, or mounted from another repository.

use std::io;
use std::time::Instant;

use super::journal::{Key, Kind};
use super::session::{Recipe, Session, Stage};
use super::worker::{SHARED, Worker};
use crate::http::{Request, Response};

/// Sessions that a client leaves open for later.
const OPEN: usize = 4;

impl Worker<'_> {
    /// Pushes bytes that all clients push.
    pub(crate) fn push_common(&mut self, which: usize) -> io::Result<()> {
        let common = self.round.common[which].clone();
        let repo = if self.rng.chance(70) { SHARED[0].to_owned() } else { self.own_repo() };
        self.push_blob(&repo, &common, &common.bytes()).map(drop)
    }

    /// Pushes bytes that no manifest will name: collection takes them if nobody mounts them.
    pub(crate) fn push_unnamed(&mut self) -> io::Result<()> {
        let (recipe, bytes) = self.new_content();
        let repo = self.own_repo();
        self.push_blob(&repo, &recipe, &bytes).map(drop)
    }

    /// Makes a blob be in a repository, as clients do before they push what names it; whether it is.
    pub(crate) fn ensure_blob(&mut self, repo: &str, recipe: &Recipe, bytes: &[u8]) -> io::Result<bool> {
        if self.rng.chance(40) {
            let key = Key::new(Kind::Blob, repo, &recipe.digest);
            let head = Request::new("HEAD", &format!("/v2/{repo}/blobs/{}", recipe.digest));
            let at = Instant::now();
            let response = self.exchange(&head)?;
            if response.status == 200 {
                self.journal.promised(&key, at);
                return Ok(true);
            }
            if self.must_stay(repo, &recipe.digest) {
                self.must_be(&response, &[200]);
            }
        }
        self.push_blob(repo, recipe, bytes)
    }

    pub(crate) fn push_blob(&mut self, repo: &str, recipe: &Recipe, bytes: &[u8]) -> io::Result<bool> {
        match self.rng.below(3) {
            0 => {
                let post = Request::new("POST", &format!("/v2/{repo}/blobs/uploads/"));
                let post = post.query("digest", &recipe.digest).body(bytes);
                let brings = vec![(Key::new(Kind::Blob, repo, &recipe.digest), Some(recipe.digest.clone()))];
                let response = self.change(&post, brings, 201)?;
                self.must_be(&response, &[201]);
                self.note_blob(&response, repo, recipe);
                Ok(response.status == 201)
            }
            1 => match self.begin(repo, recipe)? {
                Some(location) => self.finish(&location, bytes),
                None => Ok(false),
            },
            _ => {
                let Some(location) = self.begin(repo, recipe)? else { return Ok(false) };
                for _ in 0..self.rng.below(3) {
                    self.append(&location, bytes)?;
                }
                self.finish(&location, bytes)
            }
        }
    }

    fn note_blob(&mut self, response: &Response, repo: &str, recipe: &Recipe) {
        let blob = (repo.to_owned(), recipe.digest.clone());
        if response.status == 201 && !SHARED.contains(&repo) && !self.blobs.contains(&blob) {
            self.blobs.push(blob);
        }
    }

    /// Opens a session.
    fn begin(&mut self, repo: &str, recipe: &Recipe) -> io::Result<Option<String>> {
        let at = Instant::now();
        let response = self.exchange(&Request::new("POST", &format!("/v2/{repo}/blobs/uploads/")))?;
        self.must_be(&response, &[202]);
        Ok(self.opened(&response, repo, recipe, at))
    }

    fn opened(&mut self, response: &Response, repo: &str, recipe: &Recipe, at: Instant) -> Option<String> {
        let location = response.header("location").filter(|_| response.status == 202)?;
        self.journal.open_session(location, Session::new(self.number, repo, recipe, at));
        Some(location.to_owned())
    }

    fn session(&self, location: &str) -> Option<Session> {
        let mut found = None;
        self.journal.session(location, |session| {
            found = Some(session.clone());
            true
        });
        found
    }

    /// Sends the next bytes of a session, sometimes only some of those that were announced.
    fn append(&mut self, location: &str, bytes: &[u8]) -> io::Result<()> {
        let Some(session) = self.session(location) else { return Ok(()) };
        let from = session.position;
        let left = bytes.len() - from;
        if left == 0 || session.stage != Stage::Open {
            return Ok(());
        }
        // At least two bytes, because `0-0` means none as well as one.
        let len = (2 + self.rng.below(left as u64)).min(left as u64);
        let to = from + usize::try_from(len).unwrap_or(left);
        let patch = Request::new("PATCH", location)
            .header("Content-Type", "application/octet-stream")
            .header("Content-Range", &format!("{from}-{}", to - 1));
        self.journal.session(location, |session| {
            session.sent = session.sent.max(to);
            true
        });
        if self.rng.chance(8) {
            return self.wire.break_off(&patch, &bytes[from..to]);
        }
        let at = Instant::now();
        let response = self.exchange(&patch.body(&bytes[from..to]))?;
        match response.status {
            202 if response.header("range") == Some(&format!("0-{}", to - 1)) => {
                self.journal.session(location, |session| {
                    (session.acknowledged, session.position, session.touched) = (to, to, at);
                    true
                });
            }
            202 => self.fault(&response, &format!("{from}-{to} was sent, not what {response:?} says")),
            // What was broken off before may have come further than was acknowledged.
            416 if session.sent > from => self.ask(location)?,
            404 if self.expired(session.touched) => self.journal.session(location, |_| false),
            _ => self.must_be(&response, &[202]),
        }
        Ok(())
    }

    /// Asks how far a session is.
    fn ask(&mut self, location: &str) -> io::Result<()> {
        let response = self.exchange(&Request::get(location))?;
        if response.status != 204 {
            return Ok(());
        }
        let mut wrong = None;
        self.journal.session(location, |session| {
            match offset(&response) {
                Some(offset) if (session.acknowledged..=session.sent).contains(&offset) => {
                    session.position = offset;
                }
                other => wrong = Some(format!("{other:?} bytes of {session:?}")),
            }
            true
        });
        if let Some(wrong) = wrong {
            self.fault(&response, &wrong);
        }
        Ok(())
    }

    /// Sends what is left of a session and closes it; whether its blob is there now.
    fn finish(&mut self, location: &str, bytes: &[u8]) -> io::Result<bool> {
        let Some(session) = self.session(location) else { return Ok(false) };
        if session.stage != Stage::Open {
            return Ok(false);
        }
        let (from, recipe, repo) = (session.position, &session.recipe, &session.repo);
        let mut put = Request::new("PUT", location).query("digest", &recipe.digest);
        if from < bytes.len() {
            put = put.header("Content-Range", &format!("{from}-{}", bytes.len() - 1)).body(&bytes[from..]);
        }
        let at = Instant::now();
        self.journal.session(location, |session| {
            (session.sent, session.stage) = (bytes.len(), Stage::Finishing);
            true
        });
        let brings = vec![(Key::new(Kind::Blob, repo, &recipe.digest), Some(recipe.digest.clone()))];
        let response = self.change(&put, brings, 201)?;
        let reopen = |session: &mut Session| {
            session.stage = Stage::Open;
            true
        };
        match response.status {
            201 => {
                self.note_blob(&response, repo, recipe);
                self.journal.session(location, |session| {
                    (session.stage, session.touched) = (Stage::Ended, at);
                    true
                });
            }
            // A wrong digest is one whatever happened before: the bytes are not those that were sent.
            400 => self.fault(&response, &format!("the bytes of {session:?} are wrong")),
            404 if self.expired(session.touched) => self.journal.session(location, |_| false),
            416 if session.sent > from => {
                self.journal.session(location, reopen);
                self.ask(location)?;
            }
            500.. => {}
            _ => {
                self.journal.session(location, reopen);
                self.fault(&response, &format!("must be 201, and this is {session:?}"));
            }
        }
        Ok(response.status == 201)
    }

    fn cancel(&mut self, location: &str, touched: Instant) -> io::Result<()> {
        self.journal.session(location, |session| {
            session.stage = Stage::Cancelling;
            true
        });
        let response = self.exchange(&Request::new("DELETE", location))?;
        match response.status {
            204 => self.journal.session(location, |session| {
                session.stage = Stage::Ended;
                true
            }),
            404 if self.expired(touched) => self.journal.session(location, |_| false),
            _ => self.must_be(&response, &[204]),
        }
        Ok(())
    }

    /// Takes a session up where it stands, or opens one; it need not end in this round.
    pub(crate) fn advance_session(&mut self) -> io::Result<()> {
        let open: Vec<_> = self
            .journal
            .sessions()
            .into_iter()
            .filter(|(_, session)| session.owner == self.number && session.stage == Stage::Open)
            .collect();
        if open.len() < OPEN && self.rng.chance(40) {
            let (recipe, bytes) = self.new_content();
            let repo = self.own_repo();
            if let Some(location) = self.begin(&repo, &recipe)? {
                self.append(&location, &bytes)?;
            }
            return Ok(());
        }
        let Some((location, session)) = self.rng.pick(&open) else { return Ok(()) };
        let bytes = session.recipe.bytes();
        match self.rng.below(10) {
            0 => self.cancel(location, session.touched),
            1..4 => self.finish(location, &bytes).map(drop),
            _ => self.append(location, &bytes),
        }
    }

    /// Mounts a blob of one repository into another.
    pub(crate) fn mount(&mut self) -> io::Result<()> {
        let common = self.rng.chance(30);
        let source = if common {
            self.rng.pick(self.round.common).map(|common| (SHARED[0].to_owned(), common.digest.clone()))
        } else {
            self.rng.pick(&self.blobs).cloned()
        };
        let Some((from, digest)) = source else { return Ok(()) };
        let Some(recipe) = self.journal.recipe(&digest) else { return Ok(()) };
        let repo = self.some_repo();
        let post = Request::new("POST", &format!("/v2/{repo}/blobs/uploads/"));
        let post = post.query("mount", &digest).query("from", &from);
        let at = Instant::now();
        let brings = vec![(Key::new(Kind::Blob, &repo, &digest), Some(digest.clone()))];
        let response = self.change(&post, brings, 201)?;
        if self.must_stay(&from, &digest) {
            self.must_be(&response, &[201]);
        } else {
            self.must_be(&response, &[201, 202]);
        }
        self.note_blob(&response, &repo, &recipe);
        match self.opened(&response, &repo, &recipe, at) {
            Some(location) => self.finish(&location, &recipe.bytes()).map(drop),
            None => Ok(()),
        }
    }
}

/// How many bytes an answer says are there: nothing at all is `0-0` too.
pub(crate) fn offset(response: &Response) -> Option<usize> {
    let last: usize = response.header("range")?.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
