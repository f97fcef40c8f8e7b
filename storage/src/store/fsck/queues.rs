// SPDX-License-Identifier: AGPL-3.0-only
//! Upload sessions, the review queue and the garbage queue.

use super::Basis;
use super::found::{At, Change, Findings, Held, read};
use super::report::FaultKind;
use crate::clock::Timestamp;
use crate::digest::Hasher;
use crate::error::Result;
use crate::keys::{self, Review};
use crate::kv::ReadTx;
use crate::local::Location;
use crate::name::RepoName;
use crate::rows;

/// The rows that end an upload whose bytes are of no use any more.
pub(super) fn end_upload(basis: &Basis, id: Location, size: u64) -> Result<Vec<Change>> {
    let garbage = Change::row(keys::garbage(basis.moment().now, id), &rows::Garbage { size })?;
    Ok(vec![Change::Delete(keys::upload(id)), garbage])
}

/// What ending an upload means for its client.
pub(super) const ENDED: &str = "the upload is ended; its client begins again";

pub(super) fn upload(basis: &Basis, id: Location, value: &[u8], found: &mut Findings) -> Result<()> {
    let row = read::<rows::Upload>(value);
    let (kind, what) = match &row {
        Held::Row(row) if Hasher::resume(&row.hash).is_none() => {
            (FaultKind::UploadDamaged, "the state of this upload cannot be read")
        }
        Held::Row(row) if row.repo.parse::<RepoName>().is_err() => {
            (FaultKind::UploadDamaged, "this upload is for no repository")
        }
        Held::Row(_) => {
            found.unprotected.push(Review::Upload(id));
            return Ok(());
        }
        Held::Unreadable | Held::Absent => {
            (FaultKind::RowUnreadable, "the row of this upload cannot be read")
        }
    };
    let size = row.row().map_or(0, |row| row.offset);
    found.change(kind, At::location(id), what, ENDED, end_upload(basis, id, size)?);
    Ok(())
}

pub(super) async fn review(
    tx: &mut ReadTx,
    basis: &Basis,
    due: Timestamp,
    review: &Review,
    found: &mut Findings,
) -> Result<()> {
    let repo = match review {
        Review::Object(repo, _) | Review::Referrers(repo, _) | Review::TagHistory(repo, _) => *repo,
        Review::Upload(_) => return Ok(()),
    };
    if basis.knows(repo) || tx.get(&keys::repository_by_id(repo)).await?.is_some() {
        return Ok(());
    }
    let what = "collection is to look at something in a repository that does not exist";
    let changes = vec![Change::Delete(keys::review(due, review))];
    let at = At { name: Some(format!("repository {}", repo.0)), ..At::default() };
    found.change(FaultKind::ReviewStray, at, what, "it does not any more", changes);
    Ok(())
}

pub(super) fn garbage(
    after: Timestamp,
    location: Location,
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    if read::<rows::Garbage>(value) == Held::Unreadable {
        let what = "the row of this garbage cannot be read";
        let changes = vec![Change::row(keys::garbage(after, location), &rows::Garbage { size: 0 })?];
        let how = "its size counts as 0 until it is deleted";
        found.change(FaultKind::RowUnreadable, At::location(location), what, how, changes);
    }
    Ok(())
}
