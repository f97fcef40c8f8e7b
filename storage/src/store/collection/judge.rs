// SPDX-License-Identifier: AGPL-3.0-only
//! Judging one review row, inside a write transaction: is what it names protected, leased, or to go?
//!
//! Whatever the answer, the row itself goes; "later" leaves another one. Nothing here reads the
//! clock or touches a file, so a judgement can be rehearsed, repeated, and run beside others.

use std::sync::Arc;
use std::time::Duration;

use super::report::{GcItem, Why};
use crate::clock::Timestamp;
use crate::digest::Digest;
use crate::error::Result;
use crate::keys::{self, RepoId, Review};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::local::Location;
use crate::name::Tag;
use crate::rows;
use crate::store::lease::Moment;
use crate::store::rules::Rules;
use crate::store::{Actor, TAG_HISTORY, blobs, manifests, repositories, tags};

/// What is done at once for one review; more is left to another one.
const AT_ONCE: usize = 200;
/// The suffixes of tags by which cosign attaches evidence to the digest in the tag's name.
const EVIDENCE: [&str; 3] = ["sig", "att", "sbom"];

/// By what a batch of reviews is judged.
#[derive(Clone)]
pub(in crate::store) struct Grounds {
    pub(in crate::store) moment: Moment,
    pub(in crate::store) rules: Arc<Rules>,
    /// Uploads that are being written to.
    pub(in crate::store) busy: Vec<Location>,
}

/// What becomes of a link or a manifest.
enum Fate {
    Stays,
    /// It is evidence of something that is there.
    HasSubject,
    Later(Timestamp),
    Goes(Why),
}

/// Judges what a due row names and does what follows; returns what goes.
pub(super) async fn judge(
    tx: &mut WriteTx,
    grounds: &Grounds,
    due: Timestamp,
    review: &Review,
) -> Result<Vec<GcItem>> {
    let key = keys::review(due, review);
    // Another collector was here.
    if tx.get(&key).await?.is_none() {
        return Ok(Vec::new());
    }
    tx.delete(key)?;
    match review {
        Review::Object(repo, digest) => object(tx, grounds, *repo, digest).await,
        Review::Referrers(repo, subject) => referrers(tx, grounds, *repo, subject).await,
        Review::TagHistory(repo, tag) => tag_history(tx, grounds, *repo, tag).await,
        Review::Upload(id) => upload(tx, grounds, *id).await,
    }
}

async fn object(tx: &mut WriteTx, grounds: &Grounds, repo: RepoId, digest: &Digest) -> Result<Vec<GcItem>> {
    let mut freed = Vec::new();
    let again =
        |tx: &mut WriteTx, at| tx.put(keys::review(at, &Review::Object(repo, digest.clone())), Vec::new());
    if let Some(link) = blobs::find_link(tx, repo, digest).await? {
        match fate_of_link(tx, grounds, repo, digest, &link).await? {
            Fate::Stays | Fate::HasSubject => {}
            Fate::Later(at) => again(tx, at)?,
            Fate::Goes(why) => {
                let last = blobs::unlink(tx, repo, digest, &link, grounds.moment).await?;
                let (repository, bytes) = (name(tx, repo).await?, link.size);
                freed.push(GcItem::Blob { repository, digest: digest.to_string(), bytes, last, why });
            }
        }
    }
    if let Some(row) = manifests::find(tx, repo, digest).await? {
        match fate_of_manifest(tx, grounds, repo, digest, &row).await? {
            // The subject came back; when it goes again, that must be noticed again.
            Fate::HasSubject if row.orphaned.is_some() => {
                let row = rows::Manifest { orphaned: None, ..row };
                tx.put(keys::manifest(repo, digest), rows::encode(&row)?)?;
            }
            Fate::Stays | Fate::HasSubject => {}
            Fate::Later(at) => again(tx, at)?,
            Fate::Goes(why) => {
                if !remove_tags(tx, grounds, repo, digest).await? {
                    again(tx, grounds.moment.now)?;
                    return Ok(freed);
                }
                manifests::erase(tx, repo, digest, &row, grounds.moment.now).await?;
                let (repository, bytes) = (name(tx, repo).await?, row.size);
                freed.push(GcItem::Manifest { repository, digest: digest.to_string(), bytes, why });
            }
        }
    }
    Ok(freed)
}

/// Whether a link or a manifest would go, now or later, once its lease is over: then it must have a review
/// row, or collection would never look at it.
pub(in crate::store) async fn is_unprotected(
    tx: &mut ReadTx,
    grounds: &Grounds,
    repo: RepoId,
    digest: &Digest,
) -> Result<bool> {
    let goes = |fate| matches!(fate, Fate::Later(_) | Fate::Goes(_));
    if let Some(mut link) = blobs::find_link(tx, repo, digest).await? {
        link.lease_until = Timestamp(0);
        if goes(fate_of_link(tx, grounds, repo, digest, &link).await?) {
            return Ok(true);
        }
    }
    let Some(mut row) = manifests::find(tx, repo, digest).await? else { return Ok(false) };
    row.lease_until = Timestamp(0);
    Ok(goes(fate_of_manifest(tx, grounds, repo, digest, &row).await?))
}

async fn fate_of_link(
    tx: &mut ReadTx,
    grounds: &Grounds,
    repo: RepoId,
    digest: &Digest,
    link: &rows::Link,
) -> Result<Fate> {
    if link.lease_until > grounds.moment.now {
        return Ok(Fate::Later(link.lease_until));
    }
    Ok(match blobs::named_by(tx, repo, digest).await? {
        Some(_) => Fate::Stays,
        None => Fate::Goes(Why::Unnamed),
    })
}

async fn fate_of_manifest(
    tx: &mut ReadTx,
    grounds: &Grounds,
    repo: RepoId,
    digest: &Digest,
    row: &rows::Manifest,
) -> Result<Fate> {
    let now = grounds.moment.now;
    if row.lease_until > now {
        return Ok(Fate::Later(row.lease_until));
    }
    let evidence = tagged_as(tx, repo, digest).await?;
    if matches!(evidence, Tagged::Plainly) {
        return Ok(Fate::Stays);
    }
    let mut subjects: Vec<Digest> = row.subject.iter().cloned().collect();
    if let Tagged::AsEvidenceOf(digests) = evidence {
        subjects.extend(digests);
    }
    for subject in &subjects {
        if manifests::find(tx, repo, subject).await?.is_some() {
            return Ok(Fate::HasSubject);
        }
    }
    let orphaned = row.orphaned.is_some() && !subjects.is_empty();
    // The usual case needs no name.
    if !orphaned && grounds.rules.keep_all() {
        return Ok(Fate::Stays);
    }
    let kept = grounds.rules.of(&repositories::name(tx, repo).await?);
    let untagged = if orphaned { Some(Duration::ZERO) } else { kept.untagged };
    let Some(untagged) = untagged else { return Ok(Fate::Stays) };
    if blobs::named_by(tx, repo, digest).await?.is_some() {
        return Ok(Fate::Stays);
    }
    let mut until = row.created.plus(untagged);
    if let Some(left) = row.released_left {
        until = until.max(left.plus(untagged.max(kept.released)));
    }
    Ok(match until > now {
        true => Fate::Later(until),
        false if orphaned => Fate::Goes(Why::SubjectGone),
        false => Fate::Goes(Why::Untagged),
    })
}

/// How a manifest is tagged.
enum Tagged {
    Plainly,
    /// Only by tags that attach it to these digests; by none, if there are none.
    AsEvidenceOf(Vec<Digest>),
}

async fn tagged_as(tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<Tagged> {
    let prefix = keys::tags_of(repo, digest);
    let (mut subjects, mut after): (Vec<Digest>, _) = (Vec::new(), None);
    loop {
        let page = tx.range(&prefix, after.as_deref(), AT_ONCE).await?;
        for (key, _) in &page {
            match evidence_of(&keys::read_tag_of(key, &prefix)?) {
                Some(subject) => subjects.push(subject),
                None => return Ok(Tagged::Plainly),
            }
        }
        match page.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(Tagged::AsEvidenceOf(subjects)),
        }
    }
}

/// The digest to which a tag such as `sha256-<hex>.sig` attaches its manifest.
fn evidence_of(tag: &Tag) -> Option<Digest> {
    let (stem, suffix) = tag.as_str().rsplit_once('.')?;
    let (algorithm, encoded) = stem.split_once('-')?;
    if !EVIDENCE.contains(&suffix) {
        return None;
    }
    format!("{algorithm}:{encoded}").parse().ok()
}

/// The tags that attach evidence to a digest.
fn evidence_tags(subject: &Digest) -> impl Iterator<Item = Tag> {
    let stem = subject.to_string().replacen(':', "-", 1);
    EVIDENCE.iter().filter_map(move |suffix| format!("{stem}.{suffix}").parse().ok())
}

/// Removes tags of a manifest that goes; whether that was all of them.
async fn remove_tags(tx: &mut WriteTx, grounds: &Grounds, repo: RepoId, digest: &Digest) -> Result<bool> {
    let prefix = keys::tags_of(repo, digest);
    let tagged = tx.range(&prefix, None, AT_ONCE + 1).await?;
    let collector = Actor { subject: "collection".to_owned(), session: None };
    for (key, _) in tagged.iter().take(AT_ONCE) {
        let tag = keys::read_tag_of(key, &prefix)?;
        tags::lose(tx, repo, &tag, digest, &collector, grounds.moment.now).await?;
    }
    Ok(tagged.len() <= AT_ONCE)
}

/// Marks the evidence of a subject that went, and has it looked at.
async fn referrers(
    tx: &mut WriteTx,
    grounds: &Grounds,
    repo: RepoId,
    subject: &Digest,
) -> Result<Vec<GcItem>> {
    if manifests::find(tx, repo, subject).await?.is_some() {
        return Ok(Vec::new());
    }
    for tag in evidence_tags(subject) {
        let row = tags::find(tx, repo, &tag).await?;
        for digest in row.iter().flat_map(|row| [&row.released, &row.candidate]).flatten() {
            orphan(tx, grounds, repo, digest).await?;
        }
    }
    let prefix = keys::referrers(repo, subject);
    let (mut marked, mut after) = (0, None);
    loop {
        let page = tx.range(&prefix, after.as_deref(), MAX_PAGE_ROWS).await?;
        for (key, _) in &page {
            let digest = keys::read_referrer(key, &prefix)?;
            if orphan(tx, grounds, repo, &digest).await? {
                marked += 1;
            }
            if marked == AT_ONCE {
                let again = Review::Referrers(repo, subject.clone());
                tx.put(keys::review(grounds.moment.now, &again), Vec::new())?;
                return Ok(Vec::new());
            }
        }
        match page.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(Vec::new()),
        }
    }
}

/// Notes that a manifest lost its subject; false if that was known.
async fn orphan(tx: &mut WriteTx, grounds: &Grounds, repo: RepoId, digest: &Digest) -> Result<bool> {
    let Some(mut row) = manifests::find(tx, repo, digest).await? else { return Ok(false) };
    let known = row.orphaned.is_some();
    if !known {
        row.orphaned = Some(grounds.moment.now);
        tx.put(keys::manifest(repo, digest), rows::encode(&row)?)?;
        tx.put(keys::review(grounds.moment.now, &Review::Object(repo, digest.clone())), Vec::new())?;
    }
    Ok(!known)
}

async fn tag_history(tx: &mut WriteTx, grounds: &Grounds, repo: RepoId, tag: &Tag) -> Result<Vec<GcItem>> {
    if tags::find(tx, repo, tag).await?.is_some() {
        return Ok(Vec::new());
    }
    if let Some(at) = tags::last_moved(tx, repo, tag).await? {
        let until = at.plus(TAG_HISTORY);
        if until > grounds.moment.now {
            tx.put(keys::review(until, &Review::TagHistory(repo, tag.clone())), Vec::new())?;
            return Ok(Vec::new());
        }
    }
    tags::forget(tx, repo, tag).await?;
    Ok(vec![GcItem::TagHistory { repository: name(tx, repo).await?, tag: tag.as_str().to_owned() }])
}

async fn upload(tx: &mut WriteTx, grounds: &Grounds, id: Location) -> Result<Vec<GcItem>> {
    let key = keys::upload(id);
    let Some(row) = tx.get(&key).await? else { return Ok(Vec::new()) };
    let row: rows::Upload = rows::decode(&row)?;
    let (now, expiry) = (grounds.moment.now, grounds.moment.periods.uploads);
    let busy = grounds.busy.contains(&id);
    let until = if busy { now.plus(expiry) } else { row.touched.plus(expiry) };
    if until > now {
        tx.put(keys::review(until, &Review::Upload(id)), Vec::new())?;
        return Ok(Vec::new());
    }
    tx.delete(key)?;
    tx.put(keys::garbage(now, id), rows::encode(&rows::Garbage { size: row.offset })?)?;
    Ok(vec![GcItem::Upload { repository: row.repo, id: id.to_string(), bytes: row.offset }])
}

async fn name(tx: &mut ReadTx, repo: RepoId) -> Result<String> {
    Ok(repositories::name(tx, repo).await?.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tags_of_cosign_attach_evidence() {
        let hex = "0123456789abcdef".repeat(4);
        let subject: Digest = format!("sha256:{hex}").parse().unwrap();
        for suffix in EVIDENCE {
            let tag: Tag = format!("sha256-{hex}.{suffix}").parse().unwrap();
            assert_eq!(evidence_of(&tag), Some(subject.clone()));
            assert!(evidence_tags(&subject).any(|made| made == tag));
        }
        for other in [
            format!("sha256-{hex}"),
            format!("sha256-{hex}.txt"),
            format!("sha256-{}.sig", &hex[1..]),
            "v1.sig".to_owned(),
            "latest".to_owned(),
        ] {
            assert_eq!(evidence_of(&other.parse().unwrap()), None, "{other}");
        }
    }
}
