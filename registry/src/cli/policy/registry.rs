// SPDX-License-Identifier: AGPL-3.0-only
//! `stella policy explain` and `stella policy status`: what a registry's own policies say of an image, and how they fare.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::super::connection::{AllVariables, Format, told};
use super::super::decision::{Authority, Decided, Policy, because, clean, connect};
use super::super::signing::AtRegistry;
use super::super::{Outcome, print};
use crate::exit;
use crate::remote::{ImageName, policy_status};

#[derive(Args)]
#[command(after_help = "\
Of a tag, it tells of what was pushed last. It ends with 9 if readers do not get that. It takes `pull` in the repository.

Examples:
  stella policy explain registry.example/prod/app:1.0
  stella policy explain --output json registry.example/prod/app@sha256:… | jq .policies")]
pub(in crate::cli) struct ExplainArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    image: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    registry: AtRegistry,
}

#[derive(Args)]
#[command(after_help = "\
It ends with 2 if the policies on disk are wrong; those from before are then in force still.

Examples:
  stella policy status registry.example
  stella policy status --output json 127.0.0.1:5000 | jq .epoch")]
pub(in crate::cli) struct StatusArgs {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    registry: AtRegistry,
}

pub(super) fn explain(args: ExplainArgs, env: &AllVariables) -> Outcome {
    let ExplainArgs { image, format, registry } = args;
    let options = registry.options(env);
    format.run(async move {
        let (name, remote) = connect(&options, &image).await?;
        let (decided, value) = told(Decided::ask(&remote, &name).await, &name)?;
        print(&if format.is_json() { format!("{value}\n") } else { tree(&name, &decided) })?;
        Ok(if decided.readable { 0 } else { exit::POLICY })
    })
}

pub(super) fn status(args: StatusArgs, env: &AllVariables) -> Outcome {
    let StatusArgs { host, format, registry } = args;
    let options = registry.options(env);
    format.run(async move {
        let value = told(policy_status(&options, &host).await, &host)?;
        print(&if format.is_json() { format!("{value}\n") } else { lines(&value) })?;
        Ok(if value["error"].is_string() { exit::USAGE } else { 0 })
    })
}

fn lines(value: &Value) -> String {
    let Some(set) = value["policySet"].as_str() else {
        return "no policies are in force (policy.paths)\n".to_owned();
    };
    let mut text = format!("policy set  {}\nepoch       {}\n", clean(set), value["epoch"]);
    let _always = match value["pendingRecompute"].as_u64() {
        Some(0) | None => writeln!(text, "tags        all are judged"),
        Some(pending) => writeln!(text, "tags        {pending} are to be judged still"),
    };
    if let Some(error) = value["error"].as_str() {
        let _always = writeln!(text, "error       {}", clean(error));
        text.push_str("            the policies from before are in force still\n");
    }
    text
}

/// From what came out to what it came from.
fn tree(name: &ImageName, decided: &Decided) -> String {
    let mut text = String::new();
    line(&mut text, 0, &name.to_string());
    line(&mut text, 0, &format!("{} {}", clean(&decided.kind), clean(&decided.digest)));
    line(&mut text, 0, &decided.verdict());
    let readers = match (decided.enforced, decided.readable, &decided.through) {
        (false, ..) => "readers get it: policies are not enforced here".to_owned(),
        (true, true, Some(through)) => format!("readers get it: {}", clean(through)),
        (true, true, None) => "readers get it".to_owned(),
        (true, false, _) => "readers do not get it".to_owned(),
    };
    line(&mut text, 0, &readers);
    if let Some(released) = decided.released.as_ref().filter(|&released| *released != decided.digest) {
        line(&mut text, 0, &format!("readers of the tag get {}", clean(released)));
    }
    if let Some(fix) = decided.fix() {
        line(&mut text, 0, &format!("fix: {fix}"));
    }
    if let Some(until) = &decided.valid_until {
        line(&mut text, 0, &format!("valid until {}", clean(until)));
    }
    decided.policies.iter().for_each(|one| policy(&mut text, one));
    let (set, root) = (clean(&decided.policy_set), clean(&decided.trust_root));
    line(&mut text, 0, &format!("policy set {set}, trust root {root}"));
    text
}

fn policy(text: &mut String, policy: &Policy) {
    let warns = if policy.enforced { "" } else { " (only warns)" };
    let name = format!("policy {}{warns}: {}", clean(&policy.name), passed(policy.passed));
    line(text, 1, &because(&name, &policy.because.reason, &policy.because.why));
    policy.authorities.iter().for_each(|one| authority(text, one));
}

fn authority(text: &mut String, authority: &Authority) {
    let name = format!("authority {}: {}", clean(&authority.name), passed(authority.passed));
    line(text, 2, &because(&name, &authority.because.reason, &authority.because.why));
    for item in &authority.evidence {
        let signer = item.signer.as_deref().map_or("nobody who is named".to_owned(), clean);
        let name = format!("{} {} by {signer}", clean(&item.digest), clean(&item.form));
        line(text, 3, &because(&name, &item.because.reason, &item.because.why));
    }
}

fn passed(passed: bool) -> &'static str {
    if passed { "satisfied" } else { "not satisfied" }
}

fn line(text: &mut String, depth: usize, what: &str) {
    // Text grows without fail.
    let _always = writeln!(text, "{:1$}{what}", "", depth * 2);
}
