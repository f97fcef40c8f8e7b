// SPDX-License-Identifier: AGPL-3.0-only
//! Robots: accounts of machines, each with a secret of its own and what it may do where.
//!
//! When one was last used is gathered in memory and written in the background, once an hour, under a key of
//! its own: so a use never meets a revocation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{HIDDEN, check_name, check_size};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::keys;
use crate::kv::{ReadTx, WriteTx};
use crate::rows;
use crate::store::Store;

/// The largest row of a robot, all its grants together.
const MAX_ROW: usize = 64 << 10;
/// Uses of more robots than this between two flushes are not recorded.
const MAX_GATHERED: usize = 10_000;
const FLUSHED_AT_ONCE: usize = 1_000;

/// An account of a machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Robot {
    /// Its name.
    pub name: String,
    /// The sha256 of its secret.
    pub secret_sha256: [u8; 32],
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on its secret is of no use; never if absent.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the hour and as far as that was written. Not read when a robot is made.
    pub last_used: Option<Timestamp>,
}

/// What a robot may do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The actions.
    pub actions: Vec<String>,
    /// Patterns of the repositories.
    pub repositories: Vec<String>,
}

impl fmt::Debug for Robot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Robot { name, secret_sha256: _, grants, created, expires, revoked, last_used } = self;
        f.debug_struct("Robot")
            .field("name", name)
            .field("secret_sha256", &HIDDEN)
            .field("grants", grants)
            .field("created", created)
            .field("expires", expires)
            .field("revoked", revoked)
            .field("last_used", last_used)
            .finish()
    }
}

impl Store {
    /// Makes a robot. One of that name may be replaced only after it was revoked; making the same one again
    /// changes nothing.
    pub async fn create_robot(&self, robot: Robot) -> Result<()> {
        check_name("the name of a robot", &robot.name)?;
        let (name, row) = robot.into_row();
        let value = rows::encode(&row)?;
        check_size("a robot with its grants", value.len(), MAX_ROW)?;
        let made = name.clone();
        self.engine
            .write(value.len(), async move |tx: &mut WriteTx| match find(tx, &name).await? {
                Some(present) if present == row => Ok(()),
                Some(present) if present.revoked.is_none() => Err(Error::RobotExists(name.clone())),
                _ => tx.put(keys::robot(&name), value.clone()),
            })
            .await?;
        // What was noted of another robot of that name is not the new one's.
        self.robot_uses.lock().remove(&made);
        Ok(())
    }

    /// A robot, also one that is revoked or has expired.
    pub async fn robot(&self, name: &str) -> Result<Option<Robot>> {
        if name.is_empty() || name.len() > keys::MAX_CREDENTIAL_NAME {
            return Ok(None);
        }
        self.engine
            .read(async |tx: &mut ReadTx| {
                let found = tx.get_many(&[keys::robot(name), keys::robot_use(name)]).await?;
                let [Some(row), last_use] = found.as_slice() else { return Ok(None) };
                Robot::from_rows(name, row, last_use.as_deref()).map(Some)
            })
            .await
    }

    /// At most `limit` robots after the name `after`, in byte order, revoked ones too.
    pub async fn robots(&self, after: Option<String>, limit: usize) -> Result<Vec<Robot>> {
        self.engine
            .scan(async move |tx: &mut ReadTx| {
                let after = after.as_deref().map(keys::robot);
                let found = tx.range(keys::ROBOTS, after.as_deref(), limit).await?;
                let names = found.iter().map(|(key, _)| keys::read_robot(key)).collect::<Result<Vec<_>>>()?;
                let uses: Vec<_> = names.iter().map(|name| keys::robot_use(name)).collect();
                let uses = tx.get_many(&uses).await?;
                let robots = names.into_iter().zip(&found).zip(uses);
                robots.map(|((name, (_, row)), used)| Robot::from_rows(name, row, used.as_deref())).collect()
            })
            .await
    }

    /// Revokes a robot; false if there is none, or it was revoked before.
    pub async fn revoke_robot(&self, name: &str) -> Result<bool> {
        let (name, now) = (name.to_owned(), self.now());
        self.engine
            .write(0, async move |tx: &mut WriteTx| {
                let Some(mut row) = find(tx, &name).await? else { return Ok(false) };
                if row.revoked.is_some() {
                    return Ok(false);
                }
                row.revoked = Some(now);
                tx.put(keys::robot(&name), rows::encode(&row)?)?;
                Ok(true)
            })
            .await
    }

    /// Notes that a robot was used, without a write.
    pub fn note_robot_use(&self, name: &str) {
        let now = self.now();
        let mut gathered = self.robot_uses.lock();
        match gathered.get(name) {
            Some(used) if used.at.hour() == now.hour() => {}
            None if gathered.len() >= MAX_GATHERED || name.len() > keys::MAX_CREDENTIAL_NAME => {}
            _ => {
                gathered.insert(name.to_owned(), Use { at: now, written: false });
            }
        }
    }

    /// Writes what was gathered of robots' uses. To be called every minute or so, and before the end.
    pub async fn flush_robot_uses(&self) -> Result<()> {
        let due = self.robot_uses.due(self.now());
        for part in due.chunks(FLUSHED_AT_ONCE) {
            // Read apart from the write, which then depends on nothing that a revocation changes.
            let keys: Vec<_> =
                part.iter().flat_map(|(name, _)| [keys::robot(name), keys::robot_use(name)]).collect();
            let found = self.engine.read(async |tx: &mut ReadTx| tx.get_many(&keys).await).await?;
            let mut wanted = Vec::new();
            for ((name, at), found) in part.iter().zip(found.chunks(2)) {
                // Another replica may have written for this hour.
                if let [Some(_), before] = found
                    && last_use(before.as_deref())?.is_none_or(|before| before.hour() < at.hour())
                {
                    wanted.push((keys::robot_use(name), rows::encode(&rows::RobotUse { at: *at })?));
                }
            }
            if !wanted.is_empty() {
                let write = async move |tx: &mut WriteTx| {
                    wanted.iter().try_for_each(|(key, value)| tx.put(key.clone(), value.clone()))
                };
                self.engine.write(part.len() * 256, write).await?;
            }
            self.robot_uses.written(part);
        }
        Ok(())
    }
}

impl Robot {
    fn into_row(self) -> (String, rows::Robot) {
        let grants = self.grants.into_iter();
        let grants =
            grants.map(|grant| rows::Grant { actions: grant.actions, repositories: grant.repositories });
        let row = rows::Robot {
            secret_sha256: self.secret_sha256,
            grants: grants.collect(),
            created: self.created,
            expires: self.expires,
            revoked: self.revoked,
        };
        (self.name, row)
    }

    fn from_rows(name: &str, row: &[u8], used: Option<&[u8]>) -> Result<Self> {
        let row: rows::Robot = rows::decode(row)?;
        let grants = row.grants.into_iter();
        let grants = grants.map(|grant| Grant { actions: grant.actions, repositories: grant.repositories });
        Ok(Robot {
            name: name.to_owned(),
            secret_sha256: row.secret_sha256,
            grants: grants.collect(),
            created: row.created,
            expires: row.expires,
            revoked: row.revoked,
            // A use before that was one of a robot that this one replaced.
            last_used: last_use(used)?.filter(|used| *used >= row.created),
        })
    }
}

async fn find(tx: &mut ReadTx, name: &str) -> Result<Option<rows::Robot>> {
    tx.get(&keys::robot(name)).await?.map(|row| rows::decode(&row)).transpose()
}

fn last_use(row: Option<&[u8]>) -> Result<Option<Timestamp>> {
    row.map(|row| Ok(rows::decode::<rows::RobotUse>(row)?.at)).transpose()
}

/// Uses of robots that are not written yet, or were in this hour.
#[derive(Default)]
pub(in crate::store) struct Uses(Mutex<HashMap<String, Use>>);

#[derive(Clone, Copy)]
struct Use {
    at: Timestamp,
    // Kept until the hour is over, so that one robot costs one write an hour.
    written: bool,
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self, now: Timestamp) -> Vec<(String, Timestamp)> {
        let mut gathered = self.lock();
        gathered.retain(|_, used| !used.written || used.at.hour() == now.hour());
        let due = gathered.iter().filter(|(_, used)| !used.written);
        due.map(|(name, used)| (name.clone(), used.at)).collect()
    }

    fn written(&self, part: &[(String, Timestamp)]) {
        let mut gathered = self.lock();
        for (name, at) in part {
            if let Some(used) = gathered.get_mut(name)
                && used.at == *at
            {
                used.written = true;
            }
        }
    }
}
