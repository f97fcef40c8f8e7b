// SPDX-License-Identifier: AGPL-3.0-only
//! All documents together, as one set with a hash of its content: what means the same has the same hash, whatever the
//! order of files and documents, their comments and their layout. The hash is what verdicts are kept under.

mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::authority::Authority;
use crate::document::{self, Document, RootNames};
use crate::image_policy::ImagePolicy;
use crate::registry_policy::{Enforcement, RegistryPolicy, Rules};
use crate::{Digest, Error, PublicKey, RepositoryGlob, Result, Trust, TrustRoot};

pub use summary::Summary;

/// The policies of a registry.
#[derive(Clone, Debug)]
pub struct PolicySet {
    pub(crate) host: String,
    /// In the order of their names.
    pub(crate) images: Vec<Arc<ImagePolicy>>,
    pub(crate) registry: Vec<Arc<RegistryPolicy>>,
    keys: BTreeMap<String, PublicKey>,
    hash: Digest,
    trust_root: Digest,
}

impl PolicySet {
    /// Reads files, and folders of files. Globs are compared with `host/REPOSITORY`; `roots` are the trust roots that
    /// documents may name. All faults of all documents are told at once.
    pub fn load(host: &str, paths: &[PathBuf], roots: &[RootNames]) -> Result<Self> {
        PolicySet::of(host, document::read(paths, roots)?, roots)
    }

    pub(crate) fn of(host: &str, documents: Vec<Document>, roots: &[RootNames]) -> Result<Self> {
        let (mut images, mut registry) = (Vec::new(), Vec::new());
        for document in documents {
            match document {
                Document::Images(policy) => images.push(Arc::from(policy)),
                Document::Registry(policy) => registry.push(Arc::new(policy)),
            }
        }
        images.sort_by(|a: &Arc<ImagePolicy>, b| (&a.name, &a.at).cmp(&(&b.name, &b.at)));
        registry.sort_by(|a: &Arc<RegistryPolicy>, b| (&a.name, &a.at).cmp(&(&b.name, &b.at)));
        each_once(images.iter().map(|policy| (policy.name.as_str(), policy.at.as_str())))?;
        each_once(registry.iter().map(|policy| (policy.name.as_str(), policy.at.as_str())))?;
        each_once(roots.iter().map(|root| (root.name.as_str(), "trust roots")))?;
        let keys = keys(&images)?;
        let content = json!({
            "host": host,
            "images": images.iter().map(|policy| canonical(&**policy)).collect::<Result<Vec<_>>>()?,
            "registry": registry.iter().map(|policy| canonical(&**policy)).collect::<Result<Vec<_>>>()?,
        });
        let trusted: BTreeMap<&str, &str> =
            roots.iter().map(|root| (root.name.as_str(), root.hash.as_str())).collect();
        Ok(PolicySet {
            host: host.to_owned(),
            images,
            registry,
            keys,
            hash: Digest::of(content.to_string().as_bytes()),
            trust_root: Digest::of(json!(trusted).to_string().as_bytes()),
        })
    }

    /// Of its content.
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// Of the content of all trust roots that it was loaded with.
    pub fn trust_root(&self) -> &Digest {
        &self.trust_root
    }

    /// The keys that evidence must be checked with, each once. When each is trusted is for its policy to say.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    /// What evidence must be checked against, so that this set can judge it: all of its keys, `roots`, which are those
    /// that it was loaded with, and certificate authorities that stand in documents.
    pub fn trust(&self, roots: &[TrustRoot]) -> Result<Trust> {
        let mut trust = Trust::new();
        for root in roots {
            trust.add_root(root.clone())?;
        }
        trust.set_keys(self.keys().cloned().collect());
        for private in
            self.images.iter().flat_map(|policy| &policy.authorities).filter_map(Authority::private)
        {
            let root = roots.iter().find(|root| root.name() == private.of).ok_or_else(|| {
                Error::Load(format!("the trust root {:?} is missing, which a policy names", private.of))
            })?;
            trust.add_root(root.with_authorities(&private.name, &private.certificates)?)?;
        }
        Ok(trust)
    }

    /// As much of it as is about one repository, under the same hash: what it says of manifests there is what the whole set
    /// says, and it needs no other keys. For a registry with policies by the thousand.
    #[must_use]
    pub fn of_repository(&self, repository: &str) -> PolicySet {
        let name = format!("{}/{repository}", self.host);
        let images: Vec<_> =
            self.images.iter().filter(|policy| policy.may_be_about(&name)).cloned().collect();
        let registry = self.registry.iter();
        let registry = registry
            .filter(|policy| policy.repositories.iter().any(|glob| glob.matches(repository)))
            .cloned()
            .collect();
        let fingerprints = images.iter().flat_map(|policy| &policy.authorities).flat_map(Authority::keys);
        let needed = fingerprints.filter_map(|key| self.keys.get_key_value(key.fingerprint()));
        let keys = needed.map(|(fingerprint, key)| (fingerprint.clone(), key.clone())).collect();
        PolicySet { images, registry, keys, ..self.clone_without_policies() }
    }

    fn clone_without_policies(&self) -> PolicySet {
        PolicySet {
            host: self.host.clone(),
            images: Vec::new(),
            registry: Vec::new(),
            keys: BTreeMap::new(),
            hash: self.hash.clone(),
            trust_root: self.trust_root.clone(),
        }
    }

    /// What images are called before the name of their repository.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The patterns of repositories that registry policies are about.
    pub fn repository_globs(&self) -> impl Iterator<Item = &str> {
        self.registry.iter().flat_map(|policy| &policy.repositories).map(RepositoryGlob::as_str)
    }

    /// Whether pulls are enforced in any repository.
    pub fn enforces_pull(&self) -> bool {
        self.registry.iter().any(|policy| policy.rules.pull == Enforcement::Enforce)
    }

    /// What holds in a repository: of all documents about it, the strictest of each field.
    pub fn rules(&self, repository: &str) -> Rules {
        let about =
            |policy: &&Arc<RegistryPolicy>| policy.repositories.iter().any(|glob| glob.matches(repository));
        let rules = self.registry.iter().filter(about).map(|policy| &policy.rules);
        rules
            .fold(None, |all: Option<Rules>, one| Some(all.map_or_else(|| one.clone(), |all| all.and(one))))
            .unwrap_or_else(Rules::without_document)
    }
}

/// Every key once, under its fingerprint. A signature is checked with one hash, so a key cannot have two.
fn keys(images: &[Arc<ImagePolicy>]) -> Result<BTreeMap<String, PublicKey>> {
    let mut keys: BTreeMap<String, PublicKey> = BTreeMap::new();
    let all =
        images.iter().flat_map(|policy| policy.authorities.iter().map(move |authority| (policy, authority)));
    for (policy, authority) in all {
        for key in authority.keys() {
            if keys.get(key.fingerprint()).is_some_and(|other| other.hash() != key.key.hash()) {
                return Err(Error::Load(format!(
                    "{}: key.hashAlgorithm: the key {} of the authority {:?} has another hashAlgorithm, or none, at \
                     another place; say the same at each",
                    policy.at,
                    key.fingerprint(),
                    authority.name
                )));
            }
            keys.insert(key.fingerprint().to_owned(), key.key.clone());
        }
    }
    Ok(keys)
}

/// Names, and where they stand: no two of one kind are the same.
fn each_once<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, at) in names {
        if let Some(first) = seen.insert(name, at) {
            let why = format!("{at}: metadata.name: another of its kind is called {name:?}, at {first}");
            return Err(Error::Load(why));
        }
    }
    Ok(())
}

/// Lists in which the order means nothing are sorted.
fn canonical(policy: &impl serde::Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(policy).map_err(|e| Error::Load(e.to_string()))?;
    for list in ["images", "repositories"] {
        if let Some(Value::Array(items)) = value.get_mut(list) {
            items.sort_by_key(Value::to_string);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
