// SPDX-License-Identifier: AGPL-3.0-only
//! The flags of each verifying command.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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

/// `stella verify`.
#[derive(Args)]
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
    pub(crate) registry: AtRegistry,
}

/// `stella verify-attestation`.
#[derive(Args)]
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
    pub(crate) registry: AtRegistry,
}

/// `stella verify-bundle`.
#[derive(Args)]
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
#[command(group = clap::ArgGroup::new("evidence").required(true).args(["bundle", "signature"]))]
pub(crate) struct VerifyBlobArgs {
    /// What was signed
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// The signature alone, in base64
    #[arg(long, value_name = "FILE")]
    pub(crate) signature: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// `stella policy`.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check policy documents, and judge nothing
    Check(PolicyCheckArgs),
    /// Tell what policies say of an image
    Test(PolicyTestArgs),
}

/// `stella policy check`.
#[derive(Args)]
pub(crate) struct PolicyCheckArgs {
    /// Files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// `stella policy test`.
#[derive(Args)]
pub(crate) struct PolicyTestArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST], or oci-layout:DIR[:TAG|@DIGEST]
    #[arg(value_name = "REF")]
    pub(crate) image: String,
    /// A file with policies, or a folder of them
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) policy: Vec<PathBuf>,
    /// A trust root, under a name that policies use; without a name it is the default one
    #[arg(long, value_name = "[NAME=]FILE")]
    pub(crate) trusted_root: Vec<String>,
    /// Judge it as an image of this repository
    #[arg(long, value_name = "HOST/NAME")]
    pub(crate) repository: Option<String>,
    /// Print the decision as JSON, or for a person
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub(crate) output: Form,
    #[command(flatten)]
    pub(crate) registry: AtRegistry,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

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
        #[command(subcommand)]
        Policy(PolicyCommand),
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
            "policy check a b".to_owned(),
            "policy test --policy p --trusted-root x=f --repository r.test/a oci-layout:d -o json".to_owned(),
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("stella").chain(line.split_whitespace()));
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
        for line in [
            "verify",
            "verify-blob f --key k",
            "verify-bundle f --key k",
            "policy check",
            "policy test x",
            "verify-attestation x --key k",
            "verify-blob f --key k --bundle b --signature s",
        ] {
            assert!(Cli::try_parse_from(std::iter::once("stella").chain(line.split_whitespace())).is_err());
        }
    }
}
