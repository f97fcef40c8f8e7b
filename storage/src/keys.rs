// SPDX-License-Identifier: AGPL-3.0-only
//! The key space: every key of the metadata engine is built and read here, nowhere else.
//!
//! | table | key after the table's byte | value ([`crate::rows`]) | answers |
//! | --- | --- | --- | --- |
//! | `m` meta | name | number | schema version, next repository id |
//! | `n` repository by name | name | `Repository` | catalog pages, name → id |
//! | `i` repository by id | repo | name | id → name, for rules and reports |
//! | `l` link | repo, digest | `Link` | is this blob readable here, since when, leased until |
//! | `k` links of a content | sha256, repo, digest | – | last link? a source for a mount |
//! | `c` content | sha256 | `Content` | where the bytes lie |
//! | `a` alias | sha512 | sha256 | content by its other digest |
//! | `x` manifest | repo, digest | `Manifest` | existence, type, size, lease |
//! | `b` manifest bytes | repo, digest | the bytes as pushed | GET |
//! | `f` references of a manifest | repo, manifest | `References` | which edges to remove with it |
//! | `e` edge | repo, target, manifest | kinds | who names this digest |
//! | `t` tag | repo, tag | `Tag` | resolve, tag pages |
//! | `u` tags of a manifest | repo, digest, tag | – | tags that go with a manifest |
//! | `h` moves of a tag | repo, tag, inverted number | `TagMove` | history, newest first |
//! | `s` referrer | repo, subject, artifact type, digest | the finished descriptor (JSON) | referrers pages |
//! | `p` upload | id | `Upload` | sessions |
//! | `v` review | shard, due, kind, subject of the review | – | collection's work queue |
//! | `g` garbage | shard, delete after, location | `Garbage` | objects to delete |
//! | `q` last pull | repo, tag | `LastPull` | retention, impact of a policy |
//! | `r` robot | name | `Robot` | who has this secret, and may do what |
//! | `w` last use of a robot | name | `RobotUse` | which robots nobody needs |
//! | `y` refresh token | sha256 | `RefreshToken` | whom it stands for |
//! | `j` refresh tokens of a subject | sha256 of the subject, created, sha256 | – | revoking them all, the oldest |
//! | `d` refresh tokens that expire | shard, expires, sha256 | – | which ones to sweep |
//! | `o` signing key | kid | `SigningKey` | signing tokens, and checking them |
//! | `z` allowance | digest, repository or nothing | `Allowance` | what is let through whatever policies say |
//!
//! Repositories are interned as 32-bit ids and digests stored as raw bytes, because keys decide the
//! size of the store. Numbers are big-endian and text in the middle of a key is escaped and
//! terminated, so the order of keys is the order of their parts. Queues begin with a hash shard:
//! on a shared database, time-ordered keys would all conflict at the index's right edge.

use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::local::Location;
use crate::name::{RepoName, Tag};

mod any;
mod credentials;

pub(crate) use any::{Key, TABLES};
pub(crate) use credentials::*;

/// A repository's interned id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub(crate) struct RepoId(#[n(0)] pub(crate) u32);

/// What a review row asks collection to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// A blob link or a manifest, or both, of this digest that may be unprotected.
    Object(RepoId, Digest),
    /// Referrers whose subject went.
    Referrers(RepoId, Digest),
    /// The moves of a deleted tag.
    TagHistory(RepoId, Tag),
    /// An upload session that may be abandoned.
    Upload(Location),
}

/// How many parts each queue has.
pub(crate) const SHARDS: u8 = 16;

pub(crate) const SCHEMA_VERSION: &[u8] = b"mschema";
pub(crate) const NEXT_REPOSITORY: &[u8] = b"mnext-repository";
/// Written to see whether writing works again.
pub(crate) const PROBE: &[u8] = b"mprobe";
/// Present: collection is off; the value says why, for a person.
pub(crate) const COLLECTION_OFF: &[u8] = b"mcollection";
/// Until when collection waits, after the clock jumped.
pub(crate) const COLLECTION_PAUSE: &[u8] = b"mpause";
/// The policies that were in force last, and their number.
pub(crate) const POLICY_EPOCH: &[u8] = b"mpolicy";
/// The rules by which untagged manifests were last judged, and how far a change of them has come.
pub(crate) const RULES: &[u8] = b"mrules";
/// How far the reading of everything has come.
pub(crate) const SCRUB: &[u8] = b"mscrub";
pub(crate) const REPOSITORIES: &[u8] = b"n";
pub(crate) const REPOSITORIES_BY_ID: &[u8] = b"i";
pub(crate) const MANIFESTS: &[u8] = b"x";
pub(crate) const UPLOADS: &[u8] = b"p";

/// Room for a repository and a SHA-256, which is all that most keys have: pulls build them by the dozen.
const USUAL: usize = 40;

/// Builds a key part by part; each part keeps the order of what it encodes.
struct Builder(Vec<u8>);

impl Builder {
    fn table(tag: u8) -> Self {
        let mut key = Vec::with_capacity(USUAL);
        key.push(tag);
        Builder(key)
    }

    fn repo(self, repo: RepoId) -> Self {
        self.raw(&repo.0.to_be_bytes())
    }

    fn time(self, time: Timestamp) -> Self {
        self.raw(&time.0.to_be_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Text that is not the last part: NUL becomes `00 ff`, the end is `00 00`.
    fn text(mut self, text: &str) -> Self {
        for &byte in text.as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.extend_from_slice(&[0, 0]);
        self
    }

    fn digest(self, digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(bytes) => self.raw(&[1]).raw(bytes),
            Digest::Sha512(bytes) => self.raw(&[2]).raw(bytes),
            Digest::Other(text) => self.raw(&[0xff]).text(text),
        }
    }

    fn build(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a key part by part, in the order in which it was built.
struct Parts<'k>(&'k [u8]);

impl<'k> Parts<'k> {
    fn after<'p>(key: &'k [u8], prefix: &'p [u8]) -> Result<Self> {
        key.strip_prefix(prefix).map(Parts).ok_or_else(damaged)
    }

    fn take(&mut self, len: usize) -> Result<&'k [u8]> {
        let (head, tail) = self.0.split_at_checked(len).ok_or_else(damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged())
    }

    fn repo(&mut self) -> Result<RepoId> {
        Ok(RepoId(u32::from_be_bytes(self.array()?)))
    }

    fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp(u64::from_be_bytes(self.array()?)))
    }

    fn text(&mut self) -> Result<String> {
        let mut text = Vec::new();
        loop {
            match self.take(1)? {
                [0] => match self.take(1)? {
                    [0] => return String::from_utf8(text).map_err(|_| damaged()),
                    [0xff] => text.push(0),
                    _ => return Err(damaged()),
                },
                byte => text.extend_from_slice(byte),
            }
        }
    }

    fn digest(&mut self) -> Result<Digest> {
        match self.take(1)? {
            [1] => Ok(Digest::Sha256(self.array()?)),
            [2] => Ok(Digest::Sha512(self.array()?)),
            [0xff] => Ok(Digest::Other(self.text()?.into())),
            _ => Err(damaged()),
        }
    }

    fn rest(self) -> Result<&'k str> {
        std::str::from_utf8(self.0).map_err(|_| damaged())
    }

    fn end<T>(self, value: T) -> Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(damaged()) }
    }
}

fn damaged() -> Error {
    Error::Corrupt("a key of the metadata engine cannot be read".to_owned())
}

/// The encoding of a digest inside keys; rows use it too.
pub(crate) fn digest_bytes(digest: &Digest) -> Vec<u8> {
    Builder(Vec::with_capacity(65)).digest(digest).build()
}

/// Reads what [`digest_bytes`] wrote.
pub(crate) fn read_digest(bytes: &[u8]) -> Result<Digest> {
    let mut parts = Parts(bytes);
    let digest = parts.digest()?;
    parts.end(digest)
}

pub(crate) fn repository(name: &str) -> Vec<u8> {
    Builder::table(b'n').raw(name.as_bytes()).build()
}

pub(crate) fn read_repository(key: &[u8]) -> Result<&str> {
    Parts::after(key, b"n")?.rest()
}

pub(crate) fn repository_by_id(id: RepoId) -> Vec<u8> {
    Builder::table(b'i').repo(id).build()
}

pub(crate) fn link(repo: RepoId, digest: &Digest) -> Vec<u8> {
    Builder::table(b'l').repo(repo).digest(digest).build()
}

pub(crate) fn links_of(sha256: &[u8; 32]) -> Vec<u8> {
    Builder::table(b'k').raw(sha256).build()
}

pub(crate) fn link_of(sha256: &[u8; 32], repo: RepoId, digest: &Digest) -> Vec<u8> {
    Builder::table(b'k').raw(sha256).repo(repo).digest(digest).build()
}

/// The repository of a link that was found under `prefix` (from [`links_of`]).
pub(crate) fn read_link_of(key: &[u8], prefix: &[u8]) -> Result<RepoId> {
    Parts::after(key, prefix)?.repo()
}

pub(crate) fn content(sha256: &[u8; 32]) -> Vec<u8> {
    Builder::table(b'c').raw(sha256).build()
}

/// Reads what [`content`] wrote; `None` for a key of another table.
pub(crate) fn read_content(key: &[u8]) -> Result<Option<[u8; 32]>> {
    let Some(sha256) = key.strip_prefix(b"c") else { return Ok(None) };
    sha256.try_into().map(Some).map_err(|_| damaged())
}

pub(crate) fn alias(sha512: &[u8; 64]) -> Vec<u8> {
    Builder::table(b'a').raw(sha512).build()
}

pub(crate) fn manifest(repo: RepoId, digest: &Digest) -> Vec<u8> {
    Builder::table(b'x').repo(repo).digest(digest).build()
}

/// Reads what [`manifest`] wrote.
pub(crate) fn read_manifest(key: &[u8]) -> Result<(RepoId, Digest)> {
    let mut parts = Parts::after(key, MANIFESTS)?;
    let manifest = (parts.repo()?, parts.digest()?);
    parts.end(manifest)
}

pub(crate) fn manifest_bytes(repo: RepoId, digest: &Digest) -> Vec<u8> {
    Builder::table(b'b').repo(repo).digest(digest).build()
}

pub(crate) fn references(repo: RepoId, manifest: &Digest) -> Vec<u8> {
    Builder::table(b'f').repo(repo).digest(manifest).build()
}

pub(crate) fn edges_to(repo: RepoId, target: &Digest) -> Vec<u8> {
    Builder::table(b'e').repo(repo).digest(target).build()
}

pub(crate) fn edge(repo: RepoId, target: &Digest, manifest: &Digest) -> Vec<u8> {
    Builder::table(b'e').repo(repo).digest(target).digest(manifest).build()
}

/// The manifest of an edge that was found under `prefix` (from [`edges_to`]).
pub(crate) fn read_edge(key: &[u8], prefix: &[u8]) -> Result<Digest> {
    let mut parts = Parts::after(key, prefix)?;
    let manifest = parts.digest()?;
    parts.end(manifest)
}

pub(crate) fn tags(repo: RepoId) -> Vec<u8> {
    Builder::table(b't').repo(repo).build()
}

/// `tag` is text and not a [`Tag`] because `?last=` need not name one.
pub(crate) fn tag(repo: RepoId, tag: &str) -> Vec<u8> {
    Builder::table(b't').repo(repo).raw(tag.as_bytes()).build()
}

pub(crate) fn read_tag<'k>(key: &'k [u8], prefix: &[u8]) -> Result<&'k str> {
    Parts::after(key, prefix)?.rest()
}

pub(crate) fn tags_of(repo: RepoId, digest: &Digest) -> Vec<u8> {
    Builder::table(b'u').repo(repo).digest(digest).build()
}

pub(crate) fn tag_of(repo: RepoId, digest: &Digest, tag: &Tag) -> Vec<u8> {
    Builder::table(b'u').repo(repo).digest(digest).raw(tag.as_str().as_bytes()).build()
}

pub(crate) fn read_tag_of(key: &[u8], prefix: &[u8]) -> Result<Tag> {
    Parts::after(key, prefix)?.rest()?.parse().map_err(|_| damaged())
}

pub(crate) fn moves(repo: RepoId, tag: &Tag) -> Vec<u8> {
    Builder::table(b'h').repo(repo).text(tag.as_str()).build()
}

/// Numbers are inverted, so that the newest move comes first.
pub(crate) fn tag_move(repo: RepoId, tag: &Tag, number: u64) -> Vec<u8> {
    Builder(moves(repo, tag)).raw(&(u64::MAX - number).to_be_bytes()).build()
}

pub(crate) fn read_tag_move(key: &[u8], prefix: &[u8]) -> Result<u64> {
    let mut parts = Parts::after(key, prefix)?;
    let inverted = u64::from_be_bytes(parts.array()?);
    parts.end(u64::MAX - inverted)
}

pub(crate) fn referrers(repo: RepoId, subject: &Digest) -> Vec<u8> {
    Builder::table(b's').repo(repo).digest(subject).build()
}

pub(crate) fn referrers_of_type(repo: RepoId, subject: &Digest, artifact_type: &str) -> Vec<u8> {
    Builder(referrers(repo, subject)).text(artifact_type).build()
}

pub(crate) fn referrer(repo: RepoId, subject: &Digest, artifact_type: &str, digest: &Digest) -> Vec<u8> {
    Builder(referrers_of_type(repo, subject, artifact_type)).digest(digest).build()
}

/// The manifest of a referrer that was found under `prefix` (from [`referrers`]).
pub(crate) fn read_referrer(key: &[u8], prefix: &[u8]) -> Result<Digest> {
    let mut parts = Parts::after(key, prefix)?;
    parts.text()?;
    let manifest = parts.digest()?;
    parts.end(manifest)
}

pub(crate) fn upload(id: Location) -> Vec<u8> {
    Builder::table(b'p').raw(&id.bytes()).build()
}

pub(crate) fn review(due: Timestamp, review: &Review) -> Vec<u8> {
    let subject = Builder(Vec::with_capacity(48));
    let subject = match review {
        Review::Object(repo, digest) => subject.raw(&[1]).repo(*repo).digest(digest),
        Review::Referrers(repo, digest) => subject.raw(&[2]).repo(*repo).digest(digest),
        Review::TagHistory(repo, tag) => subject.raw(&[3]).repo(*repo).raw(tag.as_str().as_bytes()),
        Review::Upload(id) => subject.raw(&[4]).raw(&id.bytes()),
    }
    .build();
    Builder::table(b'v').raw(&[shard(&subject)]).time(due).raw(&subject).build()
}

/// A part of the review queue.
pub(crate) fn reviews(shard: u8) -> [u8; 2] {
    [b'v', shard]
}

/// Reads what [`review`] wrote: when it is due, and what to look at.
pub(crate) fn read_review(key: &[u8]) -> Result<(Timestamp, Review)> {
    let mut parts = Parts::after(key, b"v")?;
    parts.take(1)?;
    let due = parts.time()?;
    let review = match parts.take(1)? {
        [1] => Review::Object(parts.repo()?, parts.digest()?),
        [2] => Review::Referrers(parts.repo()?, parts.digest()?),
        [3] => {
            let repo = parts.repo()?;
            return Ok((due, Review::TagHistory(repo, parts.rest()?.parse().map_err(|_| damaged())?)));
        }
        [4] => Review::Upload(Location::from_bytes(parts.array()?)),
        _ => return Err(damaged()),
    };
    parts.end((due, review))
}

pub(crate) fn garbage(delete_after: Timestamp, location: Location) -> Vec<u8> {
    let location = location.bytes();
    Builder::table(b'g').raw(&[shard(&location)]).time(delete_after).raw(&location).build()
}

/// A part of the garbage queue.
pub(crate) fn all_garbage(shard: u8) -> [u8; 2] {
    [b'g', shard]
}

/// Reads what [`garbage`] wrote.
pub(crate) fn read_garbage(key: &[u8]) -> Result<(Timestamp, Location)> {
    let mut parts = Parts::after(key, b"g")?;
    parts.take(1)?;
    let garbage = (parts.time()?, Location::from_bytes(parts.array()?));
    parts.end(garbage)
}

pub(crate) fn last_pull(repo: RepoId, tag: &Tag) -> Vec<u8> {
    Builder::table(b'q').repo(repo).raw(tag.as_str().as_bytes()).build()
}

pub(crate) const ALLOWANCES: &[u8] = b"z";

/// Of a digest in a repository; without one, everywhere.
pub(crate) fn allowance(digest: &Digest, repo: Option<&RepoName>) -> Vec<u8> {
    Builder::table(b'z').digest(digest).raw(repo.map_or("", RepoName::as_str).as_bytes()).build()
}

/// Reads what [`allowance`] wrote.
pub(crate) fn read_allowance(key: &[u8]) -> Result<(Digest, Option<RepoName>)> {
    let mut parts = Parts::after(key, ALLOWANCES)?;
    let digest = parts.our_digest()?;
    let repo = Some(parts.rest()?).filter(|name| !name.is_empty());
    Ok((digest, repo.map(str::parse).transpose().map_err(|_| damaged())?))
}

/// Whether a row is part of a backup: what is stored, and what clients prove themselves with. Left out is what belongs to this place and moment: uploads under
/// way with their reviews, files that wait for their deletion, and how this store's own work stands.
pub(crate) fn in_backup(key: &[u8]) -> bool {
    match key.first() {
        Some(b'p' | b'g') => false,
        Some(b'v') => !matches!(read_review(key), Ok((_, Review::Upload(_)))),
        Some(b'm') => ![PROBE, COLLECTION_OFF, COLLECTION_PAUSE, SCRUB].contains(&key),
        _ => true,
    }
}

fn shard(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |hash, &byte| hash.rotate_left(3) ^ byte) % SHARDS
}

/// The first key after every key that starts with `prefix`; `None` when there is no such key.
pub(crate) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests;
