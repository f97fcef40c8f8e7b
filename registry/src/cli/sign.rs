// SPDX-License-Identifier: AGPL-3.0-only
//! `stella sign`: signs an image at a registry.

use clap::Args;
use stella_policy::Time;
use stella_storage::{Clock as _, SystemClock};

use super::Outcome;
use super::connection::{AllVariables, run, told};
use super::note;
use super::signing::{Annotations, AtRegistry, Signing};
use crate::remote::{ImageName, Remote};
use crate::signer::Signer;

#[derive(Args)]
#[command(after_help = "\
The password of the key is taken from COSIGN_PASSWORD, else asked for.

Examples:
  stella sign --key cosign.key registry.example/team/app@sha256:…
  stella sign --key cosign.key -r -a build=7 registry.example/team/app:1.0")]
pub(super) struct SignArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST]; what a tag names now is what is signed
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    signing: Signing,
    /// Sign also what an index lists
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    annotations: Annotations,
    #[command(flatten)]
    registry: AtRegistry,
}

pub(super) fn sign(args: SignArgs, env: &AllVariables) -> Outcome {
    let SignArgs { image, signing, recursive, annotations, registry } = args;
    let name: ImageName = told(image.parse(), "REF")?;
    let key = signing.key(env)?;
    let annotations = annotations.map();
    let options = registry.options(env);
    run(async move {
        let place = name.signed_place();
        let remote = told(Remote::introduced(&options, &name).await, &name)?;
        let signer = Signer { key, remote, place, as_bundle: signing.new_bundle_format, now: now() };
        for subject in told(signer.subjects(&name, recursive).await, &name)? {
            let is_new = told(signer.sign(&subject, &annotations).await, &name)?;
            let done = if is_new { "signed" } else { "had been signed by this key" };
            note(&format!("{done}: {}@{}", name.place(), subject.digest));
        }
        Ok(0)
    })
}

/// The present, for what is written.
pub(super) fn now() -> Time {
    Time(i64::try_from(SystemClock.now().0 / 1_000).unwrap_or(i64::MAX))
}
