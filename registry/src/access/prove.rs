// SPDX-License-Identifier: AGPL-3.0-only
//! The ways to prove who one is at `/token`, and what is given for it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};
use stella_storage::{Clock as _, RefreshToken, Store, SystemClock, Timestamp};

use super::authenticate::{Credentials, bearer, unproven};
use super::claims::session_of;
use super::scope::Asked;
use super::service::{Minted, TokenService};
use super::signer::SignerError;
use super::tokens::TokenError;
use super::{Access, Identity, Peer, Proof, Scope, check_name, robots};
use crate::error::ApiError;

/// How refresh tokens begin, so that a person and a scanner of secrets know one.
const REFRESH: &str = "stella_refresh_";
/// A client's name for itself is kept up to here.
const MAX_CLIENT: usize = 100;

/// Who was proven, and by which name.
pub(crate) struct Proven {
    pub(crate) identity: Identity,
    /// The name that the client gave, if it gave one.
    pub(crate) named: Option<String>,
}

/// What a token is wanted for.
pub(crate) struct Wish(Asked);

impl Wish {
    /// Reads what each `scope` of a request says.
    pub(crate) fn of<'s>(scopes: impl Iterator<Item = &'s str>) -> Self {
        Wish(Asked::of(scopes))
    }
}

/// What `/token` answers.
pub(crate) struct Granted {
    pub(crate) token: String,
    pub(crate) issued: Timestamp,
    pub(crate) lifetime: Duration,
    pub(crate) scope: Scope,
}

impl Access {
    /// Who sent these `Authorization` headers to `/token`.
    pub(crate) async fn prove<'h>(
        &self,
        store: &Store,
        mut headers: impl Iterator<Item = &'h HeaderValue>,
        peer: Peer,
    ) -> Result<Proven, ApiError> {
        let Some(header) = headers.next() else {
            return Ok(Proven { identity: Identity::anonymous(), named: None });
        };
        if headers.next().is_some() {
            return Err(unproven("the request has more than one Authorization header"));
        }
        if let Some(token) = bearer(header) {
            // What is no text is no token.
            return self.prove_id_token(str::from_utf8(token).unwrap_or_default(), peer).await;
        }
        match Credentials::of(header) {
            Some(Credentials { name, password }) => self.prove_password(store, name, &password, peer).await,
            None => Err(unproven("the Authorization header is neither `Basic` nor `Bearer`")),
        }
    }

    /// Who has this name and this password, which may be a robot's secret or an ID token.
    pub(crate) async fn prove_password(
        &self,
        store: &Store,
        name: String,
        password: &str,
        peer: Peer,
    ) -> Result<Proven, ApiError> {
        if check_name(&name).is_err() {
            return Err(unproven("the name or the password is wrong").claimed(&name));
        }
        let identity = self.log_in(store, name.clone(), password, peer).await?;
        Ok(Proven { identity, named: Some(name) })
    }

    /// Whose ID token this is.
    pub(crate) async fn prove_id_token(&self, token: &str, peer: Peer) -> Result<Proven, ApiError> {
        let identity = self.id_token(token, peer).await?;
        Ok(Proven { identity, named: None })
    }

    /// Whose refresh token this is. It ends with the password, or the robot, for which it was given.
    pub(crate) async fn prove_refresh_token(
        &self,
        store: &Store,
        token: &str,
        peer: Peer,
    ) -> Result<Proven, ApiError> {
        let row = store.refresh_token(&hash(token)).await?;
        let row =
            row.filter(|row| self.token_service().is_some_and(|tokens| tokens.service() == row.service));
        let identity = match row {
            Some(row) => self.present(store, &row).await?,
            None => None,
        };
        let Some(identity) = identity else {
            let message = "the refresh token is not known, was revoked, or has expired; log in again";
            tracing::info!(client = %peer.address, "a refresh token was refused");
            return Err(unproven(message));
        };
        Ok(Proven { identity, named: None })
    }

    /// Who a refresh token was given to, if that still is as it was.
    async fn present(&self, store: &Store, row: &RefreshToken) -> Result<Option<Identity>, ApiError> {
        let stamp = String::from_utf8_lossy(&row.stamp);
        Ok(match row.proof.as_str() {
            "password" => {
                let present = self.passwords.as_ref().and_then(|passwords| passwords.stamp(&row.subject));
                present.filter(|present| **present == *stamp).map(|stamp| Identity {
                    subject: row.subject.clone(),
                    proof: Proof::Password,
                    stamp: Some(stamp.to_string()),
                    ..Identity::default()
                })
            }
            "robot" if !self.robots => None,
            "robot" => {
                let robot = robots::find(store, &row.subject, SystemClock.now()).await?;
                robot.filter(|robot| robot.stamp.as_deref() == Some(&stamp))
            }
            _ => None,
        })
    }

    /// A token for as much of a wish as `who` may have.
    pub(crate) fn mint(&self, who: &Identity, wish: &Wish) -> Result<Granted, SignerError> {
        let Some(tokens) = &self.tokens else { return Err(SignerError::Generate) };
        let (scope, marks) = wish.0.grant(self, who);
        let Minted { token, issued, lifetime } = tokens.mint(who, &scope, &marks)?;
        Ok(Granted { token, issued, lifetime, scope })
    }

    /// A refresh token, for who can have one: an ID token ends by itself, and anonymous needs none.
    pub(crate) async fn refresh_token(
        &self,
        store: &Store,
        who: &Identity,
        client: &str,
    ) -> Result<Option<String>, ApiError> {
        let (Some(tokens), Some(stamp)) = (&self.tokens, &who.stamp) else { return Ok(None) };
        let token = secret(REFRESH).ok_or_else(|| ApiError::failed("no randomness".to_owned()))?;
        let now = SystemClock.now();
        let client: String = client.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect();
        let row = RefreshToken {
            subject: who.subject.clone(),
            proof: who.proof.text().to_owned(),
            stamp: stamp.as_bytes().to_vec(),
            client,
            service: tokens.service().to_owned(),
            created: now,
            expires: now.plus(tokens.refresh_lifetime()),
        };
        store.add_refresh_token(hash(&token), row).await?;
        Ok(Some(token))
    }

    /// What mints tokens, if there is anybody to prove who they are.
    pub(crate) fn token_service(&self) -> Option<&Arc<TokenService>> {
        self.tokens.as_ref()
    }

    /// Whose ID token this is.
    pub(super) async fn id_token(&self, token: &str, peer: Peer) -> Result<Identity, ApiError> {
        match self.issuers.identify_id_token(token, SystemClock.now()).await {
            Some(Ok((mut identity, expires))) => {
                identity.until = Some(expires);
                let issuer = match &identity.proof {
                    Proof::Token { issuer } => issuer.as_str(),
                    _ => "",
                };
                // A token without a name is its own.
                let jti = identity.claims.get("jti").and_then(|jti| jti.values().first());
                identity.session = Some(session_of(issuer, jti.map_or(token, String::as_str)));
                Ok(identity)
            }
            Some(Err(error @ TokenError::NoKeys)) => Err(ApiError::unavailable_because(error.to_string())),
            Some(Err(error)) => {
                tracing::info!(client = %peer.address, %error, "an ID token was refused");
                Err(unproven(&error.to_string()))
            }
            None => Err(unproven("the token is of no issuer that is known here (auth.issuers)")),
        }
    }
}

/// A secret that nobody guesses.
pub(crate) fn secret(prefix: &str) -> Option<String> {
    let bytes: [u8; 32] = aws_lc_rs::rand::generate(&SystemRandom::new()).ok()?.expose();
    Some(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a secret that has enough of its own.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}
