// SPDX-License-Identifier: AGPL-3.0-only
//! A `ClusterImagePolicy` as it is judged: what its document said, with names and URIs resolved.

use serde::Serialize;

use crate::authority::Authority;
use crate::rego::Rego;
use crate::{Digest, ImageGlob};

/// Which images need whose word.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImagePolicy {
    pub(crate) name: String,
    /// Where its name stands: `FILE:LINE:COLUMN`.
    #[serde(skip)]
    pub(crate) at: String,
    /// It is about what any of them matches.
    pub(crate) images: Vec<ImageGlob>,
    /// Any of them is enough.
    pub(crate) authorities: Vec<Authority>,
    /// What must hold of those that passed.
    pub(crate) rule: Option<Rego>,
    pub(crate) mode: Mode,
}

/// What a policy that fails does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// It counts.
    Enforce,
    /// It is told.
    Warn,
}

impl ImagePolicy {
    /// Whether it is about this digest in `HOST/REPOSITORY`.
    pub(crate) fn is_about(&self, name: &str, digest: &Digest) -> bool {
        self.images.iter().any(|glob| glob.matches(name, digest))
    }

    /// Whether it is about any digest in `HOST/REPOSITORY`.
    pub(crate) fn may_be_about(&self, name: &str) -> bool {
        self.images.iter().any(|glob| glob.may_match(name))
    }
}
