// SPDX-License-Identifier: AGPL-3.0-only
//! The flags of each verifying command.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::identity::IdentityArgs;
use crate::cli::signing::{Annotations, AtRegistry};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For programs.
    Json,
    /// For people.
    Text,
}

const IMAGES: &str = "\
Examples:
  stella verify --key cosign.pub --insecure-ignore-tlog registry.example/team/app@sha256:…
  stella verify --certificate-identity me@example.com --certificate-oidc-issuer https://accounts.example \\
    --trusted-root root.json oci-layout:saved:1.0";
const ATTESTATIONS: &str = "\
Examples:
  stella verify-attestation --key cosign.pub --insecure-ignore-tlog --type spdxjson registry.example/team/app:1.0
  stella verify-attestation --key cosign.pub --insecure-ignore-tlog --type custom --policy rule.rego oci-layout:saved";
const BUNDLES: &str = "\
Examples:
  stella verify-bundle --bundle app.sigstore.json --key cosign.pub --insecure-ignore-tlog app.tar
  stella verify-bundle --bundle app.sigstore.json --certificate-identity-regexp '.*@example[.]com' \\
    --certificate-oidc-issuer https://accounts.example sha256:…";
const BLOBS: &str = "\
Examples:
  stella verify-blob --signature app.sig --key cosign.pub --insecure-ignore-tlog app.tar
  stella verify-blob --bundle app.sigstore.json --key cosign.pub --insecure-ignore-tlog app.tar";

/// `stella verify`.
#[derive(Args)]
#[command(after_help = IMAGES)]
pub(crate) struct VerifyArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST], or oci-layout:DIR[:TAG|@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    #[command(flatten)]
    pub(crate) annotations: Annotations,
    /// Print the signatures as JSON, as cosign does, or for a person
    #[arg(short, long, value_enum, default_value_t = Form::Json)]
    pub(crate) output: Form,
    #[command(flatten)]
    pub(crate) forms: Forms,
    #[command(flatten)]
    pub(crate) registry: AtRegistry,
}

/// `stella verify-attestation`.
#[derive(Args)]
#[command(after_help = ATTESTATIONS)]
pub(crate) struct VerifyAttestationArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST], or oci-layout:DIR[:TAG|@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// What must be said: a short name as `stella attest` has them, or a URI
    #[arg(long, value_name = "TYPE")]
    pub(crate) r#type: String,
    /// What is said must pass this rule, in Rego
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) forms: Forms,
    #[command(flatten)]
    pub(crate) registry: AtRegistry,
}

/// `stella verify-bundle`.
#[derive(Args)]
#[command(after_help = BUNDLES)]
pub(crate) struct VerifyBundleArgs {
    /// What was signed: a file, or sha256:HEX
    #[arg(value_name = "FILE|DIGEST")]
    pub(crate) artifact: String,
    /// The bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// `stella verify-blob`.
#[derive(Args)]
#[command(after_help = BLOBS, group = clap::ArgGroup::new("evidence").required(true).args(["bundle", "signature"]))]
pub(crate) struct VerifyBlobArgs {
    /// What was signed
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// The signature alone, in base64, as `sign-blob --output-signature` writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// In which forms signatures are taken.
#[derive(Args)]
pub(crate) struct Forms {
    /// Take Sigstore bundles alone; with =false, older forms alone [default: older forms where there is no bundle]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) new_bundle_format: Option<bool>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser, Subcommand};

    use super::*;

    /// As it will stand in the command line.
    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        Verify(VerifyArgs),
        VerifyAttestation(VerifyAttestationArgs),
        VerifyBundle(VerifyBundleArgs),
        VerifyBlob(VerifyBlobArgs),
    }

    #[test]
    fn the_verifying_commands_are_consistent_and_take_what_was_agreed() {
        Cli::command().debug_assert();
        let key = "--key k --insecure-ignore-tlog --trusted-root r --use-signed-timestamps";
        for line in [
            format!("verify r.test/a {key} -a a=b -a c=d --allow-http-registry --output json"),
            format!("verify-attestation r.test/a {key} --type spdx --policy p.rego"),
            format!("verify-bundle --bundle b {key} --staging sha256:00"),
            format!("verify-blob f --signature s {key}"),
            format!("verify-blob f --bundle s {key}"),
            "verify r.test/a --key k --new-bundle-format=false".to_owned(),
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("stella").chain(line.split_whitespace()));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
        for line in [
            "verify",
            "verify-blob f --key k",
            "verify-bundle f --key k",
            "verify-attestation x --key k",
            "verify-blob f --key k --bundle b --signature s",
        ] {
            assert!(Cli::try_parse_from(std::iter::once("stella").chain(line.split_whitespace())).is_err());
        }
    }
}
