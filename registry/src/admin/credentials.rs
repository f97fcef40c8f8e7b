// SPDX-License-Identifier: AGPL-3.0-only
//! Robots and refresh tokens: made, listed and revoked by whoever has the data. A robot's secret is made by the command
//! and stays there: what comes here is its hash.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use stella_storage::{Clock as _, Error, Grant, Result, Robot, Store, SystemClock, Timestamp, What};
use tokio::sync::mpsc;

use super::{Operation, Request};
use crate::unseen::visible;

/// Rows that are read at once.
const PAGE: usize = 500;

/// Something that is done with what clients prove themselves with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Credentials {
    /// Makes a robot.
    CreateRobot(NewRobot),
    /// Lists robots.
    Robots,
    /// Ends a robot.
    RevokeRobot {
        /// Its name.
        name: String,
    },
    /// Lists refresh tokens.
    Tokens,
    /// Ends a refresh token.
    RevokeToken {
        /// What it is listed as: the begin of its hash, if no other begins so.
        id: String,
    },
    /// Ends all refresh tokens of one who logs in.
    RevokeTokensOf {
        /// The name.
        subject: String,
    },
}

/// A robot to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewRobot {
    pub(crate) name: String,
    /// The sha256 of its secret, in hex.
    pub(crate) secret: String,
    pub(crate) grants: Vec<Given>,
    /// Milliseconds from now.
    pub(crate) expires: Option<u64>,
}

/// What it may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) actions: Vec<String>,
    pub(crate) repositories: Vec<String>,
}

/// A line of a list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Listed {
    Robot {
        name: String,
        state: State,
        grants: Vec<Given>,
        created: String,
        expires: Option<String>,
        last_used: Option<String>,
    },
    Token {
        id: String,
        subject: String,
        client: String,
        created: String,
        expires: String,
    },
}

/// Whether a robot may still do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Active,
    Expired,
    Revoked,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Managed {
    pub(crate) did: String,
    pub(crate) count: u64,
}

impl Operation for Credentials {
    const NAME: &'static str = "credentials";

    type Item = Listed;
    type Summary = Managed;

    fn request(self) -> Request {
        Request::Credentials(self)
    }

    fn audited(&self) -> Option<&'static str> {
        match self {
            Credentials::CreateRobot(_) => Some("robot.create"),
            Credentials::RevokeRobot { .. } => Some("robot.revoke"),
            Credentials::RevokeToken { .. } | Credentials::RevokeTokensOf { .. } => {
                Some("refresh_token.revoke")
            }
            Credentials::Robots | Credentials::Tokens => None,
        }
    }

    async fn run(&self, store: &Store, items: mpsc::Sender<Listed>) -> Result<Managed> {
        match self {
            Credentials::CreateRobot(new) => create(store, new).await,
            Credentials::Robots => robots(store, &items).await,
            Credentials::RevokeRobot { name } => {
                if store.revoke_robot(name).await? {
                    return Ok(Managed { did: format!("revoked the robot {name}"), count: 1 });
                }
                Err(Error::NotFound(What::Robot))
            }
            Credentials::Tokens => tokens(store, &items).await,
            Credentials::RevokeToken { id } => revoke(store, id).await,
            Credentials::RevokeTokensOf { subject } => {
                let count = store.revoke_refresh_tokens_of(subject).await?;
                Ok(Managed { did: format!("revoked {count} refresh tokens of {subject}"), count })
            }
        }
    }

    fn faults(_: &Managed) -> bool {
        false
    }
}

async fn create(store: &Store, new: &NewRobot) -> Result<Managed> {
    let bad = || Error::Refused("the hash of the secret is no sha256".to_owned());
    let secret_sha256 =
        hex::decode(&new.secret).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(bad)?;
    let now = SystemClock.now();
    let grants =
        new.grants.iter().cloned().map(|Given { actions, repositories }| Grant { actions, repositories });
    let robot = Robot {
        name: new.name.clone(),
        secret_sha256,
        grants: grants.collect(),
        created: now,
        expires: new.expires.map(|millis| Timestamp(now.0.saturating_add(millis))),
        revoked: None,
        last_used: None,
    };
    let until = robot.expires.map_or("it does not expire".to_owned(), |at| format!("until {}", at.rfc3339()));
    store.create_robot(robot).await?;
    let may = written(&new.grants);
    Ok(Managed { did: format!("created the robot {}, {until}, with {may}", new.name), count: 1 })
}

async fn robots(store: &Store, items: &mpsc::Sender<Listed>) -> Result<Managed> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.robots(after.take(), PAGE).await?;
        after = page.last().map(|robot| robot.name.clone());
        if page.is_empty() {
            return Ok(Managed { did: format!("{count} robots"), count });
        }
        count += page.len() as u64;
        for robot in page {
            let now = SystemClock.now();
            let state = match (robot.revoked, robot.expires) {
                (Some(_), _) => State::Revoked,
                (None, Some(expires)) if expires <= now => State::Expired,
                _ => State::Active,
            };
            let grants = robot.grants.into_iter();
            let listed = Listed::Robot {
                name: robot.name,
                state,
                grants: grants
                    .map(|Grant { actions, repositories }| Given { actions, repositories })
                    .collect(),
                created: robot.created.rfc3339(),
                expires: robot.expires.map(Timestamp::rfc3339),
                last_used: robot.last_used.map(Timestamp::rfc3339),
            };
            if items.send(listed).await.is_err() {
                return Ok(Managed { did: String::new(), count });
            }
        }
    }
}

async fn tokens(store: &Store, items: &mpsc::Sender<Listed>) -> Result<Managed> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.refresh_tokens(after.take(), PAGE).await?;
        after = page.last().map(|(hash, _)| *hash);
        if page.is_empty() {
            return Ok(Managed { did: format!("{count} refresh tokens"), count });
        }
        count += page.len() as u64;
        for (hash, token) in page {
            let listed = Listed::Token {
                id: hex::encode(hash.get(..8).unwrap_or_default()),
                subject: token.subject,
                client: token.client,
                created: token.created.rfc3339(),
                expires: token.expires.rfc3339(),
            };
            if items.send(listed).await.is_err() {
                return Ok(Managed { did: String::new(), count });
            }
        }
    }
}

async fn revoke(store: &Store, id: &str) -> Result<Managed> {
    let mut after = None;
    loop {
        let page = store.refresh_tokens(after.take(), PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Err(Error::NotFound(What::RefreshToken));
        };
        after = Some(*last);
        for (hash, token) in &page {
            if hex::encode(hash.get(..8).unwrap_or_default()) == id {
                store.revoke_refresh_token(hash).await?;
                let did = format!("revoked a refresh token of {}", token.subject);
                return Ok(Managed { did, count: 1 });
            }
        }
    }
}

/// As the command takes them.
fn written(grants: &[Given]) -> String {
    let texts = grants
        .iter()
        .map(|Given { actions, repositories }| format!("{}={}", actions.join(","), repositories.join(",")));
    texts.collect::<Vec<_>>().join(" ")
}

impl Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listed::Robot { name, state, grants, expires, last_used, .. } => {
                let state = match state {
                    State::Active => "active",
                    State::Expired => "expired",
                    State::Revoked => "revoked",
                };
                let expires = expires.as_deref().unwrap_or("never");
                let used = last_used.as_deref().unwrap_or("never");
                let name = visible(name);
                write!(f, "{name}  {state}  {}  expires {expires}  last used {used}", written(grants))
            }
            Listed::Token { id, subject, client, created, expires } => {
                let client = if client.is_empty() { "-" } else { client };
                write!(
                    f,
                    "{id}  {}  {}  {created}  expires {expires}",
                    subject.escape_debug(),
                    client.escape_debug()
                )
            }
        }
    }
}

impl Display for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It names robots and users as they are called.
        f.write_str(&visible(&self.did))
    }
}
