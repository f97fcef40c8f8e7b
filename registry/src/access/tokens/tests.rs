// SPDX-License-Identifier: AGPL-3.0-only
//! Tokens that are good, and all that is wrong with others. Each guard has a token that only it refuses.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::access::forge::{
    AUDIENCE, ED25519, Forge, ISSUER, NOW, P256, P384, RSA, claims, encode, hs256, jwks, now, pem,
};

mod signatures;

const EXPECTED: Expected<'_> = Expected { issuer: ISSUER, audience: AUDIENCE };

fn look(token: &str, keys: &PublicKeys) -> Result<Claims, TokenError> {
    check(token, keys, &EXPECTED, now())
}

fn fault(token: &str, keys: &PublicKeys) -> TokenError {
    look(token, keys).unwrap_err()
}

/// What is wrong with a token of these claims that is signed well.
fn claimed(more: Value) -> Result<(), TokenError> {
    look(&P256.token(&claims(more)), &P256.keys()).map(drop)
}

/// What is wrong with a token that is signed well but has these in its header.
fn headed(more: Value) -> Result<(), TokenError> {
    let mut header = json!({"alg": "ES256", "kid": "1"});
    let Value::Object(more) = more else { unreachable!() };
    header.as_object_mut().unwrap().extend(more);
    look(&P256.sign(&header, &claims(json!({}))), &P256.keys()).map(drop)
}

#[test]
fn each_algorithm_checks_what_it_signed() {
    for forge in [&*RSA, &*P256, &*P384, &*ED25519] {
        let algorithms = match forge {
            Forge::Rsa(_) => vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            _ => vec![forge.alg()],
        };
        for alg in algorithms {
            let given = claims(json!({"x": [1, {"y": null}]}));
            let token = forge.sign(&json!({"alg": alg}), &given);
            let Claims { claims, expires } = look(&token, &forge.keys()).unwrap();
            assert_eq!((Value::Object(claims), expires), (given, Timestamp((NOW + 300) * 1000)), "{alg}");
        }
    }
}

#[test]
fn tokens_of_another_implementation_are_good() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

    let encoding = |forge: &Forge| {
        let text = pem("PRIVATE KEY", &forge.pkcs8());
        match forge {
            Forge::Rsa(_) => EncodingKey::from_rsa_pem(text.as_bytes()).unwrap(),
            Forge::Ed25519(_) => EncodingKey::from_ed_pem(text.as_bytes()).unwrap(),
            _ => EncodingKey::from_ec_pem(text.as_bytes()).unwrap(),
        }
    };
    for (forge, algorithm) in [
        (&*RSA, Algorithm::RS256),
        (&*RSA, Algorithm::RS512),
        (&*RSA, Algorithm::PS256),
        (&*RSA, Algorithm::PS384),
        (&*P256, Algorithm::ES256),
        (&*P384, Algorithm::ES384),
        (&*ED25519, Algorithm::EdDSA),
    ] {
        let header = Header { kid: Some("1".to_owned()), ..Header::new(algorithm) };
        let token = encode(&header, &claims(json!({})), &encoding(forge)).unwrap();
        assert!(look(&token, &forge.keys()).is_ok(), "{algorithm:?}");
    }
}

/// RFC 8037, appendix A.4: the key, and what it signed. That it signed no JSON is all that is wrong with it.
#[test]
fn the_signature_of_the_rfc_is_good() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let keys = PublicKeys::from_jwks(jwks([jwk]).as_bytes()).unwrap();
    let unproven = |signature: &str| Unproven {
        header: json!({"alg": "EdDSA"}).as_object().unwrap().clone(),
        claims: Map::new(),
        signed: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        signature: BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap(),
    };
    let good = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(unproven(good).check_signature(&keys), Ok(()));
    assert_eq!(unproven(&good.replace("hgyY", "hgyZ")).check_signature(&keys), Err(TokenError::Signature));
}

#[test]
fn extensions_and_other_types_are_refused() {
    for crit in [json!(["b64"]), json!([]), json!(null), json!("exp")] {
        assert_eq!(headed(json!({"crit": crit})), Err(TokenError::Critical));
    }
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        assert_eq!(headed(json!({"typ": typ})), Ok(()));
    }
    for typ in [json!("JOSE"), json!("dpop+jwt"), json!(""), json!(1), json!(null)] {
        assert_eq!(headed(json!({"typ": typ})), Err(TokenError::Type));
    }
}

#[test]
fn the_issuer_is_the_issuer_to_the_letter() {
    let near = [format!("{ISSUER}/"), ISSUER.to_uppercase(), format!(" {ISSUER}"), String::new()];
    for issuer in near.map(Value::from).into_iter().chain([json!([ISSUER]), json!(null)]) {
        assert_eq!(claimed(json!({"iss": issuer})), Err(TokenError::Issuer), "{issuer}");
    }
}

#[test]
fn the_audience_is_one_of_those_that_are_named() {
    for good in [json!(AUDIENCE), json!([AUDIENCE]), json!(["x", AUDIENCE])] {
        assert_eq!(claimed(json!({"aud": good})), Ok(()));
    }
    for bad in [
        json!("sigstore"),
        json!("registry.example.org"),
        json!(["x"]),
        json!([]),
        json!(null),
        json!({AUDIENCE: 1}),
        json!([[AUDIENCE]]),
    ] {
        assert_eq!(claimed(json!({"aud": bad})), Err(TokenError::Audience), "{bad}");
    }
}

#[test]
fn a_token_has_its_time_give_or_take_a_minute() {
    let (good, expired, early) = (Ok(()), Err(TokenError::Expired), Err(TokenError::NotYetValid));
    for (claim, value, outcome) in [
        ("exp", json!(NOW), &good),
        ("exp", json!(NOW - 59), &good),
        ("exp", json!(1_699_999_940.5), &good),
        ("exp", json!(NOW - 60), &expired),
        ("exp", json!(0), &expired),
        ("exp", json!(253_402_300_799_u64), &good),
        ("nbf", json!(NOW + 60), &good),
        ("nbf", json!(1_700_000_060.5), &early),
        ("nbf", json!(NOW + 61), &early),
        ("nbf", json!(null), &good),
        ("iat", json!(NOW + 60), &good),
        ("iat", json!(NOW + 61), &early),
        ("iat", json!(0), &good),
        ("iat", json!(null), &good),
    ] {
        assert_eq!(&claimed(json!({claim: value})), outcome, "{claim} {value}");
    }
    assert_eq!(claimed(json!({"exp": null})), Err(TokenError::NoExpiry));
    for claim in ["exp", "nbf", "iat"] {
        for absurd in
            [json!(-1), json!("1700000300"), json!(NOW * 1000), json!(1e300), json!(true), json!([NOW])]
        {
            assert_eq!(claimed(json!({claim: absurd})), Err(TokenError::Time(claim)), "{claim} {absurd}");
        }
    }
    let mut never = claims(json!({}));
    never["exp"] = Value::Null;
    assert_eq!(fault(&P256.token(&never), &P256.keys()), TokenError::Time("exp"));
}

#[test]
fn a_token_has_three_parts_in_strict_base64url() {
    let good = P256.token(&claims(json!({})));
    let keys = P256.keys();
    assert!(look(&good, &keys).is_ok());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let is_malformed = |token: &str| matches!(fault(token, &keys), TokenError::Malformed(_));
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        signed.to_owned(),
        header.to_owned(),
        format!("{good}."),
        format!("{good}.x"),
        format!("{good}.x.y"),
        format!(".{good}"),
        format!("{good}="),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}=.{signature}"),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        // A signature of 64 bytes leaves four bits over, which must be zero.
        format!("{signed}.{}", with_trailing_bits(signature)),
        good.replace('.', "\u{ff0e}"),
    ] {
        assert!(is_malformed(&bad), "{bad}");
    }
    // Signed well, but of the other alphabet.
    let odd = claims(json!({"sub": "???>>>~~~"})).to_string();
    let signed = format!("{header}.{}", base64::prelude::BASE64_STANDARD_NO_PAD.encode(odd));
    let signature = encode(&P256.signature("ES256", signed.as_bytes()));
    assert!(signed.contains(['+', '/']) && is_malformed(&format!("{signed}.{signature}")));
}

fn with_trailing_bits(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = text.split_at(text.len() - 1);
    let index = ALPHABET.iter().position(|byte| last.as_bytes() == [*byte]).unwrap();
    format!("{rest}{}", char::from(ALPHABET[index + 1]))
}

#[test]
fn a_token_has_a_largest_size() {
    let sized = |pad: usize| P256.token(&claims(json!({"x": "x".repeat(pad)})));
    let most = (11_000..12_500).rev().find(|pad| sized(*pad).len() <= MAX_TOKEN).unwrap();
    assert!(look(&sized(most), &P256.keys()).is_ok());
    assert_eq!(fault(&sized(most + 1), &P256.keys()), TokenError::TooLong);
    assert_eq!(issuer_of(&sized(most + 1)), None);
}

#[test]
fn a_name_that_stands_twice_means_nothing() {
    let (header, good) = (r#"{"alg":"ES256","kid":"1"}"#, claims(json!({})).to_string());
    assert!(look(&P256.sign_text(header, &good), &P256.keys()).is_ok());
    let claims_twice = good.replacen('{', "{\"sub\":\"root\",", 1);
    let header_twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    for (header, claims) in [(header, claims_twice.as_str()), (&header_twice, &good)] {
        let token = P256.sign_text(header, claims);
        assert!(matches!(fault(&token, &P256.keys()), TokenError::Malformed(_)), "{header} {claims}");
        assert_eq!(issuer_of(&token), None);
    }
}

#[test]
fn who_made_a_token_is_read_without_belief() {
    assert_eq!(issuer_of(&hs256(b"", &claims(json!({})))).as_deref(), Some(ISSUER));
    assert_eq!(issuer_of(&P256.token(&claims(json!({"iss": null})))), None);
    assert_eq!(issuer_of(&P256.token(&claims(json!({"iss": 1})))), None);
    assert_eq!(issuer_of("a.b.c"), None);
}

#[test]
fn errors_do_not_repeat_the_token() {
    let token = P256.token(&claims(json!({"aud": "secret-audience", "sub": "secret-subject"})));
    let text = fault(&token, &P256.keys()).to_string();
    assert_eq!(text, "the token was made for another service (`aud`)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_letter_of_what_is_signed_counts(position in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_.-]") {
        let token = P256.token(&claims(json!({})));
        let position = position.index(token.rfind('.').unwrap());
        let mut other = token.clone();
        other.replace_range(position..=position, &letter);
        prop_assume!(other != token);
        prop_assert!(look(&other, &P256.keys()).is_err());
    }

    #[test]
    fn no_text_is_a_token(text in "\\PC{0,200}", parts in "[A-Za-z0-9_=-]{0,20}(\\.[A-Za-z0-9_=-]{0,20}){0,4}") {
        for text in [text, parts] {
            prop_assert!(look(&text, &P256.keys()).is_err());
            prop_assert_eq!(issuer_of(&text), None);
        }
    }
}
