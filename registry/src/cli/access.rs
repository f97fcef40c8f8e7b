// SPDX-License-Identifier: AGPL-3.0-only
//! `stella access test`: which access rule decides what a client may do. It asks the configuration, no server.

use std::fmt;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use stella_storage::{RepoName, RepoPattern};

use super::administer::Output;
use super::{Environment, Outcome, Place};
use crate::access::{Action, Claim, Decision, Identity, Proof, Rules, robots};
use crate::config::AccessRule;
use crate::exit;

const ANONYMOUS: &str = "anonymous";

#[derive(Subcommand)]
pub(super) enum AccessCommand {
    /// Tell which rule decides whether a client may do something; exits with 3 if it may not
    Test(TestArgs),
}

#[derive(Args)]
pub(super) struct TestArgs {
    /// The client's name, or `anonymous`
    #[arg(long = "as", value_name = "NAME")]
    subject: String,
    /// A group that it is in; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A claim of its token; the same one several times is a list
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// A pattern of repositories that are its own; may be given several times
    #[arg(long = "own", value_name = "PATTERN")]
    own: Vec<RepoPattern>,
    /// What it wants to do: pull, push, delete, sign, preview or admin
    #[arg(long)]
    action: Action,
    /// Where; without a repository, in the registry as a whole
    repository: Option<RepoName>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Tested {
    allowed: bool,
    /// From 1.
    rule: Option<usize>,
    /// As it is written.
    text: Option<String>,
    #[serde(skip)]
    rules: usize,
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.allowed { "allowed" } else { "denied" };
        match (self.rule, &self.text) {
            (Some(rule), Some(text)) => write!(f, "{word} by rule {rule}: {text}"),
            _ if self.rules == 0 => write!(f, "{word}: there are no rules, and only this machine is served"),
            _ => write!(f, "{word}: none of the {} rules is about it", self.rules),
        }
    }
}

pub(super) fn access(command: AccessCommand, env: Environment) -> Outcome {
    let AccessCommand::Test(args) = command;
    args.output.report(|| {
        let config = args.place.load(env)?;
        anyhow::ensure!(
            !args.subject.starts_with(robots::PREFIX),
            "a robot may do what `stella robot list` shows, less what a rule denies"
        );
        let who = Identity { own: args.own, ..identity(&args.subject, args.groups, &args.claims)? };
        let rules = Rules::new(config.access.clone());
        let Decision { allowed, rule } = rules.decide(&who, args.action, args.repository.as_ref());
        let text = rule.and_then(|rule| config.access.get(rule.checked_sub(1)?)).map(text);
        let tested = Tested { allowed, rule, text: text.transpose()?, rules: config.access.len() };
        args.output.tell(&tested)?;
        Ok(if allowed { 0 } else { exit::AUTH })
    })
}

fn identity(subject: &str, groups: Vec<String>, claims: &[String]) -> anyhow::Result<Identity> {
    let mut who =
        Identity { subject: subject.to_owned(), groups, proof: Proof::Password, ..Identity::default() };
    for claim in claims {
        let (name, value) = claim.split_once('=').with_context(|| format!("{claim:?} is not NAME=VALUE"))?;
        let values = match who.claims.remove(name) {
            None => Claim::One(value.to_owned()),
            Some(before) => Claim::Many([before.values(), &[value.to_owned()]].concat()),
        };
        who.claims.insert(name.to_owned(), values);
    }
    if subject != ANONYMOUS {
        return Ok(who);
    }
    anyhow::ensure!(
        who.groups.is_empty() && who.claims.is_empty(),
        "anonymous has neither groups nor claims"
    );
    Ok(Identity::anonymous())
}

/// A rule on one line.
fn text(rule: &AccessRule) -> anyhow::Result<String> {
    serde_json::to_string(rule).context("cannot write the rule down")
}
