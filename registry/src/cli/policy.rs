// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy`. `check` and `test` tell what documents demand, and what they say of an image: neither needs a server, and
//! neither changes anything. `explain` and `status` ask a registry (`policy/registry.rs`).

mod allow;
mod baseline;
mod impact;
mod registry;
mod tell;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use stella_policy::{PolicySet, RootNames, Subject, TrustRoot, Verdict, Verifier};

use super::connection::{AllVariables, run, told};
use super::sign::now;
use super::signing::{AtRegistry, failed, usage};
use super::verify::{Form, Found, Target, built_in, root};
use super::{Environment, Outcome, print};
use crate::exit;
use crate::remote::ImageName;

/// What a root is called that was given no name.
const DEFAULT: &str = "default";

/// `stella policy`.
#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Check policy documents and tell what they demand; nothing is judged
    Check(CheckArgs),
    /// Tell what policy documents say of an image
    Test(TestArgs),
    /// Tell what a registry's policies say of an image there, and why
    Explain(registry::ExplainArgs),
    /// Let a digest through for a while, whatever policies ask of it: break-glass
    Allow(allow::AllowArgs),
    /// Sign a list of what readers get today, so that enforcement begins without an outage
    Baseline(baseline::BaselineArgs),
    /// Tell which released tags other policies would take from readers
    Impact(impact::ImpactArgs),
    /// Tell which policies a registry has in force, and whether those on its disk are right
    Status(registry::StatusArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stella policy check policies/
  stella policy check --trusted-root ours=trusted_root.json production.yaml")]
pub(super) struct CheckArgs {
    /// Files, or folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    roots: TrustedRoots,
}

#[derive(Args)]
#[command(after_help = "\
It ends with 9 if the image is waiting or denied.

Examples:
  stella policy test --policy policies/ registry.example/prod/app:1.0
  stella policy test --policy p.yaml --repository registry.example/prod/app --output json oci-layout:saved")]
pub(super) struct TestArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST], or oci-layout:DIR[:TAG|@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    /// A file with policies, or a folder of them; may be given several times
    #[arg(long, value_name = "PATH", required = true)]
    policy: Vec<PathBuf>,
    #[command(flatten)]
    roots: TrustedRoots,
    /// Judge it as an image of this repository; needed for one in a layout
    #[arg(long, value_name = "HOST/NAME")]
    repository: Option<String>,
    /// Print the decision as JSON, or for a person
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    registry: AtRegistry,
}

#[derive(Args)]
struct TrustedRoots {
    /// A trust root (a `trusted_root.json`) under the name that policies have for it; `default` if it is given none
    #[arg(long, value_name = "[NAME=]FILE")]
    trusted_root: Vec<String>,
}

pub(super) fn policy(command: PolicyCommand, variables: Environment, env: &AllVariables) -> Outcome {
    match command {
        PolicyCommand::Check(args) => check(&args),
        PolicyCommand::Test(args) => test(args, env),
        PolicyCommand::Explain(args) => registry::explain(args, env),
        PolicyCommand::Allow(args) => allow::allow(args, variables, env),
        PolicyCommand::Impact(args) => impact::impact(args, variables),
        PolicyCommand::Baseline(args) => baseline::baseline(args, variables, env),
        PolicyCommand::Status(args) => registry::status(args, env),
    }
}

fn check(args: &CheckArgs) -> Outcome {
    let roots = args.roots.read()?;
    let policies = load("", &args.paths, &roots)?;
    print(&tell::documents(&policies))?;
    Ok(0)
}

fn test(args: TestArgs, env: &AllVariables) -> Outcome {
    let target = Target::parse(&args.image)?;
    let named = match (&args.repository, &target) {
        (Some(text), _) => Some(text.as_str()),
        (None, Target::Image(_)) => None,
        (None, Target::Layout { .. }) => {
            return Err(usage(
                "policies are about repositories: say with --repository HOST/NAME where it would be",
            ));
        }
    };
    let place = match named {
        None => target.to_string(),
        Some(text) => {
            let name: ImageName = told(text.parse(), "--repository")?;
            if name.tag.is_some() || name.digest.is_some() {
                return Err(usage(format!(
                    "--repository {text}: write HOST/NAME, without a tag or a digest"
                )));
            }
            name.signed_place()
        }
    };
    let (host, repository) = place.split_once('/').unwrap_or(("", &place));
    let roots = args.roots.read()?;
    let policies = load(host, &args.policy, &roots)?;
    let verifier = policies.trust(&roots).and_then(|trust| Verifier::new(&trust));
    let verifier = verifier.map_err(|error| failed(&error))?;
    let (image, repository, output) = (args.image, repository.to_owned(), args.output);
    let options = args.registry.options(env);
    run(async move {
        let Found { place, digest, .. } = target.find(&options).await?;
        let subject = Subject {
            reference: image,
            repository,
            digest,
            parts: Vec::new(),
            last_released: None,
            released_at: None,
        };
        let decision = policies.examine(&verifier, &place, subject, now()).await;
        let decision = decision.map_err(|error| failed(&error))?;
        print(&match output {
            Form::Json => format!("{}\n", serde_json::to_string(&decision)?),
            Form::Text => tell::decision(&decision),
        })?;
        Ok(if decision.verdict == Verdict::Allowed { 0 } else { exit::POLICY })
    })
}

fn load(host: &str, paths: &[PathBuf], roots: &[TrustRoot]) -> anyhow::Result<PolicySet> {
    let names: Vec<RootNames> = roots.iter().map(RootNames::from).collect();
    PolicySet::load(host, paths, &names).map_err(|error| failed(&error))
}

/// Whether what stands before `=` is the name of a trust root, and not the begin of a path.
fn is_root_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

impl TrustedRoots {
    fn read(&self) -> anyhow::Result<Vec<TrustRoot>> {
        if self.trusted_root.is_empty() {
            return Ok(vec![built_in()?]);
        }
        self.trusted_root
            .iter()
            .map(|text| {
                let named = text.split_once('=').filter(|(name, _)| is_root_name(name));
                let (name, file) = named.unwrap_or((DEFAULT, text));
                root(name, Path::new(file))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: PolicyCommand,
    }

    #[test]
    fn the_commands_are_consistent_and_take_what_was_agreed() {
        Cli::command().debug_assert();
        let parse =
            |line: &str| Cli::try_parse_from(std::iter::once("policy").chain(line.split_whitespace()));
        for line in [
            "check a b",
            "check a --trusted-root ours=f --trusted-root g",
            "test --policy p --trusted-root x=f --repository r.test/a oci-layout:d -o json",
        ] {
            let parsed = parse(line);
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err().map(|error| error.to_string()));
        }
        for line in ["check", "test x", "test --policy p"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
