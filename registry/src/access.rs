// SPDX-License-Identifier: AGPL-3.0-only
//! Who may do what.
//!
//! A request's [`Identity`] is made here, once, from what it carries: nothing (anonymous), or a name and a password
//! (`access/passwords.rs`). Handlers then ask [`Access::require`] for an action in a repository, which the access rules
//! decide (`access/rules.rs`). Whoever is refused is told what was missing: 401 if saying who they are may help, else 403.
//! Nothing of a secret is logged or kept.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use stella_storage::RepoName;

use crate::config::{Config, ConfigError};
use crate::error::ApiError;

mod action;
mod attempts;
mod bearer;
#[cfg(test)]
mod forge;
mod htpasswd;
mod identity;
mod issuers;
mod key_source;
mod keys;
mod passwords;
mod rules;
mod signer;
mod tokens;
mod unique_json;

pub use action::Action;
pub(crate) use htpasswd::{COST, Htpasswd, MAX_PASSWORD, check_name};
pub use identity::{Claim, Grant, Identity, Proof, Scope};
#[expect(unused_imports, reason = "nobody asks for tokens yet")]
pub(crate) use issuers::{Issuers, Proven};
#[expect(unused_imports, reason = "nobody asks for tokens yet")]
pub(crate) use keys::PublicKeys;
pub(crate) use rules::{Decision, Rules};
#[expect(unused_imports, reason = "nobody asks for tokens yet")]
pub(crate) use signer::{Signer, SignerError};
#[expect(unused_imports, reason = "nobody asks for tokens yet")]
pub(crate) use tokens::{Claims, Expected, TokenError, check, issuer_of};

use attempts::Attempts;
use passwords::{Passwords, TooBusy};

/// Finds out who clients are, and decides what they may do.
pub(crate) struct Access {
    rules: ArcSwap<Rules>,
    passwords: Option<Arc<Passwords>>,
    attempts: Attempts,
    anonymous: Arc<Identity>,
}

/// A name and a password as a client sent them.
struct Credentials {
    name: String,
    password: String,
}

impl Access {
    /// Reads what the configuration names.
    pub(crate) fn load(config: &Config) -> Result<Self, ConfigError> {
        let passwords = config.auth.htpasswd.as_deref().map(|path| {
            Passwords::load(path).map(Arc::new).map_err(|error| ConfigError::BadValue {
                origin: config.origin("auth.htpasswd"),
                key: "auth.htpasswd".to_owned(),
                reason: match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                },
            })
        });
        Ok(Access {
            rules: ArcSwap::from_pointee(Rules::new(config.access.clone())),
            passwords: passwords.transpose()?,
            attempts: Attempts::default(),
            anonymous: Arc::new(Identity::anonymous()),
        })
    }

    /// From now on these rules decide.
    pub(crate) fn set_rules(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config.access.clone())));
    }

    /// The file of passwords, if there is one, to be watched.
    pub(crate) fn passwords(&self) -> Option<Arc<Passwords>> {
        self.passwords.clone()
    }

    /// Who makes a request with these headers from this address.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Arc<Identity>, ApiError> {
        // Without a way to prove anything, what clients say of themselves is not looked at.
        let Some(passwords) = &self.passwords else { return Ok(Arc::clone(&self.anonymous)) };
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = all.next() else { return Ok(Arc::clone(&self.anonymous)) };
        if all.next().is_some() {
            return Err(self.unproven("the request has more than one Authorization header"));
        }
        let Some(Credentials { name, password }) = Credentials::of(header) else {
            return Err(
                self.unproven("the Authorization header is none of `Basic` with a name and a password")
            );
        };
        if !passwords.is_proven(&name, &password) {
            if let Some(seconds) = self.attempts.must_wait(client, Instant::now()) {
                return Err(ApiError::too_many_logins(seconds));
            }
            match passwords.prove(&name, &password).await {
                Ok(true) => {}
                Ok(false) => {
                    self.attempts.failed(client, Instant::now());
                    tracing::info!(%client, name = %name.escape_debug(), "a login failed");
                    return Err(self.unproven("the name or the password is wrong"));
                }
                Err(TooBusy) => return Err(ApiError::unavailable()),
            }
        }
        Ok(Arc::new(Identity { subject: name, proof: Proof::Password, ..Identity::default() }))
    }

    /// Whether a client may do something in a repository, or in the registry as a whole.
    pub(crate) fn allowed(&self, who: &Identity, action: Action, repo: Option<&RepoName>) -> bool {
        self.decide(who, action, repo).allowed
    }

    /// The same, and by which rule.
    pub(crate) fn decide(&self, who: &Identity, action: Action, repo: Option<&RepoName>) -> Decision {
        self.rules.load().decide(who, action, repo)
    }

    /// Fails unless a client may do one of these in a repository.
    pub(crate) fn require(
        &self,
        who: &Identity,
        actions: &[Action],
        repo: &RepoName,
    ) -> Result<(), ApiError> {
        let rules = self.rules.load();
        let mut rule = None;
        for action in actions {
            let decision = rules.decide(who, *action, Some(repo));
            if decision.allowed {
                return Ok(());
            }
            rule = rule.or(decision.rule);
        }
        let action = actions.first().map_or("pull", |action| action.as_str());
        if who.is_anonymous() && self.passwords.is_some() {
            return Err(self.unproven(&format!("to {action} in {repo}, log in first")));
        }
        let who = if who.is_anonymous() { "anonymous" } else { who.subject.as_str() };
        let why = match rule {
            Some(number) => format!("rule {number} of the registry's access rules denies it"),
            None => "none of the registry's access rules allows it".to_owned(),
        };
        Err(ApiError::denied(format!("{who} may not {action} in {repo}: {why}")))
    }

    /// Fails unless a client may do anything at all.
    pub(crate) fn admit(&self, who: &Identity) -> Result<(), ApiError> {
        if self.rules.load().admit(who) {
            return Ok(());
        }
        if who.is_anonymous() && self.passwords.is_some() {
            return Err(self.unproven("log in first"));
        }
        Err(ApiError::denied("none of the registry's access rules is for you".to_owned()))
    }

    fn unproven(&self, message: &str) -> ApiError {
        ApiError::unauthorized(message.to_owned(), "Basic realm=\"stella\", charset=\"UTF-8\"")
    }
}

impl Credentials {
    /// RFC 7617.
    fn of(header: &HeaderValue) -> Option<Self> {
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
