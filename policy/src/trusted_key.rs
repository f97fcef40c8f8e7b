// SPDX-License-Identifier: AGPL-3.0-only
//! Keys that a policy trusts, and when. A window is judged by verified time only: what a signer says of the hour proves
//! nothing, so a key that has one needs a time from a trusted clock (GHSA-wqqc-jjcq-vfxm).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::{KeyAlgorithm, VerificationKey};
use sigstore_types::{DerPublicKey, HashAlgorithm};

use crate::Time;

/// The most keys at one place.
const MOST_KEYS: usize = 64;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END PUBLIC KEY-----";

/// How what is signed is hashed, where it is not as the key's type has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A public key that is trusted, perhaps for some time only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrustedKey {
    /// One PEM block, `PUBLIC KEY`.
    pub pem: String,
    /// SHA-256 of its `SubjectPublicKeyInfo` (DER), in hex.
    pub fingerprint: String,
    /// The hash, where a document says one.
    pub hash: Option<KeyHash>,
    /// When the key is trusted.
    pub window: Window,
}

/// When a key is trusted; each end is part of it. All verified times of a signature must lie within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// From when on.
    pub valid_from: Option<Time>,
    /// Up to when.
    pub valid_until: Option<Time>,
    /// Since when somebody else may have it: what is signed then, or later, is not taken.
    pub compromised_at: Option<Time>,
}

impl Window {
    /// Whether it says nothing.
    pub fn is_open(&self) -> bool {
        *self == Window::default()
    }

    /// Why the key is not trusted for what was signed at `time`, if it is not.
    pub(crate) fn refuses(&self, time: Time) -> Option<&'static str> {
        if self.valid_from.is_some_and(|from| time < from) {
            Some("before the key's validFrom")
        } else if self.valid_until.is_some_and(|until| time > until) {
            Some("after the key's validUntil")
        } else if self.compromised_at.is_some_and(|at| time >= at) {
            Some("after the key was compromised")
        } else {
            None
        }
    }
}

impl TrustedKey {
    /// All keys of a PEM text, which holds nothing else. The error is a sentence for a person.
    pub fn all_of_pem(text: &str, hash: Option<KeyHash>, window: Window) -> Result<Vec<Self>, String> {
        let mut keys: Vec<TrustedKey> = Vec::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err("no key in it".to_owned());
        }
        while !rest.is_empty() {
            if !rest.starts_with(BEGIN) {
                return Err("not PEM: a key begins with -----BEGIN PUBLIC KEY-----".to_owned());
            }
            let end = rest.find(END).ok_or("not a PEM block `PUBLIC KEY` with its END line")? + END.len();
            let (block, after) = rest.split_at(end);
            let key = TrustedKey::of_block(block, hash, window)?;
            if keys.iter().any(|other| other.fingerprint == key.fingerprint) {
                return Err(format!("the key {} is there twice", key.fingerprint));
            }
            if keys.len() == MOST_KEYS {
                return Err(format!("more than {MOST_KEYS} keys"));
            }
            keys.push(key);
            rest = after.trim_start();
        }
        Ok(keys)
    }

    fn of_block(block: &str, hash: Option<KeyHash>, window: Window) -> Result<Self, String> {
        if block.matches(BEGIN).count() != 1 || !block.starts_with("-----BEGIN PUBLIC KEY-----") {
            return Err("not a PEM block `PUBLIC KEY`".to_owned());
        }
        let key = DerPublicKey::from_pem(block).map_err(|_| "not a PEM block `PUBLIC KEY`".to_owned())?;
        let unusable = |why: &dyn std::fmt::Display| {
            format!("not a key that is used here (ECDSA P-256 or P-384, RSA, Ed25519): {why}")
        };
        let algorithm = KeyAlgorithm::from_spki(&key).map_err(|e| unusable(&e))?;
        match hash {
            None => VerificationKey::from_spki(&key).map(drop).map_err(|e| unusable(&e))?,
            Some(hash) => {
                if algorithm == KeyAlgorithm::Ed25519 && hash != KeyHash::Sha512 {
                    return Err("an Ed25519 key hashes with SHA-512 alone".to_owned());
                }
                let scheme = algorithm.resolve_signing_scheme(hash.into()).map_err(|e| unusable(&e))?;
                VerificationKey::from_spki_with_scheme(&key, scheme).map(drop).map_err(|e| unusable(&e))?;
            }
        }
        let fingerprint = hex::encode(Sha256::digest(key.as_bytes()));
        Ok(TrustedKey { pem: key.to_pem(), fingerprint, hash, window })
    }
}

impl From<KeyHash> for HashAlgorithm {
    fn from(hash: KeyHash) -> Self {
        match hash {
            KeyHash::Sha256 => HashAlgorithm::Sha2256,
            KeyHash::Sha384 => HashAlgorithm::Sha2384,
            KeyHash::Sha512 => HashAlgorithm::Sha2512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_ends_in_it_but_for_the_compromise() {
        let window = Window { valid_from: Some(Time(10)), valid_until: Some(Time(20)), compromised_at: None };
        for (at, good) in [(9, false), (10, true), (20, true), (21, false)] {
            assert_eq!(window.refuses(Time(at)).is_none(), good, "{at}");
        }
        let window = Window { compromised_at: Some(Time(15)), ..Window::default() };
        assert!(window.refuses(Time(14)).is_none() && window.refuses(Time(15)).is_some());
        assert!(!window.is_open() && Window::default().is_open());
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_sentence() {
        let open = Window::default();
        let junk = "-----BEGIN PUBLIC KEY-----\nYWJjZA==\n-----END PUBLIC KEY-----\n";
        let private = "-----BEGIN PRIVATE KEY-----\nYWJjZA==\n-----END PRIVATE KEY-----\n";
        for bad in ["", "---somedata---", junk, private, "-----BEGIN PUBLIC KEY-----\nAAAA"] {
            assert!(TrustedKey::all_of_pem(bad, None, open).is_err(), "{bad}");
        }
    }
}
