// SPDX-License-Identifier: AGPL-3.0-only
//! For tests: issuers of tokens, honest and not. One signs any header and any claims, in any way that it is told.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stella_storage::Timestamp;

use super::keys::{PublicKeys, rsa_numbers};

pub(super) const ISSUER: &str = "https://gitlab.example";
pub(super) const AUDIENCE: &str = "registry.example";
/// The time in all tests, in seconds.
pub(super) const NOW: u64 = 1_700_000_000;

pub(super) fn now() -> Timestamp {
    Timestamp(NOW * 1000)
}

/// A private key, and all forms of its public half.
pub(super) enum Forge {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

// One of each kind, because RSA takes a while.
pub(super) static RSA: LazyLock<Forge> = LazyLock::new(Forge::rsa);
pub(super) static P256: LazyLock<Forge> = LazyLock::new(Forge::p256);
pub(super) static P384: LazyLock<Forge> = LazyLock::new(|| {
    Forge::P384(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
});
pub(super) static ED25519: LazyLock<Forge> =
    LazyLock::new(|| Forge::Ed25519(Ed25519KeyPair::generate().unwrap()));

impl Forge {
    pub(super) fn rsa() -> Self {
        Forge::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(super) fn p256() -> Self {
        Forge::P256(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// The algorithm that it is for; for RSA, one of six.
    pub(super) fn alg(&self) -> &'static str {
        match self {
            Forge::Rsa(_) => "RS256",
            Forge::P256(_) => "ES256",
            Forge::P384(_) => "ES384",
            Forge::Ed25519(_) => "EdDSA",
        }
    }

    /// The public key without anything around it.
    pub(super) fn raw(&self) -> &[u8] {
        match self {
            Forge::Rsa(key) => key.public_key().as_ref(),
            Forge::P256(key) | Forge::P384(key) => key.public_key().as_ref(),
            Forge::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        match self {
            Forge::Rsa(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Forge::P256(key) | Forge::P384(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Forge::Ed25519(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub(super) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }

    pub(super) fn pkcs8(&self) -> Vec<u8> {
        match self {
            Forge::Rsa(key) => key.as_der().unwrap().as_ref().to_vec(),
            Forge::P256(key) | Forge::P384(key) => key.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Forge::Ed25519(key) => key.to_pkcs8v1().unwrap().as_ref().to_vec(),
        }
    }

    /// Its JWK, with more members or others.
    pub(super) fn jwk(&self, more: Value) -> Value {
        let raw = self.raw();
        let point = |crv: &str| {
            let (x, y) = raw[1..].split_at((raw.len() - 1) / 2);
            json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
        };
        let mut jwk = match self {
            Forge::Rsa(_) => {
                let (n, e) = rsa_numbers(raw).unwrap();
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
            Forge::P256(_) => point("P-256"),
            Forge::P384(_) => point("P-384"),
            Forge::Ed25519(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}),
        };
        let Value::Object(more) = more else { unreachable!() };
        jwk.as_object_mut().unwrap().extend(more);
        jwk
    }

    /// A set of this key alone.
    pub(super) fn keys(&self) -> PublicKeys {
        PublicKeys::from_jwks(jwks([self.jwk(json!({"kid": "1"}))]).as_bytes()).unwrap()
    }

    /// A token with the usual header.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.alg(), "kid": "1", "typ": "JWT"}), claims)
    }

    /// A token that is signed as `alg` of its header says, if this key can; else in its own way.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let alg = serde_json::from_str::<Value>(header).unwrap_or_default()["alg"].clone();
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.signature(alg.as_str().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", encode(&signature))
    }

    pub(super) fn signature(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Forge::Rsa(key) => {
                let padding: &'static dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Forge::P256(key) | Forge::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Forge::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token with `alg: HS256` under any secret.
pub(super) fn hs256(secret: &[u8], claims: &Value) -> String {
    let header = json!({"alg": "HS256", "kid": "1", "typ": "JWT"}).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
}

/// Claims that are right, with more or others; those that are null are taken away.
pub(super) fn claims(more: Value) -> Value {
    let mut claims =
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "job", "exp": NOW + 300, "iat": NOW, "nbf": NOW - 5});
    let members = claims.as_object_mut().unwrap();
    let Value::Object(more) = more else { unreachable!() };
    members.extend(more);
    members.retain(|_, value| !value.is_null());
    claims
}

pub(super) fn jwks(keys: impl IntoIterator<Item = Value>) -> String {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64_STANDARD.encode(der).as_bytes().chunks(64) {
        writeln!(text, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    text + &format!("-----END {label}-----\n")
}
