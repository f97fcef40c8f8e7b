// SPDX-License-Identifier: AGPL-3.0-only
//! What is a key, and what it may be used with.

use serde_json::json;

use super::*;
use crate::access::forge::{ED25519, Forge, P256, P384, RSA, encode, jwks, pem};

fn uses(keys: &PublicKeys) -> Vec<Vec<&'static str>> {
    keys.0.iter().map(|key| key.uses.iter().map(|(algorithm, _)| algorithm.as_str()).collect()).collect()
}

fn refused(result: Result<PublicKeys, String>) -> String {
    result.map(|keys| uses(&keys)).unwrap_err()
}

const RSA_USES: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

#[test]
fn a_set_holds_keys_of_all_kinds_that_sign_and_nothing_else() {
    let set = jwks([
        RSA.jwk(json!({"kid": "rsa", "use": "sig", "x5c": ["MII"], "x5t": "a"})),
        P256.jwk(json!({"kid": "p256", "alg": "ES256", "key_ops": ["verify"]})),
        P384.jwk(json!({})),
        ED25519.jwk(json!({"kid": "ed"})),
        RSA.jwk(json!({"kid": "encrypts", "use": "enc"})),
        RSA.jwk(json!({"kid": "wraps", "key_ops": ["wrapKey"]})),
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "AKP", "kid": "new"}),
        json!({}),
    ]);
    let keys = PublicKeys::from_jwks(set.as_bytes()).unwrap();
    assert_eq!(uses(&keys), [RSA_USES.to_vec(), vec!["ES256"], vec!["ES384"], vec!["EdDSA"]]);
    // The third has no name, so it may be anybody's.
    for (kid, count) in [(Some("rsa"), 2), (Some("encrypts"), 1), (Some(""), 1), (None, 4)] {
        assert_eq!(keys.named(kid).count(), count, "{kid:?}");
    }
}

#[test]
fn what_a_set_says_of_an_algorithm_is_obeyed() {
    let keys = |more| PublicKeys::from_jwks(jwks([RSA.jwk(more)]).as_bytes());
    assert_eq!(uses(&keys(json!({"alg": "PS256"})).unwrap()), [["PS256"]]);
    for alg in ["HS256", "none", "ES256", "RSA-OAEP", "ps256", ""] {
        assert!(refused(keys(json!({"alg": alg}))).contains("`alg`"), "{alg}");
    }
    assert!(refused(keys(json!({"alg": 1}))).contains("`alg` is no text"));
    assert!(refused(keys(json!({"kid": 1}))).contains("`kid` is no text"));
}

#[test]
fn a_set_without_a_usable_key_says_why() {
    let secret = jwks([json!({"kty": "oct", "k": "c2VjcmV0"})]);
    assert_eq!(
        refused(PublicKeys::from_jwks(secret.as_bytes())),
        "none of its keys can be used: key 1: it is a secret, not a public key"
    );
    assert_eq!(refused(PublicKeys::from_jwks(jwks([]).as_bytes())), "it has no keys");
    for bad in
        ["", "{}", "[]", r#"{"keys": {}}"#, r#"{"keys": [1]}"#, r#"{"keys": [], "keys": []}"#, "<html>"]
    {
        assert!(PublicKeys::from_jwks(bad.as_bytes()).is_err(), "{bad}");
    }
    let many = |count| jwks((0..count).map(|_| P256.jwk(json!({}))));
    assert_eq!(PublicKeys::from_jwks(many(100).as_bytes()).unwrap().0.len(), 100);
    assert!(refused(PublicKeys::from_jwks(many(101).as_bytes())).contains("101 keys"));
    let large = many(1) + &" ".repeat(MAX_SIZE);
    assert!(refused(PublicKeys::parse(large.as_bytes())).contains("256KiB"));
    assert!(refused(PublicKeys::from_pem(large.as_bytes())).contains("256KiB"));
}

#[test]
fn numbers_that_are_no_key_are_refused() {
    let (n, e) = rsa_numbers(RSA.raw()).unwrap();
    let rsa = |n: &[u8], e: &[u8]| {
        let jwk = json!({"kty": "RSA", "n": encode(n), "e": encode(e)});
        PublicKeys::from_jwks(jwks([jwk]).as_bytes())
    };
    // Some write zeros before it.
    assert!(rsa(&[&[0], n].concat(), &[&[0], e].concat()).is_ok());
    let mut even = n.to_vec();
    *even.last_mut().unwrap() &= 0xfe;
    let mut small = n.to_vec();
    small[0] = 0x7f;
    let (large, huge) = ([n, n, n, n].concat(), [n, n, n, n, &[1]].concat());
    assert!(rsa(&large, e).is_ok());
    assert!(refused(rsa(&small, e)).contains("2047"));
    assert!(refused(rsa(&huge, e)).contains("8200"));
    for (n, e) in [(even.as_slice(), e), (n, &[1][..]), (n, &[]), (&[], e), (n, &[2]), (n, &[1, 0, 0, 0, 1])]
    {
        assert!(rsa(n, e).is_err(), "{e:?}");
    }
    let ec = |change: &dyn Fn(&mut Value)| {
        let mut jwk = P256.jwk(json!({}));
        change(&mut jwk);
        PublicKeys::from_jwks(jwks([jwk]).as_bytes())
    };
    assert!(ec(&|_| {}).is_ok());
    assert!(refused(ec(&|jwk| jwk["y"] = encode(&[7; 32]).into())).contains("no point"));
    assert!(refused(ec(&|jwk| jwk["y"] = encode(&[7; 31]).into())).contains("length"));
    assert!(refused(ec(&|jwk| jwk["crv"] = "P-384".into())).contains("length"));
    assert!(refused(ec(&|jwk| jwk["x"] = "=".into())).contains("base64url"));
    let short = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&[1; 31])});
    assert!(refused(PublicKeys::from_jwks(jwks([short]).as_bytes())).contains("32 bytes"));
}

#[test]
fn pem_holds_certificates_and_public_keys() {
    let certified = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["token.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&certified).unwrap();
    let text =
        ["# keys", &RSA.pem(), &certificate.pem(), &P384.pem(), &ED25519.pem(), &P256.pem()].join("\n");
    let keys = PublicKeys::parse(text.as_bytes()).unwrap();
    assert_eq!(uses(&keys), [RSA_USES.to_vec(), vec!["ES256"], vec!["ES384"], vec!["EdDSA"], vec!["ES256"]]);
    assert_eq!(keys.named(Some("any")).count(), 5);
    // A certificate's key is the key.
    let point = certified.public_key_raw();
    assert_eq!(keys.0[1].uses[0].1.as_ref(), point);

    let private = certified.serialize_pem();
    assert!(refused(PublicKeys::parse(private.as_bytes())).contains("private key"));
    assert_eq!(refused(PublicKeys::parse(b"hello")), "it has no keys");
    let mut broken = P256.spki();
    broken.pop();
    assert!(refused(PublicKeys::parse(pem("PUBLIC KEY", &broken).as_bytes())).contains("no public key"));
    assert!(refused(PublicKeys::parse(pem("CERTIFICATE", b"x").as_bytes())).contains("no certificate"));
    assert!(PublicKeys::parse(b"-----BEGIN PUBLIC KEY-----\nAAAA").is_err());
}

#[test]
fn a_key_in_pem_is_the_same_as_in_a_set() {
    for forge in [&*RSA, &*P256, &*P384, &*ED25519] {
        let set = PublicKeys::parse(jwks([forge.jwk(json!({}))]).as_bytes()).unwrap();
        let text = PublicKeys::parse(forge.pem().as_bytes()).unwrap();
        let message = b"message";
        for (algorithm, key) in &set.0[0].uses {
            let signature = Forge::signature(forge, algorithm.as_str(), message);
            let other = text.0[0].used_with(*algorithm).unwrap();
            assert!(
                key.verify_sig(message, &signature).is_ok() && other.verify_sig(message, &signature).is_ok()
            );
        }
    }
}
