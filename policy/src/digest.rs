// SPDX-License-Identifier: AGPL-3.0-only
//! Digests of content, as OCI writes them (image-spec, descriptor.md): `sha256:` or `sha512:` and lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// How a digest was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A digest of content. Never of another case, length or algorithm, so two are equal only if their texts are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a digest: `sha256:` with 64, or `sha512:` with 128 hexadecimal digits in lower case")]
pub struct DigestError;

impl Digest {
    /// The SHA-256 of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// Whether it is of these bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        match self.algorithm() {
            Algorithm::Sha256 => *self == Digest::of(bytes),
            Algorithm::Sha512 => self.hex() == hex::encode(Sha512::digest(bytes)),
        }
    }

    /// How it was made.
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha256:") { Algorithm::Sha256 } else { Algorithm::Sha512 }
    }

    /// Its digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError)?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return Err(DigestError),
        };
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != length || !is_hex {
            return Err(DigestError);
        }
        Ok(Digest(text))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_that_is_a_digest_is_written_as_it_was(text in "(sha256|sha512|SHA256|sha1)?:?[0-9a-fA-F]{62,66}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text.clone());
                prop_assert_eq!(text.to_lowercase(), text);
                prop_assert_eq!(digest.hex().len(), 64);
            }
        }

        #[test]
        fn the_digest_of_bytes_is_theirs_alone(bytes: Vec<u8>, other: Vec<u8>) {
            let digest = Digest::of(&bytes);
            prop_assert!(digest.is_of(&bytes));
            prop_assert_eq!(digest.is_of(&other), bytes == other);
            prop_assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn any_text_is_a_digest_or_refused(text: String) {
            let _ = text.parse::<Digest>();
        }
    }

    #[test]
    fn only_the_two_algorithms_in_lower_case_and_full_length_are_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest: Digest = empty.parse().unwrap();
        assert_eq!(digest, Digest::of(b""));
        assert!(digest.is_of(b"") && !digest.is_of(b"x"));
        let long: Digest = format!("sha512:{}", hex::encode(Sha512::digest(b"x"))).parse().unwrap();
        assert!(long.is_of(b"x") && !long.is_of(b""));
        let bad = [&empty[..70], "sha256", "sha1:00", &empty.to_uppercase(), &empty.replace('e', "E"), ""];
        for bad in bad {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError), "{bad}");
        }
    }
}
