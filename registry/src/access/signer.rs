// SPDX-License-Identifier: AGPL-3.0-only
//! Signing our own tokens: one key, read once, and what others need to check with. Where keys are kept, and when
//! there is a new one, is not decided here.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::keys::rsa_numbers;
use crate::config::Algorithm;

/// Signs tokens with one key.
pub(crate) struct Signer {
    key: Key,
    alg: &'static str,
    kid: String,
    /// Encoded, because it is the same for all, with the dot that follows.
    header: String,
    jwk: Value,
}

/// As much of its thumbprint names a key: enough to tell it from the few others of a set.
const KID: usize = 11;
/// Claims of the usual length are written, and encoded, without asking for memory again.
const CLAIMS: usize = 512;

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// Why there is no key or no token.
#[derive(Debug, Error)]
pub(crate) enum SignerError {
    #[error("the signing key is no private key for {0:?} in PKCS #8")]
    Key(Algorithm),
    #[error("a signing key cannot be made")]
    Generate,
    #[error("a token cannot be signed")]
    Sign,
    #[error("a token's claims cannot be written as JSON")]
    Claims(#[source] serde_json::Error),
}

impl Signer {
    /// A new private key, in PKCS #8. One for `RS256` takes a while.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Vec<u8>, SignerError> {
        let made = match algorithm {
            Algorithm::ES256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                    .map(|document| document.as_ref().to_vec())
            }
            Algorithm::RS256 => RsaKeyPair::generate(KeySize::Rsa3072)
                .and_then(|key| key.as_der().map(|der| der.as_ref().to_vec())),
        };
        made.map_err(|_| SignerError::Generate)
    }

    /// Reads a private key.
    pub(crate) fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, SignerError> {
        let wrong = || SignerError::Key(algorithm);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        // A thumbprint's members stand in the order of their names, without spaces (RFC 7638, section 3).
        let (key, alg, thumbed, mut jwk) = match algorithm {
            Algorithm::ES256 => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
                let key = key.map_err(|_| wrong())?;
                let point = key.public_key().as_ref();
                let (x, y) = point.get(1..).and_then(|point| point.split_at_checked(32)).ok_or_else(wrong)?;
                let (x, y) = (encode(x), encode(y));
                let thumbed = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (Key::Ec(key), "ES256", thumbed, json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}))
            }
            Algorithm::RS256 => {
                let key = RsaKeyPair::from_pkcs8(der).map_err(|_| wrong())?;
                let (n, e) = rsa_numbers(key.public_key().as_ref()).map_err(|_| wrong())?;
                let (n, e) = (encode(n), encode(e));
                let thumbed = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (Key::Rsa(key), "RS256", thumbed, json!({"kty": "RSA", "n": n, "e": e}))
            }
        };
        jwk["use"] = "sig".into();
        jwk["alg"] = alg.into();
        let mut kid = encode(&Sha256::digest(thumbed));
        kid.truncate(KID);
        Ok(Signer { key, alg, kid: String::new(), header: String::new(), jwk }.named(&kid))
    }

    /// The same key by the name that it was given when it was made.
    pub(crate) fn named(mut self, kid: &str) -> Self {
        let header = json!({"typ": "JWT", "alg": self.alg, "kid": kid}).to_string();
        self.header = BASE64_URL_SAFE_NO_PAD.encode(header);
        self.header.push('.');
        self.jwk["kid"] = kid.into();
        kid.clone_into(&mut self.kid);
        self
    }

    /// The key's name. It is a new one's thumbprint (RFC 7638), shortened, because all tokens have it.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key, for a JWKS.
    pub(crate) fn public_jwk(&self) -> Value {
        self.jwk.clone()
    }

    /// A token that says this.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, SignerError> {
        let mut json = Vec::with_capacity(CLAIMS);
        serde_json::to_writer(&mut json, claims).map_err(SignerError::Claims)?;
        let most = self.header.len() + (json.len() + self.key.signature_len()) * 4 / 3 + 4;
        let mut token = String::with_capacity(most);
        token.push_str(&self.header);
        BASE64_URL_SAFE_NO_PAD.encode_string(json, &mut token);
        self.key.sign(&mut token)?;
        Ok(token)
    }
}

impl Key {
    /// Adds the signature of what is there.
    fn sign(&self, token: &mut String) -> Result<(), SignerError> {
        let (random, message) = (SystemRandom::new(), token.as_bytes());
        match self {
            Key::Ec(key) => {
                let signature = key.sign(&random, message).map_err(|_| SignerError::Sign)?;
                token.push('.');
                BASE64_URL_SAFE_NO_PAD.encode_string(signature, token);
            }
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| SignerError::Sign)?;
                token.push('.');
                BASE64_URL_SAFE_NO_PAD.encode_string(signature, token);
            }
        }
        Ok(())
    }

    fn signature_len(&self) -> usize {
        match self {
            Key::Ec(_) => 64,
            Key::Rsa(key) => key.public_modulus_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use stella_storage::Timestamp;

    use super::*;
    use crate::access::keys::PublicKeys;
    use crate::access::tokens::{Expected, TokenError, check};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn what_is_signed_here_can_be_checked_with_the_public_key_alone() {
        for (algorithm, alg) in [(Algorithm::ES256, "ES256"), (Algorithm::RS256, "RS256")] {
            let der = Signer::generate(algorithm).unwrap();
            let signer = Signer::from_pkcs8(algorithm, &der).unwrap();
            let jwk = signer.public_jwk();
            assert_eq!([&jwk["alg"], &jwk["use"], &jwk["kid"]], [alg, "sig", signer.kid()]);
            assert!(jwk.get("d").is_none());
            let other: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk.clone()).unwrap();
            let thumbprint = other.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256);
            assert!(thumbprint.unwrap().starts_with(signer.kid()), "others compute it too");
            assert_eq!(signer.kid().len(), KID);
            let keys = PublicKeys::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
            let claims = json!({"iss": "me", "aud": "me", "sub": "ü", "exp": 1_700_000_100});
            let token = signer.sign(&claims).unwrap();
            let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&header).unwrap(),
                json!({"typ": "JWT", "alg": alg, "kid": signer.kid()})
            );
            let checked = check(&token, &keys, &Expected { issuer: "me", audience: "me" }, NOW).unwrap();
            assert_eq!(Value::Object(checked.claims), claims);
            assert_eq!(checked.expires, Timestamp(1_700_000_100_000));
            // The same key has the same name each time, and another has another.
            let again = Signer::from_pkcs8(algorithm, &der).unwrap();
            assert_eq!(again.kid(), signer.kid());
            let other = Signer::from_pkcs8(algorithm, &Signer::generate(algorithm).unwrap()).unwrap();
            assert_ne!(other.kid(), signer.kid());
        }
    }

    #[test]
    fn a_key_keeps_the_name_that_it_was_given() {
        let der = Signer::generate(Algorithm::ES256).unwrap();
        let whole = Sha256::digest("as earlier versions named keys");
        let whole = BASE64_URL_SAFE_NO_PAD.encode(whole);
        let signer = Signer::from_pkcs8(Algorithm::ES256, &der).unwrap().named(&whole);
        assert_eq!((signer.kid(), &signer.public_jwk()["kid"]), (whole.as_str(), &json!(whole)));
        let keys = json!({"keys": [signer.public_jwk()]}).to_string();
        let keys = PublicKeys::from_jwks(keys.as_bytes()).unwrap();
        let claims = json!({"iss": "me", "aud": "me", "exp": 1_700_000_100});
        let expected = Expected { issuer: "me", audience: "me" };
        assert!(check(&signer.sign(&claims).unwrap(), &keys, &expected, NOW).is_ok());
        let renamed = Signer::from_pkcs8(Algorithm::ES256, &der).unwrap();
        let renamed = check(&renamed.sign(&claims).unwrap(), &keys, &expected, NOW);
        assert_eq!(renamed, Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let der = Signer::generate(Algorithm::ES256).unwrap();
        for (algorithm, der) in [(Algorithm::RS256, der.as_slice()), (Algorithm::ES256, &der[1..])] {
            assert!(matches!(Signer::from_pkcs8(algorithm, der), Err(SignerError::Key(_))));
        }
    }
}
