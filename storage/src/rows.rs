// SPDX-License-Identifier: AGPL-3.0-only
//! The values behind the keys of [`crate::keys`].
//!
//! Rows are CBOR maps with numbered fields: a later version may add fields, and an absent one reads
//! as its default. A field's number is never used again. Fields that no code reads yet are written
//! from the first day, because what was not recorded cannot be judged later.

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Write};
use minicbor::{Decode, Encode};

use crate::clock::Timestamp;
use crate::digest::{Digest, HashState};
use crate::error::{Error, Result};
use crate::keys::{self, RepoId};
use crate::local::Location;

mod credentials;

pub(crate) use credentials::{Grant, RefreshToken, Robot, RobotUse, SigningKey};

/// What is let through for a while, and why; which digest and where is in the key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Allowance {
    #[n(0)]
    pub(crate) reason: String,
    #[n(1)]
    pub(crate) by: String,
    #[n(2)]
    pub(crate) created: Timestamp,
    #[n(3)]
    pub(crate) expires: Timestamp,
}

/// Encodes a row.
pub(crate) fn encode<T: Encode<()>>(row: &T) -> Result<Vec<u8>> {
    minicbor::to_vec(row).map_err(|error| Error::Corrupt(format!("a row cannot be written: {error}")))
}

/// Decodes a row.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T> {
    minicbor::decode(bytes).map_err(|error| Error::Corrupt(format!("a row cannot be read: {error}")))
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Repository {
    #[n(0)]
    pub(crate) id: RepoId,
    #[n(1)]
    pub(crate) created: Timestamp,
}

/// A blob's bytes: complete, verified and durable at `location`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Content {
    #[n(0)]
    pub(crate) location: Location,
    #[n(1)]
    pub(crate) size: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) sha512: Option<[u8; 64]>,
    #[n(3)]
    pub(crate) created: Timestamp,
    /// Since when its bytes are known to be wrong or gone: it is not served, and the next push replaces them.
    #[n(4)]
    pub(crate) damaged: Option<Timestamp>,
}

/// Makes a blob readable in one repository, under the digest that its pusher used.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Link {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) sha256: [u8; 32],
    #[n(1)]
    pub(crate) size: u64,
    #[n(2)]
    pub(crate) lease_until: Timestamp,
    #[n(3)]
    pub(crate) created: Timestamp,
    #[n(4)]
    pub(crate) pusher: String,
    #[n(5)]
    pub(crate) session: Option<String>,
}

/// A manifest's existence; its bytes have a key of their own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Manifest {
    #[n(0)]
    pub(crate) media_type: String,
    #[n(1)]
    pub(crate) size: u64,
    #[cbor(n(2), with = "minicbor::bytes")]
    pub(crate) sha256: [u8; 32],
    #[n(3)]
    pub(crate) artifact_type: Option<String>,
    #[n(4)]
    pub(crate) subject: Option<Digest>,
    #[n(5)]
    pub(crate) lease_until: Timestamp,
    #[n(6)]
    pub(crate) created: Timestamp,
    #[n(7)]
    pub(crate) pusher: String,
    #[n(8)]
    pub(crate) session: Option<String>,
    /// When a tag that had released it last went elsewhere.
    #[n(9)]
    pub(crate) released_left: Option<Timestamp>,
    /// When its subject went, if it had one.
    #[n(10)]
    pub(crate) orphaned: Option<Timestamp>,
    /// Whether every layer was read and is a signature, an attestation or a bundle.
    #[cbor(n(11), default)]
    pub(crate) evidence: bool,
    /// Changes whenever what is said of it does (`store/gate.rs`); unlike any other's that was stored before.
    #[cbor(n(12), default)]
    pub(crate) stamp: u64,
    /// When a tag last released it.
    #[n(13)]
    pub(crate) released_at: Option<Timestamp>,
}

/// Of a manifest's row what its judgement is found by; the rest is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Decode)]
#[cbor(map)]
pub(crate) struct Stamped {
    #[cbor(n(12), default)]
    pub(crate) stamp: u64,
    #[n(13)]
    pub(crate) released_at: Option<Timestamp>,
}

/// What a manifest names, as the edges that it made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct References {
    #[n(0)]
    pub(crate) edges: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Reference {
    #[n(0)]
    pub(crate) target: Digest,
    #[n(1)]
    pub(crate) kinds: u8,
}

/// How a manifest names a digest: bits of an edge's value.
pub(crate) mod kind {
    pub(crate) const CONFIG: u8 = 1;
    pub(crate) const LAYER: u8 = 2;
    pub(crate) const CHILD: u8 = 4;
    /// A subject edge protects nothing.
    pub(crate) const SUBJECT: u8 = 8;
}

/// Where a tag stands: `candidate` is what was pushed last, `released` what the policy gate let through. Without a gate
/// they are always the same.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Tag {
    #[n(0)]
    pub(crate) released: Option<Digest>,
    #[n(1)]
    pub(crate) candidate: Option<Digest>,
    #[n(2)]
    pub(crate) generation: u64,
    #[n(3)]
    pub(crate) updated: Timestamp,
    #[n(4)]
    pub(crate) pusher: String,
    /// Moves so far: the number of the latest one in its history.
    #[n(5)]
    pub(crate) moves: u64,
    /// When what it released last was signed, if that was proven.
    #[n(6)]
    pub(crate) signed_at: Option<Timestamp>,
}

/// One move of a tag; `to` is absent when it was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct TagMove {
    #[n(0)]
    pub(crate) from: Option<Digest>,
    #[n(1)]
    pub(crate) to: Option<Digest>,
    #[n(2)]
    pub(crate) at: Timestamp,
    #[n(3)]
    pub(crate) by: String,
    /// The tag's generation after it.
    #[n(4)]
    pub(crate) generation: u64,
    /// When what the tag had released last was signed, if that was proven: it is not forgotten with the tag.
    #[n(5)]
    pub(crate) signed_at: Option<Timestamp>,
}

/// An upload session at rest.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Upload {
    #[n(0)]
    pub(crate) repo: String,
    #[n(1)]
    pub(crate) offset: u64,
    /// Raised by each claim; only the holder of the current epoch advances the session.
    #[n(2)]
    pub(crate) epoch: u64,
    #[n(3)]
    pub(crate) hash: HashState,
    #[n(4)]
    pub(crate) started: Timestamp,
    #[n(5)]
    pub(crate) touched: Timestamp,
    #[n(6)]
    pub(crate) pusher: String,
    #[n(7)]
    pub(crate) session: Option<String>,
}

/// An object that nothing names any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Garbage {
    #[n(0)]
    pub(crate) size: u64,
}

/// How far a change of the repository rules has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Rules {
    /// What the rules are, hashed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) sha256: [u8; 32],
    /// The last manifest that was queued for review under them; absent when all were.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(crate) queued_to: Option<Vec<u8>>,
}

/// The policies that were in force last.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct PolicyEpoch {
    /// What they are known by.
    #[n(0)]
    pub(crate) hash: String,
    /// Counts those that there were.
    #[n(1)]
    pub(crate) epoch: u64,
}

/// When a tag was last pulled, to the day.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct LastPull {
    #[n(0)]
    pub(crate) at: Timestamp,
}

/// How far the reading of everything has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Scrub {
    /// The last key whose bytes were read; empty at the beginning.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) done: Vec<u8>,
    /// When this pass began.
    #[n(1)]
    pub(crate) began: Timestamp,
    /// When the last pass ended that went to the end.
    #[n(2)]
    pub(crate) ended: Option<Timestamp>,
}

impl<C> Encode<C> for Digest {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&keys::digest_bytes(self))?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Digest {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        keys::read_digest(d.bytes()?).map_err(|_| minicbor::decode::Error::message("not a digest"))
    }
}

impl<C> Encode<C> for Location {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.bytes())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Location {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = d.bytes()?.try_into();
        bytes.map(Location::from_bytes).map_err(|_| minicbor::decode::Error::message("not a location"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Algorithm, Hasher};

    #[test]
    fn rows_survive_their_encoding() {
        let digest = Algorithm::Sha512.digest(b"x");
        let tag = Tag {
            released: None,
            candidate: Some(digest.clone()),
            generation: 7,
            updated: Timestamp(1),
            pusher: "ci".into(),
            moves: 3,
            signed_at: Some(Timestamp(5)),
        };
        assert_eq!(decode::<Tag>(&encode(&tag).unwrap()).unwrap(), tag);
        let upload = Upload {
            repo: "a/b".into(),
            offset: 9,
            epoch: 2,
            hash: Hasher::new(Algorithm::Sha512).state(),
            started: Timestamp(1),
            touched: Timestamp(2),
            pusher: String::new(),
            session: None,
        };
        assert_eq!(decode::<Upload>(&encode(&upload).unwrap()).unwrap(), upload);
        let content = Content {
            location: Location::from_bytes([3; 16]),
            size: 1,
            sha512: Some([9; 64]),
            created: Timestamp(1),
            damaged: None,
        };
        assert_eq!(decode::<Content>(&encode(&content).unwrap()).unwrap(), content);
        let references = References { edges: vec![Reference { target: digest, kinds: kind::LAYER }] };
        assert_eq!(decode::<References>(&encode(&references).unwrap()).unwrap(), references);
    }

    #[test]
    fn of_a_manifest_what_judgements_are_found_by_is_read_alone() {
        let row = Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: 9,
            sha256: [3; 32],
            artifact_type: Some("text/plain".into()),
            subject: Some(Algorithm::Sha512.digest(b"x")),
            lease_until: Timestamp(1),
            created: Timestamp(2),
            pusher: "ci".into(),
            session: Some("s".into()),
            released_left: Some(Timestamp(3)),
            orphaned: None,
            evidence: true,
            stamp: u64::MAX,
            released_at: Some(Timestamp(4)),
        };
        let read = |row: &Manifest| decode::<Stamped>(&encode(row).unwrap()).unwrap();
        assert_eq!(read(&row), Stamped { stamp: u64::MAX, released_at: Some(Timestamp(4)) });
        let bare = Manifest { stamp: 0, released_at: None, subject: None, session: None, ..row };
        assert_eq!(read(&bare), Stamped { stamp: 0, released_at: None });
    }

    #[test]
    fn a_row_with_fields_of_a_later_version_can_be_read() {
        #[derive(Encode)]
        #[cbor(map)]
        struct LaterGarbage {
            #[n(0)]
            size: u64,
            #[n(9)]
            reason: String,
        }
        let bytes = encode(&LaterGarbage { size: 5, reason: "new".into() }).unwrap();
        assert_eq!(decode::<Garbage>(&bytes).unwrap(), Garbage { size: 5 });
    }

    #[test]
    fn a_manifest_of_an_earlier_version_is_no_evidence() {
        #[derive(Encode)]
        #[cbor(map)]
        struct EarlierManifest {
            #[n(0)]
            media_type: String,
            #[n(1)]
            size: u64,
            #[cbor(n(2), with = "minicbor::bytes")]
            sha256: [u8; 32],
            #[n(5)]
            lease_until: Timestamp,
            #[n(6)]
            created: Timestamp,
            #[n(7)]
            pusher: String,
        }
        let row = EarlierManifest {
            media_type: "a/b".into(),
            size: 5,
            sha256: [1; 32],
            lease_until: Timestamp(1),
            created: Timestamp(2),
            pusher: "ci".into(),
        };
        let row: Manifest = decode(&encode(&row).unwrap()).unwrap();
        assert!(!row.evidence && row.stamp == 0 && row.released_at.is_none() && row.size == 5);
        let row = Manifest { evidence: true, stamp: u64::MAX, released_at: Some(Timestamp(9)), ..row };
        assert_eq!(decode::<Manifest>(&encode(&row).unwrap()).unwrap(), row);
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        assert!(decode::<Tag>(b"\xff\x00").is_err());
        assert!(decode::<Content>(b"").is_err());
    }
}
