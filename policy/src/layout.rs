// SPDX-License-Identifier: AGPL-3.0-only
//! An OCI layout on disk as a [`Source`] (OCI image-spec, image-layout.md), also as `cosign save` writes it: there what
//! is said of the one image is marked by an annotation `kind`, and bundles stand among the blobs without being listed.
//!
//! Only names that are digests become paths, so nothing leads out of the folder. What is read is capped; a layout that
//! is larger than what is looked at is an error, never a shorter list: what was left out might be what matters. Files
//! are read where they are asked for, which blocks; a server has a source of its own.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Algorithm, Descriptor, Digest, Error, Manifest, Reference, Result, Source, json};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const KIND: &str = "kind";
const KINDS: &str = "dev.cosignproject.cosign/";
const MOST_ENTRIES: usize = 10_000;
/// The most blobs that are looked at for one that refers to something.
const MOST_BLOBS: usize = 100_000;
/// A manifest that refers to something is small.
const MOST_REFERRER: u64 = 1 << 20;
const MOST_SCANNED: u64 = 256 << 20;

/// A layout on disk.
#[derive(Clone, Debug)]
pub struct LayoutSource {
    folder: PathBuf,
    entries: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// As much of a manifest as tells what it refers to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Referring {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Typed>,
    subject: Option<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

impl LayoutSource {
    /// Reads what the layout lists.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("oci-layout");
        let version = read(&path, 4096)?.ok_or_else(|| {
            Error::NotFound(format!("{} is no OCI layout: it has no file oci-layout", folder.display()))
        })?;
        let version: Version = parse(&path, &version)?;
        if !version.image_layout_version.starts_with("1.") {
            return Err(Error::Malformed(format!("{}: a version that is not known", path.display())));
        }
        let path = folder.join("index.json");
        let index = read(&path, Manifest::MOST)?
            .ok_or_else(|| Error::NotFound(format!("{} is empty: it has no index.json", folder.display())))?;
        let entries = parse::<Index>(&path, &index)?.manifests;
        if entries.len() > MOST_ENTRIES {
            return Err(Error::OverLimit(format!("{}: more than {MOST_ENTRIES} entries", path.display())));
        }
        Ok(LayoutSource { folder: folder.to_owned(), entries })
    }

    /// The only image that is listed, beside what is said of it.
    pub fn only(&self) -> Result<Digest> {
        let place = self.folder.display();
        if let Some(saved) = self.saved()? {
            return Ok(saved.digest.clone());
        }
        let all = || self.entries.iter();
        let named = all().filter(|entry| annotation(entry, REF_NAME).is_some_and(|name| !is_evidence(name)));
        let mut candidates: Vec<&Digest> = named.map(|entry| &entry.digest).collect();
        if candidates.is_empty() {
            candidates = all().map(|entry| &entry.digest).collect();
        }
        candidates.sort();
        candidates.dedup();
        match candidates.as_slice() {
            [only] => Ok((*only).clone()),
            [] => Err(Error::NotFound(format!("{place} is empty"))),
            _ => Err(Error::Load(format!("{place} holds several images; add :TAG or @DIGEST"))),
        }
    }

    /// The image that `cosign save` wrote.
    fn saved(&self) -> Result<Option<&Descriptor>> {
        let mut images =
            self.entries.iter().filter(|entry| matches!(kind(entry), Some("image" | "imageIndex")));
        match (images.next(), images.next()) {
            (found, None) => Ok(found),
            _ => Err(Error::Load(format!("{} holds several images; add @DIGEST", self.folder.display()))),
        }
    }

    /// What a tag names: by its name, or as cosign marks what it saved.
    fn tagged(&self, tag: &str) -> Result<Option<&Descriptor>> {
        let mut named = self.entries.iter().filter(|entry| annotation(entry, REF_NAME) == Some(tag));
        match (named.next(), named.next()) {
            (Some(entry), None) => return Ok(Some(entry)),
            (Some(entry), Some(other)) if entry.digest == other.digest => return Ok(Some(entry)),
            (Some(_), Some(_)) => {
                let place = self.folder.display();
                return Err(Error::Malformed(format!("{place}: index.json has the tag {tag:?} twice")));
            }
            (None, _) => {}
        }
        let Some((subject, suffix)) = tag.rsplit_once('.') else { return Ok(None) };
        let wanted = match suffix {
            "sig" => "sigs",
            "att" => "atts",
            _ => return Ok(None),
        };
        match self.saved() {
            Ok(Some(saved)) if saved.digest.as_str().replace(':', "-") == subject => {
                Ok(self.entries.iter().find(|entry| kind(entry) == Some(wanted)))
            }
            _ => Ok(None),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(folder_of(digest.algorithm())).join(digest.hex())
    }

    /// A file that has the digest which is its name.
    fn checked(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>> {
        let path = self.path(digest);
        match read(&path, most)? {
            Some(bytes) if !digest.is_of(&bytes) => {
                Err(Error::Malformed(format!("{}: its content has another digest", path.display())))
            }
            other => Ok(other),
        }
    }

    /// The digests of the blobs that are small enough to be manifests, within limits.
    fn small_blobs(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        let (mut files, mut bytes) = (0_usize, 0_u64);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.folder.join("blobs").join(folder_of(algorithm));
            let failed = |cause| Error::File { path: folder.clone(), cause };
            let listed = match fs::read_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                listed => listed.map_err(failed)?,
            };
            for file in listed {
                let file = file.map_err(failed)?;
                files += 1;
                if files > MOST_BLOBS {
                    return Err(Error::OverLimit(format!(
                        "{}: more than {MOST_BLOBS} files",
                        folder.display()
                    )));
                }
                let name = file.file_name();
                let named = name.to_str().map(|name| format!("{}:{name}", folder_of(algorithm)));
                let Some(digest) = named.and_then(|name| name.parse::<Digest>().ok()) else { continue };
                let size = file.metadata().map_err(failed)?.len();
                if size <= MOST_REFERRER {
                    bytes += size;
                    found.push(digest);
                }
                if bytes > MOST_SCANNED {
                    return Err(Error::OverLimit(format!("{}: too much to look at", folder.display())));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The blob, if it is a manifest that refers to `subject`.
    fn referring(&self, digest: Digest, subject: &Digest) -> Result<Option<Descriptor>> {
        let Some(bytes) = read(&self.path(&digest), MOST_REFERRER)? else { return Ok(None) };
        if bytes.first() != Some(&b'{') || !digest.is_of(&bytes) {
            return Ok(None);
        }
        let Ok(found) = json::read::<Referring>(&bytes, most(MOST_REFERRER)) else { return Ok(None) };
        if found.subject.is_none_or(|named| named.digest != *subject) {
            return Ok(None);
        }
        // As the referrers API tells it (OCI distribution-spec, "Listing Referrers").
        let artifact_type = found.artifact_type.filter(|own| !own.is_empty());
        Ok(Some(Descriptor {
            media_type: found.media_type.unwrap_or_else(|| crate::sign::MANIFEST.to_owned()),
            digest,
            size: bytes.len() as u64,
            artifact_type: artifact_type.or(found.config.and_then(|config| config.media_type)),
            // Thousands of manifests may have a mebibyte of them each, and nobody who verifies looks at them.
            annotations: None,
        }))
    }
}

impl Source for LayoutSource {
    async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>> {
        let (digest, said) = match reference {
            Reference::Tag(tag) => match self.tagged(tag)? {
                None => return Ok(None),
                Some(entry) => (&entry.digest, Some(entry)),
            },
            Reference::Digest(digest) => (digest, self.entries.iter().find(|entry| entry.digest == *digest)),
        };
        let Some(bytes) = self.checked(digest, Manifest::MOST)? else { return Ok(None) };
        let media_type = match said {
            Some(entry) => entry.media_type.clone(),
            // Below an index: as it says itself.
            None => json::read::<Referring>(&bytes, most(Manifest::MOST))
                .ok()
                .and_then(|manifest| manifest.media_type)
                .unwrap_or_else(|| crate::sign::MANIFEST.to_owned()),
        };
        Ok(Some(Manifest { digest: digest.clone(), media_type, bytes }))
    }

    async fn referrers(&self, subject: &Digest, limit: usize) -> Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        for digest in self.small_blobs()? {
            if found.len() == limit {
                break;
            }
            found.extend(self.referring(digest, subject)?);
        }
        Ok(found)
    }

    async fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>> {
        self.checked(digest, most)
    }
}

fn annotation<'a>(entry: &'a Descriptor, name: &str) -> Option<&'a str> {
    entry.annotations.as_ref()?.get(name).map(String::as_str)
}

/// How cosign marks an entry.
fn kind(entry: &Descriptor) -> Option<&str> {
    annotation(entry, KIND)?.strip_prefix(KINDS)
}

/// Whether a tag is one of those under which clients keep what is said of others.
fn is_evidence(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").or_else(|| tag.strip_prefix("sha512-"));
    hex.and_then(|hex| hex.split('.').next())
        .is_some_and(|hex| matches!(hex.len(), 64 | 128) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn folder_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    }
}

/// A file, none if there is no such one.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let failed = |cause| Error::File { path: path.to_owned(), cause };
    // What is no file, such as a pipe, might never end, or never begin.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Error::Malformed(format!("{}: not a file", path.display())));
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Error::OverLimit(format!("{}: more than {most} bytes", path.display())));
    }
    Ok(Some(bytes))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    json::read(bytes, most(Manifest::MOST))
        .map_err(|refusal| Error::Malformed(format!("{}: {}", path.display(), refusal.why)))
}

fn most(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
