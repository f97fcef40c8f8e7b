// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a client may set, move or remove a tag, by the rule of its repository.
//!
//! Asked inside the transaction that changes the tag, so that nothing comes between. An immutable tag
//! stays where it is, whoever asks; a protected one is for those who may change such tags. Evidence is
//! exempt by content: a tag moves from evidence to evidence, so that signatures can be added to
//! `sha256-….sig`, but no signature takes the place of an image, and no image that of a signature.
//! Collection does not ask: what it removes, no tag of a client's holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::rules::{RepositoryRule, Rules};
use super::{manifests, tags};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{self, RepoId};
use crate::kv::ReadTx;
use crate::name::{RepoName, Tag};
use crate::pattern::TextPattern;

/// Judges changes of a repository's tags by the rule that was in force when it was made.
#[derive(Clone, Debug)]
pub(super) struct TagGuard {
    /// Absent where no tag is held.
    rule: Option<Arc<RepositoryRule>>,
    may_change_protected: bool,
}

/// Where a tag is to point, and whether that is evidence.
type Target<'d> = Option<(&'d Digest, bool)>;

impl TagGuard {
    pub(super) fn new(rules: &Rules, repo: &RepoName, may_change_protected: bool) -> Self {
        let holds = |rule: &&Arc<RepositoryRule>| {
            !rule.immutable_tags.is_empty() || !rule.protected_tags.is_empty() && !may_change_protected
        };
        TagGuard { rule: rules.rule(repo).filter(holds).cloned(), may_change_protected }
    }

    /// Whether every change is allowed.
    pub(super) fn is_idle(&self) -> bool {
        self.rule.is_none()
    }

    /// Refuses to point a tag at a manifest where a rule forbids it.
    pub(super) async fn may_set(
        &self,
        tx: &mut ReadTx,
        repo: RepoId,
        tag: &Tag,
        digest: &Digest,
        evidence: bool,
    ) -> Result<()> {
        self.check(tx, repo, tag, Some((digest, evidence))).await
    }

    /// Refuses to remove a tag where a rule forbids it.
    pub(super) async fn may_remove(&self, tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<()> {
        self.check(tx, repo, tag, None).await
    }

    async fn check(&self, tx: &mut ReadTx, repo: RepoId, tag: &Tag, target: Target<'_>) -> Result<()> {
        let Some(rule) = &self.rule else { return Ok(()) };
        let immutable = first(&rule.immutable_tags, tag);
        let protected = first(&rule.protected_tags, tag).filter(|_| !self.may_change_protected);
        if immutable.or(protected).is_none() {
            return Ok(());
        }
        let present = tags::find(tx, repo, tag).await?;
        let named = present.iter().flat_map(|row| [&row.candidate, &row.released]).flatten();
        let named: Vec<&Digest> = named.collect();
        let exempt = !named.is_empty() || target.is_none() || is_for_evidence(tag);
        if exempt && target.is_none_or(|(_, evidence)| evidence) && are_evidence(tx, repo, &named).await? {
            return Ok(());
        }
        // What is pushed again stays where it is.
        let left = named.into_iter().find(|digest| target.is_none_or(|(target, _)| target != *digest));
        if let (Some(pattern), Some(digest)) = (immutable, left) {
            let (tag, pattern) = (tag.as_str().to_owned(), pattern.to_string());
            return Err(Error::TagImmutable { tag, pattern, digest: Box::new(digest.clone()) });
        }
        match protected {
            Some(pattern) => {
                Err(Error::TagProtected { tag: tag.as_str().to_owned(), pattern: pattern.to_string() })
            }
            None => Ok(()),
        }
    }
}

/// Whether a tag that names nothing yet has a name for evidence: `sha256-…`, perhaps with an ending such as `.sig`. Any
/// other is kept free for images.
fn is_for_evidence(tag: &Tag) -> bool {
    tag.subject().is_some()
}

/// The most bytes of a manifest of signatures: what is larger, nobody who verifies looks at.
const MOST_SIGNATURES: usize = 1 << 20;

/// A signature in the older form: its payload's digest, and in its annotations all the rest.
#[derive(PartialEq, Deserialize)]
struct Layer {
    digest: String,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Layers {
    #[serde(default)]
    layers: Vec<Layer>,
}

/// Refuses to set a tag such as `sha256-….sig` to what lacks a signature that is there: two signers who wrote at once would
/// lose one's, and who may push could end what is released.
pub(super) async fn keeps_layers(tx: &mut ReadTx, repo: RepoId, tag: &Tag, new: &[u8]) -> Result<()> {
    if !tag.as_str().contains('.') || tag.subject().is_none() {
        return Ok(());
    }
    if new.len() > MOST_SIGNATURES {
        return Err(Error::InvalidManifest(format!(
            "the tag {tag} is for signatures, and a manifest of more than {MOST_SIGNATURES} bytes is not looked at; who may \
             delete may set it"
        )));
    }
    let Some(present) = tags::find(tx, repo, tag).await?.and_then(|row| row.candidate) else { return Ok(()) };
    let Some(present) = tx.get(&keys::manifest_bytes(repo, &present)).await? else { return Ok(()) };
    // What is there was checked when it came; what is none has no signatures to lose.
    let Ok(Layers { layers }) = serde_json::from_slice(&present) else { return Ok(()) };
    let Layers { layers: mut left } =
        serde_json::from_slice(new).map_err(|error| Error::InvalidManifest(error.to_string()))?;
    for layer in layers {
        match left.iter().position(|other| *other == layer) {
            Some(at) => drop(left.swap_remove(at)),
            None => return Err(Error::LayersDropped { tag: tag.as_str().to_owned() }),
        }
    }
    Ok(())
}

/// Refuses to move a tag that names anything but evidence, and to set one whose name is not for evidence.
pub(super) async fn names_evidence(tx: &mut ReadTx, repo: RepoId, tag: &Tag) -> Result<()> {
    let present = tags::find(tx, repo, tag).await?;
    let named: Vec<&Digest> =
        present.iter().flat_map(|row| [&row.candidate, &row.released]).flatten().collect();
    if (!named.is_empty() || is_for_evidence(tag)) && are_evidence(tx, repo, &named).await? {
        return Ok(());
    }
    Err(Error::TagNotEvidence { tag: tag.as_str().to_owned() })
}

fn first<'p>(patterns: &'p [TextPattern], tag: &Tag) -> Option<&'p TextPattern> {
    patterns.iter().find(|pattern| pattern.matches(tag.as_str()))
}

/// Whether all that a tag names is evidence, if it names anything.
async fn are_evidence(tx: &mut ReadTx, repo: RepoId, named: &[&Digest]) -> Result<bool> {
    for digest in named {
        if !manifests::find(tx, repo, digest).await?.is_some_and(|row| row.evidence) {
            return Ok(false);
        }
    }
    Ok(true)
}
