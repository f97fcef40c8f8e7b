// SPDX-License-Identifier: AGPL-3.0-only
//! What can be done to a repository.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Something that an access rule allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading what is released.
    Pull,
    /// Writing blobs, manifests and tags.
    Push,
    /// Removing manifests, tags and blobs.
    Delete,
    /// Pushing signatures and other artifacts that name a subject, and nothing else. Implies `preview`.
    Sign,
    /// Reading what is not released yet.
    Preview,
    /// Everything that concerns the registry as a whole.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 6] =
        [Action::Pull, Action::Push, Action::Delete, Action::Sign, Action::Preview, Action::Admin];

    /// As it is written in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::Sign => "sign",
            Action::Preview => "preview",
            Action::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    /// A sentence for a person.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Action::ALL.into_iter().find(|action| action.as_str() == text).ok_or_else(|| {
            format!("{text:?} is no action; there are pull, push, delete, sign, preview and admin")
        })
    }
}
