// SPDX-License-Identifier: AGPL-3.0-only
//! What there is to copy: the manifests below one, in an order in which each comes after what it lists, the
//! blobs that they name, and what refers to them. Every digest is there once. Limits hold a source that would
//! go on for ever.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use stella_storage::{Digest, Reference, Tag};

use super::place::Place;
use crate::remote::{Descriptor, Document, Error, Manifest, Platform, Result, fallback_tag};

/// Deeper than anything nests.
const MAX_DEPTH: u32 = 8;
const MAX_MANIFESTS: usize = 20_000;
/// Manifests are kept in memory until they are written.
const MAX_BYTES: usize = 512 << 20;
/// What cosign appends to the tag that it makes of a digest.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];
/// The largest config that is read for its platform.
const MAX_CONFIG: u64 = 8 << 20;

/// Everything that is to be copied.
#[derive(Default)]
pub(super) struct Graph {
    /// What is below the root, children first.
    pub(super) below: Vec<Manifest>,
    /// What refers to the root, or to what is below it, subjects first; those with tags of cosign's.
    pub(super) evidence: Vec<(Manifest, Option<Tag>)>,
    /// The blobs of all of them.
    pub(super) blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    sizes: HashMap<Digest, u64>,
    bytes: usize,
}

impl Graph {
    /// Reads what is below `root`, and what refers to any of it.
    pub(super) async fn read(source: &Place, root: &Manifest, referrers: bool) -> Result<Self> {
        let mut graph = Graph::default();
        graph.enter(root)?;
        let mut below = Vec::new();
        graph.below(source, root, 0, &mut below).await?;
        if referrers {
            let subjects: Vec<_> =
                below.iter().chain([root]).map(|manifest| manifest.digest.clone()).collect();
            for subject in subjects {
                graph.referring(source, &subject, 0).await?;
                graph.signed(source, &subject).await?;
            }
        }
        graph.below = below;
        Ok(graph)
    }

    /// Notes a manifest and its blobs; whether it is new.
    fn enter(&mut self, manifest: &Manifest) -> Result<bool> {
        if !self.seen.insert(manifest.digest.clone()) {
            return Ok(false);
        }
        self.bytes += manifest.bytes.len();
        if self.seen.len() > MAX_MANIFESTS || self.bytes > MAX_BYTES {
            return Err(Error::Failed(format!(
                "more than {MAX_MANIFESTS} manifests, or {} MiB of them: copy its parts one by one",
                MAX_BYTES >> 20
            )));
        }
        let Document { config, .. } = &manifest.document;
        let children = manifest.document.manifests().iter().filter(|child| !child.is_manifest());
        for blob in config.iter().chain(manifest.document.layers()).chain(children) {
            if !blob.is_foreign() {
                self.blob(blob)?;
            }
        }
        Ok(true)
    }

    fn blob(&mut self, blob: &Descriptor) -> Result<()> {
        match self.sizes.entry(blob.digest.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(blob.size);
                self.blobs.push(blob.clone());
                Ok(())
            }
            Entry::Occupied(entry) if *entry.get() == blob.size => Ok(()),
            Entry::Occupied(_) => {
                Err(Error::Integrity(format!("manifests disagree on the size of {}", blob.digest)))
            }
        }
    }

    async fn below(
        &mut self,
        source: &Place,
        manifest: &Manifest,
        depth: u32,
        order: &mut Vec<Manifest>,
    ) -> Result<()> {
        if depth == MAX_DEPTH {
            return Err(Error::Failed(format!("indexes are nested more than {MAX_DEPTH} deep")));
        }
        for child in manifest.document.manifests().iter().filter(|child| child.is_manifest()) {
            if self.seen.contains(&child.digest) {
                continue;
            }
            let child = source.child(child).await?;
            self.enter(&child)?;
            Box::pin(self.below(source, &child, depth + 1, order)).await?;
            order.push(child);
        }
        Ok(())
    }

    /// What refers to `subject`, what refers to that, and so on.
    async fn referring(&mut self, source: &Place, subject: &Digest, depth: u32) -> Result<()> {
        if depth == MAX_DEPTH {
            return Err(Error::Failed(format!("referrers are nested more than {MAX_DEPTH} deep")));
        }
        for referrer in source.referrers(subject).await.map_err(|error| error.about("referrers"))? {
            if self.seen.contains(&referrer.digest) {
                continue;
            }
            let manifest = source.child(&referrer).await?;
            self.evidence(source, manifest, None).await?;
            Box::pin(self.referring(source, &referrer.digest, depth + 1)).await?;
        }
        Ok(())
    }

    /// What cosign keeps under tags beside `subject`.
    async fn signed(&mut self, source: &Place, subject: &Digest) -> Result<()> {
        let stem = fallback_tag(subject)?;
        for kind in COSIGN {
            let tag: Tag = format!("{stem}.{kind}")
                .parse()
                .map_err(|error: stella_storage::Error| Error::Failed(error.to_string()))?;
            match source.manifest(Some(&Reference::Tag(tag.clone()))).await {
                Ok(manifest) => self.evidence(source, manifest, Some(tag)).await?,
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error.about(tag)),
            }
        }
        Ok(())
    }

    async fn evidence(&mut self, source: &Place, manifest: Manifest, tag: Option<Tag>) -> Result<()> {
        let mut below = Vec::new();
        if self.enter(&manifest)? {
            self.below(source, &manifest, 0, &mut below).await?;
        }
        self.evidence.extend(below.into_iter().map(|child| (child, None)));
        self.evidence.push((manifest, tag));
        Ok(())
    }
}

/// The image for a platform: one of an index, or the image itself if it is for that platform.
pub(crate) async fn pick(source: &Place, manifest: Manifest, wanted: &Platform) -> Result<Manifest> {
    let found: Vec<Platform> = if manifest.document.is_index() {
        let children = manifest.document.manifests();
        let fits = |child: &&Descriptor| child.platform.as_ref().is_some_and(|platform| platform.is(wanted));
        if let Some(child) = children.iter().find(fits) {
            return source.child(child).await;
        }
        children.iter().filter_map(|child| child.platform.clone()).collect()
    } else {
        let platform = platform_of(source, &manifest).await?;
        if platform.as_ref().is_some_and(|platform| platform.is(wanted)) {
            return Ok(manifest);
        }
        platform.into_iter().collect()
    };
    // Attestations are for `unknown/unknown`.
    let mut found: Vec<_> =
        found.iter().filter(|platform| platform.os != "unknown").map(Platform::to_string).collect();
    found.dedup();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let found = crate::remote::printable(&found, 500);
    Err(Error::NotFound(format!("there is no image for {wanted}; there are images for: {found}")))
}

/// The platform that an image's config names.
async fn platform_of(source: &Place, manifest: &Manifest) -> Result<Option<Platform>> {
    let Some(config) = &manifest.document.config else { return Ok(None) };
    if config.size > MAX_CONFIG || !config.media_type.ends_with("+json") {
        return Ok(None);
    }
    let bytes = source.blob(config).await?.whole().await?;
    Ok(serde_json::from_slice::<Platform>(&bytes).ok().filter(|platform| !platform.os.is_empty()))
}
