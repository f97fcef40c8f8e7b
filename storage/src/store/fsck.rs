// SPDX-License-Identifier: AGPL-3.0-only
//! Checking everything that is kept, and repairing what can be repaired, while the store is in use.
//!
//! Three rules make this safe online. A row is judged together with the rows that it must agree with in
//! ONE snapshot, so a write that comes between is never taken for a fault. What a snapshot cannot hold
//! (files, and names of files) is looked at first and confirmed afterwards, in an order in which nothing
//! that moves can be missed. And a repair is a write transaction which runs the same check again and
//! changes what it finds then. Nothing that was acknowledged is given up: what has lost its bytes keeps
//! its rows, and the next push of the same bytes heals it.
//!
//! | fault | what is wrong | repair |
//! | --- | --- | --- |
//! | `engine-damaged` | the metadata engine's own check fails | restore from a backup |
//! | `table-unknown` | a key in a table that this program does not know | left alone |
//! | `key-unreadable` | a key that nothing could have written, or find | removed |
//! | `row-unreadable` | a value that cannot be decoded | made anew from what other rows say; else removed |
//! | `meta-unreadable` | schema version, next id or other row of the store | made anew |
//! | `repository-id-wrong` | a name has the id of another repository | gets its own again |
//! | `repository-index-wrong` | an id does not lead to its name | it does again |
//! | `repository-missing` | an id has a name which does not lead to it | it does again |
//! | `repository-id-beyond-next` | an id that would be given out again | ids go on behind it |
//! | `repository-unknown` | rows of a repository without a name | it is named `lost-and-found/ID` |
//! | `link-wrong` | a link leads to other content than its digest says | leads to the right one |
//! | `link-size-wrong` | a link and its content differ in size | the content's |
//! | `link-without-content` | a link whose content is gone | push the blob again |
//! | `link-index-missing` | content does not know a link to it | it does again |
//! | `link-missing` | content knows a link which is gone, or a manifest names content that nobody has | made anew |
//! | `link-index-stray` | content knows a link that cannot be | forgotten |
//! | `content-without-link` | content that no repository has, unknown to collection | handed to collection |
//! | `content-file-missing` | content whose file is gone | marked; push the blob again |
//! | `content-size-wrong` | the row's size is not that of the right bytes | set right |
//! | `content-damaged` | the file does not hold the bytes of its digest | marked; push the blob again |
//! | `content-file-long` | bytes behind the end of the right ones | cut off |
//! | `content-sha512-wrong` | the row's sha512 is not that of the bytes | set right |
//! | `content-mark-stale` | content is marked as damaged and is not | the mark is taken away |
//! | `alias-wrong` | a sha512 does not lead to its content | it does again |
//! | `alias-stray` | a sha512 leads to content that has another | removed |
//! | `manifest-bytes-missing` | a manifest without bytes | push it again |
//! | `manifest-bytes-damaged` | bytes that do not have the digest | push it again |
//! | `manifest-row-missing` | bytes of a manifest without row | made anew from the document |
//! | `manifest-bytes-stray` | bytes that belong to no manifest, or another | brought home; else removed |
//! | `manifest-row-wrong` | size, type or subject are not the document's | set right |
//! | `manifest-invalid` | the document breaks the rules | left alone |
//! | `references-wrong` | references are missing or not the document's | set right |
//! | `references-stray` | references of no manifest | removed |
//! | `edge-missing` | what a manifest names does not know it | it does again |
//! | `edge-stray` | something is held by a manifest that does not name it | let go, and reviewed |
//! | `referrer-missing` | a subject does not list a referrer | it does again |
//! | `referrer-wrong` | it lists one with a wrong descriptor | set right |
//! | `referrer-stray` | it lists one that is not | removed |
//! | `tag-dangling` | a tag of a manifest that is not here | push the manifest again |
//! | `tag-missing` | manifest and history know a tag which is gone | it is back |
//! | `tag-index-missing` | a manifest does not know its tag | it does again |
//! | `tag-index-stray` | a manifest knows a tag that is not at it | forgotten, and reviewed |
//! | `tag-history-wrong` | the last move is not to where a tag is | a move says so |
//! | `tag-history-gap` | moves are missing between others | one stands in for them |
//! | `upload-damaged` | the state of an upload cannot be read | ended; its client begins again |
//! | `upload-file-short` | fewer bytes than were acknowledged | the same |
//! | `upload-bytes-damaged` | other bytes than were received | the same |
//! | `refresh-token-index-missing` | a refresh token that its subject or its expiry does not know | it does again |
//! | `refresh-token-index-stray` | a subject or an expiry knows a refresh token that is not | forgotten |
//! | `review-missing` | something unprotected that collection would never see | reviewed |
//! | `review-stray` | a review in a repository that does not exist | removed |
//! | `location-named-twice` | a file with several rows | the rightful one stays |
//! | `file-stray` | a file without a row | back to its content, or handed to collection |
//! | `name-stray` | a name in the blob folder that is not ours | left alone |
//! | `folder-missing` | one of the 256 blob folders is gone | made anew |

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::collection::{Grounds, is_unprotected};
use super::lease::Moment;
use super::{SCHEMA, Store, repositories as names, rules};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keys::{self, Key, RepoId};
use crate::kv::{ReadTx, WriteTx};
use crate::rows;

mod blobs;
mod credentials;
mod examine;
mod files;
mod found;
mod leaks;
mod locations;
mod manifests;
mod queues;
mod report;
mod repositories;
mod tags;
mod walk;

pub(super) use examine::{Brake, Examined, examine};
pub use report::{Fault, FaultKind, FsckSummary, Repair};

use found::{At, Change, Findings, Found, Held, Mend, hold};

/// By what a check judges.
#[derive(Clone)]
struct Basis {
    grounds: Grounds,
    /// The ids that had a name when the check began.
    known: Arc<HashSet<RepoId>>,
}

impl Basis {
    fn moment(&self) -> Moment {
        self.grounds.moment
    }

    fn knows(&self, repo: RepoId) -> bool {
        self.known.contains(&repo)
    }

    /// Whether nothing protects a link or manifest. What is too damaged to tell is told of elsewhere.
    async fn needs_review(&self, tx: &mut ReadTx, repo: RepoId, digest: &Digest) -> Result<bool> {
        match is_unprotected(tx, &self.grounds, repo, digest).await {
            Err(Error::Corrupt(_)) => Ok(false),
            unprotected => unprotected,
        }
    }
}

/// A run of a check.
struct Check<'s> {
    store: &'s Store,
    repair: bool,
    items: mpsc::Sender<Fault>,
    summary: FsckSummary,
    basis: Basis,
    /// Repositories that rows belong to and that have no name.
    unknown: BTreeSet<RepoId>,
    /// Contents with a link that they do not know: they must not be taken for unlinked.
    linked: HashSet<[u8; 32]>,
    /// What must have a review row.
    unprotected: HashSet<Vec<u8>>,
}

impl Store {
    /// Checks everything, also the bytes of every blob, and with `repair` mends what can be mended. Each
    /// fault is sent as it is found. Ends early when the receiver of `items` is gone.
    pub async fn fsck(&self, repair: bool, items: mpsc::Sender<Fault>) -> Result<FsckSummary> {
        let basis = self.fsck_basis().await?;
        let summary = FsckSummary { repair, ..FsckSummary::default() };
        let mut check = Check {
            store: self,
            repair,
            items,
            summary,
            basis,
            unknown: BTreeSet::new(),
            linked: HashSet::new(),
            unprotected: HashSet::new(),
        };
        check.run().await?;
        Ok(check.summary)
    }

    async fn fsck_basis(&self) -> Result<Basis> {
        let rules = self.rules();
        let sha256 = rules.sha256();
        let row =
            self.engine.read(async |tx: &mut ReadTx| hold::<rows::Rules>(tx, keys::RULES).await).await?;
        // Under rules that are new, not everything that should go was queued for collection yet.
        let settled = matches!(row, Held::Row(row) if row.sha256 == sha256 && row.queued_to.is_none());
        let rules = if settled { rules } else { Arc::new(rules::Rules::default()) };
        let (mut known, mut after) = (HashSet::new(), None);
        loop {
            let page = self.page_of(keys::REPOSITORIES.to_vec(), after.take()).await?;
            for (_, value) in &page {
                if let Ok(row) = rows::decode::<rows::Repository>(value) {
                    known.insert(row.id);
                }
            }
            match page.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
        let grounds = Grounds { moment: self.moment(), rules, busy: Vec::new() };
        Ok(Basis { grounds, known: Arc::new(known) })
    }

    /// A page of rows.
    async fn page_of(&self, prefix: Vec<u8>, after: Option<Vec<u8>>) -> Result<Vec<crate::kv::Row>> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                tx.range(&prefix, after.as_deref(), crate::kv::MAX_PAGE_ROWS).await
            })
            .await
    }
}

impl Check<'_> {
    async fn run(&mut self) -> Result<()> {
        self.engine().await?;
        // Names first: what is told later tells them. Then files, from which rows are made anew.
        self.schema().await?;
        for table in *b"mni" {
            self.walk(table).await?;
        }
        self.locations().await?;
        self.contents().await?;
        self.uploads().await?;
        for table in keys::TABLES.iter().copied().filter(|table| !b"mniv".contains(table)) {
            self.walk(table).await?;
        }
        self.unknown_repositories().await?;
        self.walk(b'v').await?;
        self.leaks().await?;
        self.unknown_tables().await
    }

    /// A store that was opened has a schema version.
    async fn schema(&mut self) -> Result<()> {
        let key = keys::SCHEMA_VERSION;
        let present = self.store.engine.read(async |tx: &mut ReadTx| tx.get(key).await).await?;
        if present.is_some() {
            return Ok(());
        }
        let mut findings = Findings::default();
        let changes = vec![Change::Put(key.to_vec(), SCHEMA.to_be_bytes().to_vec())];
        let what = "the version of the stored data is gone";
        findings.change(FaultKind::MetaUnreadable, At::default(), what, "it is made anew", changes);
        self.settle(findings.faults).await
    }

    /// Tells of faults, and mends them as they are.
    async fn settle(&mut self, faults: Vec<Found>) -> Result<()> {
        if !self.repair {
            return self.tell_all(faults).await;
        }
        let mended = async move |tx: &mut WriteTx| mend(tx, faults.clone()).await;
        let told = self.store.engine.write(0, mended).await?;
        self.send_all(told).await
    }

    async fn engine(&mut self) -> Result<()> {
        for what in self.store.engine.check().await? {
            let mut findings = Findings::default();
            let advice = "restore the metadata from a backup";
            findings.manual(FaultKind::EngineDamaged, At::default(), what, advice);
            self.tell_all(findings.faults).await?;
        }
        Ok(())
    }

    async fn unknown_repositories(&mut self) -> Result<()> {
        for id in std::mem::take(&mut self.unknown) {
            let basis = self.basis.clone();
            let findings = self.store.engine.read(async |tx: &mut ReadTx| {
                let mut findings = Findings::default();
                repositories::unknown(tx, &basis, id, &mut findings).await?;
                Ok(findings.faults)
            });
            let findings = findings.await?;
            if !self.repair {
                self.tell_all(findings).await?;
            } else if !findings.is_empty() {
                let basis = self.basis.clone();
                let faults = self.store.engine.write(0, async move |tx: &mut WriteTx| {
                    let mut findings = Findings::default();
                    repositories::unknown(tx, &basis, id, &mut findings).await?;
                    mend(tx, findings.faults).await
                });
                self.send_all(faults.await?).await?;
            }
        }
        Ok(())
    }

    async fn unknown_tables(&mut self) -> Result<()> {
        let first = self.store.engine.scan(async |tx: &mut ReadTx| {
            let mut first = Vec::new();
            for table in (0..=u8::MAX).filter(|table| !keys::TABLES.contains(table)) {
                first.extend(tx.range(&[table], None, 1).await?.into_iter().map(|(key, _)| key));
            }
            Ok(first)
        });
        for key in first.await? {
            let mut findings = Findings::default();
            let what =
                format!("there are rows in a table that is not known, the first is {}", hex::encode(key));
            let advice = "nothing here reads them; find out what wrote them";
            findings.manual(FaultKind::TableUnknown, At::default(), what, advice);
            self.tell_all(findings.faults).await?;
        }
        Ok(())
    }

    /// Tells of faults that nobody repairs now.
    async fn tell_all(&mut self, faults: Vec<Found>) -> Result<()> {
        for found in faults {
            let told =
                self.store.engine.read(async |tx: &mut ReadTx| Ok(found.clone().tell(tx, false).await));
            let fault = told.await?;
            self.send(fault).await?;
        }
        Ok(())
    }

    async fn send_all(&mut self, faults: Vec<Fault>) -> Result<()> {
        for fault in faults {
            self.send(fault).await?;
        }
        Ok(())
    }

    async fn send(&mut self, fault: Fault) -> Result<()> {
        self.summary.count(&fault);
        let sent = self.items.send(fault).await;
        sent.map_err(|_| Error::Body("nobody listens to the check any more".to_owned()))
    }
}

/// Makes the changes that mend some faults, and tells of them.
async fn mend(tx: &mut WriteTx, faults: Vec<Found>) -> Result<Vec<Fault>> {
    let mut told = Vec::with_capacity(faults.len());
    for mut found in faults {
        let changes = match &mut found.mend {
            Mend::Change(_, changes) | Mend::Mark(_, changes) => std::mem::take(changes),
            Mend::Manual(_) => Vec::new(),
        };
        for change in changes {
            change.apply(tx)?;
        }
        told.push(found.tell(tx, true).await);
    }
    Ok(told)
}

/// Some of the repositories that have a content, for a person.
pub(super) async fn linked_in(tx: &mut ReadTx, sha256: &[u8; 32]) -> Result<String> {
    const NAMED: usize = 3;
    let links = tx.range(&keys::links_of(sha256), None, NAMED + 1).await?;
    let mut told = Vec::new();
    for (key, _) in links.iter().take(NAMED) {
        let Ok(Key::LinkOf(_, repo, _)) = Key::read(key) else { continue };
        told.push(match names::name(tx, repo).await {
            Ok(name) => name.to_string(),
            Err(_) => format!("repository {}", repo.0),
        });
    }
    told.dedup();
    if links.len() > NAMED {
        told.push("others".to_owned());
    }
    Ok(if told.is_empty() { "no repository".to_owned() } else { told.join(", ") })
}
