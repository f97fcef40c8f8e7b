// SPDX-License-Identifier: AGPL-3.0-only
//! Who may do what.
//!
//! A request's [`Identity`] is made once, in `access/authenticate.rs`, from what the request carries: nothing (anonymous),
//! a name and a password, or a token. Handlers then ask [`Access::require`] for an action in a repository. What decides
//! are the access rules (`access/rules.rs`), narrowed by what the identity brings along: a robot's grants, a token's
//! scope. Whoever is refused is told what was missing: 401 if saying who they are may help (`access/challenge.rs`), else
//! 403. Nothing of a secret is logged or kept.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use stella_storage::{RepoName, Store};

use crate::config::{self, Config, ConfigError, ExternalUrl};
use crate::error::ApiError;
use crate::unseen::visible;

mod action;
mod attempts;
mod authenticate;
mod bearer;
mod challenge;
mod checked;
mod claims;
#[cfg(test)]
mod forge;
mod htpasswd;
mod identity;
mod issuers;
mod key_source;
mod keys;
mod minted;
mod passwords;
mod prove;
pub(crate) mod robots;
mod rules;
mod scope;
mod service;
mod signer;
mod tokens;
mod turns;

pub use action::Action;
pub(crate) use challenge::Wanted;
pub(crate) use htpasswd::{COST, Htpasswd, MAX_PASSWORD, check_name, check_new_name};
pub use identity::{Claim, Grant, Identity, Proof, Scope};
pub(crate) use passwords::Passwords;
pub(crate) use prove::{Proven, Wish, hash, secret};
pub(crate) use rules::{Decision, Rules};
pub(crate) use tokens::MAX_TOKEN;

use attempts::Attempts;
use checked::CheckedTokens;
use htpasswd::MAX_NAME;
use issuers::Issuers;
use service::TokenService;

/// What a registry is called that has no `external_url`.
const SERVICE: &str = "stella-registry";

/// Finds out who clients are, and decides what they may do.
pub(crate) struct Access {
    rules: ArcSwap<Rules>,
    passwords: Option<Arc<Passwords>>,
    issuers: Issuers,
    /// There from when the store is.
    tokens: Option<Arc<TokenService>>,
    checked: CheckedTokens,
    attempts: Attempts,
    anonymous: Arc<Identity>,
    challenge: config::Challenge,
    /// What we are called in tokens.
    service: String,
    /// Whether robots may log in.
    robots: bool,
    /// The token server elsewhere that clients are sent to, and what we are called there.
    elsewhere: Option<(String, String)>,
}

/// Why a request was refused, for the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The rule that decided, from 1, if one did.
    pub(crate) rule: Option<usize>,
}

/// Who a client said it was that could not prove it, for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed(pub(crate) String);

impl Claimed {
    /// As much of the name as names have, with all that is in it to be seen.
    pub(crate) fn of(name: &str) -> Self {
        let (name, rest) = match name.char_indices().nth(MAX_NAME) {
            Some((end, _)) => (name.get(..end).unwrap_or_default(), "…"),
            None => (name, ""),
        };
        Claimed(visible(name) + rest)
    }
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
        let service = config.external_url.as_ref().map_or(SERVICE.to_owned(), ExternalUrl::authority);
        for (key, issuer) in config
            .auth
            .issuers
            .iter()
            .map(|entry| ("auth.issuers", &entry.issuer))
            .chain(config.auth.token_servers.iter().map(|entry| ("auth.token_servers", &entry.issuer)))
        {
            if *issuer == service {
                let reason = format!("the issuer {issuer:?} is this registry itself");
                return Err(ConfigError::BadValue {
                    origin: config.origin(key),
                    key: key.to_owned(),
                    reason,
                });
            }
        }
        Ok(Access {
            rules: ArcSwap::from_pointee(Rules::new(config.access.clone())),
            passwords: passwords.transpose()?,
            issuers: Issuers::load(config)?,
            tokens: None,
            checked: CheckedTokens::default(),
            attempts: Attempts::default(),
            anonymous: Arc::new(Identity::anonymous()),
            challenge: config.auth.challenge,
            elsewhere: config
                .auth
                .token_servers
                .iter()
                .find_map(|server| Some((server.realm.clone()?, server.audience.clone()))),
            robots: config.auth.robots && !config.access.is_empty(),
            service,
        })
    }

    /// The same, with the keys that sign our tokens.
    pub(crate) async fn with_tokens(
        mut self,
        store: &Store,
        settings: &config::Token,
    ) -> anyhow::Result<Self> {
        if self.can_be_proven() {
            let service = TokenService::open(store, &self.service, settings).await;
            self.tokens = Some(Arc::new(service.context("cannot read the keys that sign tokens")?));
        }
        Ok(self)
    }

    /// How often that has changed which says whether a token is right, but for robots: keys, issuers and passwords.
    fn generation(&self) -> u64 {
        self.issuers.generation()
            + self.tokens.as_ref().map_or(0, |tokens| tokens.generation())
            + self.passwords.as_ref().map_or(0, |passwords| passwords.generation())
    }

    /// From now on these rules decide.
    pub(crate) fn set_rules(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config.access.clone())));
    }

    /// Begins to keep the issuers' keys fresh.
    pub(crate) fn watch_issuers(&self) -> Vec<tokio::task::JoinHandle<()>> {
        self.issuers.watch().into_iter().map(tokio::spawn).collect()
    }

    /// The file of passwords, if there is one, to be watched.
    pub(crate) fn passwords(&self) -> Option<Arc<Passwords>> {
        self.passwords.clone()
    }

    /// The header by which a client that knows us as `base` learns what was wanted.
    pub(crate) fn challenge(&self, wanted: &Wanted, base: &str) -> String {
        match &self.elsewhere {
            Some((realm, service)) if self.challenge == config::Challenge::Token => {
                wanted.header(realm, service)
            }
            _ if self.challenge == config::Challenge::Token => {
                wanted.header(&format!("{base}/token"), &self.service)
            }
            _ => format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.service),
        }
    }

    /// Whether a client that says nothing of itself could be told apart if it did.
    pub(crate) fn could_log_in(&self, who: &Identity) -> bool {
        who.is_anonymous() && who.scope.is_none() && self.can_be_proven()
    }

    /// Whether there is a way to prove who one is.
    fn can_be_proven(&self) -> bool {
        self.passwords.is_some() || !self.issuers.is_empty() || self.robots
    }

    /// Whether a client may do something in a repository, or in the registry as a whole.
    pub(crate) fn allowed(&self, who: &Identity, action: Action, repo: Option<&RepoName>) -> bool {
        who.scope_has(action, repo) && self.decide(who, action, repo).allowed
    }

    /// The same, whatever its token was given for, and by which rule.
    pub(crate) fn decide(&self, who: &Identity, action: Action, repo: Option<&RepoName>) -> Decision {
        let decision = self.rules.load().decide(who, action, repo);
        match &who.grants {
            // A rule that denies holds for all; one that allows is not meant for who brings along what it may do.
            Some(grants) if decision.allowed || decision.rule.is_none() => {
                let granted = grants.iter().any(|grant| grant.gives(action, repo));
                Decision { allowed: granted, rule: None }
            }
            _ => decision,
        }
    }

    /// Fails unless a client may do one of these in a repository; says which it may.
    pub(crate) fn require(
        &self,
        who: &Identity,
        actions: &[Action],
        repo: &RepoName,
    ) -> Result<Action, ApiError> {
        let (mut rule, mut narrow) = (None, false);
        for &action in actions {
            let decision = self.decide(who, action, Some(repo));
            if decision.allowed {
                if who.scope_has(action, Some(repo)) {
                    return Ok(action);
                }
                narrow = true;
            }
            rule = rule.or(decision.rule);
        }
        let action = actions.first().copied().unwrap_or(Action::Pull);
        let wanted = Wanted::of(action, repo);
        if narrow || who.is_anonymous() && who.scope.is_some() {
            let message = if who.is_anonymous() {
                format!("to {action} in {repo}, log in first")
            } else {
                format!("the token is not for this: it needs {action} in {repo}")
            };
            return Err(ApiError::unauthorized(message, wanted.insufficient()).refused(Refused { rule }));
        }
        if who.is_anonymous() && self.can_be_proven() {
            let message = format!("to {action} in {repo}, log in first");
            return Err(ApiError::unauthorized(message, wanted).refused(Refused { rule }));
        }
        let why = match rule {
            Some(number) => format!("rule {number} of the registry's access rules denies it"),
            None if who.grants.is_some() => "what it was given does not include it".to_owned(),
            None => "none of the registry's access rules allows it".to_owned(),
        };
        let message = format!("{} may not {action} in {repo}: {why}", who.name());
        Err(ApiError::denied(message).refused(Refused { rule }))
    }

    /// Fails unless a client may see which repositories there are: of those it sees what it may pull.
    pub(crate) fn require_catalog(&self, who: &Identity) -> Result<(), ApiError> {
        if who.scope.as_ref().is_some_and(|scope| !scope.catalog) {
            let message = "the token is not for the list of repositories";
            let refused = Refused { rule: None };
            return Err(ApiError::unauthorized(message, Wanted::catalog().insufficient()).refused(refused));
        }
        if who.grants.is_some() || self.rules.load().admit(who) {
            return Ok(());
        }
        if who.is_anonymous() && self.can_be_proven() {
            return Err(ApiError::unauthorized("log in first", Wanted::catalog()));
        }
        let message = format!("none of the registry's access rules is about {}", who.name());
        Err(ApiError::denied(message).refused(Refused { rule: None }))
    }

    /// Fails unless a client may do something that concerns the registry as a whole.
    pub(crate) fn require_admin(&self, who: &Identity) -> Result<(), ApiError> {
        let decision = self.decide(who, Action::Admin, None);
        if decision.allowed {
            return Ok(());
        }
        let refused = Refused { rule: decision.rule };
        if who.is_anonymous() && self.can_be_proven() {
            return Err(ApiError::unauthorized("log in first", Wanted::default()).refused(refused));
        }
        Err(ApiError::denied(format!("{} is no admin of this registry", who.name())).refused(refused))
    }

    /// Whether a client that asks for nothing but an answer is asked who it is: clients learn from that how to log in.
    pub(crate) fn greets(&self, who: &Identity) -> Result<(), ApiError> {
        if !who.is_anonymous() || who.scope.is_some() || !self.can_be_proven() {
            return Ok(());
        }
        Err(ApiError::unauthorized("log in first", Wanted::default()))
    }
}

/// From where, and how, a client speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
}
