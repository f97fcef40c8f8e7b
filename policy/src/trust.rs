// SPDX-License-Identifier: AGPL-3.0-only
//! Whom an operator trusts: keys, and roots with the authorities and logs of one Sigstore. All of it comes from
//! configuration; nothing is fetched, and nothing that comes with evidence is ever added. Loading is strict: a root with
//! one entry that cannot be used is no root, because nobody would notice that the entry is missing.

pub(crate) mod load;
mod private;

use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT, TrustedRoot};

use crate::{Digest, Error, PublicKey, Result};

/// The authorities and logs of one Sigstore, as its `trusted_root.json` has them.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    name: String,
    hash: Digest,
    root: TrustedRoot,
}

impl TrustRoot {
    /// A root from a `trusted_root.json`. `name` is what policies and facts call it.
    pub fn from_json(name: &str, bytes: &[u8]) -> Result<Self> {
        let root = load::root(bytes).map_err(|refusal| Error::Load(format!("{name}: {}", refusal.why)))?;
        Ok(TrustRoot { name: name.to_owned(), hash: Digest::of(bytes), root })
    }

    /// The public instance's, as it was when this program was built.
    pub fn public_good() -> Result<Self> {
        TrustRoot::from_json("public-good", SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// The public staging instance's, as it was when this program was built.
    pub fn staging() -> Result<Self> {
        TrustRoot::from_json("staging", SIGSTORE_STAGING_TRUSTED_ROOT.as_bytes())
    }

    /// A root of one's own: certificates in PEM, of which those that issued themselves (or the last, if none did) are
    /// anchors, and keys of transparency logs with their addresses.
    pub fn private(name: &str, certificates: &str, logs: &[(String, PublicKey)]) -> Result<Self> {
        let json = private::json(certificates, logs)
            .map_err(|refusal| Error::Load(format!("{name}: {}", refusal.why)))?;
        TrustRoot::from_json(name, json.as_bytes())
    }

    /// This root's logs and clocks with certificate authorities of somebody's own instead of its. No log of certificates
    /// is asked: those that it has are its own authorities'.
    pub(crate) fn with_authorities(&self, name: &str, certificates: &str) -> Result<Self> {
        let failed = |why: String| Error::Load(format!("{name}: {why}"));
        let mut json = serde_json::to_value(&self.root).map_err(|error| failed(error.to_string()))?;
        json["certificateAuthorities"] =
            private::authorities(certificates).map_err(|refusal| failed(refusal.why))?.into();
        json["ctlogs"] = serde_json::Value::Array(Vec::new());
        TrustRoot::from_json(name, json.to_string().as_bytes())
    }

    /// Whether these certificates, in PEM, can be authorities. Gives a hash of them, whatever stands around them.
    pub(crate) fn check_authorities(certificates: &str) -> std::result::Result<Digest, String> {
        private::check(certificates).map_err(|refusal| refusal.why)
    }

    /// What policies and facts call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of its content, so that two roots are the same only if every byte is.
    pub fn hash(&self) -> &Digest {
        &self.hash
    }

    /// The addresses of its transparency logs.
    pub fn log_urls(&self) -> impl Iterator<Item = &str> {
        self.root.tlogs.iter().map(|log| log.base_url.as_str())
    }

    /// The addresses of its certificate transparency logs.
    pub fn certificate_log_urls(&self) -> impl Iterator<Item = &str> {
        self.root.ctlogs.iter().map(|log| log.base_url.as_str())
    }

    /// The addresses of its certificate authorities.
    pub fn authority_urls(&self) -> impl Iterator<Item = &str> {
        self.root.certificate_authorities.iter().map(|authority| authority.uri.as_str())
    }

    /// The addresses of its timestamp authorities, where they have one.
    pub fn timestamp_urls(&self) -> impl Iterator<Item = &str> {
        self.root.timestamp_authorities.iter().filter_map(|authority| authority.uri.as_deref())
    }

    pub(crate) fn trusted(&self) -> &TrustedRoot {
        &self.root
    }
}

/// Everything that evidence is checked against.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    roots: Vec<TrustRoot>,
    keys: Vec<PublicKey>,
}

impl Trust {
    /// Nobody is trusted.
    pub fn new() -> Self {
        Trust::default()
    }

    /// Trusts a root too. The same again changes nothing; another one of the same name is an error, because facts say
    /// by name which root they come from.
    pub fn add_root(&mut self, root: TrustRoot) -> Result<()> {
        match self.roots.iter().find(|earlier| earlier.name == root.name) {
            None => self.roots.push(root),
            Some(earlier) if earlier.hash == root.hash => {}
            Some(_) => {
                return Err(Error::Load(format!("two different trust roots are named {:?}", root.name)));
            }
        }
        Ok(())
    }

    /// Trusts a key too. The same again changes nothing.
    pub fn add_key(&mut self, key: PublicKey) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }

    /// Takes keys of which no two are the same, in place of others.
    pub(crate) fn set_keys(&mut self, keys: Vec<PublicKey>) {
        self.keys = keys;
    }

    /// The roots.
    pub fn roots(&self) -> &[TrustRoot] {
        &self.roots
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
}

#[cfg(test)]
mod tests;
