// SPDX-License-Identifier: AGPL-3.0-only
//! Content digests: parsing, printing, and hashing whose state can be stored.
//!
//! A [`Digest`] is always well formed (OCI image-spec, descriptor.md, "Digests"). Algorithms that
//! are grammatical but unknown to us are kept as text: descriptors may name them, and we must
//! neither refuse nor pretend to verify them. A [`Hasher`] can be stopped, stored as [`HashState`]
//! and continued after a restart, which is what lets an upload resume.

use std::fmt;
use std::str::FromStr;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

/// Why text is no digest that we can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// It breaks the grammar.
    #[error("{text:?} is not a digest: {why}")]
    Malformed {
        /// What the client sent, shortened.
        text: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// Its algorithm cannot be computed here.
    #[error("digest algorithm {0:?} is not supported; use sha256 or sha512")]
    Unsupported(String),
}

/// A digest algorithm that this registry can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, which every registry must support.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name used in digests and in `?digest-algorithm=`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Hashes bytes that are already in memory.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Algorithm::Sha256 => Digest::Sha256(Sha256::digest(bytes).into()),
            Algorithm::Sha512 => Digest::Sha512(Sha512::digest(bytes).into()),
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Algorithm::Sha256),
            "sha512" => Ok(Algorithm::Sha512),
            other => Err(DigestError::Unsupported(shorten(other))),
        }
    }
}

/// The digest of some content, as its pusher named it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// `sha256:` and 64 lower-case hexadecimal digits.
    Sha256([u8; 32]),
    /// `sha512:` and 128 lower-case hexadecimal digits.
    Sha512([u8; 64]),
    /// Grammatical, but of an algorithm that we cannot compute.
    Other(Box<str>),
}

impl Digest {
    /// The longest digest text that is accepted, in bytes.
    pub const MAX_LEN: usize = 512;

    /// The algorithm, when it is one that we can compute.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self {
            Digest::Sha256(_) => Some(Algorithm::Sha256),
            Digest::Sha512(_) => Some(Algorithm::Sha512),
            Digest::Other(_) => None,
        }
    }

    /// The algorithm, or an error that names the unsupported one.
    pub fn supported(&self) -> Result<Algorithm, DigestError> {
        match self {
            Digest::Other(text) => {
                Err(DigestError::Unsupported(shorten(text.split(':').next().unwrap_or_default())))
            }
            Digest::Sha256(_) => Ok(Algorithm::Sha256),
            Digest::Sha512(_) => Ok(Algorithm::Sha512),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let invalid = |why| DigestError::Malformed { text: shorten(text), why };
        if text.len() > Self::MAX_LEN {
            return Err(invalid("it is too long"));
        }
        let (algorithm, encoded) =
            text.split_once(':').ok_or_else(|| invalid("it needs the form algorithm:encoded"))?;
        match algorithm {
            "sha256" => decode(encoded)
                .map(Digest::Sha256)
                .ok_or_else(|| invalid("sha256 needs 64 lower-case hexadecimal digits")),
            "sha512" => decode(encoded)
                .map(Digest::Sha512)
                .ok_or_else(|| invalid("sha512 needs 128 lower-case hexadecimal digits")),
            "blake3" if decode::<32>(encoded).is_none() => {
                Err(invalid("blake3 needs 64 lower-case hexadecimal digits"))
            }
            _ if !is_algorithm(algorithm) => Err(invalid("the algorithm's name is malformed")),
            _ if encoded.is_empty()
                || !encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b)) =>
            {
                Err(invalid("the part after the colon is malformed"))
            }
            _ => Ok(Digest::Other(text.into())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Digest::Sha256(bytes) => write_hex::<64>(f, "sha256:", bytes),
            Digest::Sha512(bytes) => write_hex::<128>(f, "sha512:", bytes),
            Digest::Other(text) => f.write_str(text),
        }
    }
}

/// Writes bytes as `N` hexadecimal digits. Answers print digests all the time: nothing is allocated.
fn write_hex<const N: usize>(f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]) -> fmt::Result {
    let mut digits = [0; N];
    hex::encode_to_slice(bytes, &mut digits).map_err(|_| fmt::Error)?;
    f.write_str(name)?;
    f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a stream with SHA-256 always, and with SHA-512 beside it when the session asked.
#[derive(Clone)]
pub(crate) struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

/// A [`Hasher`] at rest.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct HashState {
    #[cbor(n(0), with = "minicbor::bytes")]
    sha256: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    sha512: Option<Vec<u8>>,
}

impl HashState {
    /// The algorithm that the hasher was made for.
    pub(crate) fn algorithm(&self) -> Algorithm {
        if self.sha512.is_some() { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }
}

/// What a finished [`Hasher`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) sha256: [u8; 32],
    pub(crate) sha512: Option<[u8; 64]>,
}

impl Hashes {
    /// Whether these hashes confirm `digest`; `None` when its algorithm was not computed.
    pub(crate) fn confirm(&self, digest: &Digest) -> Option<bool> {
        match digest {
            Digest::Sha256(want) => Some(*want == self.sha256),
            Digest::Sha512(want) => self.sha512.map(|have| *want == have),
            Digest::Other(_) => None,
        }
    }
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Hasher { sha256: Sha256::new(), sha512: (algorithm == Algorithm::Sha512).then(Sha512::new) }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Hashes {
        Hashes {
            sha256: self.sha256.finalize().into(),
            sha512: self.sha512.map(|sha512| sha512.finalize().into()),
        }
    }

    pub(crate) fn state(&self) -> HashState {
        HashState {
            sha256: self.sha256.serialize().to_vec(),
            sha512: self.sha512.as_ref().map(|sha512| sha512.serialize().to_vec()),
        }
    }

    /// Continues from a stored state; `None` when it is damaged.
    pub(crate) fn resume(state: &HashState) -> Option<Self> {
        let sha256 = SerializedState::<Sha256>::try_from(state.sha256.as_slice()).ok()?;
        let sha256 = Sha256::deserialize(&sha256).ok()?;
        let sha512 = match &state.sha512 {
            None => None,
            Some(bytes) => {
                let bytes = SerializedState::<Sha512>::try_from(bytes.as_slice()).ok()?;
                Some(Sha512::deserialize(&bytes).ok()?)
            }
        };
        Some(Hasher { sha256, sha512 })
    }
}

fn decode<const N: usize>(encoded: &str) -> Option<[u8; N]> {
    if encoded.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(encoded, &mut bytes).ok()?;
    Some(bytes)
}

// algorithm ::= component (separator component)*, component ::= [a-z0-9]+, separator ::= [+._-]
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Client text in an error message: bounded, and printable.
pub(crate) fn shorten(text: &str) -> String {
    let mut short: String =
        text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_digests_print_as_they_were_written() {
        for text in [
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            &format!("sha512:{}", "0f".repeat(64)),
            &format!("blake3:{}", "0f".repeat(32)),
            "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        ] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_digests_are_refused() {
        let upper = "sha256:E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            "",
            ":",
            "sha256",
            "sha256:",
            "sha256:abc",
            "sha256:baddigeststring",
            upper,
            "sha512:00",
            "blake3:00",
            "a..b:c",
            "+:c",
            "x:a/b",
            "x:a b",
            "X:ab",
            "../x:ab",
            "x:é",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(format!("x:{}", "a".repeat(600)).parse::<Digest>().is_err());
    }

    #[test]
    fn a_message_about_a_digest_is_short_and_printable() {
        let error = format!("sha256:\u{7}{}", "z".repeat(400)).parse::<Digest>().unwrap_err();
        let text = error.to_string();
        assert!(text.len() < 300 && !text.contains('\u{7}'), "{text}");
    }

    proptest! {
        #[test]
        fn a_hash_continued_from_its_stored_state_is_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in 0usize..5000, both: bool
        ) {
            let algorithm = if both { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut first = Hasher::new(algorithm);
            first.update(head);
            let stored = minicbor::to_vec(first.state()).unwrap();
            let mut second = Hasher::resume(&minicbor::decode(&stored).unwrap()).unwrap();
            second.update(tail);
            let hashes = second.finish();
            prop_assert_eq!(hashes.confirm(&Algorithm::Sha256.digest(&bytes)), Some(true));
            prop_assert_eq!(hashes.confirm(&Algorithm::Sha512.digest(&bytes)), both.then_some(true));
            prop_assert_eq!(hashes.confirm(&Algorithm::Sha256.digest(b"other")), Some(false));
        }

        #[test]
        fn parsing_never_panics_and_round_trips(text in "\\PC{0,90}|[a-z0-9+._-]{1,9}:[a-zA-Z0-9=_-]{1,140}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
