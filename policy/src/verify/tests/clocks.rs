//! Timestamps by authorities of the tests' own: what counts, whose, and what becomes of one that does not.

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, date_time_ymd};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::KeyPair;

use super::mint::{self, Authority, IMAGE, Rekor, SIGN, Somebody, statement};
use super::support::{by_key, by_root, is, of, only};
use crate::{Checked, Log, Reason, Time, TimeSource, Trust, TrustRoot, Verifier, der};

const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
pub(super) const NOON: &str = "20240101120000Z";

/// A timestamp authority.
pub(super) struct Clock {
    chain: Vec<Vec<u8>>,
    key: KeyPair,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock::with(true, 2020, 2040)
    }

    /// One whose usage is critical or not, and whose root is valid for these years.
    fn with(critical: bool, from: i32, until: i32) -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (root.not_before, root.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let root_key = rcgen::KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::default();
        leaf.serial_number = Some(7.into());
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "clock");
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let usage = [0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], usage.to_vec());
        usage.set_criticality(critical);
        leaf.custom_extensions = vec![usage];
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf_der = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap().der().to_vec();
        let root_der = root.self_signed(&root_key).unwrap().der().to_vec();
        Clock { chain: vec![leaf_der, root_der], key: KeyPair::from_pkcs8_der(&key.serialize_der()).unwrap() }
    }

    /// A `TimeStampResp` for these bytes at that time.
    pub(super) fn stamp(&self, bytes: &[u8], at: &str) -> Vec<u8> {
        let seq = |parts: &[&[u8]]| der::write(der::SEQUENCE, &parts.concat());
        let set = |part: &[u8]| der::write(der::SET, part);
        let oid = |content: &[u8]| der::write(der::OID, content);
        let hash = seq(&[&oid(SHA256)]);
        let imprint = seq(&[&hash, &der::write(der::OCTETS, &Sha256::digest(bytes))]);
        let one = der::write(der::INTEGER, &[1]);
        let time = der::write(der::GENERALIZED_TIME, at.as_bytes());
        let info = seq(&[&one, &oid(&[0x2a, 0x03, 0x04]), &imprint, &one, &time]);
        let tst = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04]);
        let pkcs9 = |n: u8| oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, n]);
        let mut attributes = [
            seq(&[&pkcs9(3), &set(&tst)]),
            seq(&[&pkcs9(4), &set(&der::write(der::OCTETS, &Sha256::digest(&info)))]),
        ];
        attributes.sort();
        let attributes = attributes.concat();
        let signature = self.key.sign(&der::write(der::SET, &attributes)).unwrap();
        let issuer = crate::x509::Certificate::read(&self.chain[0]).unwrap().issuer;
        let signer = seq(&[
            &one,
            &seq(&[issuer, &der::write(der::INTEGER, &[7])]),
            &hash,
            &der::write(der::context(0), &attributes),
            &seq(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02])]),
            &der::write(der::OCTETS, signature.as_bytes()),
        ]);
        let content = seq(&[&tst, &der::write(der::context(0), &der::write(der::OCTETS, &info))]);
        let data = seq(&[&der::write(der::INTEGER, &[3]), &set(&hash), &content, &set(&signer)]);
        let kind = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02]);
        let token = seq(&[&kind, &der::write(der::context(0), &data)]);
        seq(&[&seq(&[&der::write(der::INTEGER, &[0])]), &token])
    }

    pub(super) fn json(&self, uri: &str, until: &str) -> Value {
        let chain: Vec<Value> = self.chain.iter().map(|der| json!({"rawBytes": mint::b64(der)})).collect();
        let window = json!({"start": "2020-01-01T00:00:00Z", "end": until});
        json!({"uri": uri, "certChain": {"certificates": chain}, "validFor": window})
    }
}

pub(super) const LONG: &str = "2040-01-01T00:00:00Z";

pub(super) fn root(authority: &Authority, logs: &[&Rekor], clocks: &[Value]) -> TrustRoot {
    let mut root = serde_json::to_value(authority.trust(logs).trusted()).unwrap();
    root["timestampAuthorities"] = json!(clocks);
    TrustRoot::from_json("mine", root.to_string().as_bytes()).unwrap()
}

/// A bundle with a timestamp for each clock, at its time.
fn stamped(signer: &Somebody, log: Option<&Rekor>, clocks: &[(&Clock, &str)]) -> Value {
    let mut bundle = signer.bundle(&statement(IMAGE, SIGN), log);
    let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
    let signature = crate::json::base64(signature).unwrap();
    let stamps: Vec<Value> = clocks
        .iter()
        .map(|(clock, at)| json!({"signedTimestamp": mint::b64(clock.stamp(&signature, at))}))
        .collect();
    bundle["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
    bundle
}

#[test]
fn each_authority_counts_once_with_its_first_time() {
    let (one, two, authority) = (Clock::new(), Clock::new(), Authority::new(2020, 2040));
    let clocks = [one.json("https://one.example", LONG), two.json("https://two.example", LONG)];
    let verifier = by_root(root(&authority, &[], &clocks));
    let times = [(&one, "20240101130000Z"), (&two, "20240101140000Z"), (&one, NOON)];
    let checked = of(&verifier, &stamped(&authority.issue(), None, &times), IMAGE);
    let fact = only(&checked);
    let times: Vec<_> =
        fact.times.iter().map(|time| (time.at.0 - mint::THEN, time.authority.as_str())).collect();
    assert_eq!(times, [(0, "https://one.example"), (7200, "https://two.example")]);
    assert!(fact.times.iter().all(|time| time.source == TimeSource::Timestamp));
    // Nothing of a log came, and the fact says so.
    assert_eq!(fact.log, Log::Absent);
}

/// CVE-2026-24122 and its like: one time out of several does not do.
#[test]
fn a_certificate_must_be_valid_at_every_time() {
    let (clock, authority, log) = (Clock::new(), Authority::new(2020, 2040), Rekor::new("log.example"));
    let verifier = by_root(root(&authority, &[&log], &[clock.json("https://one.example", LONG)]));
    let good = stamped(&authority.issue(), Some(&log), &[(&clock, NOON)]);
    assert_eq!(only(&of(&verifier, &good, IMAGE)).times.len(), 2);
    for at in ["20231231000000Z", "20240103000000Z"] {
        is(
            &of(&verifier, &stamped(&authority.issue(), Some(&log), &[(&clock, at)]), IMAGE),
            Reason::Expired,
            "",
        );
    }
}

fn wrong(signer: &Somebody, root: TrustRoot, bundle: &Value) -> Checked {
    let mut trust = Trust::new();
    trust.add_root(root).unwrap();
    trust.add_key(signer.public());
    of(&Verifier::new(&trust).unwrap(), bundle, IMAGE)
}

/// With a certificate it refuses the evidence; with a key the fact keeps why.
#[test]
fn a_timestamp_that_came_and_fails_is_never_dropped() {
    let (authority, log) = (Authority::new(2020, 2040), Rekor::new("log.example"));
    let clock = Clock::new();
    let trusted = || clock.json("https://one.example", LONG);
    let (improper, expired) = (Clock::with(false, 2020, 2040), Clock::with(true, 2020, 2023));
    let stranger = Clock::new();
    for (name, signed_by, listed, text) in [
        ("a stranger's", &stranger, trusted(), "a timestamp"),
        ("of another signature", &clock, trusted(), "mismatch"),
        (
            "after its authority's window",
            &clock,
            clock.json("https://one.example", "2023-01-01T00:00:00Z"),
            "validity",
        ),
        (
            "CVE-2026-39984",
            &improper,
            improper.json("https://one.example", LONG),
            "not one for timestamps alone",
        ),
        ("an expired root", &expired, expired.json("https://one.example", LONG), "not valid at"),
    ] {
        for signer in [authority.issue(), Somebody::with_key()] {
            let mut bundle = stamped(&signer, Some(&log), &[(signed_by, NOON)]);
            if name == "of another signature" {
                let other = mint::b64(signed_by.stamp(b"another", NOON));
                let stamps =
                    &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
                stamps[0]["signedTimestamp"] = json!(other);
            }
            let root = root(&authority, &[&log], std::slice::from_ref(&listed));
            if signer.certificate.is_some() {
                is(&wrong(&signer, root, &bundle), Reason::TlogInvalid, text);
                continue;
            }
            let checked = wrong(&signer, root, &bundle);
            let fact = only(&checked);
            assert!(fact.bad_time.as_ref().is_some_and(|why| why.contains(text)), "{name}: {fact:?}");
            assert!(matches!(fact.log, Log::Proven(_)) && fact.times.len() == 1, "{name}: {fact:?}");
        }
    }
}

#[test]
fn a_timestamp_alone_dates_what_a_key_signed() {
    let (clock, authority, somebody) = (Clock::new(), Authority::new(2020, 2040), Somebody::with_key());
    let verifier = by_key(&somebody, Some(root(&authority, &[], &[clock.json("", LONG)])));
    let checked = of(&verifier, &stamped(&somebody, None, &[(&clock, NOON)]), IMAGE);
    let fact = only(&checked);
    assert_eq!((&fact.log, fact.times[0].at, &fact.bad_time), (&Log::Absent, Time(mint::THEN), &None));
    // An authority without an address is known by its certificate.
    assert_eq!(fact.times[0].authority, crate::Digest::of(&clock.chain[0]).to_string());
}
