// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy baseline`: what readers get today, signed, so that enforcement begins without an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use stella_policy::Time;

use super::super::administer::{Administration, Output};
use super::super::connection::AllVariables;
use super::super::key_files::replace;
use super::super::sign::now;
use super::super::signing::{private_key, usage};
use super::super::{Environment, Outcome, Place, note};
use crate::admin::Released;
use crate::config::Period;
use crate::gate::signed_baseline;

/// What is not signed after so long never will be.
const LONGEST: u64 = 365 * 86_400;

#[derive(Args)]
#[command(after_help = "\
It lists each digest that readers get by some tag now, with its repository. The server gives it to readers until the list
expires, whatever policies ask, if its configuration names the file and the key:
  policy:
    baseline: {file: /etc/stella/baseline.json, key: /etc/stella/cosign.pub}
What is on a list of denied digests stays denied. It asks the server that runs on the data, and changes nothing there.

Examples:
  stella policy baseline --key cosign.key --expires 30d -o baseline.json --config stella.yaml")]
pub(in crate::cli) struct BaselineArgs {
    /// The private key: a PEM file, as `generate-key-pair` writes it, or `env://VARIABLE`
    #[arg(long, value_name = "FILE")]
    key: String,
    /// How long it counts, such as 30d; at most 365d
    #[arg(long, value_name = "PERIOD")]
    expires: Period,
    /// Where to write it
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

pub(super) fn baseline(args: BaselineArgs, env: Environment, all: &AllVariables) -> Outcome {
    let BaselineArgs { key, expires, file, output, place } = args;
    output.report(|| {
        let seconds = expires.duration().as_secs();
        if seconds == 0 || seconds > LONGEST {
            return Err(usage("a baseline counts for 1s to 365d"));
        }
        let key = private_key(&key, all)?;
        let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let here = Administration::open(place, env, output)?.collect(Released {}, |image| {
            images.entry(image.repository).or_default().insert(image.digest);
        })?;
        let (count, repositories) = (images.values().map(BTreeSet::len).sum::<usize>(), images.len());
        let created = now();
        let until = Time(created.0.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)));
        let bytes = signed_baseline(&key, &here.host, (created, until), images)?;
        replace(&file, &bytes)?;
        note(&format!(
            "{} images in {repositories} repositories of {} are in {}, until {until}",
            count,
            here.host,
            file.display()
        ));
        Ok(0)
    })
}
