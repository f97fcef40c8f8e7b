//! Good evidence with one byte changed: it is refused, or it proves the very same and the byte is of a class that nobody
//! signs, all of which are listed with why. With a key, what a log says may become wrong while the signature stays.
//!
//! Some thousands by default; `STELLA_MUTATIONS=100000` for the long run. The seed is fixed (`STELLA_SEED` for another).

use serde_json::Value;

use super::cases::legacy;
use super::mint::{self, Authority, IMAGE, Rekor, SIGN, Somebody, statement};
use super::support::bundles;
use crate::{Artifact, Digest, Evidence, Fact, Form, Log, PublicKey, Signer, Trust, TrustRoot, Verifier};

/// Members of a bundle that nobody signs, and why none of them matters.
const UNSIGNED: [(&str, &str); 9] = [
    ("/mediaType", "the bundle's version: each is held to the same rules, and what one lacks is refused"),
    ("/verificationMaterial/publicKey/hint", "says which key to try first; all configured ones are tried"),
    ("/dsseEnvelope/signatures/0/keyid", "DSSE: a hint that is not signed; it is not looked at"),
    ("/signatures/0/keyid", "the same, in the envelope of a layer"),
    (
        "/verificationMaterial/x509CertificateChain/certificates/+",
        "intermediates that come along and are not needed",
    ),
    (
        "/verificationMaterial/tlogEntries/*/logIndex",
        "Rekor v1 without a promise: the place in the tree is proven",
    ),
    (
        "/verificationMaterial/tlogEntries/*/integratedTime",
        "without a promise: it is no time, and not taken for one",
    ),
    (
        "/verificationMaterial/tlogEntries/*/inclusionProof/checkpoint/envelope",
        "lines of witnesses and of unknown keys under a checkpoint: they count for nothing",
    ),
    ("dev.sigstore.cosign/chain", "intermediates and roots that come along: roots are configured"),
];
/// JSON may be written in several ways, and texts outside of PEM blocks are not read.
const SPELLING: &str = "white space or the spelling of JSON: it is read as the same";

struct Specimen {
    name: String,
    verifier: Verifier,
    evidence: Evidence,
    artifact: Vec<u8>,
    facts: Vec<Fact>,
}

impl Specimen {
    fn new(name: &str, trust: &Trust, evidence: Evidence, artifact: &[u8]) -> Self {
        let verifier = Verifier::new(trust).unwrap();
        let mut specimen = Specimen {
            name: name.to_owned(),
            verifier,
            evidence,
            artifact: artifact.to_vec(),
            facts: Vec::new(),
        };
        specimen.facts = specimen.facts_of(&specimen.evidence);
        assert_eq!(specimen.facts.len(), 1, "{name}");
        specimen
    }

    /// Without the name of the evidence, which changes with each byte.
    fn facts_of(&self, evidence: &Evidence) -> Vec<Fact> {
        let digest = Digest::of(&self.artifact);
        let artifact = Artifact { digest, bytes: Some(&self.artifact) };
        let checked = self.verifier.verify(evidence, Some(artifact));
        assert!(checked.facts.is_empty() != checked.rejected.is_empty());
        let nameless = |fact: &crate::Verified<Fact>| Fact { evidence: Digest::of(b""), ..Fact::clone(fact) };
        checked.facts.iter().map(nameless).collect()
    }

    fn len(&self) -> usize {
        self.evidence.bytes.len() + self.evidence.annotations.values().map(String::len).sum::<usize>()
    }

    /// With one byte changed; nothing if that is no text where a text must be.
    fn mutant(&self, mut at: usize, change: impl Fn(u8) -> u8) -> Option<Evidence> {
        let mut evidence = self.evidence.clone();
        if let Some(byte) = evidence.bytes.get_mut(at) {
            *byte = change(*byte);
            return Some(evidence);
        }
        at -= evidence.bytes.len();
        for value in evidence.annotations.values_mut() {
            if at < value.len() {
                let mut bytes = value.clone().into_bytes();
                bytes[at] = change(bytes[at]);
                *value = String::from_utf8(bytes).ok()?;
                return Some(evidence);
            }
            at -= value.len();
        }
        None
    }
}

fn specimens() -> Vec<Specimen> {
    let mut all = Vec::new();
    for case in bundles().into_iter().filter(|case| !case.name.ends_with("_fail")) {
        let evidence = Evidence::bundle(case.bundle.clone()).unwrap();
        all.push(Specimen::new(&case.name, &case.trust().unwrap(), evidence, &case.artifact));
    }
    let mut trust = Trust::new();
    trust.add_root(TrustRoot::public_good().unwrap()).unwrap();
    for name in ["dir-img-cosign-valid", "dir-img-cosign-fulcio-rekor-valid"] {
        if let Some((evidence, manifest)) = legacy(name) {
            let pem = std::fs::read_to_string(
                super::support::cases().unwrap().join("legacy-signatures/cosign.pub"),
            );
            trust.add_key(PublicKey::from_pem(&pem.unwrap()).unwrap());
            all.push(Specimen::new(name, &trust, evidence, &manifest));
        }
    }
    let (log, authority, somebody) =
        (Rekor::new("log.example"), Authority::new(2020, 2040), Somebody::with_key());
    let mut trust = Trust::new();
    trust.add_root(authority.trust(&[&log])).unwrap();
    trust.add_key(somebody.public());
    let said = statement(IMAGE, SIGN);
    for (who, signer) in [("key", &somebody), ("certificate", &authority.issue())] {
        let json = |bundle: Value| Evidence::bundle(bundle.to_string().into_bytes()).unwrap();
        let layer = |form, layer| mint::evidence(form, layer);
        let payload = mint::payload(IMAGE);
        for (what, evidence) in [
            ("bundle", json(signer.bundle(&said, Some(&log)))),
            ("blob", json(signer.blob(IMAGE, Some(&log)))),
            ("layer", layer(Form::LegacySignature, signer.layer(&payload, Some(&log)))),
            ("envelope", layer(Form::LegacyAttestation, signer.envelope(&said, Some(&log)))),
        ] {
            all.push(Specimen::new(&format!("{what} by a {who}"), &trust, evidence, IMAGE));
        }
    }
    all.push(Specimen::new(
        "bundle without a log",
        &trust,
        Evidence::bundle(somebody.bundle(&said, None).to_string().into_bytes()).unwrap(),
        IMAGE,
    ));
    all
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn a_mutant_is_refused_or_proves_the_same_by_a_byte_that_nobody_signs() {
    let specimens = specimens();
    let mut random = Random(from_env("STELLA_SEED", 7));
    let (mut refused, mut weaker, mut same) = (0, 0, std::collections::BTreeMap::<String, u64>::new());
    for _ in 0..from_env("STELLA_MUTATIONS", 4000) {
        let specimen = &specimens[random.below(specimens.len())];
        let at = random.below(specimen.len());
        let (bit, byte, kind) = (1u8 << random.below(8), random.next().to_le_bytes()[0], random.below(4));
        let change = |old: u8| if kind == 0 { byte } else { old ^ bit };
        let Some(mutant) = specimen.mutant(at, change) else { continue };
        let unchanged =
            mutant.bytes == specimen.evidence.bytes && mutant.annotations == specimen.evidence.annotations;
        if unchanged {
            continue;
        }
        let facts = specimen.facts_of(&mutant);
        if facts.is_empty() {
            refused += 1;
        } else if facts == specimen.facts {
            let class = class_of(specimen, &mutant).unwrap_or_else(|why| {
                panic!("{}: byte {at} is signed by nobody and not listed: {why}", specimen.name)
            });
            *same.entry(class).or_default() += 1;
        } else {
            assert!(is_weaker(&specimen.facts[0], &facts[0]), "{}: byte {at}: {facts:?}", specimen.name);
            weaker += 1;
        }
    }
    eprintln!("{refused} refused, {weaker} without their log, the same: {same:#?}");
    assert!(refused > 0);
}

/// A key's signature whose log or timestamp does not count any more, and nothing else.
fn is_weaker(before: &Fact, after: &Fact) -> bool {
    let wrong = matches!(after.log, Log::Wrong(_)) || after.bad_time.is_some();
    let rest = Fact {
        log: after.log.clone(),
        times: after.times.clone(),
        bad_time: after.bad_time.clone(),
        ..before.clone()
    };
    let by_key = matches!(before.signer, Signer::Key { .. });
    by_key && wrong && rest == *after && after.times.iter().all(|time| before.times.contains(time))
}

fn class_of(specimen: &Specimen, mutant: &Evidence) -> Result<String, String> {
    let mut differ = Vec::new();
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string());
    if mutant.bytes != specimen.evidence.bytes {
        let pair = (read(&specimen.evidence.bytes)?, read(&mutant.bytes)?);
        differences(&pair.0, &pair.1, String::new(), &mut differ);
    }
    for (name, before) in &specimen.evidence.annotations {
        let after = &mutant.annotations[name];
        if before != after {
            match (read(before.as_bytes()), read(after.as_bytes())) {
                (Ok(before), Ok(after)) => differences(&before, &after, name.clone(), &mut differ),
                _ => differ.push(name.clone()),
            }
        }
    }
    match differ.as_slice() {
        [] => Ok(SPELLING.to_owned()),
        [one] => {
            // Line ends within PEM and base64 are none of the content.
            let matching = |pattern: &&(&str, &str)| matches(pattern.0, one);
            UNSIGNED.iter().find(matching).map(|(_, why)| format!("{one}: {why}")).ok_or_else(|| one.clone())
        }
        more => Err(more.join(", ")),
    }
}

fn differences(before: &Value, after: &Value, at: String, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for (name, value) in a {
                differences(value, &b[name], format!("{at}/{name}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, value) in a.iter().enumerate() {
                differences(value, &b[index], format!("{at}/{index}"), found);
            }
        }
        _ if before == after => {}
        _ => found.push(at),
    }
}

/// `*` is any index, `+` any but the first.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    let fits = pattern.split('/').all(|wanted| match (wanted, parts.next()) {
        ("*", Some(_)) => true,
        ("+", Some(part)) => part != "0",
        (wanted, part) => Some(wanted) == part,
    });
    fits && parts.all(|part| part == "rawBytes")
}
