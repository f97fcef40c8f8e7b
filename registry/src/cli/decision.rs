// SPDX-License-Identifier: AGPL-3.0-only
//! What a registry says of an image (`/api/stella/v1/policy/explain`), as commands read it. What comes from there is shown
//! without characters that control a terminal.

use serde::Deserialize;
use serde_json::Value;
use stella_policy::Verdict;

use super::connection::told;
use crate::remote::{Error, ImageName, Remote, Result, printable};

/// As much of one text as is shown.
const MOST: usize = 1000;

/// A decision, and what readers get.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Decided {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) why: String,
    pub(super) fix: Option<String>,
    pub(super) through: Option<String>,
    pub(super) readable: bool,
    pub(super) enforced: bool,
    pub(super) kind: String,
    pub(super) released: Option<String>,
    pub(super) candidate: Option<String>,
    pub(super) valid_until: Option<String>,
    pub(super) policy_set: String,
    pub(super) trust_root: String,
    pub(super) policies: Vec<Policy>,
}

/// What one policy says.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) passed: bool,
    #[serde(default)]
    pub(super) enforced: bool,
    #[serde(flatten)]
    pub(super) because: Because,
    pub(super) authorities: Vec<Authority>,
}

/// What one authority says.
#[derive(Debug, Deserialize)]
pub(super) struct Authority {
    pub(super) name: String,
    pub(super) passed: bool,
    #[serde(flatten)]
    pub(super) because: Because,
    pub(super) evidence: Vec<Evidence>,
}

/// What came of one item of evidence.
#[derive(Debug, Deserialize)]
pub(super) struct Evidence {
    pub(super) digest: String,
    pub(super) form: String,
    pub(super) signer: Option<String>,
    #[serde(flatten)]
    pub(super) because: Because,
}

/// Why.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Because {
    pub(super) reason: String,
    pub(super) why: String,
}

impl Decided {
    /// Asks the registry. Gives also what it said.
    pub(super) async fn ask(remote: &Remote, name: &ImageName) -> Result<(Self, Value)> {
        let value = remote.explain(&name.reference()?).await?;
        Ok((Self::read(&value)?, value))
    }

    fn read(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|error| {
            let error = printable(&error.to_string(), 200);
            Error::Failed(format!("the answer is not understood; is it a Stella registry? {error}"))
        })
    }

    /// Whether readers get what was pushed last to the tag, or what was asked for by digest.
    pub(super) fn is_out(&self) -> bool {
        let is_tag = self.released.is_some() || self.candidate.is_some();
        self.readable && (!is_tag || self.released == self.candidate)
    }

    /// `waiting: no-evidence: why`.
    pub(super) fn verdict(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Waiting => "waiting",
            Verdict::Denied => "denied",
        };
        because(verdict, &self.reason, &self.why)
    }

    pub(super) fn fix(&self) -> Option<String> {
        self.fix.as_deref().map(clean)
    }
}

/// Connects with the registry of an image.
pub(super) async fn connect(
    options: &crate::remote::Options,
    image: &str,
) -> anyhow::Result<(ImageName, Remote)> {
    let name: ImageName = told(image.parse(), "REF")?;
    let remote = told(Remote::introduced(options, &name).await, &name)?;
    Ok((name, remote))
}

/// `what: reason: why`, as far as there are these.
pub(super) fn because(what: &str, reason: &str, why: &str) -> String {
    let mut text = what.to_owned();
    for part in [if reason == "ok" { "" } else { reason }, why] {
        if !part.is_empty() {
            text.push_str(": ");
            text.push_str(&clean(part));
        }
    }
    text
}

pub(super) fn clean(text: &str) -> String {
    printable(text, MOST)
}
