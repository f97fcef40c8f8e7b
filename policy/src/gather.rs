// SPDX-License-Identifier: AGPL-3.0-only
//! Takes what is said of an artifact from a source, in every form, within limits, and believes none of it. Anybody who may
//! push may add referrers and layers by the thousand, so what is worth something is counted apart from what is not, and
//! the smallest is read first: a real signature is small, and no amount of junk takes its place.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;

use crate::evidence::parsed::Parsed;
use crate::evidence::{ANNOTATIONS, BUNDLE, DSSE, Evidence, Form, SIMPLE_SIGNING, most_of};
use crate::json;
use crate::limits::{JUNK_BYTES, KEPT_ANNOTATION_BYTES, LAYERS, MANIFEST_BYTES, REFERRERS};
use crate::refusal::Refusal;
use crate::{Algorithm, Descriptor, Digest, Error, Manifest, Reason, Reference, Rejected, Result, Source};

/// Types of referrers that have evidence. Those without a type are looked at, all others are something else.
const ARTIFACT_TYPES: [&str; 5] = [
    "application/vnd.dev.cosign.artifact.sig.v1+json",
    "application/vnd.dev.cosign.artifact.att.v1+json",
    "application/vnd.in-toto+json",
    // What a registry may derive from the config where cosign gave no type.
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.empty.v1+json",
];
/// The most reasons that are kept; the others are counted.
const REASONS: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Evidence that can be read, first what is worth something.
    pub evidence: Vec<Evidence>,
    /// What cannot be read, the first few.
    pub rejected: Vec<Rejected>,
    /// What was not looked at, in sentences; with anything here, the answer is not about everything.
    pub cut: Vec<String>,
}

/// Where something that may be evidence lies.
struct Candidate {
    form: Form,
    layer: Descriptor,
}

impl Candidate {
    fn annotation_bytes(&self) -> usize {
        self.layer.annotations.iter().flatten().map(|(_, value)| value.len()).sum()
    }
}

/// Fields that are not known are ignored: cosign writes `artifactType` into config descriptors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    artifact_type: Option<String>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Gathers evidence about `subject`. `worth` says whether an item is worth something, as a rule whether it verifies; such
/// items and others are each taken up to the limit, the others without their content; of at most `looked_at` referrers,
/// and layers of each tag. Where nothing can be said, `|_| true` serves.
pub async fn gather(
    source: &impl Source,
    subject: &Digest,
    looked_at: usize,
    worth: &(impl Fn(&Evidence) -> bool + Sync),
) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut seen = HashSet::new();
    let referrers = referrers(source, subject, looked_at, &mut gathered).await?;
    take(source, referrers, (REFERRERS, looked_at), "referrers", worth, &mut seen, &mut gathered).await?;
    for (suffix, form) in [("sig", Form::LegacySignature), ("att", Form::LegacyAttestation)] {
        let name = format!("{}.{suffix}", tag(subject));
        let Some(manifest) = source.manifest(&Reference::Tag(name.clone())).await? else { continue };
        let layers = match whole(&manifest).and_then(|()| image(&manifest.bytes)) {
            Ok(image) => candidates(form, image),
            Err(refusal) => {
                gathered.reject(manifest.digest, form, refusal.at(&name));
                continue;
            }
        };
        take(source, layers, (LAYERS, looked_at), &name, worth, &mut seen, &mut gathered).await?;
    }
    Ok(gathered)
}

/// `sha256-…`, as clients name tags that stand for a digest.
fn tag(digest: &Digest) -> String {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    format!("{algorithm}-{}", digest.hex())
}

async fn referrers(
    source: &impl Source,
    subject: &Digest,
    looked_at: usize,
    gathered: &mut Gathered,
) -> Result<Vec<Candidate>> {
    let mut list = source.referrers(subject, looked_at + 1).await?;
    if list.is_empty() {
        // Registries without the API, or clients that thought so: OCI dist-spec, "Referrers Tag Schema".
        if let Some(manifest) = source.manifest(&Reference::Tag(tag(subject))).await? {
            match whole(&manifest).and_then(|()| json::read::<Index>(&manifest.bytes, most(Manifest::MOST))) {
                Ok(index) => list = index.manifests,
                Err(refusal) => gathered.reject(manifest.digest, Form::Bundle, refusal.at(&tag(subject))),
            }
        }
    }
    list.retain(|referrer| may_be_evidence(referrer.artifact_type.as_deref()));
    if list.len() > looked_at {
        gathered.cut.push(format!("more than {looked_at} referrers; the others were not looked at"));
        list.truncate(looked_at);
    }
    // Manifests too are read from the smallest, up to a sum: each may have a mebibyte, and they may be thousands.
    list.sort_by(|a, b| (a.size, &a.digest).cmp(&(b.size, &b.digest)));
    let (mut found, mut read, mut kept) = (Vec::new(), 0, 0);
    for referrer in list {
        if read > JUNK_BYTES {
            gathered.cut.push(format!("more than {JUNK_BYTES} bytes of referrers; the rest was not read"));
            break;
        }
        match one(source, subject, &referrer).await? {
            Ok(image) => {
                read += referrer.size;
                let candidates = candidates(Form::ReferrerSignature, image);
                let bytes: usize = candidates.iter().map(Candidate::annotation_bytes).sum();
                if kept + bytes > KEPT_ANNOTATION_BYTES {
                    let why = format!("more than {KEPT_ANNOTATION_BYTES} bytes of annotations before it");
                    gathered.reject(referrer.digest, Form::ReferrerSignature, Refusal::unsupported(why));
                    continue;
                }
                kept += bytes;
                found.extend(candidates);
            }
            Err(refusal) => gathered.reject(referrer.digest, Form::Bundle, refusal),
        }
    }
    Ok(found)
}

/// Whether a referrer of this type is looked at. A source with many others may leave those out.
pub fn may_be_evidence(artifact_type: Option<&str>) -> bool {
    match artifact_type {
        None | Some("") => true,
        Some(kind) => kind.starts_with(BUNDLE) || ARTIFACT_TYPES.contains(&kind),
    }
}

async fn one(
    source: &impl Source,
    subject: &Digest,
    referrer: &Descriptor,
) -> Result<std::result::Result<Image, Refusal>> {
    if referrer.size > MANIFEST_BYTES {
        return Ok(Err(Refusal::over(format!(
            "a manifest of {} bytes; at most {MANIFEST_BYTES}",
            referrer.size
        ))));
    }
    let manifest = match source.manifest(&Reference::Digest(referrer.digest.clone())).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            return Ok(Err(Refusal::malformed("it is in the list of referrers and not in the repository")));
        }
        Err(Error::OverLimit(why)) => return Ok(Err(Refusal::over(why))),
        Err(error) => return Err(error),
    };
    if manifest.bytes.len() as u64 != referrer.size || !referrer.digest.is_of(&manifest.bytes) {
        return Ok(Err(Refusal::malformed("the manifest is not of its digest and size")));
    }
    Ok(image(&manifest.bytes).and_then(|image| match &image.subject {
        Some(about) if about.digest == *subject => Ok(image),
        _ => Err(Refusal::new(Reason::WrongSubject, "it does not refer to this artifact")),
    }))
}

fn whole(manifest: &Manifest) -> std::result::Result<(), Refusal> {
    if manifest.digest.is_of(&manifest.bytes) {
        Ok(())
    } else {
        Err(Refusal::malformed("the manifest is not of its digest"))
    }
}

fn image(bytes: &[u8]) -> std::result::Result<Image, Refusal> {
    json::read(bytes, most(MANIFEST_BYTES)).map_err(|refusal| refusal.at("the manifest"))
}

fn most(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The layers that may be evidence. `form` is that of layers of cosign; a bundle is one wherever it lies, and whatever its
/// layer is called if the whole artifact is called one.
fn candidates(form: Form, image: Image) -> Vec<Candidate> {
    let is_bundle =
        image.artifact_type.is_some_and(|kind| kind.starts_with(BUNDLE)) && image.layers.len() == 1;
    let candidate = |mut layer: Descriptor| {
        // All others are no part of the evidence.
        if let Some(annotations) = &mut layer.annotations {
            annotations.retain(|name, _| ANNOTATIONS.contains(&name.as_str()));
        }
        let form = match layer.media_type.as_str() {
            SIMPLE_SIGNING | DSSE => form,
            kind if kind.starts_with(BUNDLE) || is_bundle => Form::Bundle,
            _ => return None,
        };
        Some(Candidate { form, layer })
    };
    image.layers.into_iter().filter_map(candidate).collect()
}

async fn take(
    source: &impl Source,
    mut candidates: Vec<Candidate>,
    (limit, looked_at): (usize, usize),
    place: &str,
    worth: &(impl Fn(&Evidence) -> bool + Sync),
    seen: &mut HashSet<Digest>,
    gathered: &mut Gathered,
) -> Result<()> {
    if candidates.len() > looked_at {
        gathered.cut.push(format!("{place}: more than {looked_at} layers; the others were not looked at"));
    }
    candidates.sort_by(|a, b| (a.layer.size, &a.layer.digest).cmp(&(b.layer.size, &b.layer.digest)));
    candidates.truncate(looked_at);
    let (mut good, mut others) = (Vec::new(), Vec::new());
    let mut junk = 0;
    let mut cut = BTreeSet::new();
    for candidate in candidates {
        if junk > JUNK_BYTES {
            cut.insert(format!(
                "{place}: more than {JUNK_BYTES} bytes of what is no evidence; the rest was not read"
            ));
            break;
        }
        let (digest, form, size) = (candidate.layer.digest.clone(), candidate.form, candidate.layer.size);
        let mut evidence = match fetched(source, candidate).await? {
            Ok(evidence) if !seen.insert(evidence.digest.clone()) => continue,
            Ok(evidence) => evidence,
            Err(refusal) => {
                // What is too large by its descriptor was not read.
                junk += if refusal.reason == Reason::OverLimit { 0 } else { size };
                gathered.reject(digest, form, refusal);
                continue;
            }
        };
        let (list, what) = if worth(&evidence) {
            (&mut good, "items of evidence")
        } else {
            junk += size;
            if others.len() < limit {
                evidence.forget();
            }
            (&mut others, "items that prove nothing")
        };
        if list.len() < limit {
            list.push(evidence);
        } else {
            cut.insert(format!("{place}: more than {limit} {what}; the others were left out"));
        }
    }
    gathered.cut.extend(cut);
    gathered.evidence.append(&mut good);
    gathered.evidence.append(&mut others);
    Ok(())
}

async fn fetched(
    source: &impl Source,
    candidate: Candidate,
) -> Result<std::result::Result<Evidence, Refusal>> {
    let Candidate { form, layer } = candidate;
    let most = most_of(&layer.media_type) as u64;
    if layer.size > most {
        return Ok(Err(Refusal::over(format!(
            "{} bytes of evidence; at most {most} are looked at",
            layer.size
        ))));
    }
    let bytes = match source.blob(&layer.digest, layer.size).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return Ok(Err(Refusal::malformed("the layer is in the manifest and not in the repository")));
        }
        Err(Error::OverLimit(why)) => {
            return Ok(Err(Refusal::malformed(format!("larger than it says: {why}"))));
        }
        Err(error) => return Err(error),
    };
    Ok(match Evidence::layer(form, &layer, bytes) {
        Ok(evidence) => Parsed::read(&evidence).map(|_| evidence),
        Err(Error::OverLimit(why)) => Err(Refusal::over(why)),
        Err(error) => Err(Refusal::malformed(error.to_string())),
    })
}

impl Gathered {
    fn reject(&mut self, evidence: Digest, form: Form, refusal: Refusal) {
        if self.rejected.len() < REASONS {
            let Refusal { reason, why } = refusal;
            self.rejected.push(Rejected { evidence, form, said_signer: None, reason, why });
        } else if self.rejected.len() == REASONS {
            let text = "there is more that cannot be read as evidence".to_owned();
            if !self.cut.contains(&text) {
                self.cut.push(text);
            }
        }
    }
}

#[cfg(test)]
mod tests;
