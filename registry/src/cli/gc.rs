// SPDX-License-Identifier: AGPL-3.0-only
//! `stella gc`: a round of collection now.

use clap::Args;

use super::administer::{Administration, Output};
use super::{Environment, Outcome, Place};
use crate::admin::{Gc, Resume};

#[derive(Args)]
pub(super) struct GcArgs {
    /// Tell what would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Turn collection on again first: it is off after a restore, and pauses when the clock jumps
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn gc(args: GcArgs, env: Environment) -> Outcome {
    args.output.report(|| {
        let administration = Administration::open(args.place, env, args.output)?;
        if args.resume {
            administration.run(Resume {})?;
        }
        administration.run(Gc { dry_run: args.dry_run })
    })
}
