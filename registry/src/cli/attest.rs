// SPDX-License-Identifier: AGPL-3.0-only
//! `stella attest`: signs a statement about an image at a registry.

use std::path::PathBuf;

use clap::Args;
use stella_policy::sign::PredicateType;

use super::Outcome;
use super::connection::{AllVariables, run, told};
use super::note;
use super::sign::now;
use super::sign_blob::content;
use super::signing::{AtRegistry, Signing, usage};
use crate::remote::{ImageName, Remote};
use crate::signer::{Attestation, Signer};

/// As large as an attestation may be that is looked at.
const MOST_PREDICATE: u64 = 11 << 20;

#[derive(Args)]
#[command(after_help = "\
The password of the key is taken from COSIGN_PASSWORD, else asked for.

Examples:
  stella attest --key cosign.key --type cyclonedx --predicate sbom.json registry.example/team/app:1.0")]
pub(super) struct AttestArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    signing: Signing,
    /// What is said: custom, slsaprovenance, slsaprovenance02, slsaprovenance1, spdx, spdxjson, cyclonedx, link,
    /// vuln, openvex, or a URI
    #[arg(long, value_name = "TYPE", default_value = "custom")]
    r#type: String,
    /// The file with what is said; - is stdin
    #[arg(long, value_name = "FILE")]
    predicate: PathBuf,
    #[command(flatten)]
    registry: AtRegistry,
}

pub(super) fn attest(args: AttestArgs, env: &AllVariables) -> Outcome {
    let AttestArgs { image, signing, r#type, predicate, registry } = args;
    let name: ImageName = told(image.parse(), "REF")?;
    let kind: PredicateType =
        r#type.parse().map_err(|error: stella_policy::Error| usage(format!("--type: {error}")))?;
    let predicate = content(&predicate, MOST_PREDICATE)?;
    let key = signing.key(env)?;
    let options = registry.options(env);
    run(async move {
        let place = name.signed_place();
        let remote = told(Remote::introduced(&options, &name).await, &name)?;
        let signer = Signer { key, remote, place, as_bundle: signing.new_bundle_format, now: now() };
        for subject in told(signer.subjects(&name, false).await, &name)? {
            let said = Attestation { kind: &kind, predicate: &predicate };
            told(signer.attest(&subject, &said).await, &name)?;
            note(&format!("attested: {}@{} {kind}", name.place(), subject.digest));
        }
        Ok(0)
    })
}
