// SPDX-License-Identifier: AGPL-3.0-only
//! Who makes a request, made once for each request and in one place (`access.rs`), however it was proven.
//!
//! Anonymous is an identity like any other: its subject is empty, and it has no groups and no claims.

use std::collections::BTreeMap;

use stella_storage::RepoPattern;

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
}

/// Actions in repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What is allowed.
    pub actions: Vec<Action>,
    /// Where.
    pub repositories: Vec<RepoPattern>,
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

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.proof == Proof::None
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
