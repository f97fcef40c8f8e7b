// SPDX-License-Identifier: AGPL-3.0-only
//! Faults as the checks find them inside a transaction: what is wrong, and the rows that mend it.
//!
//! A check only reads. The same check runs again inside the write transaction of a repair, and what
//! it finds THERE is what is changed, so nothing is mended that others changed meanwhile.

use super::report::{Fault, FaultKind, Repair};
use crate::digest::Digest;
use crate::error::Result;
use crate::keys::{RepoId, Review};
use crate::kv::{ReadTx, WriteTx};
use crate::local::Location;
use crate::name::Tag;
use crate::rows;
use crate::store::lease::Moment;
use crate::store::repositories;

/// One row to change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl Change {
    pub(super) fn row<T: minicbor::Encode<()>>(key: Vec<u8>, row: &T) -> Result<Change> {
        Ok(Change::Put(key, rows::encode(row)?))
    }

    /// Has something looked at by collection.
    pub(super) fn review(moment: Moment, review: &Review) -> Change {
        Change::Put(crate::keys::review(moment.now, review), Vec::new())
    }

    pub(super) fn apply(self, tx: &mut WriteTx) -> Result<()> {
        match self {
            Change::Put(key, value) => tx.put(key, value),
            Change::Delete(key) => tx.delete(key),
        }
    }
}

/// What can be done about a fault.
#[derive(Clone, Debug)]
pub(super) enum Mend {
    /// How it is afterwards, and the rows that make it so.
    Change(String, Vec<Change>),
    /// Advice to the operator, and rows that let it be followed.
    Mark(String, Vec<Change>),
    /// Advice to the operator.
    Manual(String),
}

/// Where a fault is.
#[derive(Clone, Debug, Default)]
pub(super) struct At {
    pub(super) repo: Option<RepoId>,
    pub(super) name: Option<String>,
    pub(super) digest: Option<Digest>,
    pub(super) tag: Option<Tag>,
    pub(super) location: Option<String>,
}

impl At {
    pub(super) fn repo(repo: RepoId) -> Self {
        At { repo: Some(repo), ..At::default() }
    }

    pub(super) fn name(name: &str) -> Self {
        At { name: Some(name.to_owned()), ..At::default() }
    }

    pub(super) fn digest(repo: RepoId, digest: &Digest) -> Self {
        At { digest: Some(digest.clone()), ..At::repo(repo) }
    }

    pub(super) fn tag(repo: RepoId, tag: &Tag) -> Self {
        At { tag: Some(tag.clone()), ..At::repo(repo) }
    }

    pub(super) fn content(sha256: [u8; 32]) -> Self {
        At { digest: Some(Digest::Sha256(sha256)), ..At::default() }
    }

    pub(super) fn location(location: Location) -> Self {
        At { location: Some(location.to_string()), ..At::default() }
    }

    pub(super) fn lying(self, location: Location) -> Self {
        At { location: Some(location.to_string()), ..self }
    }
}

/// A fault as a check found it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: FaultKind,
    pub(super) at: At,
    pub(super) what: String,
    pub(super) mend: Mend,
}

/// What one check found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Found>,
    /// What must have a review row, as nothing protects it.
    pub(super) unprotected: Vec<Review>,
    /// Contents that do not know a link to them.
    pub(super) linked: Vec<[u8; 32]>,
    /// Documents that were hashed and read.
    pub(super) manifests: u64,
}

impl Findings {
    pub(super) fn change(
        &mut self,
        kind: FaultKind,
        at: At,
        what: impl Into<String>,
        how: impl Into<String>,
        changes: Vec<Change>,
    ) {
        let mend = Mend::Change(how.into(), changes);
        self.faults.push(Found { kind, at, what: what.into(), mend });
    }

    pub(super) fn mark(
        &mut self,
        kind: FaultKind,
        at: At,
        what: impl Into<String>,
        advice: impl Into<String>,
        changes: Vec<Change>,
    ) {
        let mend = Mend::Mark(advice.into(), changes);
        self.faults.push(Found { kind, at, what: what.into(), mend });
    }

    pub(super) fn manual(
        &mut self,
        kind: FaultKind,
        at: At,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let mend = Mend::Manual(advice.into());
        self.faults.push(Found { kind, at, what: what.into(), mend });
    }
}

impl Found {
    /// The fault for a person; `repaired` says that its changes were made.
    pub(super) async fn tell(self, tx: &mut ReadTx, repaired: bool) -> Fault {
        let At { repo, name, digest, tag, location } = self.at;
        let repository = match (name, repo) {
            (Some(name), _) => Some(name),
            (None, None) => None,
            (None, Some(repo)) => Some(match repositories::name(tx, repo).await {
                Ok(name) => name.as_str().to_owned(),
                Err(_) => format!("repository {}", repo.0),
            }),
        };
        let repair = match self.mend {
            Mend::Manual(advice) | Mend::Mark(advice, _) => Repair::Manual(advice),
            Mend::Change(how, _) if repaired => Repair::Done(how),
            Mend::Change(how, _) => Repair::Would(how),
        };
        Fault {
            kind: self.kind,
            repository,
            digest: digest.map(|digest| digest.to_string()),
            tag: tag.map(|tag| tag.as_str().to_owned()),
            location,
            what: self.what,
            repair,
        }
    }
}

/// A row that may be absent or damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held<T> {
    Absent,
    Unreadable,
    Row(T),
}

impl<T> Held<T> {
    pub(super) fn row(self) -> Option<T> {
        match self {
            Held::Row(row) => Some(row),
            Held::Absent | Held::Unreadable => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Held::Absent)
    }
}

pub(super) async fn hold<T: for<'b> minicbor::Decode<'b, ()>>(
    tx: &mut ReadTx,
    key: &[u8],
) -> Result<Held<T>> {
    Ok(match tx.get(key).await? {
        None => Held::Absent,
        Some(value) => read(&value),
    })
}

pub(super) fn read<T: for<'b> minicbor::Decode<'b, ()>>(value: &[u8]) -> Held<T> {
    rows::decode(value).map_or(Held::Unreadable, Held::Row)
}
