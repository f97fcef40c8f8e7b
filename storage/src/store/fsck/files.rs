// SPDX-License-Identifier: AGPL-3.0-only
//! The bytes of contents and of uploads: every file is read and hashed.
//!
//! A file is read outside any transaction; a fault counts only if the row that names it is still the
//! same afterwards. Content whose bytes are wrong or gone keeps its row and its links: a repair marks
//! it, so that it is not served, not mounted and not taken for present, and the next push of the same
//! bytes puts them in place of the damaged ones.

use super::examine::{Brake, Examined, examine, run};
use super::found::{At, Change, Findings, Found, Held, read};
use super::queues::{ENDED, end_upload};
use super::report::FaultKind;
use super::{Check, linked_in, mend};
use crate::clock::Timestamp;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::Result;
use crate::keys::{self, Key};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::local::Location;
use crate::rows;

/// Files between two looks at the rows.
const PAGE: usize = 100;

struct Content {
    key: Vec<u8>,
    value: Vec<u8>,
    sha256: [u8; 32],
    /// Whether a link names it by its sha512.
    by_sha512: bool,
}

async fn contents(tx: &mut ReadTx, after: Option<&[u8]>) -> Result<(Vec<Content>, Option<Vec<u8>>)> {
    let rows = tx.range(b"c", after, PAGE).await?;
    let last = rows.last().map(|(key, _)| key.clone());
    let mut page = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        let Ok(Key::Content(sha256)) = Key::read(&key) else { continue };
        let links = tx.range(&keys::links_of(&sha256), None, MAX_PAGE_ROWS).await?;
        let by_sha512 =
            links.iter().any(|(key, _)| matches!(Key::read(key), Ok(Key::LinkOf(_, _, Digest::Sha512(_)))));
        page.push(Content { key, value, sha256, by_sha512 });
    }
    Ok((page, last))
}

impl Check<'_> {
    /// Reads every content.
    pub(super) async fn contents(&mut self) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.take();
            let page =
                self.store.engine.scan(async move |tx: &mut ReadTx| contents(tx, from.as_deref()).await);
            let (page, last) = page.await?;
            for content in page {
                self.content(content).await?;
            }
            match last {
                Some(key) => after = Some(key),
                None => return Ok(()),
            }
        }
    }

    async fn content(&mut self, content: Content) -> Result<()> {
        let Content { key, value, sha256, by_sha512 } = content;
        let mut findings = Findings::default();
        let Held::Row(row) = read::<rows::Content>(&value) else {
            let what = "the row of this content cannot be read, so nobody knows where its bytes lie";
            let how = "the row is removed; push the blob again";
            let changes = vec![Change::Delete(key.clone())];
            findings.change(FaultKind::RowUnreadable, At::content(sha256), what, how, changes);
            return self.confirm(key, value, findings.faults).await.map(|_| ());
        };
        let wide = by_sha512 || row.sha512.is_some();
        let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let examined =
            examine(&self.store.blobs, row.location, row.size, algorithm, &mut Brake::off()).await?;
        self.summary.files += 1;
        if let Examined::Read { len, .. } = &examined {
            self.summary.bytes += len;
        }
        judge(&sha256, &row, &examined, self.basis.moment().now, &mut findings)?;
        if findings.faults.is_empty() {
            return Ok(());
        }
        let text = self.store.engine.scan(async move |tx: &mut ReadTx| linked_in(tx, &sha256).await).await?;
        for found in &mut findings.faults {
            found.what = format!("{} (in {text})", found.what);
        }
        let long = findings.faults.iter().any(|found| found.kind == FaultKind::ContentFileLong);
        let confirmed = self.confirm(key, value, findings.faults).await?;
        if confirmed && long && self.repair {
            let (blobs, location, size) = (self.store.blobs.clone(), row.location, row.size);
            run(move || blobs.draft(location, size)?.sync()).await??;
        }
        Ok(())
    }

    /// Tells of faults, and mends them, if a row is still what it was; whether it is.
    async fn confirm(&mut self, key: Vec<u8>, value: Vec<u8>, faults: Vec<Found>) -> Result<bool> {
        if self.repair {
            let told = self.store.engine.write(0, async move |tx: &mut WriteTx| {
                if tx.get(&key).await?.as_ref() != Some(&value) {
                    return Ok(Vec::new());
                }
                mend(tx, faults.clone()).await
            });
            let told = told.await?;
            let confirmed = !told.is_empty();
            self.send_all(told).await?;
            return Ok(confirmed);
        }
        let present = self.store.engine.read(async |tx: &mut ReadTx| tx.get(&key).await).await?;
        let confirmed = present == Some(value);
        if confirmed {
            self.tell_all(faults).await?;
        }
        Ok(confirmed)
    }

    /// Reads what every upload has received.
    pub(super) async fn uploads(&mut self) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.page_of(b"p".to_vec(), after.take()).await?;
            for (key, value) in &page {
                if let Ok(Key::Upload(id)) = Key::read(key)
                    && let Held::Row(row) = read::<rows::Upload>(value)
                {
                    self.upload(id, &row, key, value).await?;
                }
            }
            match page.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => return Ok(()),
            }
        }
    }

    async fn upload(&mut self, id: Location, row: &rows::Upload, key: &[u8], value: &[u8]) -> Result<()> {
        let (offset, Some(state)) = (row.offset, Hasher::resume(&row.hash)) else { return Ok(()) };
        if offset == 0 {
            return Ok(());
        }
        let algorithm = row.hash.algorithm();
        let (kind, what) = match examine(&self.store.blobs, id, offset, algorithm, &mut Brake::off()).await? {
            Examined::Gone => (
                FaultKind::UploadFileShort,
                format!("{offset} bytes of this upload were acknowledged, and its file is gone"),
            ),
            Examined::Unreadable(error) => {
                (FaultKind::UploadBytesDamaged, format!("this upload cannot be read: {error}"))
            }
            Examined::Read { len, prefix, .. } => {
                self.summary.files += 1;
                self.summary.bytes += len;
                match prefix {
                    Some(hashes) if hashes == state.finish() => return Ok(()),
                    Some(_) => (
                        FaultKind::UploadBytesDamaged,
                        "the file of this upload holds other bytes than were received".to_owned(),
                    ),
                    None => (
                        FaultKind::UploadFileShort,
                        format!("{offset} bytes of this upload were acknowledged, its file has {len}"),
                    ),
                }
            }
        };
        let mut findings = Findings::default();
        let at = At { name: Some(row.repo.clone()), ..At::location(id) };
        findings.change(kind, at, what, ENDED, end_upload(&self.basis, id, offset)?);
        self.confirm(key.to_vec(), value.to_vec(), findings.faults).await.map(|_| ())
    }
}

/// Compares a content's row with its file.
fn judge(
    sha256: &[u8; 32],
    row: &rows::Content,
    examined: &Examined,
    now: Timestamp,
    found: &mut Findings,
) -> Result<()> {
    let at = At::content(*sha256).lying(row.location);
    let key = keys::content(sha256);
    let damaged = |found: &mut Findings, kind, what: String| {
        let marked = rows::Content { damaged: row.damaged.or(Some(now)), ..row.clone() };
        let advice = "push the blob again, to any repository: that heals it in all of them. Until then a repair \
                      marks it, so that clients are told that it is not here";
        found.mark(kind, at.clone(), what, advice, vec![Change::row(key.clone(), &marked)?]);
        Ok(())
    };
    let (len, prefix, whole) = match examined {
        Examined::Gone => {
            return damaged(found, FaultKind::ContentFileMissing, "the file of this content is gone".into());
        }
        Examined::Unreadable(error) => {
            let what = format!("the file of this content cannot be read: {error}");
            return damaged(found, FaultKind::ContentDamaged, what);
        }
        Examined::Read { len, prefix, whole } => (*len, prefix, whole),
    };
    let mut right = row.clone();
    let hashes = match prefix {
        Some(prefix) if prefix.sha256 == *sha256 => {
            if len > row.size {
                let what = format!("the file has {len} bytes, of which {} are the content's", row.size);
                let how = "the others are cut off";
                found.change(FaultKind::ContentFileLong, at.clone(), what, how, Vec::new());
            }
            prefix
        }
        _ if whole.sha256 == *sha256 => {
            let what = format!("the row says {} bytes, the content has {len}", row.size);
            right.size = len;
            let changes = vec![Change::row(key.clone(), &right)?];
            let how = "the row says the content's size";
            found.change(FaultKind::ContentSizeWrong, at.clone(), what, how, changes);
            whole
        }
        _ => {
            let actual = Digest::Sha256(whole.sha256);
            let what = format!("the file holds {len} bytes of {actual} in place of {} bytes", row.size);
            return damaged(found, FaultKind::ContentDamaged, what);
        }
    };
    if hashes.sha512 != right.sha512 {
        right.sha512 = hashes.sha512;
        let mut changes = vec![Change::row(key.clone(), &right)?];
        if let Some(sha512) = hashes.sha512 {
            changes.push(Change::Put(keys::alias(&sha512), sha256.to_vec()));
        }
        let what = "the row has another sha512 than the content";
        found.change(FaultKind::ContentSha512Wrong, at.clone(), what, "the row has the right one", changes);
    }
    if right.damaged.is_some() {
        right.damaged = None;
        let what = "the content is marked as damaged, and is whole";
        let changes = vec![Change::row(key, &right)?];
        found.change(FaultKind::ContentMarkStale, at, what, "it is served again", changes);
    }
    Ok(())
}
