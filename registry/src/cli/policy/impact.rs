// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy impact`: what other policies would take from readers, before they are in force.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::administer::{Administration, Output};
use super::super::signing::usage;
use super::super::{Environment, Outcome, Place};
use super::{DEFAULT, is_root_name};
use crate::admin::Impact;

#[derive(Args)]
#[command(after_help = "\
It lists each tag that readers get now and would not get then, the one that was pulled last first: when a tag was pulled
is known to the day. It asks the server that runs on the data, and changes nothing. `policy.max_impact` has a reload
refused that would stop more tags than that.

Examples:
  stella policy impact --policy new/ --config stella.yaml
  stella policy impact --policy new.yaml --json | jq -r 'select(.tag) | \"\\(.repository):\\(.tag)\"'")]
pub(in crate::cli) struct ImpactArgs {
    /// A file with the new policies, or a folder of them; may be given several times
    #[arg(long, value_name = "PATH", required = true)]
    policy: Vec<PathBuf>,
    /// A trust root under the name that policies have for it [default: those of the server]
    #[arg(long, value_name = "[NAME=]FILE")]
    trusted_root: Vec<String>,
    /// What the new policies call the registry [default: what the server's configuration does]
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn impact(args: ImpactArgs, env: Environment) -> Outcome {
    let ImpactArgs { policy, trusted_root, host, output, place } = args;
    output.report(|| {
        let paths = policy.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
        let roots = trusted_root.iter().map(|text| {
            let named = text.split_once('=').filter(|(name, _)| is_root_name(name));
            let (name, file) = named.unwrap_or((DEFAULT, text));
            Ok((name.to_owned(), absolute(Path::new(file))?))
        });
        let roots = roots.collect::<anyhow::Result<_>>()?;
        Administration::open(place, env, output)?.run(Impact { paths, roots, host })
    })
}

/// As the server finds it, which works somewhere else.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().map_err(|error| usage(format!("cannot read {}: {error}", path.display())))
}
