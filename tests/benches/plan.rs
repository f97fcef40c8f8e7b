// SPDX-License-Identifier: AGPL-3.0-only
//! What a run measures: which servers, how much of everything, how long, where.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::arguments::Arguments;
use crate::rounds::progress;
use crate::server::{Kind, Program};

/// A run's plan.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What was asked for.
    pub(crate) arguments: Arguments,
    /// How much of everything.
    pub(crate) sizes: Sizes,
    /// How many rounds.
    pub(crate) rounds: usize,
    /// How long a turn takes.
    pub(crate) turn: Duration,
    /// Who is measured.
    pub(crate) programs: Vec<Program>,
    /// Where everything of this run lies.
    pub(crate) folder: PathBuf,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Bytes of a large blob that is pulled.
    pub(crate) large: u64,
    /// How many small blobs, of 1 MiB each, are pulled in turn.
    pub(crate) smalls: u64,
    /// Bytes of a large blob that is pushed.
    pub(crate) pushed: usize,
    /// Bytes that are pushed in a turn.
    pub(crate) pushes: usize,
    /// Tags of a large repository.
    pub(crate) tags: u64,
    /// Referrers of a subject that has many.
    pub(crate) referrers: u64,
    /// Repositories of a large catalog.
    pub(crate) repositories: u64,
    /// Manifests of a store that is started.
    pub(crate) manifests: u64,
    /// Policies, and digests that they are about.
    pub(crate) policies: u64,
    pub(crate) judged: u64,
    /// Clients that stand still in the middle of an upload.
    pub(crate) idle_uploads: usize,
    /// Connections that stand still between requests.
    pub(crate) idle_connections: usize,
}

pub(crate) const MIB: u64 = 1 << 20;

impl Sizes {
    const FULL: Self = Self {
        large: 1 << 30,
        smalls: 64,
        pushed: 64 << 20,
        pushes: 1 << 30,
        tags: 50_000,
        referrers: 5_000,
        repositories: 10_000,
        manifests: 300_000,
        policies: 1_000,
        judged: 5_000,
        idle_uploads: 500,
        idle_connections: 2_000,
    };
    const QUICK: Self = Self {
        large: 16 << 20,
        smalls: 8,
        pushed: 4 << 20,
        pushes: 32 << 20,
        tags: 1_000,
        referrers: 100,
        repositories: 300,
        manifests: 1_000,
        policies: 100,
        judged: 200,
        idle_uploads: 50,
        idle_connections: 200,
    };
}

impl Plan {
    pub(crate) fn new(arguments: Arguments) -> anyhow::Result<Self> {
        let quick = arguments.quick;
        let seconds = arguments.seconds.unwrap_or(if quick { 0.3 } else { 2.0 });
        let turn = Duration::try_from_secs_f64(seconds).context("--seconds is not a length of time")?;
        let rounds = arguments.rounds.unwrap_or(if quick { 2 } else { 5 });
        anyhow::ensure!(rounds > 0, "--rounds must be at least 1");
        let mut kinds = arguments.servers.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let find = |&kind: &Kind| Program::find(kind, arguments.stella.as_deref());
        let programs = if arguments.list {
            Vec::new()
        } else {
            kinds.iter().map(find).collect::<anyhow::Result<_>>()?
        };
        let folder = arguments.within.clone().unwrap_or_default();
        let sizes = if quick { Sizes::QUICK } else { Sizes::FULL };
        let policies = arguments.policies.unwrap_or(sizes.policies);
        let judged = arguments.digests.unwrap_or(sizes.judged);
        let sizes = Sizes { policies, judged, ..sizes };
        Ok(Self { arguments, sizes, rounds, turn, programs, folder })
    }

    /// Whether the row of this name is to be measured.
    pub(crate) fn wants(&self, family: &str, name: &str) -> bool {
        let name = format!("{family}: {name}");
        let only = &self.arguments.only;
        let asked = only.is_empty() || only.iter().any(|text| name.contains(text.as_str()));
        if asked && self.arguments.list {
            progress(&name);
        }
        asked && !self.arguments.list
    }

    /// How long preparing may take.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.arguments.patience)
    }
}

/// A number of bytes as people write it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        1_073_741_824.. if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ => format!("{} MiB", bytes / MIB),
    }
}
