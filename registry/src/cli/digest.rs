// SPDX-License-Identifier: AGPL-3.0-only
//! `stella digest`: what a tag names now.

use std::fmt;

use clap::Args;
use serde::Serialize;
use stella_storage::Digest;

use super::Outcome;
use super::connection::{AllVariables, Connection, Format, told};
use crate::copy::{Place, pick};
use crate::remote::{ImageName, Platform, Remote};

#[derive(Args)]
#[command(after_help = "\
Examples:
  stella digest registry.example/team/app:1.0
  stella digest --platform linux/arm64 registry.example/team/app:1.0")]
pub(super) struct DigestArgs {
    /// The image: HOST[:PORT]/NAME[:TAG]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The image for this platform, of those in an index
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Answer {
    reference: String,
    digest: Digest,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.digest)
    }
}

pub(super) fn digest(args: DigestArgs, env: &AllVariables) -> Outcome {
    let DigestArgs { image, platform, format, connection } = args;
    format.run(async move {
        let name: ImageName = told(image.parse(), "image")?;
        let about = name.to_string();
        let remote = told(Remote::connect(&connection.options(env), &name).await, &about)?;
        let reference = told(name.reference(), &about)?;
        let digest = match platform {
            None => told(remote.resolve(&reference).await, &about)?,
            Some(platform) => {
                let manifest = told(remote.manifest(&reference).await, &about)?;
                told(pick(&Place::Remote(remote), manifest, &platform).await, &about)?.digest
            }
        };
        format.print(&Answer { reference: about, digest })?;
        Ok(0)
    })
}
