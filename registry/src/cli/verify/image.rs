// SPDX-License-Identifier: AGPL-3.0-only
//! `stella verify` and `stella verify-attestation`: what is said of an image, at a registry or in a layout. Where a bundle
//! says it, signatures in older forms beside it are not looked at: who can spoil the stronger evidence must not get the
//! weaker one asked instead.

use stella_policy::{Authority, Digest, Fact, Findings, Form, SIGN_V1, predicate_uri};

use super::arguments::{self, VerifyArgs, VerifyAttestationArgs};
use super::engine::{Engine, demanded};
use super::output;
use super::target::Target;
use crate::cli::connection::{AllVariables, run};
use crate::cli::signing::{failed, read, usage};
use crate::cli::{Outcome, note, print};
use crate::remote::Options;

/// More than a rule may have, which is told with a better text.
const MOST_RULE: u64 = 1 << 20;

pub(in crate::cli) fn verify(args: VerifyArgs, env: &AllVariables) -> Outcome {
    let VerifyArgs { image, identity, annotations, forms, output, registry } = args;
    let target = Target::parse(&image)?;
    let Engine { verifier, authority } = Engine::new(&identity.demand()?)?;
    let question = Question {
        authority: authority.with_annotations(annotations.map()),
        kind: SIGN_V1.to_owned(),
        bundles: forms.new_bundle_format,
    };
    let options = registry.options(env);
    run(async move {
        let mut found = find(&target, &options, &verifier).await?;
        let is_left_out = question.narrow(&mut found.findings);
        let facts = question.answered(&found, is_left_out, &image)?;
        print(&match output {
            arguments::Form::Json => {
                output::signatures(&facts, &found.findings.evidence, &found.digest, &found.named)
            }
            arguments::Form::Text => output::told(&facts),
        })?;
        Ok(0)
    })
}

pub(in crate::cli) fn verify_attestation(args: VerifyAttestationArgs, env: &AllVariables) -> Outcome {
    let VerifyAttestationArgs { image, identity, r#type, policy, forms, registry } = args;
    let target = Target::parse(&image)?;
    let kind = predicate_uri(&r#type).map_err(|why| usage(format!("--type: {why}")))?;
    let rule = match &policy {
        None => None,
        Some(path) => {
            let text = String::from_utf8(read(path, MOST_RULE)?)
                .map_err(|_| usage(format!("{}: not Rego: it is not UTF-8", path.display())))?;
            Some((path, text))
        }
    };
    let Engine { verifier, authority } = Engine::new(&identity.demand()?)?;
    let ruled = authority.for_attestation(&kind, rule.as_ref().map(|(_, text)| text.as_str()));
    let authority = ruled.map_err(|why| {
        let place = rule.as_ref().map(|(path, _)| path.display().to_string()).unwrap_or_default();
        usage(format!("{place}: {why}"))
    })?;
    let question = Question { authority, kind, bundles: forms.new_bundle_format };
    let options = registry.options(env);
    run(async move {
        let mut found = find(&target, &options, &verifier).await?;
        let is_left_out = question.narrow(&mut found.findings);
        let facts = question.answered(&found, is_left_out, &image)?;
        print(&output::envelopes(&facts, &found.findings.evidence))?;
        Ok(0)
    })
}

/// What was found at a target.
struct Found {
    /// As it was named.
    named: String,
    digest: Digest,
    findings: Findings,
}

async fn find(
    target: &Target,
    options: &Options,
    verifier: &stella_policy::Verifier,
) -> anyhow::Result<Found> {
    let found = target.find(options).await?;
    let findings = verifier.examine(&found.place, &found.digest).await.map_err(|error| failed(&error))?;
    findings.cut.iter().for_each(|cut| note(&format!("note: {cut}")));
    Ok(Found { named: target.named(&found.digest), digest: found.digest, findings })
}

/// What is asked of what was found.
struct Question {
    authority: Authority,
    /// The type of statement.
    kind: String,
    /// Whether bundles alone count, or older forms alone; without a word, older forms where there is no bundle.
    bundles: Option<bool>,
}

impl Question {
    /// Takes out of the findings what does not count by its form. Says whether that was for a bundle's sake alone.
    fn narrow(&self, findings: &mut Findings) -> bool {
        let is_bundled = has_bundle(findings, &self.kind);
        let counts = |form: Form| match self.bundles {
            Some(bundles) => (form == Form::Bundle) == bundles,
            None => !is_bundled || form == Form::Bundle,
        };
        let before = findings.facts.len();
        findings.facts.retain(|fact| counts(fact.form));
        findings.rejected.retain(|rejected| counts(rejected.form));
        self.bundles.is_none() && findings.facts.len() < before
    }

    /// The facts that answer it.
    fn answered<'f>(
        &self,
        found: &'f Found,
        is_left_out: bool,
        about: &str,
    ) -> anyhow::Result<Vec<&'f Fact>> {
        let Findings { facts, rejected, .. } = &found.findings;
        let proven = demanded(&self.authority, &found.digest, facts, rejected, about).inspect_err(|_| {
            if is_left_out {
                note(
                    "note: there are signatures in an older form too, which are not looked at where a bundle is; \
                     --new-bundle-format=false looks at them alone",
                );
            }
        })?;
        let (digest, count) = (&found.digest, proven.len());
        note(&format!("{about}: {digest}: {count} verified"));
        Ok(proven)
    }
}

/// Whether a bundle says something of this kind, or cannot be read, so that nobody knows what it said.
fn has_bundle(findings: &Findings, kind: &str) -> bool {
    let is_read = |digest: &Digest| findings.evidence.iter().any(|evidence| evidence.digest == *digest);
    findings
        .evidence
        .iter()
        .filter(|evidence| evidence.form == Form::Bundle)
        .any(|evidence| evidence.said_predicate().is_none_or(|said| said == kind))
        || findings
            .rejected
            .iter()
            .any(|rejected| rejected.form == Form::Bundle && !is_read(&rejected.evidence))
}
