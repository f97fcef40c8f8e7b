// SPDX-License-Identifier: AGPL-3.0-only
//! Who makes a request, made once for each request and in one place (`access.rs`), however it was proven.
//!
//! Anonymous is an identity like any other: its subject is empty, and it has no groups and no claims.

use std::collections::BTreeMap;

use stella_storage::{RepoName, RepoPattern, Timestamp};

use super::Action;

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name; empty for anonymous.
    pub subject: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// What its token says of it.
    pub claims: BTreeMap<String, Claim>,
    /// The repositories that its issuer's mapping calls its own.
    pub own: Vec<RepoPattern>,
    /// How all that was proven.
    pub proof: Proof,
    /// What a robot may do, or what the token server of its token said: then rules cannot allow it more, only deny.
    pub grants: Option<Vec<Grant>>,
    /// What a token of ours was given for: then it may do nothing else, whatever the rules allow.
    pub scope: Option<Scope>,
    /// What a manifest that it pushes is recorded with: the token's session.
    pub session: Option<String>,
    /// Of the password or the secret by which it was proven: unlike that of any other.
    pub stamp: Option<String>,
    /// When what it was proven by ends.
    pub until: Option<Timestamp>,
}

/// Actions in repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What is allowed.
    pub actions: Vec<Action>,
    /// Where.
    pub repositories: Vec<RepoPattern>,
}

impl Grant {
    /// Whether it gives this.
    pub(crate) fn gives(&self, action: Action, repo: Option<&RepoName>) -> bool {
        // Who signs must see what it signs.
        let implied = action == Action::Preview && self.actions.contains(&Action::Sign);
        (implied || self.actions.contains(&action))
            && repo.is_some_and(|repo| self.repositories.iter().any(|pattern| pattern.matches(repo)))
    }
}

/// What a token was given for: the actions `pull`, `push` and `delete` by repository, and the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// By the repository's name.
    pub repositories: BTreeMap<String, Vec<Action>>,
    /// Whether repositories may be listed.
    pub catalog: bool,
}

/// A claim of a token; numbers and booleans as they are written in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// One value.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// How an identity was proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Not at all.
    #[default]
    None,
    /// By a password of the htpasswd file.
    Password,
    /// By the secret of a robot.
    Robot,
    /// By a token of this issuer.
    Token {
        /// Who signed it.
        issuer: String,
    },
    /// By access to the administration socket.
    Socket,
}

impl Proof {
    /// As it stands in the audit trail.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Proof::None => "none",
            Proof::Password => "password",
            Proof::Robot => "robot",
            Proof::Token { .. } => "token",
            Proof::Socket => "socket",
        }
    }
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.proof == Proof::None
    }

    /// What it is called where a person reads it.
    pub(crate) fn name(&self) -> &str {
        if self.is_anonymous() { "anonymous" } else { &self.subject }
    }

    /// Whether its token, if it has one, was given for this.
    pub(crate) fn scope_has(&self, action: Action, repo: Option<&RepoName>) -> bool {
        let (Some(scope), Some(repo)) = (&self.scope, repo) else { return true };
        scope.repositories.get(repo.as_str()).is_some_and(|actions| match action {
            Action::Pull | Action::Push | Action::Delete => actions.contains(&action),
            // Tools that sign ask for a token to push.
            Action::Sign => actions.contains(&Action::Push),
            // Whatever was asked for: who reads sees what is not released, as far as it may.
            Action::Preview => actions.contains(&Action::Pull),
            Action::Admin => false,
        })
    }
}

impl Scope {
    /// Whether it is good for nothing but to pull.
    pub(crate) fn only_pulls(&self) -> bool {
        !self.catalog && self.repositories.values().flatten().all(|action| *action == Action::Pull)
    }
}

impl Claim {
    /// Its values.
    pub fn values(&self) -> &[String] {
        match self {
            Claim::One(value) => std::slice::from_ref(value),
            Claim::Many(values) => values,
        }
    }
}
