// SPDX-License-Identifier: AGPL-3.0-only
//! Going through a table: a page of rows in one snapshot, each with what it must agree with.

use super::found::{At, Change, Findings};
use super::report::FaultKind;
use super::{Basis, Check, blobs, credentials, manifests, mend, queues, repositories, tags};
use crate::error::Result;
use crate::keys::{self, Key, RepoId};
use crate::kv::{ReadTx, WriteTx};

/// A snapshot ends when it has read this many rows.
const READ_AT_ONCE: u64 = 3_000;
/// Sets that only spare false or double reports stay this small.
const REMEMBERED: usize = 100_000;

/// Rows of a table that are read at once: some are large.
fn page_rows(table: u8) -> usize {
    match table {
        b'b' => 4,
        b's' | b'f' => 16,
        _ => 500,
    }
}

#[derive(Default)]
struct Page {
    rows: u64,
    manifests: u64,
    /// The last key that was looked at; absent at the end of the table.
    last: Option<Vec<u8>>,
    /// Rows with faults, and what was found.
    faulty: Vec<(Vec<u8>, Findings)>,
    unprotected: Vec<keys::Review>,
    unknown: Vec<RepoId>,
    linked: Vec<[u8; 32]>,
}

impl Check<'_> {
    /// Checks the rows of one table, and mends them.
    pub(super) async fn walk(&mut self, table: u8) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (basis, from) = (self.basis.clone(), after.take());
            let page = self
                .store
                .engine
                .scan(async move |tx: &mut ReadTx| check_page(tx, &basis, table, from.as_deref()).await);
            let page = page.await?;
            self.summary.rows += page.rows;
            self.summary.manifests += page.manifests;
            self.unknown.extend(page.unknown);
            if self.linked.len() < REMEMBERED {
                self.linked.extend(page.linked);
            }
            for (key, findings) in page.faulty {
                if self.repair {
                    self.repair_row(key).await?;
                } else {
                    let mut faults = findings.faults;
                    faults
                        .retain(|found| found.kind != FaultKind::ContentWithoutLink || !self.is_linked(&key));
                    self.tell_all(faults).await?;
                }
            }
            for review in page.unprotected {
                self.needs_review(&review).await?;
            }
            match page.last {
                Some(key) => after = Some(key),
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    fn is_linked(&self, key: &[u8]) -> bool {
        matches!(Key::read(key), Ok(Key::Content(sha256)) if self.linked.contains(&sha256))
    }

    /// Checks one row again and changes what mends it.
    async fn repair_row(&mut self, key: Vec<u8>) -> Result<()> {
        let basis = self.basis.clone();
        let faults = self.store.engine.write(64 << 10, async move |tx: &mut WriteTx| {
            let Some(value) = tx.get(&key).await? else { return Ok(Vec::new()) };
            let mut findings = Findings::default();
            check_row(tx, &basis, &key, &value, &mut findings).await?;
            mend(tx, findings.faults).await
        });
        self.send_all(faults.await?).await
    }
}

async fn check_page(tx: &mut ReadTx, basis: &Basis, table: u8, after: Option<&[u8]>) -> Result<Page> {
    let mut page = Page::default();
    let limit = page_rows(table);
    let rows = tx.range(&[table], after, limit).await?;
    let mut more = rows.len() == limit;
    for (key, value) in rows {
        let mut findings = Findings::default();
        check_row(tx, basis, &key, &value, &mut findings).await?;
        page.rows += 1;
        page.manifests += findings.manifests;
        page.unprotected.append(&mut findings.unprotected);
        page.linked.append(&mut findings.linked);
        if let Some(repo) = nameless(tx, basis, &key).await? {
            page.unknown.push(repo);
        }
        if !findings.faults.is_empty() {
            page.faulty.push((key.clone(), findings));
        }
        page.last = Some(key);
        if tx.rows_read() > READ_AT_ONCE {
            // What was read and not looked at is read again.
            more = true;
            break;
        }
    }
    if !more {
        page.last = None;
    }
    page.unknown.dedup();
    Ok(page)
}

/// The repository of a row, if it has no name.
async fn nameless(tx: &mut ReadTx, basis: &Basis, key: &[u8]) -> Result<Option<RepoId>> {
    match Key::read(key) {
        // Their own checks tell of these.
        Ok(Key::RepositoryById(_) | Key::Review(..)) | Err(_) => Ok(None),
        Ok(key) => match key.repo() {
            Some(repo) if !basis.knows(repo) => {
                Ok(tx.get(&keys::repository_by_id(repo)).await?.is_none().then_some(repo))
            }
            _ => Ok(None),
        },
    }
}

/// Checks one row in the snapshot in which it was read.
async fn check_row(
    tx: &mut ReadTx,
    basis: &Basis,
    key: &[u8],
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let Ok(read) = Key::read(key) else {
        let what = format!("a key cannot be read: {}", hex::encode(key));
        let changes = vec![Change::Delete(key.to_vec())];
        found.change(FaultKind::KeyUnreadable, At::default(), what, "the row is removed", changes);
        return Ok(());
    };
    match &read {
        Key::Meta => repositories::meta(tx, key, value, found).await,
        Key::Repository(name) => repositories::repository(tx, basis, name, value, found).await,
        Key::RepositoryById(id) => repositories::repository_by_id(tx, basis, *id, value, found).await,
        Key::Link(repo, digest) => blobs::link(tx, basis, (*repo, digest), value, found).await,
        Key::LinkOf(sha256, repo, digest) => blobs::link_of(tx, basis, (sha256, *repo, digest), found).await,
        Key::Content(sha256) => blobs::content(tx, basis, sha256, value, found).await,
        Key::Alias(sha512) => blobs::alias(tx, sha512, value, found).await,
        Key::Manifest(repo, digest) => manifests::manifest(tx, basis, (*repo, digest), value, found).await,
        Key::ManifestBytes(repo, digest) => {
            manifests::manifest_bytes(tx, basis, (*repo, digest), value, found).await
        }
        Key::References(repo, digest) => manifests::references(tx, (*repo, digest), found).await,
        Key::Edge(repo, target, manifest) => {
            manifests::edge(tx, basis, (*repo, target, manifest), found).await
        }
        Key::Tag(repo, tag) => tags::tag(tx, basis, (*repo, tag), value, found).await,
        Key::TagOf(repo, digest, tag) => tags::tag_of(tx, basis, (*repo, digest, tag), found).await,
        Key::TagMove(repo, tag, number) => tags::tag_move(tx, (*repo, tag, *number), value, found).await,
        Key::Referrer(repo, subject, kind, manifest) => {
            manifests::referrer(tx, (*repo, subject, kind, manifest), found).await
        }
        Key::Upload(id) => queues::upload(basis, *id, value, found),
        Key::Review(due, review) => queues::review(tx, basis, *due, review, found).await,
        Key::Garbage(after, location) => queues::garbage(*after, *location, value, found),
        Key::LastPull(repo, tag) => {
            tags::last_pull((*repo, tag), value, found);
            Ok(())
        }
        Key::Robot(_) | Key::RobotUse(_) | Key::Signing(_) | Key::Allowance(..) => {
            credentials::lone(&read, key, value, found);
            Ok(())
        }
        Key::RefreshToken(sha256) => credentials::refresh_token(tx, sha256, value, found).await,
        Key::RefreshTokenOf(subject, created, sha256) => {
            credentials::refresh_token_of(tx, (subject, *created, sha256), found).await
        }
        Key::RefreshTokenExpiry(expires, sha256) => {
            credentials::refresh_token_expiry(tx, (*expires, sha256), found).await
        }
    }
}
