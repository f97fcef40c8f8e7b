// SPDX-License-Identifier: AGPL-3.0-only
//! Who makes a request: what its `Authorization` header says, checked.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

use stella_storage::{Clock as _, Store, SystemClock, Timestamp};

use super::passwords::TooBusy;
use super::tokens::{TokenError, issuer_of};
use super::{Access, Identity, Peer, Proof, Refused, Wanted, check_name, robots};
use crate::error::ApiError;

/// A header with more is no name and password, and no token of ours.
const MAX_HEADER: usize = 20 << 10;

/// A name and a password as a client sent them.
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

impl Access {
    /// Who makes a request below `/v2` with these headers.
    pub(crate) async fn identify(
        &self,
        store: &Store,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Arc<Identity>, ApiError> {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = all.next() else { return Ok(Arc::clone(&self.anonymous)) };
        // Without a way to prove anything, what clients say of themselves is not looked at.
        if !self.can_be_proven() {
            return Ok(Arc::clone(&self.anonymous));
        }
        if all.next().is_some() {
            return Err(unproven("the request has more than one Authorization header"));
        }
        if header.len() > MAX_HEADER {
            return Err(unproven("the Authorization header is longer than 20 KiB"));
        }
        if let Some(token) = bearer(header) {
            // Boxed, as what is needed by few: room for it would be in every request.
            return Box::pin(self.check_token(store, token)).await;
        }
        match Credentials::of(header) {
            Some(credentials) => Box::pin(self.log_in(store, credentials, peer)).await.map(Arc::new),
            None => Err(unproven("the Authorization header is neither `Basic` nor `Bearer`")),
        }
    }

    /// Whose token this is: one of ours, or of a token server that is known here.
    async fn check_token(&self, store: &Store, token: &str) -> Result<Arc<Identity>, ApiError> {
        let invalid = |error: TokenError| {
            if error == TokenError::NoKeys {
                return ApiError::unavailable_because(error.to_string());
            }
            ApiError::unauthorized(error.to_string(), Wanted::invalid()).refused(Refused { rule: None })
        };
        let (now, keys) = (SystemClock.now(), self.key_generation());
        if let Some(identity) = self.checked.get(token, keys, now) {
            return self.still(store, identity, now).await;
        }
        let ours = self.tokens.as_ref().filter(|ours| issuer_of(token).as_deref() == Some(ours.service()));
        let (identity, expires) = match ours {
            Some(ours) => ours.check(token, now).map_err(invalid)?,
            None => match self.issuers.identify_server_token(token, now).await {
                Some(checked) => checked.map_err(invalid)?,
                None if issuer_of(token).is_some_and(|issuer| self.issuers.has_issuer(&issuer)) => {
                    let message =
                        "this is an ID token: log in with it as the password, or exchange it at /token";
                    return Err(
                        ApiError::unauthorized(message, Wanted::invalid()).refused(Refused { rule: None })
                    );
                }
                None => return Err(invalid(TokenError::Issuer)),
            },
        };
        let identity = Arc::new(identity);
        self.checked.keep(token, keys, expires, &identity);
        self.still(store, identity, now).await
    }

    /// A token ends with the password, or the robot, for which it was given.
    async fn still(
        &self,
        store: &Store,
        identity: Arc<Identity>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, ApiError> {
        let stands = match &identity.proof {
            Proof::Password => {
                let present =
                    self.passwords.as_ref().and_then(|passwords| passwords.stamp(&identity.subject));
                present.as_deref() == identity.stamp.as_deref()
            }
            Proof::Robot if !self.robots => false,
            Proof::Robot => {
                let present = robots::find(store, &identity.subject, now).await?;
                present.is_some_and(|present| present.stamp == identity.stamp)
            }
            // It may have been taken out of the configuration since. Those of token servers are checked as they are.
            Proof::Token { issuer } if identity.scope.is_some() => self.issuers.has_issuer(issuer),
            _ => true,
        };
        if stands {
            return Ok(identity);
        }
        let message = "the token was given to who may no longer log in";
        Err(ApiError::unauthorized(message, Wanted::invalid()).refused(Refused { rule: None }))
    }

    /// Who has this name and this password.
    pub(super) async fn log_in(
        &self,
        store: &Store,
        credentials: Credentials,
        peer: Peer,
    ) -> Result<Identity, ApiError> {
        let Credentials { name, password } = credentials;
        if name.starts_with(robots::PREFIX) {
            // Nobody guesses such a secret: who has it need not wait for those who try.
            let robot = if self.robots {
                robots::prove(store, &name, &password, SystemClock.now()).await?
            } else {
                None
            };
            return robot.ok_or_else(|| refused_login(peer, &name));
        }
        // A job logs in by whatever name, with its ID token.
        if issuer_of(&password).is_some() {
            return self.id_token(&password, peer).await;
        }
        let Some(passwords) = &self.passwords else { return Err(self.failed(peer, &name)) };
        if !passwords.is_proven(&name, &password) {
            if let Some(seconds) = self.attempts.must_wait(peer.address, Instant::now()) {
                return Err(ApiError::too_many_logins(seconds).refused(Refused { rule: None }));
            }
            match passwords.prove(&name, &password).await {
                Ok(true) => {}
                Ok(false) => return Err(self.failed(peer, &name)),
                Err(TooBusy) => return Err(ApiError::unavailable()),
            }
        }
        let stamp = passwords.stamp(&name).map(|stamp| stamp.to_string());
        Ok(Identity { subject: name, proof: Proof::Password, stamp, ..Identity::default() })
    }

    /// The error for a password that is wrong: one that can be guessed, so this is counted.
    fn failed(&self, peer: Peer, name: &str) -> ApiError {
        self.attempts.failed(peer.address, Instant::now());
        refused_login(peer, name)
    }
}

fn refused_login(peer: Peer, name: &str) -> ApiError {
    tracing::info!(client = %peer.address, name = %name.escape_debug(), "a login failed");
    unproven("the name or the password is wrong")
}

pub(super) fn unproven(message: &str) -> ApiError {
    ApiError::unauthorized(message, Wanted::default()).refused(Refused { rule: None })
}

/// The token of a `Bearer` header (RFC 6750).
pub(super) fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Credentials {
    /// RFC 7617.
    pub(super) fn of(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (name, password) = decoded.split_once(':')?;
        check_name(name).ok()?;
        Some(Credentials { name: name.to_owned(), password: password.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(header: &str) -> Option<(String, String)> {
        let Credentials { name, password } = Credentials::of(&HeaderValue::from_str(header).unwrap())?;
        Some((name, password))
    }

    #[test]
    fn a_name_and_a_password_are_read_as_rfc_7617_has_them() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(credentials("bASIC  dGVzdDoxMjPCow=="), pair("test", "123£"));
        assert_eq!(credentials(&format!("Basic {}", BASE64_STANDARD.encode("a:b:c"))), pair("a", "b:c"));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Bearer x",
            "Basic QQ==",
            &format!("Basic {}", BASE64_STANDARD.encode("a\nb:c")),
        ] {
            assert_eq!(credentials(bad), None, "{bad}");
        }
    }
}
