// SPDX-License-Identifier: AGPL-3.0-only
//! Keys of real programs (fixtures/README.md says which), and files that somebody has spoilt.

use super::*;

const COSIGN3: &str = include_str!("fixtures/cosign3.key");
const COSIGN3_PUBLIC: &str = include_str!("fixtures/cosign3.pub");
const COSIGN2: &str = include_str!("fixtures/cosign2.key");
const COSIGN2_PUBLIC: &str = include_str!("fixtures/cosign2.pub");
const OLD_LABEL: &str = include_str!("fixtures/old-label.key");
const HELLO: &str = include_str!("fixtures/hello.sig");
const PASSWORD: &[u8] = b"stella-fixture";

/// The JSON inside a key file, changed, as a key file.
fn spoilt(from: &str, to: &str) -> String {
    let (label, bytes) = pem::first(COSIGN3).unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    pem::write(&label, text.replace(from, to).as_bytes())
}

fn why(text: &str, password: &[u8]) -> Error {
    PrivateKey::from_pem(text, password).unwrap_err()
}

#[test]
fn keys_of_cosign_are_read_with_their_password() {
    for (text, public, password) in [
        (COSIGN3, COSIGN3_PUBLIC, PASSWORD),
        (OLD_LABEL, COSIGN3_PUBLIC, PASSWORD),
        (COSIGN2, COSIGN2_PUBLIC, b"".as_slice()),
    ] {
        assert!(PrivateKey::needs_password(text).unwrap());
        assert_eq!(PrivateKey::from_pem(text, password).unwrap().public_pem(), public);
    }
    let key = PrivateKey::from_pem(COSIGN3, PASSWORD).unwrap();
    assert_eq!(key.hint(), "0r9W7tgWsnE1MGTjr/kFDrUuKaj59F7xiJocoWcRobg=");
    assert!(key.signed(b"hello\n", &STANDARD.decode(HELLO.trim()).unwrap()));
    assert!(!key.signed(b"hallo\n", &STANDARD.decode(HELLO.trim()).unwrap()));
    assert_eq!(format!("{key:?}"), format!("PrivateKey {{ hint: \"{}\", .. }}", key.hint()));
}

#[test]
fn a_wrong_password_and_a_changed_content_are_told_apart_from_damage() {
    for password in [b"".as_slice(), b"stella-fixturE"] {
        assert!(matches!(why(COSIGN3, password), Error::Password(_)));
    }
    // The first letters of the ciphertext: the authenticator, and then the text.
    for (from, to) in
        [("\"uwLd", "\"uwLe"), ("kw==\"", "kQ==\""), ("\"9Xnm9", "\"9Xnm8"), ("\"fK+b", "\"fK+a")]
    {
        let error = why(&spoilt(from, to), PASSWORD);
        assert!(matches!(error, Error::Password(_)), "{from}: {error}");
    }
    for (from, to) in [
        ("\"nonce\":\"9Xnm", "\"nonce\":\""),
        ("\"uwLd", "\"!wLd"),
        ("\"scrypt\"", "\"argon2\""),
        ("nacl/secretbox", "aes"),
        ("\"kdf\"", "\"KDF\""),
    ] {
        assert!(matches!(why(&spoilt(from, to), PASSWORD), Error::Key(_)), "{from}");
    }
}

#[test]
fn a_file_cannot_ask_for_more_work_than_cosign_would() {
    for (from, to) in [
        ("65536", "1073741824"),
        ("65536", "16384"),
        ("65536", "0"),
        ("65536", "65537"),
        ("65536", "18446744073709551615"),
        ("\"r\":8", "\"r\":4294967295"),
        ("\"p\":1", "\"p\":1024"),
    ] {
        let error = why(&spoilt(from, to), PASSWORD);
        assert!(error.to_string().contains("scrypt parameters"), "{to}: {error}");
    }
    // The other two efforts are tried, and the password is then wrong.
    for other in ["32768", "131072"] {
        assert!(matches!(why(&spoilt("65536", other), PASSWORD), Error::Password(_)), "{other}");
    }
    let salt = format!("\"salt\":\"{}", "AAAA".repeat(1000));
    assert!(matches!(why(&spoilt("\"salt\":\"", &salt), PASSWORD), Error::Key(_)));
}

#[test]
fn a_new_key_is_written_as_cosign_writes_it_and_read_again() {
    let key = PrivateKey::generate().unwrap();
    let text = key.to_encrypted_pem(b"").unwrap();
    let shape = |text: &str| {
        let (label, bytes) = pem::first(text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let length = |at: &str| value.pointer(at).unwrap().as_str().unwrap().len();
        let names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        let sizes = ["/kdf/salt", "/cipher/nonce", "/ciphertext"].map(length);
        (label.clone(), names, value["kdf"]["params"].clone(), sizes, text.lines().map(str::len).max())
    };
    assert_eq!(shape(&text), shape(COSIGN3));
    assert!(matches!(why(&text, b"x"), Error::Password(_)));
    let again = PrivateKey::from_pem(&text, b"").unwrap();
    assert_eq!(again.public_pem(), key.public_pem());
    assert!(key.signed(b"m", &again.sign(b"m").unwrap()));
}

#[test]
fn plain_keys_of_every_kind_sign_and_can_be_put_under_a_password() {
    for (text, public, hash) in [
        (include_str!("fixtures/p256-sec1.key"), include_str!("fixtures/p256-sec1.pub"), Hash::Sha256),
        (include_str!("fixtures/p384.key"), include_str!("fixtures/p384.pub"), Hash::Sha384),
        (include_str!("fixtures/p384-pkcs8.key"), include_str!("fixtures/p384.pub"), Hash::Sha384),
        (include_str!("fixtures/ed25519.key"), include_str!("fixtures/ed25519.pub"), Hash::Sha256),
        (include_str!("fixtures/rsa.key"), include_str!("fixtures/rsa.pub"), Hash::Sha256),
        (include_str!("fixtures/rsa-pkcs1.key"), include_str!("fixtures/rsa.pub"), Hash::Sha256),
    ] {
        assert!(!PrivateKey::needs_password(text).unwrap());
        let key = PrivateKey::from_pem(text, b"ignored").unwrap();
        assert_eq!(key.public_pem(), public);
        assert_eq!(key.hash(), hash);
        let signature = key.sign(b"message").unwrap();
        assert!(key.signed(b"message", &signature) && !key.signed(b"other", &signature));
        let sealed = key.to_encrypted_pem(PASSWORD).unwrap();
        let again = PrivateKey::from_pem(&sealed, PASSWORD).unwrap();
        assert_eq!(again.public_pem(), public);
        assert!(key.signed(b"message", &again.sign(b"message").unwrap()));
    }
}

#[test]
fn what_is_no_key_that_signs_is_refused_without_showing_it() {
    let p521 = include_str!("fixtures/p521.key");
    let cut = &COSIGN3[..300];
    for text in
        ["", "hello", COSIGN3_PUBLIC, p521, cut, &COSIGN3.replacen("eyJ", "!!!", 1), &pem::write(PKCS8, b"x")]
    {
        let error = why(text, PASSWORD);
        assert!(matches!(error, Error::Key(_)), "{error}");
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    assert!(why(COSIGN3_PUBLIC, b"").to_string().contains("public"));
    assert!(why(p521, b"").to_string().contains("P-256"));
}
