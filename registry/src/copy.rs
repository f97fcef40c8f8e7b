// SPDX-License-Identifier: AGPL-3.0-only
//! Copying an image or artifact, with all that is below it and, if asked, all that refers to it, between
//! registries and layouts.
//!
//! First everything is read that says what there is (`graph.rs`), then blobs are copied, several at once, then
//! manifests: children before what lists them, subjects before what refers to them, and the tag last of all.
//! So whoever reads the target meanwhile sees what was there before, or all of the new. Manifests are
//! copied byte for byte; every byte is verified on its way. What is there already is not copied again.

use std::sync::Arc;

use serde::Serialize;
use stella_storage::{Digest, Reference, Tag};
use tokio::task::JoinSet;

use crate::remote::{Descriptor, Error, Manifest, Platform, Pushed, Result};

mod graph;
mod place;

pub(crate) use graph::pick;
pub(crate) use place::Place;

use graph::Graph;

/// What is to be copied, where to, and how.
pub(crate) struct Copy {
    pub(crate) source: Place,
    /// What in the source; `None` is the only image of a layout.
    pub(crate) from: Option<Reference>,
    pub(crate) target: Place,
    /// The tag in the target; `None` leaves it without one.
    pub(crate) tag: Option<Tag>,
    /// Only the image for this platform.
    pub(crate) platform: Option<Platform>,
    /// Also what refers to it.
    pub(crate) referrers: bool,
    /// How many blobs at once.
    pub(crate) jobs: usize,
    pub(crate) observer: Observer,
}

/// Something that happened on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// It is known what there is.
    Planned {
        /// How many blobs there are.
        blobs: usize,
        /// How large they are.
        bytes: u64,
    },
    /// A blob begins to be sent, or begins anew.
    Begun(&'a Descriptor),
    /// So many more bytes of a blob were read.
    Moved(&'a Digest, u64),
    /// A blob is there.
    Blob(&'a Descriptor, Pushed),
    /// A manifest is there; whether it was before.
    Manifest(&'a Manifest, bool),
}

/// Is told what happens, from several threads.
pub(crate) type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// What a copy came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) manifests: Count,
    pub(crate) blobs: Count,
    /// Blobs that the registry had in another repository.
    pub(crate) mounted: u64,
    /// Manifests among those above that refer to the image, or are signatures under tags.
    pub(crate) evidence: u64,
    /// Bytes of blobs that were sent.
    pub(crate) bytes: u64,
}

/// What was copied, and what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Count {
    pub(crate) copied: u64,
    pub(crate) existed: u64,
}

impl Count {
    fn add(&mut self, existed: bool) {
        *(if existed { &mut self.existed } else { &mut self.copied }) += 1;
    }
}

impl Copy {
    /// Copies.
    pub(crate) async fn run(self) -> Result<Summary> {
        let mut root = self.source.manifest(self.from.as_ref()).await?;
        if let Some(platform) = &self.platform {
            root = pick(&self.source, root, platform).await?;
        }
        let graph = Graph::read(&self.source, &root, self.referrers).await?;
        let bytes = graph.blobs.iter().map(|blob| blob.size).sum();
        (self.observer)(Event::Planned { blobs: graph.blobs.len(), bytes });
        let mut summary = Summary {
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            manifests: Count::default(),
            blobs: Count::default(),
            mounted: 0,
            evidence: graph.evidence.len() as u64,
            bytes: 0,
        };
        self.blobs(&graph.blobs, &mut summary).await?;
        for manifest in &graph.below {
            let existed = self.target.put(manifest).await.map_err(|error| error.about(&manifest.digest))?;
            self.told(&mut summary, manifest, existed);
        }
        // What refers to it wants it there, and whoever reads the tag wants what refers to it there.
        let first = self.tag.is_none() || !graph.evidence.is_empty() || root.document.subject.is_some();
        let mut existed = if first { self.target.put(&root).await? } else { true };
        for (manifest, tag) in &graph.evidence {
            let put = match tag {
                Some(tag) => self.target.put_tag(manifest, tag).await,
                None => self.target.put(manifest).await,
            };
            let existed = put.map_err(|error| error.about(&manifest.digest))?;
            self.told(&mut summary, manifest, existed);
        }
        match &self.tag {
            Some(tag) => existed &= self.target.put_tag(&root, tag).await?,
            None => self.target.list(&root)?,
        }
        self.told(&mut summary, &root, existed);
        Ok(summary)
    }

    fn told(&self, summary: &mut Summary, manifest: &Manifest, existed: bool) {
        summary.manifests.add(existed);
        (self.observer)(Event::Manifest(manifest, existed));
    }

    async fn blobs(&self, blobs: &[Descriptor], summary: &mut Summary) -> Result<()> {
        let mut running = JoinSet::new();
        let mut waiting = blobs.iter().cloned();
        loop {
            while running.len() < self.jobs.max(1)
                && let Some(blob) = waiting.next()
            {
                let (source, target) = (self.source.clone(), self.target.clone());
                let observer = Arc::clone(&self.observer);
                running.spawn(async move {
                    let pushed = target.copy_blob(&source, &blob, &observer).await;
                    pushed.map(|pushed| (blob, pushed))
                });
            }
            let Some(ended) = running.join_next().await else { return Ok(()) };
            // With an error the others are given up when the set goes.
            let (blob, pushed) = ended.map_err(|error| Error::Failed(error.to_string()))??;
            summary.blobs.add(pushed == Pushed::Existed);
            match pushed {
                Pushed::Existed => {}
                Pushed::Mounted => summary.mounted += 1,
                Pushed::Sent => summary.bytes += blob.size,
            }
            (self.observer)(Event::Blob(&blob, pushed));
        }
    }
}
