// SPDX-License-Identifier: AGPL-3.0-only
//! `stella verify-bundle` and `stella verify-blob`: a signature in a file, of a file.

use std::path::Path;

use stella_policy::{Artifact, Evidence};

use super::arguments::{VerifyBlobArgs, VerifyBundleArgs};
use super::engine::{Engine, demanded};
use super::identity::IdentityArgs;
use super::target::Blob;
use crate::cli::signing::{failed, usage};
use crate::cli::{Outcome, note};

pub(in crate::cli) fn verify_bundle(args: VerifyBundleArgs) -> Outcome {
    let VerifyBundleArgs { artifact, bundle, identity } = args;
    check(identity, || {
        let evidence = Evidence::bundle_file(&bundle).map_err(|error| failed(&error))?;
        Ok((Blob::read(&artifact)?, evidence))
    })
}

pub(in crate::cli) fn verify_blob(args: VerifyBlobArgs) -> Outcome {
    let VerifyBlobArgs { file, bundle, signature, identity } = args;
    check(identity, || {
        let evidence = match (&bundle, &signature) {
            (Some(bundle), None) => bundle_of_any_age(bundle)?,
            (None, Some(signature)) => Evidence::detached_file(signature).map_err(|error| failed(&error))?,
            _ => return Err(usage("one of --bundle and --signature")),
        };
        Ok((Blob::file(&file)?, evidence))
    })
}

fn check(identity: IdentityArgs, read: impl FnOnce() -> anyhow::Result<(Blob, Evidence)>) -> Outcome {
    let Engine { verifier, authority } = Engine::new(&identity.demand()?)?;
    let (blob, evidence) = read()?;
    let artifact = Artifact { digest: blob.digest.clone(), bytes: blob.bytes.as_deref() };
    let checked = verifier.verify(&evidence, Some(artifact));
    let authority = authority.for_artifact();
    demanded(&authority, &blob.digest, &checked.facts, &checked.rejected, blob.digest.as_str())?;
    note("Verified OK");
    Ok(0)
}

/// What `--bundle` names: a Sigstore bundle, or what cosign 2 wrote under that flag. Which of them says the file itself,
/// and it is then read as nothing else.
fn bundle_of_any_age(path: &Path) -> anyhow::Result<Evidence> {
    let evidence = Evidence::bundle_file(path).map_err(|error| failed(&error))?;
    let is_old = serde_json::from_slice::<serde_json::Value>(&evidence.bytes)
        .is_ok_and(|value| value.get("base64Signature").is_some());
    if is_old { Evidence::detached(evidence.bytes).map_err(|error| failed(&error)) } else { Ok(evidence) }
}
