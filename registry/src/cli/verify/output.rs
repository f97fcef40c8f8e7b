// SPDX-License-Identifier: AGPL-3.0-only
//! What verified evidence looks like on stdout: cosign's array of `{critical, optional}` for signatures, and one envelope
//! in a line for attestations. Only what stands in a fact is printed, or lies in the evidence of one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stella_policy::{Claim, Digest, Evidence, Fact, Form, Log, Signer, TimeSource};

/// Where cosign 1 and 2 kept what came with a signature.
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
/// Fulcio's extensions that cosign prints, by their names and by their numbers.
const EXTENSIONS: [(&str, &str); 5] = [
    ("githubWorkflowTrigger", "1.3.6.1.4.1.57264.1.2"),
    ("githubWorkflowSHA", "1.3.6.1.4.1.57264.1.3"),
    ("githubWorkflowName", "1.3.6.1.4.1.57264.1.4"),
    ("githubWorkflowRepository", "1.3.6.1.4.1.57264.1.5"),
    ("githubWorkflowRef", "1.3.6.1.4.1.57264.1.6"),
];
const ISSUER: &str = "1.3.6.1.4.1.57264.1.1";

/// cosign's `verify` (its `PrintVerification`): one object for each signature. A bundle's signature names no repository,
/// so what was asked for stands there, as it was named.
pub(super) fn signatures(facts: &[&Fact], evidence: &[Evidence], image: &Digest, named: &str) -> String {
    let all: Vec<Value> =
        facts.iter().filter_map(|fact| signature(fact, of(fact, evidence), image, named)).collect();
    format!("\n{}\n", Value::Array(all))
}

fn of<'e>(fact: &Fact, evidence: &'e [Evidence]) -> Option<&'e Evidence> {
    evidence.iter().find(|evidence| evidence.digest == fact.evidence)
}

fn signature(fact: &Fact, evidence: Option<&Evidence>, image: &Digest, named: &str) -> Option<Value> {
    match &fact.claim {
        Claim::Image { payload, .. } => {
            let mut value: Value = serde_json::from_slice(payload).ok()?;
            let more = beside(fact, evidence);
            if !more.is_empty() {
                let optional = value.get_mut("optional")?;
                match optional {
                    Value::Object(optional) => optional.extend(more),
                    other => *other = Value::Object(more),
                }
            }
            Some(value)
        }
        Claim::Statement { subjects, predicate_type, .. } => {
            let (_, annotations) = subjects.iter().find(|(digest, _)| digest == image)?;
            let optional: Map<String, Value> = annotations.clone().into_iter().collect();
            Some(json!({
                "critical": {
                    "identity": {"docker-reference": named},
                    "image": {"docker-manifest-digest": image.as_str()},
                    "type": predicate_type,
                },
                "optional": optional,
            }))
        }
        Claim::Blob { .. } => None,
    }
}

/// What cosign adds to the optional part of a payload: whom the certificate names, and the proofs that came with it.
fn beside(fact: &Fact, evidence: Option<&Evidence>) -> Map<String, Value> {
    let mut more = Map::new();
    if let Signer::Certificate { issuer, subject, extensions, .. } = &fact.signer {
        more.insert("Subject".to_owned(), json!(subject));
        more.insert("Issuer".to_owned(), json!(issuer));
        more.insert(ISSUER.to_owned(), json!(issuer));
        for (name, number) in EXTENSIONS {
            if let Some(value) = extensions.get(name) {
                more.insert(name.to_owned(), json!(value));
                more.insert(number.to_owned(), json!(value));
            }
        }
    }
    for (annotation, name) in [(BUNDLE, "Bundle"), (TIMESTAMP, "RFC3161Timestamp")] {
        let text = evidence.and_then(|evidence| evidence.annotations.get(annotation));
        let value = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        more.extend(value.map(|value| (name.to_owned(), value)));
    }
    more
}

/// cosign's `verify-attestation`: the envelopes as they were signed, each in a line of its own.
pub(super) fn envelopes(facts: &[&Fact], evidence: &[Evidence]) -> String {
    let lines = facts.iter().filter_map(|fact| envelope(of(fact, evidence)?));
    lines.fold(String::new(), |lines, envelope| lines + &format!("{envelope}\n"))
}

fn envelope(evidence: &Evidence) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(&evidence.bytes).ok()?;
    if evidence.form == Form::Bundle { value.get_mut("dsseEnvelope").map(Value::take) } else { Some(value) }
}

/// The signatures for a person: who, how, in which log, when.
pub(super) fn told(facts: &[&Fact]) -> String {
    facts.iter().map(|fact| one(fact)).collect()
}

fn one(fact: &Fact) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    match &fact.signer {
        Signer::Key { fingerprint } => lines.push(("signed by key", fingerprint.clone())),
        Signer::Certificate { root, issuer, subject, .. } => {
            lines.push(("signed by", subject.clone()));
            lines.push(("issuer", issuer.clone()));
            lines.push(("trust root", root.clone()));
        }
    }
    let form = serde_json::to_value(fact.form).ok().and_then(|form| form.as_str().map(str::to_owned));
    lines.push(("form", form.unwrap_or_default()));
    match &fact.log {
        Log::Absent => lines.push(("log", "none".to_owned())),
        Log::Wrong(why) => lines.push(("log", format!("not looked at: {why}"))),
        Log::Proven(entries) => {
            lines.extend(entries.iter().map(|entry| ("log", format!("{} at {}", entry.url, entry.index))));
        }
    }
    for time in &fact.times {
        let whose = match time.source {
            TimeSource::Log => "log",
            TimeSource::Timestamp => "timestamp",
        };
        lines.push(("time", format!("{} ({whose}, {})", time.at, time.authority)));
    }
    let annotations: BTreeMap<&String, &Value> = match &fact.claim {
        Claim::Image { annotations, .. } => annotations.iter().collect(),
        Claim::Statement { subjects, .. } => subjects.iter().flat_map(|(_, with)| with).collect(),
        Claim::Blob { .. } => BTreeMap::new(),
    };
    lines.extend(annotations.into_iter().map(|(name, value)| ("annotation", format!("{name}={value}"))));
    lines.into_iter().fold(format!("{}\n", fact.evidence), |text, (name, value)| {
        let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text + &format!("  {name:<14}{clean}\n")
    })
}

#[cfg(test)]
mod tests {
    use stella_policy::Time;

    use super::*;

    fn fact(claim: Claim, signer: Signer) -> Fact {
        let evidence = Digest::of(b"evidence");
        let (form, log, times) = (Form::LegacySignature, Log::Absent, Vec::new());
        Fact { evidence, form, signer, claim, log, times, bad_time: None }
    }

    #[test]
    fn a_payload_is_printed_as_it_was_signed_with_whom_the_certificate_names() {
        let image = Digest::of(b"");
        let payload =
            json!({"critical": {"image": {"docker-manifest-digest": image.as_str()}}, "optional": null});
        let claim = Claim::Image {
            digest: image.clone(),
            repository: "r.test/a".to_owned(),
            annotations: BTreeMap::new(),
            payload: payload.to_string().into_bytes(),
        };
        let key = fact(claim.clone(), Signer::Key { fingerprint: "00".to_owned() });
        let printed = |fact: &Fact| -> Value {
            serde_json::from_str(&signatures(&[fact], &[], &image, "r.test/a")).unwrap()
        };
        assert_eq!(printed(&key), json!([payload]));
        let named = fact(
            claim,
            Signer::Certificate {
                root: "r".to_owned(),
                issuer: "https://i.test".to_owned(),
                subject: "me@i.test".to_owned(),
                extensions: [("githubWorkflowRef".to_owned(), "main".to_owned())].into(),
                logged: false,
            },
        );
        let optional = &printed(&named)[0]["optional"];
        assert_eq!(optional["Subject"], "me@i.test");
        assert_eq!(
            (&optional["Issuer"], &optional[ISSUER]),
            (&json!("https://i.test"), &json!("https://i.test"))
        );
        assert_eq!(optional["1.3.6.1.4.1.57264.1.6"], "main");
        assert!(told(&[&named]).contains("signed by     me@i.test\n"));
    }

    #[test]
    fn a_bundle_names_what_was_asked_for() {
        let image = Digest::of(b"");
        let claim = Claim::Statement {
            subjects: vec![(image.clone(), [("a".to_owned(), json!("b"))].into())],
            predicate_type: "https://sigstore.dev/cosign/sign/v1".to_owned(),
            statement: Vec::new(),
        };
        let mut fact = fact(claim, Signer::Key { fingerprint: "00".to_owned() });
        fact.times.push(stella_policy::ProvenTime {
            at: Time(0),
            source: TimeSource::Log,
            root: "r".to_owned(),
            authority: "l".to_owned(),
        });
        let printed: Value = serde_json::from_str(&signatures(&[&fact], &[], &image, "r.test/a:1")).unwrap();
        assert_eq!(printed[0]["critical"]["identity"]["docker-reference"], "r.test/a:1");
        assert_eq!(printed[0]["optional"], json!({"a": "b"}));
        assert!(told(&[&fact]).contains("1970-01-01T00:00:00Z (log, l)"));
        assert_eq!(signatures(&[], &[], &image, "r.test/a"), "\n[]\n");
    }
}
