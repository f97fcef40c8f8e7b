// SPDX-License-Identifier: AGPL-3.0-only
//! `stella status`: what readers of an image get, what was pushed last, and what stands between.

use std::fmt::Write as _;

use clap::Args;

use super::connection::{AllVariables, Format, told};
use super::decision::{Decided, clean, connect};
use super::signing::AtRegistry;
use super::{Outcome, print};
use crate::exit;
use crate::remote::ImageName;

#[derive(Args)]
#[command(after_help = "\
It ends with 9 if readers do not get what was pushed last. It takes `pull` in the repository.

Examples:
  stella status registry.example/prod/app:1.0
  stella status --output json registry.example/prod/app:1.0 | jq -r .released")]
pub(super) struct StatusArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    registry: AtRegistry,
}

pub(super) fn status(args: StatusArgs, env: &AllVariables) -> Outcome {
    let StatusArgs { image, format, registry } = args;
    let options = registry.options(env);
    format.run(async move {
        let (name, remote) = connect(&options, &image).await?;
        let (decided, value) = told(Decided::ask(&remote, &name).await, &name)?;
        print(&if format.is_json() { format!("{value}\n") } else { lines(&name, &decided) })?;
        Ok(if decided.is_out() { 0 } else { exit::POLICY })
    })
}

fn lines(name: &ImageName, decided: &Decided) -> String {
    let mut text = format!("{name}\n");
    let mut line = |what: &str, is: &str| {
        // Text grows without fail.
        let _always = writeln!(text, "{what:<10} {is}");
    };
    match (&decided.released, &decided.candidate) {
        (None, None) => line("digest", &clean(&decided.digest)),
        (released, candidate) => {
            line("released", &released.as_deref().map_or("nothing yet".to_owned(), clean));
            if candidate != released {
                line("candidate", &candidate.as_deref().map_or("none".to_owned(), clean));
            }
        }
    }
    let through = decided.through.as_deref();
    line(
        "readers",
        &match (decided.is_out(), decided.enforced, through, &decided.released) {
            (true, false, ..) => "get it: policies are not enforced here".to_owned(),
            (true, true, Some(through), _) => format!("get it: {}", clean(through)),
            (true, true, None, _) => "get it".to_owned(),
            (false, _, _, Some(released)) if decided.candidate.as_ref() != Some(released) => {
                "get the release, not the candidate".to_owned()
            }
            (false, ..) => "are denied".to_owned(),
        },
    );
    line("verdict", &decided.verdict());
    if let Some(fix) = decided.fix() {
        line("fix", &fix);
    }
    text
}
