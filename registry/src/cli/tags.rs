// SPDX-License-Identifier: AGPL-3.0-only
//! `stella tags`: the tags of a repository, at any registry.

use clap::Args;
use serde_json::json;

use super::connection::{AllVariables, Connection, Format, told};
use super::{Outcome, print};
use crate::remote::{ImageName, Remote, printable};

#[derive(Args)]
#[command(after_help = "\
Examples:
  stella tags registry.example/team/app
  stella tags --output json alpine | jq -r '.tags[]'")]
pub(super) struct TagsArgs {
    /// The repository: HOST[:PORT]/NAME; without a host it is on Docker Hub
    #[arg(value_name = "REPOSITORY")]
    repository: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn tags(args: TagsArgs, env: &AllVariables) -> Outcome {
    let TagsArgs { repository, format, connection } = args;
    format.run(async move {
        let name: ImageName = told(repository.parse(), "repository")?;
        if name.tag.is_some() || name.digest.is_some() {
            let place = name.place();
            let error =
                crate::remote::Error::Usage(format!("{name} is an image; write {place} to list its tags"));
            return told(Err(error), "repository");
        }
        let about = name.place();
        let remote = told(Remote::connect(&connection.options(env), &name).await, &about)?;
        let mut pages = told(remote.tags(), &about)?;
        let mut all = Vec::new();
        while let Some(page) = told(pages.next().await, &about)? {
            if format.is_json() {
                all.extend(page);
            } else {
                // As they come: there may be many.
                let lines = page.iter().map(|tag| format!("{}\n", printable(tag, 256)));
                print(&lines.collect::<String>())?;
            }
        }
        if format.is_json() {
            print(&format!("{}\n", json!({ "repository": about, "tags": all })))?;
        }
        Ok(0)
    })
}
