// SPDX-License-Identifier: AGPL-3.0-only
//! Random operations and collections against a simple model, which looks at everything each time.
//!
//! The store collects what its review rows lead it to; the model has no such rows and judges every
//! object whenever it is collected. They must agree on what is there: so nothing that should go is
//! forgotten and nothing that should stay is taken.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

const LEASE: Duration = Duration::from_hours(24);
const GRACE: Duration = Duration::from_hours(1);
/// In the second repository untagged manifests go.
const UNTAGGED: Duration = Duration::from_hours(50);
const KEPT_RELEASED: Duration = Duration::from_hours(100);

#[derive(Clone, Debug)]
enum Step {
    Push { repo: usize, content: u8 },
    Ask { repo: usize, content: u8 },
    Mount { repo: usize, content: u8 },
    DeleteBlob { repo: usize, content: u8 },
    Put { repo: usize, document: Document, tag: Option<u8> },
    AskManifest { repo: usize, nth: usize },
    DeleteManifest { repo: usize, nth: usize },
    DeleteTag { repo: usize, tag: u8 },
    Begin { repo: usize },
    Wait { hours: u64 },
    Collect,
}

/// What a manifest names; `evidence_for` gives it the tag of a signature of that manifest.
#[derive(Clone, Debug)]
struct Document {
    blobs: Vec<u8>,
    children: Vec<usize>,
    subject: Option<usize>,
    evidence_for: Option<usize>,
    number: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (repo, nth, content) = (|| 0usize..2, || 0usize..8, || 0u8..5);
    let document = (
        proptest::collection::vec(content(), 0..3),
        proptest::collection::vec(nth(), 0..2),
        proptest::option::of(nth()),
        proptest::option::weighted(0.3, nth()),
        0u8..6,
    )
        .prop_map(|(blobs, children, subject, evidence_for, number)| Document {
            blobs,
            children,
            subject,
            evidence_for,
            number,
        });
    let step = prop_oneof![
        4 => (repo(), content()).prop_map(|(repo, content)| Step::Push { repo, content }),
        2 => (repo(), content()).prop_map(|(repo, content)| Step::Ask { repo, content }),
        2 => (repo(), content()).prop_map(|(repo, content)| Step::Mount { repo, content }),
        1 => (repo(), content()).prop_map(|(repo, content)| Step::DeleteBlob { repo, content }),
        7 => (repo(), document, proptest::option::of(0u8..3))
            .prop_map(|(repo, document, tag)| Step::Put { repo, document, tag }),
        1 => (repo(), nth()).prop_map(|(repo, nth)| Step::AskManifest { repo, nth }),
        3 => (repo(), nth()).prop_map(|(repo, nth)| Step::DeleteManifest { repo, nth }),
        2 => (repo(), 0u8..3).prop_map(|(repo, tag)| Step::DeleteTag { repo, tag }),
        1 => repo().prop_map(|repo| Step::Begin { repo }),
        4 => prop_oneof![0u64..6, 10u64..30, Just(60), Just(120)].prop_map(|hours| Step::Wait { hours }),
        4 => Just(Step::Collect),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Clone, Debug)]
struct ManifestModel {
    lease: Timestamp,
    created: Timestamp,
    left: Option<Timestamp>,
    orphaned: bool,
    blobs: BTreeSet<Digest>,
    children: BTreeSet<Digest>,
    subject: Option<Digest>,
}

#[derive(Default)]
struct RepoModel {
    links: BTreeMap<Digest, Timestamp>,
    manifests: BTreeMap<Digest, ManifestModel>,
    /// Each tag, what it points at, and whose evidence that is.
    tags: BTreeMap<String, (Digest, Option<Digest>)>,
    /// Subjects that went since the last collection.
    gone: BTreeSet<Digest>,
}

struct Model {
    now: Timestamp,
    repos: [RepoModel; 2],
    /// What waits to be deleted: when it is due.
    garbage: Vec<Timestamp>,
    uploads: Vec<Timestamp>,
}

fn renew(lease: &mut Timestamp, now: Timestamp) {
    if *lease < now.plus(LEASE / 2) {
        *lease = now.plus(LEASE);
    }
}

impl RepoModel {
    fn names(&self, digest: &Digest) -> bool {
        self.manifests.values().any(|row| row.blobs.contains(digest) || row.children.contains(digest))
    }

    fn untag(&mut self, tag: &str, now: Timestamp) {
        if let Some((digest, _)) = self.tags.remove(tag)
            && let Some(row) = self.manifests.get_mut(&digest)
        {
            row.left = Some(now);
        }
    }

    fn remove(&mut self, digest: &Digest, now: Timestamp) {
        let tags: Vec<String> =
            self.tags.iter().filter(|(_, at)| at.0 == *digest).map(|(tag, _)| tag.clone()).collect();
        for tag in tags {
            self.untag(&tag, now);
        }
        self.manifests.remove(digest);
        self.gone.insert(digest.clone());
    }

    /// Subjects of a manifest, its own and those of its tags; `None` if a plain tag points at it.
    fn subjects(&self, digest: &Digest, row: &ManifestModel) -> Option<Vec<Digest>> {
        let mut subjects: Vec<Digest> = row.subject.iter().cloned().collect();
        for (at, evidence) in self.tags.values() {
            if at == digest {
                subjects.push(evidence.clone()?);
            }
        }
        Some(subjects)
    }

    fn mark_orphans(&mut self) {
        for subject in std::mem::take(&mut self.gone) {
            if self.manifests.contains_key(&subject) {
                continue;
            }
            let tagged: BTreeSet<Digest> = self
                .tags
                .values()
                .filter(|(_, evidence)| evidence.as_ref() == Some(&subject))
                .map(|(digest, _)| digest.clone())
                .collect();
            for (digest, row) in &mut self.manifests {
                row.orphaned |= row.subject.as_ref() == Some(&subject) || tagged.contains(digest);
            }
        }
    }

    /// Removes one manifest that has to go; whether there was one.
    fn collect_one(&mut self, now: Timestamp, rule: Option<Duration>) -> bool {
        self.mark_orphans();
        let digests: Vec<Digest> = self.manifests.keys().cloned().collect();
        for digest in digests {
            let row = self.manifests[&digest].clone();
            if row.lease > now {
                continue;
            }
            let Some(subjects) = self.subjects(&digest, &row) else { continue };
            if subjects.iter().any(|subject| self.manifests.contains_key(subject)) {
                if let Some(row) = self.manifests.get_mut(&digest) {
                    row.orphaned = false;
                }
                continue;
            }
            let orphaned = row.orphaned && !subjects.is_empty();
            let Some(untagged) = (if orphaned { Some(Duration::ZERO) } else { rule }) else { continue };
            let released = if rule.is_some() { KEPT_RELEASED } else { RELEASED };
            let mut until = row.created.plus(untagged);
            if let Some(left) = row.left {
                until = until.max(left.plus(untagged.max(released)));
            }
            if !self.names(&digest) && until <= now {
                self.remove(&digest, now);
                return true;
            }
        }
        false
    }
}

impl Model {
    fn holds(&self, digest: &Digest) -> bool {
        self.repos.iter().any(|repo| repo.links.contains_key(digest))
    }

    fn link(&mut self, repo: usize, digest: &Digest) {
        let now = self.now;
        renew(self.repos[repo].links.entry(digest.clone()).or_insert(now), now);
    }

    fn unlink(&mut self, repo: usize, digest: &Digest) {
        self.repos[repo].links.remove(digest);
        if !self.holds(digest) {
            self.garbage.push(self.now.plus(GRACE));
        }
    }

    fn collect(&mut self) {
        for (number, rule) in [None, Some(UNTAGGED)].into_iter().enumerate() {
            while self.repos[number].collect_one(self.now, rule) {}
            let repo = &self.repos[number];
            let lost: Vec<Digest> = repo
                .links
                .iter()
                .filter(|(digest, lease)| **lease <= self.now && !repo.names(digest))
                .map(|(digest, _)| digest.clone())
                .collect();
            for digest in lost {
                self.unlink(number, &digest);
            }
        }
        let expired = self.uploads.extract_if(.., |touched| touched.plus(LEASE) <= self.now).count();
        self.garbage.extend(std::iter::repeat_n(self.now, expired));
        self.garbage.retain(|due| *due > self.now);
    }
}

/// Does a step to the store and, if the store did it, to the model.
async fn perform(lab: &Lab, model: &mut Model, known: &mut Vec<Digest>, step: &Step) -> Result<()> {
    let (store, who, now) = (&lab.store, actor("ci"), lab.now());
    let name = |number: usize| repo(&format!("r{number}"));
    let nth = |nth: usize| known.get(nth % known.len().max(1)).cloned().unwrap_or(sha256(b"none"));
    let blob = |content: u8| vec![content; 3];
    match step {
        Step::Push { repo, content } => {
            let digest = lab.push(&name(*repo), &blob(*content)).await;
            if model.holds(&digest) {
                model.garbage.push(now);
            }
            model.link(*repo, &digest);
        }
        Step::Ask { repo, content } => {
            let digest = sha256(&blob(*content));
            store.blob_for_push(&name(*repo), &digest).await?;
            model.link(*repo, &digest);
        }
        Step::Mount { repo, content } => {
            let digest = sha256(&blob(*content));
            if store.mount(&name(*repo), None, &digest, &who).await? == Mounted::Yes {
                model.link(*repo, &digest);
            }
        }
        Step::DeleteBlob { repo, content } => {
            let digest = sha256(&blob(*content));
            store.delete_blob(&name(*repo), &digest).await?;
            model.unlink(*repo, &digest);
        }
        Step::Put { repo, document, tag } => {
            let (digest, row, tag) = put(lab, &name(*repo), document, &nth, *tag).await?;
            known.push(digest.clone());
            let repo = &mut model.repos[*repo];
            renew(&mut repo.manifests.entry(digest.clone()).or_insert(row).lease, now);
            if let Some((tag, evidence)) = tag {
                if repo.tags.get(&tag).is_some_and(|(at, _)| *at != digest) {
                    repo.untag(&tag, now);
                }
                repo.tags.insert(tag, (digest, evidence));
            }
        }
        Step::AskManifest { repo, nth: number } => {
            let digest = nth(*number);
            store.manifest_for_push(&name(*repo), &Reference::Digest(digest.clone())).await?;
            if let Some(row) = model.repos[*repo].manifests.get_mut(&digest) {
                renew(&mut row.lease, now);
            }
        }
        Step::DeleteManifest { repo, nth: number } => {
            store.delete_manifest(&name(*repo), &nth(*number), &deleter("ci")).await?;
            model.repos[*repo].remove(&nth(*number), now);
        }
        Step::DeleteTag { repo, tag: number } => {
            let text = format!("t{number}");
            store.delete_tag(&name(*repo), &tag(&text), &deleter("ci")).await?;
            model.repos[*repo].untag(&text, now);
        }
        Step::Begin { repo } => {
            store.begin_upload(&name(*repo), Algorithm::Sha256, &who).await?;
            model.uploads.push(now);
        }
        Step::Wait { hours } => {
            lab.clock.advance(Duration::from_hours(*hours));
            model.now = lab.now();
        }
        Step::Collect => {
            lab.collect().await;
            model.collect();
            compare(lab, model).await;
        }
    }
    Ok(())
}

type Tagged = Option<(String, Option<Digest>)>;

async fn put(
    lab: &Lab,
    repo: &RepoName,
    document: &Document,
    nth: &impl Fn(usize) -> Digest,
    number: Option<u8>,
) -> Result<(Digest, ManifestModel, Tagged)> {
    let blobs: Vec<Digest> = document.blobs.iter().map(|content| sha256(&[*content; 3])).collect();
    let children: Vec<Digest> = document.children.iter().map(|number| nth(*number)).collect();
    let named =
        |digests: &[Digest], size| digests.iter().map(|one| descriptor(one, size)).collect::<Vec<_>>();
    let (mut json, blobs, children) = match blobs.split_first() {
        Some((config, layers)) => (image(&descriptor(config, 3), &named(layers, 3)), blobs, Vec::new()),
        None => (index(&named(&children, 1)), Vec::new(), children),
    };
    json["annotations"] = json!({ "number": document.number.to_string() });
    let subject = document.subject.map(nth);
    if let Some(subject) = &subject {
        json["subject"] = descriptor(subject, 1);
    }
    let evidence = document.evidence_for.map(nth);
    let tag = match &evidence {
        Some(subject) => Some(format!("{}.sig", subject.to_string().replace(':', "-"))),
        None => number.map(|number| format!("t{number}")),
    };
    let digest = lab.put(repo, &json, tag.as_deref().as_slice()).await?;
    let row = ManifestModel {
        lease: lab.now(),
        created: lab.now(),
        left: None,
        orphaned: false,
        blobs: blobs.into_iter().collect(),
        children: children.into_iter().collect(),
        subject,
    };
    Ok((digest, row, tag.map(|tag| (tag, evidence))))
}

async fn compare(lab: &Lab, model: &Model) {
    for (number, expected) in model.repos.iter().enumerate() {
        let name = repo(&format!("r{number}"));
        let Some(row) = lab.row::<rows::Repository>(keys::repository(name.as_str())).await else { continue };
        let digests = async |table: u8| {
            let prefix = [&[table][..], &row.id.0.to_be_bytes()].concat();
            let rows = lab.rows(&prefix).await;
            rows.iter().map(|(key, _)| keys::read_digest(&key[5..]).unwrap()).collect::<BTreeSet<_>>()
        };
        assert_eq!(digests(b'l').await, expected.links.keys().cloned().collect(), "links of {name}");
        assert_eq!(digests(b'x').await, expected.manifests.keys().cloned().collect(), "manifests of {name}");
        let tags = lab.store.tags(&name, None, 1000).await.unwrap();
        assert_eq!(tags, expected.tags.keys().cloned().collect::<Vec<_>>(), "tags of {name}");
    }
    let mut due: Vec<Timestamp> = lab.garbage().await.into_iter().map(|row| row.0).collect();
    let mut expected = model.garbage.clone();
    due.sort();
    expected.sort();
    assert_eq!(due, expected, "garbage");
    assert_eq!(lab.rows(b"p").await.len(), model.uploads.len(), "uploads");
    let contents = lab.rows(b"c").await.len();
    assert_eq!(lab.files().len(), contents + due.len(), "files");
}

pub(super) fn the_store_agrees_with_the_model(kind: Kind, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let rule = RepositoryRule {
                untagged: Some(UNTAGGED),
                released: KEPT_RELEASED,
                ..RepositoryRule::of("r1".parse().unwrap())
            };
            let lab = Lab::tuned(kind, |options| options.rules = vec![rule]).await;
            let mut model =
                Model { now: lab.now(), repos: Default::default(), garbage: Vec::new(), uploads: Vec::new() };
            let mut known = Vec::new();
            for step in &steps {
                if let Err(error) = perform(&lab, &mut model, &mut known, step).await {
                    prop_assert!(!error.is_internal(), "{:?}: {}", step, error);
                }
            }
            // What time alone must remove.
            for hours in [25, 60, 101, 91 * 24, 2] {
                perform(&lab, &mut model, &mut known, &Step::Wait { hours }).await.unwrap();
                perform(&lab, &mut model, &mut known, &Step::Collect).await.unwrap();
            }
            Ok(())
        })
    });
    outcome.unwrap();
}

/// How many random histories are tried; more for a soak, by the environment.
fn cases(usual: u32) -> u32 {
    std::env::var("STELLA_MODEL_CASES").map_or(usual, |cases| cases.parse().unwrap())
}

#[test]
fn collection_agrees_with_the_model_in_memory() {
    the_store_agrees_with_the_model(Kind::Memory, cases(64));
}

#[test]
fn collection_agrees_with_the_model_in_sqlite() {
    the_store_agrees_with_the_model(Kind::Sqlite, cases(6));
}
