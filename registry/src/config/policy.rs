// SPDX-License-Identifier: AGPL-3.0-only
//! `policy`: what images must satisfy before readers get them. What policies say is in documents of their own
//! (`docs/gate.md`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, ExternalUrl};

/// `policy`: what images must satisfy before readers get them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What policies call images by before the name of their repository, such as `registry.example`. Default: the host
    /// of `external_url`.
    pub host: Option<String>,
    /// Files and folders with policy documents. Default: none, and nothing is asked of images.
    pub paths: Vec<PathBuf>,
    /// Trust roots (`trusted_root.json`) by the names that policies have for them. Default none.
    pub trust_roots: BTreeMap<String, PathBuf>,
    /// How many referrers and layers of evidence are looked at for one image; 100 to 100000. Default `20000`.
    pub max_evidence: usize,
    /// How many tags that readers get may stop by a reload of policies; what would stop more is refused. Default: no
    /// limit.
    pub max_impact: Option<usize>,
    /// A list of images that readers get until it expires, as `stella policy baseline` writes it. Default: none.
    pub baseline: BaselineFiles,
}

/// `policy.baseline`: a signed list, and the key that it must be signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BaselineFiles {
    /// The list.
    pub file: Option<PathBuf>,
    /// The public key, in PEM.
    pub key: Option<PathBuf>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            host: None,
            paths: Vec::new(),
            trust_roots: BTreeMap::new(),
            max_evidence: 20_000,
            max_impact: None,
            baseline: BaselineFiles::default(),
        }
    }
}

impl Config {
    /// The files of the baseline, list and key, if there is one.
    pub(crate) fn baseline(&self) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        let (key, reason) = match (&self.policy.baseline.file, &self.policy.baseline.key) {
            (Some(file), Some(key)) => return Ok(Some((file.clone(), key.clone()))),
            (None, None) => return Ok(None),
            (Some(_), None) => ("policy.baseline.file", "it counts only with policy.baseline.key"),
            (None, Some(_)) => ("policy.baseline.key", "it means nothing without policy.baseline.file"),
        };
        let origin = self.origin(key);
        Err(ConfigError::BadValue { origin, key: key.to_owned(), reason: reason.to_owned() })
    }

    /// What images are called in policies before the name of their repository.
    pub(crate) fn policy_host(&self) -> Result<String, ConfigError> {
        if let Some(host) = &self.policy.host {
            return Ok(host.clone());
        }
        self.external_url.as_ref().map(ExternalUrl::authority).ok_or_else(|| ConfigError::BadValue {
            origin: self.origin("policy.paths"),
            key: "policy.host".to_owned(),
            reason: "policies name images HOST/REPOSITORY, and nothing says what the host is: set policy.host, or \
                     external_url"
                .to_owned(),
        })
    }
}
