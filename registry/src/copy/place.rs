// SPDX-License-Identifier: AGPL-3.0-only
//! Where a copy comes from or goes to: a repository of a registry, or a layout on disk.

use std::sync::Arc;

use stella_storage::{Digest, Reference, Tag};

use super::{Event, Observer};
use crate::layout::{Layout, Listed};
use crate::remote::{Content, Descriptor, Error, Manifest, Pushed, Remote, Result};

/// A place of images.
#[derive(Clone)]
pub(crate) enum Place {
    /// A repository of a registry.
    Remote(Remote),
    /// A layout.
    Layout(Layout),
}

impl Place {
    /// What a tag or digest names there.
    pub(crate) async fn manifest(&self, reference: Option<&Reference>) -> Result<Manifest> {
        match (self, reference) {
            (Place::Remote(remote), Some(reference)) => remote.manifest(reference).await,
            (Place::Remote(_), None) => Err(Error::Usage("name a tag or a digest".to_owned())),
            (Place::Layout(layout), reference) => layout.find(reference),
        }
    }

    /// The manifest that a descriptor names.
    pub(crate) async fn child(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let digest = &descriptor.digest;
        let found = match self {
            Place::Remote(remote) => remote.manifest(&Reference::Digest(digest.clone())).await,
            Place::Layout(layout) => layout.manifest(digest, Some(&descriptor.media_type)),
        };
        let manifest = found.map_err(|error| error.about(digest))?;
        if manifest.bytes.len() as u64 != descriptor.size {
            let (found, said) = (manifest.bytes.len(), descriptor.size);
            return Err(Error::Integrity(format!(
                "{digest} has {found} bytes, and its descriptor says {said}"
            )));
        }
        Ok(manifest)
    }

    /// The bytes of a blob.
    pub(crate) async fn blob(&self, descriptor: &Descriptor) -> Result<Content> {
        match self {
            Place::Remote(remote) => remote.blob(&descriptor.digest, descriptor.size).await,
            Place::Layout(layout) => layout.blob(&descriptor.digest, descriptor.size),
        }
    }

    /// What refers to a manifest.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        match self {
            Place::Remote(remote) => remote.referrers(subject).await,
            Place::Layout(layout) => layout.referrers(subject),
        }
    }

    /// Makes sure that a blob is here.
    pub(super) async fn copy_blob(
        &self,
        source: &Place,
        blob: &Descriptor,
        observer: &Observer,
    ) -> Result<Pushed> {
        let open = || async {
            let content = source.blob(blob).await?;
            observer(Event::Begun(blob));
            Ok(metered(blob, content, observer))
        };
        match self {
            Place::Remote(remote) => {
                let from = match source {
                    Place::Remote(source) if source.is_beside(remote) => Some(source.repository()),
                    _ => None,
                };
                remote.push_blob(&blob.digest, from, open).await
            }
            Place::Layout(layout) if layout.has_blob(&blob.digest, blob.size).await? => Ok(Pushed::Existed),
            Place::Layout(layout) => {
                layout.write_blob(&blob.digest, open().await?).await?;
                Ok(Pushed::Sent)
            }
        }
    }

    /// Puts a manifest under its digest; whether it was there. What refers to another is found from there.
    pub(super) async fn put(&self, manifest: &Manifest) -> Result<bool> {
        let remote = match self {
            Place::Remote(remote) => remote,
            Place::Layout(layout) => {
                let referrer = manifest.document.subject.is_some();
                let listed = if referrer { Listed::Unnamed } else { Listed::Below };
                return layout.put_manifest(manifest, listed);
            }
        };
        let reference = Reference::Digest(manifest.digest.clone());
        match &manifest.document.subject {
            None if remote.has_manifest(&manifest.digest).await? => Ok(true),
            None => remote.put_manifest(&reference, manifest).await.map(|_| false),
            Some(subject) => {
                // Put again although it may be there: only the answer tells who keeps the list of referrers.
                if !remote.put_manifest(&reference, manifest).await? {
                    remote.add_to_fallback(&subject.digest, &manifest.descriptor()).await?;
                }
                Ok(false)
            }
        }
    }

    /// Puts a manifest under a tag; whether the tag named it already.
    pub(super) async fn put_tag(&self, manifest: &Manifest, tag: &Tag) -> Result<bool> {
        match self {
            Place::Remote(remote) => {
                let reference = Reference::Tag(tag.clone());
                match remote.resolve(&reference).await {
                    Ok(digest) if digest == manifest.digest => return Ok(true),
                    Ok(_) | Err(Error::NotFound(_) | Error::Auth(_) | Error::Policy(_)) => {}
                    Err(error) => return Err(error),
                }
                remote.put_manifest(&reference, manifest).await?;
                Ok(false)
            }
            Place::Layout(layout) => layout.put_manifest(manifest, Listed::As(tag)),
        }
    }

    /// Lists what has no tag; a registry has it by its digest.
    pub(super) fn list(&self, manifest: &Manifest) -> Result<()> {
        match self {
            Place::Remote(_) => Ok(()),
            Place::Layout(layout) => layout.put_manifest(manifest, Listed::Unnamed).map(|_| ()),
        }
    }
}

/// The same bytes, each piece of which is told.
fn metered(blob: &Descriptor, content: Content, observer: &Observer) -> Content {
    let (digest, observer) = (blob.digest.clone(), Arc::clone(observer));
    content.metered(move |moved| observer(Event::Moved(&digest, moved)))
}
