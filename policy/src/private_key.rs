// SPDX-License-Identifier: AGPL-3.0-only
//! Private keys that sign: those of cosign, under a password or not, and plain ones in PEM. P-256, P-384, RSA and
//! Ed25519; new ones are P-256, as cosign makes them. What a key says of itself to others is its public half.
//!
//! Invariant: no private byte is shown, by an error or by `Debug`, and what was decrypted is wiped when it is dropped.
//! Files and prompts are somebody else's: here are bytes only.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha384};
use zeroize::Zeroizing;

use crate::{Error, Result};

mod pem;
mod sealed;
#[cfg(test)]
mod tests;

const SIGSTORE: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const COSIGN: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const PKCS8: &str = "PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";

/// A private key, ready to sign.
pub struct PrivateKey {
    pair: Pair,
    public: Vec<u8>,
}

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// The hash that a key signs, as bundles name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256; for Ed25519, which signs the message itself, it is only told beside it.
    Sha256,
    /// SHA-384, for P-384.
    Sha384,
}

impl Hash {
    /// Of these bytes.
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha384 => Sha384::digest(bytes).to_vec(),
        }
    }

    /// Its name in a Sigstore bundle (protobuf-specs, `HashAlgorithm`).
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "SHA2_256",
            Hash::Sha384 => "SHA2_384",
        }
    }
}

impl PrivateKey {
    /// The most bytes that a file with a key may have.
    pub const MOST: u64 = 64 << 10;

    /// A new one, P-256.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| Error::Key("the system has no random bytes for a key".to_owned()))?;
        Pair::P256(pair).try_into()
    }

    /// Whether the text is a key that needs a password. An empty one is a password too.
    pub fn needs_password(text: &str) -> Result<bool> {
        Ok(matches!(pem::first(text)?.0.as_str(), SIGSTORE | COSIGN))
    }

    /// Reads a key in PEM. The password counts only where the key is encrypted.
    pub fn from_pem(text: &str, password: &[u8]) -> Result<Self> {
        let (label, bytes) = pem::first(text)?;
        let pair = match label.as_str() {
            SIGSTORE | COSIGN => Pair::from_pkcs8(&sealed::open(&bytes, password)?),
            PKCS8 => Pair::from_pkcs8(&bytes),
            SEC1 => Pair::from_sec1(&bytes),
            PKCS1 => RsaKeyPair::from_der(&bytes).ok().map(|pair| Pair::Rsa(Box::new(pair))),
            "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => {
                return Err(Error::Key("this is a public key; a private one signs".to_owned()));
            }
            "ENCRYPTED PRIVATE KEY" => {
                return Err(Error::Key(
                    "encrypted PKCS#8 is not read; import it with `cosign import-key-pair`".to_owned(),
                ));
            }
            _ => return Err(Error::Key("a PEM text of another kind than a private key".to_owned())),
        };
        pair.ok_or_else(|| {
            Error::Key(
                "not a private key that can sign: P-256, P-384, Ed25519, or RSA with 2048 to 8192 bits"
                    .to_owned(),
            )
        })?
        .try_into()
    }

    /// The key under a password, as cosign writes it.
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<String> {
        Ok(pem::write(SIGSTORE, &sealed::seal(&self.pair.to_pkcs8()?, password)?))
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::Key("the key could not sign".to_owned());
        let random = SystemRandom::new();
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(failed)
            }
            Pair::Ed25519(pair) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(failed)
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// Whether a signature is its own: to find out what it has signed already. Nothing is proven by this.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&dyn VerificationAlgorithm, &[u8]) = match &self.pair {
            Pair::P256(pair) => (&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref()),
            Pair::P384(pair) => (&ECDSA_P384_SHA384_ASN1, pair.public_key().as_ref()),
            Pair::Ed25519(pair) => (&ED25519, pair.public_key().as_ref()),
            Pair::Rsa(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }

    /// What it hashes a message with before it signs.
    pub fn hash(&self) -> Hash {
        if let Pair::P384(_) = self.pair { Hash::Sha384 } else { Hash::Sha256 }
    }

    /// Its public half in PEM.
    pub fn public_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.public)
    }

    /// Its public half, a `SubjectPublicKeyInfo` in DER.
    pub fn public_der(&self) -> &[u8] {
        &self.public
    }

    /// What a bundle says of it: the SHA-256 of its public half in base64.
    pub fn hint(&self) -> String {
        STANDARD.encode(Sha256::digest(&self.public))
    }
}

impl TryFrom<Pair> for PrivateKey {
    type Error = Error;

    fn try_from(pair: Pair) -> Result<Self> {
        let public: std::result::Result<PublicKeyX509Der<'_>, _> = match &pair {
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        let public = public.map_err(|_| Error::Key("the key's public half cannot be written".to_owned()))?;
        let public = public.as_ref().to_vec();
        Ok(PrivateKey { pair, public })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("hint", &self.hint()).finish_non_exhaustive()
    }
}

impl Pair {
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok();
        // Which it is stands inside; each reader takes only its own.
        ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map(Pair::P256)
            .or_else(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Pair::P384))
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Pair::Ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(|pair| Pair::Rsa(Box::new(pair))))
    }

    fn from_sec1(der: &[u8]) -> Option<Self> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_private_key_der(algorithm, der).ok()
        };
        ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map(Pair::P256)
            .or_else(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Pair::P384))
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = match self {
            Pair::P256(pair) | Pair::P384(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| der.as_ref().to_vec()),
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair).map(|der| der.as_ref().to_vec()),
        };
        bytes.map(Zeroizing::new).map_err(|_| Error::Key("the key cannot be written".to_owned()))
    }
}
