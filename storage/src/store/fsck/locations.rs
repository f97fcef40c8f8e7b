// SPDX-License-Identifier: AGPL-3.0-only
//! Which rows name which files: each file is named by exactly one upload, content or garbage row.
//!
//! A location moves one way only, upload → content → garbage → gone, and its row comes before its file
//! and goes after it. So files are listed first, then the three tables are read in that order: a file
//! that none of them names is a stray. A location that was met twice may have moved between, so the
//! rows that name it are looked at again in one snapshot.
//!
//! Folders are taken some at a time, so that memory stays bounded whatever the store holds.

use std::collections::{BTreeMap, HashMap};

use super::examine::{Brake, Examined, examine, run};
use super::found::{At, Change, Findings, hold, read};
use super::report::FaultKind;
use super::{Check, mend};
use crate::digest::{Algorithm, Digest, Hashes};
use crate::error::Result;
use crate::keys::{self, Key};
use crate::kv::{MAX_PAGE_ROWS, ReadTx, WriteTx};
use crate::local::{FileName, Location};
use crate::rows;
use crate::store::lease::Moment;

/// Locations that are held in memory at once, about.
const AT_ONCE: usize = 1_000_000;
/// The tables that name locations, in the order in which locations move.
const NAMING: [u8; 3] = *b"pcg";
/// Rows that may name one location and are looked at.
const MOST_NAMES: usize = 100;

#[derive(Default)]
struct Seen {
    file: bool,
    names: u8,
}

/// The location that a row names.
fn location_of(key: &[u8], value: &[u8]) -> Option<Location> {
    match Key::read(key).ok()? {
        Key::Upload(location) | Key::Garbage(_, location) => Some(location),
        Key::Content(_) => read::<rows::Content>(value).row().map(|row| row.location),
        _ => None,
    }
}

impl Check<'_> {
    /// Compares files with the rows that name them.
    pub(super) async fn locations(&mut self) -> Result<()> {
        let blobs = self.store.blobs.clone();
        let sample = run(move || blobs.list(0).map_or(0, |files| files.len())).await?;
        let folders = (AT_ONCE / (sample + 1)).clamp(1, 256);
        self.root().await?;
        let parts: Vec<u8> = (0..=u8::MAX).collect();
        let mut strays = Vec::new();
        for parts in parts.chunks(folders) {
            strays.append(&mut self.some_locations(parts).await?);
            strays.truncate(AT_ONCE);
        }
        // Last: a content that names another one's file may have left its own behind.
        for location in strays {
            self.stray(location).await?;
        }
        Ok(())
    }

    /// Compares the files of some folders with rows. Returns those that no row names.
    async fn some_locations(&mut self, parts: &[u8]) -> Result<Vec<Location>> {
        let mut seen: HashMap<Location, Seen> = HashMap::new();
        for &part in parts {
            self.list(part, &mut seen).await?;
        }
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        self.each_name(|location, _| {
            if (first..=last).contains(&location.part()) {
                let seen = seen.entry(location).or_default();
                seen.names = seen.names.saturating_add(1);
            }
        })
        .await?;
        let odd = |seen: &Seen| seen.names > 1 || (seen.file && seen.names == 0);
        let odd: Vec<Location> =
            seen.into_iter().filter(|(_, seen)| odd(seen)).map(|(location, _)| location).collect();
        let mut strays = Vec::new();
        if odd.is_empty() {
            return Ok(strays);
        }
        let mut names: BTreeMap<Location, Vec<Vec<u8>>> =
            odd.into_iter().map(|location| (location, Vec::new())).collect();
        self.each_name(|location, key| {
            if let Some(keys) = names.get_mut(&location)
                && keys.len() < MOST_NAMES
            {
                keys.push(key.to_vec());
            }
        })
        .await?;
        for (location, keys) in names {
            match keys.len() {
                0 => strays.push(location),
                1 => {}
                _ => self.named_twice(location, keys).await?,
            }
        }
        Ok(strays)
    }

    /// Tells of what is not ours beside the folders.
    async fn root(&mut self) -> Result<()> {
        let blobs = self.store.blobs.clone();
        for path in run(move || blobs.strangers()).await?? {
            let mut findings = Findings::default();
            let at = At { location: Some(path), ..At::default() };
            let (what, advice) = ("it is nothing of the registry's", "move it away or delete it");
            findings.manual(FaultKind::NameStray, at, what, advice);
            self.settle(findings.faults).await?;
        }
        Ok(())
    }

    /// Lists a folder, and tells of what is not ours in it.
    async fn list(&mut self, part: u8, seen: &mut HashMap<Location, Seen>) -> Result<()> {
        let (blobs, repair) = (self.store.blobs.clone(), self.repair);
        let folder = blobs.folder_name(part);
        let listed = run(move || {
            if blobs.has_folder(part) {
                return blobs.list(part).map(Some);
            }
            if repair {
                blobs.make_folder(part)?;
            }
            Ok(None)
        });
        let at = || At { location: Some(folder.clone()), ..At::default() };
        let Some(files) = listed.await?? else {
            let mut findings = Findings::default();
            let (what, how) = ("a folder of blobs is gone", "the folder is made anew");
            findings.change(FaultKind::FolderMissing, at(), what, how, Vec::new());
            return self.settle(findings.faults).await;
        };
        for file in files {
            match file.name {
                FileName::Blob(location) => seen.entry(location).or_default().file = true,
                FileName::Stray(name) => {
                    let mut findings = Findings::default();
                    let what = format!("{} is none of the registry's files", name.display());
                    findings.manual(FaultKind::NameStray, at(), what, "move it away or delete it");
                    self.settle(findings.faults).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes through all rows that name a location.
    async fn each_name(&self, mut each: impl FnMut(Location, &[u8])) -> Result<()> {
        for table in NAMING {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self.store.page_of(vec![table], after.take()).await?;
                for (key, value) in &page {
                    if let Some(location) = location_of(key, value) {
                        each(location, key);
                    }
                }
                match page.into_iter().last() {
                    Some((key, _)) => after = Some(key),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// A file that no row names. It goes back to the content that lost it, or to collection.
    async fn stray(&mut self, location: Location) -> Result<()> {
        let wide = Algorithm::Sha512;
        let examined = examine(&self.store.blobs, location, 0, wide, &mut Brake::off()).await?;
        let (size, hashes) = match examined {
            // It went meanwhile, as garbage does.
            Examined::Gone => return Ok(()),
            Examined::Unreadable(error) => {
                let mut findings = Findings::default();
                let what = format!("no row names this, and it cannot be read: {error}");
                let advice = "move it away or delete it";
                findings.manual(FaultKind::FileStray, At::location(location), what, advice);
                return self.settle(findings.faults).await;
            }
            Examined::Read { len, whole, .. } => (len, whole),
        };
        let key = keys::content(&hashes.sha256);
        let present = self.store.engine.read(async |tx: &mut ReadTx| hold::<rows::Content>(tx, &key).await);
        let broken = match present.await?.row() {
            Some(row) if !self.is_intact(&hashes.sha256, row.location).await? => Some(row.location),
            _ => None,
        };
        let basis = self.basis.clone();
        let check = async move |tx: &mut ReadTx| {
            let mut findings = Findings::default();
            if tx.get(&keys::upload(location)).await?.is_some() {
                return Ok(findings);
            }
            if let Some(changes) = adopted(tx, location, size, &hashes, broken, basis.moment()).await? {
                let at = At::content(hashes.sha256).lying(location);
                let what = "no row names this file, which holds the bytes that a blob lost";
                let how = "the blob has its bytes again";
                findings.change(FaultKind::FileStray, at, what, how, changes);
            } else {
                let after = basis.moment().now.plus(basis.moment().periods.grace);
                let garbage = Change::row(keys::garbage(after, location), &rows::Garbage { size })?;
                let what = format!("no row names this file of {size} bytes");
                let how = "collection removes it after the grace period";
                findings.change(FaultKind::FileStray, At::location(location), what, how, vec![garbage]);
            }
            Ok(findings)
        };
        self.settle_in(check).await
    }

    /// Whether a file holds the bytes of a content.
    async fn is_intact(&self, sha256: &[u8; 32], location: Location) -> Result<bool> {
        let examined = examine(&self.store.blobs, location, 0, Algorithm::Sha256, &mut Brake::off()).await?;
        Ok(matches!(examined, Examined::Read { whole, .. } if whole.sha256 == *sha256))
    }

    /// A location with several rows: the one that is surely right stays.
    async fn named_twice(&mut self, location: Location, keys: Vec<Vec<u8>>) -> Result<()> {
        let examined = examine(&self.store.blobs, location, 0, Algorithm::Sha256, &mut Brake::off()).await?;
        let holds = match examined {
            Examined::Read { whole, .. } => Some(whole.sha256),
            Examined::Gone | Examined::Unreadable(_) => None,
        };
        self.settle_in(async move |tx: &mut ReadTx| {
            let mut findings = Findings::default();
            let mut names = Vec::new();
            for key in &keys {
                if let Some(value) = tx.get(key).await?
                    && location_of(key, &value) == Some(location)
                    && let Ok(read) = Key::read(key)
                {
                    let rank = match &read {
                        Key::Content(sha256) if Some(*sha256) == holds => 0,
                        Key::Upload(_) => 1,
                        Key::Content(_) => 2,
                        _ => 3,
                    };
                    names.push((rank, key.clone(), read));
                }
            }
            if names.len() < 2 {
                return Ok(findings);
            }
            // Of several garbage rows the one that is due last.
            names.sort_by(|a, b| (a.0, &b.1).cmp(&(b.0, &a.1)));
            let told: Vec<String> = names.iter().map(|(_, _, name)| tell(name)).collect();
            let what = format!("this file is named by {}", told.join(" and "));
            let how = format!("only {} names it", told[0]);
            let changes = names.into_iter().skip(1).map(|(_, key, _)| Change::Delete(key)).collect();
            let at = At::location(location);
            findings.change(FaultKind::LocationNamedTwice, at, what, how, changes);
            Ok(findings)
        })
        .await
    }

    /// Runs a check, in a write transaction if its faults are to be mended.
    async fn settle_in<F>(&mut self, check: F) -> Result<()>
    where
        F: AsyncFn(&mut ReadTx) -> Result<Findings> + Send + Sync + 'static,
    {
        if self.repair {
            let told = self.store.engine.write(0, async move |tx: &mut WriteTx| {
                let findings = check(tx).await?;
                mend(tx, findings.faults).await
            });
            let told = told.await?;
            return self.send_all(told).await;
        }
        let findings = self.store.engine.scan(check).await?;
        self.tell_all(findings.faults).await
    }
}

fn tell(name: &Key) -> String {
    match name {
        Key::Content(sha256) => format!("the content {}", Digest::Sha256(*sha256)),
        Key::Upload(_) => "an upload".to_owned(),
        _ => "the garbage queue".to_owned(),
    }
}

/// The rows that give a file back to content which is linked, and whose row is gone or cannot be read or
/// names the `broken` file.
async fn adopted(
    tx: &mut ReadTx,
    location: Location,
    size: u64,
    hashes: &Hashes,
    broken: Option<Location>,
    moment: Moment,
) -> Result<Option<Vec<Change>>> {
    let key = keys::content(&hashes.sha256);
    let links = tx.range(&keys::links_of(&hashes.sha256), None, MAX_PAGE_ROWS).await?;
    let present = hold::<rows::Content>(tx, &key).await?.row();
    let whole = present.as_ref().is_some_and(|row| Some(row.location) != broken);
    if links.is_empty() || whole {
        return Ok(None);
    }
    let alias = match hashes.sha512 {
        Some(sha512) => tx.get(&keys::alias(&sha512)).await?.map(|_| sha512),
        None => None,
    };
    let by_sha512 =
        links.iter().any(|(key, _)| matches!(Key::read(key), Ok(Key::LinkOf(_, _, Digest::Sha512(_)))));
    let sha512 = if by_sha512 { hashes.sha512 } else { alias };
    let created = present.as_ref().map_or(moment.now, |row| row.created);
    let row = rows::Content { location, size, sha512, created, damaged: None };
    let mut changes = vec![Change::row(key, &row)?];
    if let Some(sha512) = sha512 {
        changes.push(Change::Put(keys::alias(&sha512), hashes.sha256.to_vec()));
    }
    if let Some(present) = present {
        let after = moment.now.plus(moment.periods.grace);
        let garbage = rows::Garbage { size: present.size };
        changes.push(Change::row(keys::garbage(after, present.location), &garbage)?);
    }
    Ok(Some(changes))
}
