// SPDX-License-Identifier: AGPL-3.0-only
//! `stella fsck`: a check of everything that is kept.

use clap::Args;

use super::administer::{Administration, Output};
use super::{Environment, Outcome, Place};
use crate::admin::Fsck;

#[derive(Args)]
pub(super) struct FsckArgs {
    /// Repair what can be repaired
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn fsck(args: FsckArgs, env: Environment) -> Outcome {
    args.output
        .report(|| Administration::open(args.place, env, args.output)?.run(Fsck { repair: args.repair }))
}
