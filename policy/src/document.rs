// SPDX-License-Identifier: AGPL-3.0-only
//! Policy documents as people write them. Each field is honoured, or its document does not load: a field that is not
//! known, has no value, or asks for what is not done here is a fault `FILE:LINE:COLUMN: field: why`, and one fault is
//! enough to load nothing (CVE-2025-29778: a condition that is silently ignored lets everything in).

mod authority;
mod files;
mod image_policy;
mod private;
mod registry_policy;
mod section;
mod yaml;

#[cfg(test)]
pub(crate) use files::of_text;
pub(crate) use files::read;

use crate::TrustRoot;
use crate::image_policy::ImagePolicy;
use crate::registry_policy::RegistryPolicy;
use section::{Faults, Section};
use yaml::Node;

/// What a trust root is known by, as far as documents speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootNames {
    /// `trustRootRef`.
    pub name: String,
    /// The addresses of its transparency logs.
    pub log_urls: Vec<String>,
    /// The addresses of its certificate authorities.
    pub ca_urls: Vec<String>,
    /// How many timestamp authorities it has.
    pub timestamp_authorities: usize,
    /// Of its content.
    pub hash: crate::Digest,
}

impl From<&TrustRoot> for RootNames {
    fn from(root: &TrustRoot) -> Self {
        RootNames {
            name: root.name().to_owned(),
            log_urls: root.log_urls().map(str::to_owned).collect(),
            ca_urls: root.authority_urls().map(str::to_owned).collect(),
            timestamp_authorities: root.trusted().timestamp_authorities.len(),
            hash: root.hash().clone(),
        }
    }
}

/// A document that was read.
pub(crate) enum Document {
    Images(Box<ImagePolicy>),
    Registry(RegistryPolicy),
}

/// Reads one document of a file.
fn document(node: &Node, roots: &[RootNames], faults: &Faults) -> Option<Document> {
    let mut top = Section::top(node, faults)?;
    let version = top.need("apiVersion")?;
    let kind = top.need("kind")?;
    let is_ours = |api: &str| api == "policy.stella-ops.org/v1";
    let is_theirs = |api: &str| matches!(api, "policy.sigstore.dev/v1alpha1" | "policy.sigstore.dev/v1beta1");
    match (kind.text()?, version.text()?) {
        ("ClusterImagePolicy", api) if is_theirs(api) => {
            image_policy::read(top, roots).map(|policy| Document::Images(Box::new(policy)))
        }
        ("RegistryPolicy", api) if is_ours(api) => registry_policy::read(top).map(Document::Registry),
        ("ClusterImagePolicy", _) => {
            version.fault("it is policy.sigstore.dev/v1alpha1 or policy.sigstore.dev/v1beta1")
        }
        ("RegistryPolicy", _) => version.fault("it is policy.stella-ops.org/v1"),
        ("TrustRoot", _) => {
            kind.fault("trust roots are files of their own (trusted_root.json), named in the configuration")
        }
        _ => kind.fault("it is ClusterImagePolicy or RegistryPolicy"),
    }
}

/// A document's name, and where it stands: `FILE:LINE:COLUMN`.
struct Name {
    name: String,
    at: String,
}

/// `metadata`: a name, and what describes it.
fn name_of(top: &mut Section<'_>) -> Option<Name> {
    let mut metadata = top.need("metadata")?.section()?;
    let name = metadata.need("name").and_then(|field| {
        let name = field.text()?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 253 || !name.chars().all(allowed) {
            return field.fault("a name has 1 to 253 letters, digits, '-', '_' and '.'");
        }
        Some(Name { name: name.to_owned(), at: field.place() })
    });
    for described in ["labels", "annotations"] {
        if let Some(field) = metadata.get(described) {
            field.texts();
        }
    }
    metadata.done();
    name
}

#[cfg(test)]
mod tests;
