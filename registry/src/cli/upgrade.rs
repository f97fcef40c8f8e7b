// SPDX-License-Identifier: AGPL-3.0-only
//! `stella upgrade`: what an older version wrote is brought to the present one, by an operator who decides
//! when. It says what it changes before it does.

use std::fmt;

use clap::Args;
use serde::Serialize;
use stella_storage::{Error, Store, StoreOptions, Upgrade};

use super::administer::{Output, begin, expect_data};
use super::{Environment, Outcome, Place};
use crate::admin::Failed;
use crate::server;

#[derive(Args)]
pub(super) struct UpgradeArgs {
    /// Tell what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// What was changed, or would be.
#[derive(Serialize)]
struct Upgraded {
    /// The version that was found, where it was an older one.
    from: Option<u32>,
    changes: Vec<String>,
    done: bool,
}

impl fmt::Display for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upgraded { from, changes, done } = self;
        let Some(from) = from else { return f.write_str("the data is of the present version already") };
        let (will, then) = if *done {
            ("is upgraded", "older programs refuse it now")
        } else {
            ("would be upgraded", "nothing was changed")
        };
        write!(
            f,
            "the data was of schema version {from} and {will}, which {}; {then}",
            changes.join(", and ")
        )
    }
}

pub(super) fn upgrade(args: UpgradeArgs, env: Environment) -> Outcome {
    args.output.report(|| {
        let config = args.place.load(env)?;
        let waiting = StoreOptions { upgrade: Upgrade::Wait, ..server::store_options(&config)? };
        expect_data(&waiting)?;
        let runtime = begin(&config)?;
        let upgraded = match runtime.block_on(Store::open(&waiting)) {
            Ok(_) => Upgraded { from: None, changes: Vec::new(), done: false },
            Err(Error::OlderSchema { found, changes, .. }) => {
                if !args.dry_run {
                    let options = StoreOptions { upgrade: Upgrade::Auto, ..waiting };
                    runtime.block_on(Store::open(&options)).map_err(Failed::from)?;
                }
                Upgraded { from: Some(found), changes, done: !args.dry_run }
            }
            Err(error) => return Err(Failed::from(error).into()),
        };
        args.output.end(upgraded, false)
    })
}
