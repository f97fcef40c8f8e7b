// SPDX-License-Identifier: AGPL-3.0-only
//! Which key a token is checked with, and how: never as the token itself would like.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::access::forge::hs256;

#[test]
fn no_token_does_without_a_signature() {
    for forge in [&*RSA, &*P256, &*ED25519] {
        for alg in
            ["none", "None", "NONE", "nOnE", "none ", "", "rs256", "es256", "eddsa", "HS256", "RS1", "ES256K"]
        {
            for signed in [true, false] {
                let token = forge.sign(&json!({"alg": alg, "kid": "1"}), &claims(json!({})));
                let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
                let token = if signed { token } else { unsigned };
                assert_eq!(fault(&token, &forge.keys()), TokenError::Algorithm, "{alg:?}");
            }
        }
        let empty = forge.token(&claims(json!({})));
        let empty = format!("{}.", empty.rsplit_once('.').unwrap().0);
        assert_eq!(fault(&empty, &forge.keys()), TokenError::Signature);
    }
    for alg in [json!(null), json!(1), json!(["ES256"])] {
        assert_eq!(headed(json!({"alg": alg})), Err(TokenError::Algorithm));
    }
    let headless = P256.sign(&json!({"kid": "1"}), &claims(json!({})));
    assert_eq!(fault(&headless, &P256.keys()), TokenError::Algorithm);
}

#[test]
fn a_public_key_is_no_secret() {
    for forge in [&*RSA, &*P256, &*ED25519] {
        let jwk = forge.jwk(json!({"kid": "1"})).to_string();
        let text = forge.pem();
        let spki = forge.spki();
        for secret in [text.as_bytes(), text.trim_end().as_bytes(), &spki, forge.raw(), jwk.as_bytes(), b""] {
            let token = hs256(secret, &claims(json!({})));
            assert_eq!(fault(&token, &forge.keys()), TokenError::Algorithm);
            assert_eq!(fault(&token, &PublicKeys::from_pem(text.as_bytes()).unwrap()), TokenError::Algorithm);
        }
    }
}

#[test]
fn the_key_decides_which_algorithms_there_are() {
    let good = claims(json!({}));
    // Well signed, but with the key of another family.
    for (alg, signer, keys) in [
        ("RS256", &*RSA, P256.keys()),
        ("ES256", &*P256, RSA.keys()),
        ("ES256", &*P256, P384.keys()),
        ("ES384", &*P256, P256.keys()),
        ("EdDSA", &*ED25519, P256.keys()),
    ] {
        let token = signer.sign(&json!({"alg": alg, "kid": "1"}), &good);
        assert_eq!(fault(&token, &keys), TokenError::Algorithm, "{alg}");
    }
    let only = |alg: &str| {
        PublicKeys::from_jwks(jwks([RSA.jwk(json!({"kid": "1", "alg": alg}))]).as_bytes()).unwrap()
    };
    let token = |alg: &str| RSA.sign(&json!({"alg": alg, "kid": "1"}), &good);
    assert!(look(&token("RS256"), &only("RS256")).is_ok() && look(&token("PS256"), &only("PS256")).is_ok());
    assert_eq!(fault(&token("PS256"), &only("RS256")), TokenError::Algorithm);
    assert_eq!(fault(&token("RS256"), &only("PS256")), TokenError::Algorithm);
    assert_eq!(fault(&token("RS512"), &only("RS256")), TokenError::Algorithm);
    // It says one algorithm, and is signed with another of the same key.
    let lied = token("PS256");
    let signature = lied.rsplit_once('.').unwrap().1;
    let lied = format!("{}.{signature}", token("RS256").rsplit_once('.').unwrap().0);
    assert_eq!(fault(&lied, &RSA.keys()), TokenError::Signature);
}

#[test]
fn a_signature_in_der_is_none() {
    let Forge::P256(key) = &*P256 else { unreachable!() };
    let der = key.to_pkcs8v1().unwrap();
    let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        der.as_ref(),
    );
    let token = P256.token(&claims(json!({})));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let der = key.unwrap().sign(&aws_lc_rs::rand::SystemRandom::new(), signed.as_bytes()).unwrap();
    let fixed = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    for wrong in [
        der.as_ref(),
        &fixed[..63],
        &[&fixed[..], &[0]].concat(),
        &[0; 64],
        &[&[0; 32], &fixed[32..]].concat(),
    ] {
        assert_eq!(fault(&format!("{signed}.{}", encode(wrong)), &P256.keys()), TokenError::Signature);
    }
}

#[test]
fn a_key_is_known_by_its_name() {
    let other = Forge::p256();
    let set = jwks([P256.jwk(json!({"kid": "1"})), other.jwk(json!({"kid": "2"}))]);
    let keys = PublicKeys::from_jwks(set.as_bytes()).unwrap();
    let token =
        |forge: &Forge, kid: Value| forge.sign(&json!({"alg": "ES256", "kid": kid}), &claims(json!({})));
    assert!(
        look(&token(&P256, json!("1")), &keys).is_ok() && look(&token(&other, json!("2")), &keys).is_ok()
    );
    assert_eq!(fault(&token(&P256, json!("2")), &keys), TokenError::Signature);
    for kid in ["3", "", "01", "1 "] {
        assert_eq!(fault(&token(&P256, json!(kid)), &keys), TokenError::UnknownKey);
    }
    for kid in [json!(1), json!(null), json!({"kid": "1"})] {
        assert_eq!(fault(&token(&P256, kid), &keys), TokenError::UnknownKey);
    }
    let nameless = P256.sign(&json!({"alg": "ES256"}), &claims(json!({})));
    assert!(look(&nameless, &keys).is_ok(), "without a name all are tried");
    assert_eq!(fault(&Forge::p256().token(&claims(json!({}))), &keys), TokenError::Signature);
}

#[test]
fn a_header_names_no_key_of_its_own() {
    let evil = Forge::p256();
    let jwk = evil.jwk(json!({"kid": "1"}));
    for more in [
        json!({"jwk": jwk}),
        json!({"jku": "http://127.0.0.1:1/keys", "kid": "1"}),
        json!({"x5u": "http://127.0.0.1:1/certificate"}),
        json!({"x5c": ["MIIB"], "x5t": "AA"}),
    ] {
        assert_eq!(headed(more.clone()), Ok(()), "they are not looked at");
        let mut header = json!({"alg": "ES256", "kid": "1"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(fault(&evil.sign(&header, &claims(json!({}))), &P256.keys()), TokenError::Signature);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_bit_of_a_signature_counts(kind in 0_usize..4, position in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let forge = [&*RSA, &*P256, &*P384, &*ED25519][kind];
        let token = forge.token(&claims(json!({})));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert_eq!(fault(&format!("{signed}.{}", encode(&bytes)), &forge.keys()), TokenError::Signature);
    }
}
