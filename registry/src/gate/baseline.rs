// SPDX-License-Identifier: AGPL-3.0-only
//! A baseline: what readers got on the day before enforcement began, signed by an operator's key, and good until it
//! expires. With it enforcement starts without an outage, and what is on it need not be signed at once.
//!
//! It is a DSSE envelope. What it lists is a repository and a digest, never a tag; it counts for the registry whose host
//! stands in it. What is on a list of denied digests stays denied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use stella_policy::{PrivateKey, PublicKey, Time, sign, strict_json};
use stella_storage::{Digest, RepoName};

const KIND: &str = "application/vnd.stella.baseline.v1+json";
/// Some hundred thousand images.
const MOST: u64 = 128 << 20;
const MOST_KEY: u64 = 64 << 10;

/// A list of images, as it is signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    host: String,
    /// In seconds since 1970, like the next.
    created: i64,
    expires: i64,
    /// Digests by repository.
    images: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A list of images that was verified.
#[derive(Debug)]
pub(super) struct Baseline {
    images: BTreeMap<String, BTreeSet<String>>,
    /// The last instant at which it counts.
    until: Time,
    /// Its bytes, and the key: another list makes another set of policies.
    pub(super) hash: String,
}

impl Baseline {
    /// Reads a list that the owner of the key signed for `host`.
    pub(super) fn read(file: &Path, key: &Path, host: &str) -> Result<Self, String> {
        let about = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = read(key, MOST_KEY)?;
        let text = String::from_utf8(text).map_err(|_| about(key, &"not a public key in PEM"))?;
        let public = PublicKey::from_pem(&text).map_err(|error| about(key, &error))?;
        let bytes = read(file, MOST)?;
        let wrong = |why: &dyn std::fmt::Display| about(file, &format!("not a baseline: {why}"));
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
        if envelope.payload_type != KIND {
            return Err(wrong(&format!("its payloadType is {:?}", envelope.payload_type)));
        }
        let payload = BASE64_STANDARD.decode(&envelope.payload).map_err(|error| wrong(&error))?;
        let signed = sign::pae(KIND, &payload);
        let is_good = |signature: &Signature| {
            BASE64_STANDARD.decode(&signature.sig).is_ok_and(|bytes| public.verifies(&signed, &bytes))
        };
        if !envelope.signatures.iter().any(is_good) {
            return Err(about(file, &format!("the baseline is not signed by the key in {}", key.display())));
        }
        // What is signed is read as everybody reads it: no member twice.
        let listed: Listed = strict_json(&payload, bytes.len()).map_err(|error| wrong(&error))?;
        if listed.host != host {
            return Err(about(file, &format!("the baseline is of {:?}, and this is {host:?}", listed.host)));
        }
        let hash =
            format!("{} {}", stella_policy::Digest::of(&payload), stella_policy::Digest::of(public.spki()));
        Ok(Baseline { images: listed.images, until: Time(listed.expires.saturating_sub(1)), hash })
    }

    /// Until when an image is let through, if it is on the list and the list counts still.
    pub(super) fn lets_through(&self, repo: &RepoName, digest: &Digest, now: Time) -> Option<Time> {
        let is_listed = || {
            let digests = self.images.get(repo.as_str())?;
            digests.contains(&digest.to_string()).then_some(())
        };
        (now <= self.until).then_some(())?;
        is_listed().map(|()| self.until)
    }
}

/// Writes a list of images, and signs it.
pub(crate) fn signed_baseline(
    key: &PrivateKey,
    host: &str,
    (created, expires): (Time, Time),
    images: BTreeMap<String, BTreeSet<String>>,
) -> anyhow::Result<Vec<u8>> {
    let listed = Listed { host: host.to_owned(), created: created.0, expires: expires.0, images };
    let payload = serde_json::to_vec(&listed)?;
    let sig = BASE64_STANDARD.encode(key.sign(&sign::pae(KIND, &payload))?);
    let signatures = vec![Signature { keyid: String::new(), sig }];
    let payload = BASE64_STANDARD.encode(payload);
    let mut bytes = serde_json::to_vec(&Envelope { payload_type: KIND.to_owned(), payload, signatures })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = fs::metadata(path).map_err(told)?.len();
    if size > most {
        return Err(format!("{}: {size} bytes; at most {most}", path.display()));
    }
    fs::read(path).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_for_its_host_by_its_key_and_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        fs::write(path("key"), key.public_pem()).unwrap();
        fs::write(path("other"), other.public_pem()).unwrap();
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let images = BTreeMap::from([("prod/app".to_owned(), BTreeSet::from([digest.to_string()]))]);
        let bytes = signed_baseline(&key, "r.test", (Time(0), Time(100)), images).unwrap();
        fs::write(path("list"), &bytes).unwrap();
        let list = Baseline::read(&path("list"), &path("key"), "r.test").unwrap();
        let (app, else_where): (RepoName, RepoName) =
            ("prod/app".parse().unwrap(), "prod/b".parse().unwrap());
        assert_eq!(list.lets_through(&app, &digest, Time(99)), Some(Time(99)));
        assert_eq!(list.lets_through(&app, &digest, Time(100)), None);
        assert_eq!(list.lets_through(&else_where, &digest, Time(1)), None);
        let another: Digest = format!("sha256:{}", "b".repeat(64)).parse().unwrap();
        assert_eq!(list.lets_through(&app, &another, Time(1)), None);

        assert!(
            Baseline::read(&path("list"), &path("other"), "r.test").unwrap_err().contains("not signed by")
        );
        assert!(
            Baseline::read(&path("list"), &path("key"), "s.test").unwrap_err().contains("is of \"r.test\"")
        );
        let mut envelope: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let longer = String::from_utf8(payload).unwrap().replace("\"expires\":100", "\"expires\":999");
        envelope["payload"] = BASE64_STANDARD.encode(longer).into();
        fs::write(path("forged"), envelope.to_string()).unwrap();
        assert!(
            Baseline::read(&path("forged"), &path("key"), "r.test").unwrap_err().contains("not signed by")
        );
        for nonsense in ["", "{}", "{\"payloadType\":\"x\",\"payload\":\"\",\"signatures\":[]}"] {
            fs::write(path("nonsense"), nonsense).unwrap();
            let error = Baseline::read(&path("nonsense"), &path("key"), "r.test").unwrap_err();
            assert!(error.contains("not a baseline"), "{error}");
        }
        assert!(Baseline::read(&path("missing"), &path("key"), "r.test").is_err());
    }
}
