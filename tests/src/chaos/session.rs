// SPDX-License-Identifier: AGPL-3.0-only
//! An upload session as the journal knows it: what it is to become, and how far it is at least and at most.

use std::time::Instant;

use crate::noise::{digest, noise};

/// Bytes that can be made again at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) len: usize,
    pub(crate) digest: String,
}

impl Recipe {
    /// `len` bytes of noise, and what they are called.
    pub(crate) fn new(seed: u64, len: usize) -> (Self, Vec<u8>) {
        let bytes = noise(seed, len as u64);
        (Self { seed, len, digest: digest(&bytes) }, bytes)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        noise(self.seed, self.len as u64)
    }
}

/// Whether a session was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// A closing PUT was sent.
    Finishing,
    /// A DELETE was sent.
    Cancelling,
    /// The server said that it has ended.
    Ended,
}

/// An upload session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) owner: usize,
    pub(crate) repo: String,
    pub(crate) recipe: Recipe,
    /// As many bytes the server has acknowledged.
    pub(crate) acknowledged: usize,
    /// Where to go on: the server said that it has as many, which need not outlive it.
    pub(crate) position: usize,
    /// As many bytes it was ever sent.
    pub(crate) sent: usize,
    pub(crate) stage: Stage,
    /// When the last request was sent that it acknowledged.
    pub(crate) touched: Instant,
}

impl Session {
    pub(crate) fn new(owner: usize, repo: &str, recipe: &Recipe, touched: Instant) -> Self {
        let (repo, recipe, stage) = (repo.to_owned(), recipe.clone(), Stage::Open);
        Self { owner, repo, recipe, acknowledged: 0, position: 0, sent: 0, stage, touched }
    }
}
