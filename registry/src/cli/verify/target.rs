// SPDX-License-Identifier: AGPL-3.0-only
//! What is verified. A name is resolved to a digest once; everything after that is about the digest, so that a registry
//! cannot answer one thing for the check and another for the use.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use stella_policy::{Descriptor, Digest, LayoutSource, Manifest, Reference, Result, Source};

use crate::cli::connection::told;
use crate::cli::signing::{failed, usage};
use crate::remote::{ImageName, Options, Remote};
use crate::source::{RemoteSource, theirs};

const LAYOUT: &str = "oci-layout:";
/// The most bytes of a file that is verified: they are in memory at once.
const MOST: u64 = 2 << 30;

/// An image, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// At a registry.
    Image(ImageName),
    /// In a layout on disk; without a reference the only image there.
    Layout { folder: PathBuf, reference: Option<Reference> },
}

/// A place that is either.
pub(crate) enum Place {
    Remote(RemoteSource),
    Layout(LayoutSource),
}

/// An image that was found: of all that is asked later, this is the digest.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) digest: Digest,
}

impl Target {
    /// Reads a name.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix(LAYOUT) else {
            return Ok(Target::Image(told(text.parse(), "REF")?));
        };
        let (folder, reference) = match rest.split_once('@') {
            Some((folder, digest)) => {
                let digest = digest.parse().map_err(|error| usage(format!("{text:?}: {error}")))?;
                (folder, Some(Reference::Digest(digest)))
            }
            // A colon in a folder's name is followed by a slash somewhere.
            None => match rest.rsplit_once(':') {
                Some((folder, tag)) if !tag.contains('/') => {
                    let tag = tag.parse::<stella_storage::Tag>();
                    let tag = tag.map_err(|error| usage(format!("{text:?}: {error}")))?;
                    (folder, Some(Reference::Tag(tag.to_string())))
                }
                _ => (rest, None),
            },
        };
        if folder.is_empty() {
            return Err(usage(format!("{text:?} names no directory; write {LAYOUT}DIR[:TAG|@DIGEST]")));
        }
        Ok(Target::Layout { folder: folder.into(), reference })
    }

    /// What cosign says that an image is called where its signature does not: what was asked for, with a tag where no
    /// digest was, and else with the digest alone.
    pub(crate) fn named(&self, found: &Digest) -> String {
        match self {
            Target::Image(ImageName { digest: None, tag, .. }) => {
                format!("{self}:{}", tag.as_ref().map_or("latest", |tag| tag.as_str()))
            }
            Target::Image(_) | Target::Layout { .. } => format!("{self}@{found}"),
        }
    }

    /// Finds it, once.
    pub(crate) async fn find(&self, options: &Options) -> anyhow::Result<Found> {
        match self {
            Target::Image(name) => {
                let remote = told(Remote::connect(options, name).await, name)?;
                let reference = told(name.reference(), name)?;
                let (digest, _, _) = told(remote.raw_manifest(&reference).await, name)?;
                let digest = theirs(&digest).map_err(|error| failed(&error))?;
                Ok(Found { place: Place::Remote(RemoteSource(remote)), digest })
            }
            Target::Layout { folder, reference } => {
                let layout = LayoutSource::open(folder).map_err(|error| failed(&error))?;
                let reference = match reference {
                    Some(reference) => reference.clone(),
                    None => Reference::Digest(layout.only().map_err(|error| failed(&error))?),
                };
                let found = layout.manifest(&reference).await.map_err(|error| failed(&error))?;
                let digest = found.map(|manifest| manifest.digest).ok_or_else(|| {
                    let place = folder.display();
                    failed(&stella_policy::Error::NotFound(format!(
                        "{place} does not hold what was asked for"
                    )))
                })?;
                Ok(Found { place: Place::Layout(layout), digest })
            }
        }
    }
}

impl Source for Place {
    async fn manifest(&self, reference: &Reference) -> Result<Option<Manifest>> {
        match self {
            Place::Remote(source) => source.manifest(reference).await,
            Place::Layout(source) => source.manifest(reference).await,
        }
    }

    async fn referrers(&self, subject: &Digest, limit: usize) -> Result<Vec<Descriptor>> {
        match self {
            Place::Remote(source) => source.referrers(subject, limit).await,
            Place::Layout(source) => source.referrers(subject, limit).await,
        }
    }

    async fn blob(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Place::Remote(source) => source.blob(digest, most).await,
            Place::Layout(source) => source.blob(digest, most).await,
        }
    }
}

/// The repository of an image, or the layout, without what names the image in it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Image(name) => f.write_str(&name.signed_place()),
            Target::Layout { folder, .. } => write!(f, "{LAYOUT}{}", folder.display()),
        }
    }
}

/// A file, or what is known of one.
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// Not known where only the digest was named.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Blob {
    /// Reads `FILE` or `sha256:HEX`. What begins like a digest is one: a file of that name is `./sha256:…`.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        if text.starts_with("sha256:") {
            let digest = text.parse().map_err(|error| usage(format!("{text:?}: {error}")))?;
            return Ok(Blob { digest, bytes: None });
        }
        Self::file(Path::new(text))
    }

    /// Reads a file.
    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        let unread = |cause| failed(&stella_policy::Error::File { path: path.to_owned(), cause });
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(unread)?;
        if bytes.len() as u64 > MOST {
            return Err(usage(format!("{}: it is larger than {MOST} bytes", path.display())));
        }
        Ok(Blob { digest: Digest::of(&bytes), bytes: Some(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_at_a_registry_or_in_a_layout() {
        let parsed = |text: &str| Target::parse(text).unwrap();
        assert!(matches!(parsed("r.test/app:1"), Target::Image(_)));
        let digest = Digest::of(b"");
        for (text, folder, reference) in [
            ("oci-layout:d".to_owned(), "d", None),
            ("oci-layout:/a:b/c".to_owned(), "/a:b/c", None),
            ("oci-layout:/a/b:1.0".to_owned(), "/a/b", Some(Reference::Tag("1.0".to_owned()))),
            (format!("oci-layout:d@{digest}"), "d", Some(Reference::Digest(digest.clone()))),
        ] {
            assert_eq!(parsed(&text), Target::Layout { folder: folder.into(), reference }, "{text}");
        }
        for wrong in
            ["oci-layout:", "oci-layout::1", "oci-layout:d:", "oci-layout:d@x", "", "https://r.test/a"]
        {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_image_is_called_what_was_asked_for() {
        let digest = Digest::of(b"");
        let named = |text: &str| Target::parse(text).unwrap().named(&digest);
        assert_eq!(named("r.test/app"), "r.test/app:latest");
        assert_eq!(named("r.test/app:1"), "r.test/app:1");
        let by_digest = format!("r.test/app@{digest}");
        assert_eq!(named(&format!("r.test/app:1@{digest}")), by_digest);
        assert_eq!(named(&by_digest), by_digest);
        assert_eq!(named("oci-layout:d:1"), format!("oci-layout:d@{digest}"));
    }

    #[test]
    fn a_name_becomes_a_digest_once_and_all_else_is_asked_of_that_place() {
        let folder = tempfile::TempDir::new().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let bytes = br#"{"schemaVersion":2}"#;
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = format!(r#"{{"manifests":[{{"mediaType":"a/b","digest":"{digest}","size":19}}]}}"#);
        std::fs::write(folder.path().join("index.json"), index).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = Options::new(|_| None);
        let target = Target::parse(&format!("{LAYOUT}{}", folder.path().display())).unwrap();
        let found = runtime.block_on(target.find(&options)).unwrap();
        assert_eq!(found.digest, digest);
        let manifest = runtime.block_on(found.place.manifest(&Reference::Digest(digest.clone())));
        assert_eq!(manifest.unwrap().unwrap().media_type, "a/b");
        assert_eq!(runtime.block_on(found.place.referrers(&digest, 9)).unwrap(), []);
        assert!(runtime.block_on(found.place.blob(&digest, 99)).unwrap().is_some());
        let target = Target::parse(&format!("{LAYOUT}{}:none", folder.path().display())).unwrap();
        let error = runtime.block_on(target.find(&options)).err().unwrap();
        assert_eq!(error.downcast_ref::<crate::admin::Failed>().unwrap().exit, crate::exit::NOT_FOUND);
    }

    #[test]
    fn a_digest_is_taken_at_its_word_and_a_file_is_hashed() {
        let digest = Digest::of(b"x");
        let named = Blob::read(digest.as_str()).unwrap();
        assert_eq!((named.digest, named.bytes), (digest.clone(), None));
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let read = Blob::read(path.to_str().unwrap()).unwrap();
        assert_eq!((read.digest, read.bytes.as_deref()), (digest, Some(b"x".as_slice())));
        assert!(Blob::read("sha256:00").is_err());
        assert!(Blob::read("/nonexistent").is_err());
    }
}
