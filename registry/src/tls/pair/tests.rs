// SPDX-License-Identifier: AGPL-3.0-only
//! Tests of what is taken for a certificate and its key, and of what is told where it is not.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::default_provider;
use tempfile::TempDir;

use super::*;

struct Made {
    certificate: String,
    key: String,
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    change(&mut params);
    Made { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn files() -> CertificateFiles {
    CertificateFiles { certificate: "server.crt".into(), key: "server.key".into() }
}

fn judge(certificate: &str, key: &str) -> Result<Pair, Fault> {
    Contents::of(certificate, key).judge(&files(), &default_provider())
}

#[track_caller]
fn fault(certificate: &str, key: &str) -> String {
    judge(certificate, key).unwrap_err().to_string()
}

#[test]
fn names_and_addresses_are_read_and_matched() {
    let made = made(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("Registry.Example".try_into().unwrap()),
            SanType::DnsName("*.wild.example".try_into().unwrap()),
            SanType::Rfc822Name("who@example".try_into().unwrap()),
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
    });
    let pair = judge(&made.certificate, &made.key).unwrap();
    assert_eq!(pair.names_text(), "registry.example, *.wild.example, 127.0.0.1, 2001:db8::1");
    for (host, is) in [
        ("registry.example", true),
        ("a.wild.example", true),
        ("127.0.0.1", true),
        ("2001:db8::1", true),
        ("wild.example", false),
        ("a.b.wild.example", false),
        ("127.0.0.2", false),
        ("example", false),
    ] {
        assert_eq!(pair.is_for(host), is, "{host}");
    }
}

#[test]
fn a_name_that_nobody_can_ask_for_is_left_out() {
    let made = made(|params| {
        params.subject_alt_names = ["good.example", "bad\"name", "a\nb"]
            .map(|name| SanType::DnsName(name.try_into().unwrap()))
            .to_vec();
    });
    assert_eq!(judge(&made.certificate, &made.key).unwrap().names_text(), "good.example");
}

#[test]
fn a_chain_and_a_file_with_both_are_taken() {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, &authority_key);
    let key = KeyPair::generate().unwrap();
    let own =
        CertificateParams::new(vec!["a.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();

    let pair = judge(&format!("{own}{authority_pem}"), &key).unwrap();
    assert_eq!(pair.key().cert.len(), 2);
    let both = format!("# mine\n{key}\n{own}");
    assert_eq!(judge(&both, &both).unwrap().name(), "a.example");
    // The CA first: clients would take it for the server's.
    let told = fault(&format!("{authority_pem}{own}"), &key);
    assert_eq!(told, NO_NAMES);
    let other = made(|_| {}).certificate;
    assert_eq!(
        fault(&format!("{other}{own}"), &key),
        "the private key in server.key belongs to certificate number 2 in server.crt; the server's own must be \
         the first"
    );
}

const NO_NAMES: &str = "the certificate in server.crt has no host names and no addresses (subjectAltName); clients \
                        look at nothing else";

#[test]
fn each_fault_is_told_exactly() {
    let good = made(|_| {});
    let other = made(|_| {});
    let none = made(|params| params.subject_alt_names.clear());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    let locked = "the private key in server.key is encrypted; write it without a passphrase: openssl pkey -in \
                  server.key -out NEW";
    for (certificate, key, expected) in [
        (
            good.certificate.as_str(),
            other.key.as_str(),
            "the private key in server.key does not belong to the certificate in server.crt",
        ),
        (&none.certificate, &none.key, NO_NAMES),
        (&good.certificate, encrypted, locked),
        (&good.certificate, old, locked),
        (
            &good.certificate,
            "",
            "server.key holds no private key; it must have -----BEGIN PRIVATE KEY----- or the same with EC or RSA",
        ),
        (
            &good.key,
            &good.certificate,
            "server.crt holds no certificate; it must begin with -----BEGIN CERTIFICATE-----, but this is a \
             private key: are `certificate` and `key` exchanged?",
        ),
        ("", &good.key, "server.crt holds no certificate; it must begin with -----BEGIN CERTIFICATE-----"),
    ] {
        assert_eq!(fault(certificate, key), expected);
    }
    let cut = &good.certificate[..good.certificate.len() - 30];
    assert!(fault(cut, &good.key).starts_with("server.crt is not PEM: "), "{}", fault(cut, &good.key));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let told = fault(garbage, &good.key);
    assert!(told.starts_with("the certificate in server.crt cannot be read: "), "{told}");
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let told = fault(&good.certificate, garbage);
    assert!(told.starts_with("the private key in server.key cannot be used"), "{told}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = TempDir::new().unwrap();
    let good = made(|_| {});
    let path = |name: &str| folder.path().join(name);
    fs::write(path("good.crt"), &good.certificate).unwrap();
    fs::write(path("large"), vec![b' '; 1 << 21]).unwrap();
    let told = |certificate: &str, key: &str| {
        let files = CertificateFiles { certificate: path(certificate), key: path(key) };
        let fault = Contents::read(&files).judge(&files, &default_provider()).unwrap_err();
        fault.to_string().replace(&format!("{}/", folder.path().display()), "")
    };
    assert_eq!(told("gone.crt", "gone.key"), "cannot read gone.crt");
    assert_eq!(told("good.crt", "gone.key"), "cannot read gone.key");
    assert_eq!(told("good.crt", "."), "cannot read .");
    assert_eq!(told("large", "gone.key"), "large is larger than 1MiB");
}

#[test]
fn a_certificate_out_of_its_time_is_warned_of() {
    let made = made(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let pair = judge(&made.certificate, &made.key).unwrap();
    let day = 86_400_000;
    let (begins, ends) = (Timestamp(978_307_200_000), Timestamp(1_009_843_200_000));
    assert_eq!(pair.expires(), ends);
    for (now, expected) in [
        (Timestamp(begins.0 - day), Some("is not valid before 2001-01-01T00:00:00Z; clients refuse it")),
        (begins, None),
        (ends, None),
        (Timestamp(ends.0 + day), Some("expired on 2002-01-01T00:00:00Z; clients refuse it")),
    ] {
        let expected = expected.map(|rest| format!("the certificate in server.crt (a.example) {rest}"));
        assert_eq!(pair.warning(now), expected);
    }
}

#[test]
fn contents_are_told_from_others() {
    let of = |certificate: &str, key: &str| Contents::of(certificate, key).fingerprint();
    assert_eq!(of("a", "b"), of("a", "b"));
    assert_ne!(of("a", "b"), of("ab", ""));
    let gone =
        Contents::read(&CertificateFiles { certificate: "/nowhere/a".into(), key: "/nowhere/b".into() });
    assert_ne!(gone.fingerprint(), of("", ""));
}

#[test]
fn two_lists_of_names_are_no_certificate() {
    let made = made(|params| {
        let names = vec![0x30, 0x05, 0x82, 0x03, b'b', b'.', b'c'];
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    });
    let told = fault(&made.certificate, &made.key);
    assert!(told.starts_with("the certificate in server.crt cannot be read: "), "{told}");
}
