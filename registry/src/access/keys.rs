// SPDX-License-Identifier: AGPL-3.0-only
//! Public keys that check signatures of tokens, as a JWKS (RFC 7517) or PEM holds them.
//!
//! Invariant: each key knows the exact algorithms that it may be used with, by its kind and by what its set says of
//! it. A token is never asked what kind of key it is to be checked with, and a secret is no key here.

use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};
use stella_policy::strict_json;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::{self, Decode as _, Encode as _};
use x509_cert::spki::SubjectPublicKeyInfoRef;

/// The largest set of keys that is read, in bytes.
pub(super) const MAX_SIZE: usize = 256 << 10;
/// A token without a `kid` is tried with each.
const MAX_KEYS: usize = 100;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// With what a token is signed (RFC 7518, section 3.1; RFC 8037). There is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

use SignatureAlgorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};

impl SignatureAlgorithm {
    const ALL: [SignatureAlgorithm; 9] = [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
    const RSA: [(SignatureAlgorithm, &'static RsaParameters); 6] = [
        (RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
        (RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
        (RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
        (PS256, &signature::RSA_PSS_2048_8192_SHA256),
        (PS384, &signature::RSA_PSS_2048_8192_SHA384),
        (PS512, &signature::RSA_PSS_2048_8192_SHA512),
    ];

    /// As `alg` has it, to the letter.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            RS256 => "RS256",
            RS384 => "RS384",
            RS512 => "RS512",
            PS256 => "PS256",
            PS384 => "PS384",
            PS512 => "PS512",
            ES256 => "ES256",
            ES384 => "ES384",
            EdDSA => "EdDSA",
        }
    }
}

/// Keys of one issuer; at least one.
#[derive(Debug)]
pub(crate) struct PublicKeys(Vec<PublicKey>);

/// A key.
#[derive(Debug)]
pub(super) struct PublicKey {
    kid: Option<String>,
    /// The same key for each algorithm that it may be used with.
    uses: Vec<(SignatureAlgorithm, ParsedPublicKey)>,
}

impl PublicKeys {
    /// Those of a JWKS, or else of PEM.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            Self::from_jwks(bytes)
        } else {
            Self::from_pem(bytes)
        }
    }

    /// Those of a JWKS (RFC 7517) that sign. What is for something else, or of a kind that is not known here, is left
    /// out, as section 5 wants it.
    pub(crate) fn from_jwks(bytes: &[u8]) -> Result<Self, String> {
        fits(bytes)?;
        let set: Map<String, Value> =
            strict_json(bytes, bytes.len()).map_err(|error| format!("it is no JWKS: {error}"))?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err("it is no JWKS: it has no list `keys`".to_owned());
        };
        Self::of(list.iter().map(|key| match key {
            Value::Object(members) => PublicKey::of_jwk(members),
            _ => Err("it is no object".to_owned()),
        }))
    }

    /// Those of certificates and of public keys in PEM. They have no names, so each is tried with each token.
    pub(crate) fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        fits(bytes)?;
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|error| format!("it is neither a JWKS nor PEM: {error}"))?;
            match kind {
                SectionKind::PublicKey => keys.push(PublicKey::of_spki(&der)),
                SectionKind::Certificate => keys.push(PublicKey::of_certificate(&der)),
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                    return Err(
                        "it holds a private key, which is nobody else's; give only public keys".to_owned()
                    );
                }
                _ => {}
            }
        }
        Self::of(keys.into_iter())
    }

    fn of(all: impl ExactSizeIterator<Item = Result<PublicKey, String>>) -> Result<Self, String> {
        if all.len() > MAX_KEYS {
            return Err(format!("it has {} keys; at most {MAX_KEYS} are taken", all.len()));
        }
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for (index, key) in all.enumerate() {
            match key {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(format!("key {}: {fault}", index + 1)),
            }
        }
        match (keys.is_empty(), faults.is_empty()) {
            (false, _) => Ok(PublicKeys(keys)),
            (true, true) => Err("it has no keys".to_owned()),
            (true, false) => {
                faults.truncate(5);
                Err(format!("none of its keys can be used: {}", faults.join("; ")))
            }
        }
    }

    /// Whether a token that names this key can be checked.
    pub(crate) fn has(&self, kid: Option<&str>) -> bool {
        self.named(kid).next().is_some()
    }

    /// The keys that a token with this `kid` may be signed with. A key with a name is never tried for another.
    pub(super) fn named<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a PublicKey> {
        self.0.iter().filter(move |key| match (kid, key.kid.as_deref()) {
            (Some(asked), Some(name)) => asked == name,
            _ => true,
        })
    }
}

impl PublicKey {
    /// The key for an algorithm, if it may be used with it.
    pub(super) fn used_with(&self, algorithm: SignatureAlgorithm) -> Option<&ParsedPublicKey> {
        self.uses.iter().find(|(allowed, _)| *allowed == algorithm).map(|(_, key)| key)
    }

    fn of_jwk(jwk: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("`{name}` is no text")),
        };
        let bytes = |name: &str| {
            let text = text(name)?.ok_or_else(|| format!("`{name}` is missing"))?;
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("`{name}` is no base64url"))
        };
        if text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures".to_owned());
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |list: &Vec<Value>| list.iter().any(|operation| operation == "verify");
            if !operations.as_array().is_some_and(verifies) {
                return Err("it is not for checking signatures".to_owned());
            }
        }
        let mut uses = match (text("kty")?, text("crv")?) {
            (Some("RSA"), _) => rsa(&bytes("n")?, &bytes("e")?)?,
            (Some("EC"), Some("P-256")) => ec(ES256, &point(&bytes("x")?, &bytes("y")?))?,
            (Some("EC"), Some("P-384")) => ec(ES384, &point(&bytes("x")?, &bytes("y")?))?,
            (Some("OKP"), Some("Ed25519")) => ed25519(&bytes("x")?)?,
            (Some("oct"), _) => return Err("it is a secret, not a public key".to_owned()),
            _ => return Err("it is neither RSA, P-256, P-384 nor Ed25519".to_owned()),
        };
        if let Some(only) = text("alg")? {
            uses.retain(|(algorithm, _)| algorithm.as_str() == only);
        }
        if uses.is_empty() {
            return Err("its `alg` is not one that signs with such a key".to_owned());
        }
        Ok(PublicKey { kid: text("kid")?.map(str::to_owned), uses })
    }

    fn of_certificate(der: &[u8]) -> Result<Self, String> {
        let wrong = |error: der::Error| format!("it is no certificate: {error}");
        let certificate = Certificate::from_der(der).map_err(wrong)?;
        let spki = certificate.tbs_certificate().subject_public_key_info().to_der().map_err(wrong)?;
        Self::of_spki(&spki)
    }

    fn of_spki(der: &[u8]) -> Result<Self, String> {
        let wrong = |error: der::Error| format!("it is no public key: {error}");
        let spki = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|error| format!("it is no public key: {error}"))?;
        let key = spki.subject_public_key.as_bytes().ok_or("it is no public key")?;
        let curve = || spki.algorithm.parameters_oid().ok();
        let uses = match spki.algorithm.oid {
            RSA => {
                let (n, e) = rsa_numbers(key).map_err(wrong)?;
                rsa(n, e)?
            }
            EC if curve() == Some(P256) => ec(ES256, key)?,
            EC if curve() == Some(P384) => ec(ES384, key)?,
            ED25519 => ed25519(key)?,
            _ => return Err("it is neither RSA, P-256, P-384 nor Ed25519".to_owned()),
        };
        Ok(PublicKey { kid: None, uses })
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1).
pub(super) fn rsa_numbers(der: &[u8]) -> Result<(&[u8], &[u8]), der::Error> {
    let (n, e) = AnyRef::from_der(der)?
        .sequence(|reader| Ok::<_, der::Error>((UintRef::decode(reader)?, UintRef::decode(reader)?)))?;
    Ok((n.as_bytes(), e.as_bytes()))
}

type Uses = Vec<(SignatureAlgorithm, ParsedPublicKey)>;

fn rsa(n: &[u8], e: &[u8]) -> Result<Uses, String> {
    let [n, e] = [n, e].map(|number| &number[number.iter().take_while(|byte| **byte == 0).count()..]);
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(format!("an RSA key has 2048 to 8192 bits, and this one {bits}"));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    // With an exponent of 1 anything is a signature.
    if !is_odd(n) || !is_odd(e) || e == [1] || e.len() > 4 {
        return Err("it is no RSA key".to_owned());
    }
    let key = RsaPublicKeyComponents { n, e };
    let uses = SignatureAlgorithm::RSA.into_iter().map(|(algorithm, parameters)| {
        key.to_parsed_public_key(parameters)
            .map(|key| (algorithm, key))
            .map_err(|_| "it is no RSA key".to_owned())
    });
    uses.collect()
}

/// SEC 1, section 2.3.3.
fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn ec(algorithm: SignatureAlgorithm, point: &[u8]) -> Result<Uses, String> {
    let (parameters, length): (&'static dyn VerificationAlgorithm, _) = match algorithm {
        ES384 => (&signature::ECDSA_P384_SHA384_FIXED, 97),
        _ => (&signature::ECDSA_P256_SHA256_FIXED, 65),
    };
    if point.len() != length || point.first() != Some(&4) {
        return Err("its point has the wrong length".to_owned());
    }
    let key =
        ParsedPublicKey::new(parameters, point).map_err(|_| "it is no point of its curve".to_owned())?;
    Ok(vec![(algorithm, key)])
}

fn ed25519(key: &[u8]) -> Result<Uses, String> {
    if key.len() != 32 {
        return Err("an Ed25519 key has 32 bytes".to_owned());
    }
    let key =
        ParsedPublicKey::new(&signature::ED25519, key).map_err(|_| "it is no Ed25519 key".to_owned())?;
    Ok(vec![(EdDSA, key)])
}

fn fits(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_SIZE { Err(format!("it is larger than {}KiB", MAX_SIZE >> 10)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
