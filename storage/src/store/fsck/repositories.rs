// SPDX-License-Identifier: AGPL-3.0-only
//! Names of repositories, their ids, and the rows of the store itself.
//!
//! Name → id and id → name say the same; where they differ, the name that clients use decides. What
//! belongs to an id without any name is made readable again under a name of its own.

use super::Basis;
use super::found::{At, Change, Findings, Held, hold, read};
use super::report::FaultKind;
use crate::error::Result;
use crate::keys::{self, RepoId};
use crate::kv::{MAX_PAGE_ROWS, ReadTx};
use crate::name::RepoName;
use crate::rows;
use crate::store::SCHEMA;

/// Where repositories go that lost their name.
const LOST: &str = "lost-and-found";

async fn name_of(tx: &mut ReadTx, id: RepoId) -> Result<Held<RepoName>> {
    Ok(match tx.get(&keys::repository_by_id(id)).await? {
        None => Held::Absent,
        Some(value) => {
            let name = String::from_utf8(value).ok().and_then(|name| name.parse().ok());
            name.map_or(Held::Unreadable, Held::Row)
        }
    })
}

/// The id that has this name; a search through all of them.
async fn id_of(tx: &mut ReadTx, name: &str) -> Result<Option<RepoId>> {
    let mut after = None;
    loop {
        let page = tx.range(keys::REPOSITORIES_BY_ID, after.as_deref(), MAX_PAGE_ROWS).await?;
        for (key, value) in &page {
            if let (Ok(keys::Key::RepositoryById(id)), true) =
                (keys::Key::read(key), value == name.as_bytes())
            {
                return Ok(Some(id));
            }
        }
        match page.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(None),
        }
    }
}

/// An id behind all that are in use; a search through all of them.
async fn next_free(tx: &mut ReadTx) -> Result<u32> {
    let mut next = 0;
    for table in [keys::REPOSITORIES, keys::REPOSITORIES_BY_ID] {
        let mut after = None;
        loop {
            let page = tx.range(table, after.as_deref(), MAX_PAGE_ROWS).await?;
            for (key, value) in &page {
                let id = match keys::Key::read(key) {
                    Ok(keys::Key::RepositoryById(id)) => Some(id),
                    _ => read::<rows::Repository>(value).row().map(|row| row.id),
                };
                next = next.max(id.map_or(0, |id| id.0.saturating_add(1)));
            }
            match page.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
    }
    Ok(next)
}

async fn next(tx: &mut ReadTx) -> Result<Option<u32>> {
    Ok(tx.get(keys::NEXT_REPOSITORY).await?.and_then(|value| value.try_into().ok()).map(u32::from_be_bytes))
}

fn put_next(next: u32) -> Change {
    Change::Put(keys::NEXT_REPOSITORY.to_vec(), next.to_be_bytes().to_vec())
}

/// Rows of the store itself.
pub(super) async fn meta(tx: &mut ReadTx, key: &[u8], value: &[u8], found: &mut Findings) -> Result<()> {
    let (readable, change) = match key {
        keys::SCHEMA_VERSION => {
            (value == SCHEMA.to_be_bytes(), Change::Put(key.to_vec(), SCHEMA.to_be_bytes().to_vec()))
        }
        keys::NEXT_REPOSITORY => (value.len() == 4, put_next(next_free(tx).await?)),
        keys::COLLECTION_PAUSE => (value.len() == 8, Change::Delete(key.to_vec())),
        keys::POLICY_EPOCH => {
            (read::<rows::PolicyEpoch>(value) != Held::Unreadable, Change::Delete(key.to_vec()))
        }
        keys::RULES => (read::<rows::Rules>(value) != Held::Unreadable, Change::Delete(key.to_vec())),
        keys::SCRUB => (read::<rows::Scrub>(value) != Held::Unreadable, Change::Delete(key.to_vec())),
        _ => return Ok(()),
    };
    if !readable {
        let what = format!("the row {:?} of the store cannot be read", String::from_utf8_lossy(&key[1..]));
        found.change(FaultKind::MetaUnreadable, At::default(), what, "it is made anew", vec![change]);
    }
    Ok(())
}

pub(super) async fn repository(
    tx: &mut ReadTx,
    basis: &Basis,
    name: &RepoName,
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let (key, at) = (keys::repository(name.as_str()), At::name(name.as_str()));
    let Held::Row(row) = read::<rows::Repository>(value) else {
        let what = "the row of this repository cannot be read";
        match id_of(tx, name.as_str()).await? {
            Some(id) => {
                let row = rows::Repository { id, created: basis.moment().now };
                let how = "the repository has its id again";
                found.change(FaultKind::RowUnreadable, at, what, how, vec![Change::row(key, &row)?]);
            }
            None => found.manual(FaultKind::RowUnreadable, at, what, RESTORE),
        }
        return Ok(());
    };
    if next(tx).await?.is_none_or(|next| next <= row.id.0) {
        let what = format!("its id {} would be given to another repository", row.id.0);
        let changes = vec![put_next(next_free(tx).await?)];
        let how = "ids go on behind all that are in use";
        found.change(FaultKind::RepositoryIdBeyondNext, at.clone(), what, how, changes);
    }
    let other;
    match name_of(tx, row.id).await? {
        Held::Row(by_id) if by_id == *name => return Ok(()),
        Held::Row(by_id) => {
            let owner = hold::<rows::Repository>(tx, &keys::repository(by_id.as_str())).await?.row();
            if owner.is_some_and(|owner| owner.id == row.id) {
                let what = format!("it has the id of {by_id}");
                match id_of(tx, name.as_str()).await? {
                    Some(id) => {
                        let row = rows::Repository { id, ..row };
                        let how = "the repository has its own id again";
                        found.change(
                            FaultKind::RepositoryIdWrong,
                            at,
                            what,
                            how,
                            vec![Change::row(key, &row)?],
                        );
                    }
                    None => found.manual(FaultKind::RepositoryIdWrong, at, what, RESTORE),
                }
                return Ok(());
            }
            other = Some(by_id);
        }
        Held::Absent | Held::Unreadable => other = None,
    }
    let (what, how) = match other {
        // Nothing tells which is right. The one that clients find is left to them.
        Some(other) => (
            format!("its id {} has the name {other}: one of the two is wrong", row.id.0),
            format!("the id leads to the name; if {other} is right, copy everything there"),
        ),
        None => {
            (format!("its id {} does not lead back to it", row.id.0), "the id leads to the name".to_owned())
        }
    };
    let changes = vec![Change::Put(keys::repository_by_id(row.id), name.as_str().as_bytes().to_vec())];
    found.change(FaultKind::RepositoryIndexWrong, at, what, how, changes);
    Ok(())
}

const RESTORE: &str = "restore the metadata from a backup";

pub(super) async fn repository_by_id(
    tx: &mut ReadTx,
    basis: &Basis,
    id: RepoId,
    value: &[u8],
    found: &mut Findings,
) -> Result<()> {
    let name = std::str::from_utf8(value).ok().and_then(|name| name.parse::<RepoName>().ok());
    let Some(name) = name else {
        let what = format!("the name of repository {} cannot be read", id.0);
        return lost(tx, basis, id, FaultKind::RowUnreadable, &what, found).await;
    };
    match hold::<rows::Repository>(tx, &keys::repository(name.as_str())).await? {
        Held::Row(row) if row.id == id => Ok(()),
        Held::Row(row) => {
            let what = format!("repositories {} and {} have the same name {name}", id.0, row.id.0);
            lost(tx, basis, id, FaultKind::RepositoryIndexWrong, &what, found).await
        }
        // The fault is the name's.
        Held::Unreadable => Ok(()),
        Held::Absent => {
            let row = rows::Repository { id, created: basis.moment().now };
            let changes = vec![Change::row(keys::repository(name.as_str()), &row)?];
            let what = format!("id {} has this name, which does not lead to it", id.0);
            let at = At::name(name.as_str());
            found.change(FaultKind::RepositoryMissing, at, what, "the name leads to the id", changes);
            Ok(())
        }
    }
}

/// Rows of a repository that nothing knows.
pub(super) async fn unknown(tx: &mut ReadTx, basis: &Basis, id: RepoId, found: &mut Findings) -> Result<()> {
    if !name_of(tx, id).await?.is_absent() {
        return Ok(());
    }
    let what = format!("there are rows of repository {}, which has no name", id.0);
    lost(tx, basis, id, FaultKind::RepositoryUnknown, &what, found).await
}

/// Gives a repository that lost its name another one.
async fn lost(
    tx: &mut ReadTx,
    basis: &Basis,
    id: RepoId,
    kind: FaultKind,
    what: &str,
    found: &mut Findings,
) -> Result<()> {
    let mut name = format!("{LOST}/{}", id.0);
    while tx.get(&keys::repository(&name)).await?.is_some() {
        name.push_str("-x");
    }
    let row = rows::Repository { id, created: basis.moment().now };
    let mut changes = vec![
        Change::row(keys::repository(&name), &row)?,
        Change::Put(keys::repository_by_id(id), name.as_bytes().to_vec()),
    ];
    if next(tx).await?.is_none_or(|next| next <= id.0) {
        changes.push(put_next(next_free(tx).await?.max(id.0.saturating_add(1))));
    }
    let at = At::name(&format!("repository {}", id.0));
    found.change(kind, at, what, format!("it can be read as {name}; copy it to its right name"), changes);
    Ok(())
}
