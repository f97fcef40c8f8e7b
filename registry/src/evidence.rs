// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a manifest is evidence: signatures, attestations or Sigstore bundles, and nothing else.
//!
//! What a manifest declares proves nothing: anybody can put any bytes behind any media type. So each of its layers is
//! read, once, and must be what it is said to be (`evidence/forms.rs`). An index is evidence if all that it lists is
//! there and is (the fallback tags of referrers are such). Nothing is verified here: evidence may be wrong, and is then
//! only of no use. Reading is work: it is done on the blocking pool, for a few manifests at once, and so many bytes of
//! each.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use stella_storage::{Digest, Reference, RepoName, Store};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::error::ApiError;

mod forms;

use forms::Form;
pub(crate) use forms::is_tar;

/// What a signature may weigh: a bundle with a long chain and a large attestation has hundreds of KiB.
pub(crate) const MAX_LAYER: u64 = 8 << 20;
/// What all layers may weigh that one manifest, or index, leads to.
const MAX_TOTAL: u64 = 16 << 20;
const MAX_LAYERS: usize = 100;
const MAX_CONFIG: u64 = 64 << 10;
const MAX_CHILDREN: usize = 100;
/// Manifests whose layers are read at once.
const AT_ONCE: usize = 2;

/// Lets few be read at once.
pub(crate) struct Readers(Semaphore);

impl Default for Readers {
    fn default() -> Self {
        Readers(Semaphore::new(AT_ONCE))
    }
}

#[cfg(test)]
impl Readers {
    /// Keeps everybody from reading.
    pub(crate) async fn all(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.0.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap()
    }
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    urls: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
}

/// What is to be read, each digest once.
#[derive(Default)]
struct Parts(HashMap<Digest, Form>);

/// Whether a manifest that is pushed to a repository is evidence. What it names was pushed before.
pub(crate) async fn is_evidence(app: &App, repo: &RepoName, manifest: &[u8]) -> Result<bool, ApiError> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else { return Ok(false) };
    let mut parts = Parts::default();
    let named = match &manifest.manifests {
        None => parts.add(&manifest),
        Some(children) => {
            let listed = !children.is_empty() && children.len() <= MAX_CHILDREN;
            listed
                && manifest.layers.is_none()
                && manifest.config.is_none()
                && parts.add_children(&app.store, repo, children).await?
        }
    };
    if !named {
        return Ok(false);
    }
    let Ok(_turn) = app.evidence.0.acquire().await else { return Err(ApiError::unavailable()) };
    parts.are_as_said(app, repo).await
}

impl Parts {
    /// Takes in what a manifest names; false if it cannot be evidence.
    fn add(&mut self, manifest: &Manifest) -> bool {
        let Some(layers) = manifest.layers.as_ref().filter(|layers| !layers.is_empty()) else { return false };
        let config = manifest.config.iter().map(|config| (config, Some(Form::Config), MAX_CONFIG));
        let layers =
            layers.iter().map(|layer| (layer, layer.media_type.as_deref().and_then(Form::of), MAX_LAYER));
        for (descriptor, form, most) in config.chain(layers) {
            let (Some(form), Some(digest)) = (form, descriptor.plain()) else { return false };
            // One content in two roles is neither.
            let other = self.0.insert(digest, form).is_some_and(|other| other != form);
            if other || descriptor.size > most || self.0.len() > MAX_LAYERS {
                return false;
            }
        }
        true
    }

    /// One level: an index of indexes lists images.
    async fn add_children(
        &mut self,
        store: &Store,
        repo: &RepoName,
        children: &[Descriptor],
    ) -> Result<bool, ApiError> {
        for child in children {
            let Some(digest) = child.plain() else { return Ok(false) };
            let child = match store.manifest(repo, &Reference::Digest(digest)).await {
                Ok(child) => child,
                Err(stella_storage::Error::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let Ok(child) = serde_json::from_slice::<Manifest>(&child.bytes) else { return Ok(false) };
            if child.manifests.is_some() || !self.add(&child) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads them all.
    async fn are_as_said(self, app: &App, repo: &RepoName) -> Result<bool, ApiError> {
        let mut total = 0;
        for (digest, form) in self.0 {
            let blob = match app.store.blob(repo, &digest).await {
                Ok(blob) => blob,
                Err(stella_storage::Error::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            total += blob.size;
            if total > MAX_TOTAL {
                return Ok(false);
            }
            // Few are read at once, and each is small: what slow readers hold of the memory must not stop signatures.
            let bytes = match app.store.read_small(&blob, MAX_LAYER).await {
                Ok(Some(bytes)) => bytes,
                // What is damaged is nothing, and no reason to say nothing of the rest.
                Ok(None) | Err(stella_storage::Error::Corrupt(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let judged = tokio::task::spawn_blocking(move || form.is_of(&bytes)).await;
            if !judged.map_err(|_| ApiError::panicked())? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Descriptor {
    /// Its digest, if it names content here and nowhere else.
    fn plain(&self) -> Option<Digest> {
        (self.urls.is_none() && self.data.is_none()).then(|| self.digest.parse().ok()).flatten()
    }
}
