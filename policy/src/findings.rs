// SPDX-License-Identifier: AGPL-3.0-only
//! From a source to what is known: everything that is said of an artifact is gathered, and each item checked once. The
//! command line and the gate both come this way; what they ask afterwards is a fold over [`Findings`].

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::{
    Artifact, Checked, Decision, Digest, Error, Evidence, Fact, Manifest, PolicySet, Reference, Rejected,
    Result, Source, Subject, Time, Verified, Verifier, gather, json,
};

/// How deep an index may be nested, and how many manifests are below it, as far as they are looked at.
const DEEPEST: usize = 3;
const MOST_BELOW: usize = 1_000;

/// What is known of an artifact.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is proven.
    pub facts: Vec<Verified<Fact>>,
    /// What proves nothing, and why.
    pub rejected: Vec<Rejected>,
    /// The evidence that both are about, as far as it could be read.
    pub evidence: Vec<Evidence>,
    /// What was not looked at, in sentences.
    pub cut: Vec<String>,
}

impl Verifier {
    /// Gathers what is said of `subject`, and checks it. What is about another artifact is refused before it counts as
    /// evidence that is worth something, so that copied signatures cannot push a real one out.
    pub async fn examine(&self, source: &impl Source, subject: &Digest) -> Result<Findings> {
        let results: Mutex<HashMap<Digest, Checked>> = Mutex::default();
        let worth = |evidence: &Evidence| {
            let artifact = Artifact { digest: subject.clone(), bytes: None };
            let checked = self.verify(evidence, Some(artifact));
            let is_worth = !checked.facts.is_empty();
            results.lock().unwrap_or_else(PoisonError::into_inner).insert(evidence.digest.clone(), checked);
            is_worth
        };
        let gathered = gather(source, subject, self.looked_at, &worth).await?;
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut findings = Findings {
            rejected: gathered.rejected,
            evidence: gathered.evidence,
            cut: gathered.cut,
            ..Findings::default()
        };
        for evidence in &findings.evidence {
            if let Some(checked) = results.remove(&evidence.digest) {
                findings.facts.extend(checked.facts);
                findings.rejected.extend(checked.rejected);
            }
        }
        Ok(findings)
    }
}

impl PolicySet {
    /// Gathers, checks and judges: what this set says of an artifact in a source. `verifier` is one of
    /// [`PolicySet::trust`]. The digests that the artifact is made of are added to the subject's parts.
    pub async fn examine(
        &self,
        verifier: &Verifier,
        source: &impl Source,
        mut subject: Subject,
        now: Time,
    ) -> Result<Decision> {
        subject.parts.extend(parts(source, &subject.digest).await?);
        let findings = verifier.examine(source, &subject.digest).await?;
        Ok(self.judge(&subject, &findings.facts, &findings.rejected, now))
    }
}

/// As much of a manifest or an index as names content.
#[derive(Deserialize)]
struct Names {
    config: Option<Named>,
    #[serde(default)]
    layers: Vec<Named>,
    #[serde(default)]
    manifests: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    digest: Digest,
}

/// What an artifact is made of: SHA-256 of its manifest, and the digests of its configuration, its layers and all
/// manifests below it.
async fn parts(source: &impl Source, digest: &Digest) -> Result<Vec<Digest>> {
    let mut found = Vec::new();
    let mut seen: HashSet<Digest> = HashSet::from([digest.clone()]);
    let mut level = vec![digest.clone()];
    for depth in 0..=DEEPEST {
        let mut next = Vec::new();
        for digest in std::mem::take(&mut level) {
            // What an index lists need not be there.
            let Some(manifest) = source.manifest(&Reference::Digest(digest)).await? else { continue };
            found.push(Digest::of(&manifest.bytes));
            let names = named(&manifest)?;
            found.extend(names.config.into_iter().chain(names.layers).map(|named| named.digest));
            next.extend(
                names
                    .manifests
                    .into_iter()
                    .map(|named| named.digest)
                    .filter(|digest| seen.insert(digest.clone())),
            );
        }
        if next.is_empty() {
            return Ok(found);
        }
        if depth == DEEPEST || seen.len() > MOST_BELOW {
            return Err(Error::OverLimit(format!(
                "{digest}: more than {MOST_BELOW} manifests below it, or more than {DEEPEST} levels of them"
            )));
        }
        found.extend(next.iter().cloned());
        level = next;
    }
    Ok(found)
}

fn named(manifest: &Manifest) -> Result<Names> {
    let most = usize::try_from(Manifest::MOST).unwrap_or(usize::MAX);
    json::read(&manifest.bytes, most)
        .map_err(|refusal| Error::Malformed(format!("{}: {}", manifest.digest, refusal.why)))
}
