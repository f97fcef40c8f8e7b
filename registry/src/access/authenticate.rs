// SPDX-License-Identifier: AGPL-3.0-only
//! Who makes a request: what its `Authorization` header says, checked.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

use stella_storage::{Clock as _, Store, SystemClock, Timestamp};

use super::attempts::network;
use super::claims::brief;
use super::tokens::{TokenError, issuer_of};
use super::turns::{Attempt, TooBusy};
use super::{Access, Claimed, Identity, Peer, Proof, Refused, Wanted, check_name, robots};
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
        // Most requests with a token have one that was seen before: nothing more is done for them than this.
        let token = bearer(header);
        if let Some(identity) = token.and_then(|token| self.known(token)) {
            return Ok(identity);
        }
        // Boxed, so that requests that need no such room have none.
        Box::pin(self.prove_anew(store, header, token, peer)).await
    }

    /// Whose token this is, if it was checked before, and all that it depends on is in memory and as it was.
    fn known(&self, token: &[u8]) -> Option<Arc<Identity>> {
        let (keys, now) = (self.generation(), SystemClock.now());
        if let Some(identity) = self.checked.standing(token, keys, now) {
            return Some(identity);
        }
        let identity = self.checked.get(token, keys, now)?;
        (self.stands(&identity) == Some(true)).then(|| {
            self.checked.stands(token, keys, now);
            identity
        })
    }

    /// Who a header is of that is not known, or not known to be right still.
    async fn prove_anew(
        &self,
        store: &Store,
        header: &HeaderValue,
        token: Option<&[u8]>,
        peer: Peer,
    ) -> Result<Arc<Identity>, ApiError> {
        if let Some(token) = token {
            return self.check_token(store, token).await;
        }
        match Credentials::of(header) {
            Some(Credentials { name, password }) => {
                self.log_in(store, name, &password, peer).await.map(Arc::new)
            }
            None => Err(unproven("the Authorization header is neither `Basic` nor `Bearer`")),
        }
    }

    /// Whose token this is: one of ours, or of a token server that is known here.
    async fn check_token(&self, store: &Store, token: &[u8]) -> Result<Arc<Identity>, ApiError> {
        let invalid = |error: TokenError| {
            if error == TokenError::NoKeys {
                return ApiError::unavailable_because(error.to_string());
            }
            ApiError::unauthorized(error.to_string(), Wanted::invalid()).refused(Refused { rule: None })
        };
        let (now, keys) = (SystemClock.now(), self.generation());
        if let Some(identity) = self.checked.get(token, keys, now) {
            return self.still(store, identity, now).await;
        }
        let text = str::from_utf8(token).map_err(|_| invalid(TokenError::Malformed("it is no text")))?;
        let ours = self.tokens.as_ref().filter(|ours| issuer_of(text).as_deref() == Some(ours.service()));
        let (identity, expires) = match ours {
            Some(ours) => ours.check(text, now).map_err(invalid)?,
            None => match self.issuers.identify_server_token(text, now).await {
                Some(checked) => checked.map_err(invalid)?,
                None if issuer_of(text).is_some_and(|issuer| self.issuers.has_issuer(&issuer)) => {
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

    /// Fails if a token has ended with the password, or the robot, for which it was given.
    async fn still(
        &self,
        store: &Store,
        identity: Arc<Identity>,
        now: Timestamp,
    ) -> Result<Arc<Identity>, ApiError> {
        let stands = match self.stands(&identity) {
            Some(stands) => stands,
            None => robots::find(store, &identity.subject, now).await?.is_some_and(|present| {
                present.stamp.is_some()
                    && present.stamp.as_deref().map(brief) == identity.stamp.as_deref().map(brief)
            }),
        };
        if stands {
            return Ok(identity);
        }
        let message = "the token was given to who may no longer log in";
        Err(ApiError::unauthorized(message, Wanted::invalid()).refused(Refused { rule: None }))
    }

    /// Whether what a token was given for is as it was; none if only the store knows.
    fn stands(&self, identity: &Identity) -> Option<bool> {
        match &identity.proof {
            Proof::Password => Some(self.passwords.as_ref().is_some_and(|passwords| {
                let stamp = identity.stamp.as_deref();
                stamp.is_some_and(|stamp| passwords.has_stamp(&identity.subject, stamp))
            })),
            Proof::Robot => (!self.robots).then_some(false),
            // It may have been taken out of the configuration since. Those of token servers are checked as they are.
            Proof::Token { issuer } if identity.scope.is_some() => Some(self.issuers.has_issuer(issuer)),
            _ => Some(true),
        }
    }

    /// Who has this name and this password.
    pub(super) async fn log_in(
        &self,
        store: &Store,
        name: String,
        password: &str,
        peer: Peer,
    ) -> Result<Identity, ApiError> {
        if name.starts_with(robots::PREFIX) {
            // Nobody guesses such a secret: who has it need not wait for those who try.
            let robot = if self.robots {
                robots::prove(store, &name, password, SystemClock.now()).await?
            } else {
                None
            };
            return robot.ok_or_else(|| refused_login(peer, &name));
        }
        // A job logs in by whatever name, with its ID token.
        if issuer_of(password).is_some() {
            return self.id_token(password, peer).await;
        }
        let Some(passwords) = &self.passwords else { return Err(self.failed(peer, &name)) };
        let mut stamp = passwords.proven(&name, password);
        if stamp.is_none() {
            self.may_try(peer, &name)?;
            let failures = self.attempts.failures(peer.address, Instant::now());
            let attempt = Attempt { network: network(peer.address), failures, name: &name };
            let turn = passwords.turn(attempt).await.map_err(|TooBusy| ApiError::unavailable())?;
            // Others from there may have failed while it waited, or have proven the same.
            if passwords.proven(&name, password).is_none() {
                self.may_try(peer, &name)?;
            }
            stamp = passwords.prove(turn, &name, password).await;
        }
        let Some(stamp) = stamp else { return Err(self.failed(peer, &name)) };
        let stamp = Some(stamp.to_string());
        Ok(Identity { subject: name, proof: Proof::Password, stamp, ..Identity::default() })
    }

    /// Fails while an address has to wait.
    fn may_try(&self, peer: Peer, name: &str) -> Result<(), ApiError> {
        match self.attempts.must_wait(peer.address, Instant::now()) {
            Some(seconds) => {
                Err(ApiError::too_many_logins(seconds).refused(Refused { rule: None }).claimed(name))
            }
            None => Ok(()),
        }
    }

    /// The error for a password that is wrong: one that can be guessed, so this is counted.
    fn failed(&self, peer: Peer, name: &str) -> ApiError {
        self.attempts.failed(peer.address, Instant::now());
        refused_login(peer, name)
    }
}

fn refused_login(peer: Peer, name: &str) -> ApiError {
    let Claimed(shown) = Claimed::of(name);
    tracing::info!(client = %peer.address, name = shown, "a login failed");
    unproven("the name or the password is wrong").claimed(name)
}

pub(super) fn unproven(message: &str) -> ApiError {
    ApiError::unauthorized(message, Wanted::default()).refused(Refused { rule: None })
}

/// The token of a `Bearer` header (RFC 6750). Bytes, because whoever looks at them as text has to look at each.
pub(super) fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = header.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

impl Credentials {
    /// RFC 7617.
    pub(super) fn of(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let mut name = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let password = name.split_off(name.find(':')?).split_off(1);
        check_name(&name).ok()?;
        Some(Credentials { name, password })
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

    #[test]
    fn a_token_is_found_in_its_header_as_rfc_6750_has_it() {
        let token =
            |header: &'static [u8]| bearer(&HeaderValue::from_bytes(header).unwrap()).map(<[u8]>::to_vec);
        for header in [b"Bearer a.b.c".as_slice(), b"bearer a.b.c", b"BEARER  a.b.c ", b"Bearer \ta.b.c"] {
            assert_eq!(token(header).as_deref(), Some(b"a.b.c".as_slice()), "{header:?}");
        }
        assert_eq!(token(b"Bearer ").as_deref(), Some(b"".as_slice()));
        assert_eq!(token(b"Bearer \xff").as_deref(), Some(b"\xff".as_slice()));
        for none in [b"".as_slice(), b"Bearer", b"Bearera.b.c", b"Basic QQ==", b"Bearer\ta.b.c", b" Bearer a"]
        {
            assert_eq!(token(none), None, "{none:?}");
        }
    }
}
