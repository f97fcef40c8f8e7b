// SPDX-License-Identifier: AGPL-3.0-only
//! Those whose tokens are taken: issuers of ID tokens (`auth.issuers`) and token servers (`auth.token_servers`). What
//! their claims make of a client is in `access/bearer.rs`.
//!
//! Invariant: a token is only ever checked with the keys of the issuer that it names, and no two here have one name.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use stella_storage::Timestamp;

use super::Identity;
use super::bearer;
use super::key_source::KeySource;
use super::tokens::{Claims, Expected, TokenError, Unproven};
use crate::config::{self, Config, ConfigError, Issuer, TokenServer};

/// Each is asked for its keys.
const MAX_ISSUERS: usize = 100;

const ISSUERS: &str = "auth.issuers";
const TOKEN_SERVERS: &str = "auth.token_servers";

/// Whose tokens are taken.
pub(crate) struct Issuers {
    issuers: Vec<Known<Issuer>>,
    token_servers: Vec<Known<TokenServer>>,
}

struct Known<T> {
    config: T,
    keys: Arc<KeySource>,
}

/// Who a token's bearer is, and until when.
pub(crate) type Proven = (Identity, Timestamp);

impl Issuers {
    /// Checks what the configuration says of them, and reads the files that it names.
    pub(crate) fn load(config: &Config) -> Result<Self, ConfigError> {
        let auth = &config.auth;
        let bad = |key: &str, reason: String| ConfigError::BadValue {
            origin: config.origin(key),
            key: key.to_owned(),
            reason,
        };
        let (mut names, mut known) = (HashSet::new(), HashSet::new());
        let mut vet = |key: &str, name: &str, issuer: &str, audience: &str| {
            check_entry(name, issuer, audience).map_err(|reason| bad(key, reason))?;
            if !names.insert(name.to_owned()) {
                return Err(bad(key, format!("two entries are called {name:?}; name each in its own way")));
            }
            if !known.insert(issuer.to_owned()) {
                return Err(bad(key, format!("{issuer:?} is the issuer of two entries; keep one of them")));
            }
            Ok(())
        };
        for (key, count) in [(ISSUERS, auth.issuers.len()), (TOKEN_SERVERS, auth.token_servers.len())] {
            if count > MAX_ISSUERS {
                return Err(bad(key, format!("{count} entries; at most {MAX_ISSUERS} are allowed")));
            }
        }
        let open = |key, name: &str, source: &config::KeySource, ca: Option<&Path>| {
            KeySource::open(name, source, ca)
                .map(Arc::new)
                .map_err(|reason| bad(key, format!("the keys of {name:?}: {reason}")))
        };
        let mut issuers = Vec::new();
        for entry in &auth.issuers {
            vet(ISSUERS, &entry.name, &entry.issuer, &entry.audience)?;
            bearer::check_own(entry).map_err(|reason| bad(ISSUERS, reason))?;
            let keys = open(ISSUERS, &entry.name, &entry.jwks, entry.ca.as_deref())?;
            issuers.push(Known { config: entry.clone(), keys });
        }
        let mut token_servers = Vec::new();
        for entry in &auth.token_servers {
            vet(TOKEN_SERVERS, &entry.name, &entry.issuer, &entry.audience)?;
            let keys = open(TOKEN_SERVERS, &entry.name, &entry.keys, entry.ca.as_deref())?;
            token_servers.push(Known { config: entry.clone(), keys });
        }
        Ok(Issuers { issuers, token_servers })
    }

    /// Whether tokens of this issuer are taken still.
    pub(super) fn has_issuer(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|entry| entry.config.issuer == issuer)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.issuers.is_empty() && self.token_servers.is_empty()
    }

    /// Who the bearer of an ID token is; `None` if it is of nobody that is known here.
    pub(crate) async fn identify_id_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Option<Result<Proven, TokenError>> {
        let unproven = Unproven::parse(token).ok()?;
        let issuer = self.issuers.iter().find(|known| unproven.issuer() == Some(&known.config.issuer))?;
        let Issuer { issuer: name, audience, .. } = &issuer.config;
        let checked = check(unproven, &issuer.keys, &Expected { issuer: name, audience }, now).await;
        Some(checked.and_then(|Claims { claims, expires }| {
            Ok((bearer::of_id_token(&issuer.config, &claims)?, expires))
        }))
    }

    /// Who the bearer of a token server's token is, and what it may do; `None` if it is of no server that is known
    /// here.
    pub(crate) async fn identify_server_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Option<Result<Proven, TokenError>> {
        let unproven = Unproven::parse(token).ok()?;
        let server =
            self.token_servers.iter().find(|known| unproven.issuer() == Some(&known.config.issuer))?;
        let TokenServer { issuer: name, audience, .. } = &server.config;
        let checked = check(unproven, &server.keys, &Expected { issuer: name, audience }, now).await;
        Some(checked.and_then(|Claims { claims, expires }| {
            Ok((bearer::of_server_token(&server.config, &claims)?, expires))
        }))
    }

    /// Another number whenever somebody's keys are others: what was checked before must be checked again.
    pub(crate) fn generation(&self) -> u64 {
        self.sources().map(|keys| keys.generation()).sum()
    }

    /// What keeps the keys fresh, to be run beside the server.
    pub(crate) fn watch(&self) -> Vec<impl Future<Output = ()> + Send + use<>> {
        self.sources().map(|keys| Arc::clone(keys).watch()).collect()
    }

    fn sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        let servers = self.token_servers.iter().map(|known| &known.keys);
        self.issuers.iter().map(|known| &known.keys).chain(servers)
    }
}

async fn check(
    token: Unproven<'_>,
    keys: &Arc<KeySource>,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Claims, TokenError> {
    let keys = keys.keys_for(token.kid()).await.ok_or(TokenError::NoKeys)?;
    token.check(&keys, expected, now)
}

fn check_entry(name: &str, issuer: &str, audience: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        return Err(format!(
            "the name {name:?} must be 1 to 64 lower-case letters, digits, '.', '_' and '-'"
        ));
    }
    for (what, text) in [("issuer", issuer), ("audience", audience)] {
        if text.is_empty() {
            return Err(format!("the {what} of {name:?} is empty; write what its tokens have"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
