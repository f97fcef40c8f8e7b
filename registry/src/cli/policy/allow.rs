// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy allow`: break-glass, for whoever has the data.

use clap::Args;
use stella_storage::{Digest, RepoName};

use super::super::administer::{Administration, Output};
use super::super::connection::AllVariables;
use super::super::{Environment, Outcome, Place};
use crate::admin::{Allowances, NewAllowance};
use crate::config::Period;

#[derive(Args)]
#[command(after_help = "\
What is allowed is given to readers at the next request, and a tag whose candidate it is is released. Each decision says
by whom and why. When the time is over, policies decide again: a tag that still names it then answers nothing. What is on
a list of denied digests stays denied. It works beside a running server, and without one.

Examples:
  stella policy allow sha256:… --repository prod/app --reason 'INC-42: fix for the outage' --expires 24h
  stella policy allow --list
  stella policy allow sha256:… --repository prod/app --revoke")]
pub(in crate::cli) struct AllowArgs {
    /// The digest of an image; an index stands for what it lists
    #[arg(value_name = "DIGEST", required_unless_present = "list")]
    digest: Option<Digest>,
    /// Only in this repository [default: everywhere]
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    repository: Option<RepoName>,
    /// Why, for whoever asks later
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["list", "revoke"])]
    reason: Option<String>,
    /// How long, such as 24h; at most 30d
    #[arg(long, value_name = "PERIOD", required_unless_present_any = ["list", "revoke"])]
    expires: Option<Period>,
    /// List what is allowed, and what was until it was over
    #[arg(long, conflicts_with_all = ["digest", "reason", "expires", "revoke"])]
    list: bool,
    /// Take it back, at once
    #[arg(long, conflicts_with_all = ["reason", "expires"])]
    revoke: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn allow(args: AllowArgs, env: Environment, all: &AllVariables) -> Outcome {
    let AllowArgs { digest, repository, reason, expires, list, revoke, output, place } = args;
    let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
    let repository = repository.map(|name| name.to_string());
    let asked = if list {
        Allowances::List
    } else if revoke {
        Allowances::Revoke { digest, repository }
    } else {
        let millis =
            expires.map_or(0, |period| u64::try_from(period.duration().as_millis()).unwrap_or(u64::MAX));
        let reason = reason.unwrap_or_default();
        Allowances::Allow(NewAllowance { digest, repository, reason, by: who(all), expires: millis })
    };
    output.report(|| Administration::open(place, env, output)?.run(asked))
}

/// Who runs this, as far as the environment knows.
fn who(all: &AllVariables) -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let mut named = named.filter_map(|name| all.get(name)?.to_str().map(str::to_owned));
    let unnamed = || format!("uid {}", rustix::process::getuid().as_raw());
    named.find(|name| !name.is_empty()).unwrap_or_else(unnamed)
}
