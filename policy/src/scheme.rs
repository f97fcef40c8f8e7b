// SPDX-License-Identifier: AGPL-3.0-only
//! How a signature is made with a key: what is hashed with what before it is signed. Ed25519ph, which is how cosign signs
//! with an Ed25519 key what goes into a log (a log sees hashes alone), is not among those of Sigstore's crates.

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update, consts::U64};
use sha2::{Digest, Sha256, Sha384, Sha512};
use sigstore_crypto::{SigningScheme, VerificationKey};
use sigstore_types::{DerPublicKey, HashAlgorithm, SignatureBytes};

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As one of Sigstore's crates knows it.
    Known(SigningScheme),
    /// Ed25519 of a message's SHA-512 (RFC 8032, 5.1), without a context.
    Ed25519ph,
}

impl Scheme {
    /// What a message is hashed with, if its hash is what is signed.
    pub(crate) fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Scheme::Known(scheme) => scheme.hash_algorithm(),
            Scheme::Ed25519ph => Some(HashAlgorithm::Sha2512),
        }
    }

    /// Whether `signature` is of this message, given in parts, by this key. The parts are not put together where hashes
    /// are signed: a message may be large.
    pub(crate) fn verifies(self, key: &DerPublicKey, parts: &[&[u8]], signature: &[u8]) -> bool {
        match self.hash() {
            Some(algorithm) => {
                hash(algorithm, parts).is_some_and(|hash| self.verifies_hash(key, &hash, signature))
            }
            None => self.key(key).is_some_and(|key| {
                key.verify(parts.concat(), &SignatureBytes::new(signature.to_vec())).is_ok()
            }),
        }
    }

    /// The same of a message of which only the hash is known.
    pub(crate) fn verifies_hash(self, key: &DerPublicKey, hash: &[u8], signature: &[u8]) -> bool {
        if self.hash().is_none_or(|algorithm| algorithm.digest_size() != hash.len()) {
            return false;
        }
        match self {
            Scheme::Known(_) => self.key(key).is_some_and(|key| {
                key.verify_prehashed(hash, &SignatureBytes::new(signature.to_vec())).is_ok()
            }),
            Scheme::Ed25519ph => ed25519ph(key, hash, signature).is_some(),
        }
    }

    fn key(self, key: &DerPublicKey) -> Option<VerificationKey> {
        let Scheme::Known(scheme) = self else { return None };
        VerificationKey::from_spki_with_scheme(key, scheme).ok()
    }
}

/// The hash of a message, given in parts.
pub(crate) fn hash(algorithm: HashAlgorithm, parts: &[&[u8]]) -> Option<Vec<u8>> {
    fn of<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
        parts.iter().fold(D::new(), D::chain_update).finalize().to_vec()
    }
    match algorithm {
        HashAlgorithm::Sha2256 => Some(of::<Sha256>(parts)),
        HashAlgorithm::Sha2384 => Some(of::<Sha384>(parts)),
        HashAlgorithm::Sha2512 => Some(of::<Sha512>(parts)),
        _ => None,
    }
}

/// Strictly: neither a key nor a signature of small order, with which a signature would be of many messages.
fn ed25519ph(key: &DerPublicKey, hash: &[u8], signature: &[u8]) -> Option<()> {
    let spki = VerificationKey::from_spki_with_scheme(key, SigningScheme::Ed25519).ok()?;
    let key = VerifyingKey::from_bytes(spki.as_bytes().try_into().ok()?).ok()?;
    let signature = Signature::from_slice(signature).ok()?;
    key.verify_prehashed_strict(Hashed(hash.try_into().ok()?), None, &signature).ok()
}

/// A hash that was made already, for whoever wants to make it.
struct Hashed([u8; 64]);

impl Default for Hashed {
    fn default() -> Self {
        Hashed([0; 64])
    }
}

impl HashMarker for Hashed {}

impl OutputSizeUser for Hashed {
    type OutputSize = U64;
}

impl Update for Hashed {
    fn update(&mut self, _: &[u8]) {}
}

impl FixedOutput for Hashed {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.3: of the text `abc`.
    const KEY: &str =
        "302a300506032b6570032100ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf";
    const SIGNATURE: &str = "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406";

    #[test]
    fn ed25519ph_is_that_of_the_rfc_and_not_plain_ed25519() {
        let key = DerPublicKey::new(::hex::decode(KEY).unwrap());
        let signature = ::hex::decode(SIGNATURE).unwrap();
        assert!(Scheme::Ed25519ph.verifies(&key, &[b"a", b"bc"], &signature));
        assert!(Scheme::Ed25519ph.verifies_hash(&key, &Sha512::digest(b"abc"), &signature));
        assert!(!Scheme::Ed25519ph.verifies(&key, &[b"abd"], &signature));
        assert!(!Scheme::Ed25519ph.verifies_hash(&key, b"abc", &signature));
        assert!(!Scheme::Known(SigningScheme::Ed25519).verifies(&key, &[b"abc"], &signature));
        assert!(!Scheme::Known(SigningScheme::Ed25519).verifies(
            &key,
            &[&Sha512::digest(b"abc")],
            &signature
        ));
        for at in 0..signature.len() {
            let mut other = signature.clone();
            other[at] ^= 1;
            assert!(!Scheme::Ed25519ph.verifies(&key, &[b"abc"], &other), "{at}");
        }
        assert!(!Scheme::Ed25519ph.verifies(&key, &[b"abc"], &signature[..63]));
        assert!(!Scheme::Ed25519ph.verifies(&key, &[b"abc"], &[]));
    }

    /// With the neutral element as the key, `R = B, S = 1` would be a signature of everything.
    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let neutral = format!("302a300506032b657003210001{}", "00".repeat(31));
        let key = DerPublicKey::new(::hex::decode(neutral).unwrap());
        let base = format!("58{}", "66".repeat(31));
        let signature = ::hex::decode(format!("{base}01{}", "00".repeat(31))).unwrap();
        assert!(!Scheme::Ed25519ph.verifies(&key, &[b"abc"], &signature));
    }
}
