// SPDX-License-Identifier: AGPL-3.0-only
//! Public keys that an operator trusts: P-256, P-384, RSA (2048 to 4096 bits, PKCS #1 v1.5) and Ed25519, from PEM. A key
//! is known by the SHA-256 of its `SubjectPublicKeyInfo`, whatever a signature says of itself. This is the only place
//! where public keys are read.

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::{KeyAlgorithm, SigningScheme, VerificationKey, validate_raw_public_key};
use sigstore_types::{DerPublicKey, HashAlgorithm};

use crate::der;
use crate::limits::TRUST_BYTES;
use crate::pem;
use crate::refusal::Refusal;
use crate::scheme::Scheme;
use crate::{Error, Result};

/// rsaEncryption (1.2.840.113549.1.1.1) with its NULL.
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// Smaller ones are broken, larger ones only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The most keys in one text.
const MOST_KEYS: usize = 64;

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

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    spki: DerPublicKey,
    fingerprint: String,
    algorithm: KeyAlgorithm,
    /// The only scheme that it is used with, if somebody has chosen a hash.
    only: Option<(KeyHash, SigningScheme)>,
}

impl PublicKey {
    /// The only key in a PEM text: `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<Self> {
        match blocks(text, 2)?.as_slice() {
            [block] => PublicKey::from_block(block),
            _ => Err(Error::Key("one public key in PEM is expected, `-----BEGIN PUBLIC KEY-----`".into())),
        }
    }

    /// All keys in a PEM text, none of them twice.
    pub fn all_of_pem(text: &str) -> Result<Vec<Self>> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for block in &blocks(text, MOST_KEYS)? {
            let key = PublicKey::from_block(block)?;
            if keys.iter().any(|other| other.fingerprint == key.fingerprint) {
                return Err(Error::Key(format!("the key {} is there twice", key.fingerprint)));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn from_block(block: &pem::Block) -> Result<Self> {
        match block.label.as_str() {
            "PUBLIC KEY" => PublicKey::from_spki(&block.bytes),
            "RSA PUBLIC KEY" => {
                let bits = der::write(0x03, &[&[0], block.bytes.as_slice()].concat());
                PublicKey::from_spki(&der::write(der::SEQUENCE, &[RSA_ALGORITHM, &bits].concat()))
            }
            "CERTIFICATE" => Err(Error::Key("a certificate is no key; take its public key out".into())),
            other if other.contains("PRIVATE KEY") => {
                Err(Error::Key("this is a private key; a public one is expected".into()))
            }
            other => Err(Error::Key(format!("`{other}` is no public key; `PUBLIC KEY` is expected"))),
        }
    }

    /// A key from its `SubjectPublicKeyInfo` in DER.
    pub fn from_spki(bytes: &[u8]) -> Result<Self> {
        let unusable = |why: String| Error::Key(format!("not a key that can be used here: {why}"));
        der::only(bytes, der::SEQUENCE).map_err(|refusal| unusable(refusal.why))?;
        let spki = DerPublicKey::new(bytes.to_vec());
        let algorithm = KeyAlgorithm::from_spki(&spki)
            .map_err(|error| unusable(format!("{error} (P-256, P-384, RSA and Ed25519 can)")))?;
        let supported = matches!(
            algorithm,
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Rsa | KeyAlgorithm::Ed25519
        );
        if !supported {
            return Err(unusable(format!("{algorithm:?} (P-256, P-384, RSA and Ed25519 can)")));
        }
        let scheme = algorithm.default_signing_scheme();
        let raw =
            VerificationKey::from_spki_with_scheme(&spki, scheme).map_err(|e| unusable(e.to_string()))?;
        validate_raw_public_key(scheme, raw.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        if algorithm == KeyAlgorithm::Rsa {
            let bits = rsa_bits(raw.as_bytes()).map_err(|refusal| unusable(refusal.why))?;
            if !RSA_BITS.contains(&bits) {
                return Err(unusable(format!("RSA with {bits} bits (2048 to 4096 can)")));
            }
        }
        if algorithm == KeyAlgorithm::Ed25519 && raw.as_bytes().len() != 32 {
            return Err(unusable("an Ed25519 key has 32 bytes".into()));
        }
        Ok(PublicKey { fingerprint: ::hex::encode(Sha256::digest(bytes)), spki, algorithm, only: None })
    }

    /// The same key, used with this hash and no other.
    pub fn with_hash(mut self, hash: KeyHash) -> Result<Self> {
        if self.algorithm == KeyAlgorithm::Ed25519 && hash != KeyHash::Sha512 {
            return Err(Error::Key("an Ed25519 key hashes with SHA-512 alone".into()));
        }
        let unusable = |why: String| Error::Key(format!("the key is not used with this hash: {why}"));
        let scheme = self
            .algorithm
            .resolve_signing_scheme(hash.into())
            .map_err(|error| unusable(error.to_string()))?;
        VerificationKey::from_spki_with_scheme(&self.spki, scheme)
            .map_err(|error| unusable(error.to_string()))?;
        self.only = Some((hash, scheme));
        Ok(self)
    }

    /// The only hash that it is used with, if one was chosen.
    pub fn hash(&self) -> Option<KeyHash> {
        self.only.map(|(hash, _)| hash)
    }

    /// SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Its `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        self.spki.as_bytes()
    }

    /// What kind of key it is, for a person.
    pub fn kind(&self) -> &'static str {
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => "P-256",
            KeyAlgorithm::EcdsaP384 => "P-384",
            KeyAlgorithm::Rsa => "RSA",
            _ => "Ed25519",
        }
    }

    /// Whether `signature` is of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.scheme_of(&[message], signature).is_some()
    }

    /// The same of a message of which only the hash is known: SHA-256, SHA-384 or SHA-512, by its length. Ed25519 signs
    /// messages, not hashes; only Ed25519ph signs SHA-512.
    pub fn verifies_prehashed(&self, hash: &[u8], signature: &[u8]) -> bool {
        self.scheme_of_hash(hash, signature).is_some()
    }

    /// How `signature` was made, if it is of this message, given in parts, by this key.
    pub(crate) fn scheme_of(&self, parts: &[&[u8]], signature: &[u8]) -> Option<Scheme> {
        self.schemes().find(|scheme| scheme.verifies(&self.spki, parts, signature))
    }

    /// The same of a message of which only the hash is known.
    pub(crate) fn scheme_of_hash(&self, hash: &[u8], signature: &[u8]) -> Option<Scheme> {
        self.schemes().find(|scheme| scheme.verifies_hash(&self.spki, hash, signature))
    }

    /// How the crates sign with such a key what has a hash of this kind, or what has none.
    pub(crate) fn usual_scheme(&self, hash: Option<HashAlgorithm>) -> Option<Scheme> {
        match hash {
            None => Some(Scheme::Known(self.algorithm.default_signing_scheme())),
            Some(hash) => self.algorithm.resolve_signing_scheme(hash).ok().map(Scheme::Known),
        }
    }

    pub(crate) fn der(&self) -> &DerPublicKey {
        &self.spki
    }

    /// With the hash that was chosen; else how cosign signs with such a key, now and formerly: P-384 with SHA-384, by
    /// older clients with SHA-256; Ed25519 plain, and what goes into a log with SHA-512 before.
    fn schemes(&self) -> impl Iterator<Item = Scheme> {
        let known: &[SigningScheme] = match (self.algorithm, &self.only) {
            (_, Some((_, scheme))) => std::slice::from_ref(scheme),
            (KeyAlgorithm::EcdsaP256, None) => &[SigningScheme::EcdsaP256Sha256],
            (KeyAlgorithm::EcdsaP384, None) => {
                &[SigningScheme::EcdsaP384Sha384, SigningScheme::EcdsaP384Sha256]
            }
            (KeyAlgorithm::Rsa, None) => {
                &[SigningScheme::RsaPkcs1Sha256, SigningScheme::RsaPkcs1Sha384, SigningScheme::RsaPkcs1Sha512]
            }
            (KeyAlgorithm::Ed25519, None) => &[SigningScheme::Ed25519],
            _ => &[],
        };
        let hashed = (self.algorithm == KeyAlgorithm::Ed25519).then_some(Scheme::Ed25519ph);
        known.iter().copied().map(Scheme::Known).chain(hashed)
    }

    /// The name of its algorithm in a trust root.
    pub(crate) fn details(&self) -> &'static str {
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => "PKIX_ECDSA_P256_SHA_256",
            KeyAlgorithm::EcdsaP384 => "PKIX_ECDSA_P384_SHA_384",
            KeyAlgorithm::Rsa => "PKIX_RSA_PKCS1V15_2048_SHA256",
            _ => "PKIX_ED25519",
        }
    }
}

fn blocks(text: &str, most: usize) -> Result<Vec<pem::Block>> {
    if text.len() > TRUST_BYTES {
        return Err(Error::Key(format!("more than {TRUST_BYTES} bytes of keys")));
    }
    pem::blocks(text, most).map_err(|refusal| Error::Key(refusal.why))
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

/// For hashes of policies: which key, and how it is used.
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (&self.fingerprint, self.hash()).serialize(serializer)
    }
}

fn rsa_bits(key: &[u8]) -> std::result::Result<usize, Refusal> {
    let modulus = der::only(key, der::SEQUENCE)?.inside().expect(der::INTEGER)?.content;
    let digits = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let top = digits.first().map_or(0, |first| first.leading_zeros() as usize);
    Ok(digits.len() * 8 - top)
}

#[cfg(test)]
mod tests {
    use sha2::Sha384;
    use sigstore_crypto::KeyPair;

    use super::*;

    fn public(pair: &KeyPair) -> PublicKey {
        PublicKey::from_pem(&pair.public_key_der().unwrap().to_pem()).unwrap()
    }

    #[test]
    fn a_signature_is_of_its_message_and_key_alone() {
        let pair = KeyPair::generate_ecdsa_p256().unwrap();
        let key = public(&pair);
        let signature = pair.sign(b"message").unwrap();
        assert!(key.verifies(b"message", signature.as_bytes()));
        assert!(!key.verifies(b"massage", signature.as_bytes()));
        assert!(!key.verifies(b"message", b""));
        let other = public(&KeyPair::generate_ecdsa_p256().unwrap());
        assert!(!other.verifies(b"message", signature.as_bytes()));
        assert!(key.verifies_prehashed(&Sha256::digest(b"message"), signature.as_bytes()));
        assert!(!key.verifies_prehashed(b"message", signature.as_bytes()));
    }

    #[test]
    fn a_p384_key_signs_with_sha_384_and_formerly_with_sha_256() {
        let key = PublicKey::from_pem(P384).unwrap();
        for (signature, good) in [(P384_SHA384, true), (P384_SHA256, true), (P384_SHA512, false)] {
            let signature = crate::json::base64(signature).unwrap();
            assert_eq!(key.verifies(b"message", &signature), good);
            assert!(!key.verifies(b"massage", &signature));
        }
        let signature = crate::json::base64(P384_SHA256).unwrap();
        assert!(key.verifies_prehashed(&Sha256::digest(b"message"), &signature));
        assert!(!key.verifies_prehashed(&Sha384::digest(b"message"), &signature));
    }

    #[test]
    fn a_key_with_a_hash_of_its_own_verifies_with_that_hash_alone() {
        let key = |hash| PublicKey::from_pem(P384).unwrap().with_hash(hash).unwrap();
        let of = |text| crate::json::base64(text).unwrap();
        for (hash, sha256, sha384) in [(KeyHash::Sha256, true, false), (KeyHash::Sha384, false, true)] {
            assert_eq!(key(hash).verifies(b"message", &of(P384_SHA256)), sha256);
            assert_eq!(key(hash).verifies(b"message", &of(P384_SHA384)), sha384);
            assert_eq!(key(hash).verifies_prehashed(&Sha256::digest(b"message"), &of(P384_SHA256)), sha256);
        }
        assert!(PublicKey::from_pem(P384).unwrap().with_hash(KeyHash::Sha512).is_err());
        let rsa = PublicKey::from_pem(RSA).unwrap();
        assert_eq!(rsa.hash(), None);
        assert_eq!(rsa.with_hash(KeyHash::Sha512).unwrap().hash(), Some(KeyHash::Sha512));
    }

    #[test]
    fn an_rsa_key_is_the_same_in_both_of_its_forms() {
        let (pkcs1, spki) = (PublicKey::from_pem(RSA_PKCS1).unwrap(), PublicKey::from_pem(RSA).unwrap());
        assert_eq!(pkcs1, spki);
        assert!(PublicKey::from_pem(RSA_1024).unwrap_err().to_string().contains("1024"));
        assert!(
            PublicKey::from_pem(P521).unwrap_err().to_string().contains("P-256, P-384, RSA and Ed25519 can")
        );
    }

    #[test]
    fn the_fingerprint_is_of_the_key_as_everybody_writes_it() {
        let pair = KeyPair::generate_ecdsa_p256().unwrap();
        let spki = pair.public_key_der().unwrap();
        assert_eq!(public(&pair).fingerprint(), ::hex::encode(Sha256::digest(spki.as_bytes())));
    }

    #[test]
    fn what_is_no_usable_key_is_said_to_be_so() {
        let pem = KeyPair::generate_ecdsa_p256().unwrap().public_key_der().unwrap().to_pem();
        let relabelled = |label: &str| pem.replace("PUBLIC KEY", label);
        for (text, why) in [
            ("", "one public key"),
            (&*format!("{pem}{pem}"), "one public key"),
            (&relabelled("CERTIFICATE"), "a certificate is no key"),
            (&relabelled("PRIVATE KEY"), "private key"),
            (&relabelled("ENCRYPTED SIGSTORE PRIVATE KEY"), "private key"),
            (&relabelled("OTHER"), "`OTHER` is no public key"),
            (&relabelled("RSA PUBLIC KEY"), "not a key"),
            (&pem.replace("MFkw", "MFkx"), "not a key"),
        ] {
            let error = PublicKey::from_pem(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    // Made with OpenSSL 3 for these tests: `openssl dgst -shaN -sign`, of the text `message`.
    const P384: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEs8bpvt/I5oiTILzN/1aT1fSErSgspXaO\n\
Goz4LS09rr+e0H8saC2VS5S0l83yI6EZTs4Pem0Y7Fn/SiAYAmpFdAAZj4SFFwx9\n\
brYYId55e55MsSedoNWVgsVILE3rj55j\n\
-----END PUBLIC KEY-----\n\
";
    const P384_SHA256: &str = "MGUCME73c7F0ofQrzilXPRrYU8zQVIne9UImw8s/vXZwyvAonYB8ai+aNV3Tz62XoP3H0AIxAL8TUtsnX7AQm1fhMx3nESUMBNMyHc2R1T9D66I2EZGtVkbb9lEAzq83vZAAjOyehQ==";
    const P384_SHA384: &str = "MGUCMDT3X67RsWydFwBFurfhZmz3KsRh23VonQLBPvwW0iAW61HI1KoGBwNF4biq3MnjvwIxAJE9h/30YxQFOHsQXpNylqQ/WYpDmLsp8l2nd2VrN4l14Qh7vU2d+Ge6cJ2Xh4uqrA==";
    const P384_SHA512: &str = "MGQCMGOiDG195hmCdbdLx66TEARYTt42zvry+6AIdcRbVDyxRVH1B+6jRheqHfZ2RcTnWAIwC38S63/VxeBiJSC7JpkAJQGp5rWJp+CjGOBd4Yuig7M3QAw/7+UNikKcaIHo8CGp";
    const RSA: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAutVi+K+GxEe6o9Rm0Dfj\n\
bWLBjlPnYpQMOmhUnFHgPp/sbTJFHfvXR2P8Jx3AwFFMgvqI3uR3O7zDksdWvGu6\n\
srdy+Comc4eBDKfwaI1eMoUfwFZGQbXiWu6F4wFeVRmeQ6kxCRdh4EvHosO2BXbV\n\
S5NzTRQgtdvlzbNA36gWQ/WvC8RaDSkMRjhEpa6xmWJiRjUbLW6IJzrBChTswkh/\n\
vYpoi0hDh5zAS8okOoNrvwHYOgyrw/xLi1HMU1N+q5bBeOUgs6rq4H1UtkBH0bIP\n\
A0O0Ur0WCl8UdyN+amNiuA6hLeUdfDYPXa2XFzTda9leZcCuVHPB4vrtcavVyPoK\n\
6QIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
    const RSA_PKCS1: &str = "\
-----BEGIN RSA PUBLIC KEY-----\n\
MIIBCgKCAQEAutVi+K+GxEe6o9Rm0DfjbWLBjlPnYpQMOmhUnFHgPp/sbTJFHfvX\n\
R2P8Jx3AwFFMgvqI3uR3O7zDksdWvGu6srdy+Comc4eBDKfwaI1eMoUfwFZGQbXi\n\
Wu6F4wFeVRmeQ6kxCRdh4EvHosO2BXbVS5NzTRQgtdvlzbNA36gWQ/WvC8RaDSkM\n\
RjhEpa6xmWJiRjUbLW6IJzrBChTswkh/vYpoi0hDh5zAS8okOoNrvwHYOgyrw/xL\n\
i1HMU1N+q5bBeOUgs6rq4H1UtkBH0bIPA0O0Ur0WCl8UdyN+amNiuA6hLeUdfDYP\n\
Xa2XFzTda9leZcCuVHPB4vrtcavVyPoK6QIDAQAB\n\
-----END RSA PUBLIC KEY-----\n\
";
    const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDE875qck4Do2g8ka6EXM/NgrGa\n\
YCmor/Qucf39VM43weuRY0vLs/opggABMfM5cNgY2EUjgHL5yHxwJ9oICHCluAlN\n\
/MeaFJvPcAn3P/NkFvyxtiEstaDazlKyJ6rCPPiSasORNEz+Gih4u9fKXi7TAPHT\n\
g3dr86WAwqDa0i35uwIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
    const P521: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQB7VClDTWW9fyhvZ9S2h9MAH6LGNM6\n\
zYtkqw5V1pyzEiENTtD2ElsIMnhgf8bIlFwYPkZh4T+ZXq29Up94bbBfAZoBgWU7\n\
j2o6qg2ZiZ8Fxm+5nMJUnSy9/LTNkJP/6yfA+UM+fWHEHIeJ9lxRfUeFOzQ05rI8\n\
8mmmWCDaAMjnkMZ+VaU=\n\
-----END PUBLIC KEY-----\n\
";
}
