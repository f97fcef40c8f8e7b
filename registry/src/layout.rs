// SPDX-License-Identifier: AGPL-3.0-only
//! An OCI image layout: a directory with `oci-layout`, `index.json` and blobs by digest (OCI image-spec,
//! image-layout.md), as `stella copy` reads and writes it.
//!
//! What always holds: a blob has its name only after its bytes were verified and are durable; `index.json` is
//! replaced as a whole, under a lock of the directory, so that several copies may write to one layout.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use stella_storage::manifest::media_type::OCI_INDEX;
use stella_storage::{Digest, Reference, Tag};

use crate::remote::{Content, Descriptor, Error, Manifest, Result};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const PIECE: usize = 1 << 20;
/// The largest `index.json` and manifest that is read.
const MAX_DOCUMENT: u64 = 64 << 20;
const MAX_MANIFEST: u64 = 8 << 20;

/// A layout on disk.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
}

/// How a manifest is listed in `index.json`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listed<'a> {
    /// Not: another manifest names it.
    Below,
    /// Under a tag, which moves.
    As(&'a Tag),
    /// Without a name.
    Unnamed,
}

impl Layout {
    /// A layout that is there.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let layout = Layout { folder: folder.to_owned() };
        let text = layout.read("oci-layout", 4096)?.ok_or_else(|| {
            Error::NotFound(format!("{} is no OCI layout: it has no file oci-layout", folder.display()))
        })?;
        let version =
            serde_json::from_slice::<Value>(&text).unwrap_or_default()["imageLayoutVersion"].clone();
        if version.as_str().is_none_or(|version| !version.starts_with("1.")) {
            return Err(layout.damaged("oci-layout", "it names no version that is known"));
        }
        Ok(layout)
    }

    /// A layout that is there, or is made now.
    pub(crate) fn open_or_create(folder: &Path) -> Result<Self> {
        let layout = Layout { folder: folder.to_owned() };
        if layout.folder.join("oci-layout").exists() {
            return Self::open(folder);
        }
        let made = fs::create_dir_all(folder.join("blobs"));
        made.map_err(|error| layout.io("create", &folder.join("blobs"), &error))?;
        let _lock = layout.lock()?;
        if !folder.join("index.json").exists() {
            layout.replace("index.json", empty_index().to_string().as_bytes())?;
        }
        layout.replace("oci-layout", LAYOUT.as_bytes())?;
        Ok(layout)
    }

    /// What a tag or digest names. Without either: the only image there is.
    pub(crate) fn find(&self, reference: Option<&Reference>) -> Result<Manifest> {
        let entries = self.entries()?;
        let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
        let entry = match reference {
            Some(Reference::Digest(digest)) => {
                let entry = entries.iter().find(|entry| entry["digest"] == digest.to_string().as_str());
                return self.manifest(digest, entry.and_then(|entry| entry["mediaType"].as_str()));
            }
            Some(Reference::Tag(tag)) => entries
                .iter()
                .find(|entry| name(entry).as_deref() == Some(tag.as_str()))
                .ok_or_else(|| {
                    Error::NotFound(format!(
                        "{} has no tag {tag}; {}",
                        self.folder.display(),
                        Self::told(&entries)
                    ))
                })?,
            None => match entries.as_slice() {
                [only] => only,
                [] => return Err(Error::NotFound(format!("{} is empty", self.folder.display()))),
                _ => {
                    // Beside one image there may be what refers to it.
                    let mut named = entries.iter().filter(|entry| name(entry).is_some());
                    let (Some(only), None) = (named.next(), named.next()) else {
                        let told = Self::told(&entries);
                        return Err(Error::Usage(format!(
                            "{} holds several images; add :TAG, {told}",
                            self.folder.display()
                        )));
                    };
                    only
                }
            },
        };
        let digest = entry["digest"].as_str().unwrap_or_default();
        let digest =
            digest.parse().map_err(|_| self.damaged("index.json", "an entry has no valid digest"))?;
        self.manifest(&digest, entry["mediaType"].as_str())
    }

    /// The tag of what [`Layout::find`] finds without a reference, if it has one.
    pub(crate) fn only_tag(&self) -> Result<Option<Tag>> {
        let entries = self.entries()?;
        let mut names = entries.iter().filter_map(|entry| entry["annotations"][REF_NAME].as_str());
        // With several, the image itself is asked for first, and refused.
        Ok(names.next().filter(|_| names.next().is_none()).and_then(|name| name.parse().ok()))
    }

    /// The tags that `index.json` lists, for a message.
    fn told(entries: &[Value]) -> String {
        let names = entries.iter().filter_map(|entry| entry["annotations"][REF_NAME].as_str());
        let names: Vec<_> = names.take(10).map(|name| crate::remote::printable(name, 128)).collect();
        if names.is_empty() { "it has no tags".to_owned() } else { format!("it has {}", names.join(", ")) }
    }

    /// A manifest by digest.
    pub(crate) fn manifest(&self, digest: &Digest, media_type: Option<&str>) -> Result<Manifest> {
        let name = blob_name(digest)?;
        let bytes = self.read(&name, MAX_MANIFEST)?;
        let bytes = bytes.ok_or_else(|| self.missing(digest))?;
        Manifest::checked(Some(digest), media_type, bytes.into())
            .map_err(|error| error.about(self.folder.display()))
    }

    /// The bytes of a blob.
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> Result<Content> {
        let path = self.folder.join(blob_name(digest)?);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.missing(digest)),
            Err(error) => return Err(self.io("read", &path, &error)),
        };
        let state = (file, self.clone(), path);
        let pieces = stream::try_unfold(state, |(mut file, layout, path)| async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                file.read(&mut piece).map(|length| {
                    piece.truncate(length);
                    (Bytes::from(piece), file)
                })
            });
            match read.await {
                Ok(Ok((piece, _))) if piece.is_empty() => Ok(None),
                Ok(Ok((piece, file))) => Ok(Some((piece, (file, layout, path)))),
                Ok(Err(error)) => Err(layout.io("read", &path, &error)),
                Err(error) => Err(Error::Failed(error.to_string())),
            }
        });
        Content::verified(digest, size, pieces)
    }

    /// Whether a blob is there, whole and undamaged: every byte is read.
    pub(crate) async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let mut content = match self.blob(digest, size) {
            Ok(content) => content,
            Err(Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        loop {
            match content.next().await {
                None => return Ok(true),
                Some(Ok(_)) => {}
                Some(Err(Error::Integrity(_))) => return Ok(false),
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Writes a blob; it has its name only once it is whole.
    pub(crate) async fn write_blob(&self, digest: &Digest, mut content: Content) -> Result<()> {
        let path = self.folder.join(blob_name(digest)?);
        let mut draft = Draft::new(self, path)?;
        let mut batch = BytesMut::new();
        loop {
            let piece = content.next().await.transpose()?;
            let ended = piece.is_none();
            batch.extend_from_slice(&piece.unwrap_or_default());
            if !ended && batch.len() < PIECE {
                continue;
            }
            let bytes = batch.split();
            let written = tokio::task::spawn_blocking(move || {
                draft.write(&bytes)?;
                if ended { draft.finish().map(|()| None) } else { Ok(Some(draft)) }
            });
            match written.await.map_err(|error| Error::Failed(error.to_string()))?? {
                Some(next) => draft = next,
                None => return Ok(()),
            }
        }
    }

    /// Writes a manifest, and lists it; whether it was there.
    pub(crate) fn put_manifest(&self, manifest: &Manifest, listed: Listed<'_>) -> Result<bool> {
        let name = blob_name(&manifest.digest)?;
        let existed = self.read(&name, MAX_MANIFEST)?.is_some_and(|bytes| bytes == manifest.bytes);
        if !existed {
            self.replace(&name, &manifest.bytes)?;
        }
        let tag = match listed {
            Listed::Below => return Ok(existed),
            Listed::As(tag) => Some(tag.as_str()),
            Listed::Unnamed => None,
        };
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let digest = manifest.digest.to_string();
        let Some(entries) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
            return Err(self.damaged("index.json", "it has no list of manifests"));
        };
        let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().map(str::to_owned);
        match tag {
            // A tag names one thing.
            Some(tag) => entries.retain(|entry| {
                name(entry).as_deref() != Some(tag)
                    && !(entry["digest"] == digest.as_str() && name(entry).is_none())
            }),
            None if entries.iter().any(|entry| entry["digest"] == digest.as_str()) => return Ok(existed),
            None => {}
        }
        let mut entry =
            json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.bytes.len()});
        if let Some(kind) = &manifest.document.artifact_type {
            entry["artifactType"] = kind.as_str().into();
        }
        if let Some(tag) = tag {
            entry["annotations"] = json!({REF_NAME: tag});
        }
        entries.push(entry);
        self.replace("index.json", index.to_string().as_bytes()).map(|()| existed)
    }

    /// What refers to `subject`: manifests that `index.json` lists.
    pub(crate) fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        for entry in self.entries()? {
            let Some(digest) = entry["digest"].as_str().and_then(|digest| digest.parse().ok()) else {
                continue;
            };
            let manifest = match self.manifest(&digest, entry["mediaType"].as_str()) {
                Ok(manifest) => manifest,
                // An entry of something else, or of what is not here.
                Err(Error::NotFound(_) | Error::Integrity(_)) => continue,
                Err(error) => return Err(error),
            };
            if manifest.document.subject.as_ref().is_some_and(|named| named.digest == *subject) {
                found.push(manifest.descriptor());
            }
        }
        Ok(found)
    }

    fn entries(&self) -> Result<Vec<Value>> {
        Ok(self.index()?["manifests"].as_array().cloned().unwrap_or_default())
    }

    fn index(&self) -> Result<Value> {
        let Some(bytes) = self.read("index.json", MAX_DOCUMENT)? else { return Ok(empty_index()) };
        match serde_json::from_slice(&bytes) {
            Ok(index @ Value::Object(_)) => Ok(index),
            _ => Err(self.damaged("index.json", "it is no JSON object")),
        }
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = self.folder.join(name);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", &path, &error)),
            Ok(_) if bytes.len() as u64 > limit => Err(self.damaged(name, "it is too large")),
            Ok(_) => Ok(Some(bytes)),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut draft = Draft::new(self, self.folder.join(name))?;
        draft.write(bytes)?;
        draft.finish()
    }

    /// Others wait until the file is closed.
    fn lock(&self) -> Result<File> {
        let folder = File::open(&self.folder).map_err(|error| self.io("open", &self.folder, &error))?;
        flock(&folder, FlockOperation::LockExclusive)
            .map_err(|error| self.io("lock", &self.folder, &error.into()))?;
        Ok(folder)
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::NotFound(format!("{} does not hold {digest}", self.folder.display()))
    }

    fn damaged(&self, name: &str, why: &str) -> Error {
        Error::Integrity(format!("{}: {why}", self.folder.join(name).display()))
    }

    #[expect(clippy::unused_self, reason = "what fails is always a layout's")]
    fn io(&self, what: &str, path: &Path, error: &std::io::Error) -> Error {
        Error::Failed(format!("cannot {what} {}: {error}", path.display()))
    }
}

/// A file on its way; removed unless it was finished.
struct Draft {
    layout: Layout,
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Draft {
    fn new(layout: &Layout, path: PathBuf) -> Result<Self> {
        let folder = path.parent().unwrap_or(&layout.folder);
        fs::create_dir_all(folder).map_err(|error| layout.io("create", folder, &error))?;
        let draft = folder.join(format!(".{}.tmp", uuid::Uuid::new_v4()));
        let file = File::create_new(&draft).map_err(|error| layout.io("create", &draft, &error))?;
        Ok(Draft { layout: layout.clone(), file, unfinished: draft, path, finished: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.layout.io("write", &self.unfinished, &error))
    }

    fn finish(mut self) -> Result<()> {
        let folder = self.path.parent().unwrap_or(&self.layout.folder);
        let done = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.unfinished, &self.path))
            .and_then(|()| File::open(folder)?.sync_all());
        self.finished = done.is_ok();
        done.map_err(|error| self.layout.io("write", &self.path, &error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // It may have been renamed before something failed.
            let _gone = fs::remove_file(&self.unfinished);
        }
    }
}

fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
}

/// Only digests that can be verified have files, and those are hexadecimal.
fn blob_name(digest: &Digest) -> Result<String> {
    let algorithm = digest.supported().map_err(|error| Error::Failed(error.to_string()))?;
    let text = digest.to_string();
    let encoded = text.split_once(':').map_or("", |(_, encoded)| encoded);
    Ok(format!("blobs/{}/{encoded}", algorithm.name()))
}

#[cfg(test)]
mod tests;
