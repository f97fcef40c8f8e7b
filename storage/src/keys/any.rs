// SPDX-License-Identifier: AGPL-3.0-only
//! Reading a key of which nothing is known: which table, and which parts.
//!
//! A key is read only if it is exactly what the builders of this file's parent would make of its
//! parts: anything else is damage, because no lookup would ever find it.

use super::{
    Parts, RepoId, Review, damaged, garbage, read_allowance, read_garbage, read_refresh_token_expiry,
    read_review, refresh_token_expiry, review,
};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::Result;
use crate::local::Location;
use crate::name::{RepoName, Tag};

/// A key's table and parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Meta,
    Repository(RepoName),
    RepositoryById(RepoId),
    Link(RepoId, Digest),
    LinkOf([u8; 32], RepoId, Digest),
    Content([u8; 32]),
    Alias([u8; 64]),
    Manifest(RepoId, Digest),
    ManifestBytes(RepoId, Digest),
    References(RepoId, Digest),
    /// Repository, target, manifest.
    Edge(RepoId, Digest, Digest),
    Tag(RepoId, Tag),
    TagOf(RepoId, Digest, Tag),
    TagMove(RepoId, Tag, u64),
    /// Repository, subject, artifact type, manifest.
    Referrer(RepoId, Digest, String, Digest),
    Upload(Location),
    Review(Timestamp, Review),
    Garbage(Timestamp, Location),
    LastPull(RepoId, Tag),
    Robot(String),
    RobotUse(String),
    RefreshToken([u8; 32]),
    /// The subject's sha256, when the token was made, its sha256.
    RefreshTokenOf([u8; 32], Timestamp, [u8; 32]),
    RefreshTokenExpiry(Timestamp, [u8; 32]),
    Signing(String),
    /// Of a digest in a repository, or everywhere.
    Allowance(Digest, Option<RepoName>),
}

/// The tables, in the order in which a check goes through them: what others are repaired from first.
pub(crate) const TABLES: &[u8] = b"mnilkcabxfetuhspgqrwyjdovz";

impl Key {
    pub(crate) fn read(key: &[u8]) -> Result<Key> {
        let (&table, rest) = key.split_first().ok_or_else(damaged)?;
        let mut parts = Parts(rest);
        Ok(match table {
            b'm' => Key::Meta,
            b'n' => Key::Repository(parts.rest()?.parse().map_err(|_| damaged())?),
            b'i' => {
                let id = parts.repo()?;
                parts.end(Key::RepositoryById(id))?
            }
            b'l' => parts.of_manifest(Key::Link)?,
            b'x' => parts.of_manifest(Key::Manifest)?,
            b'b' => parts.of_manifest(Key::ManifestBytes)?,
            b'f' => parts.of_manifest(Key::References)?,
            b'k' => {
                let sha256 = parts.array()?;
                parts.of_manifest(|repo, digest| Key::LinkOf(sha256, repo, digest))?
            }
            b'c' => {
                let sha256 = parts.array()?;
                parts.end(Key::Content(sha256))?
            }
            b'a' => {
                let sha512 = parts.array()?;
                parts.end(Key::Alias(sha512))?
            }
            b'e' => {
                let (repo, target) = (parts.repo()?, parts.any_digest()?);
                let manifest = parts.our_digest()?;
                parts.end(Key::Edge(repo, target, manifest))?
            }
            b't' => Key::Tag(parts.repo()?, parts.tag()?),
            b'q' => Key::LastPull(parts.repo()?, parts.tag()?),
            b'u' => Key::TagOf(parts.repo()?, parts.our_digest()?, parts.tag()?),
            b'h' => {
                let repo = parts.repo()?;
                let tag = parts.text()?.parse().map_err(|_| damaged())?;
                let inverted = u64::from_be_bytes(parts.array()?);
                parts.end(Key::TagMove(repo, tag, u64::MAX - inverted))?
            }
            b's' => {
                let (repo, subject, kind) = (parts.repo()?, parts.any_digest()?, parts.text()?);
                let manifest = parts.our_digest()?;
                parts.end(Key::Referrer(repo, subject, kind, manifest))?
            }
            b'p' => {
                let id = Location::from_bytes(parts.array()?);
                parts.end(Key::Upload(id))?
            }
            b'v' => {
                let (due, subject) = read_review(key)?;
                if review(due, &subject) != key {
                    return Err(damaged());
                }
                Key::Review(due, subject)
            }
            b'g' => {
                let (after, location) = read_garbage(key)?;
                if garbage(after, location) != key {
                    return Err(damaged());
                }
                Key::Garbage(after, location)
            }
            b'r' => Key::Robot(parts.credential_name()?.to_owned()),
            b'w' => Key::RobotUse(parts.credential_name()?.to_owned()),
            b'y' => {
                let sha256 = parts.array()?;
                parts.end(Key::RefreshToken(sha256))?
            }
            b'j' => {
                let (subject, created) = (parts.array()?, parts.time()?);
                let sha256 = parts.array()?;
                parts.end(Key::RefreshTokenOf(subject, created, sha256))?
            }
            b'd' => {
                let (expires, sha256) = read_refresh_token_expiry(key)?;
                if refresh_token_expiry(expires, &sha256) != key {
                    return Err(damaged());
                }
                Key::RefreshTokenExpiry(expires, sha256)
            }
            b'o' => Key::Signing(parts.credential_name()?.to_owned()),
            b'z' => {
                let (digest, repo) = read_allowance(key)?;
                Key::Allowance(digest, repo)
            }
            _ => return Err(damaged()),
        })
    }

    /// The repository that the key belongs to.
    pub(crate) fn repo(&self) -> Option<RepoId> {
        match self {
            Key::RepositoryById(repo)
            | Key::Link(repo, _)
            | Key::LinkOf(_, repo, _)
            | Key::Manifest(repo, _)
            | Key::ManifestBytes(repo, _)
            | Key::References(repo, _)
            | Key::Edge(repo, ..)
            | Key::Tag(repo, _)
            | Key::TagOf(repo, ..)
            | Key::TagMove(repo, ..)
            | Key::Referrer(repo, ..)
            | Key::LastPull(repo, _)
            | Key::Review(
                _,
                Review::Object(repo, _) | Review::Referrers(repo, _) | Review::TagHistory(repo, _),
            ) => Some(*repo),
            Key::Meta
            | Key::Repository(_)
            | Key::Content(_)
            | Key::Alias(_)
            | Key::Upload(_)
            | Key::Review(_, Review::Upload(_))
            | Key::Garbage(..)
            | Key::Robot(_)
            | Key::RobotUse(_)
            | Key::RefreshToken(_)
            | Key::RefreshTokenOf(..)
            | Key::RefreshTokenExpiry(..)
            | Key::Signing(_)
            | Key::Allowance(..) => None,
        }
    }
}

impl Parts<'_> {
    /// A digest as a client may name it: written in the one way in which we write it.
    fn any_digest(&mut self) -> Result<Digest> {
        let digest = self.digest()?;
        match &digest {
            Digest::Other(text) if text.parse().ok().as_ref() != Some(&digest) => Err(damaged()),
            _ => Ok(digest),
        }
    }

    /// The digest of something that is stored, hence one that we can compute.
    pub(super) fn our_digest(&mut self) -> Result<Digest> {
        self.digest().and_then(|digest| digest.supported().map(|_| digest).map_err(|_| damaged()))
    }

    fn of_manifest(mut self, key: impl FnOnce(RepoId, Digest) -> Key) -> Result<Key> {
        let key = key(self.repo()?, self.our_digest()?);
        self.end(key)
    }

    fn tag(&mut self) -> Result<Tag> {
        let text = std::str::from_utf8(self.take(self.0.len())?).map_err(|_| damaged())?;
        text.parse().map_err(|_| damaged())
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_is_read_as_what_it_was_built_from(
            id: u32, a: [u8; 32], c: [u8; 32], b in proptest::collection::vec(any::<u8>(), 64), tag in "[a-z0-9]{1,9}", number: u64, location: [u8; 16]
        ) {
            let (repo, location, due) = (RepoId(id), Location::from_bytes(location), Timestamp(number));
            let tag: Tag = tag.parse().unwrap();
            let b: [u8; 64] = b.try_into().unwrap();
            let (da, db) = (Digest::Sha256(a), Digest::Sha512(b));
            let name: RepoName = "team/app".parse().unwrap();
            for (built, read) in [
                (SCHEMA_VERSION.to_vec(), Key::Meta),
                (repository(name.as_str()), Key::Repository(name.clone())),
                (repository_by_id(repo), Key::RepositoryById(repo)),
                (link(repo, &da), Key::Link(repo, da.clone())),
                (link_of(&a, repo, &db), Key::LinkOf(a, repo, db.clone())),
                (content(&a), Key::Content(a)),
                (alias(&b), Key::Alias(b)),
                (manifest(repo, &db), Key::Manifest(repo, db.clone())),
                (manifest_bytes(repo, &da), Key::ManifestBytes(repo, da.clone())),
                (references(repo, &da), Key::References(repo, da.clone())),
                (edge(repo, &db, &da), Key::Edge(repo, db.clone(), da.clone())),
                (super::super::tag(repo, tag.as_str()), Key::Tag(repo, tag.clone())),
                (tag_of(repo, &da, &tag), Key::TagOf(repo, da.clone(), tag.clone())),
                (tag_move(repo, &tag, number), Key::TagMove(repo, tag.clone(), number)),
                (referrer(repo, &db, "a/b", &da), Key::Referrer(repo, db.clone(), "a/b".into(), da.clone())),
                (upload(location), Key::Upload(location)),
                (review(due, &Review::Upload(location)), Key::Review(due, Review::Upload(location))),
                (garbage(due, location), Key::Garbage(due, location)),
                (last_pull(repo, &tag), Key::LastPull(repo, tag.clone())),
                (robot(tag.as_str()), Key::Robot(tag.as_str().to_owned())),
                (robot_use(tag.as_str()), Key::RobotUse(tag.as_str().to_owned())),
                (refresh_token(&a), Key::RefreshToken(a)),
                (refresh_token_of(&a, due, &c), Key::RefreshTokenOf(a, due, c)),
                (refresh_token_expiry(due, &a), Key::RefreshTokenExpiry(due, a)),
                (signing_key(tag.as_str()), Key::Signing(tag.as_str().to_owned())),
                (allowance(&db, None), Key::Allowance(db.clone(), None)),
                (allowance(&da, Some(&name)), Key::Allowance(da.clone(), Some(name.clone()))),
            ] {
                prop_assert!(TABLES.contains(&built[0]));
                prop_assert_eq!(Key::read(&built).unwrap(), read);
                // A key that goes on behind its end leads nowhere; those that end in text may just be longer.
                if !b"mntuqrwoz".contains(&built[0]) {
                    prop_assert!(Key::read(&[built.as_slice(), b"x"].concat()).is_err());
                }
            }
        }

        #[test]
        fn a_key_that_cannot_be_read_is_an_error(table in any::<u8>(), rest in proptest::collection::vec(any::<u8>(), 0..90)) {
            let _ = Key::read(&[&[table], rest.as_slice()].concat());
        }
    }

    #[test]
    fn a_key_in_the_wrong_part_of_its_queue_is_damaged() {
        for built in [
            review(Timestamp(7), &Review::Object(RepoId(1), Digest::Sha256([3; 32]))),
            garbage(Timestamp(7), Location::from_bytes([9; 16])),
            refresh_token_expiry(Timestamp(7), &[5; 32]),
        ] {
            let mut wrong = built.clone();
            wrong[1] = (wrong[1] + 1) % SHARDS;
            assert!(Key::read(&built).is_ok() && Key::read(&wrong).is_err());
        }
    }
}
