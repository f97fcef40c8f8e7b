// SPDX-License-Identifier: AGPL-3.0-only
//! The policies in force: one set, loaded as a whole or not at all, and of it what is about each repository, made once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use quick_cache::sync::Cache;
use stella_policy::{Enforcement, PolicySet, RootNames, Rules, TrustRoot, Verifier, limits};
use stella_storage::RepoName;

use super::baseline::Baseline;
use crate::error::ApiError;

/// Repositories whose part of the policies is kept.
const REPOSITORIES: usize = 4_096;

/// Where policies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) host: String,
    pub(super) paths: Vec<PathBuf>,
    pub(super) trust_roots: BTreeMap<String, PathBuf>,
    pub(super) max_evidence: usize,
    pub(super) baseline: Option<(PathBuf, PathBuf)>,
}

/// Policies, and what they are verified with.
pub(crate) struct Active {
    pub(super) set: PolicySet,
    roots: Vec<TrustRoot>,
    /// What readers get whatever policies ask, for a while.
    pub(super) baseline: Option<Baseline>,
    max_evidence: usize,
    /// What they are known by: policies and trust roots.
    pub(super) hash: String,
    /// Counts the sets that this registry has had.
    pub(super) epoch: u64,
    repositories: Cache<RepoName, Arc<Local>>,
}

/// What is about one repository. Anybody may name one that is not there, so what takes time to make is made when something
/// in it is judged.
pub(crate) struct Local {
    pub(super) rules: Rules,
    /// No other in this process has it.
    pub(super) number: u64,
    judging: OnceLock<Judging>,
}

/// What judges in one repository.
pub(super) struct Judging {
    pub(super) set: PolicySet,
    pub(super) verifier: Verifier,
}

impl Local {
    pub(super) fn new(rules: Rules) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Local { rules, number: NUMBERS.fetch_add(1, Ordering::Relaxed), judging: OnceLock::new() }
    }

    /// Whether readers get only what is allowed.
    pub(crate) fn enforces_pull(&self) -> bool {
        self.rules.pull == Enforcement::Enforce
    }
}

impl Active {
    /// Reads all of it. What is wrong is told as `FILE:LINE:COLUMN: field: why`, all at once.
    pub(super) fn load(places: &Places) -> Result<Self, String> {
        let roots = places.trust_roots.iter().map(|(name, path)| root(name, path));
        let roots: Vec<TrustRoot> = roots.collect::<Result<_, _>>()?;
        let names: Vec<RootNames> = roots.iter().map(RootNames::from).collect();
        let set = PolicySet::load(&places.host, &places.paths, &names).map_err(|error| error.to_string())?;
        // What cannot verify here could nowhere.
        let trust = set.trust(&roots).map_err(|error| error.to_string())?;
        Verifier::new(&trust).map_err(|error| error.to_string())?;
        let baseline = match &places.baseline {
            Some((file, key)) => Some(Baseline::read(file, key, &places.host)?),
            None => None,
        };
        let mut hash = format!("{}\n{}\n{}", set.hash(), set.trust_root(), places.max_evidence);
        if let Some(baseline) = &baseline {
            hash = format!("{hash}\n{}", baseline.hash);
        }
        let (repositories, max_evidence) = (Cache::new(REPOSITORIES), places.max_evidence);
        Ok(Active { set, roots, baseline, max_evidence, hash, epoch: 0, repositories })
    }

    /// What is about a repository.
    pub(super) fn local(&self, repo: &RepoName) -> Arc<Local> {
        if let Some(local) = self.repositories.get(repo) {
            return local;
        }
        let local = Arc::new(Local::new(self.set.rules(repo.as_str())));
        self.repositories.insert(repo.clone(), Arc::clone(&local));
        local
    }

    /// What judges in it. It takes a while the first time.
    pub(super) fn judging<'l>(&self, local: &'l Local, repo: &RepoName) -> Result<&'l Judging, ApiError> {
        if let Some(judging) = local.judging.get() {
            return Ok(judging);
        }
        let set = self.set.of_repository(repo.as_str());
        let verifier = set.trust(&self.roots).and_then(|trust| Verifier::new(&trust));
        let verifier = verifier.map_err(|error| ApiError::failed(error.to_string()))?;
        let judging = Judging { set, verifier: verifier.looking_at(self.max_evidence) };
        Ok(local.judging.get_or_init(|| judging))
    }
}

fn root(name: &str, path: &Path) -> Result<TrustRoot, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > limits::TRUST_BYTES as u64 {
        return Err(told(&format!("a trust root of {size} bytes; at most {}", limits::TRUST_BYTES)));
    }
    let bytes = fs::read(path).map_err(|error| told(&error))?;
    TrustRoot::from_json(name, &bytes).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_cost_next_to_nothing_until_something_in_them_is_judged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prod.yaml");
        let policy = "apiVersion: policy.stella-ops.org/v1\nkind: RegistryPolicy\nmetadata: {name: prod}\nspec: {repositories: \
                      [\"prod/**\"]}\n";
        fs::write(&path, policy).unwrap();
        let places = Places {
            host: "r.test".to_owned(),
            paths: vec![path],
            trust_roots: BTreeMap::new(),
            max_evidence: 100,
            baseline: None,
        };
        let active = Active::load(&places).unwrap();
        for number in 0..3 * REPOSITORIES {
            let repo: RepoName = format!("prod/nothing/{number}").parse().unwrap();
            let local = active.local(&repo);
            assert!(local.enforces_pull() && local.judging.get().is_none());
        }
        assert!(active.repositories.len() <= REPOSITORIES, "and those that were named last are kept");
        let repo: RepoName = "prod/app".parse().unwrap();
        let local = active.local(&repo);
        active.judging(&local, &repo).unwrap();
        assert!(active.local(&repo).judging.get().is_some(), "it is made once");
    }
}
