// SPDX-License-Identifier: AGPL-3.0-only
//! Robots: names for machines, with a secret and with what they may do. They are rows of the catalog, which each use
//! reads, so that all replicas know them and one that is revoked is out at once.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use stella_storage::{Robot, Store, Timestamp};

use super::prove::hash;
use super::{Grant, Identity, Proof};
use crate::error::ApiError;

/// How a robot's name begins where clients log in, so that it is nobody else's.
pub(crate) const PREFIX: &str = "robot+";
/// How its secret begins.
pub(crate) const SECRET: &str = "stella_robot_";

/// Whom a robot's name and secret prove, if they are right.
pub(super) async fn prove(
    store: &Store,
    subject: &str,
    secret: &str,
    now: Timestamp,
) -> Result<Option<Identity>, ApiError> {
    let Some(robot) = active(store, subject, now).await? else { return Ok(None) };
    if verify_slices_are_equal(&hash(secret), &robot.secret_sha256).is_err() {
        return Ok(None);
    }
    store.note_robot_use(&robot.name);
    Ok(identity(&robot))
}

/// A robot by its subject, if it may still do anything.
pub(super) async fn find(store: &Store, subject: &str, now: Timestamp) -> Result<Option<Identity>, ApiError> {
    let Some(robot) = active(store, subject, now).await? else { return Ok(None) };
    store.note_robot_use(&robot.name);
    Ok(identity(&robot))
}

async fn active(store: &Store, subject: &str, now: Timestamp) -> Result<Option<Robot>, ApiError> {
    let Some(name) = subject.strip_prefix(PREFIX) else { return Ok(None) };
    let robot = store.robot(name).await?;
    let lives = |robot: &Robot| robot.revoked.is_none() && robot.expires.is_none_or(|expires| now < expires);
    Ok(robot.filter(lives))
}

/// None if its row has what this version does not know.
fn identity(robot: &Robot) -> Option<Identity> {
    let grants = robot.grants.iter().map(|grant| {
        let actions = grant.actions.iter().map(|action| action.parse()).collect::<Result<_, _>>().ok()?;
        let repositories =
            grant.repositories.iter().map(|text| text.parse()).collect::<Result<_, _>>().ok()?;
        Some(Grant { actions, repositories })
    });
    Some(Identity {
        subject: format!("{PREFIX}{}", robot.name),
        proof: Proof::Robot,
        grants: Some(grants.collect::<Option<_>>()?),
        stamp: robot.secret_sha256.get(..16).map(hex::encode),
        ..Identity::default()
    })
}
