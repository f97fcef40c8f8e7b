// SPDX-License-Identifier: AGPL-3.0-only
//! `stella backup`: create, verify, restore.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use stella_storage::{Error, SnapshotName, restore, verify};

use super::administer::{Administration, Output, begin, run_alone};
use super::{Environment, Outcome, Place};
use crate::admin::{Backup, Failed};
use crate::config::Config;
use crate::server;

#[derive(Subcommand)]
pub(super) enum BackupCommand {
    /// Add a snapshot of everything to the backups in DIR, while the registry goes on
    Create(Create),
    /// Read the backups in DIR to the last byte, and tell what is damaged
    Verify(Verify),
    /// Restore a snapshot from DIR into an empty or absent data directory
    Restore(Restore),
}

#[derive(Args)]
pub(super) struct Create {
    /// The folder of backups; made when absent. Blobs that it has already are not copied again
    #[arg(value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(super) struct Verify {
    /// The folder of backups
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Check this snapshot only [default: all]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Restore {
    /// The folder of backups
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Restore this snapshot [default: the latest]
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn backup(command: BackupCommand, env: Environment) -> Outcome {
    match command {
        BackupCommand::Create(args) => args.output.report(|| create(&args.to, args.place, env, args.output)),
        BackupCommand::Verify(args) => args.output.report(|| verify_all(&args)),
        BackupCommand::Restore(args) => args.output.report(|| bring_back(args, env)),
    }
}

fn create(to: &Path, place: Place, env: Environment, output: Output) -> Outcome {
    // A server works in another directory than its client.
    let to = std::path::absolute(to).with_context(|| format!("cannot find {}", to.display()))?;
    Administration::open(place, env, output)?.run(Backup { to })
}

fn verify_all(args: &Verify) -> Outcome {
    let snapshot = parse(args.snapshot.as_deref())?;
    let runtime = begin(&Config::default())?;
    run_alone(
        &runtime,
        args.output,
        async |items| verify(&args.from, snapshot.as_ref(), items).await,
        |found| found.damaged > 0 || found.damaged_snapshots > 0,
    )
}

fn bring_back(args: Restore, env: Environment) -> Outcome {
    let snapshot = parse(args.snapshot.as_deref())?;
    let config = args.place.load(env)?;
    let options = server::store_options(&config)?;
    let runtime = begin(&config)?;
    run_alone(
        &runtime,
        args.output,
        async |items| restore(&args.from, snapshot.as_ref(), &options, items).await,
        |restored| restored.damaged > 0,
    )
}

fn parse(snapshot: Option<&str>) -> Result<Option<SnapshotName>, Failed> {
    snapshot.map(|name| name.parse().map_err(|error: Error| error.into())).transpose()
}
