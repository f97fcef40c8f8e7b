// SPDX-License-Identifier: AGPL-3.0-only
//! Who may vouch for an artifact, and how: the part of a policy that evidence is compared with. A document makes them, and
//! so do the flags of the command line; both are judged by the same fold (`judge/`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::rego::Rego;
use crate::{Form, Identity, TrustRoot, TrustedKey};

/// The predicate type of cosign's signatures in bundles.
pub const SIGN_V1: &str = "https://sigstore.dev/cosign/sign/v1";

/// Who may vouch for an artifact, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Authority {
    pub(crate) name: String,
    pub(crate) who: Who,
    pub(crate) demand: Demand,
    pub(crate) log: LogRule,
    /// Where a signed timestamp must come from, if one is demanded.
    pub(crate) timestamp: Option<Roots>,
    /// `-a name=value`: what the signature itself must say.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) forms: Forms,
}

/// Whose word it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    /// Who has one of these keys.
    Keys(Vec<TrustedKey>),
    /// Whom a certificate names so.
    Certificates {
        identities: Vec<Identity>,
        /// Whose certificate authorities are asked.
        roots: Roots,
        /// `insecureIgnoreSCT`.
        unlogged: bool,
        /// `keyless.ca-cert`: certificate authorities of the policy's own, in the root that `roots` names.
        private: Option<PrivateAuthority>,
    },
    /// Nobody's: it always passes.
    Pass,
    /// Nobody's: it never passes.
    Fail(String),
}

/// Certificate authorities that stand in a policy. With the logs and clocks of a configured root they make a root of
/// their own, under a name that says both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PrivateAuthority {
    /// The root of their own.
    pub(crate) name: String,
    /// Whose logs and clocks.
    pub(crate) of: String,
    /// Their certificates, in PEM.
    pub(crate) certificates: String,
}

impl PrivateAuthority {
    pub(crate) fn new(certificates: &str, of: &str) -> Result<Self, String> {
        let hash = TrustRoot::check_authorities(certificates)?;
        let name = format!("{of}+ca-cert:{}", hash.hex());
        Ok(PrivateAuthority { name, of: of.to_owned(), certificates: certificates.to_owned() })
    }
}

/// Which trust roots count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roots {
    /// Each that is configured.
    Any,
    /// These.
    Named(BTreeSet<String>),
}

impl Roots {
    /// The one of this name.
    pub fn one(name: &str) -> Self {
        Roots::Named([name.to_owned()].into())
    }

    /// Whether it is among them.
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Roots::Any => true,
            Roots::Named(names) => names.contains(name),
        }
    }
}

/// What a transparency log must say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogRule {
    /// Nothing.
    Ignored,
    /// That it has the signature.
    Required {
        /// Whose logs count.
        roots: Roots,
        /// Only the log of this address, if it says one.
        url: Option<String>,
    },
}

/// What must be signed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Demand {
    /// That this is the image.
    Signature,
    /// Each of these, at least once.
    Attestations(Vec<Attestation>),
    /// The bytes, or any statement about them: a bundle beside a file.
    Artifact,
}

/// An attestation that must be there.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Attestation {
    pub(crate) name: String,
    pub(crate) predicate_type: String,
    pub(crate) rule: Option<Rego>,
}

/// In which forms evidence is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Forms {
    /// Each.
    All,
    /// `signatureFormat: legacy`.
    Legacy,
    /// `signatureFormat: bundle`.
    Bundle,
}

impl Forms {
    pub(crate) fn contain(self, form: Form) -> bool {
        match self {
            Forms::All => true,
            Forms::Legacy => form != Form::Bundle,
            Forms::Bundle => form == Form::Bundle,
        }
    }
}

impl Authority {
    /// Signatures of an image by one of these keys, in any log.
    pub fn of_keys(name: &str, keys: Vec<TrustedKey>) -> Self {
        Authority::new(name, Who::Keys(keys))
    }

    /// Signatures of an image by one of these identities, by a certificate of one of these roots, in any log of theirs.
    pub fn of_identities(name: &str, identities: Vec<Identity>, roots: Roots) -> Self {
        let log = LogRule::Required { roots: roots.clone(), url: None };
        let who = Who::Certificates { identities, roots, unlogged: false, private: None };
        Authority { log, ..Authority::new(name, who) }
    }

    pub(crate) fn new(name: &str, who: Who) -> Self {
        Authority {
            name: name.to_owned(),
            who,
            demand: Demand::Signature,
            log: LogRule::Required { roots: Roots::Any, url: None },
            timestamp: None,
            annotations: BTreeMap::new(),
            forms: Forms::All,
        }
    }

    /// With this rule about logs.
    #[must_use]
    pub fn with_log(mut self, log: LogRule) -> Self {
        self.log = log;
        self
    }

    /// With a signed timestamp of an authority of one of these roots.
    #[must_use]
    pub fn with_timestamp(mut self, roots: Roots) -> Self {
        self.timestamp = Some(roots);
        self
    }

    /// With these annotations in what is signed.
    #[must_use]
    pub fn with_annotations(mut self, annotations: BTreeMap<String, String>) -> Self {
        self.annotations = annotations;
        self
    }

    /// Also with certificates that no certificate transparency log has.
    #[must_use]
    pub fn with_unlogged_certificates(mut self) -> Self {
        if let Who::Certificates { unlogged, .. } = &mut self.who {
            *unlogged = true;
        }
        self
    }

    /// Not a signature, but an attestation of this type (a short name or a URI), whose statement a rule in Rego accepts.
    pub fn for_attestation(mut self, predicate_type: &str, rule: Option<&str>) -> Result<Self, String> {
        let predicate_type = predicate_uri(predicate_type)?;
        let rule = rule.map(Rego::parse).transpose()?;
        self.demand =
            Demand::Attestations(vec![Attestation { name: "attestation".to_owned(), predicate_type, rule }]);
        Ok(self)
    }

    /// Not a signature of an image, but of bytes, or any statement about them.
    #[must_use]
    pub fn for_artifact(mut self) -> Self {
        self.demand = Demand::Artifact;
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that it trusts.
    pub fn keys(&self) -> &[TrustedKey] {
        match &self.who {
            Who::Keys(keys) => keys,
            _ => &[],
        }
    }

    /// The certificate authorities that it brings along.
    pub(crate) fn private(&self) -> Option<&PrivateAuthority> {
        match &self.who {
            Who::Certificates { private, .. } => private.as_ref(),
            _ => None,
        }
    }

    /// Whether it asks for no evidence.
    pub(crate) fn is_static(&self) -> bool {
        matches!(self.who, Who::Pass | Who::Fail(_))
    }
}

/// The URI that a short name stands for, as cosign has them.
pub fn predicate_uri(name: &str) -> Result<String, String> {
    let uri = match name {
        "custom" => "https://cosign.sigstore.dev/attestation/v1",
        "vuln" => "https://cosign.sigstore.dev/attestation/vuln/v1",
        "slsaprovenance" | "slsaprovenance02" => "https://slsa.dev/provenance/v0.2",
        "slsaprovenance1" => "https://slsa.dev/provenance/v1",
        "spdx" | "spdxjson" => "https://spdx.dev/Document",
        "cyclonedx" => "https://cyclonedx.org/bom",
        "link" => "https://in-toto.io/Link/v1",
        "openvex" => "https://openvex.dev/ns",
        uri if uri.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()) => uri,
        other => {
            return Err(format!(
                "{other:?} is neither a URI nor one of custom, vuln, slsaprovenance, slsaprovenance02, \
                 slsaprovenance1, spdx, spdxjson, cyclonedx, link, openvex"
            ));
        }
    };
    Ok(uri.to_owned())
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
