// SPDX-License-Identifier: AGPL-3.0-only
//! Whether a client may set, move or remove a tag, by the rule of its repository.
//!
//! Asked inside the transaction that changes the tag, so that nothing comes between. An immutable tag
//! stays where it is, whoever asks; a protected one is for those who may change such tags. Evidence is
//! exempt by content: a tag moves from evidence to evidence, so that signatures can be added to
//! `sha256-….sig`, but no signature takes the place of an image, and no image that of a signature.
//! Collection does not ask: what it removes, no tag of a client's holds.

use std::sync::Arc;

use super::rules::{RepositoryRule, Rules};
use super::{manifests, tags};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{self, RepoId};
use crate::kv::ReadTx;
use crate::manifest::Manifest;
use crate::name::{RepoName, Tag};
use crate::pattern::TextPattern;
use crate::rows::{self, kind};

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

/// Refuses to set a tag such as `sha256-….sig` to what lacks a layer that is there: two signers who wrote at once would lose
/// one's signature.
pub(super) async fn keeps_layers(tx: &mut ReadTx, repo: RepoId, tag: &Tag, new: &Manifest) -> Result<()> {
    if !tag.as_str().contains('.') || tag.subject().is_none() {
        return Ok(());
    }
    let Some(present) = tags::find(tx, repo, tag).await?.and_then(|row| row.candidate) else { return Ok(()) };
    let Some(row) = tx.get(&keys::references(repo, &present)).await? else { return Ok(()) };
    let layers = rows::decode::<rows::References>(&row)?.edges;
    let mut layers = layers.into_iter().filter(|edge| edge.kinds & kind::LAYER != 0);
    let has = |target: &Digest| {
        new.references.iter().any(|new| new.kinds & kind::LAYER != 0 && new.digest == *target)
    };
    if layers.all(|edge| has(&edge.target)) {
        return Ok(());
    }
    Err(Error::LayersDropped { tag: tag.as_str().to_owned() })
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
