// SPDX-License-Identifier: AGPL-3.0-only
//! `stella tag history` and `stella tag rollback`: what readers of a tag have seen, and the way back.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;
use stella_storage::{Digest, Reference, Tag};

use super::connection::{AllVariables, Format, told};
use super::decision::{clean, connect};
use super::signing::{AtRegistry, usage};
use super::{Outcome, print};
use crate::remote::{Error, ImageName, printable};

/// `stella tag`.
#[derive(Subcommand)]
pub(super) enum TagCommand {
    /// List what readers of a tag have seen, newest first
    History(HistoryArgs),
    /// Point a tag at an earlier image, which is judged again before
    Rollback(RollbackArgs),
}

#[derive(Args)]
#[command(after_help = "\
It takes `pull` in the repository; who moved the tag is told to whoever may push there. The last 100 moves are kept.

Examples:
  stella tag history registry.example/prod/app:1.0
  stella tag history --output json registry.example/prod/app:1.0 | jq -r '.moves[0].from'")]
pub(super) struct HistoryArgs {
    /// The tag: HOST[:PORT]/NAME[:TAG]
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    registry: AtRegistry,
}

#[derive(Args)]
#[command(after_help = "\
The image must be in the repository, and allowed by the policies of now: else it ends with 9, and the tag stays. It is
then what readers get and what was pushed last; a candidate that waited has to be pushed again. `noRollback` does not
forbid it. It takes `push`, and beside it `delete` or `admin`.

Examples:
  stella tag rollback registry.example/prod/app:1.0@sha256:…
  stella tag rollback registry.example/prod/app:1.0 --to sha256:…")]
pub(super) struct RollbackArgs {
    /// The tag, with the digest where it is to point: HOST[:PORT]/NAME:TAG[@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    /// Where it is to point
    #[arg(long, value_name = "DIGEST")]
    to: Option<Digest>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    registry: AtRegistry,
}

pub(super) fn tag(command: TagCommand, env: &AllVariables) -> Outcome {
    match command {
        TagCommand::History(args) => history(args, env),
        TagCommand::Rollback(args) => rollback(args, env),
    }
}

#[derive(Deserialize)]
struct History {
    released: Option<String>,
    candidate: Option<String>,
    moves: Vec<Moved>,
}

#[derive(Deserialize)]
struct Moved {
    to: Option<String>,
    at: String,
    by: Option<String>,
}

fn history(args: HistoryArgs, env: &AllVariables) -> Outcome {
    let HistoryArgs { image, format, registry } = args;
    let options = registry.options(env);
    format.run(async move {
        let (name, remote) = connect(&options, &image).await?;
        if name.digest.is_some() {
            return Err(usage(format!("{name}: a digest does not move; write HOST/NAME:TAG")));
        }
        let value = told(remote.tag_history(&tag_of(&name)?).await, &name)?;
        let told_of = History::deserialize(&value).map_err(|error| {
            Error::Failed(format!("the answer is not understood: {}", printable(&error.to_string(), 200)))
        });
        let history = told(told_of, &name)?;
        print(&if format.is_json() { format!("{value}\n") } else { lines(&history) })?;
        Ok(0)
    })
}

fn lines(history: &History) -> String {
    let mut text = String::new();
    if history.candidate != history.released
        && let Some(candidate) = &history.candidate
    {
        let _always = writeln!(text, "{:<24}  {}  waits", "", clean(candidate));
    }
    for Moved { to, at, by } in &history.moves {
        let to = to.as_deref().map_or("deleted".to_owned(), clean);
        let by = by.as_deref().map_or(String::new(), |by| format!("  {}", clean(by)));
        let _always = writeln!(text, "{:<24}  {to}{by}", clean(at));
    }
    text
}

fn rollback(args: RollbackArgs, env: &AllVariables) -> Outcome {
    let RollbackArgs { image, to, format, registry } = args;
    let options = registry.options(env);
    format.run(async move {
        let (name, remote) = connect(&options, &image).await?;
        let to = match (&name.digest, &to) {
            (Some(digest), None) | (None, Some(digest)) => digest.clone(),
            (Some(one), Some(other)) if one == other => one.clone(),
            (Some(_), Some(_)) => return Err(usage("two digests are named; write one")),
            (None, None) => {
                return Err(usage(format!(
                    "say where {name} is to point: --to DIGEST; `stella tag history {name}` lists where it was"
                )));
            }
        };
        if name.tag.is_none() {
            return Err(usage(format!("{name} names no tag; write HOST/NAME:TAG@DIGEST")));
        }
        let value: Value = told(remote.roll_back(&tag_of(&name)?, &to).await, &name)?;
        if format.is_json() {
            print(&format!("{value}\n"))?;
        } else {
            let place = ImageName { digest: None, ..name };
            let from = value["from"].as_str().map_or("nothing".to_owned(), clean);
            print(&format!("{place} points at {to} again; before it was {from}\n"))?;
        }
        Ok(0)
    })
}

fn tag_of(name: &ImageName) -> anyhow::Result<Tag> {
    let name = ImageName { digest: None, ..name.clone() };
    match told(name.reference(), &name)? {
        Reference::Tag(tag) => Ok(tag),
        Reference::Digest(_) => Err(usage(format!("{name} names no tag"))),
    }
}
